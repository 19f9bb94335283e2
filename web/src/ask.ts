/** Questions to the server as a component sees them: loading, answered, failed; the last answer stays while a new one comes. */

import { useEffect, useRef, useState } from "preact/hooks";
import { noticeRefusal } from "./session";

export interface Asked<T> {
  answer: T | null;
  error: Error | null;
  /** No answer to this question yet; `answer` may be that of the one before. */
  loading: boolean;
  again: () => void;
}

/**
 * Ask whenever `question` (a text that stands for all that matters) changes; null asks nothing. What is no longer wanted is
 * aborted. `everyMs`: ask again so long after each answer, while the page is in sight.
 */
export function useAsk<T>(question: string | null, ask: (signal: AbortSignal) => Promise<T>, everyMs?: number): Asked<T> {
  const [state, setState] = useState<{ answer: T | null; error: Error | null; of: string | null }>({ answer: null, error: null, of: null });
  const [turn, setTurn] = useState(0);
  const latest = useRef(ask);
  latest.current = ask;

  useEffect(() => {
    if (question === null) return undefined;
    const stop = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const once = (): void => {
      latest.current(stop.signal).then(
        (answer) => {
          if (stop.signal.aborted) return;
          setState({ answer, error: null, of: question });
          plan();
        },
        (error: unknown) => {
          if (stop.signal.aborted) return;
          noticeRefusal(error);
          setState((before) => ({ answer: before.of === question ? before.answer : null, error: asError(error), of: question }));
          plan();
        },
      );
    };
    const plan = (): void => {
      if (everyMs === undefined) return;
      timer = setTimeout(() => (document.visibilityState === "hidden" ? plan() : once()), everyMs);
    };
    once();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [question, turn, everyMs]);

  return {
    answer: state.answer,
    error: state.of === question ? state.error : null,
    loading: question !== null && state.of !== question,
    again: () => setTurn((before) => before + 1),
  };
}

export function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
