// The service over HTTP. Every failure is a Problem whose `detail` can be shown as it is.

/** What the service (or the way to it) answered instead of a result. `status` 0: no answer at all. */
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

/** Where a picture is: `width` asks the service for a smaller WebP. Relative, so that any prefix works. */
export function pictureUrl(id, width) {
  return width ? `images/${id}.webp?w=${width}` : `images/${id}.png`;
}

/** Where a running job's preview is; each has its own address. */
export function previewUrl({ job_id: id, image, step }) {
  return `api/jobs/${id}/preview?image=${image}&step=${step}`;
}

/** Swap a token for the session's cookie; returns the token's name. The token is kept nowhere. */
export async function signIn(token) {
  const session = await request("POST", "api/session", { headers: { authorization: `Bearer ${token}` } });
  return session.name;
}
