/** Backfills: many events of the past that count all at once. */

import { useState } from "preact/hooks";
import type { ItemOf } from "tallystick";
import { asError } from "../ask";
import { Dialog } from "../components/Dialog";
import { Field, faultOf } from "../components/Form";
import { Figure } from "../components/Figure";
import { Icon } from "../components/Icon";
import { List } from "../components/List";
import { Failed } from "../components/States";
import { Time } from "../components/Times";
import { useZone } from "../preferences";
import { go } from "../router";
import { client, may } from "../session";
import { fromInput } from "../time";

type Backfill = ItemOf<"GET /v1/backfills">;

export function Backfills() {
  const [opening, setOpening] = useState(false);
  return (
    <main id="main" class="page">
      <header class="page-head">
        <h1>Backfills</h1>
        {may("events:write") && <button type="button" class="primary" onClick={() => setOpening(true)}><Icon name="plus" />Open a backfill</button>}
      </header>
      <section class="panel">
        <List<Backfill>
          caption="Backfills"
          question="backfills"
          page={(cursor, signal) => client.backfills.list({ limit: 100, ...(cursor === null ? {} : { cursor }) }, signal)}
          rowKey={(one) => one.key}
          pick={(one) => go(`/backfills/${encodeURIComponent(one.key)}`)}
          empty="No backfill yet. It is for a day that was lost, a year from another system, a range that was wrong."
          columns={[
            { name: "Backfill", cell: (one) => <a href={`/backfills/${encodeURIComponent(one.key)}`}>{one.key}</a> },
            { name: "State", cell: (one) => one.state },
            { name: "Reason", cell: (one) => one.reason },
            { name: "Laid aside", figure: true, cell: (one) => <Figure value={one.pending} /> },
            { name: "Recorded", figure: true, wide: true, cell: (one) => <Figure value={one.counts.recorded} /> },
            { name: "Opened", wide: true, cell: (one) => <Time at={one.opened_at} /> },
          ]}
        />
      </section>
      {opening && <Open close={() => setOpening(false)} />}
    </main>
  );
}

function Open({ close }: { close: () => void }) {
  const zone = useZone();
  const [key, setKey] = useState("");
  const [reason, setReason] = useState("");
  const [replacing, setReplacing] = useState(false);
  const [from, setFrom] = useState("");
  const [to, setTo] = useState("");
  const [type, setType] = useState("");
  const [customer, setCustomer] = useState("");
  const [failure, setFailure] = useState<Error | null>(null);
  const make = async (): Promise<void> => {
    setFailure(null);
    const range = { from: fromInput(from, zone) ?? "", to: fromInput(to, zone) ?? "", ...(type ? { type } : {}), ...(customer ? { customer } : {}) };
    try {
      const made = await client.backfills.open({ key, reason, replace: replacing ? range : null });
      go(`/backfills/${encodeURIComponent(made.key)}`);
    } catch (error) {
      setFailure(asError(error));
    }
  };
  return (
    <Dialog title="Open a backfill" close={close}>
      <form onSubmit={(event) => {
        event.preventDefault();
        void make();
      }}>
        <Field label="Key" fault={faultOf(failure, "key")}><input required spellcheck={false} value={key} onInput={(event) => setKey(event.currentTarget.value)} /></Field>
        <Field label="Reason" hint="It is kept with every event." fault={faultOf(failure, "reason")}><input required value={reason} onInput={(event) => setReason(event.currentTarget.value)} /></Field>
        <div class="toggles"><label><input type="checkbox" checked={replacing} onChange={(event) => setReplacing(event.currentTarget.checked)} /> Take away what counts in a range</label></div>
        {replacing && (
          <>
            <Field label={`From (${zone})`} fault={faultOf(failure, "replace")}><input required type="datetime-local" value={from} onInput={(event) => setFrom(event.currentTarget.value)} /></Field>
            <Field label="To (exclusive)"><input required type="datetime-local" value={to} onInput={(event) => setTo(event.currentTarget.value)} /></Field>
            <Field label="Events of the type" hint="Empty: of all types"><input spellcheck={false} value={type} onInput={(event) => setType(event.currentTarget.value)} /></Field>
            <Field label="Of the customer" hint="Empty: of all customers"><input spellcheck={false} value={customer} onInput={(event) => setCustomer(event.currentTarget.value)} /></Field>
          </>
        )}
        {failure && <Failed error={failure} />}
        <div class="actions"><button type="submit" class="primary">Open</button><button type="button" onClick={close}>Cancel</button></div>
      </form>
    </Dialog>
  );
}
