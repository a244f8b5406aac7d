// The running and the queued jobs in order, each with its position, a progress bar and a cancel button.

import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { repeat } from "../../vendor/lit-html/directives/repeat.js";
import { cancel } from "../actions.js";
import { serviceNow } from "../api.js";
import { previewOf } from "../previews.js";
import { activeJobs, state, updatePrefs } from "../store.js";
import { offersNotification, setNotify } from "../telling.js";
import { doing, duration, fraction } from "../words.js";
import { formingThumb } from "./forming.js";
import { icon } from "./icons.js";

const SHOWN = 4;
const SETTLE_MS = 700; // longer than a double click
let shownIds = [];
let movedAt = -Infinity;

export function liveJobs() {
  const jobs = activeJobs();
  noteMoves(jobs.slice(0, SHOWN).map((job) => job.job_id));
  return html`
    <section id="live" class="card live" aria-labelledby="live-title" ?hidden=${!jobs.length}>
      <h2 id="live-title" class="label">${jobs.length === 1 ? "In progress" : `In progress, ${jobs.length} jobs`}</h2>
      <ul @keydown=${heldDown}>
        ${repeat(jobs.slice(0, SHOWN), (job) => job.job_id, row)}
      </ul>
      ${jobs.length > SHOWN ? html`<p class="hint">and ${jobs.length - SHOWN} more behind these</p>` : nothing}
      ${offer()}
    </section>
  `;
}

/** Offered at the first job that takes long, until the user has decided. */
function offer() {
  if (!offersNotification()) return nothing;
  return html`
    <div class="row offer">
      <p class="hint">This takes a while.</p>
      <button type="button" class="quiet small" @click=${() => setNotify(true)}>Notify me when it is done</button>
      <button type="button" class="icon-button" aria-label="No notifications" @click=${() => updatePrefs({ notify: false })}>
        ${icon("close")}
      </button>
    </div>
  `;
}

function row(job) {
  const running = job.status === "running";
  const place = state.queue.indexOf(job.job_id);
  const position = place < 0 ? job.position : place;
  return html`
    <li class="job" data-job=${job.job_id}>
      ${formingThumb(running ? previewOf(job) : null)}
      <div>
        <p class="prompt" title=${job.prompt}>${job.prompt}</p>
        ${running ? bar(job) : nothing}
        <p class="hint">${doing(job, position)}${times(job, running)}</p>
      </div>
      <button
        type="button"
        class="icon-button"
        title="Cancel"
        aria-label="Cancel: ${job.prompt.slice(0, 80)}"
        @click=${() => cancelClicked(job)}
      >
        ${icon("close")}
      </button>
    </li>
  `;
}

/** Note when rows move: after a row leaves, the next row's cancel button is under the pointer or the focus. */
function noteMoves(ids) {
  if (shownIds.some((id) => !ids.includes(id))) movedAt = performance.now();
  shownIds = ids;
}

function cancelClicked(job) {
  if (performance.now() - movedAt > SETTLE_MS) cancel(job);
}

/** Ignore key repeats, so that a key held down cancels one job, not all. */
function heldDown(event) {
  if (event.repeat && ["Enter", " "].includes(event.key)) event.preventDefault();
}

/** The index of the row with the focus, or -1. */
export const focusedRow = () => rows().findIndex((one) => one.contains(document.activeElement));

/** Focus the row now at `place`, or the result, after the row with the focus has left. */
export function focusRow(place) {
  const left = rows();
  const near = left[Math.min(place, left.length - 1)];
  (near?.querySelector("button") ?? document.getElementById("result-title")).focus();
}

const rows = () => [...document.querySelectorAll("#live [data-job]")];

function bar(job) {
  const full = fraction(job);
  const label = `Progress of ${job.prompt.slice(0, 80)}`;
  return full === null
    ? html`<progress aria-label=${label}></progress>`
    : html`<progress aria-label=${label} max="1" value=${full}></progress>`;
}

/** " · ≈ 12 s left · 5 s so far", counted from the last snapshot. */
function times(job, running) {
  const parts = [];
  if (job.eta_s !== null) {
    const left = job.eta_s - (Date.now() - job.receivedAt) / 1000;
    parts.push(left >= 1 ? `≈ ${duration(left)} ${running ? "left" : "to go"}` : "nearly done");
  }
  if (running && job.started_at) parts.push(`${duration((serviceNow() - Date.parse(job.started_at)) / 1000)} so far`);
  if (job.attempts > 1) parts.push(`attempt ${job.attempts}`);
  return parts.length ? html`<span class="faint"> · ${parts.join(" · ")}</span>` : nothing;
}
