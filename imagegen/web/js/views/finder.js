// The bar above the gallery: words to find, filters, and the board that is shown.

import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { live } from "../../vendor/lit-html/directives/live.js";
import { SIZES, clearFind, isFinding, setFind } from "../finding.js";
import { deleteBoard, renameBoard } from "../keeping.js";
import { state } from "../store.js";

const KINDS = { generate: "Drawn", edit: "Edited", upscale: "Enlarged", upload: "Uploaded" };
const DAYS = { 1: "Today", 7: "Last 7 days", 30: "Last 30 days" };

export function finder() {
  const boards = state.boards?.items ?? [];
  const models = Object.fromEntries(state.models.map((model) => [model.name, model.title ?? model.name]));
  const named = Object.fromEntries(boards.map(({ name, count }) => [name, `${name} (${count})`]));
  const sizes = Object.fromEntries(Object.entries(SIZES).map(([name, { label }]) => [name, label]));
  return html`
    <form class="finder" role="search" aria-label="Find pictures" @submit=${(event) => event.preventDefault()}>
      <input
        type="search"
        id="find"
        aria-label="Words of the prompt or note"
        placeholder="Find by words"
        maxlength="200"
        .value=${live(state.find.q)}
        @input=${(event) => setFind({ q: event.target.value })}
      />
      <label class="check">
        <input
          type="checkbox"
          .checked=${live(state.find.kept)}
          @change=${(event) => setFind({ kept: event.target.checked })}
        />
        <span>Kept only</span>
      </label>
      ${boards.length ? choice("board", "Board", "Every board", named) : nothing}
      ${choice("kind", "Kind", "Every kind", KINDS)} ${choice("model", "Model", "Every model", models)}
      ${choice("days", "Date", "Any time", DAYS)} ${choice("size", "Size", "Any size", sizes)}
      ${isFinding() ? html`<button type="button" class="link" @click=${clearFind}>Show all</button>` : nothing}
    </form>
    ${named[state.find.board] ? board(state.find.board) : nothing}
  `;
}

function choice(name, label, any, options) {
  return html`
    <select
      class="small"
      aria-label=${label}
      @change=${(event) => setFind({ [name]: event.target.value })}
    >
      <option value="" .selected=${live(state.find[name] === "")}>${any}</option>
      ${Object.entries(options).map(
        ([value, text]) => html`<option value=${value} .selected=${live(state.find[name] === value)}>${text}</option>`,
      )}
    </select>
  `;
}

/** Rename or delete the board that is shown. */
function board(name) {
  const renamed = (event) => {
    event.preventDefault();
    renameBoard(name, event.target.elements.board.value);
  };
  return html`
    <form class="row board" aria-label="This board" @submit=${renamed}>
      <input name="board" aria-label="Name of the board" maxlength="60" required .value=${name} />
      <button class="quiet" type="submit">Rename</button>
      <button class="quiet" type="button" @click=${() => deleteBoard(name)}>Delete board</button>
    </form>
  `;
}
