import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { gunzipSync } from "node:zlib";
import { Tallystick, trackStream, trackTokens, type EventInput } from "../src/index.js";
import { recordOf, Segment } from "../src/node/segment.js";
import { countRequests, InvalidEvent, Spool, SpoolFull } from "../src/node/index.js";

const folder = (): string => mkdtempSync(join(tmpdir(), "tallystick-"));

/** A server that remembers events by their identity, after statuses for its first requests. */
async function sink(t: TestContext, statuses: number[] = []) {
  const events = new Map<string, string>();
  const server = createServer(async (request, response) => {
    const pieces: Buffer[] = [];
    for await (const piece of request) pieces.push(piece as Buffer);
    const body = Buffer.concat(pieces);
    const text = (request.headers["content-encoding"] === "gzip" ? gunzipSync(body) : body).toString();
    const status = statuses.shift() ?? 202;
    const lines = text.trim().split("\n");
    if (status < 300) {
      for (const line of lines) {
        const { id } = JSON.parse(line) as { id: string };
        assert.equal(events.get(id) ?? line, line);
        events.set(id, line);
      }
    }
    response.writeHead(status).end(JSON.stringify(status < 300 ? { accepted: lines.length, rejected: 0, results: [] } : { code: "no" }));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.closeAllConnections());
  t.after(() => server.close());
  const { port } = server.address() as { port: number };
  return { events, url: `http://127.0.0.1:${port}` };
}

const quick = { lingerMs: 1, retryMsMin: 1, retryMsMax: 5 };

test("what was tracked while the server was away is sent by the next spool", async (t) => {
  const directory = folder();
  const first = await Spool.open({ directory, ...quick });
  new Tallystick({ url: "http://127.0.0.1:1", key: "k", ingest: first });
  const ids = Array.from({ length: 50 }, (_, n) => first.track({ type: "call", subject: "acme", data: { n, text: "é\n" } }));
  assert.equal(await first.close(20), false);
  assert.throws(() => first.track({ type: "call", subject: "acme" }), SpoolFull);
  const { url, events } = await sink(t, [503, 429, 413]);
  const second = await Spool.open({ directory, ...quick });
  const client = new Tallystick({ url, key: "k", ingest: second });
  assert.deepEqual(second.stats(), { tracked: 0, accepted: 0, rejected: 0, damaged: 0, waiting: 50 });
  const verdict = client.ingest.add({ type: "call", subject: "acme", id: "mine" });
  assert.equal(await second.flush(), true);
  assert.deepEqual([...events.keys()].sort(), [...ids, "mine"].sort());
  assert.deepEqual(await verdict, { id: "mine", source: "/", status: "accepted" });
  await client.close();
  assert.deepEqual(readdirSync(directory), []);
});

test("a spool whose process lives is left alone, also with a path longer than a socket's may be", async (t) => {
  const directory = join(folder(), "x".repeat(120));
  const first = await Spool.open({ directory, ...quick });
  first.track({ type: "call", subject: "acme" });
  const second = await Spool.open({ directory, ...quick });
  assert.equal(second.stats().waiting, 0);
  await second.close();
  await first.close(1);
  const third = await Spool.open({ directory, ...quick });
  assert.equal(third.stats().waiting, 1);
  const { url } = await sink(t);
  await new Tallystick({ url, key: "k", ingest: third }).close();
  assert.equal(third.stats().accepted, 1);
});

test("a full spool refuses, or lets wait", async (t) => {
  const { url, events } = await sink(t);
  const spool = await Spool.open({ directory: folder(), ...quick, bytesMax: 4096, segmentBytes: 1024 });
  const event = { type: "call", subject: "acme" };
  let count = 0;
  assert.throws(() => {
    for (;;) {
      spool.track(event);
      count += 1;
    }
  }, SpoolFull);
  assert.deepEqual((await spool.add(event)).code, "buffer_full");
  const waits = Promise.all(Array.from({ length: 40 }, () => spool.put(event)));
  spool.attach(new Tallystick({ url, key: "k" })["transport"]);
  await waits;
  assert.equal(await spool.flush(), true);
  assert.equal(events.size, count + 40);
  await spool.close();
});

test("what no server would take is refused at once", async () => {
  const spool = await Spool.open({ directory: folder() });
  const wrong: EventInput[] = [
    { type: "", subject: "a" }, { type: "a", subject: "" }, { type: "a", subject: "x".repeat(257) }, { type: "a", subject: "a", data: [] as never },
    { type: "a", subject: "a", data: { n: 1n } }, { type: "a", subject: "a", data: { n: "x".repeat(1 << 20) } }, { type: "a", subject: "a", id: "" },
  ];
  for (const event of wrong) assert.throws(() => spool.track(event), InvalidEvent);
  await spool.close();
});

test("damage is taken out, and counted", () => {
  const made = (change: (content: Buffer) => Buffer): [number, string[]] => {
    const path = join(folder(), "1.seg");
    const segment = Segment.make(path);
    for (const json of ['{"a":1}', '{"b":2}', '{"c":3}']) segment.append(recordOf(json));
    segment.close();
    writeFileSync(path, change(readFileSync(path)));
    const { segment: left, damaged } = Segment.left(path);
    const lines = left === null ? [] : left.batch(10, 1000).lines;
    left?.close();
    return [damaged, lines];
  };
  assert.deepEqual(made((c) => c), [0, ['{"a":1}', '{"b":2}', '{"c":3}']]);
  assert.deepEqual(made((c) => c.subarray(0, -3)), [1, ['{"a":1}', '{"b":2}']]);
  assert.deepEqual(made((c) => Buffer.concat([c, Buffer.alloc(4096)])), [0, ['{"a":1}', '{"b":2}', '{"c":3}']]);
  assert.deepEqual(made((c) => Buffer.from(c.toString("latin1").replace('"b":2', '"b":3'), "latin1")), [1, ['{"a":1}', '{"c":3}']]);
  assert.deepEqual(made((c) => Buffer.alloc(c.length)), [0, []]);
  assert.equal(recordOf("123456789").toString("latin1"), "e3069283 123456789\n"); // the check value of CRC-32C
});

test("what waits is sent when the process ends by itself", async (t) => {
  const { url, events } = await sink(t);
  const node = new URL("../src/node/index.js", import.meta.url).href;
  const index = new URL("../src/index.js", import.meta.url).href;
  const script = `import { Spool } from ${JSON.stringify(node)}; import { Tallystick } from ${JSON.stringify(index)};
    const spool = await Spool.open({ directory: ${JSON.stringify(folder())}, lingerMs: 3600000 });
    new Tallystick({ url: ${JSON.stringify(url)}, key: "k", ingest: spool });
    spool.track({ id: "last", type: "call", subject: "acme" });`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: ["ignore", "inherit", "inherit"] });
  assert.equal(await new Promise((resolve) => child.once("exit", resolve)), 0);
  assert.deepEqual([...events.keys()], ["last"]);
});

test("one event of each request", async (t) => {
  const events: EventInput[] = [];
  const ingest = { add: async (event: EventInput) => (events.push(event), { id: "", source: "/", status: "accepted" as const }) };
  const count = countRequests(ingest, { subject: (request) => request.headers["x-customer"] as string | undefined, data: () => ({ route: "any" }) });
  const server = createServer((request, response) =>
    count(request, response, () => {
      response.statusCode = 418;
      response.write("é");
      response.end("more");
    }),
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  const url = `http://127.0.0.1:${(server.address() as { port: number }).port}/a?secret=1`;
  assert.equal(await (await fetch(url, { headers: { "x-customer": "acme" } })).text(), "émore");
  await (await fetch(url)).text();
  server.closeAllConnections();
  assert.equal(events.length, 1);
  const { duration_ms, ...rest } = events[0]?.data as Record<string, unknown>;
  assert.match(String(duration_ms), /^\d+\.\d{3}$/);
  assert.deepEqual({ ...events[0], data: rest }, {
    type: "http.request", subject: "acme", data: { method: "GET", path: "/a", status: 418, response_bytes: 6, route: "any" },
  });
});

test("a stream that is left early is counted too", async () => {
  const events: EventInput[] = [];
  const ingest = { add: async (event: EventInput) => (events.push(event), { id: "", source: "/", status: "accepted" as const }) };
  const pieces = [{ type: "message_start", message: { id: "msg_1", model: "claude", usage: { input_tokens: 3, output_tokens: 1 } } }, { type: "ping" }];
  for await (const piece of trackStream(ingest, { subject: "acme" }, pieces)) {
    assert.equal(piece, pieces[0]);
    break;
  }
  assert.equal(trackTokens(ingest, { subject: "acme" }, { id: "x" }), false);
  assert.deepEqual(events.map((event) => [event.id, event.source, event.data?.["total_tokens"]]), [["msg_1", "llm/anthropic", 4]]);
});
