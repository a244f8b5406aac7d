// The search of the gallery: what is looked for, the pictures that were found, and the boards.

import { get } from "./api.js";
import { announce, attempt, quietly } from "./outcomes.js";
import { pictures, state, takeJobs, update } from "./store.js";

const FOUND_A_PAGE = 100;
const TYPING_MS = 250;
const DAY_MS = 86_400_000;
const EMPTY = { q: "", kept: false, board: "", kind: "", model: "", days: "", size: "" };

/** The sizes to choose from: bounds of the longer side in pixels. */
export const SIZES = {
  small: { label: "Up to 512 px", max_size: 512 },
  medium: { label: "513 to 1024 px", min_size: 513, max_size: 1024 },
  large: { label: "Over 1024 px", min_size: 1025 },
};

let timer = 0;
let searches = 0; // distinguishes the newest search from earlier ones

export const isFinding = () => Object.keys(EMPTY).some((name) => state.find[name] !== EMPTY[name]);

/** Change what is looked for, and search once the user has stopped typing. */
export function setFind(changes) {
  update({ find: { ...state.find, ...changes } });
  clearTimeout(timer);
  timer = setTimeout(search, TYPING_MS);
}

export function clearFind() {
  setFind(EMPTY);
}

/** Search again if a search is shown: pictures may have come, gone or changed. */
export function searchAgain() {
  if (isFinding()) search();
}

async function search() {
  const mine = ++searches;
  if (!isFinding()) return update({ found: null });
  const page = await attempt(() => get(`api/images?${query()}`));
  if (page && mine === searches) update({ found: shownOnly(page) });
}

/** Load the next page of what was found. */
export async function findMore() {
  const mine = searches;
  const page = await attempt(() => get(`api/images?${query()}&cursor=${state.found.next}`));
  if (!page || mine !== searches) return;
  const more = shownOnly(page);
  update({ found: { items: [...state.found.items, ...more.items], next: more.next } });
}

const shownOnly = ({ items, next }) => ({ items: items.filter(({ id }) => !state.hidden.has(id)), next });

function query() {
  const { q, kept, board, kind, model, days, size } = state.find;
  const { label: _, ...bounds } = SIZES[size] ?? {};
  const today = new Date().setHours(0, 0, 0, 0);
  const wanted = {
    limit: FOUND_A_PAGE,
    q: q.trim(),
    kept: kept ? "1" : "",
    board,
    kind,
    model,
    from: days ? new Date(today - (Number(days) - 1) * DAY_MS).toISOString() : "",
    ...bounds,
  };
  return new URLSearchParams(Object.entries(wanted).filter(([, value]) => value !== ""));
}

export async function loadBoards() {
  const boards = await quietly(() => get("api/boards"));
  if (boards) update({ boards });
}

// ---- the list that is shown -----------------------------------------------------------------

/** The pictures that the gallery shows, as {job, image, index}: those that were found, else all recent ones. */
export function listed() {
  return state.found ? state.found.items.map((image) => entry(image)) : pictures();
}

function entry(image) {
  const job = state.jobs.get(image.job_id);
  const index = job?.images.findIndex((one) => one.id === image.id) ?? -1;
  return index < 0 ? { job: standIn(image), image, index: 0 } : { job, image: job.images[index], index };
}

/** A job for a picture whose own is not loaded, or for an upload, which has none. */
function standIn(image) {
  const { width, height, prompt, kind, model } = image;
  const params = { width, height, n: 1 };
  const said = prompt || image.note || (kind === null ? "An uploaded picture" : "A larger copy");
  return {
    ...{ job_id: image.job_id, kind: kind ?? "upload", status: "complete", prompt: said, model, params },
    ...{ images: [image], references: [], warnings: [], standsIn: kind !== null },
  };
}

/** Open a picture of the gallery in full screen, with the record of its job. */
export async function openPicture({ job, image, index }) {
  if (job.standsIn) {
    const whole = await attempt(() => get(`api/jobs/${image.job_id}`));
    if (!whole) return announce("This picture is gone.");
    takeJobs([whole]);
  }
  update({ viewer: { job: job.job_id, index, image: image.id } });
}
