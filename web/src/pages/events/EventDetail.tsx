/** Everything known of one event, why it counts or not, and what can be done about it. */

import { useState } from "preact/hooks";
import type { AnswerOf } from "tallystick";
import { useAsk } from "../../ask";
import { CopyButton } from "../../components/Copy";
import { Dialog } from "../../components/Dialog";
import { Figure } from "../../components/Figure";
import { Json } from "../../components/Json";
import { Answered } from "../../components/States";
import { Table } from "../../components/Table";
import { Time } from "../../components/Times";
import { client, may } from "../../session";
import { Correct } from "./Correct";

export type Known = AnswerOf<"GET /v1/events/lookup">;

const WHY: Record<string, string> = {
  filter_false: "the meter's filter does not match it",
  value_missing: "it has no value at the meter's path",
  value_not_numeric: "its value is no number",
  number_out_of_range: "its value is too large or has too many digits",
  retracted: "it was retracted",
  quarantined: "its subject belongs to no customer yet",
};

export function EventDetail({ source, id, close }: { source: string; id: string; close: () => void }) {
  const asked = useAsk(`${source} ${id}`, (signal) => client.events.lookup({ source, id }, signal));
  const [correcting, setCorrecting] = useState<"retract" | "replace" | null>(null);
  return (
    <Dialog drawer title={id} close={close}>
      <Answered of={asked} what="Looking it up">
        {(known) => (
          <>
            {known.retracted && <p class="note">This event was retracted: it counts for nothing.</p>}
            <dl class="facts">
              <dt>Source</dt><dd><code>{known.source}</code></dd>
              <dt>Type</dt><dd><code>{known.type}</code></dd>
              <dt>Subject</dt><dd>{known.subject}</dd>
              <dt>Customer</dt><dd><a href={`/customers/${encodeURIComponent(known.customer)}`}>{known.customer}</a></dd>
              <dt>Time</dt><dd><Time at={known.time} exact />{known.time_source === "received" && " (the server's: it named none)"}</dd>
              <dt>Received</dt><dd><Time at={known.received_at} exact /></dd>
              <dt>Recorded</dt><dd><Time at={known.recorded_at} exact /> at <code>{known.position}</code></dd>
            </dl>
            <h3>What it counts for</h3>
            <Readings known={known} />
            <h3>Data</h3>
            <Json label="Data" value={known.data} />
            {Object.keys(known.extensions).length > 0 && <><h3>Further attributes</h3><Json label="Further attributes" value={known.extensions} /></>}
            <History known={known} />
            <div class="actions">
              {may("events:write") && correcting === null && (
                <>
                  {!known.retracted && <button type="button" onClick={() => setCorrecting("retract")}>Retract…</button>}
                  <button type="button" onClick={() => setCorrecting("replace")}>{known.retracted ? "Restore…" : "Replace…"}</button>
                </>
              )}
              <CopyButton label="Copy as curl" text={() => curl(known)} />
            </div>
            {correcting !== null && (
              <Correct known={known} action={correcting} cancel={() => setCorrecting(null)} done={() => {
                setCorrecting(null);
                asked.again();
              }} />
            )}
          </>
        )}
      </Answered>
    </Dialog>
  );
}

export function Readings({ known }: { known: Pick<Known, "readings"> }) {
  if (known.readings.length === 0) return <p class="note">No meter counts events of this type.</p>;
  return (
    <Table
      caption="What each meter reads from it"
      rows={[...known.readings]}
      rowKey={(reading) => reading.meter}
      columns={[
        { name: "Meter", cell: (reading) => <a href={`/meters/${encodeURIComponent(reading.meter)}`}>{reading.meter}</a> },
        { name: "Value", figure: true, cell: (reading) => reading.excluded ? <span class="excluded">not counted</span> : <Figure value={reading.value} /> },
        {
          name: "Dimensions, or why not",
          cell: (reading) => reading.excluded
            ? <span title={reading.excluded}>{WHY[reading.excluded] ?? reading.excluded}</span>
            : Object.entries((reading.dimensions ?? {}) as Record<string, string | null>).map(([name, value]) => `${name}: ${value ?? "(none)"}`).join(", "),
        },
      ]}
    />
  );
}

function History({ known }: { known: Known }) {
  return (
    <>
      {known.duplicates.count > 0 && (
        <>
          <h3>Sent again</h3>
          <p><Figure value={known.duplicates.count} /> times with the same content; counted once. Latest: {known.duplicates.latest[0] && <Time at={known.duplicates.latest[0].received_at} exact />}</p>
        </>
      )}
      {known.conflict_count > 0 && (
        <>
          <h3>Conflicts</h3>
          <p><Figure value={known.conflict_count} /> events with this identity and other content; the first one stays.</p>
          {known.conflicts.map((event) => <div key={event.position}><Time at={event.received_at} exact /><Json label="Conflicting data" value={event.data} /></div>)}
        </>
      )}
      {known.correction_count > 0 && (
        <>
          <h3>Corrections</h3>
          {known.corrections.map((one) => (
            <div key={one.position} class="correction">
              <p><strong>{one.action === "retract" ? "Retracted" : "Replaced"}</strong> by {one.author}, <Time at={one.recorded_at} exact />: {one.reason}</p>
              {one.event && <Json label="Replacement" value={one.event.data} />}
            </div>
          ))}
          {known.as_sent && <><h3>As it was sent</h3><Json label="As it was sent" value={known.as_sent.data} /></>}
        </>
      )}
    </>
  );
}

function curl(known: Known): string {
  const query = new URLSearchParams({ source: known.source, id: known.id });
  return `curl -s '${location.origin}/v1/events/lookup?${query.toString().replaceAll("'", "%27")}' \\\n  -H "Authorization: Bearer $TALLYSTICK_KEY"`;
}
