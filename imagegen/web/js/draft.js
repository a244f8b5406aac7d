// From the form to a request: sizes within the caps, gaps of a style, the body. Pure functions.

const SHAPES = [
  ["Square", 1, 1],
  ["Landscape", 3, 2],
  ["Portrait", 2, 3],
  ["Wide", 16, 9],
  ["Tall", 9, 16],
];

/** The range of a side ("width" or "height") in pixels: the model's range within the service's cap. */
export function sideRange(name, model, caps) {
  const { min, max } = model.defaults[name];
  const most = Math.min(caps?.max_dimension ?? Infinity, max ?? Infinity);
  return { least: Math.min(most, Math.max(model.size_min_px, min ?? 0)), most };
}

/** The size presets, with the model's default long side, within the model's range and the service's cap. */
export function sizePresets(model, caps) {
  const { width, height } = model.defaults;
  const long = Math.min(Math.max(width.value, height.value), caps.max_dimension);
  const multiple = model.size_multiple;
  const side = (length, name) => {
    const range = sideRange(name, model, caps);
    const [least, most] = [Math.ceil(range.least / multiple), Math.floor(range.most / multiple)];
    return Math.min(most, Math.max(least, Math.round(length / multiple))) * multiple;
  };
  const presets = SHAPES.map(([label, across, down]) => {
    const most = Math.max(across, down);
    const size = `${side((long * across) / most, "width")}x${side((long * down) / most, "height")}`;
    return { label, across, down, size };
  });
  // Coarse multiples and narrow ranges can make presets equal: keep the first.
  return presets.filter((preset, at) => presets.findIndex((one) => one.size === preset.size) === at);
}

export const defaultSize = (model) => `${model.defaults.width.value}x${model.defaults.height.value}`;

export function parseSize(size) {
  const [width, height] = size.split("x").map(Number);
  return { width, height };
}

/** `size` with the model's default for an empty side. */
export function wholeSize(size, model) {
  if (!size) return size;
  const { width, height } = parseSize(size);
  return `${width || model.defaults.width.value}x${height || model.defaults.height.value}`;
}

/** A style's text with its defaults filled in. Gaps without a default stay as {name}. */
export function fillStyle(template) {
  return template.placeholders.reduce(
    (text, gap) => (gap.default ? text.replaceAll(`{${gap.name}}`, gap.default) : text),
    template.prompt,
  );
}

/** The gaps of all styles that the text still contains: {name, description, examples, start, end}. */
export function openGaps(text, templates) {
  const known = new Map(templates.flatMap((one) => one.placeholders.map((gap) => [gap.name, gap])));
  return [...text.matchAll(/\{([A-Za-z0-9_]+)\}/g)]
    .filter((match) => known.has(match[1]))
    .map((match) => ({ ...known.get(match[1]), start: match.index, end: match.index + match[0].length }));
}

/** The draft's path and body. Empty fields are omitted, so that the model's defaults apply. */
export function toRequest(draft) {
  const body = { prompt: draft.prompt, n: draft.n };
  if (draft.negative.trim()) body.negative = draft.negative;
  if (draft.size) {
    const { width, height } = parseSize(draft.size);
    if (width) body.width = width; // 0: the field is empty
    if (height) body.height = height;
  }
  for (const name of ["steps", "cfg_scale"]) if (draft[name] !== "") body[name] = Number(draft[name]);
  if (draft.locked && draft.seed !== "") body.seed = Number(draft.seed);
  if (draft.loras.length) body.loras = draft.loras;
  for (const name of ["sampler", "model", "speed", "background"]) if (draft[name]) body[name] = draft[name];
  if (!draft.references.length) return { path: "api/generate", body };
  if (draft.strength !== "") body.strength = Number(draft.strength);
  const mask = maskOf(draft);
  if (mask) body.mask = mask.id;
  return { path: "api/edit", body: { ...body, images: draft.references.map((one) => one.id), fit: draft.fit } };
}

/** The mask of the first source picture, {id, of, share}, or null. That of another picture does not count. */
export function maskOf({ mask, references }) {
  return mask && mask.of === references[0]?.id ? mask : null;
}

/** The request that repeats a job with this seed. */
export function againRequest(job, seed) {
  if (job.kind === "upscale") return upscaleRequest({ id: job.references[0] }, job.params.factor, job.model);
  const { n, width, height, steps, cfg_scale, sampler, negative, fit, strength, speed, background, loras } = job.params;
  const body = { prompt: job.prompt, model: job.model, n, width, height, steps, cfg_scale, sampler, seed };
  if (negative) body.negative = negative;
  if (speed === "fast") body.speed = speed;
  if (background === "transparent") body.background = background;
  if (loras?.length) body.loras = loras;
  if (job.kind !== "edit") return { path: "api/generate", body };
  if (strength !== undefined) body.strength = strength;
  if (job.mask) body.mask = job.mask;
  return { path: "api/edit", body: { ...body, images: job.references, fit: fit ?? "contain" } };
}

/** The request for a larger copy of a picture. `model`: an upscaler; without one the service chooses. */
export function upscaleRequest({ id }, factor, model) {
  return { path: "api/upscale", body: { image: id, factor, ...(model && { model }) } };
}

/** The largest factor whose result the service makes, or null if even the smallest is too large. */
export function upscaleFactor({ width, height }, caps) {
  const most = caps?.max_upscaled_px ?? 0;
  return [4, 2].find((factor) => width * height * factor * factor <= most) ?? null;
}

/** The form's values for this job. `seed`: that of the picture shown. */
export function draftOf(job, seed) {
  const p = job.params;
  return {
    prompt: job.prompt,
    negative: p.negative ?? "",
    size: `${p.width}x${p.height}`,
    steps: String(p.steps),
    cfg_scale: String(p.cfg_scale),
    sampler: p.sampler,
    speed: p.speed === "fast" ? "fast" : "",
    loras: p.loras ?? [],
    background: p.background === "transparent" ? "transparent" : "",
    seed: String(seed ?? p.seed),
    locked: true,
    n: p.n,
    model: job.model,
    fit: p.fit ?? "contain",
    strength: String(p.strength ?? ""),
    references: job.references.map((id) => ({ id })),
    mask: job.mask ? { id: job.mask, of: job.references[0], share: null } : null,
  };
}

export const randomSeed = () => crypto.getRandomValues(new Uint32Array(1))[0];

/** The warning for a number outside the model's range; null inside it. */
export function outsideRange(text, range) {
  if (text === "" || !range) return null;
  const value = Number(text);
  if (Number.isNaN(value)) return "Not a number.";
  const { min, max } = range;
  if ((min !== null && value < min) || (max !== null && value > max)) {
    return `Outside ${min} to ${max}, the range known to work.`;
  }
  return null;
}

/** The first field of `form` that the browser reports as invalid, as {field, title, detail}; null if all are valid. */
export function invalidField(form) {
  const field = [...form.elements].find((one) => one.willValidate && !one.validity.valid);
  if (!field) return null;
  const name = field.labels[0]?.textContent.trim() ?? field.name;
  return { field, title: `Check ${name}`, detail: whyInvalid(name, field) };
}

function whyInvalid(name, { validity, value, min, max, step }) {
  if (validity.badInput) return `${name} is not a number.`;
  if (validity.rangeUnderflow) return `${name} is ${value}. The least is ${min}.`;
  if (validity.rangeOverflow) return `${name} is ${value}. The most is ${max}.`;
  return `${name} is ${value}. It has to be a multiple of ${step}.`;
}
