import { useState } from "preact/hooks";
import type { ItemOf } from "tallystick";
import { Find } from "../components/Find";
import { Icon } from "../components/Icon";
import { List } from "../components/List";
import { Time } from "../components/Times";
import { go, useQuery } from "../router";
import { client, may } from "../session";
import { CustomerForm } from "./customers/CustomerForm";

type Customer = ItemOf<"GET /v1/customers">;

export function Customers() {
  const [query] = useQuery();
  const [making, setMaking] = useState(false);
  const search = query.get("q") ?? "";
  return (
    <main id="main" class="page">
      <header class="page-head">
        <h1>Customers</h1>
        <div class="actions">
          <Find what="customers" placeholder="key, name or email" />
          {may("customers:write") && <button type="button" class="primary" onClick={() => setMaking(true)}><Icon name="plus" />New customer</button>}
        </div>
      </header>
      <section class="panel">
        <List<Customer>
          caption="Customers"
          question={`customers ${search}`}
          page={(cursor, signal) => client.customers.list({ limit: 100, ...(search === "" ? {} : { q: search }), ...(cursor === null ? {} : { cursor }) }, signal)}
          rowKey={(customer) => customer.key}
          pick={(customer) => go(`/customers/${encodeURIComponent(customer.key)}`)}
          empty={search === "" ? "No customer yet. The first event of an unknown subject makes one." : `No customer has “${search}” in its key, name or email.`}
          columns={[
            { name: "Customer", cell: (customer) => <a href={`/customers/${encodeURIComponent(customer.key)}`}>{customer.name || customer.key}</a> },
            { name: "Key", cell: (customer) => <code>{customer.key}</code> },
            { name: "Subjects", figure: true, wide: true, cell: (customer) => customer.subjects.length },
            { name: "Currency", wide: true, cell: (customer) => customer.currency ?? "–" },
            { name: "Since", wide: true, cell: (customer) => <Time at={customer.created_at} /> },
          ]}
        />
      </section>
      {making && <CustomerForm close={() => setMaking(false)} done={(made) => go(`/customers/${encodeURIComponent(made.key)}`)} />}
    </main>
  );
}
