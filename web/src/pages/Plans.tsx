import { useState } from "preact/hooks";
import { parseJson, type ItemOf } from "tallystick";
import { asError } from "../ask";
import { Badge } from "../components/Badge";
import { Dialog } from "../components/Dialog";
import { Field } from "../components/Form";
import { Figure } from "../components/Figure";
import { Icon } from "../components/Icon";
import { List } from "../components/List";
import { Failed } from "../components/States";
import { Time } from "../components/Times";
import { go } from "../router";
import { client, may } from "../session";
import { Calculator } from "./plans/Calculator";

type Plan = ItemOf<"GET /v1/plans">;

export function Plans() {
  const [making, setMaking] = useState(false);
  return (
    <main id="main" class="page">
      <header class="page-head">
        <h1>Plans and prices</h1>
        {may("billing:write") && <button type="button" class="primary" onClick={() => setMaking(true)}><Icon name="plus" />New plan</button>}
      </header>
      <section class="panel">
        <List<Plan>
          caption="Plans"
          question="plans"
          page={(cursor, signal) => client.call("GET /v1/plans", { query: { limit: 100, ...(cursor === null ? {} : { cursor }) }, signal })}
          rowKey={(plan) => plan.key}
          pick={(plan) => go(`/plans/${encodeURIComponent(plan.key)}`)}
          empty="No plan yet"
          columns={[
            { name: "Plan", cell: (plan) => <a href={`/plans/${encodeURIComponent(plan.key)}`}>{plan.name || plan.key}</a> },
            { name: "State", cell: (plan) => <Badge state={plan.status} /> },
            { name: "Version", figure: true, cell: (plan) => <Figure value={plan.version} /> },
            { name: "Each", cell: (plan) => plan.billing_period },
            { name: "Currency", wide: true, cell: (plan) => plan.currency },
            { name: "Charges", wide: true, cell: (plan) => plan.charges.map((charge) => charge.name || charge.key).join(", ") || "–" },
            { name: "Published", wide: true, cell: (plan) => <Time at={plan.published_at} /> },
          ]}
        />
      </section>
      <Calculator />
      {making && <NewPlan close={() => setMaking(false)} />}
    </main>
  );
}

const TEMPLATE = `{
  "key": "pro",
  "name": "Pro",
  "currency": "USD",
  "billing_period": "month",
  "charges": [
    {"key": "base", "name": "Base fee", "timing": "advance", "price": {"model": "flat", "amount": "49"}},
    {"key": "tokens", "name": "Tokens", "meter": "tokens",
     "price": {"model": "per_unit", "unit_amount": "0.000002"}}
  ]
}`;

export function NewPlan({ close, from = TEMPLATE, change }: { close: () => void; from?: string; change?: string }) {
  const [text, setText] = useState(from);
  const [failure, setFailure] = useState<Error | null>(null);
  const make = async (): Promise<void> => {
    try {
      const body = parseJson(text) as never;
      const plan = change === undefined ? await client.call("POST /v1/plans", { body }) : await client.call("PATCH /v1/plans/{key}", { path: { key: change }, body });
      close();
      go(`/plans/${encodeURIComponent(plan.key)}?version=${plan.version}`);
    } catch (error) {
      setFailure(asError(error));
    }
  };
  return (
    <Dialog drawer title={change === undefined ? "New plan" : "Change the plan"} close={close}>
      <form onSubmit={(event) => {
        event.preventDefault();
        void make();
      }}>
        <Field label="The plan" hint="A draft is saved: nobody can be subscribed to it before it is published."><textarea rows={20} spellcheck={false} value={text} onInput={(event) => setText(event.currentTarget.value)} /></Field>
        {failure && <Failed error={failure} />}
        <div class="actions"><button type="submit" class="primary">Save the draft</button><button type="button" onClick={close}>Cancel</button></div>
      </form>
    </Dialog>
  );
}
