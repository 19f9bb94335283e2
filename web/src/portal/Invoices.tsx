import { Badge } from "../components/Badge";
import { Figure } from "../components/Figure";
import { List } from "../components/List";
import { Answered } from "../components/States";
import { Period } from "../components/Times";
import { InvoiceDocument, InvoiceFiles, OpenPeriod, useInvoice, type Invoice } from "../pages/invoices/InvoiceDocument";
import { go } from "../router";
import { client } from "../session";
import { within } from "./embed";

export function Invoices({ customer, rest }: { customer: string; rest: string | null }) {
  return rest === null ? <All customer={customer} /> : <One id={rest} />;
}

function address(invoice: Invoice): string {
  return within(`/portal/invoices/${encodeURIComponent(invoice.id ?? "")}`);
}

function All({ customer }: { customer: string }) {
  return (
    <>
      <header class="page-head"><h1>Invoices</h1></header>
      <OpenPeriod customer={customer} />
      <section class="panel">
        <header><h2>Invoices</h2></header>
        <List<Invoice>
          caption="Invoices"
          question={`invoices ${customer}`}
          page={(cursor) => client.invoices.list({ customer, limit: 50, ...(cursor === null ? {} : { cursor }) })}
          rowKey={(one) => one.id ?? ""}
          pick={(one) => go(address(one))}
          empty="No invoice yet"
          columns={[
            { name: "Invoice", cell: (one) => <a href={address(one)}>{one.number ?? "not final yet"}</a> },
            { name: "Period", cell: (one) => <Period from={one.period.from} to={one.period.to} /> },
            { name: "State", wide: true, cell: (one) => <Badge state={one.status} /> },
            { name: "Total", figure: true, wide: true, cell: (one) => <Figure value={one.total} unit={one.currency} /> },
            { name: "Due", figure: true, cell: (one) => <Figure value={one.amount_due} unit={one.currency} /> },
          ]}
        />
      </section>
    </>
  );
}

function One({ id }: { id: string }) {
  const asked = useInvoice(id);
  return (
    <>
      <p class="crumbs"><a href={within("/portal/invoices")}>Invoices</a></p>
      {asked.answer === null && <h1>Invoice</h1>}
      <Answered of={asked}>
        {(invoice) => (
          <>
            <header class="page-head">
              <h1>{invoice.number === null ? "Invoice, not final yet" : `Invoice ${invoice.number}`}</h1>
              <div class="actions"><InvoiceFiles invoice={invoice as unknown as Invoice} /></div>
            </header>
            <InvoiceDocument invoice={invoice as unknown as Invoice} />
          </>
        )}
      </Answered>
    </>
  );
}
