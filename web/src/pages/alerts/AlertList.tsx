import { useState } from "preact/hooks";
import { Badge } from "../../components/Badge";
import { Icon } from "../../components/Icon";
import { List } from "../../components/List";
import { Time } from "../../components/Times";
import { useQuery } from "../../router";
import { client, inPortal, may } from "../../session";
import { AlertDetail } from "./AlertDetail";
import { AlertForm } from "./AlertForm";
import { saidOf, type Alert } from "./rule";
import { COLUMNS, type Transition } from "./Transitions";

/** Alerts and what has happened; of one customer on its own pages. */
export function AlertList({ customer }: { customer: string | null }) {
  const [query, setQuery] = useQuery();
  const [making, setMaking] = useState(false);
  const [turn, setTurn] = useState(0);
  const [seen, setSeen] = useState<ReadonlyMap<string, Alert>>(new Map());
  const picked = seen.get(query.get("alert") ?? "") ?? null;
  return (
    <>
      <section class="panel">
        <header>
          <h2>{inPortal ? "Your alerts" : "Alerts"}</h2>
          {may("alerts:write") && <button type="button" class="primary" onClick={() => setMaking(true)}><Icon name="plus" />New alert</button>}
        </header>
        <List<Alert>
          caption="Alerts"
          question={`alerts ${turn}`}
          page={async (cursor) => {
            const page = await client.alerts.list({ limit: 100, ...(cursor === null ? {} : { cursor }) });
            setSeen((before) => new Map([...before, ...page.items.map((alert) => [alert.id, alert] as const)]));
            return page;
          }}
          rowKey={(alert) => alert.id}
          pick={(alert) => setQuery({ alert: alert.id })}
          empty="No alert yet"
          columns={[
            { name: "Alert", cell: (alert) => <button type="button" class="link" onClick={() => setQuery({ alert: alert.id })}>{alert.name || alert.key}</button> },
            { name: "When", cell: (alert) => saidOf(alert) },
            ...(customer === null ? [{ name: "Customer", wide: true, cell: (alert: Alert) => alert.customer === "*" ? "each" : (alert.customer ?? "all") }, { name: "Set by", wide: true, cell: (alert: Alert) => alert.owner ?? "us" }] : []),
            { name: "Tells", wide: true, cell: (alert) => alert.channels.join(", ") || "nobody" },
            { name: "", cell: (alert) => alert.enabled === false ? <Badge state="disabled" /> : alert.muted_until !== null && Date.parse(alert.muted_until) > Date.now() ? <><Badge state="muted" /> <Time at={alert.muted_until} /></> : null },
          ]}
        />
      </section>
      <section class="panel">
        <header><h2>What has happened</h2></header>
        <List<Transition>
          caption="What has happened"
          question={`happened ${turn}`}
          page={(cursor, signal) => client.call("GET /v1/transitions", { query: { limit: 50, ...(cursor === null ? {} : { cursor }) }, signal })}
          rowKey={(one) => one.id}
          empty="No alert has fired"
          columns={[COLUMNS[0], { name: "Alert", cell: (one) => one.alert }, ...COLUMNS.slice(1)]}
        />
      </section>
      {making && <AlertForm customer={customer} close={() => setMaking(false)} made={() => {
        setMaking(false);
        setTurn(turn + 1);
      }} />}
      {picked !== null && <AlertDetail key={`${picked.id} ${picked.muted_until}`} alert={picked} close={() => setQuery({ alert: null })} changed={(gone) => {
        if (gone) setQuery({ alert: null });
        setTurn(turn + 1);
      }} />}
    </>
  );
}
