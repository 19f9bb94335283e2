/** Usage of a meter: over windows, by groups, against the period before; every choice stands in the address. */

import { useMemo, useState } from "preact/hooks";
import type { ItemOf } from "tallystick";
import { useAsk } from "../ask";
import { Answered, Empty, Failed, Loading } from "../components/States";
import { useZone } from "../preferences";
import { go, useQuery, withQuery } from "../router";
import { client } from "../session";
import { Controls } from "./explore/Controls";
import { Drawn } from "./explore/Drawn";
import { choose, FormulaPanel } from "./explore/Formula";
import { readQuestion, type Explored } from "./explore/question";
import { ask } from "./explore/answer";
import { Saved } from "./explore/Saved";
import { Send } from "./explore/Send";

export type Meter = ItemOf<"GET /v1/meters">;

export function Explore() {
  const [query, setQuery] = useQuery();
  const zone = useZone();
  const [now, setNow] = useState(() => Date.now());
  const meters = useAsk("meters", (signal) => allMeters(signal));
  const usable = meters.answer ?? [];
  const meter = usable.find((one) => one.key === query.get("meter")) ?? usable.find((one) => one.archived_at === null) ?? usable[0];
  const explored = useMemo(() => (meter === undefined ? null : readQuestion(query, meter, zone, now)), [query.toString(), meter, zone, now]);
  const asked = useAsk(explored === null || query.has("formula") ? null : JSON.stringify(explored), (signal) => ask(explored as Explored, meter as Meter, signal));

  if (meters.error) return <main id="main" class="page"><h1>Explore</h1><Failed error={meters.error} again={meters.again} /></main>;
  if (meters.answer === null) return <main id="main" class="page"><h1>Explore</h1><Loading /></main>;
  if (meter === undefined || explored === null) {
    return (
      <main id="main" class="page">
        <h1>Explore</h1>
        <Empty title="There is no meter yet"><a class="button primary" href="/start">First steps</a></Empty>
      </main>
    );
  }
  const open = (from: string, to: string, group: Readonly<Record<string, string | null>> | null): void => {
    const target: Record<string, string | null> = { meter: meter.key, type: meter.event_type, from, to };
    for (const customer of explored.customers) target["customer"] = customer;
    for (const [name, value] of Object.entries(group ?? {})) {
      if (name === "customer" || name === "subject") target[name] = value;
      else target[`group[${name}]`] = value ?? "";
    }
    for (const [name, value] of Object.entries(explored.filters)) {
      const plain = /^filter\[([^\]]+)\]$/.exec(name)?.[1];
      if (plain !== undefined && !value.includes(",")) target[`group[${plain}]`] ??= value;
    }
    go(withQuery("/events", target));
    scrollTo(0, 0);
  };
  return (
    <main id="main" class="page">
      <header class="page-head">
        <h1>Explore</h1>
        <div class="actions">
          <Saved explored={explored} query={query} letters={choose(query, usable, meter)} />
          <Send explored={explored} />
          <button type="button" onClick={() => setNow(Date.now())}>Refresh</button>
        </div>
      </header>
      <Controls meters={usable} meter={meter} explored={explored} query={query} change={setQuery} />
      {query.has("formula") ? (
        <FormulaPanel meters={usable} meter={meter} explored={explored} query={query} change={setQuery} />
      ) : (
        <Answered of={asked} what={`Asking for ${meter.name}`}>
          {(answer) => <Drawn answer={answer} explored={explored} meter={meter} open={open} narrow={(name, value) => setQuery({ [`filter[${name}]`]: value })} />}
        </Answered>
      )}
    </main>
  );
}

const METERS_MAX = 1000;

async function allMeters(signal: AbortSignal): Promise<Meter[]> {
  const found: Meter[] = [];
  for await (const meter of client.all("GET /v1/meters", { query: { limit: 200 }, signal })) {
    found.push(meter);
    if (found.length >= METERS_MAX) break;
  }
  return found;
}
