// Numbers and states as text. Pure functions of their arguments: no DOM, no clock.

/** Seconds as text: "85 s", "12 min", "3 h". */
export function duration(seconds) {
  const s = Math.max(0, seconds);
  if (s < 120) return `${Math.round(s)} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  return `${Math.round(s / 3600)} h`;
}

/** Bytes as text, with one decimal from 1 GB: "14 MB", "1.2 GB". */
export function bytes(count) {
  if (count < 1e6) return `${Math.round(count / 1e3)} kB`;
  if (count < 1e9) return `${Math.round(count / 1e6)} MB`;
  return `${(count / 1e9).toFixed(1)} GB`;
}

/** A POSIX time in milliseconds as local time. */
export function clock(ms) {
  return new Date(ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}

export const ENDED = new Set(["complete", "failed", "cancelled"]);

/** A job's state in a few words. `position` is the number of jobs ahead. */
export function doing(job, position) {
  if (job.status === "queued") {
    if (position === 0 || position === null) return "Next in line";
    return position === 1 ? "Waiting, 1 job ahead" : `Waiting, ${position} jobs ahead`;
  }
  if (job.status !== "running") return { complete: "Done", failed: "Failed", cancelled: "Cancelled" }[job.status];
  const progress = job.progress;
  const which = job.params.n > 1 && progress ? `Picture ${progress.image} of ${job.params.n}: ` : "";
  const words = progress ? phase(progress) : "starting";
  return which ? which + words : words[0].toUpperCase() + words.slice(1);
}

function phase({ phase: name, step, steps, detail, fraction: share }) {
  switch (name) {
    case "fetching":
      return detail ? `fetching the model: ${detail}` : "fetching the model's files";
    case "waiting_gpu":
      return "waiting for GPU memory that another program holds";
    case "loading":
      return "loading the model";
    case "encoding":
      return steps ? `writing the picture's tokens ${step ?? 0}/${steps}` : "reading the prompt";
    case "sampling":
      return steps ? `drawing: step ${step ?? 0}/${steps}` : "drawing";
    case "upscaling":
      return share ? `enlarging: ${Math.floor(100 * share)} %` : "enlarging";
    case "decoding":
      return "turning the result into pixels";
    case "saving":
      return "saving";
    default:
      return name;
  }
}

/** The progress of a running job, 0 to 1, or null if unknown. */
export function fraction(job) {
  const progress = job.progress;
  if (!progress) return null;
  if (progress.phase === "sampling" && progress.steps) return Math.min(1, (progress.step ?? 0) / progress.steps);
  return progress.fraction ?? null;
}

/** The engine's state: a word for the chip and a sentence for the panel. */
export function engine(status) {
  const { state, error } = status.engine;
  const cold = status.idle.cold_start_s;
  const wait =
    cold === null
      ? "The first picture takes longer while the model loads."
      : `The first picture waits about ${duration(cold)} for the model.`;
  const sentences = {
    cold: ["not loaded", wait],
    loading: ["loading", "The model is being loaded."],
    ready: ["ready", "The model is loaded."],
    drawing: ["drawing", "A picture is being drawn."],
    draining: ["finishing", "The engine finishes a cancelled picture."],
    unloading: ["unloading", "The model is being unloaded."],
    failed: ["failed", error ? error.detail : "The last start failed; the next job tries again."],
  };
  const fetch = status.engine.fetch;
  if (state === "loading" && fetch && !status.engine.load) {
    return { word: fetchWord(fetch), sentence: "The model's files are being fetched." };
  }
  const [word, sentence] = sentences[state] ?? [state, ""];
  return { word, sentence };
}

/** A download in a few words: "fetching 12 %, 35 min left". */
export function fetchWord({ bytes_done: done, bytes_total: total, left_s: left }) {
  const percent = total ? ` ${Math.floor((100 * done) / total)} %` : "";
  return `fetching${percent}${left === null ? "" : `, ${duration(left)} left`}`;
}

/** "unloads in 85 s: …" with the seconds left now. The service writes the reason. */
export function unloading(idle, nowMs) {
  if (!idle.reason) return "";
  if (!idle.unload_at) return idle.reason;
  const left = (Date.parse(idle.unload_at) - nowMs) / 1000;
  const head = left > 0.5 ? `unloads in ${duration(left)}` : "unloads now";
  return idle.reason.replace(/^unloads (in [^:]*|now)/, head);
}

/** A warning's first line, and the details after it. */
export function warningLines({ detail }) {
  const [first, ...details] = detail.split("\n");
  return { first, details: details.join(" ") };
}

/** The code of the warning that a picture has a single colour. */
export const BLANK = "blank_picture";

/** The CSS class of a picture that is transparent around its subject: a chequered ground. */
export const ground = (image) => (image.warnings.some((one) => one.code === "background_removed") ? "chequered" : "");

/** The name under which a picture is saved: the prompt's first words, and its seed or width. */
export function fileName(job, image) {
  const words = job.prompt
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .slice(0, 40)
    .replace(/^-+|-+$/g, "");
  return `${words || "picture"}-${image.seed ?? `${image.width}px`}.png`;
}

/** The settings of a job as name and value pairs, for display. */
export function settings(job, image) {
  const p = job.params;
  if (job.kind === "upload") return [["Size", `${image.width} × ${image.height}`]];
  if (job.kind === "upscale") {
    return [
      ["Enlarged", `× ${p.factor}`],
      ["By", p.method === "lanczos" ? "interpolation (Lanczos)" : job.model],
      ["Size", `${p.width} × ${p.height}`],
    ];
  }
  const pairs = [
    ["Model", job.model],
    ["Size", `${image?.width ?? p.width} × ${image?.height ?? p.height}`],
    ["Steps", String(p.steps)],
    ["Guidance", String(p.cfg_scale)],
    ["Sampler", p.scheduler ? `${p.sampler}, ${p.scheduler}` : p.sampler],
    ["Seed", String(image?.seed ?? p.seed)],
  ];
  if (p.speed === "fast") pairs.push(["Speed", "fast"]);
  if (p.strength !== undefined) pairs.push(["Strength", String(p.strength)]);
  for (const lora of p.loras ?? []) pairs.push(["LoRA", `${lora.name}, strength ${lora.strength}`]);
  if (p.negative) pairs.push(["Negative", p.negative]);
  return pairs;
}
