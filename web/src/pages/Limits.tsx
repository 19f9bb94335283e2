import { useState } from "preact/hooks";
import type { BodyOf, ItemOf } from "tallystick";
import { asError, useAsk } from "../ask";
import { Badge } from "../components/Badge";
import { Confirm } from "../components/Confirm";
import { Dialog } from "../components/Dialog";
import { Field, faultOf, Select } from "../components/Form";
import { Figure } from "../components/Figure";
import { Icon } from "../components/Icon";
import { List } from "../components/List";
import { Failed } from "../components/States";
import { Table } from "../components/Table";
import { Time } from "../components/Times";
import { useZone } from "../preferences";
import { useQuery } from "../router";
import { client, features, may } from "../session";
import { fromInput } from "../time";
import { LimitsOf } from "./limits/LimitsOf";

type Limit = ItemOf<"GET /v1/limits">;

/** `rolling:PT5H` is a period that moves along. */
function eachText(period: string): string {
  return period.startsWith("rolling:") ? `in any ${period.slice("rolling:".length)}` : period === "billing" ? "each billing period" : `each ${period}`;
}

export function Limits() {
  const [query, setQuery] = useQuery();
  const [turn, setTurn] = useState(0);
  const [making, setMaking] = useState(false);
  const [raising, setRaising] = useState<Limit | null>(null);
  const [removing, setRemoving] = useState<Limit | null>(null);
  const customer = query.get("customer") ?? "";
  const write = may("limits:write");
  return (
    <main id="main" class="page">
      <header class="page-head">
        <h1>Limits</h1>
        {write && <button type="button" class="primary" onClick={() => setMaking(true)}><Icon name="plus" />New limit</button>}
      </header>
      <section class="panel">
        <List<Limit>
          caption="Limits"
          question={`limits ${turn}`}
          page={(cursor) => client.limits.list({ limit: 100, ...(cursor === null ? {} : { cursor }) })}
          rowKey={(limit) => limit.key}
          empty="No limit yet"
          columns={[
            { name: "Limit", cell: (limit) => <>{limit.name || <code>{limit.key}</code>} <Badge state={limit.enforce ?? "hard"} /></> },
            { name: "For", cell: (limit) => limit.plan !== null ? `plan ${limit.plan}` : limit.customer === "*" ? "each customer" : limit.customer === null ? "–" : <button type="button" class="link" onClick={() => setQuery({ customer: limit.customer })}>{limit.customer}</button> },
            { name: "Of", cell: (limit) => limit.meter ?? "cost" },
            { name: "Amount", figure: true, cell: (limit) => <><Figure value={limit.amount} /><small class="group reached"> {eachText(limit.period)}</small></> },
            { name: "Since", wide: true, cell: (limit) => <Time at={limit.created_at} /> },
            ...(write ? [{
              name: "", figure: true, cell: (limit: Limit) => (
                <span class="row-actions">
                  <button type="button" class="link" onClick={() => setRaising(limit)}>Raise…</button>
                  <button type="button" class="link" onClick={() => setRemoving(limit)}>Delete…</button>
                </span>
              ),
            }] : []),
          ]}
        />
      </section>
      <section class="panel">
        <header>
          <h2>How a customer stands</h2>
          <input class="short" aria-label="Key of the customer" placeholder="customer" spellcheck={false} value={customer} onInput={(event) => setQuery({ customer: event.currentTarget.value }, { replace: true })} />
        </header>
        {customer === "" ? <p class="muted">Enter a customer's key, or choose one above.</p> : <LimitsOf key={`${customer} ${turn}`} customer={customer} />}
      </section>
      {making && <NewLimit close={() => setMaking(false)} made={() => {
        setMaking(false);
        setTurn(turn + 1);
      }} />}
      {raising !== null && <Raise limit={raising} close={(done) => {
        setRaising(null);
        if (done) setTurn(turn + 1);
      }} />}
      {removing !== null && (
        <Confirm title={`Delete ${removing.key}?`} verb="Delete" work={() => client.limits.remove(removing.key)} close={(done) => {
          setRemoving(null);
          if (done) setTurn(turn + 1);
        }}>
          <p>Nothing is refused because of it any more.</p>
        </Confirm>
      )}
    </main>
  );
}

const PERIODS: readonly (readonly [string, string])[] = [["day", "day"], ["week", "week"], ["month", "month"], ["billing", "billing period"], ["rolling:PT1H", "rolling hour"], ["rolling:PT5H", "rolling 5 hours"], ["rolling:P7D", "rolling 7 days"]];

function NewLimit({ close, made }: { close: () => void; made: () => void }) {
  const [key, setKey] = useState("");
  const [whom, setWhom] = useState<"customer" | "plan">("customer");
  const [who, setWho] = useState("");
  const [subject, setSubject] = useState("");
  const [amount, setAmount] = useState("");
  const [period, setPeriod] = useState("month");
  const [enforce, setEnforce] = useState("hard");
  const [fail, setFail] = useState("closed");
  const [failure, setFailure] = useState<Error | null>(null);
  const meters = useAsk("meters", () => client.meters.list({ limit: 500 }));
  const subjects: [string, string][] = [["", "choose"], ...(meters.answer?.items ?? []).map((meter): [string, string] => [`meter ${meter.key}`, meter.key]), ...(features.has("billing") ? ([["cost", "cost"]] as [string, string][]) : [])];
  const make = (): void => {
    const body: BodyOf<"POST /v1/limits"> = {
      key, amount, period, enforce: enforce as "hard", fail: fail as "open",
      ...(whom === "plan" ? { plan: who } : { customer: who }),
      ...(subject === "cost" ? { cost: true } : { meter: subject.slice("meter ".length) }),
    };
    client.limits.create(body).then(made, (error: unknown) => setFailure(asError(error)));
  };
  return (
    <Dialog title="New limit" close={close}>
      <form onSubmit={(event) => {
        event.preventDefault();
        make();
      }}>
        <Field label="Key" fault={faultOf(failure, "key")}><input required spellcheck={false} value={key} onInput={(event) => setKey(event.currentTarget.value)} /></Field>
        <Field label="For"><Select value={whom} options={[["customer", "a customer"], ...(features.has("billing") ? ([["plan", "whoever has the plan"]] as const) : [])]} change={(value) => setWhom(value as "plan")} /></Field>
        <Field label={whom === "plan" ? "Key of the plan" : "Key of the customer"} hint={whom === "plan" ? undefined : "* for each by itself"} fault={faultOf(failure, whom)}>
          <input required spellcheck={false} value={who} onInput={(event) => setWho(event.currentTarget.value)} />
        </Field>
        <Field label="Of" fault={faultOf(failure, "meter")}><Select required value={subject} options={subjects} change={setSubject} /></Field>
        <Field label="Amount" fault={faultOf(failure, "amount")}><input required inputmode="decimal" spellcheck={false} value={amount} onInput={(event) => setAmount(event.currentTarget.value)} /></Field>
        <Field label="Each" fault={faultOf(failure, "period")}><Select value={period} options={PERIODS} change={setPeriod} /></Field>
        <Field label="Beyond it"><Select value={enforce} options={[["hard", "refuse"], ["soft", "only tell"]]} change={setEnforce} /></Field>
        <Field label="While usage cannot be known"><Select value={fail} options={[["closed", "refuse"], ["open", "allow"]]} change={setFail} /></Field>
        {failure && <Failed error={failure} />}
        <div class="actions"><button type="submit" class="primary">Create</button><button type="button" onClick={close}>Cancel</button></div>
      </form>
    </Dialog>
  );
}

/** More for one customer, until then; and what was raised before. */
function Raise({ limit, close }: { limit: Limit; close: (done: boolean) => void }) {
  const zone = useZone();
  const own = limit.customer !== null && limit.customer !== "*" ? limit.customer : "";
  const [customer, setCustomer] = useState(own);
  const [amount, setAmount] = useState("");
  const [until, setUntil] = useState("");
  const [failure, setFailure] = useState<Error | null>(null);
  const before = useAsk(limit.key, () => client.call("GET /v1/limits/{key}/raises", { path: { key: limit.key }, query: { limit: 20 } }));
  const raise = (): void => {
    client.call("POST /v1/limits/{key}/raises", { path: { key: limit.key }, body: { customer, amount, until: fromInput(until, zone) ?? until } }).then(() => close(true), (error: unknown) => setFailure(asError(error)));
  };
  return (
    <Dialog title={`Raise ${limit.key}`} close={() => close(false)}>
      <form onSubmit={(event) => {
        event.preventDefault();
        raise();
      }}>
        <Field label="For the customer" fault={faultOf(failure, "customer")}><input required spellcheck={false} value={customer} onInput={(event) => setCustomer(event.currentTarget.value)} /></Field>
        <Field label="By" hint={<>on top of <Figure value={limit.amount} /></>} fault={faultOf(failure, "amount")}><input required inputmode="decimal" spellcheck={false} value={amount} onInput={(event) => setAmount(event.currentTarget.value)} /></Field>
        <Field label={`Until (${zone})`} fault={faultOf(failure, "until")}><input required type="datetime-local" value={until} onInput={(event) => setUntil(event.currentTarget.value)} /></Field>
        {failure && <Failed error={failure} />}
        <div class="actions"><button type="submit" class="primary">Raise</button><button type="button" onClick={() => close(false)}>Cancel</button></div>
      </form>
      {before.answer !== null && before.answer.items.length > 0 && (
        <>
          <h3>Raised before</h3>
          <Table
            caption="Raises"
            rows={before.answer.items}
            rowKey={(one) => one.id}
            columns={[
              { name: "Customer", cell: (one) => one.customer },
              { name: "By", figure: true, cell: (one) => <Figure value={one.amount} /> },
              { name: "Until", cell: (one) => <Time at={one.until} /> },
            ]}
          />
        </>
      )}
    </Dialog>
  );
}
