// The prompts of earlier requests, in the prompt field: the arrow up in its first line, the arrow down in its last.

import { announce } from "./outcomes.js";
import { jobsByAge, keep, recall, updateDraft } from "./store.js";

const REMEMBERED = 50;
let at = -1; // which prompt is shown, the newest is 0; -1: the user's own text
let own = "";
let shown = "";

/** Remember a prompt that was submitted. */
export function rememberPrompt(prompt) {
  const others = recall("prompts", []).filter((one) => one !== prompt);
  keep("prompts", [prompt, ...others].slice(0, REMEMBERED));
  at = -1;
}

/** Show an earlier or a later prompt, if the key and the place of the cursor ask for it. Returns whether they do. */
export function historyKey(event) {
  const step = { ArrowUp: 1, ArrowDown: -1 }[event.key];
  const field = event.target;
  if (!step || event.shiftKey || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return false;
  if (field.selectionStart !== field.selectionEnd || !isAtEdge(field, step)) return false;
  if (at >= 0 && field.value !== shown) at = -1; // edited: it is the user's own text now
  if (step < 0 && at < 0) return false;
  const prompts = earlier(at < 0 ? field.value : own);
  if (at + step >= prompts.length) return false;
  event.preventDefault();
  if (at < 0) own = field.value;
  at += step;
  shown = at < 0 ? own : prompts[at];
  field.value = shown; // before the next render, because the next key may come earlier
  const cursor = step > 0 ? 0 : shown.length;
  field.setSelectionRange(cursor, cursor);
  updateDraft({ prompt: shown });
  announce(at < 0 ? "Your own text." : `Earlier prompt ${at + 1} of ${prompts.length}.`);
  return true;
}

/** The prompts of this browser and of the jobs that the page knows, without `current`. */
function earlier(current) {
  const jobs = jobsByAge().filter((job) => !job.draft && job.kind !== "upscale");
  const all = new Set([...recall("prompts", []), ...jobs.map((job) => job.prompt)]);
  all.delete(current.trim());
  return [...all].filter(Boolean);
}

/** Whether the cursor is in the first line as it is shown (step 1), or in the last one. */
function isAtEdge(field, step) {
  const { value, selectionStart } = field;
  const rest = step > 0 ? value.slice(0, selectionStart) : value.slice(selectionStart);
  if (rest.includes("\n")) return false;
  const style = getComputedStyle(field);
  const mirror = document.createElement("div");
  for (const name of ["font", "letterSpacing", "padding", "boxSizing"]) mirror.style[name] = style[name];
  Object.assign(mirror.style, { position: "absolute", visibility: "hidden", whiteSpace: "pre-wrap" });
  Object.assign(mirror.style, { overflowWrap: "break-word", width: `${field.clientWidth}px` });
  const marks = ["", value.slice(0, selectionStart), value].map((text) => {
    const mark = document.createElement("span");
    mark.textContent = "\u200b";
    const line = document.createElement("div");
    line.append(text, mark);
    mirror.append(line);
    return mark;
  });
  document.body.append(mirror);
  const [first, here, last] = marks.map((mark) => mark.offsetTop - mark.parentElement.offsetTop);
  mirror.remove();
  return step > 0 ? here <= first : here >= last;
}
