// The "More" section: steps, guidance, speed, seed, count, sampler, model, exact size, and the source of each number.

import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { live } from "../../vendor/lit-html/directives/live.js";
import { defaultSize, outsideRange, parseSize, randomSeed, sideRange } from "../draft.js";
import { chosenModel, defaultModel, state, updateDraft, updatePrefs } from "../store.js";
import { icon } from "./icons.js";
import { loras } from "./loras.js";

const NAMES = {
  steps: "Steps",
  cfg_scale: "Guidance",
  width: "Width",
  height: "Height",
  sampler: "Sampler",
  scheduler: "Scheduler",
};

export function more() {
  const model = chosenModel();
  if (!model) return nothing;
  return html`
    <details class="fold" .open=${live(state.prefs.more)} @toggle=${toggled}>
      <summary>More <span class="faint">${summary(model)}</span></summary>
      <div class="grid">
        ${models(model)} ${number("steps", "Steps", model, 1)} ${number("cfg_scale", "Guidance (cfg)", model, "any")}
        ${speed(model)} ${seed()} ${count()} ${side("width", model)} ${side("height", model)}
        ${state.draft.references.length ? html`${fit()} ${strength(model)}` : nothing} ${loras()}
      </div>
      ${sources(model)}
    </details>
  `;
}

function toggled(event) {
  if (event.target.open !== state.prefs.more) updatePrefs({ more: event.target.open });
}

function summary(model) {
  const { draft } = state;
  const steps = draft.steps || model.defaults.steps.value;
  const seedText = draft.locked && draft.seed !== "" ? `seed ${draft.seed}` : "random seed";
  const loraText = draft.loras.map((one) => `, ${one.name}`).join("");
  return `${model.name}, ${steps} steps, ${seedText}${draft.n > 1 ? `, ${draft.n} pictures` : ""}${loraText}`;
}

function models(model) {
  const own = defaultModel();
  return html`
    <div class="field wide">
      <label class="label" for="model">Model</label>
      <select
        id="model"
        .value=${live(model.name)}
        @change=${(event) => chosen(event.target.value, own)}
      >
        ${state.models.map(
          (one) => html`
            <option value=${one.name} ?disabled=${!one.installed} ?selected=${one.name === model.name}>
              ${one.title}${one.installed ? "" : " (not installed)"}
            </option>
          `,
        )}
      </select>
      <p class="hint">${model.description}</p>
    </div>
  `;
}

/** A model's own settings do not go along to another one. */
function chosen(name, own) {
  updateDraft({ model: name === own?.name ? "" : name, speed: "", strength: "" });
}

function number(name, label, model, step) {
  const range = model.defaults[name];
  const bad = outsideRange(state.draft[name], range);
  const known = range.min === range.max ? (range.min === null ? "" : `Only ${range.min}`) : `${range.min} to ${range.max}`;
  return html`
    <div class="field">
      <label class="label" for=${name}>${label}</label>
      <input
        id=${name}
        type="number"
        inputmode="decimal"
        step=${step}
        min=${name === "steps" ? 1 : 0}
        placeholder=${range.value}
        aria-describedby="${name}-hint"
        .value=${live(state.draft[name])}
        @input=${(event) => updateDraft({ [name]: event.target.value })}
      />
      <p id="${name}-hint" class="hint ${bad ? "warn" : ""}">${bad ?? known}</p>
    </div>
  `;
}

function speed(model) {
  const { draft } = state;
  const able = Boolean(model.fast?.cache_mode);
  const hint = able ? `Fast leaves steps out, from ${model.fast.min_steps} steps on.` : model.fast?.refused;
  return html`
    <div class="field">
      <label class="label" for="speed">Speed</label>
      <select
        id="speed"
        aria-describedby="speed-hint"
        .value=${live(draft.speed)}
        @change=${(event) => updateDraft({ speed: event.target.value })}
      >
        <option value="" ?selected=${!draft.speed}>quality</option>
        <option value="fast" ?disabled=${!able} ?selected=${draft.speed === "fast"}>fast</option>
      </select>
      <p id="speed-hint" class="hint">${hint ?? "This model has no fast setting."}</p>
    </div>
  `;
}

function seed() {
  const { draft } = state;
  const locked = draft.locked && draft.seed !== "";
  const counted = draft.n > 1 ? "Of the first picture; each further one adds 1." : "Used for every picture.";
  return html`
    <div class="field">
      <label class="label" for="seed">Seed</label>
      <div class="joined">
        <input
          id="seed"
          type="number"
          inputmode="numeric"
          min="0"
          max="4294967295"
          step="1"
          placeholder="random"
          aria-describedby="seed-hint"
          .value=${live(locked ? draft.seed : "")}
          @input=${(event) => updateDraft({ seed: event.target.value, locked: event.target.value !== "" })}
        />
        <button
          type="button"
          class="icon-button"
          title="New random seed"
          aria-label="New random seed"
          @click=${() => updateDraft({ seed: String(randomSeed()), locked: true })}
        >
          ${icon("dice")}
        </button>
        <button
          type="button"
          class="icon-button"
          title=${locked ? "Use a new seed for every picture" : "Use one seed for every picture"}
          aria-label="Use this seed for every picture"
          aria-pressed=${locked}
          @click=${() => updateDraft({ locked: !locked, seed: draft.seed || String(randomSeed()) })}
        >
          ${icon(locked ? "lock" : "unlock")}
        </button>
      </div>
      <p id="seed-hint" class="hint">${locked ? counted : "A new one for every picture."}</p>
    </div>
  `;
}

function count() {
  const most = state.caps?.max_n ?? 1;
  return html`
    <div class="field">
      <label class="label" for="n">Pictures</label>
      <select id="n" .value=${live(String(state.draft.n))} @change=${(e) => updateDraft({ n: Number(e.target.value) })}>
        ${Array.from({ length: most }, (_, i) => i + 1).map(
          (n) => html`<option value=${n} ?selected=${n === state.draft.n}>${n}</option>`,
        )}
      </select>
      <p class="hint">One after the other.</p>
    </div>
  `;
}

function side(name, model) {
  const own = state.draft.size;
  const usual = parseSize(defaultSize(model))[name];
  const { least, most } = sideRange(name, model, state.caps ?? { max_dimension: usual });
  return html`
    <div class="field">
      <label class="label" for=${name}>${NAMES[name]}</label>
      <input
        id=${name}
        type="number"
        inputmode="numeric"
        min=${least}
        max=${most}
        step=${model.size_multiple}
        placeholder=${state.draft.references.length ? "as the source" : usual}
        aria-describedby="${name}-hint"
        .value=${live(own ? String(parseSize(own)[name] || "") : "")}
        @input=${(event) => setSide(name, event.target.value, model)}
      />
      <p id="${name}-hint" class="hint">${least} to ${most} px, in steps of ${model.size_multiple}</p>
    </div>
  `;
}

/** An empty field is stored as 0: the model's default applies. */
function setSide(name, text, model) {
  const { width, height } = { ...parseSize(state.draft.size ?? defaultSize(model)), [name]: Number(text) };
  updateDraft({ size: width || height ? `${width}x${height}` : null });
}

function fit() {
  return html`
    <div class="field">
      <label class="label" for="fit">Fit the source</label>
      <select id="fit" .value=${live(state.draft.fit)} @change=${(e) => updateDraft({ fit: e.target.value })}>
        <option value="contain">pad</option>
        <option value="cover">crop</option>
        <option value="stretch">stretch</option>
      </select>
    </div>
  `;
}

function strength(model) {
  if (!model.capabilities.strength) return nothing;
  return html`
    <div class="field">
      <label class="label" for="strength">Strength</label>
      <input
        id="strength"
        type="number"
        inputmode="decimal"
        min="0"
        max="1"
        step="any"
        placeholder="1"
        aria-describedby="strength-hint"
        .value=${live(state.draft.strength)}
        @input=${(event) => updateDraft({ strength: event.target.value })}
      />
      <p id="strength-hint" class="hint">How much the source may change, 0 to 1.</p>
    </div>
  `;
}

function sources(model) {
  const rows = Object.entries(model.defaults).filter(([name, one]) => NAMES[name] && one);
  return html`
    <details class="fold inner">
      <summary>Where these numbers come from</summary>
      <dl class="sources">
        ${rows.map(
          ([name, one]) => html`
            <dt>${NAMES[name]} <b>${one.value}</b>${one.min !== null ? ` (${one.min} to ${one.max})` : ""}</dt>
            <dd>${one.source}</dd>
          `,
        )}
      </dl>
    </details>
  `;
}
