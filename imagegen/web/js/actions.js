// The user's actions. Views call them; they send requests to the service and change the state.

import { Problem, get, request, signIn } from "./api.js";
import { draftEnded, keepDraft, liveOn, takeSeed } from "./drafting.js";
import { rememberPrompt } from "./history.js";
import { openPainter } from "./lazy.js";
import { announce, attempt, quietly } from "./outcomes.js";
import { JOBS_A_PAGE, connect } from "./stream.js";
import { againRequest, draftOf, invalidField, openGaps, randomSeed, toRequest, upscaleRequest } from "./draft.js";
import { addPending, afterUpdate, chosenModel, keep, rememberMine, removePending } from "./store.js";
import { setCleared, show, state, takeJobs, update, updateDraft, updatePrefs } from "./store.js";
import { tellEnd } from "./telling.js";
import { withUsable } from "./usable.js";
import { BLANK, warningLines } from "./words.js";

// ---- drawing --------------------------------------------------------------------------------

export function draw() {
  if (state.sending || state.uploading.length || !state.draft.prompt.trim()) return;
  const wrong = invalidField(document.querySelector("form.compose"));
  if (wrong) return pointAt(wrong);
  const [gap] = openGaps(state.draft.prompt, state.templates);
  if (gap) return pointAtGap(gap);
  drawAsIs();
}

/** Set the form's size to the style's size for the chosen model. Not with a source, which has its own shape. */
export async function takeStyleSize({ name }) {
  const model = chosenModel();
  if (!model || state.draft.references.length) return;
  const path = `api/templates?model=${model.name}`;
  const templates = model.default ? state.templates : (await quietly(() => get(path)))?.items ?? [];
  const { width, height } = templates.find((one) => one.name === name) ?? {};
  if (width && chosenModel()?.name === model.name) updateDraft({ size: `${width}x${height}` });
}

/** Draw without a check for open gaps, since braces can be intended. A draft of exactly this form is kept instead. */
export async function drawAsIs() {
  setCleared(null);
  const live = liveOn();
  const kept = live ? await keepDraft() : null;
  if (kept) return keepShown(kept);
  const wanted = toRequest(withUsable(state.draft));
  submit(live ? { ...wanted, body: { seed: takeSeed(), ...wanted.body } } : wanted);
}

/** Show the picture of a draft that became a job of this page, now or once it is complete. */
function keepShown(job) {
  rememberMine(job.job_id);
  takeJobs([job]);
  if (job.status !== "complete") return;
  show({ job: job.job_id, index: 0 });
  announce("The picture is kept.");
}

/** Open the section of an invalid field, focus the field and show why its value is invalid. */
function pointAt({ field, title, detail }) {
  updatePrefs({ more: true });
  update({ note: "", problem: { title, detail } });
  afterUpdate(() => field.focus());
}

/** Select an unfilled gap of a style, since the model would draw its name. */
function pointAtGap(gap) {
  const detail = `Replace {${gap.name}} in the prompt: ${gap.description}`;
  update({ note: "", problem: { title: "The style has an open gap", detail, gap: true } });
  afterUpdate(() => selectGap(gap));
}

export function selectGap(gap) {
  const field = document.getElementById("prompt");
  field.focus();
  if (gap) field.setSelectionRange(gap.start, gap.end);
}

/** Submit the same picture with another seed. */
export function drawAgain(job) {
  submit(againRequest(job, randomSeed()));
}

const VARIATIONS = 4;

/** Submit the picture's own request again, for several pictures with other seeds. */
export function drawVariations(job, image) {
  const n = Math.min(VARIATIONS, state.caps?.max_n ?? 1);
  update({ viewer: null });
  submit({ path: "api/variations", body: { image: image.id, n } }, job.prompt);
}

/** Submit a failed job again, unchanged. */
export function retry(job) {
  submit(againRequest(job, job.params.seed));
}

/** Submit a request for a larger copy of a picture. */
export function enlarge(image, factor) {
  update({ viewer: null });
  submit(upscaleRequest(image, factor));
}

/** `prompt`: shown if the request is refused beside others. */
async function submit({ path, body }, prompt = body.prompt) {
  const whole = path === "api/upscale" ? body : { ...body, preview: "auto" };
  if (body.prompt) rememberPrompt(body.prompt);
  addPending({ key: randomKey(), at: Date.now(), path, body: whole, prompt });
  await sendAll();
}

/** Send the requests without an answer, the oldest first. Stops when the service does not answer. */
async function sendAll() {
  if (state.sending) return; // the loop below reaches the new one
  update({ sending: true, problem: null });
  const refused = [];
  try {
    while (state.pending.length && (await send(state.pending[0], refused)));
  } finally {
    update({ sending: false });
  }
  if (refused.length && !state.problem) update({ note: "", problem: refusal(refused) });
}

/** Send one request. Its idempotency key makes repeated sends one job. Returns false if it has to wait. */
async function send({ key, path, body, prompt }, refused) {
  try {
    const job = await request("POST", path, { json: body, headers: { "idempotency-key": key } });
    removePending(key);
    rememberMine(job.job_id);
    takeJobs([job]);
    announce(job.position > 0 ? `Queued, ${job.position} ahead.` : "Queued.");
    reveal("live");
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    if (problem.status === 401) {
      update({ link: "locked", token: { detail: null, busy: false } });
      return false;
    }
    if (problem.status === 0 || problem.code === "shutting_down") {
      waiting(refused);
      connect();
      return false;
    }
    removePending(key);
    refused.push({ prompt: prompt ?? body.prompt ?? "A larger copy", title: problem.title, detail: problem.detail });
  }
  return true;
}

function waiting(refused) {
  const many = state.pending.length;
  const what = many === 1 ? "This request is" : `${many} requests are`;
  const also = refused.length ? ` ${refusal(refused).detail}` : "";
  const detail = `The service does not answer. ${what} sent as soon as it does.${also}`;
  update({ problem: { title: "Not sent yet", detail, waiting: many } });
}

/** The problem to show: one refusal in the service's words, or several, each with its prompt. */
function refusal(refused) {
  if (refused.length === 1) return { title: refused[0].title, detail: refused[0].detail };
  const each = refused.map(({ prompt, detail }) => `“${prompt.slice(0, 40)}”: ${detail}`);
  return { title: `${refused.length} requests were refused`, detail: each.join(" ") };
}

/** Send the requests left from before a lost connection or a reload. */
export function resend() {
  if (state.pending.length) sendAll();
}

export function dropPending() {
  for (const { key } of state.pending) removePending(key);
  update({ problem: null });
}

export async function cancel(job) {
  const answer = await attempt(() => request("DELETE", `api/jobs/${job.job_id}`));
  if (answer) takeJobs([answer]);
}

/** Show the picture of an ended job if this page submitted it or shows none. */
export function onJobEnd(job) {
  tellEnd(job);
  if (job.status === "complete" && chosenModel()?.picture_s === null) learnSpeed();
  if (job.draft) return draftEnded(job);
  if (!state.mine.includes(job.job_id)) {
    if (!state.shown && job.images.length) show({ job: job.job_id, index: 0 });
    return;
  }
  if (job.status === "complete") {
    show({ job: job.job_id, index: 0 });
    const blank = job.warnings.find((one) => one.code === BLANK);
    const done = job.images.length > 1 ? `${job.images.length} pictures are done.` : "The picture is done.";
    announce(blank ? warningLines(blank).first : done);
  } else if (job.status === "failed") {
    show({ job: job.job_id, index: 0 });
    announce("The picture could not be drawn.");
  }
}

/** Read the models again after the first picture, which measured the model's speed. */
async function learnSpeed() {
  const models = await quietly(() => get("api/models"));
  if (models) update({ models: models.items });
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

function addReference({ id, width, height }) {
  const others = state.draft.references.filter((one) => one.id !== id);
  updateDraft({ references: [...others, { id, width, height }] });
}

export function removeReference(id) {
  updateDraft({ references: state.draft.references.filter((one) => one.id !== id) });
}

/** Start an edit from a picture of this page. */
export function editThis(image) {
  updateDraft({ references: [{ id: image.id, width: image.width, height: image.height }], size: null });
  update({ viewer: null });
  announce("The picture is the source now. Write what to change.");
  focusPrompt();
}

/** Start an edit of a picture with a mask on it. */
export function maskThis(image) {
  updateDraft({ references: [{ id: image.id, width: image.width, height: image.height }], size: null });
  update({ viewer: null });
  openPainter();
}

export function sameSettings(job, image) {
  updateDraft(draftOf(job, image?.seed));
  update({ viewer: null });
  announce("The form has the settings of this picture.");
  focusPrompt();
}

export function focusPrompt() {
  afterUpdate(() => document.getElementById("prompt")?.focus());
}

// ---- the list of pictures -------------------------------------------------------------------

/** Load the next page of older pictures. */
export async function loadOlder() {
  const older = await attempt(() => get(`api/jobs?limit=${JOBS_A_PAGE}&before=${state.next}`));
  if (!older) return;
  takeJobs(older.items);
  update({ next: older.next });
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
  update({ found: null, boards: null, selected: null });
  connect();
}
