/** What was saved, what is sent of it, and what became of each time. */

import { useState } from "preact/hooks";
import type { ItemOf } from "tallystick";
import { asError } from "../ask";
import { Badge } from "../components/Badge";
import { Confirm } from "../components/Confirm";
import { List } from "../components/List";
import { Failed } from "../components/States";
import { Time } from "../components/Times";
import { useQuery } from "../router";
import { client, may } from "../session";
import { addressOf, type View } from "./explore/Saved";
import { ReportForm } from "./views/ReportForm";
import { Runs } from "./views/Runs";
import { scheduleText } from "./views/schedule";

export type Report = ItemOf<"GET /v1/reports">;

export function Views() {
  const [query, setQuery] = useQuery();
  const [turn, setTurn] = useState(0);
  const [editing, setEditing] = useState<Report | null>(null);
  const [archiving, setArchiving] = useState<{ kind: "view" | "report"; key: string } | null>(null);
  const scheduled = query.get("schedule");
  const open = query.get("report");
  const done = (): void => {
    setEditing(null);
    setQuery({ schedule: null });
    setTurn((before) => before + 1);
  };
  return (
    <main id="main" class="page">
      <header class="page-head">
        <h1>Views and reports</h1>
        <div class="actions"><a class="button" href="/explore">Explore</a></div>
      </header>
      <section class="panel">
        <header><h2>Views</h2></header>
        <List<View>
          caption="Views"
          question={`views ${turn}`}
          page={(cursor, signal) => client.call("GET /v1/views", { query: { limit: 100, ...(cursor === null ? {} : { cursor }) }, signal })}
          rowKey={(view) => view.key}
          empty="No view was saved yet: Explore, then “Save view”"
          columns={[
            { name: "View", cell: (view) => <a href={addressOf(view)}>{view.name}</a> },
            { name: "Meter", wide: true, cell: (view) => view.question.meter },
            { name: "For", cell: (view) => (view.visibility === "shared" ? "everybody" : "its owner") },
            { name: "Owner", wide: true, cell: (view) => (view.mine ? "you" : view.owner) },
            { name: "Changed", wide: true, cell: (view) => <Time at={view.changed_at} /> },
            {
              name: "", figure: true, cell: (view) => (
                <span class="row-actions">
                  {may("alerts:write") && <button type="button" class="link" onClick={() => setQuery({ schedule: view.key })}>Schedule…</button>}
                  {(view.mine || may("admin")) && <button type="button" class="link" onClick={() => setArchiving({ kind: "view", key: view.key })}>Archive…</button>}
                </span>
              ),
            },
          ]}
        />
      </section>
      {may("alerts:read") && (
        <section class="panel">
          <header><h2>Reports</h2></header>
          <List<Report>
            caption="Reports"
            question={`reports ${turn}`}
            page={(cursor, signal) => client.call("GET /v1/reports", { query: { limit: 100, ...(cursor === null ? {} : { cursor }) }, signal })}
            rowKey={(report) => report.key}
            empty="Nothing is sent by itself"
            columns={[
              { name: "Report", cell: (report) => <button type="button" class="link" onClick={() => setQuery({ report: report.key })}>{report.name}</button> },
              { name: "When", cell: (report) => scheduleText(report.schedule) },
              { name: "As", wide: true, cell: (report) => report.format.toUpperCase() },
              { name: "To", wide: true, cell: (report) => report.channel },
              { name: "Next", wide: true, cell: (report) => report.next_due_at === null ? <Badge state="disabled" /> : <Time at={report.next_due_at} /> },
              {
                name: "", figure: true, cell: (report) => may("alerts:write") && (
                  <span class="row-actions">
                    <SendNow report={report} sent={() => setQuery({ report: report.key })} />
                    <button type="button" class="link" onClick={() => setEditing(report)}>Change…</button>
                    <button type="button" class="link" onClick={() => setArchiving({ kind: "report", key: report.key })}>Archive…</button>
                  </span>
                ),
              },
            ]}
          />
        </section>
      )}
      {(scheduled !== null || editing !== null) && <ReportForm view={scheduled} report={editing} close={() => { setEditing(null); setQuery({ schedule: null }); }} done={done} />}
      {open !== null && <Runs report={open} close={() => setQuery({ report: null })} />}
      {archiving !== null && (
        <Confirm
          title={`Archive ${archiving.key}?`}
          verb="Archive"
          work={() => archiving.kind === "view"
            ? client.call("DELETE /v1/views/{key}", { path: { key: archiving.key } })
            : client.call("DELETE /v1/reports/{key}", { path: { key: archiving.key } })}
          close={(archived) => {
            setArchiving(null);
            if (archived) setTurn(turn + 1);
          }}
        >
          <p>{archiving.kind === "view" ? "It is listed no more. Reports of it must be archived first." : "It is sent no more."}</p>
        </Confirm>
      )}
    </main>
  );
}

function SendNow({ report, sent }: { report: Report; sent: () => void }) {
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<Error | null>(null);
  const send = (): void => {
    setBusy(true);
    setFailure(null);
    client.call("POST /v1/reports/{key}/run", { path: { key: report.key } }).then(
      () => {
        setBusy(false);
        sent();
      },
      (error: unknown) => {
        setBusy(false);
        setFailure(asError(error));
      },
    );
  };
  return (
    <>
      <button type="button" class="link" disabled={busy} onClick={send}>{busy ? "Sending…" : "Send now"}</button>
      {failure && <Failed error={failure} />}
    </>
  );
}
