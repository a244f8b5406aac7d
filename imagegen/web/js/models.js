// Fetches and removes models. Each takes two steps: show the plan, then act with the user's consent.

import { Problem, get, request } from "./api.js";
import { announce, quietly } from "./outcomes.js";
import { afterUpdate, state, update } from "./store.js";

const IDLE = { busy: null, asked: null, accepted: false, problem: null };
let fetched = null; // the model of the last known download
let seen = null; // the last status that was read

const path = (name, what) => `api/models/${encodeURIComponent(name)}/${what}`;

export function openModels() {
  update({ manager: IDLE });
  reload();
}

export const closeModels = () => update({ manager: null });

/** Change the manager's state, unless it was closed meanwhile. */
export function updateManager(changes) {
  if (state.manager) update({ manager: { ...state.manager, ...changes } });
}

async function reload() {
  const models = await quietly(() => get("api/models"));
  if (models) update({ models: models.items, upscalers: models.upscalers });
}

/** Read the models again when a download has begun or ended: at most once for each status of the service. */
export function followFetch() {
  if (state.status === seen) return;
  seen = state.status;
  const now = seen?.engine.fetch?.model ?? null;
  const ended = now === null && [...state.models, ...state.upscalers].some((model) => model.fetching);
  if (now === fetched && !ended) return;
  fetched = now;
  reload();
}

/** Run `work` for the model `name` and return its answer. A refusal is shown at the model. */
async function tried(name, work) {
  updateManager({ busy: name, problem: null });
  try {
    return await work();
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    updateManager({ problem: { name, detail: problem.detail } });
    return null;
  } finally {
    updateManager({ busy: null });
  }
}

/** Show the plan of fetching (`fetch`) or removing (`files`) the model, with a button that starts it. */
export async function ask(name, what) {
  const plan = await tried(name, () => get(path(name, what)));
  if (!plan) return;
  updateManager({ asked: { name, what, plan }, accepted: false });
  afterUpdate(() => document.querySelector("#models .asked")?.focus());
}

export function forget() {
  const name = state.manager?.asked?.name;
  updateManager({ asked: null, problem: null });
  afterUpdate(() => document.querySelector(`#models [data-model="${name}"] button`)?.focus());
}

/** Fetch or remove the model whose plan is shown. */
export async function agree() {
  const { name, what } = state.manager.asked;
  const json = { accept_licence: state.manager.accepted };
  const work = { fetch: () => request("POST", path(name, what), { json }), files: () => request("DELETE", path(name, what)) };
  const done = await tried(name, work[what]);
  if (!done) return;
  announce(what === "fetch" ? `${name} is being fetched.` : `${name} is removed.`);
  forget();
  reload();
}

export async function stopFetch(name) {
  const status = await tried(name, () => request("DELETE", path(name, "fetch")));
  if (!status) return;
  update({ status });
  announce(`The download of ${name} is stopped. Received bytes are kept.`);
  reload();
}
