"use strict";
// An MCP Apps view (specification 2026-01-26) that loads nothing from anywhere: previews come with the tool's result,
// full pictures in chunks through the server's tool read_image_chunk, and both are shown from data: and blob:.
const PROTOCOL = "2026-01-26";
const pending = new Map();
let lastId = 0, host = null;

const can = (capability) => host?.hostCapabilities?.[capability] !== undefined;
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

function notify(method, params = {}) {
  window.parent.postMessage({ jsonrpc: "2.0", method, params }, "*");
}

function request(method, params) {
  const id = ++lastId;
  return new Promise((resolve, reject) => {
    pending.set(id, { resolve, reject });
    window.parent.postMessage({ jsonrpc: "2.0", id, method, params }, "*");
  });
}

/** Call `heard[method](params)` for each notification of the host, and settle the view's own requests. */
function listen(heard) {
  window.addEventListener("message", (event) => {
    const message = event.data;
    if (event.source !== window.parent || message?.jsonrpc !== "2.0") return;
    if (message.method) {
      heard[message.method]?.(message.params ?? {});
      if (message.id !== undefined) window.parent.postMessage({ jsonrpc: "2.0", id: message.id, result: {} }, "*");
      return;
    }
    const waiting = pending.get(message.id);
    pending.delete(message.id);
    if (message.error) waiting?.reject(new Error(message.error.message));
    else waiting?.resolve(message.result);
  });
}

/** The result of a tool of the server. Throws an Error with the tool's sentence. */
async function callTool(name, given) {
  const result = await request("tools/call", { name, arguments: given });
  if (result.isError) throw new Error(result.content?.[0]?.text ?? `${name} failed`);
  return result;
}

// Over HTTP in the protocols before 2026-07-28 a server without sessions cannot know that its client has a view, so
// it sends no structured content: the links beside the previews name the pictures too, and the text names the job.
function factsOf(result) {
  const content = result.content ?? [];
  const text = content.find((part) => part.type === "text")?.text ?? "";
  const links = content.filter((part) => part.type === "resource_link");
  const named = links.map((link) => ({ image_id: link.uri.split("/")[2] }));
  const job_id = result.isError ? null : (/\bjob(?:_id="| )([0-9a-f]{32})/i.exec(text)?.[1] ?? null);
  return { says: text, images: named, job_id, ...(result.structuredContent ?? {}) };
}

function decodeBase64(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

function encodeBase64(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 32768) text += String.fromCharCode(...bytes.subarray(at, at + 32768));
  return btoa(text);
}

async function readFull(imageId, onProgress) {
  const parts = [];
  let offset = 0, total = 1;
  while (offset < total) {
    const chunk = (await callTool("read_image_chunk", { image_id: imageId, offset })).structuredContent;
    if (!(chunk.next > offset)) throw new Error("the picture ended early");
    parts.push(decodeBase64(chunk.data));
    offset = chunk.next;
    total = chunk.total;
    onProgress(offset / total);
  }
  return new Blob(parts, { type: "image/png" });
}
