// Two pictures in one place with a divider between them: a range input, for pointer, touch and keyboard.

import { html } from "../../vendor/lit-html/lit-html.js";

/** `before` and `after`: {id, src, alt, ground}. The left part shows `before`. */
export function divided(before, after) {
  return html`
    <div class="divided">
      <img class="before ${before.ground}" src=${before.src} alt=${before.alt} />
      <img class="after ${after.ground}" src=${after.src} alt=${after.alt} data-picture=${after.id} />
      <input
        type="range"
        min="0"
        max="100"
        step="any"
        value="50"
        aria-label="Divider: before on the left, after on the right"
        aria-valuetext="50 % before"
        @input=${moved}
        @keydown=${keyed}
      />
      <span class="divider" aria-hidden="true"></span>
      <span class="name left" aria-hidden="true">Before</span><span class="name right" aria-hidden="true">After</span>
    </div>
  `;
}

function moved({ target }) {
  target.parentElement.style.setProperty("--at", `${target.value}%`);
  target.setAttribute("aria-valuetext", `${Math.round(target.value)} % before`);
}

const STEPS = { ArrowLeft: -2, ArrowDown: -2, ArrowRight: 2, ArrowUp: 2, PageDown: -10, PageUp: 10 };

/** Steps of a size of our own: with step="any", browsers differ. */
function keyed(event) {
  if (!(event.key in STEPS) || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  event.target.value = Number(event.target.value) + STEPS[event.key];
  moved(event);
}
