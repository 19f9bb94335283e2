/** One invoice with its lines, each explained down to its events. The same for the company and for its customer. */

import { useState } from "preact/hooks";
import type { AnswerOf, ItemOf } from "tallystick";
import { useAsk } from "../../ask";
import { Badge } from "../../components/Badge";
import { Figure } from "../../components/Figure";
import { Answered, Empty } from "../../components/States";
import { Table } from "../../components/Table";
import { Day, Period, Time } from "../../components/Times";
import { isZero } from "../../decimal";
import { save } from "../../files";
import { client } from "../../session";
import { LineExplained } from "./LineExplained";

export type Invoice = AnswerOf<"GET /v1/invoices">["items"][number];
type Line = Invoice["lines"][number];

export function InvoiceDocument({ invoice }: { invoice: Invoice }) {
  const [line, setLine] = useState<Line | null>(null);
  const explained = invoice.id !== null;
  return (
    <>
      <dl class="facts across">
        <div><dt>State</dt><dd><Badge state={invoice.status} /></dd></div>
        {invoice.kind !== "period" && <div><dt>Kind</dt><dd>{invoice.kind.replaceAll("_", " ")}</dd></div>}
        {invoice.waits_for && <div><dt>Waits for</dt><dd>{invoice.waits_for.replaceAll("_", " ")}</dd></div>}
        <div><dt>Period</dt><dd><Period from={invoice.period.from} to={invoice.period.to} /></dd></div>
        {invoice.status === "grace" && <div><dt>Final on</dt><dd><Day at={invoice.grace_until} /></dd></div>}
        {invoice.finalized_at && <div><dt>Finalized</dt><dd><Time at={invoice.finalized_at} /></dd></div>}
        {invoice.voided_at && <div><dt>Voided</dt><dd><Time at={invoice.voided_at} /></dd></div>}
        {invoice.payment && <div><dt>Payment</dt><dd><Badge state={invoice.payment.status} /> {invoice.payment.detail}</dd></div>}
      </dl>
      <section class="panel">
        <header><h2>Lines</h2></header>
        {invoice.lines.length === 0 ? <Empty title="Nothing was used, nothing is due" /> : (
          <Table
            caption="Lines of the invoice"
            rows={invoice.lines}
            rowKey={(one) => one.id}
            {...(explained ? { pick: setLine } : {})}
            columns={[
              {
                name: "Charge", cell: (one) => (
                  <>
                    {explained ? <button type="button" class="link" onClick={() => setLine(one)}>{one.name}</button> : one.name}
                    <Group of={one.group} />
                    {one.kind !== "usage" && one.kind !== "fee" && <> <Badge state={one.kind.replace("_", " ")} /></>}
                  </>
                ),
              },
              { name: "Period", wide: true, cell: (one) => <Period from={one.period.from} to={one.period.to} /> },
              { name: "Quantity", figure: true, cell: (one) => <Figure value={one.quantity} /> },
              { name: "Exactly", figure: true, wide: true, cell: (one) => <Figure value={one.amount} /> },
              { name: invoice.currency, figure: true, cell: (one) => <Figure value={one.rounded} /> },
            ]}
          />
        )}
        <Totals invoice={invoice} />
      </section>
      {invoice.id !== null && <CreditNotes invoice={invoice.id} />}
      {line !== null && invoice.id !== null && <LineExplained invoice={invoice.id} currency={invoice.currency} line={line} close={() => setLine(null)} />}
    </>
  );
}

type Note = ItemOf<"GET /v1/credit_notes">;

/** What was given back of it; nothing is shown where nothing was. */
function CreditNotes({ invoice }: { invoice: string }) {
  const asked = useAsk(`credit notes ${invoice}`, (signal) => client.call("GET /v1/credit_notes", { query: { invoice, limit: 200 }, signal }));
  if (asked.answer !== null && asked.answer.items.length === 0) return null;
  if (asked.answer === null && asked.error === null) return null;
  return (
    <section class="panel">
      <header><h2>Credit notes</h2></header>
      <Answered of={asked}>
        {(answer) => (
          <Table<Note>
            caption="Credit notes"
            rows={answer.items}
            rowKey={(note) => note.id}
            columns={[
              { name: "Number", cell: (note) => note.number ?? note.id },
              { name: "State", cell: (note) => <Badge state={note.status} /> },
              { name: "As", cell: (note) => (note.kind === "refund" ? "money back" : "credits") },
              { name: "Why", wide: true, cell: (note) => note.reason },
              { name: "When", wide: true, cell: (note) => <Time at={note.created_at} /> },
              { name: "Given back", figure: true, cell: (note) => <Figure value={note.total} unit={note.currency} /> },
            ]}
          />
        )}
      </Answered>
    </section>
  );
}

export function Group({ of }: { of: Readonly<Record<string, string | null>> }) {
  const names = Object.entries(of).filter(([, value]) => value !== null);
  return names.length === 0 ? null : <small class="group"> {names.map(([name, value]) => `${name} ${value}`).join(", ")}</small>;
}

function Totals({ invoice }: { invoice: Invoice }) {
  const rows: [string, string][] = [["Subtotal", invoice.subtotal]];
  if (!isZero(invoice.discount)) rows.push(["Discount", invoice.discount]);
  for (const tax of invoice.taxes) rows.push([`${tax.name} ${tax.percent} %`, tax.amount]);
  rows.push(["Total", invoice.total]);
  if (!isZero(invoice.credit_balance)) rows.push(["Kept as credits", invoice.credit_balance]);
  if (!isZero(invoice.credits_applied)) rows.push(["Paid with credits", invoice.credits_applied]);
  return (
    <dl class="totals">
      {rows.map(([name, amount]) => <div key={name}><dt>{name}</dt><dd><Figure value={amount} /></dd></div>)}
      <div class="due"><dt>Due</dt><dd><Figure value={invoice.amount_due} unit={invoice.currency} /></dd></div>
    </dl>
  );
}

/** The invoice as a file, fetched with the key: a link could not carry it. */
export function InvoiceFiles({ invoice }: { invoice: Invoice }) {
  const [failed, setFailed] = useState(false);
  const fetchFile = (ending: "pdf" | "csv", type: string): void => {
    setFailed(false);
    client.file(`GET /v1/invoices/{id}.${ending}` as string, { path: { id: invoice.id ?? "" } }, type).then(
      (file) => save(file, `invoice-${invoice.number ?? invoice.id}.${ending}`),
      () => setFailed(true),
    );
  };
  return (
    <>
      <button type="button" onClick={() => fetchFile("pdf", "application/pdf")}>PDF</button>
      <button type="button" onClick={() => fetchFile("csv", "text/csv")}>CSV</button>
      {failed && <small class="fault" role="alert">The file could not be fetched.</small>}
    </>
  );
}

export function useInvoice(id: string) {
  return useAsk(`invoice ${id}`, () => client.invoices.get(id));
}

/** The period that is open, as it would be billed now. */
export function OpenPeriod({ customer }: { customer: string }) {
  const asked = useAsk(`open ${customer}`, async (): Promise<Invoice | null> => {
    const subscriptions = await client.call("GET /v1/subscriptions", { query: { customer } });
    const runs = subscriptions.items.some((one) => one.status === "active" || one.status === "trialing");
    return runs ? ((await client.invoices.preview(customer, {})) as unknown as Invoice) : null;
  });
  // What has no subscription shows nothing; until that is known, the room is kept for what is usual.
  if (asked.error === null && asked.answer === null) return asked.loading ? <section class="panel placeholder" aria-busy="true" /> : null;
  return (
    <section class="panel">
      <header><h2>This period so far</h2></header>
      <Answered of={asked}>
        {(invoice) => invoice === null ? null : (
          <>
            <p class="muted"><Period from={invoice.period.from} to={invoice.period.to} />. The invoice is made when the period has ended.</p>
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
            <Totals invoice={invoice} />
          </>
        )}
      </Answered>
    </section>
  );
}
