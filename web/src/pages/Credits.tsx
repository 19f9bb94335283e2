import { useState } from "preact/hooks";
import type { BodyOf } from "tallystick";
import { asError } from "../ask";
import { Confirm } from "../components/Confirm";
import { Dialog } from "../components/Dialog";
import { Field, faultOf, Select } from "../components/Form";
import { Icon } from "../components/Icon";
import { Empty, Failed } from "../components/States";
import { useZone } from "../preferences";
import { useQuery } from "../router";
import { client, may } from "../session";
import { fromInput } from "../time";
import { CreditsOf } from "./credits/CreditsOf";

export function Credits() {
  const [query, setQuery] = useQuery();
  const [typed, setTyped] = useState(query.get("customer") ?? "");
  const [granting, setGranting] = useState(false);
  const [voiding, setVoiding] = useState<string | null>(null);
  const [turn, setTurn] = useState(0);
  const customer = query.get("customer") ?? "";
  const write = may("billing:write");
  return (
    <main id="main" class="page">
      <header class="page-head">
        <h1>Credits</h1>
        <div class="actions">
          <form class="look-up" onSubmit={(event) => {
            event.preventDefault();
            setQuery({ customer: typed.trim() });
          }}>
            <input aria-label="Key of the customer" placeholder="customer" value={typed} spellcheck={false} onInput={(event) => setTyped(event.currentTarget.value)} />
            <button type="submit">Show</button>
          </form>
          {write && <button type="button" class="primary" onClick={() => setGranting(true)}><Icon name="plus" />Grant credits</button>}
        </div>
      </header>
      {customer === "" ? <section class="panel"><Empty title="Whose credits?"><p>Enter the key of a customer.</p></Empty></section> : (
        <CreditsOf customer={customer} turn={turn} {...(write ? { voided: setVoiding } : {})} />
      )}
      {granting && <Grant customer={customer} close={() => setGranting(false)} made={(whose) => {
        setGranting(false);
        setTyped(whose);
        setQuery({ customer: whose });
        setTurn(turn + 1);
      }} />}
      {voiding !== null && (
        <Confirm title="Void this grant?" verb="Void" work={() => client.call("POST /v1/credits/{id}/void", { path: { id: voiding } })} close={(done) => {
          setVoiding(null);
          if (done) setTurn(turn + 1);
        }}>
          <p>What is left of it is taken back. What was spent stays spent.</p>
        </Confirm>
      )}
    </main>
  );
}

function Grant({ customer, close, made }: { customer: string; close: () => void; made: (customer: string) => void }) {
  const zone = useZone();
  const [whose, setWhose] = useState(customer);
  const [amount, setAmount] = useState("");
  const [kind, setKind] = useState<"currency" | "meter">("currency");
  const [unit, setUnit] = useState("USD");
  const [source, setSource] = useState("prepaid");
  const [name, setName] = useState("");
  const [until, setUntil] = useState("");
  const [failure, setFailure] = useState<Error | null>(null);
  const grant = (): void => {
    const body: BodyOf<"POST /v1/credits"> = {
      customer: whose, amount, source: source as "prepaid",
      ...(kind === "currency" ? { currency: unit } : { meter: unit }),
      ...(name === "" ? {} : { name }),
      ...(until === "" ? {} : { expires_at: fromInput(until, zone) }),
    };
    client.call("POST /v1/credits", { body }).then(() => made(whose), (error: unknown) => setFailure(asError(error)));
  };
  return (
    <Dialog title="Grant credits" close={close}>
      <form onSubmit={(event) => {
        event.preventDefault();
        grant();
      }}>
        <Field label="Customer" fault={faultOf(failure, "customer")}><input required spellcheck={false} value={whose} onInput={(event) => setWhose(event.currentTarget.value)} /></Field>
        <Field label="Amount" fault={faultOf(failure, "amount")}><input required inputmode="decimal" spellcheck={false} value={amount} onInput={(event) => setAmount(event.currentTarget.value)} /></Field>
        <Field label="In"><Select value={kind} options={[["currency", "money"], ["meter", "units of a meter"]]} change={(value) => {
          setKind(value as "meter");
          setUnit(value === "currency" ? "USD" : "");
        }} /></Field>
        <Field label={kind === "currency" ? "Currency" : "Meter"} fault={faultOf(failure, kind)}><input required spellcheck={false} value={unit} onInput={(event) => setUnit(event.currentTarget.value)} /></Field>
        <Field label="Kind"><Select value={source} options={[["prepaid", "prepaid"], ["promotional", "promotional"]]} change={setSource} /></Field>
        <Field label="Name"><input value={name} onInput={(event) => setName(event.currentTarget.value)} /></Field>
        <Field label={`Good until (${zone})`} hint="Empty: no end" fault={faultOf(failure, "expires_at")}><input type="datetime-local" value={until} onInput={(event) => setUntil(event.currentTarget.value)} /></Field>
        {failure && <Failed error={failure} />}
        <div class="actions"><button type="submit" class="primary">Grant</button><button type="button" onClick={close}>Cancel</button></div>
      </form>
    </Dialog>
  );
}
