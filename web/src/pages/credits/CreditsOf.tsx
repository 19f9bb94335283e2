/** A customer's credits: what is left, what was granted, and every entry of the ledger. */

import { useState } from "preact/hooks";
import { useAsk } from "../../ask";
import { Badge } from "../../components/Badge";
import { Figure } from "../../components/Figure";
import { List } from "../../components/List";
import { PageLink } from "../../components/PageLink";
import { Answered, Empty } from "../../components/States";
import { Table } from "../../components/Table";
import { Time } from "../../components/Times";
import { save } from "../../files";
import { client, inPortal } from "../../session";
import type { AnswerOf } from "tallystick";

type Answer = AnswerOf<"GET /v1/customers/{key}/credits">;
type Entry = Answer["ledger"][number];

export function CreditsOf({ customer, turn = 0, voided }: { customer: string; turn?: number; voided?: (grant: string) => void }) {
  const asked = useAsk(`credits ${customer} ${turn}`, () => client.customers.credits(customer));
  return (
    <Answered of={asked}>
      {(answer) => answer.grants.length === 0 ? <Empty title="No credits yet" /> : (
        <>
          <section class="panel">
            <header><h2>Balance</h2></header>
            <Table
              caption="Balances"
              rows={answer.balances}
              rowKey={(row) => `${row.currency} ${row.meter}`}
              columns={[
                { name: "In", cell: (row) => row.currency ?? row.meter },
                { name: "Left", figure: true, cell: (row) => <strong><Figure value={row.balance} /></strong> },
                { name: "Granted", figure: true, cell: (row) => <Figure value={row.granted} /> },
                { name: "Used", figure: true, cell: (row) => <Figure value={row.consumed} /> },
                { name: "Expired", figure: true, wide: true, cell: (row) => <Figure value={row.expired} /> },
                { name: "Used beyond", figure: true, wide: true, cell: (row) => <Figure value={row.overage} /> },
              ]}
            />
          </section>
          <section class="panel">
            <header><h2>Grants</h2></header>
            <Table
              caption="Grants"
              rows={answer.grants}
              rowKey={(grant) => grant.id}
              columns={[
                { name: "Grant", cell: (grant) => grant.name || grant.source },
                { name: "State", cell: (grant) => <Badge state={grant.status} /> },
                { name: "Left", figure: true, cell: (grant) => <Figure value={grant.balance} unit={grant.currency ?? grant.meter} /> },
                { name: "Of", figure: true, cell: (grant) => <Figure value={grant.amount} /> },
                { name: "From", wide: true, cell: (grant) => <Time at={grant.effective_at} /> },
                { name: "Until", cell: (grant) => grant.expires_at === null ? "no end" : <Time at={grant.expires_at} /> },
                ...(voided === undefined ? [] : [{ name: "", figure: true, cell: (grant: Answer["grants"][number]) => grant.status !== "ended" && <button type="button" class="link" onClick={() => voided(grant.id)}>Void…</button> }]),
              ]}
            />
          </section>
          <Ledger customer={customer} turn={turn} />
        </>
      )}
    </Answered>
  );
}

function Ledger({ customer, turn }: { customer: string; turn: number }) {
  const [busy, setBusy] = useState(false);
  const download = async (): Promise<void> => {
    setBusy(true);
    try {
      save(new Blob([await ledgerCsv(customer)], { type: "text/csv" }), `credits-${customer}.csv`);
    } finally {
      setBusy(false);
    }
  };
  return (
    <section class="panel">
      <header><h2>Ledger</h2><button type="button" disabled={busy} onClick={download}>CSV</button></header>
      <List<Entry>
        caption="Ledger"
        question={`ledger ${customer} ${turn}`}
        page={async (cursor) => {
          const answer = await client.call("GET /v1/customers/{key}/credits", { path: { key: customer }, query: { limit: 50, ...(cursor === null ? {} : { cursor }) } });
          return { items: answer.ledger, next_cursor: answer.next_cursor };
        }}
        rowKey={(entry, index) => `${entry.id} ${index}`}
        empty="No entry yet"
        columns={[
          { name: "When", cell: (entry) => <Time at={entry.at} /> },
          { name: "What", cell: (entry) => entry.kind.replaceAll("_", " ") },
          { name: "Amount", figure: true, cell: (entry) => <Figure value={entry.amount} unit={entry.currency ?? entry.meter} /> },
          { name: "For", wide: true, cell: (entry) => entry.reference === null ? "–" : inPortal || !entry.reference.startsWith("inv_") ? entry.reference : <PageLink to={`/invoices/${encodeURIComponent(entry.reference)}`}>{entry.reference}</PageLink> },
        ]}
      />
    </section>
  );
}

const COLUMNS = ["at", "kind", "amount", "currency", "meter", "grant", "from", "to", "reference", "line"] as const;

/** Every entry, its texts as the server wrote them. */
async function ledgerCsv(customer: string): Promise<string> {
  const lines = [COLUMNS.join(",")];
  let cursor: string | null = null;
  do {
    const answer: Answer = await client.call("GET /v1/customers/{key}/credits", { path: { key: customer }, query: { limit: 1000, ...(cursor === null ? {} : { cursor }) } });
    for (const entry of answer.ledger) lines.push(COLUMNS.map((name) => quoted(entry[name])).join(","));
    cursor = answer.next_cursor;
  } while (cursor !== null);
  return `${lines.join("\r\n")}\r\n`;
}

// A figure is a figure; of any other text no program that opens the file shall make a formula.
const FIGURE = /^-?\d+(\.\d+)?$/;

function quoted(value: string | null): string {
  if (value === null) return "";
  const text = /^[=+\-@\t\r]/.test(value) && !FIGURE.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
