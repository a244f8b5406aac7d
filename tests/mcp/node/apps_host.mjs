// A web server and headless Chromium with a host of MCP Apps: shows the front's view as a person would see it.
import http from "node:http";
import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";
import puppeteer from "puppeteer-core";

const CSP =
  "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; connect-src 'none'";
const PAGE = `<!doctype html><meta charset="utf-8"><body>
<iframe id="view" sandbox="allow-scripts" width="700" height="620"></iframe><script src="/host.js"></script>`;

async function body(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts);
}

async function forward(mcpUrl, request, response) {
  const { host, origin, referer, connection, "content-length": _, ...headers } = request.headers;
  const sent = ["GET", "HEAD"].includes(request.method) ? undefined : await body(request);
  const answer = await fetch(mcpUrl, { method: request.method, headers, body: sent });
  response.writeHead(answer.status, { "content-type": answer.headers.get("content-type") ?? "text/plain" });
  if (answer.body) for await (const chunk of answer.body) response.write(chunk);
  response.end();
}

/** `opened(options)` is a page with the view; wrong: what the browser complained of; asked: every address it loaded. */
export async function appsHost(chromium, mcpUrl) {
  const built = await esbuild.build({
    entryPoints: [fileURLToPath(new URL("host_page.js", import.meta.url))],
    bundle: true, format: "iife", write: false, platform: "browser", logLevel: "error",
  });
  let view = "";
  const server = http.createServer(async (request, response) => {
    const answer = (type, text, headers = {}) => response.writeHead(200, { "content-type": type, ...headers }).end(text);
    if (request.url === "/mcp") return forward(mcpUrl, request, response);
    if (request.url === "/host.js") return answer("text/javascript", built.outputFiles[0].text);
    if (request.url === "/view" && request.method === "PUT") view = (await body(request)).toString();
    if (request.url === "/view") return answer("text/html; charset=utf-8", view, { "content-security-policy": CSP });
    return answer("text/html; charset=utf-8", PAGE);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = `http://127.0.0.1:${server.address().port}/`;
  const browser = await puppeteer.launch({ executablePath: chromium, args: ["--no-sandbox", "--disable-gpu"] });
  const wrong = [], asked = [];

  async function opened(options) {
    const page = await browser.newPage();
    // A client of the older protocol asks for a stream that a server without sessions does not have: 405.
    page.on("console", (message) => message.type() === "error" && !/405/.test(message.text()) && wrong.push(message.text()));
    page.on("pageerror", (error) => wrong.push(error.message));
    page.on("request", (request) => asked.push(request.url().split(",")[0].slice(0, 60)));
    await page.goto(address);
    await page.evaluate((given) => window.open(given), options);
    return { page, frame: page.frames().find((one) => one.url().endsWith("/view")) };
  }

  async function close() {
    await browser.close();
    server.close();
    server.closeAllConnections();
  }

  return { opened, close, wrong, asked, address };
}
