/** Events as they are recorded. However many come, the page draws four times a second and keeps the latest few hundred. */

import { useEffect, useRef, useState } from "preact/hooks";
import { Problem, parseJson } from "tallystick";
import { Figure } from "../../components/Figure";
import { Empty, Failed } from "../../components/States";
import { Table } from "../../components/Table";
import { asError } from "../../ask";
import { client, noticeRefusal } from "../../session";
import { COLUMNS, type FoundEvent } from "../Events";

const KEPT_MAX = 200;
const DRAW_MS = 250;
const RATE_S = 5;

interface Shown {
  rows: readonly FoundEvent[];
  perSecond: number;
  seen: number;
}

export function LiveTail({ question, open }: { question: Readonly<Record<string, string>>; open: (event: FoundEvent) => void }) {
  const [shown, setShown] = useState<Shown>({ rows: [], perSecond: 0, seen: 0 });
  const [state, setState] = useState<"connecting" | "open" | "lost">("connecting");
  const [error, setError] = useState<Error | null>(null);
  const [held, setHeld] = useState(false);
  const holding = useRef(held);
  holding.current = held;

  useEffect(() => {
    const stop = new AbortController();
    const texts: string[] = [];
    const counts: number[] = [];
    let arrived = 0;
    let seen = 0;
    setError(null);
    setState("connecting");
    setShown({ rows: [], perSecond: 0, seen: 0 });
    const read = async (): Promise<void> => {
      for await (const message of client.stream(question, { signal: stop.signal, onState: setState })) {
        arrived += 1;
        seen += 1;
        // Read only what will be shown.
        texts.push(message.data);
        if (texts.length > KEPT_MAX) texts.splice(0, texts.length - KEPT_MAX);
      }
    };
    read().catch((failure: unknown) => {
      if (stop.signal.aborted) return;
      noticeRefusal(failure);
      setError(asError(failure));
    });
    const timer = setInterval(() => {
      counts.push(arrived);
      arrived = 0;
      if (counts.length > (RATE_S * 1000) / DRAW_MS) counts.shift();
      const perSecond = Math.round(counts.reduce((all, one) => all + one, 0) / ((counts.length * DRAW_MS) / 1000));
      const fresh = texts.splice(0).reverse().map((text) => parseJson(text) as unknown as FoundEvent);
      setShown((before) => ({
        rows: holding.current || fresh.length === 0 ? before.rows : [...fresh, ...before.rows].slice(0, KEPT_MAX),
        perSecond,
        seen,
      }));
    }, DRAW_MS);
    return () => {
      stop.abort();
      clearInterval(timer);
    };
  }, [JSON.stringify(question)]);

  if (error !== null) {
    const absent = error instanceof Problem && error.status === 404;
    return absent ? <Empty title="This server has no live stream" /> : <Failed error={error} />;
  }
  return (
    <section class="panel">
      <header>
        <h2 class="state"><span class={`dot ${state === "open" ? "ok" : state === "lost" ? "down" : "asking"}`} aria-hidden="true" />{state === "open" ? "Live" : state === "lost" ? "Connecting again…" : "Connecting…"}</h2>
        <p class="muted"><Figure own value={String(shown.perSecond)} /> a second, <Figure own value={String(shown.seen)} /> since you opened it</p>
        <button type="button" aria-pressed={held} onClick={() => setHeld(!held)}>{held ? "Go on" : "Hold still"}</button>
      </header>
      {shown.rows.length === 0 ? <Empty title="Waiting for events" /> : (
        <Table
          caption="Events as they are recorded, newest first"
          rows={shown.rows}
          rowKey={(event) => `${event.source} ${event.id} ${event.position}`}
          pick={open}
          columns={[{ name: "Id", cell: (event) => <button type="button" class="link id" onClick={() => open(event)}>{event.id}</button> }, ...COLUMNS]}
        />
      )}
    </section>
  );
}
