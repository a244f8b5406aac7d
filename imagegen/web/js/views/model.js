// The model's lifecycle: the chip in the header, and the panel it opens.

import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { live } from "../../vendor/lit-html/directives/live.js";
import { signOut } from "../actions.js";
import { unload, warm } from "../engine.js";
import { serviceNow } from "../api.js";
import { openModels } from "../models.js";
import { canLoad, chosenModel, state, updatePrefs } from "../store.js";
import { mayNotify, notifies, setNotify, setSound } from "../telling.js";
import { bytes, duration, engine, fetchWord, unloading } from "../words.js";

export function modelChip() {
  const { status, link } = state;
  const name = status ? (status.engine.model ?? status.model.default) : "";
  const tone = link === "up" && status ? status.engine.state : "offline";
  const fetch = status?.engine.state === "cold" && status.engine.fetch?.model === name && status.engine.fetch;
  const known = () => (fetch ? fetchWord(fetch) : engine(status).word);
  const word = link === "up" && status ? known() : link === "connecting" ? "connecting" : "no connection";
  return html`
    <button type="button" class="chip" popovertarget="model-panel" aria-haspopup="dialog">
      <span class="dot ${tone}"></span><span class="name">${name}</span><span class="faint">${word}</span>
    </button>
  `;
}

export function modelPanel() {
  const { status } = state;
  return html`
    <div id="model-panel" popover role="dialog" aria-label="Model and service">
      ${status ? [life(status), memory(status), queue(status), preferences(status)] : html`<p>No connection.</p>`}
    </div>
  `;
}

function life(status) {
  const now = status.engine.state;
  const words = engine(status);
  const reason = now === "ready" ? unloading(status.idle, serviceNow()) : "";
  const { load, fetch } = status.engine;
  const shown = status.engine.model ?? status.model.default;
  const chosen = chosenModel();
  const which = chosen && chosen.name !== shown ? `Load ${chosen.name} now` : "Load now";
  return html`
    <section>
      <h2>${shown} <span class="faint">${words.word}</span></h2>
      <p>${words.sentence}</p>
      ${load ? loadBar(load.fraction, "Loading") : nothing}
      ${fetch ? download(fetch) : nothing}
      ${load && load.eta_s !== null ? html`<p class="hint">about ${duration(load.eta_s)} left</p>` : nothing}
      ${reason ? html`<p class="hint">${reason[0].toUpperCase()}${reason.slice(1)}.</p>` : nothing}
      <div class="row">
        <button type="button" class="quiet" ?disabled=${!canLoad(status.engine, chosen)} @click=${warm}>
          ${which}
        </button>
        <button type="button" class="quiet" ?disabled=${now !== "ready"} @click=${unload}>Unload</button>
        <button type="button" class="quiet" aria-haspopup="dialog" @click=${openModels}>All models…</button>
      </div>
    </section>
  `;
}

/** The bar is indeterminate until the engine reports progress. */
function loadBar(fraction, label) {
  return fraction
    ? html`<progress aria-label=${label} max="1" value=${fraction}></progress>`
    : html`<progress aria-label=${label}></progress>`;
}

/** A download by the service, needed now or later. */
function download(fetch) {
  return html`
    ${loadBar(fetch.bytes_total ? fetch.bytes_done / fetch.bytes_total : null, "Fetching")}
    <p class="hint">Fetching ${fetch.model}: ${fetch.detail}</p>
  `;
}

function memory({ gpu }) {
  if (!gpu) return html`<section><h3>GPU</h3><p class="hint">No GPU found. The engine runs on the CPU.</p></section>`;
  const others = Math.max(0, gpu.total_bytes - gpu.free_bytes - (gpu.ours_bytes ?? 0));
  return html`
    <section>
      <h3>${gpu.name}</h3>
      <progress aria-label="GPU memory in use" max=${gpu.total_bytes} value=${gpu.total_bytes - gpu.free_bytes}></progress>
      <p class="hint">
        ${gpu.ours_bytes === null ? "" : `${bytes(gpu.ours_bytes)} by the model, `}${bytes(others)} by others,
        ${bytes(gpu.free_bytes)} of ${bytes(gpu.total_bytes)} free
      </p>
    </section>
  `;
}

function queue({ queue: now }) {
  const busy = now.running + now.queued > 0;
  const done = busy && now.eta_s !== null ? ` All are done in about ${duration(now.eta_s)}.` : "";
  return html`
    <section>
      <h3>Queue</h3>
      <p class="hint">
        ${busy ? `${jobs(now.running)} in progress, ${now.queued} waiting.${done}` : "No job is waiting."}
        Up to ${now.max} jobs can wait.
      </p>
    </section>
  `;
}

const jobs = (count) => (count === 1 ? "1 job" : `${count} jobs`);

const preference = (label, on, set) => html`
  <label class="check">
    <input type="checkbox" .checked=${live(Boolean(on))} @change=${(event) => set(event.target.checked)} />
    <span>${label}</span>
  </label>
`;

function preferences(status) {
  return html`
    <section>
      <label class="check">
        <input
          type="checkbox"
          .checked=${state.prefs.warm}
          @change=${(event) => updatePrefs({ warm: event.target.checked })}
        />
        <span>Load the model as soon as I type</span>
      </label>
      ${mayNotify() ? preference("Notify me when a picture is done", notifies(), setNotify) : nothing}
      ${preference("Play a sound when a picture is done", state.prefs.sound, setSound)}
      <p class="hint row between">
        <span>imagegen ${status.version}</span>
        ${state.name
          ? html`<span>${state.name} · <button type="button" class="link" @click=${signOut}>Sign out</button></span>`
          : nothing}
      </p>
    </section>
  `;
}
