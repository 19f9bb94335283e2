/** What can go wrong, as one tree: `TallystickError` > `Problem` (the server said no), `Unreachable` (no answer came). */

export interface Fault {
  /** JSON pointer into the body, or the parameter's name. */
  pointer: string;
  code: string;
  detail: string;
}

export class TallystickError extends Error {
  override name = "TallystickError";
}

/** The server refused: an RFC 9457 document. `code` is stable (docs/reference/errors.md). */
export class Problem extends TallystickError {
  override name = "Problem";

  constructor(
    readonly status: number,
    readonly code: string,
    readonly title: string,
    readonly detail: string,
    readonly errors: readonly Fault[],
    readonly requestId: string | null,
    /** Further members, such as `results` of an ingest of which nothing was accepted. */
    readonly document: Readonly<Record<string, unknown>>,
    readonly retryAfterMs: number | null,
  ) {
    super(`${code}: ${detail}`);
  }
}

/** No answer came: no connection, cut off, or too late. `cause` has what the platform said. */
export class Unreachable extends TallystickError {
  override name = "Unreachable";
}

/** Read a refusal, whoever wrote it: a proxy in between may answer with a page. */
export async function problemOf(response: Response): Promise<Problem> {
  let document: Record<string, unknown> = {};
  try {
    const read: unknown = JSON.parse(await response.text());
    if (typeof read === "object" && read !== null) document = read as Record<string, unknown>;
  } catch {
    // The status has to do.
  }
  const text = (name: string, otherwise: string): string =>
    typeof document[name] === "string" ? (document[name] as string) : otherwise;
  const title = text("title", response.statusText || `HTTP ${response.status}`);
  return new Problem(
    response.status,
    text("code", `http_${response.status}`),
    title,
    text("detail", title),
    Array.isArray(document["errors"]) ? (document["errors"] as Fault[]) : [],
    response.headers.get("x-request-id"),
    document,
    retryAfterMs(response.headers.get("retry-after"), Date.now()),
  );
}

/** `Retry-After` in milliseconds (RFC 9110 section 10.2.3): seconds, or a date. Null: absent or not readable. */
export function retryAfterMs(header: string | null, nowMs: number): number | null {
  if (header === null) return null;
  if (/^\d{1,9}$/.test(header.trim())) return Number(header.trim()) * 1000;
  const at = Date.parse(header);
  return Number.isNaN(at) ? null : Math.max(0, at - nowMs);
}
