// OpenAI's SDK for Node and Vercel's AI SDK: draw, edit, list models, cancel; prints what they got as JSON.
// Usage: node draw.mjs URL TOKEN PICTURE; with "" for the picture it sends a request and cancels it.
import { createReadStream } from "node:fs";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateImage } from "ai";
import OpenAI, { toFile } from "openai";

const [url, token, picture] = process.argv.slice(2);
const baseURL = `${url}/v1`;
const head = (base64) => Buffer.from(base64, "base64").subarray(1, 4).toString();

const openai = new OpenAI({ baseURL, apiKey: token, maxRetries: 0 });
if (!picture) {
  const controller = new AbortController();
  setTimeout(() => controller.abort(), 500);
  const asked = openai.images.generate({ model: "gpt-image-1", prompt: "cancelled from node" }, { signal: controller.signal });
  console.log(JSON.stringify(await asked.then(() => "drawn", (error) => error.constructor.name)));
  process.exit();
}
const models = [];
for await (const model of openai.models.list()) models.push(model.id);
const drawn = await openai.images.generate({ model: "gpt-image-1", prompt: "a red circle", quality: "high", size: "1024x1024" });
const image = await toFile(createReadStream(picture), "picture.png", { type: "image/png" });
const edited = await openai.images.edit({ model: "gpt-image-1", image: [image], prompt: "make it blue", input_fidelity: "high" });

const vercel = createOpenAICompatible({ name: "imagegen", baseURL, apiKey: token });
const generated = await generateImage({ model: vercel.imageModel("dall-e-3"), prompt: "a red circle", size: "1024x1024" });

console.log(JSON.stringify({
  models,
  drawn: { file: head(drawn.data[0].b64_json), size: drawn.size, warnings: drawn.warnings.map((one) => one.code) },
  edited: { file: head(edited.data[0].b64_json), warnings: edited.warnings.map((one) => one.code) },
  vercel: head(generated.image.base64),
}));
