// Recent pictures until they expire. One tab stop; arrows move, Enter opens.

import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { guard } from "../../vendor/lit-html/directives/guard.js";
import { repeat } from "../../vendor/lit-html/directives/repeat.js";
import { loadOlder } from "../actions.js";
import { pictureUrl, serviceNow } from "../api.js";
import { pictures, state, update } from "../store.js";
import { duration, ground } from "../words.js";
import { moveFocus } from "./arrows.js";

let focused = null; // id of the picture that Tab reaches

export function gallery() {
  const minute = Math.floor(serviceNow() / 60_000);
  return guard([state.revision, minute, state.next, state.link], () => {
    const all = pictures();
    if (!all.length) return nothing;
    if (!all.some((one) => one.image.id === focused)) focused = all[0].image.id;
    return html`
      <section class="gallery" aria-labelledby="gallery-title">
        <header class="row between">
          <h2 id="gallery-title">Recent</h2>
          <p class="hint">${all.length === 1 ? "1 picture" : `${all.length} pictures`}${kept()}</p>
        </header>
        <ul class="tiles" @keydown=${moved}>
          ${repeat(all, (one) => one.image.id, tile)}
        </ul>
        ${state.next
          ? html`<button type="button" class="quiet" @click=${loadOlder}>Older pictures</button>`
          : nothing}
      </section>
    `;
  });
}

function kept() {
  return state.caps ? `, each kept for ${duration(state.caps.image_ttl)}` : "";
}

function tile({ job, image, index }) {
  const left = image.expires_at ? (Date.parse(image.expires_at) - serviceNow()) / 1000 : null;
  const expiry = left === null ? "" : `gone in ${duration(left)}`;
  return html`
    <li>
      <button
        type="button"
        class="tile"
        data-tile=${image.id}
        tabindex=${image.id === focused ? 0 : -1}
        aria-label="${job.prompt.slice(0, 120)}, ${expiry}"
        @click=${() => update({ viewer: { job: job.job_id, index } })}
        @focus=${() => reached(image.id)}
      >
        <img
          class=${ground(image)}
          src=${pictureUrl(image.id, 256)}
          width=${image.width}
          height=${image.height}
          alt=""
          loading="lazy"
          decoding="async"
        />
        <span class="caption"><span>${job.prompt.slice(0, 80)}</span><small>${expiry}</small></span>
      </button>
    </li>
  `;
}

function reached(id) {
  document.querySelector(`[data-tile="${focused}"]`)?.setAttribute("tabindex", "-1");
  focused = id;
  document.querySelector(`[data-tile="${id}"]`)?.setAttribute("tabindex", "0");
}

function moved(event) {
  const columns = getComputedStyle(event.currentTarget).gridTemplateColumns.split(" ").length;
  moveFocus(event, [...event.currentTarget.querySelectorAll("[data-tile]")], columns);
}

/** After full screen, focus the tile of the picture shown last. */
export function focusTile(id) {
  document.querySelector(`[data-tile="${id}"]`)?.focus();
}
