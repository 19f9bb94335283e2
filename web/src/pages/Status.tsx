/** How the parts are, and how much they do. */

import { useAsk } from "../ask";
import { Figure } from "../components/Figure";
import { Answered } from "../components/States";
import { Table } from "../components/Table";
import { client } from "../session";

const REFRESH_MS = 2000;
const MEANING: Record<string, string> = {
  log: "Takes events and keeps them; without it nothing can be acknowledged.",
  recorder: "Makes acknowledged events countable.",
  store: "Holds events and answers questions about usage.",
  alerts: "Watches usage, costs and credits, and tells channels.",
  catalog: "Holds meters, customers, keys and everything else that people set up.",
};

const REQUESTS = "tallystick_http_requests_total";

type Counter = readonly [string, string];

function countersOf(found: ReadonlyMap<string, string>): Counter[] {
  return [...found].filter(([name]) => name.startsWith("tallystick_") && !/_bucket|_created/.test(name)).sort(([left], [right]) => (left < right ? -1 : 1));
}

export function Status() {
  const ready = useAsk("ready", (signal) => client.health(signal), REFRESH_MS);
  const metrics = useAsk("metrics", (signal) => client.metrics(signal), REFRESH_MS);
  return (
    <main id="main" class="page">
      <h1>Health</h1>
      <section class="panel">
        <header><h2>Parts</h2></header>
        <Answered of={ready}>
          {(answer) => (
            <>
              <Table
                caption="The parts and their state"
                rows={Object.entries(answer.components as Record<string, { status: string; detail?: string }>)}
                rowKey={([name]) => name}
                columns={[
                  { name: "Part", cell: ([name]) => name },
                  { name: "State", cell: ([, part]) => <span class="state"><span class={`dot ${part.status}`} aria-hidden="true" />{part.status}</span> },
                  { name: "What it does", wide: true, cell: ([name, part]) => part.detail ?? MEANING[name] ?? "" },
                ]}
              />
              <p>The recorder is <Figure value={String(answer.recorder_lag.events)} /> events behind{answer.recorder_lag.events > 0 && <>; the oldest of them waits for <Figure value={String(answer.recorder_lag.seconds)} unit="s" /></>}.</p>
            </>
          )}
        </Answered>
      </section>
      <section class="panel">
        <header><h2>Counters</h2><a href="/metrics" target="_blank" rel="noreferrer">For Prometheus</a></header>
        <Answered of={metrics}>
          {(found) => (
            <>
              <Counters caption="Counters of this server" rows={countersOf(found).filter(([name]) => !name.startsWith(REQUESTS))} />
              <details>
                <summary>Requests, by route and status</summary>
                <Counters caption="Requests to this server" rows={countersOf(found).filter(([name]) => name.startsWith(REQUESTS))} />
              </details>
            </>
          )}
        </Answered>
      </section>
    </main>
  );
}

function Counters({ caption, rows }: { caption: string; rows: readonly Counter[] }) {
  return (
    <Table
      caption={caption}
      rows={rows}
      rowKey={([name]) => name}
      columns={[
        { name: "Figure", cell: ([name]) => <code>{name}</code> },
        { name: "Since it was started", figure: true, cell: ([, value]) => <Figure own value={value.replace(/\.0$/, "")} /> },
      ]}
    />
  );
}
