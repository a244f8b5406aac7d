// Previews of the running job. Each is fetched and decoded before it is shown, so that it can fade in.

import { previewUrl } from "./api.js";
import { state, update } from "./store.js";

let fetching = false;
let next = null; // the newest preview that came while another was fetched

/** Fetch and show a preview. If several arrive during a fetch, only the newest is fetched next. */
export async function previewHeard(preview) {
  if (document.hidden) return;
  next = preview;
  if (fetching) return;
  fetching = true;
  try {
    while (next) {
      const now = next;
      next = null;
      const src = await fetched(now);
      if (src) shown(now, src);
    }
  } finally {
    fetching = false;
  }
}

/** The preview as an object URL; null if it cannot be fetched, as after the job's end. */
async function fetched(preview) {
  try {
    const answer = await fetch(previewUrl(preview), { cache: "no-store" });
    if (!answer.ok) return null;
    const src = URL.createObjectURL(await answer.blob());
    const image = new Image();
    image.src = src;
    await image.decode();
    return src;
  } catch {
    return null; // no connection: the stream says so
  }
}

/** Show the new preview above the previous one while it fades in. Older object URLs are revoked. */
function shown({ job_id: job, image, step, steps }, src) {
  const old = state.preview;
  const same = old?.job === job && old.image === image;
  if (old?.before) URL.revokeObjectURL(old.before);
  if (old && !same) URL.revokeObjectURL(old.src);
  update({ preview: { job, image, step, steps, src, before: same ? old.src : null } });
}

/** The newest preview of a job, or null. */
export const previewOf = (job) => (job && state.preview?.job === job.job_id ? state.preview : null);
