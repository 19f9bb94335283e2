export { Tallystick, type CallInput, type TallystickOptions } from "./client.js";
export { Ingest, type EventInput, type IngestOptions, type Verdict } from "./ingest.js";
export { Problem, TallystickError, Unreachable, type Fault } from "./errors.js";
export { NumberText, parse as parseJson, stringify as stringifyJson, type Json } from "./json.js";
export type { AnswerOf, AnyRoute, BodyOf, ItemOf, Operations, PathOf, QueryOf, Route } from "./routes.js";
export type { Message } from "./stream.js";
export { queryText, type TransportOptions } from "./transport.js";
