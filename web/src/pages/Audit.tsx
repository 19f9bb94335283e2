/** Who changed what: every change of a configuration, with what was before and after. */

import { useState } from "preact/hooks";
import type { ItemOf } from "tallystick";
import { Dialog } from "../components/Dialog";
import { Find } from "../components/Find";
import { Json } from "../components/Json";
import { List } from "../components/List";
import { PageLink } from "../components/PageLink";
import { Time } from "../components/Times";
import { useQuery } from "../router";
import { client } from "../session";

type Entry = ItemOf<"GET /v1/audit">;

const PLACES: Readonly<Record<string, string>> = { meter: "/meters/", customer: "/customers/", plan: "/plans/", backfill: "/backfills/", invoice: "/invoices/" };

/** Where a resource such as `meter/tokens` is shown. "#": nowhere of its own. */
function placeOf(resource: string): string {
  const [kind = "", ...rest] = resource.split("/");
  const place = PLACES[kind];
  return place === undefined || rest.length === 0 ? "#" : place + encodeURIComponent(rest.join("/"));
}

export function Audit() {
  const [picked, setPicked] = useState<Entry | null>(null);
  const [query] = useQuery();
  const search = query.get("q") ?? "";
  return (
    <main id="main" class="page">
      <header class="page-head">
        <h1>Audit</h1>
        <div class="actions"><Find what="changes" placeholder="anything in a change" /></div>
      </header>
      <section class="panel">
        <List
          caption="Changes, newest first"
          question={`audit ${search}`}
          page={(cursor, signal) => client.call("GET /v1/audit", { query: { limit: 50, ...(search === "" ? {} : { q: search }), ...(cursor === null ? {} : { cursor }) }, signal })}
          rowKey={(entry) => entry.id}
          pick={setPicked}
          empty={search === "" ? "Nothing was changed yet" : `No change has “${search}” in it`}
          columns={[
            { name: "When", cell: (entry) => <Time at={entry.at} /> },
            { name: "Who", cell: (entry) => entry.actor },
            { name: "Did", cell: (entry) => <button type="button" class="link" onClick={() => setPicked(entry)}>{entry.action}</button> },
            { name: "To", cell: (entry) => <PageLink to={placeOf(entry.resource)}><code>{entry.resource}</code></PageLink> },
            { name: "From", wide: true, cell: (entry) => entry.address ?? "–" },
          ]}
        />
      </section>
      {picked !== null && (
        <Dialog drawer title={`${picked.action} · ${picked.resource}`} close={() => setPicked(null)}>
          <dl class="facts">
            <dt>When</dt><dd><Time at={picked.at} exact /></dd>
            <dt>Who</dt><dd>{picked.actor}</dd>
            <dt>Request</dt><dd><code>{picked.request_id}</code></dd>
          </dl>
          <h3>Before</h3><Json label="Before" value={picked.before} />
          <h3>After</h3><Json label="After" value={picked.after} />
        </Dialog>
      )}
    </main>
  );
}
