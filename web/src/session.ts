/** Who is signed in. The key stays in this tab (sessionStorage) and goes nowhere but into the header of a request. */

import { useEffect, useState } from "preact/hooks";
import { Problem, Tallystick, type AnswerOf } from "tallystick";
import { store, stored } from "./storage";

/** Customers' own pages keep a token of their own: somebody who has both open in one tab is signed in twice. */
export const inPortal = /^\/portal(\/|$)/.test(location.pathname);
const KEY = inPortal ? "tallystick-portal-token" : "tallystick-key";
const CHANGED = "tallystick:session";
/** How the secrets begin that a login gives. */
const SESSION_TOKEN = "tss_";

export type Me = AnswerOf<"GET /v1/me">;

let key: string | null = stored("session", KEY);
let me: Me | null = null;

/** The only way from these pages to the server. */
export const client = new Tallystick({ key: () => key, retriesMax: 2, ingest: { flushOnExit: false } });

/** What this installation has: `billing`, `login`. */
export const features: ReadonlySet<string> = new Set(
  (document.querySelector<HTMLMetaElement>('meta[name="tallystick-features"]')?.content ?? "").split(" "),
);

/** Try a key, and keep it where the server knows it. Throws Problem, Unreachable. */
export async function signIn(secret: string): Promise<Me> {
  const tried = new Tallystick({ key: secret, retriesMax: 1, ingest: { flushOnExit: false } });
  me = await tried.me();
  key = secret;
  store("session", KEY, secret);
  dispatchEvent(new Event(CHANGED));
  return me;
}

/** Forget the key. A token that a login has given is ended as well: whoever finds it can do nothing with it. */
export function signOut(): void {
  if (key?.startsWith(SESSION_TOKEN)) {
    // It is only told: whether or not the server answers, nobody is signed in here any more.
    const ended = new Tallystick({ key, retriesMax: 1, ingest: { flushOnExit: false } });
    ended.call("POST /auth/logout" as never).catch(() => undefined);
  }
  key = null;
  me = null;
  store("session", KEY, null);
  dispatchEvent(new Event(CHANGED));
}

export function hasKey(): boolean {
  return key !== null;
}

export function may(scope: string): boolean {
  return me !== null && (me.scopes as string[]).some((one) => one === scope || one === "admin");
}

/** Sign out where the server no longer knows the key. */
export function noticeRefusal(error: unknown): void {
  if (error instanceof Problem && error.status === 401) signOut();
}

/** The caller; null while nobody is signed in, "asking" until it is known. */
export function useMe(): Me | null | "asking" | Error {
  const [, setTurn] = useState(0);
  const [failure, setFailure] = useState<Error | null>(null);
  useEffect(() => {
    const changed = (): void => setTurn((turn) => turn + 1);
    addEventListener(CHANGED, changed);
    if (key !== null && me === null) {
      client.me().then(
        (answer) => {
          me = answer;
          changed();
        },
        (error: Error) => {
          noticeRefusal(error);
          if (key !== null) setFailure(error);
        },
      );
    }
    return () => removeEventListener(CHANGED, changed);
  }, []);
  if (key === null) return null;
  return me ?? failure ?? "asking";
}
