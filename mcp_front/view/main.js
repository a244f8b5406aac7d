// What the host tells the view, and what the user starts in it.
const POLL_MS = 1000;
const ENDED = new Set(["complete", "failed", "cancelled"]);
const anyway = document.getElementById("anyway");
let turn = 0, busy = false;

/** Show a job in the cards from `base` on until it ends. Returns it, or null once `current` says no. */
async function follow(which, base, current) {
  while (current()) {
    const job = (await callTool("read_job", which)).structuredContent;
    if (!current()) return null;
    if (job.job_id) {
      which = { job_id: job.job_id };
      cardAt(base + job.n - 1);
      job.images.forEach((one, index) => showFinished(cardAt(base + index), one));
      if (job.preview) showPreview(cardAt(base + job.preview.image - 1), "image/jpeg", job.preview.data);
      arrange();
      say(job.says);
      if (ENDED.has(job.status)) return job;
    }
    await pause(POLL_MS);
  }
  return null;
}

/** Show the pictures of a result in the cards from `base` on, in place of all that were there. */
function showPictures(result, base, more = {}) {
  const facts = factsOf(result);
  const previews = (result.content ?? []).filter((part) => part.type === "image");
  facts.images.forEach((one, index) => {
    const card = Object.assign(cardAt(base + index), { model: facts.model ?? "", says: index ? "" : facts.says }, more);
    const preview = previews.find((part) => part._meta?.["imagegen/image_id"] === one.image_id);
    if (preview && card.id !== one.image_id) showPreview(card, preview.mimeType, preview.data);
    showFinished(card, one);
  });
  cutSheet(base + facts.images.length);
  return facts;
}

async function showResult(result) {
  const mine = ++turn;
  const facts = factsOf(result);
  if (facts.images.length) showPictures(result, 0);
  else cutSheet(0);
  say(facts.images.length && ENDED.has(facts.status ?? "complete") ? "" : facts.says);
  const goesOn = facts.job_id && (facts.status ? !ENDED.has(facts.status) : !facts.images.length);
  if (goesOn && can("serverTools")) {
    const job = await follow({ job_id: facts.job_id }, 0, () => mine === turn);
    if (job) showPictures(await callTool("get_job_result", { job_id: job.job_id }), 0);
    if (job) say("");
  }
}

/** Draw with a tool that hands back a job, and add its pictures to the sheet. `made`: what the model is told of it. */
async function draw(tool, given, made) {
  if (busy) return say("Wait for the picture that is being drawn.");
  busy = true;
  anyway.hidden = true;
  const base = cards.length;
  try {
    const started = factsOf(await callTool(tool, given));
    if (!started.job_id) {
      say([started.says, ...(started.warnings ?? [])].join(" "));
      anyway.hidden = false;
      anyway.onclick = () => draw(tool, { ...given, anyway: true }, made).catch(complain);
      return;
    }
    await follow({ job_id: started.job_id }, base, () => true);
    showPictures(await callTool("get_job_result", { job_id: started.job_id }), base, { made, prompt: given.prompt });
    say("");
    await tellModel();
  } catch (error) {
    cutSheet(base + cards.slice(base).filter((card) => card.id).length);
    throw error;
  } finally {
    busy = false;
  }
}

function more(card) {
  draw("vary_image", { image_id: card.id }, `In the picture view the user asked for more like ${named(card)}.`).catch(complain);
}

async function showInput({ arguments: given = {} }) {
  const mine = ++turn;
  prompt = given.prompt ?? "";
  cutSheet(0);
  say(prompt ? `Drawing: ${prompt}` : "Drawing…");
  if (prompt && can("serverTools")) await follow({ prompt }, 0, () => mine === turn);
}

listen({
  "ui/notifications/tool-input": (params) => showInput(params).catch(() => {}), // the result reports the error
  "ui/notifications/tool-result": (params) => showResult(params).catch(complain),
  "ui/notifications/tool-cancelled": () => {
    turn++;
    cutSheet(cards.filter((card) => card.id).length);
    say("Cancelled.");
  },
});

new ResizeObserver(() => {
  const page = document.documentElement;
  notify("ui/notifications/size-changed", { width: page.scrollWidth, height: page.scrollHeight });
}).observe(document.documentElement);

(async () => {
  host = await request("ui/initialize", {
    protocolVersion: PROTOCOL,
    appInfo: { name: "imagegen pictures", version: "0.2.0" },
    appCapabilities: { availableDisplayModes: ["inline", "fullscreen"] },
  });
  const theme = host.hostContext?.theme;
  if (theme) document.documentElement.style.colorScheme = theme;
  notify("ui/notifications/initialized");
  if (status.textContent === "Connecting…") say("");
})().catch(complain);
