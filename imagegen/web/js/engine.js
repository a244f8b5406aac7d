// Loads and unloads the chosen model, and reads the policy for it.

import { get, request } from "./api.js";
import { attempt, quietly } from "./outcomes.js";
import { canLoad, chosenModel, state, update } from "./store.js";

const WARM_EVERY_MS = 30_000;
let warmed = { name: "", at: 0 }; // the model that typing had loaded last
let policyFor = "";

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

/** Load the chosen model while the user types, if that preference is on. */
export function typed() {
  const model = chosenModel();
  const engine = state.status?.engine;
  if (!state.prefs.warm || !model || !engine || engine.state === "failed" || !canLoad(engine, model)) return;
  if (warmed.name === model.name && Date.now() - warmed.at < WARM_EVERY_MS) return;
  warmed = { name: model.name, at: Date.now() };
  quietly(() => askToWarm(model));
}

/** Load the policy for the chosen model, again when the model or the connection changes. */
export async function loadPolicy() {
  const model = chosenModel();
  if (!model || state.link !== "up") return;
  const wanted = `${model.name} ${state.connections}`; // a restart may have changed it
  if (policyFor === wanted) return;
  policyFor = wanted;
  const policy = await quietly(() => get(`api/policy?model=${encodeURIComponent(model.name)}`));
  if (policy && policyFor === wanted) update({ policy });
}
