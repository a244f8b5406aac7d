// Source pictures: chosen, dropped or pasted. The service stores them, so that a reload loses none.

import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { repeat } from "../../vendor/lit-html/directives/repeat.js";
import { addFiles, removeReference } from "../actions.js";
import { pictureUrl } from "../api.js";
import { maskOf } from "../draft.js";
import { openPainter } from "../lazy.js";
import { chosenModel, state, updateDraft } from "../store.js";
import { icon } from "./icons.js";

export function references() {
  const model = chosenModel();
  const { references: chosen } = state.draft;
  const most = Math.min(state.caps?.max_references ?? 1, model?.capabilities.max_references ?? 0);
  const count = chosen.length + state.uploading.length;
  const mask = maskOf(state.draft);
  if (!count && !model?.capabilities.edit) return nothing;
  return html`
    <div class="references ${state.dragging ? "dragging" : ""}">
      ${repeat(
        chosen,
        (one) => one.id,
        (one, index) => html`
          <figure class="thumb">
            <img src=${pictureUrl(one.id, 192)} alt="Source picture ${index + 1}" />
            ${index === 0 && mask ? html`<img class="masked" src=${pictureUrl(mask.id, 192)} alt="" />` : nothing}
            <button
              type="button"
              class="icon-button over"
              aria-label="Remove source picture ${index + 1}"
              @click=${() => removeReference(one.id)}
            >
              ${icon("close")}
            </button>
          </figure>
        `,
      )}
      ${repeat(
        state.uploading,
        (one) => one.key,
        (one) => html`<figure class="thumb waiting"><img src=${one.url} alt="Being sent" /></figure>`,
      )}
      ${count < most ? choose(count) : nothing}
    </div>
    ${complaint(model, count, most)} ${chosen.length ? painting(model, mask) : nothing}
  `;
}

/** What may change in the first source picture: all of it, or the painted part. */
function painting(model, mask) {
  if (!model?.capabilities.edit) return nothing;
  if (!model.capabilities.mask) {
    const other = state.models.find((one) => one.installed && one.capabilities.mask);
    return mask
      ? html`<p class="hint warn">
          ${model.name} cannot use the mask, so it is left out.
          ${other
            ? html`<button type="button" class="link" @click=${() => updateDraft({ model: other.name })}>
                Use ${other.name}
              </button>`
            : nothing}
        </p>`
      : nothing;
  }
  const which = state.draft.references.length > 1 ? "the first picture" : "the picture";
  return html`
    <div class="row painting">
      <p class="hint">${mask ? masked(mask, which) : `All of ${which} may change.`}</p>
      <button type="button" class="quiet small" data-mask @click=${openPainter}>
        ${icon("brush")}${mask ? "Change mask" : "Paint a mask"}
      </button>
      ${mask
        ? html`<button
            type="button"
            class="icon-button"
            aria-label="Remove the mask"
            title="Remove the mask"
            @click=${() => updateDraft({ mask: null })}
          >
            ${icon("close")}
          </button>`
        : nothing}
    </div>
  `;
}

const masked = ({ share }, which) =>
  share === null ? `Part of ${which} may change.` : `${Math.max(1, Math.round(100 * share))} % of ${which} may change.`;

function choose(count) {
  return html`
    <label class="choose ${count ? "compact" : ""}">
      <input class="sr" type="file" accept="image/*" multiple @change=${chosenFiles} />
      ${icon("picture")}<span>${count ? "Add" : "Edit a picture: drop, paste or choose one"}</span>
    </label>
  `;
}

function chosenFiles(event) {
  addFiles(event.target.files);
  event.target.value = "";
}

/** Why the chosen model cannot use the source pictures, and which model can. */
function complaint(model, count, most) {
  if (!count || !model) return nothing;
  if (model.capabilities.edit) {
    if (count <= most) return nothing;
    return html`<p class="hint bad">${model.name} takes at most ${most} pictures. Remove ${count - most}.</p>`;
  }
  const other = state.models.find((one) => one.installed && one.capabilities.edit);
  return html`<p class="hint bad">
    ${model.name} draws from words only.
    ${other
      ? html`<button type="button" class="link" @click=${() => updateDraft({ model: other.name })}>
          Use ${other.name}
        </button>`
      : "No model that edits is installed."}
  </p>`;
}
