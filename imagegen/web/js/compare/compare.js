// Two pictures in full screen with a divider: a picture, and its source or any other of the recent ones.

import { html, render } from "../../vendor/lit-html/lit-html.js";
import { live } from "../../vendor/lit-html/directives/live.js";
import { pictureUrl, shownUrl } from "../api.js";
import { announce } from "../outcomes.js";
import { shortcuts } from "../shortcuts.js";
import { pictures } from "../store.js";
import { ground } from "../words.js";
import { divided } from "../views/divided.js";
import { icon } from "../views/icons.js";

let dialog = null;
let choices = []; // {id, src, alt, ground}, also of the picture itself
let before = null;
let after = null;

/** Compare a picture of a job: an edit with its source, another one with the next older picture. */
export function open({ job, image }) {
  if (dialog?.open) return;
  const known = pictures();
  const sources = job.references.map((id, index) => {
    const drawn = known.find((one) => one.image.id === id);
    return drawn ? choice(drawn) : { id, src: pictureUrl(id), alt: `Source picture ${index + 1}`, ground: "" };
  });
  const at = known.findIndex((one) => one.image.id === image.id);
  const older = [...known.slice(at + 1), ...known.slice(0, Math.max(0, at))].map(choice);
  choices = [...sources, ...older].filter((one, place, all) => all.findIndex((other) => other.id === one.id) === place);
  if (!choices.length) return announce("There is no other picture to compare it with.");
  [before] = choices;
  after = choice({ job, image });
  choices.unshift(after);
  dialog ??= created();
  draw();
  dialog.showModal();
  dialog.querySelector(".divided input").focus();
}

const choice = ({ job, image }) => ({ id: image.id, src: shownUrl(image), alt: job.prompt, ground: ground(image) });

function created() {
  const made = document.createElement("dialog");
  made.id = "compare";
  made.className = "full";
  made.setAttribute("aria-labelledby", "compare-title");
  made.addEventListener("keydown", shortcuts("While comparing", { exchange }));
  document.body.append(made);
  return made;
}

function exchange() {
  [before, after] = [after, before];
  draw();
}

function draw() {
  const others = choices.filter((one) => one.id !== after.id);
  render(
    html`
      ${divided(before, after)}
      <div class="side">
        <div class="row between">
          <h2 id="compare-title">Compare</h2>
          <button type="button" class="icon-button" aria-label="Close" @click=${() => dialog.close()}>
            ${icon("close")}
          </button>
        </div>
        <dl class="pair-of">
          <dt>Before</dt>
          <dd>${before.alt}</dd>
          <dt>After</dt>
          <dd>${after.alt}</dd>
        </dl>
        <button type="button" class="quiet" title="Exchange (X)" @click=${exchange}>${icon("same")}Exchange</button>
        <fieldset>
          <legend class="label">Compare with</legend>
          <div class="choices">${others.map(option)}</div>
        </fieldset>
      </div>
    `,
    dialog,
  );
}

function option(one) {
  return html`
    <label class="option" title=${one.alt}>
      <input
        type="radio"
        name="compared"
        .checked=${live(one.id === before.id)}
        aria-label=${one.alt.slice(0, 120)}
        @change=${() => choose(one)}
      />
      <span class="face"><img class=${one.ground} src=${pictureUrl(one.id, 128)} alt="" loading="lazy" /></span>
    </label>
  `;
}

function choose(one) {
  before = one;
  draw();
}
