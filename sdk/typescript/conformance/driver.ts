/** The driver of the conformance suite (sdk/CONFORMANCE.md). */

import { createInterface } from "node:readline";
import { InvalidEvent, Spool, SpoolFull } from "../src/node/index.js";
import { parseJson, Problem, stringifyJson, Tallystick, trackStream, trackTokens, Unreachable, type Verdict } from "../src/index.js";

type Given = Record<string, any>;

let client: Tallystick;
let spool: Spool;
let onFull: string;
let rejections: Verdict[] = [];

const track = async (event: Given): Promise<string> => (onFull === "error" ? spool.track(event as never) : spool.put(event as never));

const operations: Record<string, (given: Given) => Promise<object>> = {
  async configure(given) {
    rejections = [];
    onFull = given["on_full"];
    spool = await Spool.open({
      directory: given["spool"], bytesMax: given["spool_bytes"], segmentBytes: given["segment_bytes"],
      batchEventsMax: given["batch_events"], batchBytesMax: given["batch_bytes"], lingerMs: given["flush_ms"],
      retryMsMin: given["retry_ms_min"], retryMsMax: given["retry_ms_max"],
      onRejected: (verdict) => void rejections.push(verdict), onFailure: (why) => console.error(why),
    });
    client = new Tallystick({ url: given["url"], key: given["key"], timeoutMs: given["timeout_ms"], ingest: spool });
    return {};
  },
  async track({ op: _, ...event }) {
    return { id: await track(event) };
  },
  async track_many({ type, subject, count, workers }) {
    const ids: string[] = [];
    let refused = 0;
    let next = 0;
    const work = async (): Promise<void> => {
      while (next < count) {
        const n = next++;
        try {
          ids.push(await track({ type, subject, data: { n } }));
        } catch (error) {
          if (!(error instanceof SpoolFull)) throw error;
          refused += 1;
        }
      }
    };
    await Promise.all(Array.from({ length: workers }, work));
    return { ids, refused };
  },
  async llm({ subject, model, pieces }) {
    const about = { subject, model: model ?? "" };
    const before = spool.stats().tracked;
    if (pieces.length === 1) trackTokens(client.ingest, about, pieces[0]);
    else for await (const piece of trackStream(client.ingest, about, pieces)) void piece;
    return { id: spool.stats().tracked > before ? "tracked" : null };
  },
  flush: async (given) => ({ complete: await spool.flush(given["timeout_ms"]) }),
  close: async (given) => ({ complete: await spool.close(given["timeout_ms"]) }),
  stats: async () => spool.stats(),
  rejections: async () => ({ rejections }),
  async send({ events, wait_recorded }) {
    try {
      return await client.events.send(events, { wait: wait_recorded ?? false });
    } catch (error) {
      if (error instanceof Problem && Array.isArray(error.document["results"])) return error.document;
      throw error;
    }
  },
  async usage({ meter, parameters }) {
    return { rows: (await client.meters.usage(meter, parameters)).rows };
  },
  check: async ({ customer, meter, amount }) => client.limits.check({ customer, meter, amount }),
  async reserve({ customer, meter, amount, ttl_seconds }) {
    return { reservation: (await client.limits.reserve({ customer, meter, amount, ttl_seconds })).id };
  },
  async settle({ reservation, amount }) {
    await client.limits.settle(reservation, { amount });
    return {};
  },
  async release({ reservation }) {
    await client.limits.release(reservation);
    return {};
  },
  async create_meter({ definition }) {
    return { key: (await client.meters.create(definition)).key };
  },
  async create_customer({ definition }) {
    const made = await client.customers.create(definition);
    return { key: (await client.customers.get(made.key)).key };
  },
};

function failure(error: unknown): object {
  if (error instanceof Problem) return { kind: "problem", status: error.status, code: error.code, detail: error.detail };
  const kind = error instanceof Unreachable ? "unreachable" : error instanceof InvalidEvent ? "invalid_event" : error instanceof SpoolFull ? "spool_full" : "other";
  return { kind, detail: String(error) };
}

for await (const line of createInterface({ input: process.stdin })) {
  const given = parseJson(line) as Given;
  let said: object;
  try {
    const operation = operations[given["op"]];
    if (operation === undefined) throw new Error(`unknown op ${given["op"]}`);
    said = { ...(await operation(given)), ok: true };
  } catch (error) {
    said = { ...failure(error), ok: false };
  }
  process.stdout.write(`${stringifyJson(said)}\n`);
}
