// A picture that forms: its previews in the place of the picture to come, each fading in over the one before.

import { html, nothing } from "../../vendor/lit-html/lit-html.js";
import { repeat } from "../../vendor/lit-html/directives/repeat.js";

/** The previews in the size of the picture that they become. */
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

/** What lies below a finished picture until that is loaded: its last preview. */
export function lastPreview(preview, image) {
  if (!preview) return nothing;
  return html`<img class="under" src=${preview.src} width=${image.width} height=${image.height} alt="" />`;
}

/** The same, small, for the row of a running job. */
export function formingThumb(preview) {
  return preview ? html`<img class="forming-thumb" src=${preview.src} alt="" />` : nothing;
}
