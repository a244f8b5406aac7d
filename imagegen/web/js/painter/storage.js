// Where masks are: the service has the mask of the form, the browser tab one that is not used yet.

import { pictureUrl, request } from "../api.js";
import { keep, recall } from "../store.js";

const UNFINISHED = "painting";
const LONGEST_PX = 2048; // of a side

/** The source picture, and the size of its mask. Raises EncodingError if the picture cannot be shown. */
export async function source(id) {
  const picture = await decoded(pictureUrl(id));
  const { naturalWidth: width, naturalHeight: height } = picture;
  const scale = Math.min(1, LONGEST_PX / Math.max(width, height));
  return { picture, width: Math.max(1, Math.round(scale * width)), height: Math.max(1, Math.round(scale * height)) };
}

async function decoded(src) {
  const picture = Object.assign(new Image(), { src });
  await picture.decode();
  return picture;
}

/** The levels that a stored mask has at this size. */
export async function storedLevels(id, width, height) {
  return levelsOf(await decoded(pictureUrl(id)), width, height);
}

/** Levels as a PNG: white may change, black stays. */
export function png(levels, width, height) {
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  levels.forEach((level, at) => (pixels[at] = (0xff000000 | (level * 0x010101)) >>> 0));
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas.convertToBlob({ type: "image/png" });
}

function levelsOf(picture, width, height) {
  const draw = new OffscreenCanvas(width, height).getContext("2d");
  draw.drawImage(picture, 0, 0, width, height);
  const { data } = draw.getImageData(0, 0, width, height);
  return Uint8Array.from({ length: width * height }, (_, at) => data[4 * at]);
}

/** Send a mask to the service. Returns its id. Raises Problem. */
export async function upload(blob) {
  const stored = await request("POST", "api/images", { body: blob, headers: { "content-type": "image/png" } });
  return stored.id;
}

/** Keep what is painted on the picture `of` over a reload; null forgets it. */
export function keepUnfinished(of, levels) {
  keep(UNFINISHED, levels && { of, runs: toRuns(levels) }, sessionStorage);
}

/** What was painted on the picture and not used, or null. */
export function unfinishedLevels(of, count) {
  const kept = recall(UNFINISHED, null, sessionStorage);
  return kept?.of === of ? fromRuns(kept.runs, count) : null;
}

/** Levels as [level, how often, level, how often, …]. */
function toRuns(levels) {
  const runs = [];
  for (let at = 0; at < levels.length; ) {
    let end = at + 1;
    while (end < levels.length && levels[end] === levels[at]) end++;
    runs.push(levels[at], end - at);
    at = end;
  }
  return runs;
}

function fromRuns(runs, count) {
  const levels = new Uint8Array(count);
  let at = 0;
  for (let i = 0; i < runs.length; i += 2) {
    levels.fill(runs[i], at, at + runs[i + 1]);
    at += runs[i + 1];
  }
  return at === count ? levels : null;
}
