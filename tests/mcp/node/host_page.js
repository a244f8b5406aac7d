// An MCP Apps host in a page, with the official AppBridge: calls a drawing tool and lets the server's view show it.
import { AppBridge, PostMessageTransport } from "@modelcontextprotocol/ext-apps/app-bridge";
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const VIEW_MIME = "text/html;profile=mcp-app";

window.host = { downloads: [], sizes: [], contexts: [], result: null };

/** Connects a client and the view. `window.host.start()` then calls generate_image, as for a model. */
window.open = async (args) => {
  const client = new Client(
    { name: "host", version: "0" },
    {
      capabilities: { extensions: { "io.modelcontextprotocol/ui": { mimeTypes: [VIEW_MIME] } } },
      versionNegotiation: { mode: args.mode },
    },
  );
  await client.connect(new StreamableHTTPClientTransport(new URL("/mcp", location.href)));
  const tool = (await client.listTools()).tools.find((one) => one.name === "generate_image");
  const view = (await client.readResource({ uri: tool._meta.ui.resourceUri })).contents[0];
  if (view.mimeType !== VIEW_MIME) throw new Error(`the view is ${view.mimeType}`);

  const frame = document.getElementById("view");
  await fetch("/view", { method: "PUT", body: view.text });
  const loaded = new Promise((resolve) => frame.addEventListener("load", resolve, { once: true }));
  const capabilities = {
    serverTools: {},
    ...(args.downloads ? { downloadFile: {} } : {}),
    ...(args.contexts ? { updateModelContext: { text: {} } } : {}),
  };
  const bridge = new AppBridge(args.tools ? client : null, { name: "test host", version: "0" }, args.tools ? capabilities : {});
  bridge.ondownloadfile = async ({ contents }) => {
    window.host.downloads.push(contents);
    return {};
  };
  bridge.onupdatemodelcontext = async ({ content }) => {
    window.host.contexts.push(content);
    return {};
  };
  bridge.onsizechange = (size) => window.host.sizes.push(size);
  const ready = new Promise((resolve) => (bridge.oninitialized = resolve));
  frame.src = "about:blank";
  await bridge.connect(new PostMessageTransport(frame.contentWindow, frame.contentWindow));
  frame.src = "/view";
  await loaded;
  await ready;
  window.host.call = (name, given) => client.callTool({ name, arguments: given });
  window.host.start = async () => {
    await bridge.sendToolInput({ arguments: args.arguments });
    window.host.result = await window.host.call("generate_image", args.arguments);
    await bridge.sendToolResult(window.host.result);
    return window.host.result;
  };
};
