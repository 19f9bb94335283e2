import { useState } from "preact/hooks";
import type { ItemOf } from "tallystick";
import { asError } from "../ask";
import { Dialog } from "../components/Dialog";
import { Field, faultOf } from "../components/Form";
import { Icon } from "../components/Icon";
import { List } from "../components/List";
import { Failed } from "../components/States";
import { Time } from "../components/Times";
import { go, useQuery } from "../router";
import { client, may } from "../session";

type Customer = ItemOf<"GET /v1/customers">;

export function Customers() {
  const [query, setQuery] = useQuery();
  const [making, setMaking] = useState(false);
  const search = query.get("key") ?? "";
  return (
    <main id="main" class="page">
      <header class="page-head">
        <h1>Customers</h1>
        <div class="actions">
          <form class="look-up" onSubmit={(event) => {
            event.preventDefault();
            if (search !== "") go(`/customers/${encodeURIComponent(search)}`);
          }}>
            <input aria-label="Key of a customer" placeholder="key" value={search} spellcheck={false} onInput={(event) => setQuery({ key: event.currentTarget.value }, { replace: true })} />
            <button type="submit">Open</button>
          </form>
          {may("customers:write") && <button type="button" class="primary" onClick={() => setMaking(true)}><Icon name="plus" />New customer</button>}
        </div>
      </header>
      <section class="panel">
        <List<Customer>
          caption="Customers"
          question="customers"
          page={(cursor, signal) => client.customers.list({ limit: 100, ...(cursor === null ? {} : { cursor }) }, signal)}
          rowKey={(customer) => customer.key}
          pick={(customer) => go(`/customers/${encodeURIComponent(customer.key)}`)}
          empty="No customer yet. The first event of an unknown subject makes one."
          columns={[
            { name: "Customer", cell: (customer) => <a href={`/customers/${encodeURIComponent(customer.key)}`}>{customer.name || customer.key}</a> },
            { name: "Key", cell: (customer) => <code>{customer.key}</code> },
            { name: "Subjects", figure: true, wide: true, cell: (customer) => customer.subjects.length },
            { name: "Currency", wide: true, cell: (customer) => customer.currency ?? "–" },
            { name: "Since", wide: true, cell: (customer) => <Time at={customer.created_at} /> },
          ]}
        />
      </section>
      {making && <NewCustomer close={() => setMaking(false)} />}
    </main>
  );
}

function NewCustomer({ close }: { close: () => void }) {
  const [key, setKey] = useState("");
  const [name, setName] = useState("");
  const [subjects, setSubjects] = useState("");
  const [currency, setCurrency] = useState("USD");
  const [failure, setFailure] = useState<Error | null>(null);
  const make = async (): Promise<void> => {
    setFailure(null);
    try {
      const made = await client.customers.create({
        key,
        ...(name === "" ? {} : { name }),
        currency,
        subjects: subjects.split("\n").map((one) => one.trim()).filter((one) => one !== ""),
      } as never);
      go(`/customers/${encodeURIComponent(made.key)}`);
    } catch (error) {
      setFailure(asError(error));
    }
  };
  return (
    <Dialog title="New customer" close={close}>
      <form onSubmit={(event) => {
        event.preventDefault();
        void make();
      }}>
        <Field label="Key" hint="What your own systems call it. It cannot be changed." fault={faultOf(failure, "key")}><input required value={key} onInput={(event) => setKey(event.currentTarget.value)} /></Field>
        <Field label="Name" fault={faultOf(failure, "name")}><input value={name} onInput={(event) => setName(event.currentTarget.value)} /></Field>
        <Field label="Subjects" hint="One a line: what its events name. The key itself belongs to it in any case." fault={faultOf(failure, "subjects")}><textarea rows={3} value={subjects} onInput={(event) => setSubjects(event.currentTarget.value)} /></Field>
        <Field label="Currency" fault={faultOf(failure, "currency")}><input maxLength={3} value={currency} onInput={(event) => setCurrency(event.currentTarget.value.toUpperCase())} /></Field>
        {failure && <Failed error={failure} />}
        <div class="actions"><button type="submit" class="primary">Create</button><button type="button" onClick={close}>Cancel</button></div>
      </form>
    </Dialog>
  );
}
