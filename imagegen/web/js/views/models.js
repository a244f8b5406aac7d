// The dialog that lists the models, fetches them and removes them.

import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { live } from "../../vendor/lit-html/directives/live.js";
import { agree, ask, closeModels, forget, stopFetch, updateManager } from "../models.js";
import { state } from "../store.js";
import { bytes } from "../words.js";
import { icon } from "./icons.js";

export function modelManager() {
  return html`
    <dialog id="models" aria-labelledby="models-title" @close=${closed}>
      ${state.manager ? content() : nothing}
    </dialog>
  `;
}

function closed() {
  closeModels();
  document.querySelector(".chip")?.focus();
}

function content() {
  return html`
    <div class="row between">
      <h2 id="models-title">Models</h2>
      <button type="button" class="icon-button" aria-label="Close" @click=${closeModels}>${icon("close")}</button>
    </div>
    <p class="hint" role="status" aria-live="polite">${state.note}</p>
    <ul>${[...state.models, ...state.upscalers].map(row)}</ul>
  `;
}

function row(model) {
  const { asked, problem } = state.manager;
  const here = asked?.name === model.name;
  return html`
    <li data-model=${model.name} aria-labelledby="model-${model.name}">
      <h3 id="model-${model.name}">${model.title} <span class="faint">${model.name}, ${stateOf(model)}</span></h3>
      <p class="hint">${model.description}</p>
      ${model.fetching ? progress(model) : nothing}
      ${here ? question(model) : buttons(model)}
      ${message(problem?.name === model.name ? problem.detail : model.fetch_error)}
    </li>
  `;
}

function stateOf(model) {
  if (model.fetching) return "is being fetched";
  if (model.installed) return "installed";
  return model.missing.length ? "not installed" : "made when first used";
}

function progress({ name, title }) {
  const fetch = state.status?.engine.fetch;
  const mine = fetch?.model === name ? fetch : null;
  const label = `Fetching ${title}`;
  return html`
    ${mine?.bytes_total
      ? html`<progress aria-label=${label} max=${mine.bytes_total} value=${mine.bytes_done}></progress>`
      : html`<progress aria-label=${label}></progress>`}
    <p class="hint">${mine?.detail ?? "waits for another download"}</p>
  `;
}

function message(detail) {
  return detail ? html`<p class="hint bad" role="alert">${detail}</p>` : nothing;
}

/** Buttons name the model for screen readers, which may read them without their row. */
function buttons({ name, title, fetching, installed, missing }) {
  const busy = state.manager.busy === name;
  const button = (label, act) => html`
    <button type="button" class="quiet" aria-label="${label} ${title}" ?disabled=${busy} @click=${act}>${label}</button>
  `;
  if (fetching) return html`<div class="row">${button("Stop", () => stopFetch(name))}</div>`;
  if (installed) return html`<div class="row">${button("Remove…", () => ask(name, "files"))}</div>`;
  return missing.length ? html`<div class="row">${button("Fetch…", () => ask(name, "fetch"))}</div>` : nothing;
}

function question(model) {
  const { asked, accepted, busy } = state.manager;
  const fetches = asked.what === "fetch";
  const must = fetches && asked.plan.licence_question;
  const size = bytes(fetches ? asked.plan.bytes_total : asked.plan.freed_bytes);
  const act = fetches ? `Fetch ${size}` : `Remove ${size}`;
  const nothingToDo = fetches ? !asked.plan.files.length : asked.plan.files.every((file) => file.kept);
  return html`
    <div class="asked" role="group" aria-label="${fetches ? "Fetch" : "Remove"} ${model.title}" tabindex="-1">
      ${fetches ? download(asked.plan) : removal(asked.plan)}
      ${must
        ? html`
            <label class="check">
              <input
                type="checkbox"
                .checked=${live(accepted)}
                @change=${(event) => updateManager({ accepted: event.target.checked })}
              />
              <span>I have read this licence, and I accept it.</span>
            </label>
          `
        : nothing}
      <div class="row">
        <button
          type="button"
          class="primary"
          ?disabled=${busy === model.name || nothingToDo || (must && !accepted)}
          @click=${agree}
        >
          ${act}
        </button>
        <button type="button" class="quiet" @click=${forget}>Cancel</button>
      </div>
    </div>
  `;
}

function download({ files, licence, licence_question: must, licences, remarks }) {
  const stated = Object.entries(licences).map(([repo, name]) => `${repo}: ${name}`);
  return html`
    <p>
      ${files.length === 1 ? "One file" : `${files.length} files`} from the model hub. Licence:
      ${licence.url ? html`<a href=${licence.url} target="_blank" rel="noreferrer">${licence.name}</a>` : licence.name}.
    </p>
    ${stated.length ? html`<p class="hint">Stated by the hub: ${stated.join("; ")}</p>` : nothing}
    ${must ? html`<p>${must}</p>` : nothing} ${remarks.map((remark) => html`<p class="hint">${remark}</p>`)}
  `;
}

function removal({ files }) {
  const kept = files.filter((file) => file.kept);
  return html`
    <p>Deletes ${files.length - kept.length} of ${files.length} files. An idle model is unloaded first.</p>
    ${kept.map((file) => html`<p class="hint">${file.file} stays: it ${file.kept}.</p>`)}
  `;
}
