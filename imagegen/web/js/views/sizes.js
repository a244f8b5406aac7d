// Size presets as radio buttons, each with its shape.

import { html, svg, nothing } from "../../vendor/lit-html/lit-html.js";
import { live } from "../../vendor/lit-html/directives/live.js";
import { defaultSize, sizePresets, wholeSize } from "../draft.js";
import { chosenModel, state, updateDraft } from "../store.js";

export function sizes() {
  const model = chosenModel();
  if (!model || !state.caps) return nothing;
  const editing = state.draft.references.length > 0;
  const own = defaultSize(model);
  const chosen = wholeSize(state.draft.size, model) ?? (editing ? "" : own);
  const presets = sizePresets(model, state.caps);
  const known = presets.some((preset) => preset.size === chosen);
  const options = [
    ...(editing ? [{ label: "As the source", size: "", across: 0, down: 0 }] : []),
    ...presets,
    ...(known || chosen === "" ? [] : [{ label: "Custom", size: chosen, ...shapeOf(chosen) }]),
  ];
  return html`
    <fieldset class="sizes">
      <legend class="label">Size</legend>
      <div class="options">
        ${options.map(
          (option) => html`
            <label class="option">
              <input
                type="radio"
                name="size"
                value=${option.size}
                .checked=${live(option.size === chosen)}
                @change=${() => choose(option.size, own, editing)}
              />
              <span class="face">
                ${shape(option)}
                <span>${option.label}</span>
                <small>${option.size ? option.size.replace("x", " × ") : "its shape"}</small>
              </span>
            </label>
          `,
        )}
      </div>
    </fieldset>
  `;
}

function choose(size, own, editing) {
  const unset = size === "" || (!editing && size === own);
  updateDraft({ size: unset ? null : size });
}

function shapeOf(size) {
  const [across, down] = size.split("x").map(Number);
  return { across, down };
}

/** A rectangle with the option's proportions. */
function shape({ across, down }) {
  if (!across || !down) return html`<svg class="shape" viewBox="0 0 24 24" aria-hidden="true">
    ${svg`<path d="M4 8V4h4M16 4h4v4M20 16v4h-4M8 20H4v-4"></path>`}
  </svg>`;
  const most = Math.max(across, down);
  const [w, h] = [(18 * across) / most, (18 * down) / most];
  return html`<svg class="shape" viewBox="0 0 24 24" aria-hidden="true">
    ${svg`<rect x=${12 - w / 2} y=${12 - h / 2} width=${w} height=${h} rx="2"></rect>`}
  </svg>`;
}
