// What keeps a picture: the star, its board and note, Delete with Undo, and actions on several pictures.

import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { live } from "../../vendor/lit-html/directives/live.js";
import { keepPicture, deletePictures, moveTo, saveZip, toggleKept, undoDelete } from "../keeping.js";
import { state, update } from "../store.js";
import { icon } from "./icons.js";

/** The buttons below a picture that keep and delete it. */
export function keepButtons(image) {
  return html`
    <button type="button" class="action star" aria-pressed=${Boolean(image.kept_at)} @click=${() => toggleKept(image)}>
      ${icon("star")}<span>Keep</span>
    </button>
    <button type="button" class="action" @click=${() => deleteShown(image)}>${icon("bin")}<span>Delete</span></button>
  `;
}

function deleteShown(image) {
  update({ viewer: null });
  deletePictures([image]);
}

/** The board and note of a kept picture. A change is saved when the field is left. */
export function keptFields(image) {
  if (!image.kept_at) return nothing;
  return html`
    <div class="kept">
      <label class="field">
        <span class="label">Board</span>
        <input
          list="boards"
          maxlength="60"
          placeholder="none"
          .value=${live(image.board ?? "")}
          @change=${(event) => changed(image, { board: event.target.value.trim() || null })}
        />
      </label>
      <label class="field">
        <span class="label">Note</span>
        <textarea
          rows="1"
          maxlength="1000"
          .value=${live(image.note ?? "")}
          @change=${(event) => changed(image, { note: event.target.value })}
        ></textarea>
      </label>
    </div>
  `;
}

/** A name that the service refuses is replaced by the one that holds. */
async function changed(image, wish) {
  if (!(await keepPicture(image, wish))) update();
}

/** The names of the boards, for every field that asks for one. */
export function boardNames() {
  const boards = state.boards?.items ?? [];
  return html`<datalist id="boards">${boards.map(({ name }) => html`<option value=${name}></option>`)}</datalist>`;
}

/** The star on a tile. It is no tab stop: the picture's own button is, and full screen has the same star. */
export function starOn(image) {
  const label = image.kept_at ? "Do not keep this picture" : "Keep this picture";
  return html`
    <button
      type="button"
      class="icon-button star on-tile"
      tabindex="-1"
      aria-label=${label}
      aria-pressed=${Boolean(image.kept_at)}
      @click=${() => toggleKept(image)}
    >
      ${icon("star")}
    </button>
  `;
}

/** The actions on the selected pictures. */
export function selectionBar(all) {
  const chosen = all.map(({ image }) => image).filter(({ id }) => state.selected.has(id));
  const none = chosen.length === 0;
  const select = (images) => update({ selected: new Set(images.map(({ image }) => image.id)) });
  const moved = (event) => {
    event.preventDefault();
    moveTo(chosen, event.target.elements.board.value);
  };
  return html`
    <div class="selection" role="group" aria-label="Selected pictures">
      <p role="status">${chosen.length} selected</p>
      <button type="button" class="quiet" @click=${() => select(all)}>Select all</button>
      <button type="button" class="quiet" ?disabled=${none} @click=${() => select([])}>Select none</button>
      <button type="button" class="quiet" ?disabled=${none || chosen.length > 200} @click=${() => saveZip(chosen)}>
        Save as ZIP
      </button>
      <button type="button" class="quiet" ?disabled=${none} @click=${() => deletePictures(chosen)}>Delete</button>
      <form class="row" @submit=${moved}>
        <input name="board" list="boards" maxlength="60" aria-label="Board to put them on" placeholder="Board" />
        <button class="quiet" type="submit" ?disabled=${none}>Put on board</button>
      </form>
    </div>
  `;
}

/** Undo for the pictures deleted last, as long as it is possible. */
export function undoBar() {
  if (!state.gone) return nothing;
  const count = state.gone.ids.length;
  return html`
    <div class="undo">
      <span role="status">${count === 1 ? "The picture is deleted." : `${count} pictures are deleted.`}</span>
      <button type="button" class="quiet" data-undo @click=${undoDelete}>Undo</button>
    </div>
  `;
}
