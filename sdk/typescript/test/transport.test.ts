import assert from "node:assert/strict";
import { test } from "node:test";
import { Problem, retryAfterMs, Unreachable } from "../src/errors.js";
import { Ingest, newId } from "../src/ingest.js";
import { messages } from "../src/stream.js";
import { pathText, queryText, Transport, type TransportOptions } from "../src/transport.js";

interface Asked {
  url: string;
  body: string;
  headers: Record<string, string>;
}

/** A transport whose server answers what `answer` says, and that never really waits. */
function scripted(answer: (asked: Asked, number: number) => Response | Error, more: Partial<TransportOptions> = {}) {
  const asked: Asked[] = [];
  const waits: number[] = [];
  const transport = new Transport({
    url: "http://server/",
    key: "k",
    random: () => 0.5,
    sleep: async (ms) => void waits.push(ms),
    fetch: (async (url: string, init: RequestInit) => {
      asked.push({ url, body: String(init.body ?? ""), headers: init.headers as Record<string, string> });
      const made = answer(asked[asked.length - 1] as Asked, asked.length);
      if (made instanceof Error) throw made;
      return made;
    }) as typeof fetch,
    ...more,
  });
  return { transport, asked, waits };
}

const accepted = (results: object[] = []): Response => Response.json({ accepted: 1, rejected: results.length, position: "p1-1", results }, { status: 202 });
const problem = (status: number, code: string, headers: Record<string, string> = {}, more: object = {}): Response =>
  Response.json({ type: "t", title: "T", status, detail: "why", code, errors: [], ...more }, { status, headers });

test("what may pass is tried again, with jitter and never before Retry-After", async () => {
  const { transport, waits } = scripted((_, number) => (number === 1 ? problem(503, "unavailable") : number === 2 ? problem(429, "rate_limited", { "retry-after": "7" }) : Response.json({})));
  await transport.send("GET", "/v1/meters");
  assert.deepEqual(waits, [100, 7200]);
});

test("a lost connection is tried again, and then named", async () => {
  const { transport, waits } = scripted(() => new TypeError("fetch failed"), { retriesMax: 2 });
  await assert.rejects(transport.send("GET", "/v1/meters"), (error: Error) => error instanceof Unreachable && /fetch failed/.test(error.message));
  assert.equal(waits.length, 2);
});

test("what the server means is thrown at once, whole", async () => {
  const { transport, asked } = scripted(() => problem(422, "invalid", { "x-request-id": "r-1" }, { errors: [{ pointer: "/a", code: "c", detail: "d" }] }));
  await assert.rejects(transport.send("GET", "/v1/meters"), (error: Problem) => error.code === "invalid" && error.requestId === "r-1" && error.errors[0]?.pointer === "/a");
  assert.equal(asked.length, 1);
});

test("a wait longer than is followed ends the trying", async () => {
  const { transport, waits } = scripted(() => problem(503, "unavailable", { "retry-after": "3600" }));
  await assert.rejects(transport.send("GET", "/x"), Problem);
  assert.deepEqual(waits, []);
});

test("a page instead of a problem keeps its status", async () => {
  const { transport } = scripted(() => new Response("<html>", { status: 403 }));
  await assert.rejects(transport.send("GET", "/x"), (error: Problem) => error.status === 403 && error.code === "http_403");
});

test("Retry-After is seconds or a date", () => {
  assert.equal(retryAfterMs("3", 0), 3000);
  assert.equal(retryAfterMs("Thu, 01 Jan 1970 00:00:10 GMT", 4000), 6000);
  assert.equal(retryAfterMs("soon", 0), null);
  assert.equal(retryAfterMs(null, 0), null);
});

test("paths and queries are spelled as the contract has them", () => {
  assert.equal(pathText("/v1/customers/{key}", { key: "a/b c" }), "/v1/customers/a%2Fb%20c");
  assert.throws(() => pathText("/v1/customers/{key}", {}));
  assert.equal(queryText({ a: 1, b: ["x", "y"], c: null, filter: { model: { in: ["p", "q"] } } }), "?a=1&b=x&b=y&filter%5Bmodel%5D%5Bin%5D=p&filter%5Bmodel%5D%5Bin%5D=q");
});

test("an event keeps its id through every retry, and each gets its verdict", async () => {
  const { transport, asked } = scripted((_, number) =>
    number === 1 ? new TypeError("reset") : accepted([{ index: 1, id: "b", status: "rejected", code: "missing_subject", detail: "no subject" }]));
  const refused: string[] = [];
  const ingest = new Ingest(transport, { flushOnExit: false, onRefused: (verdict) => refused.push(verdict.id) });
  const verdicts = [ingest.add({ type: "t", subject: "s" }), ingest.add({ id: "b", type: "t", subject: "" })];
  await ingest.flush();
  const [first, second] = await Promise.all(verdicts);
  assert.equal(asked.length, 2);
  assert.equal(asked[0]?.body, asked[1]?.body);
  assert.ok(asked[0]?.body.includes(String(first?.id)));
  assert.equal(first?.status, "accepted");
  assert.deepEqual(second, { id: "b", source: "/", status: "rejected", code: "missing_subject", detail: "no subject" });
  assert.deepEqual(refused, ["b"]);
});

test("events travel in batches of the size asked for, and halve where the server wants less", async () => {
  const { transport, asked } = scripted(({ body }) => (body.split("\n").length > 2 ? problem(413, "too_large") : accepted()));
  const ingest = new Ingest(transport, { batchEventsMax: 4, flushOnExit: false });
  const verdicts = Array.from({ length: 9 }, (_, number) => ingest.add({ id: String(number), type: "t", subject: "s" }));
  await ingest.close();
  assert.ok((await Promise.all(verdicts)).every((verdict) => verdict.status === "accepted"));
  const arrived = asked.filter(({ body }) => body.split("\n").length <= 2).flatMap(({ body }) => body.split("\n").map((line) => (JSON.parse(line) as { id: string }).id));
  assert.deepEqual(arrived.sort(), ["0", "1", "2", "3", "4", "5", "6", "7", "8"]);
});

test("all refused, unreachable, full and closed are verdicts, never lost promises", async () => {
  const results = [{ index: 0, id: "a", status: "rejected", code: "missing_type", detail: "d" }];
  const refusing = new Ingest(scripted(() => problem(422, "nothing_accepted", {}, { results })).transport, { flushOnExit: false });
  const rejected = refusing.add({ id: "a", type: "", subject: "s" });
  await refusing.flush();
  assert.equal((await rejected).code, "missing_type");

  const gone = new Ingest(scripted(() => new TypeError("no"), { retriesMax: 0 }).transport, { flushOnExit: false, bufferedEventsMax: 1, lingerMs: 60_000 });
  const failed = gone.add({ type: "t", subject: "s" });
  assert.equal((await gone.add({ type: "t", subject: "s" })).code, "buffer_full");
  await gone.close();
  assert.equal((await failed).status, "failed");
  assert.equal((await gone.add({ type: "t", subject: "s" })).code, "closed");
});

test("ids are version 7 and in the order of time", () => {
  const ids = Array.from({ length: 50 }, newId);
  assert.equal(new Set(ids).size, 50);
  for (const id of ids) assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.ok(String(ids[0]).slice(0, 8) <= String(ids[49]).slice(0, 8));
});

test("a stream is read whatever its pieces", async () => {
  const text = ": hello\r\n\r\nid: 1\nevent: event\ndata: {\"a\":\ndata: 1}\n\nid: 2\r\ndata:é\r\n\r\ndata: unfinished";
  const bytes = new TextEncoder().encode(text);
  for (const size of [1, 3, 7, 1000]) {
    let at = 0;
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        if (at >= bytes.length) controller.close();
        else controller.enqueue(bytes.slice(at, (at += size)));
      },
    });
    const found = [];
    for await (const message of messages(body)) found.push(message);
    assert.deepEqual(found, [{ id: "1", event: "event", data: '{"a":\n1}' }, { id: "2", event: "message", data: "é" }], `pieces of ${size}`);
  }
});
