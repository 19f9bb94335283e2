/** One customer: usage, limits, credits, plan and invoices, on one page. */

import type { AnswerOf, ItemOf } from "tallystick";
import { Problem } from "tallystick";
import { useState } from "preact/hooks";
import { useAsk } from "../ask";
import { Badge } from "../components/Badge";
import { Chart } from "../components/Chart";
import { Figure } from "../components/Figure";
import { PageLink } from "../components/PageLink";
import { Select } from "../components/Form";
import { Answered, Empty, Failed, Loading } from "../components/States";
import { Table } from "../components/Table";
import { Period, Time } from "../components/Times";
import { useZone } from "../preferences";
import { useQuery, withQuery } from "../router";
import { client, features, may } from "../session";
import { rangeOf, RANGES, windowText } from "../time";
import { CustomerForm } from "./customers/CustomerForm";
import { Subscriptions } from "./customers/Subscriptions";
import { Group } from "./invoices/InvoiceDocument";
import { LimitsOf } from "./limits/LimitsOf";

export function CustomerPage({ parameters }: { parameters: Record<string, string> }) {
  const key = parameters["key"] ?? "";
  const asked = useAsk(key, () => client.customers.get(key));
  const [changing, setChanging] = useState(false);
  const [turn, setTurn] = useState(0);
  return (
    <main id="main" class="page">
      <p class="crumbs"><a href="/customers">Customers</a></p>
      <Answered of={asked}>
        {(customer) => (
          <>
            <header class="page-head">
              <h1>{customer.name || customer.key}</h1>
              <div class="actions">
                <a class="button" href={withQuery("/events", { customer: key })}>Events</a>
                {may("customers:write") && customer.archived_at === null && <button type="button" onClick={() => setChanging(true)}>Change</button>}
              </div>
            </header>
            {customer.archived_at !== null && <p class="note">Archived <Time at={customer.archived_at} />.</p>}
            {changing && <CustomerForm of={customer} close={() => setChanging(false)} done={() => {
              setChanging(false);
              asked.again();
            }} />}
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
            {may("limits:check") && <Limits customer={key} />}
            {features.has("billing") && may("billing:read") && (
              <>
                <Subscriptions customer={key} changed={() => setTurn(turn + 1)} />
                <Credits customer={key} />
                <Open key={turn} customer={key} />
                <Items customer={key} />
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
  const meters = useAsk("names of meters", () => client.meters.list({ limit: 1000 }));
  const nameOf = (meter: string): string => meters.answer?.items.find((one) => one.key === meter)?.name || meter;
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
                { name: "Meter", cell: (one) => <button type="button" class="link" aria-pressed={one.meter === meter} onClick={() => setQuery({ meter: one.meter })}>{nameOf(one.meter)}</button> },
                { name: "Usage", figure: true, cell: (one) => <Figure value={one.rows[0]?.value} unit={one.unit} /> },
                { name: "", figure: true, wide: true, cell: (one) => <a href={withQuery("/explore", { meter: one.meter, customer, range })}>Explore</a> },
              ]}
            />
            {drawn.answer === null ? <div class="chart" /> : (
              <Chart
                title={`${nameOf(drawn.answer.meter)} by ${window}`}
                height={220}
                kind="bars"
                unit={drawn.answer.unit}
                series={[{ name: nameOf(drawn.answer.meter), values: drawn.answer.rows.map((row) => row.value) }]}
                labels={drawn.answer.rows.map((row) => windowText(row.window_start, window, zone))}
              />
            )}
          </>
        )}
      </Answered>
    </section>
  );
}

function Limits({ customer }: { customer: string }) {
  return (
    <section class="panel">
      <header><h2>Limits</h2><PageLink to={withQuery("/limits", { customer })}>Set limits</PageLink></header>
      <LimitsOf customer={customer} none="No limit" />
    </section>
  );
}

function Credits({ customer }: { customer: string }) {
  const asked = useAsk(`credits ${customer}`, () => client.customers.credits(customer));
  return (
    <section class="panel">
      <header><h2>Credits</h2><PageLink to={withQuery("/credits", { customer })}>Grants and ledger</PageLink></header>
      <Answered of={asked}>
        {(answer) => answer.balances.length === 0 ? <Empty title="No credits" /> : (
          <Table
            caption="Balances"
            rows={answer.balances}
            rowKey={(one) => `${one.currency ?? ""} ${one.meter ?? ""}`}
            columns={[
              { name: "In", cell: (one) => one.currency ?? one.meter },
              { name: "Balance", figure: true, cell: (one) => <Figure value={one.balance} /> },
              { name: "Granted", figure: true, wide: true, cell: (one) => <Figure value={one.granted} /> },
              { name: "Used", figure: true, wide: true, cell: (one) => <Figure value={one.consumed} /> },
            ]}
          />
        )}
      </Answered>
    </section>
  );
}

/** Null where nothing is subscribed to. */
async function openPeriod(customer: string): Promise<AnswerOf<"POST /v1/customers/{key}/invoices/preview"> | null> {
  try {
    return await client.invoices.preview(customer);
  } catch (error) {
    if (error instanceof Problem && error.code === "no_subscription") return null;
    throw error;
  }
}

function Open({ customer }: { customer: string }) {
  const asked = useAsk(`open ${customer}`, () => openPeriod(customer));
  if (asked.error !== null) return <section class="panel"><Failed error={asked.error} again={asked.again} /></section>;
  const invoice = asked.answer;
  if (invoice === null) {
    return (
      <section class="panel placeholder" aria-busy={asked.loading}>
        <header><h2>This period so far</h2></header>
        {asked.loading ? <Loading /> : <Empty title="Nothing is billed by period" />}
      </section>
    );
  }
  return (
    <section class="panel placeholder">
      <header><h2>This period so far</h2><p class="muted"><Period from={invoice.period.from} to={invoice.period.to} /></p></header>
      <Table
        caption="Lines of the open period"
        rows={invoice.lines}
        rowKey={(line) => line.id}
        columns={[
          { name: "Charge", cell: (line) => <>{line.name}<Group of={line.group} /></> },
          { name: "Quantity", figure: true, cell: (line) => <Figure value={line.quantity} /> },
          { name: invoice.currency, figure: true, cell: (line) => <Figure value={line.rounded} /> },
        ]}
      />
      <p class="total">Due so far <Figure value={invoice.amount_due} unit={invoice.currency} /></p>
      <Expected customer={customer} />
    </section>
  );
}

/** What the period will probably come to. It is foreseen for seconds, where there is much usage: its line is there before. */
function Expected({ customer }: { customer: string }) {
  const asked = useAsk(`foreseen ${customer}`, (signal) => client.call("GET /v1/customers/{key}/invoice_forecast", { path: { key: customer }, signal }));
  const answer = asked.answer;
  return (
    <p class="total expected muted" aria-busy={asked.loading}>
      {asked.error !== null ? `Not foreseen: ${asked.error.message}` : answer === null ? "Looking ahead…" : (
        <>At its end probably <Figure value={answer.total} unit={answer.currency} />, between <Figure value={answer.low} /> and <Figure value={answer.high} /></>
      )}
    </p>
  );
}

type Item = ItemOf<"GET /v1/customers/{key}/items">;

/** Billed once, beside what the plan charges; nothing is shown where there is none. */
function Items({ customer }: { customer: string }) {
  const asked = useAsk(`items ${customer}`, (signal) => client.call("GET /v1/customers/{key}/items", { path: { key: customer }, query: { limit: 24 }, signal }));
  if (asked.answer === null && asked.error === null) return null;
  if (asked.answer !== null && asked.answer.items.length === 0) return null;
  return (
    <section class="panel">
      <header><h2>Single items</h2></header>
      <Answered of={asked}>
        {(answer) => (
          <Table<Item>
            caption="Single items"
            rows={answer.items}
            rowKey={(one) => one.id}
            columns={[
              { name: "Item", cell: (one) => one.name },
              { name: "State", cell: (one) => one.invoice === null ? one.status : <PageLink to={`/invoices/${encodeURIComponent(one.invoice)}`}>{one.status}</PageLink> },
              { name: "Quantity", figure: true, wide: true, cell: (one) => <Figure value={one.quantity} /> },
              { name: "Amount", figure: true, cell: (one) => <Figure value={one.amount} unit={one.currency} /> },
            ]}
          />
        )}
      </Answered>
    </section>
  );
}

function Invoices({ customer }: { customer: string }) {
  const asked = useAsk(`invoices ${customer}`, () => client.invoices.list({ customer, limit: 24 }));
  return (
    <section class="panel">
      <header><h2>Invoices</h2><PageLink to={withQuery("/invoices", { customer })}>All invoices</PageLink></header>
      <Answered of={asked}>
        {(answer) => answer.items.length === 0 ? <Empty title="No invoice yet" /> : (
          <Table
            caption="Invoices"
            rows={answer.items}
            rowKey={(one, index) => one.id ?? String(index)}
            columns={[
              { name: "Invoice", cell: (one) => <PageLink to={`/invoices/${encodeURIComponent(one.id ?? "")}`}>{one.number ?? "not final yet"}</PageLink> },
              { name: "Period", wide: true, cell: (one) => <Period from={one.period.from} to={one.period.to} /> },
              { name: "State", cell: (one) => <Badge state={one.status} /> },
              { name: "Total", figure: true, wide: true, cell: (one) => <Figure value={one.total} unit={one.currency} /> },
              { name: "Due", figure: true, cell: (one) => <Figure value={one.amount_due} unit={one.currency} /> },
            ]}
          />
        )}
      </Answered>
    </section>
  );
}
