// What a person can do. Actions talk to the service and change the state; views call them.

import { Problem, get, pictureUrl, request, signIn } from "./api.js";
import { JOBS_A_PAGE, connect } from "./stream.js";
import { againRequest, draftOf, randomSeed, toRequest } from "./draft.js";
import { afterUpdate, canLoad, chosenModel, keep, rememberMine, show, state } from "./store.js";
import { takeJobs, update, updateDraft } from "./store.js";
import { clock } from "./words.js";

const NOTE_MS = 6000;
const WARM_EVERY_MS = 30_000;
let noteTimer = 0;
let warmed = { name: "", at: 0 }; // the model that typing had loaded last

/** Say something once: shown for a while, and read by screen readers. */
export function announce(note) {
  clearTimeout(noteTimer);
  update({ note });
  noteTimer = setTimeout(() => update({ note: "" }), NOTE_MS);
}

/** Run `work`; what goes wrong is shown where the person is looking, in the service's words. */
async function attempt(work) {
  try {
    return await work();
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    if (problem.status === 401) update({ link: "locked", token: { detail: null, busy: false } });
    else update({ note: "", problem: { title: problem.title, detail: problem.detail } });
    return null;
  }
}

/** Run `work` that nobody asked for: if it fails, the next connection has another go. */
async function quietly(work) {
  try {
    return await work();
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    return null;
  }
}

// ---- drawing --------------------------------------------------------------------------------

export function draw() {
  if (state.sending || state.uploading.length || !state.draft.prompt.trim()) return;
  submit(toRequest(state.draft));
}

/** The same picture with another seed, at once. */
export function drawAgain(job) {
  submit(againRequest(job, randomSeed()));
}

/** A failed job once more, exactly as it was. */
export function retry(job) {
  submit(againRequest(job, job.params.seed));
}

async function submit({ path, body }) {
  const pending = { key: randomKey(), path, body };
  keep("pending", pending);
  update({ pending });
  await send();
}

/** Send what has not been answered; its key makes sure that it becomes one job, however often it is sent. */
async function send() {
  const { key, path, body } = state.pending;
  update({ sending: true, problem: null });
  try {
    const job = await request("POST", path, { json: body, headers: { "idempotency-key": key } });
    settled();
    rememberMine(job.job_id);
    takeJobs([job]);
    announce(job.position > 0 ? `Queued, ${job.position} ahead.` : "Queued.");
    reveal("live");
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    if (problem.status === 401) update({ link: "locked", token: { detail: null, busy: false } });
    else if (problem.status === 0 || problem.code === "shutting_down") {
      const detail = "The service does not answer. This will be sent as soon as it does.";
      update({ problem: { title: "Not sent yet", detail, waiting: true } });
      connect();
    } else {
      settled();
      update({ note: "", problem: { title: problem.title, detail: problem.detail } });
    }
  } finally {
    update({ sending: false });
  }
}

function settled() {
  keep("pending", null);
  update({ pending: null });
}

/** After a break or a reload: send what was asked for before it. */
export function resend() {
  if (state.pending && !state.sending) send();
}

export function dropPending() {
  settled();
  update({ problem: null });
}

export async function cancel(job) {
  const answer = await attempt(() => request("DELETE", `api/jobs/${job.job_id}`));
  if (answer) takeJobs([answer]);
}

/** A job has ended: those that were asked for here are shown. */
export function onJobEnd(job) {
  if (!state.mine.includes(job.job_id)) {
    if (!state.shown && job.images.length) show({ job: job.job_id, index: 0 });
    return;
  }
  if (job.status === "complete") {
    show({ job: job.job_id, index: 0 });
    announce(job.images.length > 1 ? `${job.images.length} pictures are done.` : "The picture is done.");
  } else if (job.status === "failed") {
    show({ job: job.job_id, index: 0 });
    announce("The picture could not be drawn.");
  }
}

function reveal(id) {
  if (matchMedia("(min-width: 60rem)").matches) return;
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  afterUpdate(() =>
    document.getElementById(id)?.scrollIntoView({ block: "start", behavior: calm ? "auto" : "smooth" }),
  );
}

function randomKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

// ---- references -----------------------------------------------------------------------------

export async function addFiles(files) {
  const images = [...files].filter((file) => file.type.startsWith("image/") || !file.type);
  if (!images.length) {
    update({ problem: { title: "Not a picture", detail: "Drop or choose picture files: PNG, JPEG or WebP." } });
    return;
  }
  for (const file of images) {
    const most = state.caps?.max_body_bytes ?? Infinity;
    if (file.size > most) {
      const detail = `${file.name} is larger than ${Math.floor(most / 1e6)} MB. Choose a smaller one.`;
      update({ problem: { title: "The picture is too large", detail } });
      continue;
    }
    const upload = { key: randomKey(), url: URL.createObjectURL(file) };
    update({ uploading: [...state.uploading, upload], problem: null });
    const headers = { "content-type": file.type || "application/octet-stream" };
    const stored = await attempt(() => request("POST", "api/images", { body: file, headers }));
    update({ uploading: state.uploading.filter((one) => one.key !== upload.key) });
    URL.revokeObjectURL(upload.url);
    if (stored) addReference(stored);
  }
}

export function addReference({ id, width, height }) {
  const others = state.draft.references.filter((one) => one.id !== id);
  updateDraft({ references: [...others, { id, width, height }] });
}

export function removeReference(id) {
  updateDraft({ references: state.draft.references.filter((one) => one.id !== id) });
}

/** Start an edit from a picture that is here. */
export function editThis(image) {
  updateDraft({ references: [{ id: image.id, width: image.width, height: image.height }], size: null });
  update({ viewer: null });
  announce("The picture is the source now: say what to change.");
  focusPrompt();
}

export function sameSettings(job, image) {
  updateDraft(draftOf(job, image?.seed));
  update({ viewer: null });
  announce("The form has the settings of this picture.");
  focusPrompt();
}

function focusPrompt() {
  afterUpdate(() => document.getElementById("prompt")?.focus());
}

// ---- results --------------------------------------------------------------------------------

export async function copyPicture(image) {
  try {
    const blob = fetch(pictureUrl(image.id)).then((answer) => answer.blob());
    await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
    announce("The picture is on the clipboard.");
  } catch {
    announce("This browser does not let the page copy pictures. Save it, or copy it with a right click.");
  }
}

export function copyUrl(image) {
  const url = new URL(pictureUrl(image.id), location.href).href;
  const until = image.expires_at ? ` It works until ${clock(Date.parse(image.expires_at))}.` : "";
  copyText(url, `The address is on the clipboard.${until}`);
}

export function copySettings(job, image) {
  const { n: _, ...params } = job.params;
  const all = { prompt: job.prompt, model: job.model, ...params, seed: image?.seed ?? params.seed };
  copyText(JSON.stringify(all, null, 2), "The settings are on the clipboard.");
}

async function copyText(text, done) {
  try {
    await navigator.clipboard.writeText(text);
    announce(done);
  } catch {
    announce(copyBySelection(text) ? done : "This browser does not let the page copy.");
  }
}

/** The old way, for pages that are not secure (plain http from another machine), where the clipboard's API is missing. */
function copyBySelection(text) {
  const before = document.activeElement;
  const field = document.createElement("textarea");
  field.value = text;
  (document.querySelector("dialog[open]") ?? document.body).append(field); // outside a dialog all is inert
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  before?.focus();
  return copied;
}

/** Older pictures than those that are here. */
export async function loadOlder() {
  const older = await attempt(() => get(`api/jobs?limit=${JOBS_A_PAGE}&before=${state.next}`));
  if (!older) return;
  takeJobs(older.items);
  update({ next: older.next });
}

// ---- the model ------------------------------------------------------------------------------

const askToWarm = (model) => request("POST", `api/warm?model=${encodeURIComponent(model.name)}`);

/** Load the chosen model. */
export async function warm() {
  const model = chosenModel();
  const status = model && (await attempt(() => askToWarm(model)));
  if (status) update({ status });
}

export async function unload() {
  const status = await attempt(() => request("POST", "api/unload"));
  if (status) update({ status });
}

/** Somebody types: load the chosen model meanwhile, where that is switched on. */
export function typed() {
  const model = chosenModel();
  const engine = state.status?.engine;
  if (!state.prefs.warm || !model || !engine || engine.state === "failed" || !canLoad(engine, model)) return;
  if (warmed.name === model.name && Date.now() - warmed.at < WARM_EVERY_MS) return;
  warmed = { name: model.name, at: Date.now() };
  quietly(() => askToWarm(model));
}

let policyFor = "";

/** The policy as it applies to the chosen model; asked for anew when that changes. */
export async function loadPolicy() {
  const model = chosenModel();
  if (!model || state.link !== "up") return;
  const wanted = `${model.name} ${state.connections}`; // a restart may have changed it
  if (policyFor === wanted) return;
  policyFor = wanted;
  const policy = await quietly(() => get(`api/policy?model=${encodeURIComponent(model.name)}`));
  if (policy && policyFor === wanted) update({ policy });
}

// ---- the token ------------------------------------------------------------------------------

export async function giveToken(token) {
  update({ token: { detail: null, busy: true } });
  try {
    const name = await signIn(token);
    keep("name", name);
    update({ token: null, name });
    connect();
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    update({ token: { detail: problem.detail, busy: false } });
  }
}

export async function signOut() {
  await attempt(() => request("DELETE", "api/session"));
  keep("name", null);
  update({ name: null, jobs: new Map(), queue: [], shown: null, viewer: null, revision: state.revision + 1 });
  connect();
}
