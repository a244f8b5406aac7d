// The TypeScript SDK's client: draws, edits, polls and cancels through the front, and prints what it got as JSON.
// Usage: node draw.mjs auto|legacy stdio COMMAND ARG… | node draw.mjs auto|legacy http URL
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";

const [mode, kind, target, ...rest] = process.argv.slice(2);
const transport =
  kind === "http"
    ? new StreamableHTTPClientTransport(new URL(target))
    : new StdioClientTransport({ command: target, args: rest, env: process.env, stderr: "ignore" });
const client = new Client({ name: "typescript", version: "0" }, { versionNegotiation: { mode } });
await client.connect(transport);

const small = { width: 64, height: 64, steps: 2, seed: 7 };
const text = (result) => result.content.filter((part) => part.type === "text").map((part) => part.text).join("\n");
const call = (name, args, options) => client.callTool({ name, arguments: args }, options);

const tools = (await client.listTools()).tools.map((tool) => tool.name);
const messages = [];
const drawn = await call("generate_image", { prompt: "from typescript", ...small }, {
  onprogress: (progress) => messages.push(progress.message),
});
const imageId = text(drawn).match(/Image id: (\S+)/)[1];
const edited = await call("edit_image", { prompt: "make it blue", images: [imageId], ...small });
const submitted = await call("submit_async_job", { prompt: "later", ...small });
const jobId = text(submitted).match(/Job (\w+):/)[1];
let status;
do status = text(await call("get_job_status", { job_id: jobId }));
while (!/: complete/.test(status));
const fetched = await call("get_job_result", { job_id: jobId });
const failed = await call("get_job_result", { job_id: "0".repeat(32) });
console.log(JSON.stringify({ tools, messages, drawn, edited, fetched, failed }));
await client.close();
