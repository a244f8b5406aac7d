// The form's LoRAs: each with its strength, and a list to add one of those that the chosen model can use.

import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { repeat } from "../../vendor/lit-html/directives/repeat.js";
import { live } from "../../vendor/lit-html/directives/live.js";
import { draftSoon } from "../drafting.js";
import { isUsable, refreshLoras, usableLoras } from "../loras.js";
import { announce } from "../outcomes.js";
import { afterUpdate, chosenModel, state, updateDraft } from "../store.js";
import { icon } from "./icons.js";

const STRONGEST = 2; // the service takes more; most are used up to 1

export function loras() {
  const { draft } = state;
  if (!state.loras?.length && !draft.loras.length) return nothing;
  const free = usableLoras().filter((one) => !draft.loras.some((used) => used.name === one.name));
  const full = draft.loras.length >= (state.caps?.max_loras ?? 0);
  return html`
    <fieldset class="field wide loras" @focusin=${focused}>
      <legend class="label">LoRAs</legend>
      ${repeat(draft.loras, (one) => one.name, row)}
      ${free.length
        ? html`<div class="joined">
            <select id="lora" aria-label="LoRA to add">
              ${free.map((one) => html`<option value=${one.name}>${one.name}${madeFor(one)}</option>`)}
            </select>
            <button type="button" class="quiet" ?disabled=${full} @click=${add}>Add LoRA</button>
          </div>`
        : nothing}
      ${hint(free, full)}
    </fieldset>
  `;
}

const madeFor = (one) => (one.base_model ? ` (${one.base_model})` : "");

function row(one) {
  const usable = isUsable(one.name);
  const words = state.loras?.find((listed) => listed.name === one.name)?.trigger_words ?? [];
  return html`
    <div class="lora" data-lora=${one.name}>
      <span class="name" title=${one.name}>${one.name}</span>
      <input
        type="range"
        min=${-STRONGEST}
        max=${STRONGEST}
        step="0.05"
        aria-label="Strength of ${one.name}"
        ?disabled=${!usable}
        .value=${live(String(one.strength))}
        @input=${(event) => setStrength(one.name, Number(event.target.value))}
      />
      <output>${one.strength}</output>
      <button
        type="button"
        class="icon-button"
        title="Remove"
        aria-label="Remove ${one.name}"
        @click=${() => remove(one.name)}
      >
        ${icon("close")}
      </button>
      ${usable
        ? words.length
          ? html`<p class="hint">Trigger words: ${words.join(", ")}</p>`
          : nothing
        : html`<p class="hint warn">${chosenModel()?.title} cannot use it: it is left out.</p>`}
    </div>
  `;
}

function hint(free, full) {
  if (full && free.length) return html`<p class="hint">At most ${state.caps?.max_loras ?? 0}.</p>`;
  if (free.length || state.draft.loras.length) return nothing;
  return html`<p class="hint">This model can use no LoRA of the list.</p>`;
}

/** Read the list again when the control gets the focus. */
function focused(event) {
  if (!event.currentTarget.contains(event.relatedTarget)) refreshLoras();
}

function add() {
  const name = document.getElementById("lora").value;
  change([...state.draft.loras, { name, strength: 1 }]);
  announce(`${name} is added.`);
  afterUpdate(() => document.querySelector(`[data-lora="${CSS.escape(name)}"] input`)?.focus());
}

function setStrength(name, strength) {
  change(state.draft.loras.map((one) => (one.name === name ? { name, strength } : one)));
}

function remove(name) {
  change(state.draft.loras.filter((one) => one.name !== name));
  announce(`${name} is removed.`);
  afterUpdate(() => document.querySelector(".loras select, .loras button, #model")?.focus());
}

function change(loras) {
  updateDraft({ loras });
  draftSoon();
}
