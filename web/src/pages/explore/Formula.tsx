/** Several meters and a formula over them: `a / b * 100`. */

import { useMemo, useState } from "preact/hooks";
import { useAsk } from "../../ask";
import { Chart } from "../../components/Chart";
import { Field, Select } from "../../components/Form";
import { Figure } from "../../components/Figure";
import { Answered, Empty } from "../../components/States";
import { Table } from "../../components/Table";
import { client } from "../../session";
import { windowText } from "../../time";
import type { Meter } from "../Explore";
import { shared, type Explored } from "./question";

const ALIASES = ["a", "b", "c", "d"] as const;

export function FormulaPanel({ meters, meter, explored, query, change }: {
  meters: readonly Meter[];
  meter: Meter;
  explored: Explored;
  query: URLSearchParams;
  change: (members: Record<string, string | null>, options?: { replace?: boolean }) => void;
}) {
  const formula = query.get("formula") ?? "";
  const [typed, setTyped] = useState(formula);
  const chosen = useMemo(() => choose(query, meters, meter), [query.toString(), meters, meter]);
  const used = ALIASES.filter((alias) => new RegExp(`\\b${alias}\\b`).test(formula));
  const { timezone, from, to, customer } = shared(explored);
  const body = {
    meters: Object.fromEntries((used.length === 0 ? (["a"] as const) : used).map((alias) => [alias, { meter: chosen[alias] }])),
    formula,
    from, to, timezone,
    ...(customer === undefined ? {} : { customer }),
  };
  const asked = useAsk(JSON.stringify([body, explored.window]), async (signal) => {
    const [windows, total] = await Promise.all([
      client.usage.query({ ...body, window: explored.window } as never, signal),
      client.usage.query(body as never, signal),
    ]);
    return { windows, total };
  });
  return (
    <>
      <section class="controls" aria-label="Formula">
        <Field label="Formula" wide hint="+ − × ÷ as + - * /, brackets, and the letters of the meters">
          <input
            value={typed}
            spellcheck={false}
            onInput={(event) => setTyped(event.currentTarget.value)}
            onChange={(event) => change({ formula: event.currentTarget.value || "a" }, { replace: true })}
          />
        </Field>
        {ALIASES.slice(0, Math.max(2, ...used.map((alias) => ALIASES.indexOf(alias) + 2))).map((alias) => (
          <Field key={alias} label={alias}>
            <Select value={chosen[alias] ?? ""} change={(key) => change({ [alias]: key })} options={meters.map((one) => [one.key, one.name] as const)} />
          </Field>
        ))}
      </section>
      <Answered of={asked} what="Asking">
        {({ windows, total }) => windows.rows.length === 0 ? <section class="panel"><Empty title="No usage in this range" /></section> : (
          <>
            <section class="panel chart-panel">
              <header><div><h2>{windows.formula}</h2><p class="big"><Figure value={total.rows[0]?.value} none="no figure" /></p></div></header>
              <Chart
                title={formula}
                series={[{ name: formula, values: windows.rows.map((row) => row.value) }]}
                labels={windows.rows.map((row) => windowText(row.window_start, explored.window, explored.zone))}
                kind="lines"
              />
            </section>
            <section class="panel">
              <header><h2>By {explored.window}</h2></header>
              <Table
                caption="The formula by window"
                rows={[...windows.rows].reverse()}
                rowKey={(row) => row.window_start}
                columns={[
                  { name: "From", cell: (row) => <span class="nowrap">{windowText(row.window_start, explored.window, explored.zone)}</span> },
                  { name: formula, figure: true, cell: (row) => <Figure value={row.value} /> },
                  ...Object.keys(windows.meters).map((alias) => ({
                    name: `${alias}: ${chosen[alias as "a"]}`,
                    figure: true,
                    cell: (row: (typeof windows.rows)[number]) => <Figure value={(row.values as Record<string, string | null>)[alias]} />,
                  })),
                ]}
              />
            </section>
          </>
        )}
      </Answered>
    </>
  );
}

/** The meter of each letter: as the address says, or another one than those before it. */
export function choose(query: URLSearchParams, meters: readonly Meter[], meter: Meter): Record<(typeof ALIASES)[number], string> {
  const others = meters.filter((one) => one.key !== meter.key && one.archived_at === null);
  const made = { a: meter.key, b: meter.key, c: meter.key, d: meter.key };
  ALIASES.forEach((alias, index) => {
    const asked = query.get(alias);
    made[alias] = meters.some((one) => one.key === asked) ? (asked as string) : index === 0 ? meter.key : (others[index - 1]?.key ?? meter.key);
  });
  return made;
}
