import type { ItemOf } from "tallystick";
import { Icon } from "../components/Icon";
import { List } from "../components/List";
import { go, withQuery } from "../router";
import { client, may } from "../session";

type Meter = ItemOf<"GET /v1/meters">;

export function Meters() {
  return (
    <main id="main" class="page">
      <header class="page-head">
        <h1>Meters</h1>
        {may("meters:write") && <a class="button primary" href="/meters/new"><Icon name="plus" />New meter</a>}
      </header>
      <section class="panel">
        <List<Meter>
          caption="Meters"
          question="meters"
          page={(cursor, _) => client.meters.list({ limit: 100, ...(cursor === null ? {} : { cursor }) })}
          rowKey={(meter) => meter.key}
          pick={(meter) => go(`/meters/${encodeURIComponent(meter.key)}`)}
          empty="No meter yet"
          columns={[
            { name: "Meter", cell: (meter) => <a href={`/meters/${encodeURIComponent(meter.key)}`}>{meter.name}</a> },
            { name: "Key", wide: true, cell: (meter) => <code>{meter.key}</code> },
            { name: "Counts", cell: (meter) => <><strong>{meter.aggregation}</strong>{meter.value !== null && <> of <code>{valueText(meter.value)}</code></>} in <code>{meter.event_type}</code></> },
            { name: "Dimensions", wide: true, cell: (meter) => Object.keys(meter.dimensions ?? {}).join(", ") || "–" },
            { name: "State", cell: (meter) => (meter.archived_at === null ? "active" : "archived") },
            { name: "", figure: true, wide: true, cell: (meter) => <a href={withQuery("/explore", { meter: meter.key })}>Explore</a> },
          ]}
        />
      </section>
    </main>
  );
}

export function valueText(value: unknown): string {
  return typeof value === "string" ? value : ((value as { cel?: string } | null)?.cel ?? "");
}
