// Shows one picture in the front's view, and prints what a person would see as JSON.
// Usage: node view.mjs CHROMIUM MCP_URL ARGUMENTS_JSON SCREENSHOT.png
import { appsHost } from "./apps_host.mjs";

const [chromium, mcpUrl, drawing, screenshot] = process.argv.slice(2);
const { opened, close, wrong, asked, address } = await appsHost(chromium, mcpUrl);

async function shown(options) {
  const { page, frame } = await opened({ ...options, arguments: JSON.parse(drawing) });
  return { page, frame, result: await page.evaluate(() => window.host.start()) };
}

const seen = (frame) => frame.evaluate(() => {
  const image = document.querySelector("figure img");
  return {
    src: image.src.slice(0, 22), width: image.naturalWidth, height: image.naturalHeight, alt: image.alt,
    facts: document.querySelector(".facts").textContent, path: document.querySelector(".path").textContent,
    full: document.querySelector("figure").dataset.full ?? null, status: document.getElementById("status").textContent,
    buttons: [...document.querySelectorAll("figure button")].filter((one) => !one.hidden).map((one) => one.className),
    zoomed: document.querySelector(".frame").classList.contains("zoomed"),
  };
});

const full = await shown({ mode: "auto", tools: true, downloads: true });
await full.frame.waitForSelector("figure[data-full]", { timeout: 60_000 });
await full.page.screenshot({ path: screenshot });
const before = await seen(full.frame);
await full.frame.click("figure img");
const zoomed = await seen(full.frame);
await full.frame.click("button.save");
await full.page.waitForFunction(() => window.host.downloads.length === 1);
const downloaded = await full.page.evaluate(() => window.host.downloads[0]);
const sizes = await full.page.evaluate(() => window.host.sizes.length);

const old = await shown({ mode: "legacy", tools: true });
await old.frame.waitForSelector("figure[data-full]", { timeout: 60_000 });
const legacy = await seen(old.frame);

const plain = await shown({ mode: "auto", tools: false });
await plain.frame.waitForFunction(() => document.querySelector("figure img").naturalWidth > 0);
const preview = await seen(plain.frame);

console.log(JSON.stringify({ before, zoomed, downloaded, sizes, legacy, preview, wrong, asked, address, result: full.result }));
await close();
