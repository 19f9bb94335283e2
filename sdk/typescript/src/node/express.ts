/** Count the requests of an Express application (Connect's, or one of `node:http` itself): one event for each. */

import type { IncomingMessage, ServerResponse } from "node:http";
import type { Ingests } from "../ingest.js";

export interface Counting<R extends IncomingMessage = IncomingMessage> {
  /** Who is to be charged, asked after the request; null, undefined and "": nobody. */
  subject: (request: R) => string | null | undefined;
  /** Of the events; default `http.request`. */
  type?: string;
  /** Added to the event's data. */
  data?: (request: R, response: ServerResponse) => Readonly<Record<string, unknown>>;
}

/**
 * `app.use(countRequests(client.ingest, {subject: (request) => request.user?.id}))`. `data` has method, path, status, duration_ms
 * and response_bytes. Metering never makes a request fail: what goes wrong is given to `console.error`.
 */
export function countRequests<R extends IncomingMessage = IncomingMessage>(ingest: Pick<Ingests, "add">, counting: Counting<R>) {
  return (request: R, response: ServerResponse, next: (error?: unknown) => void): void => {
    const startedUs = process.hrtime.bigint() / 1000n;
    let bytes = 0;
    const counted = (piece: unknown, encoding: unknown): void => {
      if (typeof piece === "string") bytes += Buffer.byteLength(piece, typeof encoding === "string" ? (encoding as BufferEncoding) : "utf8");
      else if (piece instanceof Uint8Array) bytes += piece.byteLength;
    };
    const { write, end } = response;
    response.write = function (this: ServerResponse, ...given: unknown[]) {
      counted(given[0], given[1]);
      return (write as (...all: unknown[]) => boolean).apply(this, given);
    } as typeof response.write;
    // `end` with a body calls `write` of the prototype, not of this object: it is counted here.
    response.end = function (this: ServerResponse, ...given: unknown[]) {
      counted(given[0], given[1]);
      return (end as (...all: unknown[]) => ServerResponse).apply(this, given);
    } as typeof response.end;
    // A client that went away has had what was written until then.
    response.once("close", () => {
      try {
        const subject = counting.subject(request);
        if (subject === null || subject === undefined || subject === "") return;
        const us = process.hrtime.bigint() / 1000n - startedUs;
        const target = (request as { originalUrl?: string }).originalUrl ?? request.url ?? "";
        const data = {
          method: request.method, path: target.replace(/[?#].*$/, ""), status: response.statusCode,
          duration_ms: `${us / 1000n}.${String(us % 1000n).padStart(3, "0")}`, response_bytes: bytes,
          ...counting.data?.(request, response),
        };
        void ingest.add({ type: counting.type ?? "http.request", subject, data });
      } catch (error) {
        console.error("A request was not counted:", error);
      }
    });
    next();
  };
}
