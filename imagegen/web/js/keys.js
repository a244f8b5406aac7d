// What the page's shortcuts do.

import { cancel, draw, drawAgain, drawVariations, editThis, enlarge, focusPrompt, maskThis } from "./actions.js";
import { sameSettings } from "./actions.js";
import { pictureUrl } from "./api.js";
import { upscaleFactor } from "./draft.js";
import { liveOn, setLive } from "./drafting.js";
import { listed, openPicture, whole } from "./finding.js";
import { deleteShown, toggleKept } from "./keeping.js";
import { openCompare, openPainter } from "./lazy.js";
import { announce } from "./outcomes.js";
import { shortcuts } from "./shortcuts.js";
import { activeJobs, chosenModel, pictures, state, update } from "./store.js";
import { fileName } from "./words.js";

/** The picture in full screen, that of the gallery with the focus, or the result: {job, image, index}; else null. */
function shownPicture() {
  const chosen = state.viewer ? state.viewer.image : document.activeElement.dataset.tile;
  if (chosen) return [...listed(), ...pictures()].find((one) => one.image.id === chosen) ?? null;
  const { job: id, index } = state.viewer ?? state.shown ?? {};
  const job = state.jobs.get(id);
  const image = job?.images[Math.min(index, job.images.length - 1)];
  return image ? { job, image, index } : null;
}

/** A shortcut for the picture shown. It does nothing without one; `drawn` excludes enlarged copies and uploads. */
const withPicture = (run, drawn = false) => () => {
  const shown = shownPicture();
  if (!shown || (drawn && ["upscale", "upload"].includes(shown.job.kind))) return false;
  if (!shown.job.standsIn) return run(shown);
  whole(shown).then((one) => one && run(one));
};

const pageShortcut = shortcuts("On the page", {
  list: () => update({ listed: true }),
  draw,
  prompt: focusPrompt,
  find: () => document.getElementById("find")?.focus(),
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
  keep: withPicture(({ image }) => toggleKept(image)),
  remove: withPicture(({ image }) => deleteShown(image)),
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
