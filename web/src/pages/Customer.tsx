/** One customer: usage, limits, credits, plan and invoices, on one page. */

import type { AnswerOf } from "tallystick";
import { Problem } from "tallystick";
import { useAsk, type Asked } from "../ask";
import { Chart } from "../components/Chart";
import { Figure } from "../components/Figure";
import { Select } from "../components/Form";
import { Answered, Empty, Loading } from "../components/States";
import { Table } from "../components/Table";
import { Time } from "../components/Times";
import { useZone } from "../preferences";
import { useQuery, withQuery } from "../router";
import { client, features, may } from "../session";
import { rangeOf, RANGES, windowText } from "../time";

export function CustomerPage({ parameters }: { parameters: Record<string, string> }) {
  const key = parameters["key"] ?? "";
  const asked = useAsk(key, () => client.customers.get(key));
  return (
    <main id="main" class="page">
      <p class="crumbs"><a href="/customers">Customers</a></p>
      <Answered of={asked}>
        {(customer) => (
          <>
            <header class="page-head">
              <h1>{customer.name || customer.key}</h1>
              <div class="actions"><a class="button" href={withQuery("/events", { customer: key })}>Events</a></div>
            </header>
            <dl class="facts across">
              <div><dt>Key</dt><dd><code>{customer.key}</code></dd></div>
              <div><dt>Currency</dt><dd>{customer.currency ?? "none"}</dd></div>
              <div><dt>Zone</dt><dd>{customer.timezone}</dd></div>
              {customer.parent && <div><dt>Part of</dt><dd><a href={`/customers/${encodeURIComponent(customer.parent)}`}>{customer.parent}</a></dd></div>}
              {customer.email && <div><dt>Email</dt><dd>{customer.email}</dd></div>}
              <div><dt>Since</dt><dd><Time at={customer.created_at} /></dd></div>
              <div><dt>Subjects</dt><dd>{customer.subjects.length === 0 ? "its key" : customer.subjects.join(", ")}</dd></div>
            </dl>
            {may("usage:read") && <Usage customer={key} />}
            <Limits customer={key} />
            {features.has("billing") && may("billing:read") && (
              <>
                <div class="columns"><Plan customer={key} /><Credits customer={key} /></div>
                <Open customer={key} />
                <Invoices customer={key} />
              </>
            )}
          </>
        )}
      </Answered>
    </main>
  );
}

const RANGES_SHOWN = ["24h", "7d", "30d", "90d", "month", "12mo"];

function Usage({ customer }: { customer: string }) {
  const [query, setQuery] = useQuery();
  const zone = useZone();
  const range = RANGES_SHOWN.includes(query.get("range") ?? "") ? (query.get("range") as string) : "30d";
  const all = useAsk(`${customer} ${range} ${zone}`, () => client.usage.all({ ...rangeOf(range, zone, Date.now()), customer }));
  const used = all.answer?.items.filter((one) => one.rows.length > 0) ?? [];
  const meter = used.find((one) => one.meter === query.get("meter"))?.meter ?? used[0]?.meter;
  const window = RANGES[range]?.window ?? "day";
  const drawn = useAsk(meter === undefined ? null : `${customer} ${meter} ${range} ${zone}`, (signal) =>
    client.meters.usage(meter ?? "", { ...rangeOf(range, zone, Date.now()), customer, window, timezone: zone, fill: "zero" }, signal));
  return (
    <section class="panel">
      <header>
        <h2>Usage</h2>
        <Select aria-label="Range" value={range} options={RANGES_SHOWN.map((one) => [one, RANGES[one]?.name ?? one] as const)} change={(value) => setQuery({ range: value })} />
      </header>
      <Answered of={all}>
        {(answer) => answer.items.every((one) => one.rows.length === 0) ? <Empty title="No usage in this range" /> : (
          <>
            <Table
              caption="Usage of every meter"
              rows={answer.items.filter((one) => one.rows.length > 0)}
              rowKey={(one) => one.meter}
              pick={(one) => setQuery({ meter: one.meter })}
              picked={(one) => one.meter === meter}
              columns={[
                { name: "Meter", cell: (one) => <button type="button" class="link" aria-pressed={one.meter === meter} onClick={() => setQuery({ meter: one.meter })}>{one.meter}</button> },
                { name: "Usage", figure: true, cell: (one) => <Figure value={one.rows[0]?.value} unit={one.unit} /> },
                { name: "", figure: true, wide: true, cell: (one) => <a href={withQuery("/explore", { meter: one.meter, customer, range })}>Explore</a> },
              ]}
            />
            {drawn.answer === null ? <div class="chart" /> : (
              <Chart
                title={`${drawn.answer.meter} by ${window}`}
                height={220}
                kind="bars"
                unit={drawn.answer.unit}
                series={[{ name: drawn.answer.meter, values: drawn.answer.rows.map((row) => row.value) }]}
                labels={drawn.answer.rows.map((row) => windowText(row.window_start, window, zone))}
              />
            )}
          </>
        )}
      </Answered>
    </section>
  );
}

/** Null where this server has no such route, or this key may not ask. */
async function orNothing<T>(work: Promise<T>): Promise<T | null> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof Problem && (error.status === 404 || error.status === 403)) return null;
    throw error;
  }
}

interface Limit {
  key: string;
  customer: string | null;
  plan: string | null;
  meter: string | null;
  amount: string;
  period: string;
  enforce: string;
}

interface Checked {
  limit: string | null;
  used: string | null;
  held: string | null;
  remaining: string | null;
  reset_at: string | null;
  rule: string | null;
}

function Limits({ customer }: { customer: string }) {
  const asked = useAsk(`limits ${customer}`, async (): Promise<{ limit: Limit; now: Checked | null }[] | null> => {
    const found = (await orNothing(client.limits.list({ limit: 200 }))) as { items: Limit[] } | null;
    if (found === null) return null;
    const own = found.items.filter((limit) => limit.customer === customer);
    return Promise.all(
      own.map(async (limit) => ({
        limit,
        now: limit.meter === null ? null : ((await orNothing(client.limits.check({ customer, meter: limit.meter, amount: "0" } as never))) as Checked | null),
      })),
    );
  });
  if (asked.answer === null && asked.error === null) return null;
  return (
    <section class="panel">
      <header><h2>Limits</h2></header>
      <Answered of={asked as Asked<{ limit: Limit; now: Checked | null }[]>}>
        {(rows) => rows.length === 0 ? <Empty title="No limit of its own" /> : (
          <Table
            caption="Limits"
            rows={rows}
            rowKey={({ limit }) => limit.key}
            columns={[
              { name: "Limit", cell: ({ limit }) => <code>{limit.key}</code> },
              { name: "Of", cell: ({ limit }) => limit.meter ?? "cost" },
              { name: "Each", cell: ({ limit }) => limit.period },
              { name: "Amount", figure: true, cell: ({ limit }) => <Figure value={limit.amount} /> },
              { name: "Used", figure: true, cell: ({ now }) => <Figure value={now?.used} /> },
              { name: "Held", figure: true, wide: true, cell: ({ now }) => <Figure value={now?.held} /> },
              { name: "Left", figure: true, cell: ({ now }) => <Figure value={now?.remaining} /> },
              { name: "Until", wide: true, cell: ({ now }) => <Time at={now?.reset_at} /> },
            ]}
          />
        )}
      </Answered>
    </section>
  );
}

function Plan({ customer }: { customer: string }) {
  const asked = useAsk(`plan ${customer}`, () => orNothing(client.call("GET /v1/subscriptions", { query: { customer } as never })));
  return (
    <section class="panel">
      <header><h2>Plan</h2></header>
      {asked.answer === null && asked.error === null ? (asked.loading ? <Loading /> : <Empty title="Not to be seen with this key" />) : (
        <Answered of={asked as Asked<AnswerOf<"GET /v1/subscriptions">>}>
          {(answer) => answer.items.length === 0 ? <Empty title="No subscription" /> : (
            <Table
              caption="Subscriptions"
              rows={[...answer.items] as unknown as Record<string, string | number | null>[]}
              rowKey={(one) => String(one["id"])}
              columns={[
                { name: "Plan", cell: (one) => <a href={`/plans/${encodeURIComponent(String(one["plan"]))}`}>{String(one["plan"])}</a> },
                { name: "Version", figure: true, cell: (one) => one["version"] ?? one["plan_version"] ?? "–" },
                { name: "State", cell: (one) => one["status"] ?? "–" },
                { name: "Since", cell: (one) => <Time at={one["start"] as string} /> },
              ]}
            />
          )}
        </Answered>
      )}
    </section>
  );
}

function Credits({ customer }: { customer: string }) {
  const asked = useAsk(`credits ${customer}`, () => orNothing(client.customers.credits(customer)));
  const answer = asked.answer as { balances?: Record<string, unknown>[]; balance?: unknown } | null;
  const rows = (answer?.balances ?? (Array.isArray(answer?.balance) ? (answer?.balance as Record<string, unknown>[]) : [])) as Record<string, string | null>[];
  return (
    <section class="panel">
      <header><h2>Credits</h2></header>
      <Answered of={asked as Asked<unknown>}>
        {() => rows.length === 0 ? <Empty title="No credits" /> : (
          <Table
            caption="Balances"
            rows={rows}
            rowKey={(row) => `${row["currency"] ?? ""} ${row["meter"] ?? ""}`}
            columns={[
              { name: "In", cell: (row) => row["currency"] ?? row["meter"] },
              { name: "Balance", figure: true, cell: (row) => <Figure value={row["balance"] ?? row["amount"]} /> },
            ]}
          />
        )}
      </Answered>
    </section>
  );
}

function Open({ customer }: { customer: string }) {
  const asked = useAsk(`open ${customer}`, () => orNothing(client.invoices.preview(customer)));
  const invoice = asked.answer as unknown as Preview | null;
  if (invoice === null || invoice.lines === undefined) return null;
  return (
    <section class="panel">
      <header><h2>This period so far</h2><p class="muted"><Time at={invoice.period.from} /> to <Time at={invoice.period.to} /></p></header>
      <Table
        caption="Lines of the open period"
        rows={invoice.lines}
        rowKey={(line) => line.id}
        columns={[
          { name: "Charge", cell: (line) => line.name },
          { name: "Quantity", figure: true, cell: (line) => <Figure value={line.quantity} /> },
          { name: invoice.currency, figure: true, cell: (line) => <Figure value={line.rounded} /> },
        ]}
      />
      <p class="total">Due so far <Figure value={invoice.amount_due} unit={invoice.currency} /></p>
    </section>
  );
}

interface Preview {
  period: { from: string; to: string };
  currency: string;
  amount_due: string;
  lines: { id: string; name: string; quantity: string | null; rounded: string }[];
}

function Invoices({ customer }: { customer: string }) {
  const asked = useAsk(`invoices ${customer}`, () => client.invoices.list({ customer, limit: 24 } as never));
  return (
    <section class="panel">
      <header><h2>Invoices</h2></header>
      <Answered of={asked}>
        {(answer) => answer.items.length === 0 ? <Empty title="No invoice yet" /> : (
          <Table
            caption="Invoices"
            rows={[...answer.items] as unknown as InvoiceRow[]}
            rowKey={(one) => one.id}
            columns={[
              { name: "Invoice", cell: (one) => <a href={`/invoices/${encodeURIComponent(one.id)}`}>{one.number ?? one.id}</a> },
              { name: "Period", cell: (one) => <><Time at={one.period.from} /> to <Time at={one.period.to} /></> },
              { name: "State", cell: (one) => one.status },
              { name: "Due", figure: true, cell: (one) => <Figure value={one.amount_due} unit={one.currency} /> },
            ]}
          />
        )}
      </Answered>
    </section>
  );
}

interface InvoiceRow {
  id: string;
  number: string | null;
  period: { from: string; to: string };
  status: string;
  currency: string;
  amount_due: string;
}
