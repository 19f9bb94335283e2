/**
 * Events sent in batches, in the background. An event gets its id when it is added and keeps it through every retry, so
 * that whatever happens on the way it is counted once. Each event gets a verdict of its own.
 */

import { Problem, TallystickError } from "./errors.js";
import { stringify } from "./json.js";
import type { Transport } from "./transport.js";

export interface EventInput {
  /** Made where it is absent. Give your own where the same event may be added twice, by another process too. */
  id?: string;
  source?: string;
  type: string;
  subject: string;
  /** RFC 3339, or a Date. Absent: the moment it is added. Null: the server's, when it arrives. */
  time?: string | Date | null;
  data?: Readonly<Record<string, unknown>> | null;
  [attribute: string]: unknown;
}

export interface Verdict {
  id: string;
  source: string;
  /** accepted: durable. rejected: `code` says why. failed: it could not be sent; add it again with the same id. */
  status: "accepted" | "rejected" | "failed";
  code?: string;
  detail?: string;
}

export interface IngestOptions {
  /** `source` of events that name none (default `/`). */
  source?: string;
  /** Events and bytes a request has at most (1,000 and 1 MiB). */
  batchEventsMax?: number;
  batchBytesMax?: number;
  /** How long an event waits for others (250). */
  lingerMs?: number;
  /** Events that may wait (100,000); an event beyond fails with `buffer_full`. */
  bufferedEventsMax?: number;
  /** Requests under way at a time (2). */
  requestsMax?: number;
  /** Told of every event that was not accepted. */
  onRefused?: (verdict: Verdict) => void;
  /** Send what waits when the process ends by itself (Node) or the page is left (browsers). Default true. */
  flushOnExit?: boolean;
}

/** What events are given to: `Ingest` keeps them in memory, `Spool` of `tallystick/node` on the disk. */
export interface Ingests {
  /** Answered once the event is durable at the server, or known not to be; never rejects. */
  add(event: EventInput): Promise<Verdict>;
  /** Send all that waits. */
  flush(): Promise<unknown>;
  /** Flush, and take nothing more. */
  close(): Promise<unknown>;
}

interface Waiting {
  id: string;
  source: string;
  line: string;
  resolve: (verdict: Verdict) => void;
}

interface Accepted {
  results: { index: number; status: string; code?: string; detail?: string }[];
}

const KEEPALIVE_BYTES_MAX = 60_000; // browsers refuse 64 KiB and more

export class Ingest implements Ingests {
  private readonly options: Required<Omit<IngestOptions, "onRefused">> & Pick<IngestOptions, "onRefused">;
  private buffer: Waiting[] = [];
  private bufferBytes = 0;
  private waiting = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly underWay = new Set<Promise<void>>();
  private closed = false;
  private leaving = false;
  private forget: () => void = () => undefined;

  constructor(
    private readonly transport: Transport,
    options: IngestOptions = {},
  ) {
    this.options = {
      source: "/", batchEventsMax: 1000, batchBytesMax: 1 << 20, lingerMs: 250, bufferedEventsMax: 100_000, requestsMax: 2,
      flushOnExit: true, ...options,
    };
    if (this.options.flushOnExit) this.forget = this.watchExit();
  }

  /**
   * Take an event. The promise is answered once the event is durable, or known not to be; it never rejects, so it may be
   * ignored (then give `onRefused`).
   */
  add(event: EventInput): Promise<Verdict> {
    const id = event.id ?? newId();
    const source = event.source ?? this.options.source;
    if (this.closed) return Promise.resolve(this.told({ id, source, status: "failed", code: "closed", detail: "The client is closed." }));
    if (this.waiting >= this.options.bufferedEventsMax) {
      const detail = `${this.waiting} events wait already.`;
      return Promise.resolve(this.told({ id, source, status: "failed", code: "buffer_full", detail }));
    }
    let line: string;
    try {
      line = eventLine(event, { id, source });
    } catch (error) {
      return Promise.resolve(this.told({ id, source, status: "failed", code: "not_json", detail: String(error) }));
    }
    this.waiting += 1;
    return new Promise((resolve) => {
      this.buffer.push({ id, source, line, resolve });
      this.bufferBytes += line.length;
      this.proceed();
    });
  }

  /** Send all that waits, and wait until every event has its verdict. */
  async flush(): Promise<void> {
    while (this.buffer.length > 0 || this.underWay.size > 0) {
      this.sendOff(true);
      await Promise.race(this.underWay);
    }
  }

  /** Flush, and take nothing more. */
  async close(): Promise<void> {
    this.closed = true;
    this.forget();
    await this.flush();
  }

  private proceed(): void {
    this.sendOff(false);
    if (this.buffer.length === 0 || this.timer !== undefined) return;
    this.timer = setTimeout(() => {
      this.timer = undefined;
      this.sendOff(true);
    }, this.options.lingerMs);
    // A timer alone keeps no process alive: `beforeExit` sends what waits.
    (this.timer as { unref?: () => void }).unref?.();
  }

  private sendOff(evenSmall: boolean): void {
    const full = (): boolean => this.buffer.length >= this.options.batchEventsMax || this.bufferBytes >= this.options.batchBytesMax;
    while (this.buffer.length > 0 && this.underWay.size < this.options.requestsMax && (evenSmall || full())) {
      const batch = this.take();
      const work: Promise<void> = this.deliver(batch).finally(() => {
        this.underWay.delete(work);
        this.proceed();
      });
      this.underWay.add(work);
    }
  }

  private take(): Waiting[] {
    const bytesMax = this.leaving ? Math.min(KEEPALIVE_BYTES_MAX, this.options.batchBytesMax) : this.options.batchBytesMax;
    let bytes = 0;
    let count = 0;
    for (const one of this.buffer) {
      if (count > 0 && (count >= this.options.batchEventsMax || bytes + one.line.length > bytesMax)) break;
      bytes += one.line.length;
      count += 1;
    }
    this.bufferBytes -= bytes;
    return this.buffer.splice(0, count);
  }

  private async deliver(batch: Waiting[]): Promise<void> {
    let verdicts: Map<number, Omit<Verdict, "id" | "source">>;
    try {
      const response = await this.transport.send("POST", "/v1/events", {
        body: batch.map((one) => one.line).join("\n"),
        headers: { "content-type": "application/x-ndjson", accept: "application/json" },
        keepalive: this.leaving,
      });
      verdicts = refusals((await response.json()) as Accepted);
    } catch (error) {
      if (error instanceof Problem && error.status === 413 && batch.length > 1) {
        // Larger than this server takes: in halves.
        const middle = batch.length >> 1;
        await this.deliver(batch.slice(0, middle));
        await this.deliver(batch.slice(middle));
        return;
      }
      if (error instanceof Problem && Array.isArray(error.document["results"])) {
        verdicts = refusals(error.document as unknown as Accepted); // 422: none of them was accepted
      } else {
        const [code, detail] = error instanceof Problem ? [error.code, error.detail] : ["unreachable", String((error as TallystickError).message)];
        verdicts = new Map(batch.map((_, index) => [index, { status: "failed", code, detail }]));
      }
    }
    batch.forEach((one, index) => {
      this.waiting -= 1;
      const { id, source } = one;
      one.resolve(this.told({ id, source, ...(verdicts.get(index) ?? { status: "accepted" }) }));
    });
  }

  private told(verdict: Verdict): Verdict {
    if (verdict.status !== "accepted") this.options.onRefused?.(verdict);
    return verdict;
  }

  private watchExit(): () => void {
    const flush = (): void => void this.flush();
    const node = (globalThis as { process?: { on?: unknown; once(name: string, f: () => void): void; off(name: string, f: () => void): void } }).process;
    if (typeof node?.on === "function") {
      node.once("beforeExit", flush);
      return () => node.off("beforeExit", flush);
    }
    if (typeof document === "undefined") return () => undefined;
    const hidden = (): void => {
      this.leaving = document.visibilityState === "hidden";
      if (this.leaving) flush();
    };
    document.addEventListener("visibilitychange", hidden);
    return () => document.removeEventListener("visibilitychange", hidden);
  }
}

function refusals(answer: Accepted): Map<number, Omit<Verdict, "id" | "source">> {
  return new Map(
    answer.results.map((one) => [
      one.index,
      {
        status: "rejected" as const,
        ...(one.code === undefined ? {} : { code: one.code }),
        ...(one.detail === undefined ? {} : { detail: one.detail }),
      },
    ]),
  );
}

/** An event as one line of JSON. It is made once: every attempt sends the same. */
export function eventLine(event: EventInput, identity: { id: string; source: string }): string {
  return stringify({ ...event, specversion: "1.0", ...identity, time: timeText(event.time) });
}

function timeText(time: string | Date | null | undefined): string | undefined {
  if (time === null) return undefined;
  if (time === undefined) return new Date().toISOString();
  return typeof time === "string" ? time : time.toISOString();
}

/** A version 7 UUID (RFC 9562): random, and in the order of time, which is kinder to an index. */
export function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const now = Date.now();
  for (let place = 0; place < 6; place += 1) bytes[place] = Math.floor(now / 2 ** (8 * (5 - place))) % 256;
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x70;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
