// The things that a small model can draw, as chips above an empty prompt. One tab stop; arrows move, Enter chooses.

import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { selectGap } from "../actions.js";
import { draftSoon } from "../drafting.js";
import { afterUpdate, chosenModel, state, updateDraft } from "../store.js";
import { moveFocus } from "./arrows.js";

const SEVERAL = /^(two|three|four) /;

export function things() {
  const model = chosenModel();
  if (!model?.knows || state.draft.prompt.trim() || state.draft.references.length) return nothing;
  return html`
    <div class="gaps things" role="group" aria-label="Things that ${model.name} knows" @keydown=${moved}>
      ${model.knows.map(
        (name, place) => html`
          <button type="button" class="tag" tabindex=${place ? -1 : 0} @click=${() => chosen(name)}>${name}</button>
        `,
      )}
    </div>
  `;
}

function chosen(name) {
  const article = SEVERAL.test(name) ? "" : /^[aeiou]/.test(name) ? "an " : "a ";
  updateDraft({ prompt: article + name });
  draftSoon();
  afterUpdate(() => selectGap(null));
}

const moved = (event) => moveFocus(event, [...event.currentTarget.querySelectorAll("button")]);
