/** One alert: who is in it now, when it fired, and its silence. */

import { useState } from "preact/hooks";
import type { ItemOf } from "tallystick";
import { asError, useAsk } from "../../ask";
import { Badge } from "../../components/Badge";
import { Confirm } from "../../components/Confirm";
import { Dialog } from "../../components/Dialog";
import { Figure } from "../../components/Figure";
import { List } from "../../components/List";
import { Answered, Empty, Failed } from "../../components/States";
import { Table } from "../../components/Table";
import { Time } from "../../components/Times";
import { client, inPortal, may } from "../../session";
import { saidOf, type Alert } from "./rule";
import { COLUMNS, type Transition } from "./Transitions";

type State = ItemOf<"GET /v1/alerts/{key}/states">;
const HOUR_MS = 3_600_000;
const SILENCES = [["an hour", HOUR_MS], ["a day", 24 * HOUR_MS], ["a week", 168 * HOUR_MS]] as const;

export function AlertDetail({ alert, close, changed }: { alert: Alert; close: () => void; changed: (gone: boolean) => void }) {
  const [failure, setFailure] = useState<Error | null>(null);
  const [removing, setRemoving] = useState(false);
  // The company names whose alert it is; a customer's token has none but its own.
  const owner = !inPortal && alert.owner !== null ? { owner: alert.owner } : {};
  const path = { key: alert.key };
  const states = useAsk(`states ${alert.id}`, () => client.call("GET /v1/alerts/{key}/states", { path, query: { ...owner, limit: 200 } }), 10_000);
  const act = (work: Promise<unknown>): void => {
    setFailure(null);
    work.then(() => changed(false), (error: unknown) => setFailure(asError(error)));
  };
  const mute = (ms: number): void => act(client.call("POST /v1/alerts/{key}/mute", { path, query: owner, body: { until: new Date(Date.now() + ms).toISOString() } }));
  const muted = alert.muted_until !== null && Date.parse(alert.muted_until) > Date.now();
  return (
    <Dialog drawer title={alert.name || alert.key} close={close}>
      <p>{saidOf(alert)}</p>
      <dl class="facts">
        <dt>Key</dt><dd><code>{alert.key}</code></dd>
        <dt>Customer</dt><dd>{alert.customer === "*" || alert.customer === null ? "each by itself" : alert.customer}</dd>
        {alert.owner !== null && !inPortal && <><dt>Set by</dt><dd>{alert.owner}</dd></>}
        <dt>Tells</dt><dd>{alert.channels.length === 0 ? "nobody" : alert.channels.join(", ")}</dd>
        {muted && <><dt>Muted until</dt><dd><Time at={alert.muted_until} /></dd></>}
      </dl>
      {may("alerts:write") && (
        <div class="actions">
          {muted
            ? <button type="button" onClick={() => act(client.call("POST /v1/alerts/{key}/unmute", { path, query: owner }))}>Unmute</button>
            : SILENCES.map(([name, ms]) => <button type="button" key={name} onClick={() => mute(ms)}>Mute for {name}</button>)}
          <button type="button" class="danger" onClick={() => setRemoving(true)}>Delete…</button>
        </div>
      )}
      {failure && <Failed error={failure} />}
      <h3>Now</h3>
      <Answered of={states}>
        {(answer) => answer.items.length === 0 ? <Empty title="Nothing judged yet" /> : (
          <Table<State>
            caption="States"
            rows={answer.items}
            rowKey={(state, index) => `${state.customer} ${index}`}
            columns={[
              { name: "Customer", cell: (state) => state.customer ?? "all" },
              { name: "State", cell: (state) => <Badge state={state.state} /> },
              { name: "Figure", figure: true, cell: (state) => <Figure value={state.value} unit={state.unit} /> },
              { name: "Step", figure: true, cell: (state) => <Figure value={state.step} /> },
              { name: "Since", wide: true, cell: (state) => <Time at={state.since} /> },
            ]}
          />
        )}
      </Answered>
      <h3>History</h3>
      <List<Transition>
        caption="Transitions"
        question={`transitions ${alert.id}`}
        page={(cursor, signal) => client.call("GET /v1/transitions", { query: { alert: alert.key, limit: 50, ...(cursor === null ? {} : { cursor }) }, signal })}
        keep={(one) => ((one as { owner?: string | null }).owner ?? null) === (alert.owner ?? null)}
        rowKey={(one) => one.id}
        empty="It has not fired yet"
        columns={COLUMNS}
      />
      {removing && (
        <Confirm title={`Delete ${alert.key}?`} verb="Delete" work={() => client.call("DELETE /v1/alerts/{key}", { path, query: owner as never })} close={(done) => {
          setRemoving(false);
          if (done) changed(true);
        }}>
          <p>It stops watching. What it has told stays told.</p>
        </Confirm>
      )}
    </Dialog>
  );
}
