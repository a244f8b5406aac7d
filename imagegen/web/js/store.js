// The page's state, and the parts of it that survive a reload. Views read it, actions change it.

import { ENDED } from "./words.js";

const KEPT = "imagegen.";
const PENDING = "pending.";
const MINE_MAX = 200;

const EMPTY_DRAFT = {
  prompt: "",
  negative: "",
  size: null, // "640x480", or null: the model's own (an edit: the source's)
  steps: "",
  cfg_scale: "",
  sampler: "",
  seed: "",
  locked: false, // whether `seed` is used again for every picture
  n: 1,
  speed: "", // empty: quality
  loras: [], // {name, strength}
  background: "", // empty: opaque
  model: "", // empty: the service's default
  fit: "contain",
  strength: "", // of an edit, 0 to 1; empty: the model decides
  references: [], // {id, width, height}, stored by the service
  mask: null, // {id, of, share} of what may change in the reference `of`, stored by the service
};

export const state = {
  link: "connecting", // connecting, up, down, locked
  everUp: false,
  retryAt: 0,
  why: null, // the reason of the refused connection
  connections: 0, // how often the stream has opened
  version: undefined, // of the service that this page came from
  status: null,
  models: [],
  upscalers: [],
  caps: null,
  templates: [],
  loras: null, // those of the service; null: not known yet
  policy: null,
  jobs: new Map(),
  queue: [], // ids of what is not done, in order
  next: null, // where older jobs begin
  draft: { ...EMPTY_DRAFT, ...(recall("draft", null, sessionStorage) ?? recall("draft", {})) },
  cleared: recall("cleared", null, sessionStorage), // the draft that Clear removed
  replaced: null, // the prompt that a style took the place of
  uploading: [], // {key, url} of pictures on their way
  mine: recall("mine", []),
  shown: recall("shown", null), // {job, index}
  viewer: null, // {job, index} in full screen
  preview: null, // {job, image, step, steps, src, before} of the running job; `before`: the URL of the previous one
  live: { job: null, done: null }, // the draft that is being drawn, and the last one that is complete, by id
  pending: recallPending(), // {key, at, path, body} of every request without an answer, the oldest first
  sending: false,
  problem: null, // why the last thing asked for did not happen
  listed: false, // the list of shortcuts is open
  manager: null, // {busy, asked, accepted, problem} while the list of models is open
  token: null, // {detail, busy} while a token is asked for
  name: recall("name", null), // of the token behind the session
  prefs: { warm: false, more: false, keys: true, divided: false, sound: false, ...recall("prefs", {}) },
  find: { q: "", kept: false, board: "", kind: "", model: "", days: "", size: "" }, // what the gallery looks for
  found: null, // {items, next} while it looks for something
  boards: null, // {items, kept, max}
  selected: null, // a Set of ids while pictures are selected
  hidden: new Set(), // ids of pictures that the user has deleted
  gone: null, // {ids, jobs} of those whose deletion can still be undone
  note: "", // the latest news, spoken and shown for a while
  outdated: false, // the service has another version than this page
  dragging: false,
  revision: 0, // grows with the list of jobs
};

let listener = () => {};
let timer = 0;
let after = [];

/** Change the state, as in `update({link: "up"})`, and schedule a render. */
export function update(changes = {}) {
  Object.assign(state, changes);
  schedule();
}

export function onUpdate(callback) {
  listener = callback;
  schedule();
}

/** Run `callback` once, after the next render. */
export function afterUpdate(callback) {
  after.push(callback);
  schedule();
}

/** Not requestAnimationFrame: it stops in a hidden tab, whose title must still be updated. */
function schedule() {
  if (timer) return;
  timer = setTimeout(() => {
    timer = 0;
    listener();
    const callbacks = after;
    after = [];
    for (const callback of callbacks) callback();
  });
}

export function updateDraft(changes) {
  state.draft = { ...state.draft, ...changes };
  keepDraft("draft", state.draft);
  update();
}

/** Clear the form. Its content is kept for Undo until the next picture is submitted. */
export function clearDraft() {
  const empty = { ...EMPTY_DRAFT, model: state.draft.model };
  if (JSON.stringify(empty) === JSON.stringify(state.draft)) return;
  setCleared(state.draft);
  updateDraft(empty);
}

/** Undo Clear. Text typed since then can be restored the same way. */
export function undoClear() {
  const { cleared } = state;
  setCleared(null);
  if (state.draft.prompt.trim()) setCleared(state.draft);
  updateDraft(cleared);
}

export function setCleared(draft) {
  keep("cleared", draft, sessionStorage);
  update({ cleared: draft });
}

/** Store the draft of this tab. A new tab starts from the latest draft of any tab. */
function keepDraft(name, draft) {
  keep(name, draft, sessionStorage);
  keep(name, draft);
}

/** Store a request without an answer. Each has its own entry, so that tabs do not overwrite each other's. */
export function addPending(pending) {
  keep(PENDING + pending.key, pending);
  update({ pending: [...state.pending, pending] });
}

export function removePending(key) {
  keep(PENDING + key, null);
  update({ pending: state.pending.filter((one) => one.key !== key) });
}

function recallPending() {
  try {
    const names = Object.keys(localStorage).filter((name) => name.startsWith(KEPT + PENDING));
    return names.map((name) => JSON.parse(localStorage.getItem(name))).sort((a, b) => a.at - b.at);
  } catch {
    return [];
  }
}

/** Remove a request that another tab has sent or dropped. */
addEventListener("storage", ({ key, newValue }) => {
  if (!key?.startsWith(KEPT + PENDING) || newValue !== null) return;
  update({ pending: state.pending.filter((one) => KEPT + PENDING + one.key !== key) });
});

export function updatePrefs(changes) {
  state.prefs = { ...state.prefs, ...changes };
  keep("prefs", state.prefs);
  update();
}

/** Store snapshots of jobs. An older revision does not replace a newer one. */
export function takeJobs(jobs) {
  for (const job of jobs) {
    const known = state.jobs.get(job.job_id);
    if (known && known.revision > job.revision) continue;
    const images = job.images.filter((one) => !state.hidden.has(one.id));
    const prompt = job.prompt || (job.kind === "upscale" ? "A larger copy" : ""); // of an upload
    state.jobs.set(job.job_id, { ...job, images, prompt, receivedAt: Date.now() });
  }
  state.revision += 1;
  update();
}

/** Remove the jobs and pictures that have expired in the service. */
export function dropExpired(nowMs) {
  const isDue = ({ expires_at: at }) => Boolean(at) && Date.parse(at) <= nowMs;
  for (const [id, job] of state.jobs) {
    if (!isDue(job) && job.images.some(isDue)) {
      state.jobs.set(id, { ...job, images: job.images.filter((one) => !isDue(one)) });
      state.revision += 1;
    }
    if (isDue(job)) {
      state.jobs.delete(id);
      state.revision += 1;
      if (state.shown?.job === id) show(null);
      if (state.viewer?.job === id) state.viewer = null;
    }
  }
}

export function show(shown) {
  keep("shown", shown);
  update({ shown });
}

export function rememberMine(id) {
  state.mine = [id, ...state.mine.filter((one) => one !== id)].slice(0, MINE_MAX);
  keep("mine", state.mine);
}

/** All known jobs, the newest first. */
export function jobsByAge() {
  return [...state.jobs.values()].sort((a, b) => b.created_at.localeCompare(a.created_at));
}

/** The jobs that have not ended, in the queue's order, without drafts. */
export function activeJobs() {
  const place = (job) => {
    const index = state.queue.indexOf(job.job_id);
    return index < 0 ? Infinity : index;
  };
  return [...state.jobs.values()]
    .filter((job) => !ENDED.has(job.status) && !job.draft)
    .sort((a, b) => place(a) - place(b) || a.created_at.localeCompare(b.created_at));
}

/** All pictures as {job, image, index}, the newest job first, without drafts. */
export function pictures() {
  const kept = jobsByAge().filter((job) => !job.draft);
  return kept.flatMap((job) => job.images.map((image, index) => ({ job, image, index })));
}

export const defaultModel = () => state.models.find((model) => model.default) ?? null;

/** The model of the next picture. */
export function chosenModel() {
  return state.models.find((model) => model.name === state.draft.model) ?? defaultModel();
}

/** Whether `model` can be loaded by hand: no model is loaded, or another one is idle. */
export function canLoad(engine, model) {
  if (!model) return false;
  return ["cold", "failed"].includes(engine.state) || (engine.state === "ready" && engine.model !== model.name);
}

export function keep(name, value, storage = localStorage) {
  try {
    if (value === null) storage.removeItem(KEPT + name);
    else storage.setItem(KEPT + name, JSON.stringify(value));
  } catch {
    // No storage (private mode, or full): the page works, and a reload starts empty.
  }
}

export function recall(name, fallback, storage = localStorage) {
  try {
    return JSON.parse(storage.getItem(KEPT + name)) ?? fallback;
  } catch {
    return fallback;
  }
}
