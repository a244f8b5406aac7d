// Previews of the picture that is being drawn. Each is fetched and decoded before it is shown, so that it can fade in.

import { previewUrl } from "./api.js";
import { state, update } from "./store.js";

let fetching = false;
let next = null; // the newest preview that came while another was fetched

/** A preview is there: show it, unless a newer one comes before this one could be fetched. */
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

/** The picture as an address of its own in this page; null if the job has ended meanwhile. */
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

/** The new one lies over the one before until it is opaque; older ones are let go. */
function shown({ job_id: job, image, step, steps }, src) {
  const old = state.preview;
  const same = old?.job === job && old.image === image;
  if (old?.before) URL.revokeObjectURL(old.before);
  if (old && !same) URL.revokeObjectURL(old.src);
  update({ preview: { job, image, step, steps, src, before: same ? old.src : null } });
}

/** The newest preview of a job; null without one. */
export const previewOf = (job) => (job && state.preview?.job === job.job_id ? state.preview : null);
