// Keep, sort, pack and delete pictures. A deletion is sent only when it can no longer be undone.

import { Problem, get, request } from "./api.js";
import { loadBoards, searchAgain } from "./finding.js";
import { announce, attempt, quietly } from "./outcomes.js";
import { afterUpdate, state, takeJobs, update } from "./store.js";

const UNDO_MS = 10_000;
let undoTimer = 0;

const pathOf = (id) => `api/images/${id}`;
const many = (count, what = "picture") => `${count} ${what}${count === 1 ? "" : "s"}`;

// ---- keep -----------------------------------------------------------------------------------

/** Keep a picture, or change its board or note. Returns whether the service did. */
export async function keepPicture(image, wish = {}) {
  const kept = await attempt(() => request("POST", `${pathOf(image.id)}/keep`, { json: wish }));
  if (!kept) return false;
  putImage(kept);
  loadBoards();
  return true;
}

/** Keep a picture, or release it if it is kept. */
export async function toggleKept(image) {
  if (!image.kept_at) {
    if (await keepPicture(image)) announce("The picture is kept.");
    return;
  }
  const released = await attempt(() => request("DELETE", `${pathOf(image.id)}/keep`));
  if (!released) return;
  putImage(released);
  loadBoards();
  announce("The picture is not kept any more. It expires like others.");
}

/** Put pictures on a board, which keeps them; an empty name takes them off their boards. */
export async function moveTo(images, board) {
  const name = board.trim() || null;
  for (const image of images) if (!(await keepPicture(image, { board: name }))) return;
  announce(name ? `${many(images.length)} put on ${name}.` : `${many(images.length)} kept, on no board.`);
}

/** Replace a picture's record everywhere. */
function putImage(image) {
  const job = state.jobs.get(image.job_id);
  if (job) state.jobs.set(job.job_id, { ...job, images: job.images.map((one) => (one.id === image.id ? image : one)) });
  const { found } = state;
  const items = found?.items.map((one) => (one.id === image.id ? { ...one, ...image } : one));
  update({ found: found && { ...found, items }, revision: state.revision + 1 });
}

export async function renameBoard(name, newName) {
  const path = `api/boards/${encodeURIComponent(name)}`;
  const boards = await attempt(() => request("PATCH", path, { json: { name: newName } }));
  if (!boards) return;
  update({ boards, find: { ...state.find, board: newName.trim() } });
  searchAgain();
  announce(`The board is called ${newName.trim()} now.`);
}

export async function deleteBoard(name) {
  const boards = await attempt(() => request("DELETE", `api/boards/${encodeURIComponent(name)}`));
  if (!boards) return;
  update({ boards, find: { ...state.find, board: "", kept: true } });
  searchAgain();
  announce(`The board ${name} is deleted. Its pictures are still kept.`);
}

// ---- delete ---------------------------------------------------------------------------------

/** Hide pictures, and delete them in the service unless the user selects Undo within UNDO_MS. */
export function deletePictures(images) {
  if (!images.length) return;
  sendDeletions();
  const ids = images.map(({ id }) => id);
  const jobs = [...new Set(images.map((image) => image.job_id))].filter((id) => state.jobs.has(id));
  for (const id of ids) state.hidden.add(id);
  takeOut();
  update({ gone: { ids, jobs }, selected: null, note: "" });
  sendSoon();
  afterUpdate(() => document.querySelector("[data-undo]")?.focus());
}

/** Send the deletions in a while, but not while the pointer or the keyboard's focus is on Undo. */
function sendSoon() {
  clearTimeout(undoTimer);
  const due = () => (document.querySelector(".undo:hover, [data-undo]:focus-visible") ? sendSoon() : sendDeletions());
  undoTimer = setTimeout(due, UNDO_MS);
}

export async function undoDelete() {
  clearTimeout(undoTimer);
  const { gone } = state;
  if (!gone) return;
  update({ gone: null });
  await putBack(gone.ids, gone.jobs);
  announce(`${many(gone.ids.length)} put back.`);
  afterUpdate(() => document.querySelector(`[data-tile="${gone.ids[0]}"]`)?.focus());
}

/** Take the hidden pictures out of the lists. */
function takeOut() {
  for (const [id, job] of state.jobs) {
    const images = job.images.filter((one) => !state.hidden.has(one.id));
    if (images.length < job.images.length) state.jobs.set(id, { ...job, images });
  }
  const { found } = state;
  const items = found?.items.filter((one) => !state.hidden.has(one.id));
  update({ found: found && { ...found, items }, revision: state.revision + 1 });
}

async function putBack(ids, jobs) {
  for (const id of ids) state.hidden.delete(id);
  searchAgain();
  for (const id of jobs) {
    const job = await quietly(() => get(`api/jobs/${id}`));
    if (job) takeJobs([job]);
  }
}

async function sendDeletions() {
  clearTimeout(undoTimer);
  const { gone } = state;
  if (!gone) return;
  update({ gone: null });
  const left = [];
  let why = "";
  for (const id of gone.ids) {
    try {
      await request("DELETE", pathOf(id));
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      if (problem.status === 404 || problem.status === 410) continue; // expired meanwhile
      left.push(id);
      why = problem.detail;
    }
  }
  if (left.length) {
    update({ problem: { title: `${many(left.length)} could not be deleted`, detail: why } });
    await putBack(left, gone.jobs);
  }
  dropEmptyJobs();
  loadBoards();
}

function dropEmptyJobs() {
  for (const [id, job] of state.jobs) if (job.status === "complete" && !job.images.length) state.jobs.delete(id);
  update({ revision: state.revision + 1 });
}

/** The page is closed: what was to be deleted is deleted. */
addEventListener("pagehide", () => {
  for (const id of state.gone?.ids ?? []) fetch(pathOf(id), { method: "DELETE", keepalive: true });
  state.gone = null;
});

// ---- several pictures -----------------------------------------------------------------------

/** Begin to select pictures, or stop. */
export function toggleSelecting() {
  update({ selected: state.selected ? null : new Set() });
}

export function toggleSelected(id) {
  const selected = new Set(state.selected);
  if (!selected.delete(id)) selected.add(id);
  update({ selected });
}

/** Save pictures as one ZIP archive. */
export async function saveZip(images) {
  announce(`${many(images.length)} are being packed.`);
  const answer = await fetch("api/images/zip", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ ids: images.map(({ id }) => id) }),
  }).catch(() => null);
  const blob = answer?.ok ? await answer.blob().catch(() => null) : null;
  if (!blob) {
    const said = answer && !answer.ok ? (await answer.json().catch(() => null))?.detail : null;
    return update({ note: "", problem: { title: "The archive is not saved", detail: said ?? "The service stopped sending it." } });
  }
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: "pictures.zip" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  announce(`${many(images.length)} saved in pictures.zip.`);
}
