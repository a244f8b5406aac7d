// Several pictures in the front's view: they come one by one, one is chosen, edited with a painted mask, and varied.
// Usage: node candidates.mjs CHROMIUM MCP_URL ARGUMENTS_JSON SCREENSHOT.png
import { appsHost } from "./apps_host.mjs";

const [chromium, mcpUrl, drawing, screenshot] = process.argv.slice(2);
const { opened, close, wrong } = await appsHost(chromium, mcpUrl);
const { page, frame } = await opened({ mode: "auto", tools: true, contexts: true, arguments: JSON.parse(drawing) });
const patient = { timeout: 100_000 };

const seen = () => frame.evaluate(() => [...document.querySelectorAll("figure")].map((figure) => ({
  id: figure.dataset.id ?? null, src: figure.querySelector("img").src.slice(0, 22), alt: figure.querySelector("img").alt,
  chosen: figure.classList.contains("chosen"), full: figure.dataset.full ?? null,
  buttons: [...figure.querySelectorAll("button")].filter((one) => !one.hidden).map((one) => one.className),
})));
const contexts = (count) => page.waitForFunction((wanted) => window.host.contexts.length === wanted, patient, count);

// The job is long: two pictures are here, and the next one forms, long before the tool has a result.
const ended = page.evaluate(() => window.host.start());
await frame.waitForSelector("figure:nth-child(2)[data-full]", patient);
await frame.waitForFunction(() => document.querySelector("figure:nth-child(3) img").src.startsWith("data:image/jpeg"), patient);
const forming = { cards: await seen(), result: await page.evaluate(() => window.host.result) };
await page.evaluate(async () => {
  const { job_id } = (await window.host.call("read_job", { prompt: "three kites" })).structuredContent;
  await window.host.call("cancel_job", { job_id });
});
const result = await ended;
await frame.waitForFunction((count) => document.querySelectorAll("figure").length === count, patient, result.structuredContent?.images.length ?? 0);
const finished = await seen();

await frame.click("figure:nth-child(1) img");
await contexts(1);
const chosen = await seen();

await frame.click("figure:nth-child(1) button.edit");
await frame.waitForSelector("#painter[data-ready]", patient);
const box = await (await frame.$("#painter canvas")).boundingBox();
await page.mouse.move(box.x + box.width / 2, box.y + 2);
await page.mouse.down();
await page.mouse.move(box.x + box.width / 2, box.y + box.height - 2, { steps: 8 });
await page.mouse.up();
await page.screenshot({ path: screenshot });
await frame.type("#words", "a green kite");
await frame.click("#apply");
await contexts(2);
const edited = await seen();

await frame.click("figure:last-child button.more");
await contexts(3);
const varied = await seen();

const told = await page.evaluate(() => window.host.contexts.map((content) => content[0].text));
console.log(JSON.stringify({ forming, result, finished, chosen, edited, varied, told, wrong }));
await close();
