// Parts of the page that are loaded when they are first used, with their styles.

import { Problem } from "./api.js";
import { attempt } from "./outcomes.js";

/** Paint a mask on the first source picture of the form. */
export const openPainter = () =>
  opened(
    () => import("./painter/painter.js"),
    "static/css/painter.css",
    (painter) => painter.open(),
  );

/** Compare a picture with another one. */
export const openCompare = (picture) =>
  opened(
    () => import("./compare/compare.js"),
    "static/css/compare.css",
    (compare) => compare.open(picture),
  );

/** Say what a picture's file says of itself. */
export const openReading = () =>
  opened(
    () => import("./reading/reading.js"),
    "static/css/reading.css",
    (reading) => reading.open(),
  );

async function opened(load, style, open) {
  const module = await attempt(async () => {
    const [loaded] = await Promise.all([load(), styled(style)]).catch(() => {
      throw new Problem({ status: 0, code: "unreachable", title: "No answer", detail: "The service does not answer." });
    });
    return loaded;
  });
  if (module) await open(module);
}

/** Add a style sheet, once. */
function styled(href) {
  if (document.querySelector(`link[href="${href}"]`)) return null;
  const link = Object.assign(document.createElement("link"), { rel: "stylesheet", href });
  return new Promise((resolve, reject) => {
    link.onload = resolve;
    link.onerror = () => reject(link.remove());
    document.head.append(link);
  });
}
