// Draw as you type: while the user types, the page submits drafts, each of which replaces the one before.
// A draft delays no other job: the service accepts it only if no job waits, and the next job cancels it.

import { Problem, request } from "./api.js";
import { openGaps, randomSeed, toRequest } from "./draft.js";
import { chosenModel, state, takeJobs, update, updatePrefs } from "./store.js";
import { withUsable } from "./usable.js";
import { ENDED } from "./words.js";

const PAUSE_MS = 400; // after the last key
const QUICK_S = 4; // a model that draws a usual picture in less is live by default
const LEASE_S = 20; // a draft whose page is gone ends by itself

let timer = 0;
let busy = false; // a request is on its way
let again = false; // the draft has changed meanwhile
let waiting = false; // for the queue to be empty
let drawn = ""; // the request of the newest draft, as text
let seed = randomSeed(); // of all drafts, until one is kept

/** Whether typing draws: the user's setting for this model, by default whether the model is quick. */
export function liveOn() {
  const model = chosenModel();
  if (!model) return false;
  return state.prefs.live?.[model.name] ?? (model.picture_s !== null && model.picture_s < QUICK_S);
}

export function setLive(on) {
  updatePrefs({ live: { ...state.prefs.live, [chosenModel().name]: on } });
  if (on) draftSoon();
  else endDraft();
}

/** Draw a draft after a pause. Called at each change of the form. */
export function draftSoon() {
  clearTimeout(timer);
  if (liveOn()) timer = setTimeout(draftNow, PAUSE_MS);
}

/** Submit a waiting draft once the queue is empty. Called whenever the page is rendered. */
export function draftWhenIdle() {
  if (waiting && !state.queue.length && !busy) {
    waiting = false;
    draftSoon();
  }
}

async function draftNow() {
  if (busy) {
    again = true;
    return;
  }
  const wanted = draftRequest();
  if (!wanted) return endDraft();
  if (JSON.stringify(wanted) === drawn) return;
  busy = true;
  try {
    await replaceDraft(wanted);
  } finally {
    busy = false;
  }
  if (again) {
    again = false;
    draftSoon();
  }
}

/** The form as a draft request; null if no draft may be drawn now. */
function draftRequest() {
  const ready = state.link === "up" && !document.hidden && !state.uploading.length && !state.sending;
  const { draft, templates } = state;
  if (!ready || !liveOn() || !draft.prompt.trim() || openGaps(draft.prompt, templates).length) return null;
  const { path, body } = toRequest(withUsable({ ...draft, n: 1 }));
  return { path, body: { seed, ...body, draft: true, preview: "auto", lease_s: LEASE_S } };
}

async function replaceDraft(wanted) {
  await cancelDraft();
  if (state.queue.some((id) => id !== state.live.job)) {
    waiting = true;
    return;
  }
  drawn = JSON.stringify(wanted);
  try {
    const job = await request("POST", wanted.path, { json: wanted.body });
    takeJobs([job]);
    update({ live: { ...state.live, job: job.job_id } });
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    if (problem.code === "busy" || problem.code === "queue_full") {
      waiting = true;
      drawn = "";
    } // another refusal is shown when the user draws it
  }
}

async function cancelDraft() {
  const job = state.jobs.get(state.live.job);
  if (!job || ENDED.has(job.status)) return;
  try {
    takeJobs([await request("DELETE", `api/jobs/${job.job_id}`)]);
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
  }
}

/** End drafting: the prompt is empty, the tab is hidden, Live is off, or a regular job is submitted. */
export function endDraft() {
  clearTimeout(timer);
  drawn = "";
  waiting = again = false;
  cancelDraft();
  if (state.live.job || state.live.done) update({ live: { job: null, done: null } });
}

/** Handle a draft's end. A draft that another job cancelled is submitted again once the queue is empty. */
export function draftEnded(job) {
  if (job.job_id !== state.live.job) return;
  if (job.status === "complete") update({ live: { job: null, done: job.job_id } });
  else if (job.status === "cancelled") waiting = drawn !== "";
  if (job.status !== "complete") drawn = "";
}

/** Turn the draft of exactly this form into a regular job; null if there is none. */
export async function keepDraft() {
  const id = state.live.job ?? state.live.done;
  const wanted = id && state.draft.n === 1 ? draftRequest() : null;
  if (!wanted || JSON.stringify(wanted) !== drawn) return null;
  try {
    const job = await request("DELETE", `api/jobs/${id}/draft`);
    if (job.draft) return null; // it was cancelled meanwhile
    forget();
    return job;
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    return null;
  }
}

/** The seed for a regular job while typing draws: that of the drafts, used once. */
export function takeSeed() {
  const taken = seed;
  endDraft();
  seed = randomSeed();
  return taken;
}

function forget() {
  clearTimeout(timer);
  drawn = "";
  seed = randomSeed();
  update({ live: { job: null, done: null } });
}

/** Draw no drafts for a hidden tab. */
document.addEventListener("visibilitychange", () => (document.hidden ? endDraft() : draftSoon()));
