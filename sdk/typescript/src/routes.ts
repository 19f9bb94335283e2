/** The routes of the contract with their types. `contract.ts` is made from the OpenAPI document (see README.md). */

import type { Operations } from "./contract.js";

export type { Operations } from "./contract.js";

/** `GET /v1/meters/{key}`: a route of the contract. */
export type Route = keyof Operations;

/** A route of a newer server can be called as well; its members are then not checked. */
export type AnyRoute = Route | (string & {});

type Loose = Readonly<Record<string, unknown>>;

/** Values of the path's parameters; `{key: string}` for `/v1/meters/{key}`. */
export type PathOf<K> = K extends Route ? Operations[K]["path"] : Readonly<Record<string, string>>;
export type QueryOf<K> = K extends Route ? Operations[K]["query"] : Loose;
export type BodyOf<K> = K extends Route ? Operations[K]["body"] : unknown;
/** What a JSON answer holds. */
// biome-ignore lint: a newer route's answer is the caller's to judge.
export type AnswerOf<K> = K extends Route ? Operations[K]["answer"] : any;
/** One of a list's items. */
export type ItemOf<K> = AnswerOf<K> extends { items: readonly (infer T)[] } ? T : AnswerOf<K> extends { items?: infer L } ? (L extends readonly (infer T)[] ? T : never) : never;
