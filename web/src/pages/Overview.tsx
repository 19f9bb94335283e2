/** What happens now: how fast, how far behind, who and what most, and what did not count. */

import { useRef, useState } from "preact/hooks";
import type { AnswerOf, ItemOf } from "tallystick";
import { useAsk } from "../ask";
import { Badge } from "../components/Badge";
import { Change, Figure } from "../components/Figure";
import { Select } from "../components/Form";
import { Answered, Empty } from "../components/States";
import { percent } from "../decimal";
import { Spark } from "../components/Chart";
import { Table } from "../components/Table";
import { Time } from "../components/Times";
import { useZone } from "../preferences";
import { useQuery, withQuery } from "../router";
import { client, may } from "../session";
import { rangeOf, RANGES } from "../time";

const SHOWN = ["1h", "24h", "7d", "30d"];
const REFRESH_MS = 15_000;
const PACE_MS = 1000;
const LATELY_MS = 3_600_000;
const LATELY_REFRESH_MS = 60_000;
const METERS_COMPARED_MAX = 8;

type Usage = AnswerOf<"GET /v1/meters/{key}/usage">;

export function Overview() {
  const [query, setQuery] = useQuery();
  const range = SHOWN.includes(query.get("range") ?? "") ? (query.get("range") as string) : "24h";
  const any = useAsk("any meter", () => client.meters.list({ limit: 1 }));
  return (
    <main id="main" class="page">
      <header class="page-head">
        <h1>Overview</h1>
        <Select aria-label="Range" value={range} options={SHOWN.map((one) => [one, RANGES[one]?.name ?? one] as const)} change={(value) => setQuery({ range: value })} />
      </header>
      <Live />
      {any.answer !== null && any.answer.items.length === 0 ? (
        <Empty title="Nothing is metered yet">
          <p>Make a meter and send an event: it takes a minute or two.</p>
          <a class="button primary" href="/start">First steps</a>
        </Empty>
      ) : (
        <>
          <TopMeters range={range} />
          <div class="columns">
            <TopCustomers range={range} />
            <div class="stack">
              {may("events:read") && <NotCounted />}
              {may("alerts:read") && <Transitions />}
            </div>
          </div>
        </>
      )}
    </main>
  );
}

/** What all recorders together have decided on, whichever server has accepted it. */
const RECORDED = ["tallystick_events_recorded_total", "tallystick_duplicates_total", "tallystick_conflicts_total"];

interface Pace {
  perSecond: string | null;
  rejected: string;
  duplicates: string;
  conflicts: string;
}

function Live() {
  const before = useRef<{ at: number; recorded: number } | null>(null);
  const [past, setPast] = useState<(string | null)[]>([]);
  const pace = useAsk<Pace>("pace", async (signal) => {
    const found = await client.metrics(signal);
    const now = { at: performance.now(), recorded: RECORDED.reduce((all, name) => all + Number(sum(found, name)), 0) };
    const last = before.current;
    before.current = now;
    const perSecond = last === null ? null : (((now.recorded - last.recorded) * 1000) / (now.at - last.at)).toFixed(1);
    if (perSecond !== null) setPast((all) => [...all.slice(-59), perSecond]);
    return { perSecond, rejected: sum(found, "tallystick_events_rejected_total"), duplicates: sum(found, "tallystick_duplicates_total"), conflicts: sum(found, "tallystick_conflicts_total") };
  }, PACE_MS);
  const ready = useAsk("lag", (signal) => client.health(signal), PACE_MS);
  const lag = ready.answer?.recorder_lag;
  return (
    <section aria-label="Now" class="tiles">
      <div class="tile wide-tile">
        <h2>Events a second</h2>
        <p class="big"><Figure own value={pace.answer?.perSecond ?? null} none="…" /></p>
        <Spark values={past} title="Events a second, the last minute" />
      </div>
      <div class="tile">
        <h2>Recorder</h2>
        <p class="big"><Figure value={lag === undefined ? null : String(lag.events)} none="…" /></p>
        <p class="muted">events behind{lag !== undefined && lag.events > 0 ? `, ${lag.seconds} s` : ""}</p>
      </div>
      <div class="tile">
        <h2>Sent twice</h2>
        <p class="big"><Figure own value={pace.answer?.duplicates} none="…" /></p>
        <p class="muted">duplicates, counted once</p>
      </div>
      <div class="tile">
        <h2>Conflicts</h2>
        <p class="big"><Figure own value={pace.answer?.conflicts} none="…" /></p>
        <p class="muted"><a href="/events?status=conflict">same identity, other content</a></p>
      </div>
      <div class="tile">
        <h2>Rejected</h2>
        <p class="big"><Figure own value={pace.answer?.rejected} none="…" /></p>
        <p class="muted">refused with a reason, by this server since its start</p>
      </div>
      <p class="tiles-note muted">Events a second, duplicates and conflicts are those of all servers and tenants together; the counts since the installation began.</p>
    </section>
  );
}

/** A counter over all its labels. The text says `12.0`: a counter of Prometheus is a double. */
function sum(found: ReadonlyMap<string, string>, name: string): string {
  let total = 0;
  for (const [key, value] of found) if (key === name || key.startsWith(`${name}{`)) total += Number(value);
  return String(total);
}

interface MeterLine {
  key: string;
  name: string;
  unit: string | null;
  total: Usage;
  trend: (string | null)[];
}

function TopMeters({ range }: { range: string }) {
  const zone = useZone();
  const window = range === "1h" ? "minute" : range === "24h" ? "hour" : "day";
  const asked = useAsk(`meters ${range} ${zone}`, async (signal): Promise<MeterLine[]> => {
    const bounds = rangeOf(range, zone, Date.now());
    const meters = (await client.meters.list({ limit: METERS_COMPARED_MAX })).items.filter((meter) => meter.archived_at === null);
    return Promise.all(
      meters.map(async (meter) => {
        const [total, trend] = await Promise.all([
          client.meters.usage(meter.key, { ...bounds, compare: "previous" }, signal),
          client.meters.usage(meter.key, { ...bounds, window, timezone: zone, fill: "zero" }, signal),
        ]);
        return { key: meter.key, name: meter.name, unit: meter.unit, total, trend: trend.rows.map((row) => row.value) };
      }),
    );
  }, REFRESH_MS);
  return (
    <section class="panel">
      <header><h2>Meters</h2><a href="/meters">All meters</a></header>
      <Answered of={asked} what="Asking all meters">
        {(lines) => (
          <Table
            caption="Usage of the meters"
            rows={lines}
            rowKey={(line) => line.key}
            columns={[
              { name: "Meter", cell: (line) => <a href={withQuery("/explore", { meter: line.key, range })}>{line.name}</a> },
              { name: "Usage", figure: true, cell: (line) => <Figure value={line.total.rows[0]?.value} unit={line.unit} none="no data" /> },
              { name: "Against before", figure: true, cell: (line) => <Change percent={rounded(line.total.rows[0]?.change_percent)} /> },
              { name: "Trend", wide: true, cell: (line) => <Spark values={line.trend} title={`${line.name} by ${window}`} /> },
            ]}
          />
        )}
      </Answered>
    </section>
  );
}

/** One place after the point is enough beside a figure; the explorer has them all. */
function rounded(change: string | null | undefined): string | null {
  return change === null || change === undefined ? null : percent(change, "100");
}

function TopCustomers({ range }: { range: string }) {
  const zone = useZone();
  const [query, setQuery] = useQuery();
  const meters = useAsk("meters", () => client.meters.list({ limit: 100 }));
  const all = meters.answer?.items.filter((meter) => meter.archived_at === null) ?? [];
  const meter = all.find((one) => one.key === query.get("meter")) ?? all[0];
  const asked = useAsk(meter === undefined ? null : `top ${meter.key} ${range} ${zone}`, (signal) =>
    client.meters.usage(meter?.key ?? "", { ...rangeOf(range, zone, Date.now()), group_by: "customer", order_by: "-value", limit: 8 }, signal), REFRESH_MS);
  return (
    <section class="panel">
      <header>
        <h2>Top customers</h2>
        {meter !== undefined && <Select aria-label="Meter" value={meter.key} options={all.map((one) => [one.key, one.name] as const)} change={(value) => setQuery({ meter: value })} />}
      </header>
      <Answered of={asked} what="Asking who uses most">
        {(answer) => answer.rows.length === 0 ? <Empty title="No usage in this range" /> : (
          <Table
            caption="Top customers"
            rows={[...answer.rows]}
            rowKey={(row) => String(row.group["customer"])}
            columns={[
              { name: "Customer", cell: (row) => <a href={`/customers/${encodeURIComponent(row.group["customer"] ?? "")}`}>{row.group["customer"]}</a> },
              { name: "Usage", figure: true, cell: (row) => <Figure value={row.value} unit={answer.unit} /> },
            ]}
          />
        )}
      </Answered>
    </section>
  );
}

function Transitions() {
  const asked = useAsk("transitions", (signal) => client.alerts.transitions({ limit: 8 }, signal), REFRESH_MS);
  return (
    <section class="panel">
      <header><h2>Alerts lately</h2><a href="/alerts">All</a></header>
      <Answered of={asked} what="Asking for alerts">
        {(answer) => answer.items.length === 0 ? <Empty title="No alert has fired" /> : (
          <Table
            caption="Alerts that fired or recovered"
            rows={answer.items}
            rowKey={(one) => one.id}
            columns={[
              { name: "Alert", cell: (one) => <><Badge state={one.kind} /> {one.alert}</> },
              { name: "Customer", cell: (one) => (one.customer === null ? "everybody" : <a href={`/customers/${encodeURIComponent(one.customer)}`}>{one.customer}</a>) },
              { name: "Value", figure: true, cell: (one) => <><Figure value={one.value} />{one.threshold && <small class="group reached"> step <Figure value={one.threshold} /></small>}</> },
              { name: "When", wide: true, cell: (one) => <Time at={one.at} /> },
            ]}
          />
        )}
      </Answered>
    </section>
  );
}

type FoundEvent = ItemOf<"GET /v1/events">;

/** Each reason once, with the meters it holds for. */
function reasonsOf(excluded: FoundEvent["excluded"]): string {
  const meters = new Map<string, string[]>();
  for (const one of excluded ?? []) meters.set(one.excluded, [...(meters.get(one.excluded) ?? []), one.meter]);
  return [...meters].map(([reason, of]) => `${reason} (${of.join(", ")})`).join(", ");
}

function NotCounted() {
  const asked = useAsk("not counted", async (signal) => {
    // To find an invalid event the server reads them all.
    const from = new Date(Date.now() - LATELY_MS).toISOString();
    const [conflict, invalid, quarantined] = await Promise.all(
      (["conflict", "invalid", "quarantined"] as const).map((status) => client.events.search({ status, from, limit: 4 }, signal)),
    );
    const rows: { event: FoundEvent; why: string }[] = [];
    for (const event of conflict?.items ?? []) rows.push({ event, why: "conflict" });
    for (const event of invalid?.items ?? []) rows.push({ event, why: reasonsOf(event.excluded) || "invalid" });
    for (const event of quarantined?.items ?? []) rows.push({ event, why: "no customer yet" });
    return rows.sort((left, right) => (left.event.recorded_at < right.event.recorded_at ? 1 : -1)).slice(0, 8);
  }, LATELY_REFRESH_MS);
  return (
    <section class="panel">
      <header><h2>Lately not counted</h2><a href="/events?status=invalid">All</a></header>
      <Answered of={asked} what="Looking for events that do not count">
        {(rows) => rows.length === 0 ? <Empty title="Every event of the last hour counts" /> : (
          <Table
            caption="Events that did not count"
            rows={rows}
            rowKey={({ event, why }) => `${event.position} ${why}`}
            columns={[
              { name: "Event", cell: ({ event }) => <a class="link id short-id" href={withQuery("/events", { event: event.id, event_source: event.source })}>{event.id}</a> },
              { name: "Why", cell: ({ why }) => why },
              { name: "Recorded", wide: true, cell: ({ event }) => <Time at={event.recorded_at} /> },
            ]}
          />
        )}
      </Answered>
    </section>
  );
}
