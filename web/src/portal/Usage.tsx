/** What the customer has used: every meter, one of them over time and by dimension, and what is to come. */

import { useState } from "preact/hooks";
import type { AnswerOf } from "tallystick";
import { asError, useAsk } from "../ask";
import { Chart, type Series } from "../components/Chart";
import { Figure } from "../components/Figure";
import { Field, Select } from "../components/Form";
import { Answered, Empty, Failed } from "../components/States";
import { Table } from "../components/Table";
import { Period, Time } from "../components/Times";
import { compare } from "../decimal";
import { save } from "../files";
import { useZone } from "../preferences";
import { useQuery } from "../router";
import { client, features, may } from "../session";
import { rangeOf, RANGES, windowText, type Window } from "../time";
import { Foreseen } from "./Foreseen";

type Meter = AnswerOf<"GET /v1/meters">["items"][number];
type Row = AnswerOf<"GET /v1/meters/{key}/usage">["rows"][number];
const RANGES_SHOWN = ["24h", "7d", "30d", "90d", "month", "last-month", "12mo"];
const SERIES_MAX = 10;

export function Usage({ customer }: { customer: string }) {
  const [query, setQuery] = useQuery();
  const zone = useZone();
  const range = RANGES_SHOWN.includes(query.get("range") ?? "") ? (query.get("range") as string) : "30d";
  const meters = useAsk("meters", () => client.meters.list({ limit: 500 }));
  const all = useAsk(`${customer} ${range} ${zone}`, () => client.usage.all({ ...rangeOf(range, zone, Date.now()), customer, include_children: true }));
  return (
    <>
      <header class="page-head">
        <h1>Usage</h1>
        <Select aria-label="Range" value={range} options={RANGES_SHOWN.map((one) => [one, RANGES[one]?.name ?? one] as const)} change={(value) => setQuery({ range: value })} />
      </header>
      <Answered of={all}>
        {(answer) => {
          const used = answer.items.filter((one) => one.rows.length > 0);
          const chosen = used.find((one) => one.meter === query.get("meter")) ?? used[0];
          const meter = meters.answer?.items.find((one) => one.key === chosen?.meter);
          if (chosen === undefined) return <Empty title="Nothing was used in this range" />;
          return (
            <>
              <section class="panel">
                <header><h2>Meters</h2></header>
                <Table
                  caption="Usage of every meter"
                  rows={used}
                  rowKey={(one) => one.meter}
                  pick={(one) => setQuery({ meter: one.meter, by: null })}
                  picked={(one) => one === chosen}
                  columns={[
                    { name: "Meter", cell: (one) => <button type="button" class="link" aria-pressed={one === chosen} onClick={() => setQuery({ meter: one.meter, by: null })}>{meters.answer?.items.find((found) => found.key === one.meter)?.name || one.meter}</button> },
                    { name: "Used", figure: true, cell: (one) => <Figure value={one.rows[0]?.value} unit={one.unit} /> },
                  ]}
                />
              </section>
              <OverTime customer={customer} meter={chosen.meter} title={meter?.name || chosen.meter} of={meter} range={range} />
              <Foreseen customer={customer} meter={chosen.meter} />
            </>
          );
        }}
      </Answered>
      {features.has("billing") && may("billing:read") && <Cost customer={customer} />}
    </>
  );
}

function OverTime({ customer, meter, title, of, range }: { customer: string; meter: string; title: string; of: Meter | undefined; range: string }) {
  const [query, setQuery] = useQuery();
  const [failure, setFailure] = useState<Error | null>(null);
  const zone = useZone();
  const usual = RANGES[range]?.window ?? "day";
  const windows: Window[] = range === "24h" ? ["hour"] : range === "7d" ? ["hour", "day"] : range === "12mo" ? ["week", "month"] : ["day", "week"];
  const window = windows.find((one) => one === query.get("window")) ?? usual;
  const dimensions = [...Object.keys(of?.dimensions ?? {}), "customer", "subject"];
  const by = dimensions.find((one) => one === query.get("by")) ?? "";
  const question = () => ({ ...rangeOf(range, zone, Date.now()), customer, include_children: true, window, timezone: zone, ...(by === "" ? { fill: "zero" as const } : { group_by: by, limit: 200, order_by: "-value" as const }) });
  const asked = useAsk(`${customer} ${meter} ${range} ${zone} ${window} ${by}`, (signal) => client.meters.usage(meter, question(), signal));
  const download = (): void => {
    setFailure(null);
    client.meters.usageFile(meter, question(), "text/csv").then((file) => save(file, `${meter}-${range}.csv`), (error: unknown) => setFailure(asError(error)));
  };
  return (
    <section class="panel chart-panel">
      <header>
        <h2>{title}</h2>
        <div class="actions">
          <Field label="Each"><Select value={window} options={windows.map((one) => [one, one] as const)} change={(value) => setQuery({ window: value })} /></Field>
          <Field label="By"><Select value={by} options={[["", "all together"], ...dimensions.map((one) => [one, one] as const)]} change={(value) => setQuery({ by: value })} /></Field>
          <button type="button" onClick={download}>CSV</button>
        </div>
      </header>
      {failure && <Failed error={failure} />}
      <Answered of={asked}>
        {(answer) => {
          const drawn = seriesOf(answer.rows, by, title);
          return answer.rows.length === 0 ? <Empty title="Nothing in this range" /> : (
            <>
              <Chart
                title={`${title} by ${answer.window ?? window}`}
                height={240}
                kind={drawn.series.length > SERIES_MAX ? "lines" : "bars"}
                unit={answer.unit}
                series={drawn.series}
                labels={drawn.starts.map((start) => windowText(start, window, zone))}
              />
              <details open={by !== ""}>
                <summary>Figures</summary>
                <Table
                  caption={`${title} by ${window}`}
                  rows={by === "" ? answer.rows.filter((row) => row.value !== null) : answer.rows}
                  rowKey={(row, index) => `${row.window_start} ${index}`}
                  columns={[
                    { name: "From", cell: (row) => <Time at={row.window_start} /> },
                    ...(by === "" ? [] : [{ name: by, cell: (row: Row) => row.group[by] ?? "none" }]),
                    { name: "Used", figure: true, cell: (row) => <Figure value={row.value} unit={answer.unit} /> },
                  ]}
                />
              </details>
            </>
          );
        }}
      </Answered>
    </section>
  );
}

/** Rows as series: one for each value, the greatest first. */
function seriesOf(rows: readonly Row[], by: string, title: string): { starts: string[]; series: Series[] } {
  const starts = [...new Set(rows.map((row) => row.window_start))].sort();
  const place = new Map(starts.map((start, index) => [start, index]));
  const found = new Map<string, (string | null)[]>();
  for (const row of rows) {
    const name = by === "" ? title : (row.group[by] ?? "none");
    let values = found.get(name);
    if (values === undefined) found.set(name, (values = new Array<string | null>(starts.length).fill(null)));
    values[place.get(row.window_start) ?? 0] = row.value;
  }
  const greatest = (values: readonly (string | null)[]): string => values.reduce<string>((most, one) => (one !== null && compare(one, most) > 0 ? one : most), "0");
  const series = [...found].map(([name, values]) => ({ name, values }));
  return { starts, series: series.sort((left, right) => compare(greatest(right.values), greatest(left.values))) };
}

/** What the open period costs so far, and at its end. */
function Cost({ customer }: { customer: string }) {
  const asked = useAsk(`cost ${customer}`, async () => {
    const subscriptions = await client.call("GET /v1/subscriptions", { query: { customer } });
    if (!subscriptions.items.some((one) => one.status === "active" || one.status === "trialing")) return null;
    return client.call("GET /v1/customers/{key}/invoice_forecast", { path: { key: customer } });
  });
  // It is foreseen for seconds, where there is much usage: what stands below it does not move then.
  if (asked.error === null && asked.answer === null) return asked.loading ? <section class="panel sums-placeholder" aria-busy="true" /> : null;
  return (
    <section class="panel sums-placeholder">
      <header><h2>What this period costs</h2></header>
      <Answered of={asked}>
        {(answer) => answer === null ? null : (
          <>
            <p class="muted"><Period from={answer.period.from} to={answer.period.to} />, with tax and before credits</p>
            <dl class="sums">
              <div><dt>So far</dt><dd class="big"><Figure value={answer.so_far} unit={answer.currency} /></dd></div>
              <div><dt>Expected at its end</dt><dd class="big"><Figure value={answer.total} unit={answer.currency} /></dd></div>
              <div><dt>Probably between</dt><dd><Figure value={answer.low} /> and <Figure value={answer.high} unit={answer.currency} /></dd></div>
            </dl>
          </>
        )}
      </Answered>
    </section>
  );
}
