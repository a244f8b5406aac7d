// The outcome of an action: a note, or a problem with the service's own text.

import { Problem } from "./api.js";
import { update } from "./store.js";

const NOTE_MS = 6000;
let noteTimer = 0;

/** Show a note for NOTE_MS; screen readers read it. */
export function announce(note) {
  clearTimeout(noteTimer);
  update({ note });
  noteTimer = setTimeout(() => update({ note: "" }), NOTE_MS);
}

/** Run `work` and show a Problem with the service's own text. Returns null after a Problem. */
export async function attempt(work) {
  try {
    return await work();
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    if (problem.status === 401) update({ link: "locked", token: { detail: null, busy: false } });
    else update({ note: "", problem: { title: problem.title, detail: problem.detail } });
    return null;
  }
}

/** Run background `work`. A Problem is ignored: the next connection tries again. */
export async function quietly(work) {
  try {
    return await work();
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    return null;
  }
}
