/**
 * One file of the spool: 64 bytes of header (a magic word, and how far the server has acknowledged), then a line for each
 * event, `crc32c SP json LF`. The mark in the header may be older than the truth, never newer; what is sent twice because of
 * it counts once.
 *
 * What was written is the kernel's, so the death of the process cannot take it; that of the machine can take what was not
 * synced, and a line it has torn is found by its checksum.
 */

import { closeSync, fdatasync, fsyncSync, ftruncateSync, openSync, readFileSync, readSync, renameSync, unlinkSync, writeSync } from "node:fs";

const MAGIC = "tallystick-node-spool-1\n";
const HEADER_BYTES = 64;
const MARK_AT = 32;
const CHECK_BYTES = 9; // of a line, before the event
const LF = 10;

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0x82f63b78 : value >>> 1;
  return value;
});

function checksum(bytes: Buffer, from: number, to: number): string {
  let value = 0xffffffff;
  for (let at = from; at < to; at += 1) value = (value >>> 8) ^ (TABLE[(value ^ (bytes[at] as number)) & 0xff] as number);
  return ((value ^ 0xffffffff) >>> 0).toString(16).padStart(8, "0");
}

/** An event's JSON as a segment keeps it. */
export function recordOf(json: string): Buffer {
  const made = Buffer.from(`00000000 ${json}\n`);
  made.write(checksum(made, CHECK_BYTES, made.length - 1), 0, "latin1");
  return made;
}

function isWhole(line: Buffer): boolean {
  return (
    line.length > CHECK_BYTES + 2 && line[line.length - 1] === LF && line[CHECK_BYTES - 1] === 0x20 &&
    line.toString("latin1", 0, CHECK_BYTES - 1) === checksum(line, CHECK_BYTES, line.length - 1)
  );
}

function markText(sent: number): string {
  return String(sent).padStart(20, "0");
}

function header(sent: number): Buffer {
  const made = Buffer.alloc(HEADER_BYTES);
  made.write(MAGIC, 0, "latin1");
  made.write(markText(sent), MARK_AT, "latin1");
  made[HEADER_BYTES - 1] = LF;
  return made;
}

export interface Batch {
  segment: Segment;
  /** The events' JSON, in order. */
  lines: string[];
  /** Bytes of the segment that they are, up to each of them. */
  ends: number[];
}

export class Segment {
  private synced = HEADER_BYTES;
  private closed = false;
  private syncing = false;

  private constructor(
    readonly path: string,
    private readonly fd: number,
    public written: number,
    public sent: number,
    /** Events not acknowledged. */
    public waiting: number,
  ) {}

  static make(path: string): Segment {
    const fd = openSync(path, "wx+", 0o600);
    writeSync(fd, header(HEADER_BYTES), 0, HEADER_BYTES, 0);
    return new Segment(path, fd, HEADER_BYTES, HEADER_BYTES, 0);
  }

  /** One that another process has left, and how many of its lines were damaged: they are taken out of the file. */
  static left(path: string): { segment: Segment | null; damaged: number } {
    const content = readFileSync(path);
    if (content.every((byte) => byte === 0)) {
      unlinkSync(path); // made, and then the end came
      return { segment: null, damaged: 0 };
    }
    if (content.toString("latin1", 0, MAGIC.length) !== MAGIC || content.length < HEADER_BYTES) throw new Error(`${path} is no file of a spool.`);
    let sent = Number(content.toString("latin1", MARK_AT, MARK_AT + 20));
    // From the front again where the mark makes no sense: nothing is lost by it.
    if (!Number.isInteger(sent) || sent < HEADER_BYTES || sent > content.length || content[sent - 1] !== LF) sent = HEADER_BYTES;
    let last = content.length;
    while (last > sent && content[last - 1] === 0) last -= 1;
    const whole: Buffer[] = [];
    let damaged = 0;
    for (let at = sent; at < last; ) {
      const lf = content.indexOf(LF, at);
      const end = lf < 0 || lf >= last ? last : lf + 1;
      const line = content.subarray(at, end);
      if (isWhole(line)) whole.push(line);
      else damaged += 1;
      at = end;
    }
    if (whole.length === 0) {
      unlinkSync(path);
      return { segment: null, damaged };
    }
    if (damaged > 0) {
      // The same file with whole lines alone, put in its place in one step.
      sent = HEADER_BYTES;
      const passing = openSync(`${path}.passing`, "w", 0o600);
      const made = Buffer.concat([header(sent), ...whole]);
      writeSync(passing, made, 0, made.length, 0);
      fsyncSync(passing);
      closeSync(passing);
      renameSync(`${path}.passing`, path);
    }
    const size = whole.reduce((sum, line) => sum + line.length, 0);
    return { segment: new Segment(path, openSync(path, "r+"), sent + size, sent, whole.length), damaged };
  }

  append(record: Buffer): void {
    let done = 0;
    try {
      while (done < record.length) done += writeSync(this.fd, record, done, record.length - done, this.written + done);
    } catch (error) {
      // Part of it may be there: the next line goes over it, and until then its checksum is wrong.
      ftruncateSync(this.fd, this.written);
      throw error;
    }
    this.written += record.length;
    this.waiting += 1;
  }

  /** The next events: at least one, however long. */
  batch(eventsMax: number, bytesMax: number): Batch {
    const left = this.written - this.sent;
    for (let want = bytesMax + 64; ; want *= 2) {
      const piece = Buffer.alloc(Math.min(want, left));
      readSync(this.fd, piece, 0, piece.length, this.sent);
      const lines: string[] = [];
      const ends: number[] = [];
      let at = 0;
      while (lines.length < eventsMax) {
        const lf = piece.indexOf(LF, at);
        if (lf < 0 || (lines.length > 0 && lf > bytesMax)) break;
        lines.push(piece.toString("utf8", at + CHECK_BYTES, lf));
        at = lf + 1;
        ends.push(at);
      }
      if (lines.length > 0) return { segment: this, lines, ends };
      if (want >= left) throw new Error(`${this.path}: somebody else has written into it.`);
    }
  }

  /** The first bytes that were not, so many events, are with the server. */
  acknowledge(bytes: number, events: number): void {
    this.sent += bytes;
    this.waiting -= events;
    try {
      writeSync(this.fd, markText(this.sent), MARK_AT, "latin1");
    } catch {
      // An old mark costs a repetition and nothing else.
    }
  }

  /** Have it on the disk; `told` hears of what went wrong. */
  sync(told: (error: Error | null) => void): void {
    if (this.closed || this.syncing || this.waiting === 0 || this.synced >= this.written) {
      told(null);
      return;
    }
    const reached = this.written;
    this.syncing = true;
    fdatasync(this.fd, (error) => {
      this.syncing = false;
      if (error === null) this.synced = Math.max(this.synced, reached);
      if (this.closed) closeSync(this.fd);
      told(error);
    });
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    // A descriptor that is being synced must not become another file's meanwhile.
    if (!this.syncing) closeSync(this.fd);
  }

  remove(): void {
    this.close();
    try {
      unlinkSync(this.path);
    } catch {
      // Its mark says that all of it was sent.
    }
  }
}
