import type { ComponentChildren } from "preact";
import { Problem, Unreachable } from "tallystick";
import { useEffect, useState } from "preact/hooks";

/** What stands where an answer is on its way. It appears late, so that quick answers do not flicker. */
export function Loading({ what = "Loading" }: { what?: string }) {
  const [late, setLate] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setLate(true), 250);
    return () => clearTimeout(timer);
  }, []);
  return <p class={late ? "loading" : "loading early"} role="status">{what}…</p>;
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children}
    </div>
  );
}

/** What the server advises programs to do. */
const ADVICE = / GET \/v1\/\S+ lists them\.$/;

/** What went wrong, in the server's words, with every fault; and a way to go on. */
export function Failed({ error, again }: { error: Error; again?: () => void }) {
  const problem = error instanceof Problem ? error : null;
  const gone = problem?.status === 404; // asking again will not bring it
  return (
    <div class="failed" role="alert">
      <p class="failed-title">{error instanceof Unreachable ? "The server does not answer" : (problem?.title ?? "Something went wrong")}</p>
      <p>{(problem?.detail ?? error.message).replace(ADVICE, "")}</p>
      {problem !== null && problem.errors.length > 1 && (
        <ul>{problem.errors.map((fault) => <li key={fault.pointer + fault.code}><code>{fault.pointer}</code> {fault.detail}</li>)}</ul>
      )}
      <p class="failed-foot">
        {again && !gone && <button type="button" onClick={again}>Try again</button>}
        {problem?.requestId && <small>Request <code>{problem.requestId}</code></small>}
      </p>
    </div>
  );
}

/** An answer, or what stands in its place. The answer before stays, dimmed, while the next is on its way. */
export function Answered<T>({ of, children, what }: {
  of: { answer: T | null; error: Error | null; loading: boolean; again: () => void };
  what?: string;
  children: (answer: T) => ComponentChildren;
}) {
  if (of.error !== null) return <Failed error={of.error} again={of.again} />;
  if (of.answer === null) return <Loading {...(what === undefined ? {} : { what })} />;
  return <div class={of.loading ? "answered stale" : "answered"} aria-busy={of.loading}>{children(of.answer)}</div>;
}
