import { Badge } from "../components/Badge";
import { Figure } from "../components/Figure";
import { Field, Select } from "../components/Form";
import { List } from "../components/List";
import { Period } from "../components/Times";
import { go, useQuery } from "../router";
import { client } from "../session";
import type { Invoice } from "./invoices/InvoiceDocument";

const STATES = [["", "all"], ["grace", "in grace"], ["finalized", "finalized"], ["void", "void"]] as const;

export function Invoices() {
  const [query, setQuery] = useQuery();
  const [status, customer] = [query.get("status") ?? "", query.get("customer") ?? ""];
  return (
    <main id="main" class="page">
      <header class="page-head"><h1>Invoices</h1></header>
      <section class="panel">
        <div class="controls">
          <Field label="State"><Select value={status} options={STATES} change={(value) => setQuery({ status: value })} /></Field>
          <Field label="Customer"><input spellcheck={false} value={customer} onInput={(event) => setQuery({ customer: event.currentTarget.value }, { replace: true })} /></Field>
        </div>
      </section>
      <section class="panel">
        <List<Invoice>
          caption="Invoices"
          question={`invoices ${status} ${customer}`}
          page={(cursor) => client.invoices.list({ limit: 50, ...(status === "" ? {} : { status: status as "grace" }), ...(customer === "" ? {} : { customer }), ...(cursor === null ? {} : { cursor }) })}
          rowKey={(one) => one.id ?? ""}
          pick={(one) => go(`/invoices/${encodeURIComponent(one.id ?? "")}`)}
          empty="No invoice"
          columns={[
            { name: "Invoice", cell: (one) => <a href={`/invoices/${encodeURIComponent(one.id ?? "")}`}>{one.number ?? "not final yet"}</a> },
            { name: "Customer", cell: (one) => <a href={`/customers/${encodeURIComponent(one.customer)}`}>{one.customer}</a> },
            { name: "Period", wide: true, cell: (one) => <Period from={one.period.from} to={one.period.to} /> },
            { name: "State", wide: true, cell: (one) => <Badge state={one.status} /> },
            { name: "Total", figure: true, wide: true, cell: (one) => <Figure value={one.total} unit={one.currency} /> },
            { name: "Due", figure: true, cell: (one) => <Figure value={one.amount_due} unit={one.currency} /> },
          ]}
        />
      </section>
    </main>
  );
}
