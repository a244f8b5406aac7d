// Excluded by policy: read-only, in the exact words that the service sends to the engine.

import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { state } from "../store.js";

export function policy() {
  const shown = state.policy;
  if (!shown) return nothing;
  const inert = shown.policy.negative === "inert";
  return html`
    <details class="fold">
      <summary>
        Excluded by policy
        ${inert ? html`<span class="faint">${shown.model} ignores negative prompts</span>` : nothing}
      </summary>
      <p class="hint">${shown.effect}</p>
      <p class="label">Negative prompt${inert ? " (no effect here)" : ""}</p>
      <blockquote class=${inert ? "faint" : ""}>${shown.baseline_negative || "None."}</blockquote>
      <p class="label">Added to every prompt</p>
      <blockquote>${shown.directive || "None."}</blockquote>
      <p class="hint">Set by the operator (${shown.source}). It cannot be changed here.</p>
    </details>
  `;
}
