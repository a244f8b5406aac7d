// Recent pictures until they expire. One tab stop; arrows move, Enter opens.

import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { guard } from "../../vendor/lit-html/directives/guard.js";
import { repeat } from "../../vendor/lit-html/directives/repeat.js";
import { loadOlder } from "../actions.js";
import { pictureUrl, serviceNow } from "../api.js";
import { findMore, isFinding, listed, openPicture } from "../finding.js";
import { toggleSelected, toggleSelecting } from "../keeping.js";
import { state } from "../store.js";
import { duration, ground } from "../words.js";
import { moveFocus } from "./arrows.js";
import { finder } from "./finder.js";
import { selectionBar, starOn } from "./kept.js";

let focused = null; // id of the picture that Tab reaches

export function gallery() {
  const minute = Math.floor(serviceNow() / 60_000);
  const { revision, next, link, find, found, boards, selected, models } = state;
  return guard([revision, minute, next, link, find, found, boards, selected, models], () => {
    const all = listed();
    if (!all.length && !isFinding() && !boards?.kept) return nothing;
    if (!all.some((one) => one.image.id === focused)) focused = all[0]?.image.id;
    return html`
      <section class="gallery" aria-labelledby="gallery-title">
        <header class="row between">
          <h2 id="gallery-title">${found ? "Found" : "Recent"}</h2>
          <div class="row">
            <p class="hint" role=${found ? "status" : nothing}>${count(all.length)}</p>
            <button type="button" class="quiet" aria-pressed=${Boolean(selected)} @click=${toggleSelecting}>Select</button>
          </div>
        </header>
        ${finder()} ${selected ? selectionBar(all) : nothing}
        <ul class="tiles" @keydown=${moved}>
          ${repeat(all, (one) => one.image.id, tile)}
        </ul>
        ${more()}
      </section>
    `;
  });
}

function more() {
  const [following, load] = state.found ? [state.found.next, findMore] : [state.next, loadOlder];
  return following ? html`<button type="button" class="quiet" @click=${load}>Older pictures</button>` : nothing;
}

function count(shown) {
  const many = shown === 1 ? "1 picture" : `${shown} pictures`;
  if (state.found) return shown ? (state.found.next ? `${many}, and older ones` : many) : "No picture found";
  return state.caps ? `${many}, each for ${duration(state.caps.image_ttl)} unless it is kept` : many;
}

function tile(one) {
  const { job, image } = one;
  const { selected } = state;
  const left = image.expires_at ? (Date.parse(image.expires_at) - serviceNow()) / 1000 : null;
  const expiry = left === null ? "kept" : `gone in ${duration(left)}`;
  return html`
    <li>
      <button
        type="button"
        class="tile"
        data-tile=${image.id}
        tabindex=${image.id === focused ? 0 : -1}
        aria-label="${job.prompt.slice(0, 120)}, ${expiry}"
        aria-pressed=${selected ? selected.has(image.id) : nothing}
        @click=${() => (selected ? toggleSelected(image.id) : openPicture(one))}
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
      ${selected ? nothing : starOn(image)}
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
