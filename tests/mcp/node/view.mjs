// Shows the front's view in headless Chromium inside the AppBridge host, and prints what a person would see as JSON.
// Usage: node view.mjs CHROMIUM MCP_URL ARGUMENTS_JSON SCREENSHOT.png
import http from "node:http";
import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";
import puppeteer from "puppeteer-core";

const [chromium, mcpUrl, drawing, screenshot] = process.argv.slice(2);
const CSP =
  "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; connect-src 'none'";
const PAGE = `<!doctype html><meta charset="utf-8"><body>
<iframe id="view" sandbox="allow-scripts" width="700" height="620"></iframe><script src="/host.js"></script>`;

const built = await esbuild.build({
  entryPoints: [fileURLToPath(new URL("host_page.js", import.meta.url))],
  bundle: true, format: "iife", write: false, platform: "browser", logLevel: "error",
});
let view = "";

async function body(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts);
}

async function forward(request, response) {
  const { host, origin, referer, connection, "content-length": _, ...headers } = request.headers;
  const sent = ["GET", "HEAD"].includes(request.method) ? undefined : await body(request);
  const answer = await fetch(mcpUrl, { method: request.method, headers, body: sent });
  response.writeHead(answer.status, { "content-type": answer.headers.get("content-type") ?? "text/plain" });
  if (answer.body) for await (const chunk of answer.body) response.write(chunk);
  response.end();
}

const server = http.createServer(async (request, response) => {
  const answer = (type, text, headers = {}) => response.writeHead(200, { "content-type": type, ...headers }).end(text);
  if (request.url === "/mcp") return forward(request, response);
  if (request.url === "/host.js") return answer("text/javascript", built.outputFiles[0].text);
  if (request.url === "/view" && request.method === "PUT") view = (await body(request)).toString();
  if (request.url === "/view") return answer("text/html; charset=utf-8", view, { "content-security-policy": CSP });
  return answer("text/html; charset=utf-8", PAGE);
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const address = `http://127.0.0.1:${server.address().port}/`;

const browser = await puppeteer.launch({ executablePath: chromium, args: ["--no-sandbox", "--disable-gpu"] });
const wrong = [], asked = [];

async function shown(options) {
  const page = await browser.newPage();
  // A client of the older protocol asks for a stream that a server without sessions does not have: 405.
  page.on("console", (message) => message.type() === "error" && !/405/.test(message.text()) && wrong.push(message.text()));
  page.on("pageerror", (error) => wrong.push(error.message));
  page.on("request", (request) => asked.push(request.url().split(",")[0].slice(0, 60)));
  await page.goto(address);
  const result = await page.evaluate((given) => window.show(given), { ...options, arguments: JSON.parse(drawing) });
  const frame = page.frames().find((one) => one.url().endsWith("/view"));
  return { page, frame, result };
}

const seen = (frame) => frame.evaluate(() => {
  const image = document.querySelector("figure img");
  return {
    src: image.src.slice(0, 22), width: image.naturalWidth, height: image.naturalHeight, alt: image.alt,
    facts: document.querySelector(".facts").textContent, path: document.querySelector(".path").textContent,
    full: document.querySelector("figure").dataset.full ?? null, saves: !document.querySelector("button").hidden,
    zoomed: document.querySelector(".frame").classList.contains("zoomed"), status: document.getElementById("status").textContent,
  };
});

const full = await shown({ mode: "auto", tools: true, downloads: true });
await full.frame.waitForSelector("figure[data-full]", { timeout: 60_000 });
await full.page.screenshot({ path: screenshot });
const before = await seen(full.frame);
await full.frame.click("figure img");
const zoomed = await seen(full.frame);
await full.frame.click("button");
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
await browser.close();
server.close();
server.closeAllConnections();
