// The form: prompt and style, pictures to start from, size, negative prompt, and the button.

import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { live } from "../../vendor/lit-html/directives/live.js";
import { draw, drawAsIs, dropPending, selectGap, takeStyleSize } from "../actions.js";
import { fillStyle, openGaps } from "../draft.js";
import { draftSoon, liveOn, setLive } from "../drafting.js";
import { typed } from "../engine.js";
import { historyKey } from "../history.js";
import { afterUpdate, chosenModel, clearDraft, state, undoClear, update, updateDraft } from "../store.js";
import { duration } from "../words.js";
import { icon } from "./icons.js";
import { more } from "./more.js";
import { policy } from "./policy.js";
import { references } from "./references.js";
import { sizes } from "./sizes.js";
import { things } from "./things.js";

export function compose() {
  const { draft } = state;
  const editing = draft.references.length > 0 || state.uploading.length > 0;
  return html`
    <form class="card compose" aria-labelledby="compose-title" novalidate @submit=${submitted} @input=${draftSoon}>
      <h2 id="compose-title" class="sr">Prompt and settings</h2>
      <div class="row between">
        <label class="label" for="prompt">${editing ? "What to change" : "Prompt"}</label>
        <div class="row">${liveSwitch()} ${styles()}</div>
      </div>
      ${things()}
      <textarea
        id="prompt"
        name="prompt"
        rows="5"
        spellcheck="true"
        aria-describedby="prompt-more"
        placeholder=${editing ? "make the background a night sky" : "a lighthouse at dusk, watercolour, soft light"}
        .value=${live(draft.prompt)}
        @input=${promptTyped}
        @keydown=${promptKey}
      ></textarea>
      <div id="prompt-more">${counter(draft.prompt)} ${gaps(draft.prompt)}</div>
      ${references()} ${sizes()} ${transparent()}
      <div class="field">
        <label class="label" for="negative">Negative prompt</label>
        <textarea
          id="negative"
          name="negative"
          rows="1"
          placeholder="what to leave out, such as: text, watermark"
          aria-describedby="negative-note"
          .value=${live(draft.negative)}
          @input=${(event) => updateDraft({ negative: event.target.value })}
        ></textarea>
        ${negativeNote()}
      </div>
      ${policy()} ${more()} ${problem()}
      <div class="row go">
        <button class="primary" type="submit" ?disabled=${!ready()}>
          <span>${state.sending ? "Sending…" : editing ? "Edit" : "Draw"}</span><kbd aria-hidden="true">Ctrl ↵</kbd>
        </button>
        <button class="quiet" type="button" @click=${clearDraft}>Clear</button>
        ${state.cleared
          ? html`<button class="link" type="button" @click=${undone}>Undo Clear</button>`
          : nothing}
      </div>
      ${expectation()}
    </form>
  `;
}

const ready = () => Boolean(state.draft.prompt.trim()) && !state.sending && !state.uploading.length;

function submitted(event) {
  event.preventDefault();
  draw();
}

function undone() {
  undoClear();
  selectGap(null);
}

function promptTyped(event) {
  updateDraft({ prompt: event.target.value });
  typed();
}

/** Draw as you type: Enter keeps the picture then, and Shift+Enter begins a new line. */
function liveSwitch() {
  if (!chosenModel()) return nothing;
  return html`
    <label class="check" title="Draws while you type. Enter keeps the picture.">
      <input type="checkbox" role="switch" .checked=${live(liveOn())} @change=${(e) => setLive(e.target.checked)} />
      <span>Live</span>
    </label>
  `;
}

function transparent() {
  const changed = (event) => updateDraft({ background: event.target.checked ? "transparent" : "" });
  return html`
    <label class="check" title="Asks for a plain background, and cuts it out of the picture.">
      <input
        id="transparent"
        type="checkbox"
        .checked=${live(state.draft.background === "transparent")}
        @change=${changed}
      />
      <span>Transparent background</span>
    </label>
  `;
}

function promptKey(event) {
  if (historyKey(event)) return;
  const plain = !event.shiftKey && !event.ctrlKey && !event.metaKey && !event.altKey && !event.isComposing;
  if (event.key !== "Enter" || !plain || !liveOn()) return;
  event.preventDefault();
  if (!event.repeat) draw(); // a key that is held down keeps one picture
}

// ---- styles ---------------------------------------------------------------------------------

function styles() {
  if (!state.templates.length) return nothing;
  return html`
    <select class="small" aria-label="Style" @change=${chooseStyle}>
      <option value="" selected>Style…</option>
      ${state.templates.map((one) => html`<option value=${one.name} title=${one.description}>${one.title}</option>`)}
    </select>
  `;
}

function chooseStyle(event) {
  const template = state.templates.find((one) => one.name === event.target.value);
  event.target.value = "";
  if (!template) return;
  const before = state.draft.prompt.trim() ? state.draft.prompt : null;
  updateDraft({ prompt: fillStyle(template) });
  update({ replaced: before, problem: null });
  takeStyleSize(template);
  afterUpdate(() => selectGap(openGaps(state.draft.prompt, state.templates)[0]));
}

/** The style's open gaps, each with its description. A click selects the gap. */
function gaps(prompt) {
  const open = openGaps(prompt, state.templates);
  const back = state.replaced
    ? html`<button type="button" class="link" @click=${bringBack}>Bring back my text</button>`
    : nothing;
  if (!open.length) return state.replaced ? html`<p class="hint">${back}</p>` : nothing;
  const first = open[0];
  return html`
    <div class="hint gaps">
      <span>To fill in:</span>
      ${open.map((gap) => html`<button type="button" class="tag" @click=${() => selectGap(gap)}>${gap.name}</button>`)}
      ${back}
      <p>${first.name}: ${first.description} <span class="faint">For example ${first.examples[0]}.</span></p>
    </div>
  `;
}

function bringBack() {
  updateDraft({ prompt: state.replaced });
  update({ replaced: null });
}

// ---- notes ----------------------------------------------------------------------------------

function counter(prompt) {
  const most = state.caps?.max_prompt_chars;
  const length = [...prompt].length;
  if (!most || length < most * 0.8) return nothing;
  return html`<p class="hint ${length > most ? "bad" : ""}">
    ${length.toLocaleString()} of ${most.toLocaleString()} characters
  </p>`;
}

function negativeNote() {
  const model = chosenModel();
  const cfg = Number(state.draft.cfg_scale || model?.defaults.cfg_scale.value || 0);
  const inert = Boolean(state.draft.negative.trim()) && cfg <= 1;
  return html`<p id="negative-note" class="hint" ?hidden=${!inert}>
    At guidance ${cfg} the model ignores this. It takes effect above 1.
  </p>`;
}

function problem() {
  const { problem: shown } = state;
  if (!shown) return nothing;
  return html`
    <div class="notice bad" role="alert">
      ${icon("alert")}
      <div>
        <strong>${shown.title}</strong>
        <p>${shown.detail}</p>
        ${shown.waiting
          ? html`<button type="button" class="link" @click=${dropPending}>
              ${shown.waiting === 1 ? "Do not send it" : "Do not send them"}
            </button>`
          : nothing}
        ${shown.gap ? html`<button type="button" class="link" @click=${drawAsIs}>Draw it as it is</button>` : nothing}
      </div>
      <button
        type="button"
        class="icon-button"
        aria-label="Close this message"
        @click=${() => update({ problem: null })}
      >
        ${icon("close")}
      </button>
    </div>
  `;
}

/** The wait before the first picture, shown only while the model is not loaded. */
function expectation() {
  const status = state.status;
  if (state.link !== "up" || !status) return nothing;
  const { fetch } = status.engine;
  const needed = status.engine.model ?? chosenModel()?.name;
  if (fetch?.model === needed && !status.engine.load && ["cold", "loading"].includes(status.engine.state)) {
    return html`<p class="hint">The first picture waits for the model's files: ${fetch.detail}.</p>`;
  }
  if (status.engine.state !== "cold") return nothing;
  const cold = status.idle.cold_start_s;
  return html`<p class="hint">
    The model is not loaded.
    ${cold === null
      ? "The first picture takes longer while the model loads."
      : `The first picture waits about ${duration(cold)} for it.`}
  </p>`;
}
