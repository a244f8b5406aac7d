// The list of shortcuts, and the switch for those that are a single key.

import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { live } from "../../vendor/lit-html/directives/live.js";
import { SHORTCUTS } from "../shortcuts.js";
import { state, update, updatePrefs } from "../store.js";
import { icon } from "./icons.js";

const NAMES = { ArrowLeft: "←", ArrowRight: "→", Escape: "Esc", Enter: "↵", Delete: "Del" };

export function shortcutsButton() {
  return html`
    <button
      type="button"
      class="icon-button"
      aria-label="Keyboard shortcuts"
      title="Keyboard shortcuts (?)"
      @click=${() => update({ listed: true })}
    >
      ${icon("keys")}
    </button>
  `;
}

export function shortcutList() {
  return html`
    <dialog id="shortcuts" aria-labelledby="shortcuts-title" @close=${() => update({ listed: false })}>
      ${state.listed ? content() : nothing}
    </dialog>
  `;
}

function content() {
  return html`
    <div class="row between">
      <h2 id="shortcuts-title">Keyboard shortcuts</h2>
      <button
        type="button"
        class="icon-button"
        aria-label="Close"
        @click=${() => document.getElementById("shortcuts").close()}
      >
        ${icon("close")}
      </button>
    </div>
    <label class="check">
      <input
        type="checkbox"
        role="switch"
        .checked=${live(state.prefs.keys)}
        @change=${(event) => updatePrefs({ keys: event.target.checked })}
      />
      <span>Single keys work outside text fields</span>
    </label>
    ${Object.entries(SHORTCUTS).map(([place, rows]) => section(place, rows))}
  `;
}

function section(place, rows) {
  return html`
    <section>
      <h3>${place}</h3>
      <dl class="shortcuts">
        ${rows.map(
          ({ keys, does }) => html`
            <div>
              <dt>${keys.map((key, at) => [at ? " or " : "", pressed(key)])}</dt>
              <dd>${does}</dd>
            </div>
          `,
        )}
      </dl>
    </section>
  `;
}

const pressed = (key) => {
  const parts = key === "+" ? ["+"] : key.split("+");
  return parts.map((part) => html`<kbd>${NAMES[part] ?? part}</kbd>`);
};
