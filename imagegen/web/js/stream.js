// Updates from the service: one EventSource. After each connection the page reads the whole state again.

import { Problem, get, serviceNow } from "./api.js";
import { previewHeard } from "./previews.js";
import { activeJobs, dropExpired, state, takeJobs, update } from "./store.js";
import { ENDED } from "./words.js";

const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 5_000;
const HIDDEN_MS = 10_000;
const TOUCHED_MS = 5 * 60_000;
export const JOBS_A_PAGE = 200;

let handlers = { jobEnded() {}, up() {}, say() {} };
let source = null;
let retryTimer = 0;
let hiddenTimer = 0;
let retryMs = FIRST_RETRY_MS;
let touchedAt = Date.now();
let saidPresent = false; // the presence that this stream reported when it opened

/** Connect now. Closes the previous connection. */
export async function connect() {
  stop();
  saidPresent = isPresent();
  const mine = (source = { close() {} }); // distinguishes this attempt from a later one
  try {
    update({ status: await get("api/status") }); // an EventSource does not give the reason of a refusal
  } catch (problem) {
    if (mine === source) refused(problem);
    return;
  }
  if (mine !== source) return;
  const stream = new EventSource(`api/events?presence=${saidPresent ? 1 : 0}`);
  source = stream;
  stream.addEventListener("open", () => stream === source && opened());
  stream.addEventListener("error", () => stream === source && lost());
  stream.addEventListener("status", (event) => update({ status: JSON.parse(event.data) }));
  stream.addEventListener("queue", (event) => update({ queue: JSON.parse(event.data).jobs }));
  stream.addEventListener("job", (event) => heard(JSON.parse(event.data)));
  stream.addEventListener("preview", (event) => previewHeard(JSON.parse(event.data)));
}

/** Read the state after the stream has opened, so that no change in between is missed. */
async function opened() {
  try {
    const [models, templates, recent] = await Promise.all([
      get("api/models"),
      get("api/templates"),
      get(`api/jobs?limit=${JOBS_A_PAGE}`),
    ]);
    const before = new Map([...state.jobs].map(([id, job]) => [id, job.status]));
    takeJobs(recent.items);
    for (const job of recent.items) {
      const was = before.get(job.job_id);
      if (ENDED.has(job.status) && was && !ENDED.has(was)) handlers.jobEnded(job);
    }
    const again = state.everUp && state.link !== "up";
    update({
      models: models.items,
      upscalers: models.upscalers,
      caps: models.caps,
      templates: templates.items,
      next: state.next ?? recent.next,
      link: "up",
      everUp: true,
      connections: state.connections + 1,
      outdated: state.outdated || (state.version !== undefined && state.version !== state.status.version),
      version: state.version ?? state.status.version,
    });
    retryMs = FIRST_RETRY_MS;
    if (again) handlers.say("Connected again.");
    handlers.up();
  } catch (problem) {
    refused(problem);
  }
}

function heard(job) {
  const was = state.jobs.get(job.job_id)?.status;
  takeJobs([job]);
  if (ENDED.has(job.status) && was !== job.status) handlers.jobEnded(job);
}

function refused(problem) {
  if (problem instanceof Problem && problem.status === 401) {
    stop();
    update({ link: "locked", token: { detail: null, busy: false } });
  } else if (problem instanceof Problem) {
    lost(problem.status ? problem.detail : null);
  } else {
    throw problem;
  }
}

function lost(why = null) {
  stop();
  const wait = retryMs * (0.75 + Math.random() / 2);
  retryMs = Math.min(LAST_RETRY_MS, retryMs * 2);
  update({ link: "down", why, retryAt: Date.now() + wait });
  retryTimer = setTimeout(connect, wait);
}

function stop() {
  clearTimeout(retryTimer);
  source?.close();
  source = null;
}

/** Whether the page is visible and was used lately. If so, the service keeps the model loaded a little longer. */
function isPresent() {
  return !document.hidden && Date.now() - touchedAt < TOUCHED_MS;
}

function touched() {
  touchedAt = Date.now();
  tellPresence();
}

/** Reconnect if the presence has changed, since a stream reports it only when it opens. */
function tellPresence() {
  if (state.link === "up" && !document.hidden && saidPresent !== isPresent()) connect();
}

/** Connect when the page becomes visible. Close the stream after HIDDEN_MS hidden, unless jobs are active. */
function visibility() {
  clearTimeout(hiddenTimer);
  if (!document.hidden) {
    touchedAt = Date.now();
    if (state.link !== "locked") connect();
    return;
  }
  hiddenTimer = setTimeout(() => (activeJobs().length ? connect() : stop()), HIDDEN_MS);
}

/** Connect and stay connected. Calls `jobEnded(job)`, `up()` after each connection, `say(text)` to show a note. */
export function startStream(given) {
  handlers = given;
  document.addEventListener("visibilitychange", visibility);
  for (const touch of ["pointerdown", "keydown", "wheel"]) addEventListener(touch, touched, { passive: true });
  addEventListener("online", () => state.link === "down" && connect());
  setInterval(() => {
    if (document.hidden) return;
    tellPresence();
    dropExpired(serviceNow());
    update();
  }, 1000);
  connect();
}
