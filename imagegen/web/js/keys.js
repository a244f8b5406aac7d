// What the page's shortcuts do.

import { cancel, draw, drawAgain, drawVariations, editThis, enlarge, focusPrompt, maskThis } from "./actions.js";
import { sameSettings } from "./actions.js";
import { pictureUrl } from "./api.js";
import { upscaleFactor } from "./draft.js";
import { liveOn, setLive } from "./drafting.js";
import { listed, openPicture } from "./finding.js";
import { openCompare, openPainter } from "./lazy.js";
import { announce } from "./outcomes.js";
import { shortcuts } from "./shortcuts.js";
import { activeJobs, chosenModel, pictures, state, update } from "./store.js";
import { fileName } from "./words.js";

/** The picture in full screen, the recent one with the focus, or the result: {job, image, index}; null without one. */
function shownPicture() {
  const id = state.viewer ? state.viewer.image : document.activeElement.dataset.tile;
  const found = id && [...listed(), ...pictures()].find((one) => one.image.id === id);
  if (found) return found;
  const { job: jobId, index } = state.viewer ?? state.shown ?? {};
  const job = state.jobs.get(jobId);
  const image = job?.images[Math.min(index, job.images.length - 1)];
  return image ? { job, image, index } : null;
}

/** A shortcut for the picture shown. It does nothing without one; `drawn`: only for a job that can be drawn again. */
const withPicture = (run, drawn = false) => () => {
  const shown = shownPicture();
  if (!shown || (drawn && (["upscale", "upload"].includes(shown.job.kind) || shown.job.standsIn))) return false;
  return run(shown);
};

const pageShortcut = shortcuts("On the page", {
  list: () => update({ listed: true }),
  draw,
  prompt: focusPrompt,
  gallery: () => document.querySelector("[data-tile][tabindex='0']")?.focus(),
  live() {
    if (!chosenModel()) return;
    setLive(!liveOn());
    announce(liveOn() ? "Live is on: typing draws." : "Live is off.");
  },
  cancel() {
    const mine = activeJobs().find((job) => state.mine.includes(job.job_id));
    if (mine) cancel(mine);
  },
  dismiss() {
    if (!state.problem) return false;
    update({ problem: null });
  },
});

const pictureShortcut = shortcuts("With the picture that is shown or has the focus", {
  full: withPicture(openPicture),
  edit: withPicture(({ image }) => editThis(image)),
  mask() {
    if (!chosenModel()?.capabilities.mask) return announce("The chosen model takes no mask.");
    const { references } = state.draft;
    const chosen = state.viewer || document.activeElement.dataset.tile;
    return !chosen && references.length ? openPainter() : withPicture(({ image }) => maskThis(image))();
  },
  compare: withPicture(({ job, image }) => openCompare({ job, image })),
  again: withPicture(({ job }) => drawAgain(job), true),
  vary: withPicture(({ job, image }) => drawVariations(job, image), true),
  same: withPicture(({ job, image }) => sameSettings(job, image), true),
  enlarge: withPicture(({ image }) => {
    const factor = upscaleFactor(image, state.caps);
    if (factor) enlarge(image, factor);
    else announce("The picture is too large to be enlarged.");
  }),
  save: withPicture(({ job, image }) => {
    const link = document.createElement("a");
    Object.assign(link, { href: pictureUrl(image.id), download: fileName(job, image) });
    link.click();
  }),
});

/** Handle a key of the page. In full screen only the picture's keys work, in other dialogs none. */
export function pageKey(event) {
  const dialog = document.querySelector("dialog[open]:not(#viewer)");
  if (dialog || event.repeat) return;
  if (!state.viewer) pageShortcut(event);
  pictureShortcut(event);
}
