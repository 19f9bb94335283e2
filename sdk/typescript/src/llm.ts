/**
 * Tokens of language models: what OpenAI (chat completions and responses), Anthropic and Amazon Bedrock (Converse) answer, read
 * into one shape. The three count differently: OpenAI's prompt_tokens include cached ones, Anthropic's and Bedrock's do not.
 * Nothing of the vendors is imported.
 */

import type { EventInput, Ingests } from "./ingest.js";

export interface Tokens {
  provider: string;
  model: string;
  /** All that were read: `cached_input_tokens` of them from the cache, `cache_write_tokens` written into it. */
  input_tokens: number;
  cached_input_tokens: number;
  cache_write_tokens: number;
  /** All that were written; `reasoning_tokens` of them not shown. */
  output_tokens: number;
  reasoning_tokens: number;
  total_tokens: number;
}

export interface About {
  subject: string;
  /** For Bedrock, whose answers do not name it. */
  model?: string;
  /** Of the event; default `llm.completion`. */
  type?: string;
  /** Added to the event's data. */
  data?: Readonly<Record<string, unknown>>;
}

/** What is known of one answer; pieces of a stream add to it. */
export class Reading {
  readonly tokens: Tokens;
  /** The answer's own id, and the event's: an answer tracked twice counts once. */
  responseId = "";
  /** Whether there was any usage: an OpenAI stream has it only with `stream_options.include_usage`. */
  found = false;

  constructor(model = "") {
    this.tokens = {
      provider: "", model, input_tokens: 0, cached_input_tokens: 0, cache_write_tokens: 0, output_tokens: 0, reasoning_tokens: 0, total_tokens: 0,
    };
  }

  /** A whole answer, or one piece of a stream. */
  add(answer: unknown): this {
    for (const holder of [answer, member(answer, "response"), member(answer, "message"), member(answer, "metadata")]) {
      const model = member(holder, "model");
      if (typeof model === "string" && model !== "") this.tokens.model = model;
      const id = member(holder, "id") ?? member(holder, "ResponseMetadata", "RequestId") ?? member(holder, "$metadata", "requestId");
      if (typeof id === "string" && id !== "") this.responseId = id;
      const usage = member(holder, "usage");
      if (typeof usage === "object" && usage !== null) this.read(usage);
    }
    return this;
  }

  private read(usage: object): void {
    const made = this.tokens;
    // Tokens that are counted beside those of the cache. A later piece of a stream may repeat some of the three.
    const cached = (fresh: string, read: string, written: string): void => {
      let beside = made.input_tokens - made.cached_input_tokens - made.cache_write_tokens;
      if (member(usage, fresh) !== undefined) beside = count(usage, fresh);
      if (member(usage, read) !== undefined) made.cached_input_tokens = count(usage, read);
      if (member(usage, written) !== undefined) made.cache_write_tokens = count(usage, written);
      made.input_tokens = beside + made.cached_input_tokens + made.cache_write_tokens;
    };
    const openai = (input: string, output: string): void => {
      made.provider = "openai";
      made.input_tokens = count(usage, input);
      made.cached_input_tokens = count(usage, `${input}_details`, "cached_tokens");
      made.cache_write_tokens = count(usage, `${input}_details`, "cache_write_tokens");
      made.output_tokens = count(usage, output);
      made.reasoning_tokens = count(usage, `${output}_details`, "reasoning_tokens");
    };
    this.found = true;
    if (member(usage, "inputTokens") !== undefined || member(usage, "outputTokens") !== undefined) {
      made.provider = "bedrock";
      cached("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens");
      made.output_tokens = count(usage, "outputTokens");
    } else if (member(usage, "prompt_tokens") !== undefined) {
      openai("prompt_tokens", "completion_tokens");
    } else if (member(usage, "input_tokens_details") !== undefined) {
      // not output_tokens_details: Anthropic's answers have those too
      openai("input_tokens", "output_tokens");
    } else {
      made.provider = "anthropic";
      cached("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens");
      // message_start and each message_delta carry the count so far, not a difference.
      made.output_tokens = Math.max(made.output_tokens, count(usage, "output_tokens"));
      made.reasoning_tokens = Math.max(made.reasoning_tokens, count(usage, "output_tokens_details", "thinking_tokens"));
    }
    made.total_tokens = made.input_tokens + made.output_tokens;
  }
}

/** The event of an answer; null when it has no usage. */
export function tokenEvent(reading: Reading, about: About): EventInput | null {
  if (!reading.found) return null;
  const made = { type: about.type ?? "llm.completion", subject: about.subject, data: { ...reading.tokens, ...about.data } };
  return reading.responseId === "" ? made : { ...made, id: reading.responseId, source: `llm/${reading.tokens.provider}` };
}

/** Track the tokens of a whole answer; whether it has any. */
export function trackTokens(ingest: Pick<Ingests, "add">, about: About, answer: unknown): boolean {
  const event = tokenEvent(new Reading(about.model).add(answer), about);
  if (event !== null) void ingest.add(event);
  return event !== null;
}

/** Pass a stream on, and track its tokens at its end, also when the reader stops early. */
export async function* trackStream<T>(ingest: Pick<Ingests, "add">, about: About, pieces: AsyncIterable<T> | Iterable<T>): AsyncGenerator<T> {
  const reading = new Reading(about.model);
  try {
    for await (const piece of pieces) {
      reading.add(piece);
      yield piece;
    }
  } finally {
    const event = tokenEvent(reading, about);
    if (event !== null) void ingest.add(event);
  }
}

function member(thing: unknown, ...names: string[]): unknown {
  for (const name of names) {
    if (typeof thing !== "object" || thing === null) return undefined;
    thing = (thing as Record<string, unknown>)[name] ?? undefined;
  }
  return thing;
}

function count(thing: unknown, ...names: string[]): number {
  const found = member(thing, ...names);
  return typeof found === "number" && Number.isSafeInteger(found) && found > 0 ? found : 0;
}
