// The mask painter: a dialog with the picture, the tools, and a rectangle by numbers for the keyboard.

import { html, nothing, render } from "../../vendor/lit-html/lit-html.js";
import { live } from "../../vendor/lit-html/directives/live.js";
import { Problem } from "../api.js";
import { maskOf } from "../draft.js";
import { draftSoon } from "../drafting.js";
import { announce } from "../outcomes.js";
import { shortcuts } from "../shortcuts.js";
import { state, updateDraft } from "../store.js";
import { icon } from "../views/icons.js";
import { Board } from "./board.js";
import { Mask } from "./mask.js";
import { keepUnfinished, png, source, storedLevels, unfinishedLevels, upload } from "./storage.js";

const TOOLS = [
  ["brush", "Brush"],
  ["eraser", "Eraser"],
  ["rectangle", "Rectangle"],
  ["move", "Move"],
];
const FEATHER_MAX = 0.1; // of the longer side
const PAN_PX = 40;
const KEEP_AFTER_MS = 300;

let dialog = null;
let board = null; // of the open painter
let of = null; // the id of the picture
let problem = "";
let busy = false;
let keepTimer = 0;

/** Open the painter for the first source picture, with its mask, if it has one. */
export async function open() {
  const [first] = state.draft.references;
  if (!first || dialog?.open) return;
  of = first.id;
  try {
    const { picture, width, height } = await source(of);
    const mask = maskOf(state.draft);
    const levels =
      unfinishedLevels(of, width * height) ?? (mask ? await storedLevels(mask.id, width, height) : undefined);
    show(picture, new Mask(width, height, levels));
  } catch {
    announce("The picture or its mask cannot be loaded. It may have expired: choose the picture again.");
  }
}

function show(picture, mask) {
  dialog ??= created();
  [problem, busy] = ["", false];
  render(html`<div class="paint"></div><div class="side"></div>`, dialog);
  const canvas = document.createElement("canvas");
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "img");
  canvas.addEventListener("keydown", panned);
  dialog.querySelector(".paint").append(canvas);
  dialog.showModal();
  board = new Board(canvas, picture, mask, changed);
  changed();
  canvas.focus();
}

function created() {
  const made = document.createElement("dialog");
  made.id = "painter";
  made.className = "full";
  made.setAttribute("aria-labelledby", "painter-title");
  made.addEventListener("keydown", keyed);
  made.addEventListener("keyup", (event) => event.key === " " && board && (board.spaceHeld = false));
  made.addEventListener("close", closed);
  document.body.append(made);
  return made;
}

/** Nothing painted is lost: it is there when the painter is opened again. */
function closed() {
  board?.close();
  board = null;
  render(nothing, dialog);
  document.querySelector("[data-mask]")?.focus();
}

/** Render the controls, and keep what is painted. */
function changed() {
  if (!board) return;
  const share = percent(board.mask.share());
  board.canvas.setAttribute("aria-label", `The picture, with the mask on it. ${share}`);
  render(controls(share), dialog.querySelector(".side"));
  clearTimeout(keepTimer);
  if (board.mask.canUndo || board.mask.canRedo) {
    const { mask } = board;
    keepTimer = setTimeout(() => keepUnfinished(of, mask.levels), KEEP_AFTER_MS);
  }
}

const percent = (share) => {
  if (!share) return "Nothing is painted yet.";
  return `${share < 0.01 ? "Less than 1" : Math.round(100 * share)} % of the picture may change.`;
};

// ---- controls -------------------------------------------------------------------------------

function controls(share) {
  const { mask } = board;
  const act = (label, key, run, disabled = false) =>
    html`<button type="button" class="quiet small" title="${label} (${key})" ?disabled=${disabled} @click=${run}>
      ${label}
    </button>`;
  return html`
    <div class="row between">
      <h2 id="painter-title">Paint a mask</h2>
      <button type="button" class="icon-button" aria-label="Close" @click=${() => dialog.close()}>
        ${icon("close")}
      </button>
    </div>
    <p class="hint">Paint what may change. The rest of the picture stays.</p>
    <fieldset class="tools">
      <legend class="sr">Tool</legend>
      ${TOOLS.map(
        ([name, label]) => html`
          <label class="option">
            <input
              type="radio"
              name="tool"
              value=${name}
              .checked=${live(board.tool === name)}
              @change=${() => choose(name)}
            />
            <span class="face">${icon(name)}<span>${label}</span></span>
          </label>
        `,
      )}
    </fieldset>
    ${slider("size", "Size", 1, board.sizeMax, board.size, (value) => board.setSize(value))}
    ${slider("feather", "Soft edge", 0, featherMax(), board.feather, feathered)}
    <div class="buttons">
      ${act("Undo", "Ctrl+Z", () => board.undo(), !mask.canUndo)}
      ${act("Redo", "Ctrl+Shift+Z", () => board.redo(), !mask.canRedo)}
      ${act("Invert", "I", () => board.change((one) => one.invert()))}
      ${act("Clear", "Delete", () => board.change((one) => one.clear()))}
    </div>
    <div class="buttons zoom">
      <button type="button" class="icon-button" aria-label="Zoom out" title="Zoom out (-)" @click=${() => zoom(-1)}>
        ${icon("less")}
      </button>
      <output>${Math.round(100 * board.zoom)} %</output>
      <button type="button" class="icon-button" aria-label="Zoom in" title="Zoom in (+)" @click=${() => zoom(1)}>
        ${icon("add")}
      </button>
      ${act("Whole picture", "0", () => board.fit())}
    </div>
    ${byNumbers()}
    <p class="hint" role="status">${share}</p>
    ${problem ? html`<p class="hint bad" role="alert">${problem}</p>` : nothing}
    <div class="row go">
      <button type="button" class="primary" ?disabled=${busy} @click=${use}>
        <span>${busy ? "Sending…" : "Use mask"}</span><kbd aria-hidden="true">Ctrl ↵</kbd>
      </button>
      ${maskOf(state.draft)
        ? html`<button type="button" class="quiet" @click=${removed}>Remove mask</button>`
        : nothing}
    </div>
  `;
}

const featherMax = () => Math.max(4, Math.round(FEATHER_MAX * Math.max(board.mask.width, board.mask.height)));

function slider(id, label, least, most, value, set) {
  return html`
    <div class="slider">
      <label class="label" for="painter-${id}">${label}</label>
      <input
        id="painter-${id}"
        type="range"
        min=${least}
        max=${most}
        .value=${live(String(value))}
        @input=${(event) => set(Number(event.target.value))}
      />
      <output for="painter-${id}">${value} px</output>
    </div>
  `;
}

function byNumbers() {
  const { width, height } = board.mask;
  const field = (name, label, least, most, value) => html`
    <div class="field">
      <label class="label" for="box-${name}">${label}</label>
      <input id="box-${name}" name=${name} type="number" inputmode="numeric" min=${least} max=${most} value=${value} />
    </div>
  `;
  return html`
    <details class="fold">
      <summary>Rectangle by numbers</summary>
      <form class="box" @submit=${boxed}>
        <p class="hint wide">In pixels. The picture is ${width} × ${height}.</p>
        ${field("left", "Left", 0, width - 1, 0)} ${field("top", "Top", 0, height - 1, 0)}
        ${field("width", "Width", 1, width, Math.round(width / 2))}
        ${field("height", "Height", 1, height, Math.round(height / 2))}
        <button class="quiet small" name="paint">Paint it</button>
        <button class="quiet small" name="erase">Erase it</button>
      </form>
    </details>
  `;
}

function boxed(event) {
  event.preventDefault();
  const { left, top, width, height } = event.target.elements;
  const sides = [left, top, width, height].map((one) => Number(one.value));
  board.change((mask) => mask.rectangle(...sides, event.submitter?.name === "erase"));
}

function choose(tool) {
  board.tool = tool;
  board.canvas.dataset.tool = tool;
  board.refresh();
}

function feathered(radius) {
  board.feather = radius;
  board.refresh();
}

const zoom = (steps) => board.zoomBy(1.25 ** steps);

// ---- keys -----------------------------------------------------------------------------------

const tool = (name) => () => choose(name);
const shortcut = shortcuts("While painting a mask", {
  brush: tool("brush"),
  eraser: tool("eraser"),
  rectangle: tool("rectangle"),
  move: tool("move"),
  smaller: () => board.resize(-1),
  larger: () => board.resize(1),
  undo: () => board.undo(),
  redo: () => board.redo(),
  invert: () => board.change((mask) => mask.invert()),
  clear: () => board.change((mask) => mask.clear()),
  closer: () => zoom(1),
  farther: () => zoom(-1),
  fit: () => board.fit(),
  use: () => use(),
});

function keyed(event) {
  if (!board) return;
  if (event.key === " " && event.target === board.canvas) {
    board.spaceHeld = true;
    event.preventDefault();
  } else shortcut(event);
}

function panned(event) {
  const way = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
  if (!way) return;
  board.pan(way[0] * PAN_PX, way[1] * PAN_PX);
  event.preventDefault();
}

// ---- the form -------------------------------------------------------------------------------

/** Send the mask and put it into the form. An empty one would let nothing change: it is refused here. */
async function use() {
  if (busy) return;
  const { mask } = board;
  const levels = mask.feathered(board.feather);
  const share = mask.share();
  problem = share ? "" : "Paint something first: nothing may change with an empty mask.";
  busy = Boolean(share);
  changed();
  if (!share) return;
  try {
    const id = await upload(await png(levels, mask.width, mask.height));
    taken({ id, of, share });
    announce(`The mask is set: ${percent(share).toLowerCase()}`);
  } catch (failure) {
    if (!(failure instanceof Problem)) throw failure;
    problem = failure.detail;
  } finally {
    busy = false;
    changed();
  }
}

function removed() {
  taken(null);
  announce("The mask is removed: the whole picture may change.");
}

function taken(mask) {
  clearTimeout(keepTimer);
  keepUnfinished(of, null);
  updateDraft({ mask });
  draftSoon();
  dialog.close();
}
