// Copies a picture, its URL or its settings to the clipboard.

import { pictureUrl } from "./api.js";
import { announce } from "./outcomes.js";
import { clock } from "./words.js";

export async function copyPicture(image) {
  try {
    const blob = fetch(pictureUrl(image.id)).then((answer) => answer.blob());
    await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
    announce("The picture is on the clipboard.");
  } catch {
    announce("This browser does not let the page copy pictures. Save it, or copy it with a right click.");
  }
}

export function copyUrl(image) {
  const url = new URL(pictureUrl(image.id), location.href).href;
  const until = image.expires_at ? ` It works until ${clock(Date.parse(image.expires_at))}.` : "";
  copyText(url, `The address is on the clipboard.${until}`);
}

export function copySettings(job, image) {
  const { n: _, ...params } = job.params;
  const all = { prompt: job.prompt, model: job.model, ...params, seed: image?.seed ?? params.seed };
  copyText(JSON.stringify(all, null, 2), "The settings are on the clipboard.");
}

async function copyText(text, done) {
  try {
    await navigator.clipboard.writeText(text);
    announce(done);
  } catch {
    announce(copyBySelection(text) ? done : "This browser does not let the page copy.");
  }
}

/** The fallback for insecure pages (plain http from another machine), which lack the clipboard API. */
function copyBySelection(text) {
  const before = document.activeElement;
  const field = document.createElement("textarea");
  field.value = text;
  (document.querySelector("dialog[open]") ?? document.body).append(field); // outside a dialog all is inert
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  before?.focus();
  return copied;
}
