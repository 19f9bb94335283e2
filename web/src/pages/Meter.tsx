/** One meter: its definition, and why it shows what it shows. */

import { useState } from "preact/hooks";
import { asError, useAsk } from "../ask";
import { Dialog } from "../components/Dialog";
import { Figure } from "../components/Figure";
import { Answered, Empty, Failed } from "../components/States";
import { Table } from "../components/Table";
import { Time } from "../components/Times";
import { Select } from "../components/Form";
import { useZone } from "../preferences";
import { useQuery, withQuery } from "../router";
import { client, may } from "../session";
import { rangeOf, RANGES } from "../time";
import { valueText } from "./Meters";

const SHOWN = ["24h", "7d", "30d", "90d", "12mo"];

export function MeterPage({ parameters }: { parameters: Record<string, string> }) {
  const key = parameters["key"] ?? "";
  const asked = useAsk(key, () => client.meters.get(key));
  const versions = useAsk(`versions ${key}`, () => client.call("GET /v1/meters/{key}/versions", { path: { key } }));
  const [archiving, setArchiving] = useState(false);
  return (
    <main id="main" class="page">
      <p class="crumbs"><a href="/meters">Meters</a></p>
      <Answered of={asked}>
        {(meter) => (
          <>
            <header class="page-head">
              <h1>{meter.name}</h1>
              <div class="actions">
                <a class="button" href={withQuery("/explore", { meter: key })}>Explore</a>
                {may("meters:write") && meter.archived_at === null && (
                  <>
                    {meter.of === null && <a class="button" href={`/meters/${encodeURIComponent(key)}/change`}>Change</a>}
                    <button type="button" onClick={() => setArchiving(true)}>Archive…</button>
                  </>
                )}
              </div>
            </header>
            {meter.archived_at !== null && <p class="note">Archived <Time at={meter.archived_at} />: it counts nothing that came later.</p>}
            <dl class="facts">
              <dt>Key</dt><dd><code>{meter.key}</code></dd>
              <dt>Counts</dt><dd><strong>{meter.aggregation}</strong>{meter.value !== null && <> of <code>{valueText(meter.value)}</code></>}</dd>
              <dt>Events</dt><dd><code>{meter.event_type}</code></dd>
              <dt>Filter</dt><dd>{meter.filter ? <code>{meter.filter}</code> : "none"}</dd>
              <dt>Dimensions</dt><dd>{Object.entries(meter.dimensions ?? {}).map(([name, path]) => <div key={name}>{name} <code>{String(path)}</code></div>)}{Object.keys(meter.dimensions ?? {}).length === 0 && "none"}</dd>
              <dt>Unit</dt><dd>{meter.unit ?? "none"}</dd>
              <dt>Version</dt><dd>{meter.version}, since <Time at={meter.created_at} /></dd>
            </dl>
            {archiving && <Archive name={meter.name} meterKey={key} close={() => setArchiving(false)} done={() => {
              setArchiving(false);
              asked.again();
            }} />}
            {may("events:read") && <Why meterKey={key} />}
            <section class="panel">
              <header><h2>Versions</h2></header>
              <Answered of={versions}>
                {(answer) => (
                  <Table
                    caption="Versions"
                    rows={[...answer.items]}
                    rowKey={(one) => String(one.version)}
                    columns={[
                      { name: "Version", figure: true, cell: (one) => one.version },
                      { name: "Since", cell: (one) => <Time at={one.created_at} /> },
                      { name: "Counts", cell: (one) => <>{one.aggregation} <code>{valueText(one.value)}</code></> },
                      { name: "Filter", wide: true, cell: (one) => (one.filter ? <code>{one.filter}</code> : "none") },
                    ]}
                  />
                )}
              </Answered>
            </section>
          </>
        )}
      </Answered>
    </main>
  );
}

function Why({ meterKey }: { meterKey: string }) {
  const [query, setQuery] = useQuery();
  const zone = useZone();
  const range = SHOWN.includes(query.get("range") ?? "") ? (query.get("range") as string) : "30d";
  const asked = useAsk(`why ${meterKey} ${range} ${zone}`, (signal) => client.meters.explain(meterKey, rangeOf(range, zone, Date.now()), signal));
  return (
    <section class="panel">
      <header>
        <h2>What became of the events of its type</h2>
        <Select aria-label="Range" value={range} options={SHOWN.map((one) => [one, RANGES[one]?.name ?? one] as const)} change={(value) => setQuery({ range: value })} />
      </header>
      <Answered of={asked} what="Reading the latest events">
        {(told) => (
          <>
            <ul class="counts">
              <li><Figure value={told.seen} /> seen</li>
              {!told.complete && <li>of the latest <Figure value={told.scanned} />:</li>}
              <li><Figure value={told.matched} /> counted</li>
              <li><Figure value={told.filtered_out} /> not wanted</li>
              <li><Figure value={told.invalid} /> invalid</li>
            </ul>
            {told.hints.length > 0 && <ul class="hints">{told.hints.map((hint) => <li key={hint.code}>{hint.detail}</li>)}</ul>}
            {told.reasons.length === 0 ? <Empty title={told.seen === 0 ? "No event of its type" : "Every one of them counts"} /> : (
              <Table
                caption="Why events do not count"
                rows={[...told.reasons]}
                rowKey={(one) => one.reason}
                columns={[
                  { name: "Reason", cell: (one) => <code>{one.reason}</code> },
                  { name: "Events", figure: true, cell: (one) => <Figure value={one.count} /> },
                  { name: "For example", cell: (one) => one.samples.slice(0, 3).map((sample) => <a key={sample.id} class="sample" href={withQuery("/events", { event: sample.id, event_source: sample.source })}>{sample.id}</a>) },
                ]}
              />
            )}
          </>
        )}
      </Answered>
    </section>
  );
}

function Archive({ name, meterKey, close, done }: { name: string; meterKey: string; close: () => void; done: () => void }) {
  const [failure, setFailure] = useState<Error | null>(null);
  const archive = async (): Promise<void> => {
    try {
      await client.meters.archive(meterKey);
      done();
    } catch (error) {
      setFailure(asError(error));
    }
  };
  return (
    <Dialog title={`Archive ${name}?`} close={close}>
      <p>It counts no event that comes later. What it has counted stays, and can be asked for.</p>
      {failure && <Failed error={failure} />}
      <div class="actions"><button type="button" class="danger" onClick={archive}>Archive</button><button type="button" onClick={close}>Cancel</button></div>
    </Dialog>
  );
}
