// Full screen: one picture, its facts, and navigation by arrow keys, buttons or a swipe.

import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { shownUrl } from "../api.js";
import { listed, openPicture } from "../finding.js";
import { shortcuts } from "../shortcuts.js";
import { afterUpdate, pictures, state, update } from "../store.js";
import { ground } from "../words.js";
import { focusTile } from "./gallery.js";
import { icon } from "./icons.js";
import { actions, facts } from "./result.js";

const SWIPE_PX = 50;
let touchX = null;

/** All pictures, and the index of the one shown. */
function place() {
  if (!state.viewer) return { all: [], at: -1 };
  const { job, index, image } = state.viewer;
  const isShown = (one) => (image ? one.image.id === image : one.job.job_id === job && one.index === index);
  const all = listed().some(isShown) ? listed() : pictures();
  return { all, at: all.findIndex(isShown) };
}

export function viewer() {
  const { all, at } = place();
  const shown = all[at];
  return html`
    <dialog
      id="viewer"
      class="full"
      aria-label="Picture in full screen"
      @close=${closed}
      @keydown=${keyed}
      @touchstart=${(event) => (touchX = event.touches.length === 1 ? event.touches[0].clientX : null)}
      @touchend=${swiped}
    >
      ${shown ? content(shown, all, at) : nothing}
    </dialog>
  `;
}

function content({ job, image }, all, at) {
  return html`
    <div class="canvas">
      <img
        class=${ground(image)}
        src=${shownUrl(image)}
        width=${image.width}
        height=${image.height}
        alt=${job.prompt}
      />
      <button
        type="button"
        class="icon-button turn previous"
        aria-label="Newer picture"
        ?disabled=${at <= 0}
        @click=${() => turn(-1)}
      >
        ${icon("left")}
      </button>
      <button
        type="button"
        class="icon-button turn next"
        aria-label="Older picture"
        ?disabled=${at >= all.length - 1}
        @click=${() => turn(1)}
      >
        ${icon("right")}
      </button>
    </div>
    <div class="side">
      <div class="row between">
        <p class="hint">${at + 1} of ${all.length}</p>
        <button type="button" class="icon-button" aria-label="Close" @click=${close}>${icon("close")}</button>
      </div>
      ${facts(job, image)} ${actions(job, image)}
    </div>
  `;
}

/** Move to a neighbour of the current picture, also before the next render. */
function turn(step) {
  const { all, at } = place();
  const target = all[at + step];
  if (target) openPicture(target);
}

const close = () => document.getElementById("viewer").close();

/** Return the focus to the picture, however the viewer was closed, also by Esc. */
function closed() {
  const { all, at } = place();
  update({ viewer: null });
  if (all[at]) afterUpdate(() => focusTile(all[at].image.id));
}

const keyed = shortcuts("In full screen", { newer: () => turn(-1), older: () => turn(1) });

function swiped(event) {
  if (touchX === null) return;
  const moved = event.changedTouches[0].clientX - touchX;
  touchX = null;
  if (moved > SWIPE_PX) turn(-1);
  else if (moved < -SWIPE_PX) turn(1);
}
