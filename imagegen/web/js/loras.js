// The LoRAs that the service has, and those of the form that the chosen model can use.

import { get } from "./api.js";
import { quietly } from "./outcomes.js";
import { chosenModel, state, update } from "./store.js";

let listedFor = -1; // the connection for which the list was read

/** Read the list after each connection. Called whenever the page is rendered. */
export function loadLoras() {
  if (state.link !== "up" || listedFor === state.connections) return;
  listedFor = state.connections;
  refreshLoras();
}

/** Read the list again: files are added while the service runs. */
export async function refreshLoras() {
  const answer = await quietly(() => get("api/loras"));
  if (answer && JSON.stringify(answer.items) !== JSON.stringify(state.loras)) update({ loras: answer.items });
}

/** The listed LoRAs that the chosen model can use. */
export function usableLoras() {
  const model = chosenModel();
  return (state.loras ?? []).filter((one) => model && one.models.includes(model.name));
}

/** Whether the chosen model can use the LoRA called `name`; true while the list is not known. */
export const isUsable = (name) => state.loras === null || usableLoras().some((one) => one.name === name);

/** The form without the LoRAs that the chosen model cannot use. */
export function withUsableLoras(draft) {
  return { ...draft, loras: draft.loras.filter((one) => isUsable(one.name)) };
}
