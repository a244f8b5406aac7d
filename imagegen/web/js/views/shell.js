// The frame: header, notices for the whole page, the token dialog, and the containers of the other views.

import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { giveToken } from "../actions.js";
import { openReading } from "../lazy.js";
import { state } from "../store.js";
import { connect } from "../stream.js";
import { compose } from "./compose.js";
import { gallery } from "./gallery.js";
import { icon } from "./icons.js";
import { boardNames, undoBar } from "./kept.js";
import { liveJobs } from "./live.js";
import { modelChip, modelPanel } from "./model.js";
import { modelManager } from "./models.js";
import { result } from "./result.js";
import { shortcutList, shortcutsButton } from "./shortcuts.js";
import { viewer } from "./viewer.js";

export function shell() {
  return html`
    <header class="top">
      <h1><img src="static/favicon.svg" alt="" width="24" height="24" />imagegen</h1>
      <div class="row">${readingButton()} ${shortcutsButton()} ${modelChip()}</div>
    </header>
    ${modelPanel()}
    <main>
      ${connection()} ${limits()} ${outdated()}
      <div class="columns">
        ${compose()}
        <div class="right">${liveJobs()} ${result()}</div>
      </div>
      ${gallery()}
    </main>
    ${undoBar()} ${boardNames()}
    ${viewer()} ${modelManager()} ${shortcutList()} ${token()}
    <p class="toast ${state.note ? "shown" : ""}" role="status" aria-live="polite">${state.note}</p>
  `;
}

function readingButton() {
  return html`
    <button
      type="button"
      class="icon-button"
      aria-label="Read a picture's file"
      title="Read a picture's file: who made it, and its settings"
      @click=${openReading}
    >
      ${icon("seal")}
    </button>
  `;
}

function connection() {
  if (state.link !== "down") return nothing;
  const wait = Math.max(0, Math.ceil((state.retryAt - Date.now()) / 1000));
  return html`
    <div class="notice warn" role="status">
      ${icon("alert")}
      <div>
        <strong>${state.everUp ? "The connection is lost." : "The service does not answer."}</strong>
        <p>${state.why ?? "Your requests are kept. They continue when the service answers again."}</p>
      </div>
      <button type="button" class="quiet" @click=${connect}>
        Try now${wait ? html`<span aria-hidden="true"> (${wait} s)</span>` : nothing}
      </button>
    </div>
  `;
}

/** A notice of the default model's limits, if it has any. */
function limits() {
  const model = state.status?.model;
  if (!model?.limits) return nothing;
  return html`
    <p class="notice calm">
      ${icon("info")}
      <span>
        The model is <b>${model.default}</b>. ${model.limits} <code>imagegen models list</code> names others; start the
        service with one in <code>IMAGEGEN_MODEL</code>.
      </span>
    </p>
  `;
}

function outdated() {
  if (!state.outdated) return nothing;
  return html`
    <div class="notice calm">
      ${icon("info")}<span>The service was updated. Reload the page; nothing is lost.</span>
      <button type="button" class="quiet" @click=${() => location.reload()}>Reload</button>
    </div>
  `;
}

function token() {
  return html`
    <dialog id="token" aria-labelledby="token-title" @cancel=${(event) => event.preventDefault()}>
      <form method="dialog" @submit=${tokenGiven}>
        <h2 id="token-title">This service needs a token</h2>
        <p>The operator creates one with <code>imagegen token new NAME</code>. This browser asks for it once.</p>
        <label class="label" for="token-field">Token</label>
        <input
          id="token-field"
          type="password"
          autocomplete="current-password"
          required
          aria-describedby="token-problem"
        />
        <p id="token-problem" class="hint bad" role="alert">${state.token?.detail ?? ""}</p>
        <button class="primary" type="submit" ?disabled=${state.token?.busy}>Open</button>
      </form>
    </dialog>
  `;
}

function tokenGiven(event) {
  event.preventDefault();
  const field = document.getElementById("token-field");
  const given = field.value.trim();
  field.value = "";
  if (given) giveToken(given);
}
