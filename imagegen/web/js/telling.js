// Tells that a job is done while the user looks elsewhere: a notification, a sound, and the progress in the tab's icon.

import { pictureUrl } from "./api.js";
import { activeJobs, show, state, updatePrefs } from "./store.js";
import { ENDED, fraction } from "./words.js";

const LONG_MS = 20_000;
const ICON_STEPS = 20;
const seen = new Map(); // when this page first saw each of its jobs in progress, by id

const supported = () => "Notification" in window && window.isSecureContext;

/** Whether notifications are wanted and allowed. */
export const notifies = () => supported() && Notification.permission === "granted" && state.prefs.notify === true;

/** Whether the browser may still be asked, or has agreed. */
export const mayNotify = () => supported() && Notification.permission !== "denied";

/** Whether to offer a notification now: a job of this page takes long, and the user has not decided yet. */
export function offersNotification() {
  return mayNotify() && state.prefs.notify === undefined && myJobs().some(isLong);
}

const myJobs = () => activeJobs().filter((job) => state.mine.includes(job.job_id));

const isLong = (job) => job.eta_s * 1000 >= LONG_MS || Date.now() - (seen.get(job.job_id) ?? Infinity) >= LONG_MS;

/** Turn notifications on or off. The browser asks the user at the first time. */
export async function setNotify(on) {
  const allowed = on && (await Notification.requestPermission()) === "granted";
  updatePrefs({ notify: allowed });
}

/** Note the jobs in progress, and show their progress in the tab's icon. Called whenever the page is rendered. */
export function followProgress() {
  for (const job of myJobs()) if (!seen.has(job.job_id)) seen.set(job.job_id, Date.now());
  const [first] = activeJobs();
  const done = first?.status === "running" ? fraction(first) : null;
  setIcon(done === null ? null : Math.floor(done * ICON_STEPS) / ICON_STEPS);
}

/** Tell the end of a job that was asked for here. A cancelled one is no news. */
export function tellEnd(job) {
  const mine = seen.delete(job.job_id) && ENDED.has(job.status) && job.status !== "cancelled";
  if (!mine || (!document.hidden && document.hasFocus())) return;
  if (state.prefs.sound) playSound();
  if (notifies()) notify(job);
}

function notify(job) {
  const done = job.images.length > 1 ? `${job.images.length} pictures are done` : "The picture is done";
  const [image] = job.images;
  const text = { body: job.prompt.slice(0, 200), tag: job.job_id, ...(image && { icon: pictureUrl(image.id, 256) }) };
  try {
    const notification = new Notification(image ? done : "The picture could not be drawn", text);
    notification.onclick = () => {
      window.focus();
      show({ job: job.job_id, index: 0 });
      notification.close();
    };
  } catch {
    // Chrome on Android has notifications for service workers only: the tab's title says it.
  }
}

/** Two soft notes. */
function playSound() {
  const audio = new AudioContext();
  [660, 880].forEach((pitch, at) => {
    const [tone, volume] = [new OscillatorNode(audio, { frequency: pitch }), new GainNode(audio, { gain: 0 })];
    const start = audio.currentTime + 0.18 * at;
    volume.gain.setValueAtTime(0.12, start);
    volume.gain.exponentialRampToValueAtTime(0.001, start + 0.5);
    tone.connect(volume).connect(audio.destination);
    tone.start(start);
    tone.stop(start + 0.5);
    if (at) tone.onended = () => audio.close();
  });
}

export function setSound(on) {
  updatePrefs({ sound: on });
  if (on) playSound(); // so that the user knows it
}

// ---- the tab's icon -------------------------------------------------------------------------

const ROUND = 2 * Math.PI * 9;
let iconShown = null;
let plain = "";

/** A ring filled to `share`, or the plain icon for null. */
function setIcon(share) {
  if (share === iconShown) return;
  const link = document.querySelector("link[rel=icon]");
  plain ||= link.href;
  if (link.href.startsWith("blob:")) URL.revokeObjectURL(link.href);
  iconShown = share;
  link.href = share === null ? plain : URL.createObjectURL(new Blob([ring(share)], { type: "image/svg+xml" }));
}

const ring = (share) => `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke-width="5">
<circle cx="12" cy="12" r="9" stroke="#b9c2d8"/>
<circle cx="12" cy="12" r="9" stroke="#4059c8" stroke-dasharray="${share * ROUND} ${ROUND}" transform="rotate(-90 12 12)"/>
</svg>`;
