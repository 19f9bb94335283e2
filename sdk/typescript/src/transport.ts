/** One HTTP request with its retries. Nothing here knows a route. */

import { Problem, problemOf, TallystickError, Unreachable } from "./errors.js";

export interface TransportOptions {
  /** Where the server is: `http://127.0.0.1:8080`. In a browser: empty for the page's own origin. */
  url?: string;
  /** API key or portal token; or what answers it, asked before every request. Null: none is sent. */
  key: string | null | (() => string | null);
  /** How often a request is sent again after a failure that may pass (default 4). */
  retriesMax?: number;
  /** Longest wait for one answer (default 30,000); a stream has none. */
  timeoutMs?: number;
  /** Longest wait that `Retry-After` is followed for (default 60,000). */
  retryWaitMsMax?: number;
  fetch?: typeof fetch;
  /** For tests: waits, and dice in [0, 1). */
  sleep?: (ms: number, signal?: AbortSignal) => Promise<void>;
  random?: () => number;
}

export type QueryValue = string | number | boolean | null | undefined | readonly (string | number)[] | object;

export interface Sending {
  query?: Readonly<Record<string, unknown>> | undefined;
  body?: string | Uint8Array | undefined;
  headers?: Readonly<Record<string, string>> | undefined;
  signal?: AbortSignal | undefined;
  /** The answer goes on for as long as it likes. */
  streaming?: boolean | undefined;
  /** Let a page that is being left finish it (browsers; bodies up to 64 KiB). */
  keepalive?: boolean | undefined;
  /** Statuses that are no failure beside 2xx. */
  accepted?: readonly number[] | undefined;
}

const RETRY_BASE_MS = 200;
const RETRY_STEP_MS_MAX = 10_000;
/** What passes: too many requests, a part away, a gateway without its server, an answer that was lost. All our requests are safe to repeat. */
export const PASSING: ReadonlySet<number> = new Set([408, 425, 429, 500, 502, 503, 504]);

export class Transport {
  readonly url: string;
  private readonly options: TransportOptions;
  private readonly retriesMax: number;

  constructor(options: TransportOptions) {
    this.options = options;
    this.url = (options.url ?? "").replace(/\/+$/, "");
    this.retriesMax = options.retriesMax ?? 4;
  }

  /** Send until it is answered. Throws Problem for a refusal, Unreachable, and what `signal` was aborted with. */
  async send(method: string, path: string, sending: Sending = {}): Promise<Response> {
    for (let attempt = 0; ; attempt += 1) {
      let failure: Problem | Unreachable;
      try {
        const response = await this.attempt(method, path, sending);
        if (response.ok || sending.accepted?.includes(response.status)) return response;
        failure = await problemOf(response);
        if (!PASSING.has(response.status)) throw failure;
      } catch (error) {
        sending.signal?.throwIfAborted();
        if (error instanceof Problem && !PASSING.has(error.status)) throw error;
        failure = error as Problem | Unreachable;
      }
      const waitMs = this.waitMs(attempt, failure);
      if (waitMs === null) throw failure;
      await (this.options.sleep ?? sleep)(waitMs, sending.signal);
    }
  }

  /** Send once; the answer, whatever its status. Throws Unreachable, and what `signal` was aborted with. */
  async attempt(method: string, path: string, sending: Sending = {}): Promise<Response> {
    try {
      return await this.once(method, this.url + path + queryText(sending.query ?? {}), sending);
    } catch (error) {
      sending.signal?.throwIfAborted();
      throw error instanceof TallystickError ? error : unreachable(this.url, error);
    }
  }

  private async once(method: string, target: string, sending: Sending): Promise<Response> {
    const key = typeof this.options.key === "function" ? this.options.key() : this.options.key;
    const headers: Record<string, string> = { ...sending.headers };
    if (key !== null) headers["authorization"] = `Bearer ${key}`;
    const late = new AbortController();
    const timer = sending.streaming
      ? undefined
      : setTimeout(() => late.abort(new Error("no answer in time")), this.options.timeoutMs ?? 30_000);
    const stop = (): void => late.abort(sending.signal?.reason);
    if (sending.signal?.aborted) stop();
    sending.signal?.addEventListener("abort", stop, { once: true });
    try {
      const response = await (this.options.fetch ?? fetch)(target, {
        method,
        headers,
        signal: late.signal,
        // The key is in a header: no cookie, and no page of a cache, has a part in it.
        credentials: "omit",
        cache: "no-store",
        ...(sending.body === undefined ? {} : { body: sending.body as BodyInit }),
        ...(sending.keepalive ? { keepalive: true } : {}),
      });
      if (sending.streaming) return response;
      // Read within the same time: a body can stall as well as its head.
      const content = response.status === 204 || response.status === 304 ? null : await response.arrayBuffer();
      return new Response(content, { status: response.status, statusText: response.statusText, headers: response.headers });
    } finally {
      clearTimeout(timer);
      if (!sending.streaming) sending.signal?.removeEventListener("abort", stop);
    }
  }

  /** How long to wait before trying again; null: no more. Full jitter, and never before `Retry-After`. */
  private waitMs(attempt: number, failure: Problem | Unreachable): number | null {
    if (attempt >= this.retriesMax) return null;
    const asked = failure instanceof Problem ? failure.retryAfterMs : null;
    if (asked !== null && asked > (this.options.retryWaitMsMax ?? 60_000)) return null;
    const step = Math.min(RETRY_STEP_MS_MAX, RETRY_BASE_MS * 2 ** attempt);
    const jitter = (this.options.random ?? Math.random)() * step;
    return (asked ?? 0) + jitter;
  }
}

function unreachable(url: string, cause: unknown): Unreachable {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new Unreachable(`No answer from ${url || "the server"}: ${why}`, { cause });
}

/** `idle`: this wait alone keeps no process alive. */
export function sleep(ms: number, signal?: AbortSignal, idle = false): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(done, ms);
    if (idle) (timer as { unref?: () => void }).unref?.();
    function done(): void {
      signal?.removeEventListener("abort", stop);
      resolve();
    }
    function stop(): void {
      clearTimeout(timer);
      reject(signal?.reason);
    }
    if (signal?.aborted) stop();
    else signal?.addEventListener("abort", stop, { once: true });
  });
}

/** `?a=1&b=x&b=y`, with `{filter: {model: {in: ["a"]}}}` as `filter[model][in]=a`. Empty ones are left out. */
export function queryText(query: Readonly<Record<string, unknown>>): string {
  const made = new URLSearchParams();
  const add = (name: string, value: unknown): void => {
    if (value === undefined || value === null) return;
    if (Array.isArray(value)) for (const one of value) add(name, one);
    else if (typeof value === "object") for (const [inner, one] of Object.entries(value)) add(`${name}[${inner}]`, one);
    else made.append(name, String(value));
  };
  for (const [name, value] of Object.entries(query)) add(name, value);
  const text = made.toString();
  return text === "" ? "" : `?${text}`;
}

/** `/v1/meters/{key}` with its parameters percent-encoded, `/` too. */
export function pathText(template: string, parameters: Readonly<Record<string, string>>): string {
  return template.replace(/\{(\w+)\}/g, (_, name: string) => {
    const value = parameters[name];
    if (value === undefined || value === "") throw new TallystickError(`${template} needs ${name}.`);
    return encodeURIComponent(value);
  });
}
