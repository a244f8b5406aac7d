// The selected picture: large, beside its source, with its actions.

import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { live } from "../../vendor/lit-html/directives/live.js";
import { drawAgain, drawVariations, editThis, enlarge, maskThis, retry, sameSettings } from "../actions.js";
import { pictureUrl, shownUrl } from "../api.js";
import { upscaleFactor } from "../draft.js";
import { copyPicture, copySettings, copyUrl } from "../clipboard.js";
import { openCompare } from "../lazy.js";
import { previewOf } from "../previews.js";
import { activeJobs, chosenModel, show, state, update, updatePrefs } from "../store.js";
import { BLANK, ENDED, clock, fileName, ground, settings, warningLines } from "../words.js";
import { divided } from "./divided.js";
import { formingPicture, lastPreview } from "./forming.js";
import { icon } from "./icons.js";
import { keepButtons, keptFields } from "./kept.js";

const SCROLLS_CHARS = 200; // a longer prompt may be scrolled, also by keys

export function result() {
  const draft = drafted();
  if (draft) return draft;
  const running = activeJobs().find((one) => one.status === "running" && previewOf(one));
  if (running && (state.mine.includes(running.job_id) || !state.shown)) return forming(running);
  const job = state.jobs.get(state.shown?.job);
  if (!job) return empty();
  if (job.status === "failed") return failed(job);
  const index = Math.min(state.shown.index, job.images.length - 1);
  const image = job.images[index];
  if (!image) return empty();
  return card(html`
    ${compared(job, image) ?? stage(job, large(job, image, index))} ${views(job)} ${job.images.length > 1 ? strip(job, index) : nothing}
    ${actions(job, image)} ${facts(job, image)}
  `);
}

const card = (content) => html`
  <section class="card result" aria-labelledby="result-title">
    <h2 id="result-title" class="sr" tabindex="-1">Result</h2>
    ${content}
  </section>
`;

/** A job's picture beside its sources, if it has any. */
const stage = (job, figure) => html`
  <div class="stage ${job.kind === "edit" ? "pair" : ""}">${sources(job)} ${figure}</div>
`;

/** An edit over its first source with a divider, if the user wants it so; else null. */
function compared(job, image) {
  if (job.kind !== "edit" || !state.prefs.divided) return null;
  const before = { src: pictureUrl(job.references[0], 1024), alt: "Source", ground: "" };
  const after = { id: image.id, src: shownUrl(image), alt: job.prompt, ground: ground(image) };
  return html`<div class="stage">${divided(before, after)}</div>`;
}

/** How an edit is shown: beside its source, or over it. */
function views(job) {
  if (job.kind !== "edit") return nothing;
  const view = (label, on) => html`
    <label class="option">
      <input
        type="radio"
        name="views"
        .checked=${live(Boolean(state.prefs.divided) === on)}
        @change=${() => updatePrefs({ divided: on })}
      />
      <span class="face">${label}</span>
    </label>
  `;
  return html`
    <fieldset class="views">
      <legend class="sr">How to show the source</legend>
      ${view("Side by side", false)} ${view("Slider", true)}
    </fieldset>
  `;
}

function large(job, image, index) {
  return html`
    <figure>
      <button
        type="button"
        class="picture"
        aria-label="Show in full screen"
        @click=${() => update({ viewer: { job: job.job_id, index } })}
      >
        ${lastPreview(index === job.images.length - 1 ? previewOf(job) : null, image)}
        <img
          class=${ground(image)}
          src=${shownUrl(image)}
          width=${image.width}
          height=${image.height}
          alt=${job.prompt}
          data-picture=${image.id}
        />
      </button>
      ${job.kind === "edit" ? html`<figcaption>Result</figcaption>` : nothing}
    </figure>
  `;
}

/** The running job's previews in the place of its picture. */
function forming(job) {
  const figure = html`
    <figure aria-busy="true">
      ${formingPicture(job, previewOf(job))}
      ${job.kind === "edit" ? html`<figcaption>Being drawn</figcaption>` : nothing}
    </figure>
  `;
  return card(html`${stage(job, figure)}<p class="said">${job.prompt}</p>`);
}

/** The draft: its previews while it is drawn, until the first of them the last complete draft. */
function drafted() {
  const now = state.jobs.get(state.live.job);
  const preview = previewOf(now);
  const done = state.jobs.get(state.live.done);
  const job = preview ? now : done;
  if (!job || (!preview && !job.images.length)) return null;
  const busy = now && !ENDED.has(now.status);
  const figure = html`
    <figure aria-busy=${busy ? "true" : "false"} data-draft=${job.job_id}>
      ${preview && !job.images.length ? formingPicture(job, preview) : draftPicture(job, preview)}
      <figcaption role="status">
        <span class="badge">Draft</span> Press Enter or ${job.kind === "edit" ? "Edit" : "Draw"} to keep it.
      </figcaption>
    </figure>
  `;
  return card(html`${stage(job, figure)}<p class="said">${job.prompt}</p>`);
}

function draftPicture(job, preview) {
  const [image] = job.images;
  return html`
    <div class="picture forming">
      ${lastPreview(preview, image)}
      <img
        class=${ground(image)}
        src=${pictureUrl(image.id)}
        width=${image.width}
        height=${image.height}
        alt=${job.prompt}
      />
    </div>
  `;
}

function sources(job) {
  if (job.kind !== "edit") return nothing;
  const many = job.references.length > 1;
  return html`
    <figure class="sources-of">
      <div class=${many ? "several" : "one"}>
        ${job.references.map(
          (id, index) => html`<img src=${pictureUrl(id, 768)} alt=${many ? `Source ${index + 1}` : "Source"} />`,
        )}
      </div>
      <figcaption>${many ? "Sources" : "Source"}</figcaption>
    </figure>
  `;
}

function strip(job, chosen) {
  return html`
    <div class="strip" role="group" aria-label="Pictures of this job">
      ${job.images.map(
        (image, index) => html`
          <button
            type="button"
            aria-pressed=${index === chosen}
            aria-label="Picture ${index + 1} of ${job.images.length}"
            @click=${() => show({ job: job.job_id, index })}
          >
            <img class=${ground(image)} src=${pictureUrl(image.id, 128)} alt="" />
          </button>
        `,
      )}
    </div>
  `;
}

/** The buttons below a picture, here and in the viewer. */
export function actions(job, image) {
  const act = (name, label, run) =>
    html`<button type="button" class="action" @click=${run}>${icon(name)}<span>${label}</span></button>`;
  const drawn = job.kind !== "upscale" && job.kind !== "upload";
  const factor = upscaleFactor(image, state.caps);
  return html`
    <div class="actions">
      <div class="on">
        ${act("edit", "Edit this", () => editThis(image))}
        ${chosenModel()?.capabilities.mask ? act("brush", "Paint a mask", () => maskThis(image)) : nothing}
        ${drawn ? act("again", "New seed", () => drawAgain(job)) : nothing}
        ${drawn ? act("vary", "Variations", () => drawVariations(job, image)) : nothing}
        ${drawn ? act("same", "Same settings", () => sameSettings(job, image)) : nothing}
        ${act("compare", "Compare", () => openCompare({ job, image }))}
        ${factor ? act("expand", `Upscale ×${factor}`, () => enlarge(image, factor)) : nothing}
      </div>
      <div>
        <a class="action" href=${pictureUrl(image.id)} download=${fileName(job, image)}>
          ${icon("save")}<span>Save</span>
        </a>
        ${act("copy", "Copy image", () => copyPicture(image))} ${act("link", "Copy URL", () => copyUrl(image))}
        ${act("text", "Copy settings", () => copySettings(job, image))} ${keepButtons(image)}
      </div>
    </div>
  `;
}

/** Prompt, settings and expiry of a picture, here and in the viewer. */
export function facts(job, image) {
  return html`
    ${job.warnings.filter((one) => one.code === BLANK).map(warning)}
    <p class="said" tabindex=${job.prompt.length > SCROLLS_CHARS ? 0 : nothing}>${job.prompt}</p>
    <dl class="facts">
      ${settings(job, image).map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}
      ${image.expires_at
        ? html`<div><dt>Gone at</dt><dd>${clock(Date.parse(image.expires_at))}</dd></div>`
        : nothing}
    </dl>
    ${keptFields(image)}
    ${job.warnings.filter((one) => one.code !== BLANK).map(warning)}
  `;
}

/** A warning's first line, with the details folded. */
function warning(one) {
  const { first, details } = warningLines(one);
  return html`
    <div class="hint warning ${one.code === BLANK ? "warn" : ""}">
      ${icon(one.code === BLANK ? "alert" : "info")}
      <div>
        ${first}
        ${details
          ? html`<details class="fold inner"><summary>Details</summary><p>${details}</p></details>`
          : nothing}
      </div>
    </div>
  `;
}

function failed(job) {
  return card(html`
    <div class="stage">
      <div class="blank bad">
        ${icon("alert")}
        <strong>This picture could not be ${job.kind === "upscale" ? "enlarged" : "drawn"}</strong>
        <p>${job.error?.detail ?? "The service gave no reason."}</p>
        <p class="said">${job.prompt}</p>
        <div class="actions">
          <div class="on">
            <button type="button" class="action" @click=${() => retry(job)}>
              ${icon("again")}<span>Try again</span>
            </button>
            ${job.kind === "upscale"
              ? nothing
              : html`<button type="button" class="action" @click=${() => sameSettings(job)}>
                  ${icon("same")}<span>Same settings</span>
                </button>`}
          </div>
        </div>
      </div>
    </div>
  `);
}

function empty() {
  const busy = activeJobs().length > 0;
  return card(html`
    <div class="stage">
      <div class="blank ${busy ? "busy" : ""}">
        ${icon("picture")}
        <strong>${busy ? "In progress" : "Your picture appears here"}</strong>
        <p>${busy ? "It is shown as soon as it is done." : "Write what to draw, or choose a style."}</p>
      </div>
    </div>
  `);
}
