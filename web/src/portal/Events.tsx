/** The customer's own events: search them, and see one as it was sent. */

import { useState } from "preact/hooks";
import { stringifyJson, type ItemOf } from "tallystick";
import { asError, useAsk } from "../ask";
import { Dialog } from "../components/Dialog";
import { Figure } from "../components/Figure";
import { Field, Select } from "../components/Form";
import { Json } from "../components/Json";
import { List } from "../components/List";
import { Answered, Failed } from "../components/States";
import { Table } from "../components/Table";
import { Time } from "../components/Times";
import { save } from "../files";
import { useZone } from "../preferences";
import { useQuery } from "../router";
import { client } from "../session";
import { rangeOf, RANGES } from "../time";

type Event = ItemOf<"GET /v1/events">;
const RANGES_SHOWN = ["1h", "24h", "7d", "30d", "90d", "12mo"];

export function Events({ customer }: { customer: string }) {
  const [query, setQuery] = useQuery();
  const [failure, setFailure] = useState<Error | null>(null);
  const zone = useZone();
  const range = RANGES_SHOWN.includes(query.get("range") ?? "") ? (query.get("range") as string) : "30d";
  const [id, type] = [query.get("id") ?? "", query.get("type") ?? ""];
  const open = query.get("event");
  const chosen = { ...(id === "" ? rangeOf(range, zone, Date.now()) : { id }), ...(type === "" ? {} : { type }) };
  const download = (): void => {
    setFailure(null);
    client.file("GET /v1/export/events", { query: { ...rangeOf(range, zone, Date.now()), ...(type === "" ? {} : { type }), format: "csv" } as never }, "text/csv").then(
      (file) => save(file, `events-${range}.csv`),
      (error: unknown) => setFailure(asError(error)),
    );
  };
  return (
    <>
      <header class="page-head"><h1>Events</h1><div class="actions"><button type="button" onClick={download}>CSV</button></div></header>
      {failure && <Failed error={failure} />}
      <section class="panel">
        <div class="controls">
          <Field label="Range"><Select value={range} options={RANGES_SHOWN.map((one) => [one, RANGES[one]?.name ?? one] as const)} change={(value) => setQuery({ range: value })} /></Field>
          <Field label="Type"><input spellcheck={false} value={type} onInput={(event) => setQuery({ type: event.currentTarget.value }, { replace: true })} /></Field>
          <Field label="Id"><input spellcheck={false} value={id} onInput={(event) => setQuery({ id: event.currentTarget.value }, { replace: true })} /></Field>
        </div>
      </section>
      <section class="panel">
        <List<Event>
          caption="Events"
          question={`events ${customer} ${range} ${id} ${type} ${zone}`}
          page={(cursor, signal) => client.events.search({ ...chosen, limit: 50, ...(cursor === null ? {} : { cursor }) }, signal)}
          rowKey={(event) => `${event.source} ${event.id} ${event.position}`}
          pick={(event) => setQuery({ event: event.id, source: event.source })}
          empty="No such event"
          columns={[
            { name: "Time", cell: (event) => <Time at={event.time} /> },
            { name: "Event", cell: (event) => <button type="button" class="link id" onClick={() => setQuery({ event: event.id, source: event.source })}>{event.id}</button> },
            { name: "Type", wide: true, cell: (event) => event.type },
            { name: "Subject", wide: true, cell: (event) => event.subject },
            { name: "Data", cell: (event) => <code class="data">{stringifyJson(event.data)}</code> },
          ]}
        />
      </section>
      {open !== null && <One id={open} source={query.get("source") ?? "/"} close={() => setQuery({ event: null, source: null })} />}
    </>
  );
}

function One({ id, source, close }: { id: string; source: string; close: () => void }) {
  const asked = useAsk(`${source} ${id}`, (signal) => client.events.lookup({ id, source }, signal));
  return (
    <Dialog drawer title={id} close={close}>
      <Answered of={asked}>
        {(known) => (
          <>
            <dl class="facts">
              <dt>Type</dt><dd><code>{known.type}</code></dd>
              <dt>Subject</dt><dd>{known.subject}</dd>
              <dt>Time</dt><dd><Time at={known.time} exact /></dd>
              <dt>Received</dt><dd><Time at={known.received_at} exact /></dd>
              <dt>Recorded</dt><dd><Time at={known.recorded_at} exact /></dd>
            </dl>
            {known.readings.length > 0 && (
              <Table
                caption="What it counted for"
                rows={[...known.readings]}
                rowKey={(one) => one.meter}
                columns={[
                  { name: "Meter", cell: (one) => one.meter },
                  { name: "Counted", figure: true, cell: (one) => one.excluded === undefined ? <Figure value={one.value} /> : <span class="excluded">{one.excluded.replaceAll("_", " ")}</span> },
                ]}
              />
            )}
            <h3>Data</h3>
            <Json value={known.data} label="Data" />
          </>
        )}
      </Answered>
    </Dialog>
  );
}
