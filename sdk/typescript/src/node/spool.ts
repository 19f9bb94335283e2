/**
 * Events that wait on the disk, for Node: neither a dead server nor a killed process loses one.
 *
 * Each process has a directory of its own in the spool's. Whoever finds one whose process is gone takes its segments over, so
 * what a killed process left is sent by the next one.
 */

import { mkdir, readdir, rename, rmdir } from "node:fs/promises";
import { mkdirSync, renameSync, rmdirSync } from "node:fs";
import type { Server } from "node:net";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { Problem, problemOf, TallystickError, Unreachable } from "../errors.js";
import { eventLine, newId, type EventInput, type Ingests, type Verdict } from "../ingest.js";
import { PASSING, sleep, type Transport } from "../transport.js";
import { forget, isLeft, own } from "./owner.js";
import { recordOf, Segment, type Batch } from "./segment.js";

/** There is no room for another event. */
export class SpoolFull extends TallystickError {
  override name = "SpoolFull";
}

/** An event that no server would take. */
export class InvalidEvent extends TallystickError {
  override name = "InvalidEvent";
}

export interface SpoolOptions {
  /** One for each server and tenant, on a local disk; processes share it. The events are in it in the clear. */
  directory: string;
  /** `source` of events that name none (default `/`). */
  source?: string;
  /** Bytes that may wait (256 MiB), and those of one file (4 MiB). */
  bytesMax?: number;
  segmentBytes?: number;
  /** Within which time an unsent event is synced to the disk (100): what a failing machine can lose. A killed process loses nothing. */
  syncMs?: number;
  /** Events and bytes a request has at most (5,000 and 1 MiB). */
  batchEventsMax?: number;
  batchBytesMax?: number;
  /** How long an event waits for others (250). */
  lingerMs?: number;
  /** Delays between attempts: doubling, with jitter (200, 30,000). */
  retryMsMin?: number;
  retryMsMax?: number;
  /** How long `close`, and the end of the process, wait for the server (5,000). */
  closeMsMax?: number;
  /** Larger batches go gzipped (true). */
  compress?: boolean;
  /** Told of each event that the server will never take, also those of earlier processes. Absent: console.error. */
  onRejected?: (verdict: Verdict) => void;
  /** Told why events wait. */
  onFailure?: (why: string) => void;
}

export interface SpoolStats {
  /** Since the spool was opened. */
  tracked: number;
  accepted: number;
  rejected: number;
  /** In the spool, also those of earlier processes. */
  waiting: number;
  /** Cut off by a machine that went down before they were synced. */
  damaged: number;
}

interface Result {
  index: number;
  status: string;
  code?: string;
  detail?: string;
}

const SUFFIX = ".seg";
const PREFIX = "node-";
const EVENT_BYTES_MAX = 1 << 20;
const NAME_CHARACTERS_MAX = 256;
const ADOPT_EVERY_MS = 30_000;
const ROOM_POLL_MS = 100;
const COMPRESSED_BYTES_MIN = 2048;

export class Spool implements Ingests {
  private readonly options: Required<Omit<SpoolOptions, "onRejected" | "onFailure">> & Pick<SpoolOptions, "onRejected" | "onFailure">;
  private readonly segments: Segment[] = [];
  private current: Segment | null = null;
  private made = 0;
  private transport: Transport | null = null;
  private running: Promise<void> | null = null;
  private wake: () => void = () => undefined;
  private changed: (() => void)[] = [];
  private readonly verdicts = new Map<string, ((verdict: Verdict) => void)[]>();
  private readonly stopping = new AbortController();
  private flushing = 0;
  private failures = 0;
  private eventsMax: number;
  private closed = false;
  private syncTimer: ReturnType<typeof setInterval>;
  private readonly counts = { tracked: 0, accepted: 0, rejected: 0, damaged: 0 };
  private readonly atExit = (): void => void this.flush(this.options.closeMsMax);

  private constructor(
    options: SpoolOptions,
    private readonly home: string,
    private readonly owner: Server,
  ) {
    this.options = {
      source: "/", bytesMax: 256 << 20, segmentBytes: 4 << 20, syncMs: 100, batchEventsMax: 5000, batchBytesMax: 1 << 20,
      lingerMs: 250, retryMsMin: 200, retryMsMax: 30_000, closeMsMax: 5000, compress: true, ...options,
    };
    this.eventsMax = this.options.batchEventsMax;
    this.syncTimer = setInterval(() => this.syncAll((error) => this.failed(`The spool cannot be synced: ${error.message}`)), this.options.syncMs).unref();
    process.once("beforeExit", this.atExit);
  }

  /** Open the directory, and take over what dead processes left in it. Throws when it cannot be made. */
  static async open(options: SpoolOptions): Promise<Spool> {
    const name = `${PREFIX}${process.pid}-${newId()}`;
    const passing = join(options.directory, `.${name}`);
    const home = join(options.directory, name);
    await mkdir(options.directory, { recursive: true, mode: 0o700 });
    mkdirSync(passing, { mode: 0o700 });
    const owner = await own(passing); // before anybody can find it
    renameSync(passing, home);
    const made = new Spool(options, home, owner);
    await made.adopt();
    return made;
  }

  /** Called by Tallystick: from now on events are sent, and those of earlier processes at once. */
  attach(transport: Transport): this {
    this.transport = transport;
    if (this.waiting > 0) this.start();
    return this;
  }

  /**
   * Take one event, and answer its id at once. It is sent in the background, under this id in every attempt, and is safe from
   * the death of this process. Throws InvalidEvent, SpoolFull.
   */
  track(event: EventInput): string {
    const { id, record } = this.recordOf(event);
    this.append(record);
    return id;
  }

  /** As `track`, but waits for room. Throws SpoolFull when the spool is closed meanwhile. */
  async put(event: EventInput): Promise<string> {
    const { id, record } = this.recordOf(event);
    for (;;) {
      try {
        this.append(record);
        return id;
      } catch (error) {
        if (this.closed || !(error instanceof SpoolFull)) throw error;
        this.wake();
        // A disk that others have filled has room again without a word from the server.
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, ROOM_POLL_MS);
          this.changed.push(() => (clearTimeout(timer), resolve()));
        });
      }
    }
  }

  /** As `track`; the promise is answered with what the server made of the event. It never rejects. */
  add(event: EventInput): Promise<Verdict> {
    const identity = { id: event.id ?? newId(), source: event.source ?? this.options.source };
    try {
      this.track({ ...event, ...identity });
    } catch (error) {
      this.failed(String((error as Error).message));
      const code = error instanceof SpoolFull ? (this.closed ? "closed" : "buffer_full") : "invalid_event";
      return Promise.resolve({ ...identity, status: "failed", code, detail: String((error as Error).message) });
    }
    return new Promise((resolve) => {
      const key = keyOf(identity);
      this.verdicts.set(key, [...(this.verdicts.get(key) ?? []), resolve]);
    });
  }

  /** Send what waits; whether the server has answered for all of it within the time (default: however long it takes). */
  async flush(timeoutMs?: number): Promise<boolean> {
    if (this.waiting === 0) return true;
    if (this.transport === null || this.closed) return false;
    let late = false;
    const timer = timeoutMs === undefined ? undefined : setTimeout(() => ((late = true), this.tell()), timeoutMs);
    this.flushing += 1;
    try {
      this.start();
      this.wake();
      while (this.waiting > 0 && !late && !this.closed) await new Promise<void>((resolve) => this.changed.push(resolve));
      return this.waiting === 0;
    } finally {
      clearTimeout(timer);
      this.flushing -= 1;
    }
  }

  /** Flush, then let go of everything; whether all was answered for. What was not waits for the next process. */
  async close(timeoutMs: number = this.options.closeMsMax): Promise<boolean> {
    if (this.closed) return true;
    process.off("beforeExit", this.atExit);
    const complete = await this.flush(timeoutMs);
    this.closed = true;
    this.stopping.abort();
    clearInterval(this.syncTimer);
    this.wake();
    await this.running;
    await this.sync().catch((error: Error) => this.failed(error.message));
    this.dropSent(true);
    for (const segment of this.segments) segment.close();
    await new Promise((resolve) => this.owner.close(resolve));
    if (this.segments.length === 0) {
      forget(this.home);
      try {
        rmdirSync(this.home);
      } catch {
        // What nobody knows stays.
      }
    }
    this.tell();
    return complete;
  }

  /** Have everything tracked so far on the disk, or with the server. */
  async sync(): Promise<void> {
    const all = this.segments.map((one) => new Promise<void>((resolve, reject) => one.sync((error) => (error === null ? resolve() : reject(error)))));
    await Promise.all(all);
  }

  stats(): SpoolStats {
    return { ...this.counts, waiting: this.waiting };
  }

  private get waiting(): number {
    return this.segments.reduce((sum, segment) => sum + segment.waiting, 0);
  }

  private recordOf(event: EventInput): { id: string; record: Buffer } {
    const empty = (["type", "subject"] as const).filter((name) => typeof event[name] !== "string" || event[name] === "");
    if (empty.length > 0) throw new InvalidEvent(`Empty: ${empty.join(", ")}.`);
    if ([...event.subject].length > NAME_CHARACTERS_MAX) throw new InvalidEvent(`subject is longer than ${NAME_CHARACTERS_MAX} characters.`);
    if (event.data !== undefined && event.data !== null && (typeof event.data !== "object" || Array.isArray(event.data))) {
      throw new InvalidEvent("data is no object.");
    }
    const identity = { id: event.id ?? newId(), source: event.source ?? this.options.source };
    if (identity.id === "" || identity.source === "") throw new InvalidEvent("id and source must not be empty.");
    let record: Buffer;
    try {
      record = recordOf(eventLine(event, identity));
    } catch (error) {
      throw new InvalidEvent(`The event is no JSON: ${String(error)}`, { cause: error });
    }
    if (record.length > EVENT_BYTES_MAX) throw new InvalidEvent(`The event has ${record.length} bytes; at most ${EVENT_BYTES_MAX} may be.`);
    return { id: identity.id, record };
  }

  private append(record: Buffer): void {
    if (this.closed) throw new SpoolFull("The spool is closed.");
    const { segmentBytes } = this.options;
    if (this.current === null || this.current.written + record.length > segmentBytes) this.current = this.next(record.length);
    try {
      this.current.append(record);
    } catch (error) {
      throw new SpoolFull(`The spool cannot grow: ${String(error)}`, { cause: error });
    }
    this.counts.tracked += 1;
    this.start();
    if (this.current.written - this.current.sent >= this.options.batchBytesMax) this.wake();
  }

  private next(size: number): Segment {
    this.dropSent(true);
    const { segmentBytes, bytesMax } = this.options;
    const held = this.segments.reduce((sum, one) => sum + Math.max(one.written, segmentBytes), 0);
    if (this.segments.length > 0 && held + Math.max(size, segmentBytes) > bytesMax) {
      throw new SpoolFull(`${held} bytes of events wait for the server; the bound is ${bytesMax}.`);
    }
    try {
      const made = Segment.make(this.newPath());
      this.segments.push(made);
      return made;
    } catch (error) {
      throw new SpoolFull(`The spool cannot grow: ${String(error)}`, { cause: error });
    }
  }

  private newPath(): string {
    this.made += 1;
    return join(this.home, String(this.made).padStart(8, "0") + SUFFIX);
  }

  // Segments that the server has; the current one too when it is half full, or has to make room.
  private dropSent(currentToo: boolean): void {
    for (let place = 0; place < this.segments.length; ) {
      const one = this.segments[place] as Segment;
      if (one.waiting > 0 || (one === this.current && !currentToo && one.written < this.options.segmentBytes / 2)) {
        place += 1;
        continue;
      }
      if (one === this.current) this.current = null;
      one.remove();
      this.segments.splice(place, 1);
    }
  }

  private async adopt(): Promise<void> {
    for (const entry of await readdir(this.options.directory, { withFileTypes: true })) {
      const other = join(this.options.directory, entry.name);
      if (!entry.isDirectory() || !entry.name.startsWith(PREFIX) || other === this.home || !(await isLeft(other))) continue;
      for (const file of (await readdir(other).catch(() => [])).sort()) {
        if (!file.endsWith(SUFFIX) || this.closed) continue;
        const here = this.newPath();
        try {
          await rename(join(other, file), here); // one process alone has success
        } catch {
          continue;
        }
        try {
          const { segment, damaged } = Segment.left(here);
          this.counts.damaged += damaged;
          if (segment !== null) this.segments.push(segment);
        } catch {
          await rename(here, `${here}.damaged`);
        }
      }
      forget(other);
      await rmdir(other).catch(() => undefined);
    }
  }

  private start(): void {
    if (this.running === null && this.transport !== null && !this.closed) this.running = this.run(this.transport);
  }

  /** Tell whoever waits for room, or for the end. */
  private tell(): void {
    const waiting = this.changed;
    this.changed = [];
    for (const each of waiting) each();
  }

  private async run(transport: Transport): Promise<void> {
    let adoptedAt = performance.now();
    while (!this.closed) {
      if (this.flushing === 0) await this.linger();
      if (performance.now() - adoptedAt > ADOPT_EVERY_MS) {
        adoptedAt = performance.now();
        await this.adopt().catch((error: Error) => this.failed(error.message));
      }
      try {
        await this.sendAll(transport);
      } catch (error) {
        this.failed(String(error));
        await this.pause(null);
      }
      this.tell();
      if (this.flushing > 0) await new Promise(setImmediate); // whoever flushes finds that nothing waits, and goes
      else if (this.waiting === 0) break; // the next event starts it again
    }
    this.running = null;
  }

  private linger(): Promise<void> {
    return new Promise((resolve) => {
      // A timer alone keeps no process alive: `beforeExit` sends what waits.
      const timer = setTimeout(resolve, this.options.lingerMs).unref();
      this.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  private async sendAll(transport: Transport): Promise<void> {
    while (!this.closed) {
      const segment = this.segments.find((one) => one.waiting > 0);
      if (segment === undefined) return;
      await this.send(transport, segment.batch(this.eventsMax, this.options.batchBytesMax));
    }
  }

  // Try until there is an answer for every event of the batch, or the end.
  private async send(transport: Transport, batch: Batch): Promise<void> {
    while (!this.closed) {
      let retryAfterMs: number | null = null;
      try {
        const response = await transport.attempt("POST", "/v1/events", { ...this.bodyOf(batch.lines), signal: this.stopping.signal });
        if (response.ok) {
          this.settle(batch, resultsOf(await response.json()));
          this.failures = 0;
          return;
        }
        throw await problemOf(response);
      } catch (error) {
        if (this.closed) return;
        this.failed(String((error as Error).message));
        if (error instanceof Problem) {
          if (error.status === 422 && Array.isArray(error.document["results"])) {
            this.settle(batch, resultsOf(error.document));
            return;
          }
          if (error.status === 400 || error.status === 413 || error.status === 422) {
            // Something in it cannot be taken, or all of it is too much: find out which.
            if (batch.lines.length === 1) {
              this.settle(batch, [{ index: 0, status: "rejected", code: error.code, detail: error.detail }]);
              return;
            }
            const half = batch.lines.length >> 1;
            batch = { segment: batch.segment, lines: batch.lines.slice(0, half), ends: batch.ends.slice(0, half) };
            if (error.status === 413) this.eventsMax = half;
            continue;
          }
          retryAfterMs = error.retryAfterMs;
          // No key, no scope, no such path: only people mend that, and the events wait for them.
          if (!PASSING.has(error.status)) retryAfterMs = Math.max(retryAfterMs ?? 0, this.options.retryMsMax / 2);
        }
      }
      await this.pause(retryAfterMs);
    }
  }

  private bodyOf(lines: readonly string[]): { body: string | Uint8Array; headers: Record<string, string> } {
    const text = `${lines.join("\n")}\n`;
    const headers = { "content-type": "application/x-ndjson", accept: "application/json" };
    if (!this.options.compress || text.length < COMPRESSED_BYTES_MIN) return { body: text, headers };
    return { body: gzipSync(text, { level: 1 }), headers: { ...headers, "content-encoding": "gzip" } };
  }

  /** Doubling, anywhere in the upper half, and never before the server says so. */
  private async pause(retryAfterMs: number | null): Promise<void> {
    const span = Math.min(this.options.retryMsMax, this.options.retryMsMin * 2 ** Math.min(this.failures, 30));
    this.failures += 1;
    await sleep(Math.max(span * (0.5 + Math.random() / 2), retryAfterMs ?? 0), this.stopping.signal, this.flushing === 0).catch(() => undefined);
  }

  private settle(batch: Batch, results: readonly Result[]): void {
    const why = new Map(results.filter((one) => one.status === "rejected").map((one) => [one.index, one]));
    if (why.size > 0 || this.verdicts.size > 0) {
      batch.lines.forEach((line, index) => {
        const refused = why.get(index);
        if (refused === undefined && this.verdicts.size === 0) return;
        const { id, source } = JSON.parse(line) as { id: string; source: string };
        const verdict: Verdict = { id, source, status: refused === undefined ? "accepted" : "rejected" };
        if (refused?.code !== undefined) verdict.code = refused.code;
        if (refused?.detail !== undefined) verdict.detail = refused.detail;
        if (refused !== undefined) this.rejected(verdict);
        for (const resolve of this.verdicts.get(keyOf(verdict)) ?? []) resolve(verdict);
        this.verdicts.delete(keyOf(verdict));
      });
    }
    this.counts.rejected += why.size;
    this.counts.accepted += batch.lines.length - why.size;
    batch.segment.acknowledge(batch.ends[batch.ends.length - 1] as number, batch.lines.length);
    this.dropSent(false);
    this.tell();
  }

  private rejected(verdict: Verdict): void {
    if (this.options.onRejected === undefined) {
      console.error(`Event ${verdict.id} was rejected: ${verdict.code}: ${verdict.detail}`);
      return;
    }
    try {
      this.options.onRejected(verdict);
    } catch (error) {
      console.error(`onRejected failed for event ${verdict.id}:`, error);
    }
  }

  private failed(why: string): void {
    this.options.onFailure?.(why);
  }

  private syncAll(told: (error: Error) => void): void {
    for (const segment of this.segments) segment.sync((error) => error !== null && told(error));
  }
}

function keyOf(event: { id: string; source: string }): string {
  return JSON.stringify([event.source, event.id]);
}

/** What a server says of each event. Anything else is somebody else's answer. */
function resultsOf(document: unknown): readonly Result[] {
  const results = (document as { results?: unknown } | null)?.results;
  if (!Array.isArray(results)) throw new Unreachable("The answer is not the server's: is there a proxy?");
  return results as Result[];
}
