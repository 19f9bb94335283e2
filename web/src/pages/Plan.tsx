import { useState } from "preact/hooks";
import { stringifyJson, type AnswerOf } from "tallystick";
import { useAsk } from "../ask";
import { Badge } from "../components/Badge";
import { Confirm } from "../components/Confirm";
import { Figure } from "../components/Figure";
import { Select } from "../components/Form";
import { Answered, Empty } from "../components/States";
import { Table } from "../components/Table";
import { Time } from "../components/Times";
import { useQuery } from "../router";
import { client, may } from "../session";
import { Calculator } from "./plans/Calculator";
import { Price } from "./plans/Price";
import { NewPlan } from "./Plans";

type Version = AnswerOf<"GET /v1/plans/{key}/versions">["items"][number];
/** What the server writes of a plan, beside what it takes. */
const OWN = new Set(["key", "version", "status", "created_at", "published_at", "archived_at"]);

export function PlanPage({ parameters }: { parameters: Record<string, string> }) {
  const key = parameters["key"] ?? "";
  const [query, setQuery] = useQuery();
  const [asking, setAsking] = useState<"publish" | "archive" | null>(null);
  const [changing, setChanging] = useState(false);
  const asked = useAsk(`${key} ${query.get("version") ?? ""}`, () => client.call("GET /v1/plans/{key}/versions", { path: { key } }));
  return (
    <main id="main" class="page">
      <p class="crumbs"><a href="/plans">Plans</a></p>
      {asked.answer === null && <h1>{key}</h1>}
      <Answered of={asked}>
        {(answer) => {
          const versions = [...answer.items].sort((left, right) => right.version - left.version);
          const plan = versions.find((one) => String(one.version) === query.get("version")) ?? versions[0];
          if (plan === undefined) return <Empty title="No such plan" />;
          return (
            <>
              <header class="page-head">
                <h1>{plan.name || plan.key}</h1>
                <div class="actions">
                  <Select aria-label="Version" value={String(plan.version)} options={versions.map((one) => [String(one.version), `Version ${one.version}, ${one.status}`] as const)} change={(version) => setQuery({ version })} />
                  {may("billing:write") && (
                    <>
                      <button type="button" onClick={() => setChanging(true)}>Change…</button>
                      {plan.status === "draft" && <button type="button" class="primary" onClick={() => setAsking("publish")}>Publish…</button>}
                      {plan.status === "published" && <button type="button" class="danger" onClick={() => setAsking("archive")}>Archive…</button>}
                    </>
                  )}
                </div>
              </header>
              <dl class="facts across">
                <div><dt>Key</dt><dd><code>{plan.key}</code></dd></div>
                <div><dt>State</dt><dd><Badge state={plan.status} /></dd></div>
                <div><dt>Billed each</dt><dd>{plan.billing_period}</dd></div>
                <div><dt>Currency</dt><dd>{plan.currency}</dd></div>
                {plan.minimum !== null && <div><dt>At least</dt><dd><Figure value={String(plan.minimum)} /></dd></div>}
                {plan.trial_days !== null && <div><dt>Trial</dt><dd><Figure value={plan.trial_days} unit="days" /></dd></div>}
                {plan.published_at && <div><dt>Published</dt><dd><Time at={plan.published_at} /></dd></div>}
              </dl>
              <Charges plan={plan} />
              {plan.charges.length > 0 && <Calculator key={plan.version} choices={plan.charges.map((charge) => ({ name: charge.name || charge.key, price: stringifyJson(charge.price, "  "), currency: plan.currency }))} />}
              {asking !== null && (
                <Confirm
                  title={asking === "publish" ? `Publish version ${plan.version}?` : `Archive ${plan.key}?`}
                  verb={asking === "publish" ? "Publish" : "Archive"}
                  danger={asking === "archive"}
                  work={() => client.call(asking === "publish" ? "POST /v1/plans/{key}/publish" : "POST /v1/plans/{key}/archive", { path: { key } })}
                  close={(done) => {
                    setAsking(null);
                    if (done) asked.again();
                  }}
                >
                  <p>{asking === "publish" ? "Customers can be subscribed to it, and it never changes after that." : "Nobody can be subscribed to it any more. Who is subscribed stays so."}</p>
                </Confirm>
              )}
              {changing && <NewPlan change={key} from={stringifyJson(Object.fromEntries(Object.entries(plan).filter(([name, value]) => !OWN.has(name) && value !== null)), "  ")} close={() => {
                setChanging(false);
                asked.again();
              }} />}
            </>
          );
        }}
      </Answered>
    </main>
  );
}

function Charges({ plan }: { plan: Version }) {
  return (
    <section class="panel">
      <header><h2>Charges</h2></header>
      {plan.charges.length === 0 ? <Empty title="No charge" /> : (
        <Table
          caption="Charges"
          rows={plan.charges}
          rowKey={(charge) => charge.key}
          columns={[
            { name: "Charge", cell: (charge) => <>{charge.name || charge.key}<small class="group"> {charge.key}</small></> },
            { name: "Of", wide: true, cell: (charge) => charge.meter ? <a href={`/meters/${encodeURIComponent(charge.meter)}`}>{charge.meter}</a> : charge.quantity ? <Figure value={String(charge.quantity)} /> : "a fee" },
            { name: "Paid", wide: true, cell: (charge) => charge.timing === "advance" ? "in advance" : "in arrears" },
            { name: "Included", figure: true, wide: true, cell: (charge) => <Figure value={charge.included === null || charge.included === undefined ? null : String(charge.included)} /> },
            { name: "Price", cell: (charge) => <Price of={charge.price} currency={plan.currency} label={`Price of ${charge.key}`} /> },
          ]}
        />
      )}
    </section>
  );
}
