// The form without what the chosen model cannot use. The page says at each of these that it is left out.

import { maskOf } from "./draft.js";
import { withUsableLoras } from "./loras.js";
import { chosenModel } from "./store.js";

export function withUsable(draft) {
  const mask = chosenModel()?.capabilities.mask ? maskOf(draft) : null;
  return { ...withUsableLoras(draft), mask };
}
