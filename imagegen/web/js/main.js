// The page's entry point: render at each change of the state, and handle events of the whole window.

import { render } from "../vendor/lit-html/lit-html.js";
import { addFiles, onJobEnd, resend } from "./actions.js";
import { draftWhenIdle } from "./drafting.js";
import { loadPolicy } from "./engine.js";
import { loadBoards, searchAgain } from "./finding.js";
import { pageKey } from "./keys.js";
import { loadLoras } from "./loras.js";
import { followFetch } from "./models.js";
import { announce } from "./outcomes.js";
import { activeJobs, onUpdate, state, update } from "./store.js";
import { startStream } from "./stream.js";
import { followProgress } from "./telling.js";
import { focusRow, focusedRow } from "./views/live.js";
import { shell } from "./views/shell.js";
import { doing, fetchWord } from "./words.js";

const root = document.getElementById("page");
let problem = null;

onUpdate(() => {
  const row = focusedRow();
  render(shell(), root);
  if (row >= 0 && document.activeElement === document.body) focusRow(row);
  if (state.problem !== problem) {
    problem = state.problem;
    document.querySelector(".compose [role=alert]")?.scrollIntoView({ block: "nearest" });
  }
  openWhile("viewer", state.viewer !== null);
  openWhile("models", state.manager !== null);
  openWhile("token", state.token !== null);
  openWhile("shortcuts", state.listed);
  document.title = title();
  followProgress();
  loadPolicy();
  loadLoras();
  draftWhenIdle();
  followFetch();
});

function openWhile(id, wanted) {
  const dialog = document.getElementById(id);
  if (wanted && !dialog.open) dialog.showModal();
  if (!wanted && dialog.open) dialog.close();
}

/** The tab's title, which shows the progress. */
function title() {
  const [first] = activeJobs();
  const fetch = state.link === "up" ? state.status?.engine.fetch : null;
  if (fetch && (!first || first.progress?.phase === "fetching")) return `${fetchWord(fetch)} · imagegen`;
  if (!first) return "imagegen";
  return `${doing(first, state.queue.indexOf(first.job_id))} · imagegen`;
}

document.addEventListener("keydown", pageKey);

// ---- dropped or pasted pictures -------------------------------------------------------------

const hasFiles = (event) => event.dataTransfer?.types.includes("Files");

document.addEventListener("dragover", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  if (!state.dragging) update({ dragging: true });
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) update({ dragging: false });
});
document.addEventListener("drop", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  update({ dragging: false });
  addFiles(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => {
  if (!event.clipboardData?.files.length) return;
  event.preventDefault();
  addFiles(event.clipboardData.files);
});

function jobEnded(job) {
  onJobEnd(job);
  searchAgain();
}

function connected() {
  resend();
  loadBoards();
  searchAgain();
}

startStream({ jobEnded, up: connected, say: announce });
