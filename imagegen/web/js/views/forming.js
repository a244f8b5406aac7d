// The previews of a running job in the place of its picture. Each fades in over the previous one.

import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { repeat } from "../../vendor/lit-html/directives/repeat.js";

/** The previews at the size of the picture. */
export function formingPicture(job, preview) {
  const { width, height } = job.params;
  const layers = preview.before ? [preview.before, preview.src] : [preview.src];
  const step = `after step ${preview.step} of ${preview.steps}`;
  return html`
    <div class="picture forming" role="img" aria-label="The picture so far, ${step}: ${job.prompt.slice(0, 80)}">
      ${repeat(
        layers,
        (src) => src,
        (src) => html`<img src=${src} width=${width} height=${height} alt="" data-forming=${preview.step} />`,
      )}
    </div>
  `;
}

/** The last preview, shown below a finished picture until the picture is loaded. */
export function lastPreview(preview, image) {
  if (!preview) return nothing;
  return html`<img class="under" src=${preview.src} width=${image.width} height=${image.height} alt="" />`;
}

/** A small preview for the row of a running job. */
export function formingThumb(preview) {
  return preview ? html`<img class="forming-thumb" src=${preview.src} alt="" />` : nothing;
}
