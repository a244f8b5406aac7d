// What a picture's file says: who made it, whether it was changed since, and settings to draw with.

import { html, nothing, render } from "../../vendor/lit-html/lit-html.js";
import { focusPrompt } from "../actions.js";
import { Problem, request } from "../api.js";
import { announce, quietly } from "../outcomes.js";
import { updateDraft } from "../store.js";
import { icon } from "../views/icons.js";

const VERDICTS = {
  intact: "Intact: the file has not been changed since it was signed.",
  changed: "Changed: the file is not the one that was signed.",
  unreadable: "Unreadable: it has a manifest that cannot be judged.",
  none: "No manifest: nobody says where this file comes from.",
};
const MARKS = {
  trainedAlgorithmicMedia: "made by AI",
  compositeWithTrainedAlgorithmicMedia: "made by AI from other pictures",
  algorithmicallyEnhanced: "enlarged by a program",
};
const PROGRAMS = { imagegen: "imagegen", automatic1111: "AUTOMATIC1111", comfyui: "ComfyUI", invokeai: "InvokeAI" };
const FIELDS = {
  prompt: "Prompt",
  negative: "Negative prompt",
  model: "Model",
  seed: "Seed",
  steps: "Steps",
  cfg_scale: "CFG scale",
  sampler: "Sampler",
};

let dialog = null;
let shown = null; // {name, busy, problem, origin, settings}

export function open() {
  dialog ??= created();
  shown = null;
  draw();
  dialog.showModal();
}

function created() {
  const made = document.createElement("dialog");
  made.id = "reading";
  made.setAttribute("aria-labelledby", "reading-title");
  made.addEventListener("dragover", (event) => event.preventDefault());
  made.addEventListener("drop", (event) => {
    event.preventDefault();
    event.stopPropagation();
    read(event.dataTransfer.files[0]);
  });
  document.body.append(made);
  return made;
}

/** Read the file that was chosen. The field is emptied, so that the same file can be chosen again. */
function chosen({ target }) {
  const [file] = target.files;
  target.value = "";
  read(file);
}

async function read(file) {
  if (!file) return;
  const asked = { name: file.name, busy: true };
  shown = asked;
  draw();
  try {
    const send = (path) => request("POST", path, { body: file, headers: { "content-type": "application/octet-stream" } });
    asked.origin = await send("api/verify");
    if (file.type === "image/png") asked.settings = await quietly(() => send("api/images/inspect")); // may be damaged
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    asked.problem = problem.detail;
  }
  asked.busy = false;
  if (shown === asked) draw();
}

function draw() {
  render(
    html`
      <div class="row between">
        <h2 id="reading-title">What a picture's file says</h2>
        <button type="button" class="icon-button" aria-label="Close" @click=${() => dialog.close()}>
          ${icon("close")}
        </button>
      </div>
      <p class="hint">Choose a picture or drop it here. It is read and not stored.</p>
      <input
        type="file"
        accept="image/*"
        aria-label="Picture to read"
        @change=${chosen}
      />
      ${shown ? html`<p class="name">${shown.name}</p>` : nothing}
      <div class="findings" aria-live="polite">${shown ? findings(shown) : nothing}</div>
    `,
    dialog,
  );
}

function findings({ busy, problem, origin, settings }) {
  if (problem) return html`<p class="hint bad" role="alert">${problem}</p>`;
  if (busy) return html`<p>Reading …</p>`;
  return html`
    <h3>Where it comes from</h3>
    <p>${VERDICTS[origin.verdict]}</p>
    ${table(about(origin))}
    ${settings?.program ? made(settings) : nothing}
  `;
}

/** Rows of [term, text] about the file's origin. */
function about(origin) {
  const signer = origin.by_this_service ? "this service" : `${origin.signer}; no authority vouches for the name`;
  const mark = MARKS[origin.source_type] ?? origin.source_type;
  return [
    ["Signed by", origin.verdict === "intact" ? signer : null],
    ["Program", origin.generator],
    ["Mark", mark && origin.verdict === "none" ? `${mark}; in XMP, which anyone can change` : mark],
    ...origin.sources.map((source) => [source.relation === "parent" ? "Made from" : "Looked at", sourceText(source)]),
    ...origin.problems.map((problem) => ["Problem", problem]),
  ];
}

function sourceText({ by_this_service: ours, signed, drawing }) {
  const whose = ours ? "a picture of this service" : signed ? "a signed picture" : "a picture without a manifest";
  return drawing.prompt ? `${whose}: ${drawing.prompt}` : whose;
}

function made({ program, settings, request: usable, warnings }) {
  return html`
    <h3>How it was made</h3>
    ${table([["By", PROGRAMS[program]], ...Object.entries(FIELDS).map(([name, term]) => [term, settings[name]])])}
    ${warnings.map((warning) => html`<p class="hint">${warning.detail}</p>`)}
    <div class="row">
      <button type="button" class="primary" @click=${() => use(usable, "settings")}>Reuse settings</button>
      ${usable.prompt
        ? html`<button type="button" class="quiet" @click=${() => use(pick(usable, "prompt"), "prompt")}>
            Only the prompt
          </button>`
        : nothing}
      ${usable.seed === undefined
        ? nothing
        : html`<button type="button" class="quiet" @click=${() => use(pick(usable, "seed"), "seed")}>
            Only the seed
          </button>`}
    </div>
  `;
}

const table = (rows) => html`
  <dl class="pair-of">
    ${rows
      .filter(([, text]) => text !== null && text !== undefined && text !== "")
      .map(([term, text]) => html`<dt>${term}</dt><dd>${text}</dd>`)}
  </dl>
`;

const pick = (usable, name) => ({ [name]: usable[name] });

/** Take fields of a request into the form. */
function use(usable, what) {
  const { width, height, seed, loras, background, speed, ...others } = usable;
  const texts = Object.fromEntries(Object.entries(others).map(([name, value]) => [name, String(value)]));
  updateDraft({
    ...texts,
    ...(width && height ? { size: `${width}x${height}` } : {}),
    ...(seed === undefined ? {} : { seed: String(seed), locked: true }),
    ...(loras ? { loras } : {}),
    ...(background ? { background: background === "transparent" ? "transparent" : "" } : {}),
    ...(speed ? { speed: speed === "fast" ? "fast" : "" } : {}),
  });
  dialog.close();
  announce(`The form has the ${what} of this picture.`);
  focusPrompt();
}
