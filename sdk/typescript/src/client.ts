/** The client: every route of the contract, with its types. */

import { Problem, TallystickError } from "./errors.js";
import { Ingest, newId, type EventInput, type IngestOptions, type Ingests } from "./ingest.js";
import { parse, stringify } from "./json.js";
import type { AnswerOf, AnyRoute, BodyOf, ItemOf, PathOf, QueryOf, Route } from "./routes.js";
import { messages, type Message } from "./stream.js";
import { pathText, sleep, Transport, type TransportOptions } from "./transport.js";

export interface TallystickOptions extends TransportOptions {
  /** How events are kept in memory and sent; or the `Spool` of `tallystick/node`, which keeps them on the disk. */
  ingest?: IngestOptions | IngestsBy;
}

export interface IngestsBy {
  attach(transport: Transport): Ingests;
}

export interface CallInput<K> {
  path?: PathOf<K>;
  query?: QueryOf<K>;
  body?: BodyOf<K>;
  /** Idempotency-Key of a request that creates; made where it is absent, and kept through retries. */
  idempotencyKey?: string;
  signal?: AbortSignal;
}

/** A `usage` question: members as in `GET /v1/meters/{key}/usage`. */
export type UsageQuestion = QueryOf<"GET /v1/meters/{key}/usage">;
export type FileType = "text/csv" | "application/vnd.apache.parquet" | "application/vnd.apache.arrow.stream";

const STREAM_RETRY_MS = 1000;
const STREAM_RETRY_MS_MAX = 15_000;

export class Tallystick {
  /** Batched, in the background: `client.ingest.add({type, subject, data})`. */
  readonly ingest: Ingests;
  private readonly transport: Transport;

  constructor(options: TallystickOptions) {
    this.transport = new Transport(options);
    const { ingest } = options;
    this.ingest = ingest !== undefined && "attach" in ingest ? ingest.attach(this.transport) : new Ingest(this.transport, ingest);
  }

  /**
   * Any route: `client.call("GET /v1/meters/{key}", {path: {key: "tokens"}})`. Throws Problem, Unreachable.
   * Numbers in `data` of events keep their digits (`NumberText`).
   */
  async call<K extends AnyRoute>(route: K, input: CallInput<K> = {}): Promise<AnswerOf<K>> {
    const response = await this.send(route, input, "application/json");
    const text = await response.text();
    return (text === "" ? undefined : parse(text)) as AnswerOf<K>;
  }

  /** Its answer as a file of another type, such as `text/csv`. */
  async file<K extends AnyRoute>(route: K, input: CallInput<K>, type: string): Promise<Blob> {
    return (await this.send(route, input, type)).blob();
  }

  /** Every item of a list, page by page. */
  async *all<K extends AnyRoute>(route: K, input: CallInput<K> = {}): AsyncGenerator<ItemOf<K>> {
    let cursor: string | null = null;
    do {
      const query = { ...(input.query as object), ...(cursor === null ? {} : { cursor }) };
      const page = (await this.call(route, { ...input, query } as CallInput<K>)) as { items: ItemOf<K>[]; next_cursor: string | null };
      yield* page.items;
      cursor = page.next_cursor;
    } while (cursor !== null);
  }

  private send<K extends AnyRoute>(route: K, input: CallInput<K>, accept: string): Promise<Response> {
    const [method, template] = split(route);
    const headers: Record<string, string> = { accept };
    if (method === "POST") headers["idempotency-key"] = input.idempotencyKey ?? newId();
    if (input.body !== undefined) headers["content-type"] = "application/json";
    return this.transport.send(method, pathText(template, (input.path ?? {}) as Record<string, string>), {
      query: input.query as Record<string, unknown> | undefined,
      headers,
      body: input.body === undefined ? undefined : stringify(input.body),
      signal: input.signal,
    });
  }

  /** Whom the key belongs to, and what it may do. */
  me = (signal?: AbortSignal) => this.call("GET /v1/me", signal ? { signal } : {});

  /** Can events be acknowledged, and how are the parts? Answered also when they cannot. */
  health = async (signal?: AbortSignal): Promise<AnswerOf<"GET /health/ready">> => {
    const response = await this.transport.send("GET", "/health/ready", { signal, accepted: [503] });
    return (await response.json()) as AnswerOf<"GET /health/ready">;
  };

  /** The figures that Prometheus reads, by name and labels as they are written there: `tallystick_duplicates_total` → `12.0`. */
  metrics = async (signal?: AbortSignal): Promise<Map<string, string>> => {
    const text = await (await this.transport.send("GET", "/metrics", { signal })).text();
    const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
    return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), line.slice(line.lastIndexOf(" ") + 1)]));
  };

  readonly events = {
    /** One request; the answer says which were not accepted. `wait`: until they are countable. For many: `ingest`. */
    send: async (events: readonly EventInput[], options: { wait?: boolean } = {}) => {
      const whole = events.map((event) => ({ ...event, id: event.id ?? newId() }));
      const response = await this.transport.send("POST", "/v1/events", {
        query: options.wait ? { wait: "recorded" } : {},
        body: stringify(whole),
        headers: { "content-type": "application/cloudevents-batch+json", accept: "application/json" },
      });
      return (await response.json()) as AnswerOf<"POST /v1/events"> & { recorded?: number; duplicates?: number; conflicts?: number };
    },
    search: (query: QueryOf<"GET /v1/events">, signal?: AbortSignal) => this.call("GET /v1/events", { query, ...given(signal) }),
    /** Everything known of one event. */
    lookup: (query: QueryOf<"GET /v1/events/lookup">, signal?: AbortSignal) => this.call("GET /v1/events/lookup", { query, ...given(signal) }),
    correct: (body: BodyOf<"POST /v1/events/corrections">) => this.call("POST /v1/events/corrections", { body }),
    /** What a correction would change. */
    previewCorrection: (body: BodyOf<"POST /v1/correction_preview">, signal?: AbortSignal) =>
      this.call("POST /v1/correction_preview", { body, ...given(signal) }),
  };

  /** Many events of the past: laid aside first, counted all at once. */
  readonly backfills = {
    list: (query: QueryOf<"GET /v1/backfills"> = {}, signal?: AbortSignal) => this.call("GET /v1/backfills", { query, ...given(signal) }),
    get: (key: string) => this.call("GET /v1/backfills/{key}", { path: { key } }),
    open: (body: BodyOf<"POST /v1/backfills">) => this.call("POST /v1/backfills", { body }),
    /** Lay events aside: any body that ingest takes, with its type. */
    send: async (key: string, body: string, type = "application/x-ndjson"): Promise<AnswerOf<"POST /v1/backfills/{key}/events">> => {
      const path = pathText("/v1/backfills/{key}/events", { key });
      const headers = { "content-type": type, accept: "application/json" };
      return (await (await this.transport.send("POST", path, { body, headers })).json()) as AnswerOf<"POST /v1/backfills/{key}/events">;
    },
    close: (key: string) => this.call("POST /v1/backfills/{key}/close", { path: { key } }),
    revert: (key: string) => this.call("POST /v1/backfills/{key}/revert", { path: { key } }),
    /** Throw away one that is open. */
    discard: (key: string) => this.call("DELETE /v1/backfills/{key}", { path: { key } }),
  };

  readonly meters = {
    ...this.resource("/v1/meters", "key"),
    list: (query: QueryOf<"GET /v1/meters"> = {}) => this.call("GET /v1/meters", { query }),
    get: (key: string) => this.call("GET /v1/meters/{key}", { path: { key } }),
    create: (body: BodyOf<"POST /v1/meters">) => this.call("POST /v1/meters", { body }),
    change: (key: string, body: BodyOf<"PATCH /v1/meters/{key}">) => this.call("PATCH /v1/meters/{key}", { path: { key }, body }),
    archive: (key: string) => this.call("DELETE /v1/meters/{key}", { path: { key } }),
    usage: (key: string, query: UsageQuestion = {}, signal?: AbortSignal) =>
      this.call("GET /v1/meters/{key}/usage", { path: { key }, query, ...given(signal) }),
    usageFile: (key: string, query: UsageQuestion, type: FileType) => this.file("GET /v1/meters/{key}/usage", { path: { key }, query }, type),
    rate: (key: string, query: QueryOf<"GET /v1/meters/{key}/rate"> = {}) => this.call("GET /v1/meters/{key}/rate", { path: { key }, query }),
    /** Why a meter shows what it shows. */
    explain: (key: string, query: QueryOf<"GET /v1/meters/{key}/explain"> = {}, signal?: AbortSignal) =>
      this.call("GET /v1/meters/{key}/explain", { path: { key }, query, ...given(signal) }),
    values: (key: string, name: string, query: QueryOf<"GET /v1/meters/{key}/dimensions/{name}/values"> = {}, signal?: AbortSignal) =>
      this.call("GET /v1/meters/{key}/dimensions/{name}/values", { path: { key, name }, query, ...given(signal) }),
    /** What a definition would make of the latest events, before it is saved. */
    preview: (body: BodyOf<"POST /v1/meter_preview">, options: { limit?: number; signal?: AbortSignal } = {}) =>
      this.call("POST /v1/meter_preview", { body, query: { limit: options.limit }, ...given(options.signal) }),
  };

  readonly usage = {
    /** All meters at one moment. */
    all: (query: QueryOf<"GET /v1/usage"> = {}) => this.call("GET /v1/usage", { query }),
    /** Several meters, and a formula over them. */
    query: (body: BodyOf<"POST /v1/usage/query">, signal?: AbortSignal) => this.call("POST /v1/usage/query", { body, ...given(signal) }),
  };

  readonly customers = {
    list: (query: QueryOf<"GET /v1/customers"> = {}, signal?: AbortSignal) => this.call("GET /v1/customers", { query, ...given(signal) }),
    get: (key: string) => this.call("GET /v1/customers/{key}", { path: { key } }),
    create: (body: BodyOf<"POST /v1/customers">) => this.call("POST /v1/customers", { body }),
    change: (key: string, body: BodyOf<"PATCH /v1/customers/{key}">) => this.call("PATCH /v1/customers/{key}", { path: { key }, body }),
    archive: (key: string) => this.call("DELETE /v1/customers/{key}", { path: { key } }),
    /** How every limit of the customer stands. */
    limits: (key: string, signal?: AbortSignal) => this.call("GET /v1/customers/{key}/limits", { path: { key }, ...given(signal) }),
    credits: (key: string) => this.call("GET /v1/customers/{key}/credits", { path: { key } }),
  };

  readonly limits = {
    ...this.resource("/v1/limits", "key"),
    /** May the customer use so much more? Nothing is held. */
    check: (body: BodyOf<"POST /v1/check">) => this.call("POST /v1/check", { body }),
    /** Hold an amount. Throws Problem `limit_exceeded` where there is not so much left. */
    reserve: (body: BodyOf<"POST /v1/reservations">) => this.call("POST /v1/reservations", { body }),
    /** Record what was really used, and give the rest back. */
    settle: (id: string, body: BodyOf<"POST /v1/reservations/{id}/settle">) => this.call("POST /v1/reservations/{id}/settle", { path: { id }, body }),
    release: (id: string) => this.call("POST /v1/reservations/{id}/release", { path: { id } }),
  };

  readonly invoices = {
    list: (query: QueryOf<"GET /v1/invoices"> = {}) => this.call("GET /v1/invoices", { query }),
    get: (id: string) => this.call("GET /v1/invoices/{id}", { path: { id } }),
    explain: (id: string, line: string) => this.call("GET /v1/invoices/{id}/lines/{line}/explain", { path: { id, line } }),
    /** The open period of a customer. */
    preview: (customer: string, body: BodyOf<"POST /v1/customers/{key}/invoices/preview"> = {}) =>
      this.call("POST /v1/customers/{key}/invoices/preview", { path: { key: customer }, body }),
    finalize: (id: string) => this.call("POST /v1/invoices/{id}/finalize", { path: { id } }),
    void: (id: string) => this.call("POST /v1/invoices/{id}/void", { path: { id } }),
  };

  readonly alerts = {
    ...this.resource("/v1/alerts", "key"),
    /** When alerts fired and recovered, newest first. */
    transitions: (query: QueryOf<"GET /v1/transitions"> = {}, signal?: AbortSignal) => this.call("GET /v1/transitions", { query, ...given(signal) }),
  };
  readonly channels = this.resource("/v1/channels", "key");

  /**
   * What happens from now on, as it happens: `for await (const message of client.stream({kind: "events"}))`. Connects
   * again by itself, from the last message on. Ends when `signal` is aborted.
   */
  async *stream(
    query: Readonly<Record<string, unknown>> = {},
    options: { signal?: AbortSignal; lastEventId?: string; onState?: (state: "open" | "lost") => void } = {},
  ): AsyncGenerator<Message> {
    const { signal } = options;
    let last = options.lastEventId ?? "";
    let waitMs = STREAM_RETRY_MS;
    while (!signal?.aborted) {
      try {
        const response = await this.transport.send("GET", "/v1/stream", {
          query,
          headers: { accept: "text/event-stream", ...(last === "" ? {} : { "last-event-id": last }) },
          streaming: true,
          signal,
        });
        if (response.body === null) throw new TallystickError("The stream has no body.");
        options.onState?.("open");
        const reached = (id: string): void => {
          waitMs = STREAM_RETRY_MS;
          last = id;
        };
        yield* messages(response.body, reached);
      } catch (error) {
        if (signal?.aborted) return;
        if (error instanceof Problem && error.status < 500 && error.status !== 429) throw error;
      }
      if (signal?.aborted) return;
      options.onState?.("lost");
      await sleep(waitMs, signal).catch(() => undefined);
      waitMs = Math.min(STREAM_RETRY_MS_MAX, waitMs * 2);
    }
  }

  /** Flush what waits, and take nothing more. */
  async close(): Promise<void> {
    await this.ingest.close();
  }

  // List, get, create, change and delete where the contract has no finer types.
  private resource<P extends string>(base: P, name: "key" | "id") {
    const one = `${base}/{${name}}` as const;
    const at = (value: string): never => ({ [name]: value }) as never;
    return {
      list: (query: Readonly<Record<string, unknown>> = {}): Promise<AnswerOf<`GET ${P}`>> => this.call(`GET ${base}` as const, { query: query as never }),
      get: (value: string): Promise<AnswerOf<`GET ${P}/{key}`>> => this.call(`GET ${one}` as `GET ${P}/{key}`, { path: at(value) }),
      create: (body: unknown): Promise<AnswerOf<`POST ${P}`>> => this.call(`POST ${base}` as const, { body: body as never }),
      replace: (value: string, body: unknown): Promise<AnswerOf<`PUT ${P}/{key}`>> => this.call(`PUT ${one}` as `PUT ${P}/{key}`, { path: at(value), body: body as never }),
      change: (value: string, body: unknown): Promise<AnswerOf<`PATCH ${P}/{key}`>> => this.call(`PATCH ${one}` as `PATCH ${P}/{key}`, { path: at(value), body: body as never }),
      remove: async (value: string): Promise<void> => void (await this.call(`DELETE ${one}` as `DELETE ${P}/{key}`, { path: at(value) })),
    };
  }
}

function split(route: string): [string, string] {
  const space = route.indexOf(" ");
  if (space < 0) throw new TallystickError(`${route} is no route such as "GET /v1/meters".`);
  return [route.slice(0, space), route.slice(space + 1)];
}

function given(signal: AbortSignal | undefined): { signal?: AbortSignal } {
  return signal === undefined ? {} : { signal };
}

export type { Route };
