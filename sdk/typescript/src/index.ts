export { Tallystick, type CallInput, type IngestsBy, type TallystickOptions } from "./client.js";
export { Ingest, type EventInput, type IngestOptions, type Ingests, type Verdict } from "./ingest.js";
export { Problem, TallystickError, Unreachable, type Fault } from "./errors.js";
export { NumberText, parse as parseJson, stringify as stringifyJson, type Json } from "./json.js";
export type { AnswerOf, AnyRoute, BodyOf, ItemOf, Operations, PathOf, QueryOf, Route } from "./routes.js";
export { Reading, tokenEvent, trackStream, trackTokens, type About, type Tokens } from "./llm.js";
export type { Message } from "./stream.js";
export { queryText, type Transport, type TransportOptions } from "./transport.js";
