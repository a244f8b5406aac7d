// The service over HTTP. Every failure is a Problem whose `detail` can be shown as it is.

/** An error answer of the service or of a proxy. `status` 0: no answer. */
export class Problem extends Error {
  constructor({ status, code, title, detail }) {
    super(detail);
    Object.assign(this, { status, code, title, detail });
  }
}

let clockSkewMs = 0; // the service's clock minus this one

/** The service's clock, in milliseconds. */
export const serviceNow = () => Date.now() + clockSkewMs;

/** Fetch `path` and return its JSON. Raises Problem. */
export async function request(method, path, { json, body, headers = {} } = {}) {
  const options = { method, headers: { accept: "application/json", ...headers }, body, cache: "no-store" };
  if (json !== undefined) {
    options.body = JSON.stringify(json);
    options.headers["content-type"] = "application/json";
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Problem({ status: 0, code: "unreachable", title: "No answer", detail: "The service does not answer." });
  }
  const date = Date.parse(answer.headers.get("date") ?? "");
  const ahead = date - Date.now();
  if (!Number.isNaN(date)) clockSkewMs = Math.abs(ahead) > 2000 ? ahead : 0; // the header counts whole seconds
  const type = answer.headers.get("content-type") ?? "";
  const content = type.includes("json") ? await answer.json().catch(() => null) : null;
  if (answer.ok) return content;
  throw new Problem({
    status: answer.status,
    code: content?.code ?? "http",
    title: content?.title ?? `Status ${answer.status}`,
    detail: content?.detail ?? `The service answered with status ${answer.status} and no reason.`,
  });
}

export const get = (path) => request("GET", path);

/** The URL of a picture. `width` requests a smaller WebP. Relative, so that any path prefix works. */
export function pictureUrl(id, width) {
  return width ? `images/${id}.webp?w=${width}` : `images/${id}.png`;
}

const SHOWN_MOST_PX = 2048;

/** The URL of a picture for the screen. A larger one, such as an upscale, is reduced. */
export const shownUrl = ({ id, width }) => pictureUrl(id, width > SHOWN_MOST_PX ? SHOWN_MOST_PX : null);

/** The URL of a running job's preview. Each preview has its own URL. */
export function previewUrl({ job_id: id, image, step }) {
  return `api/jobs/${id}/preview?image=${image}&step=${step}`;
}

/** Exchange a token for a session cookie. Returns the token's name. The page does not store the token. */
export async function signIn(token) {
  const session = await request("POST", "api/session", { headers: { authorization: `Bearer ${token}` } });
  return session.name;
}
