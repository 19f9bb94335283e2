/** Sources: what brings events by itself, how each stands, and what it could not take. */

import { useState } from "preact/hooks";
import type { ItemOf } from "tallystick";
import { asError, useAsk } from "../ask";
import { Badge } from "../components/Badge";
import { Dialog } from "../components/Dialog";
import { Figure } from "../components/Figure";
import { Field } from "../components/Form";
import { Json } from "../components/Json";
import { List } from "../components/List";
import { Answered, Failed } from "../components/States";
import { Time } from "../components/Times";
import { useQuery } from "../router";
import { client, may } from "../session";

type Source = ItemOf<"GET /v1/sources">;
type Letter = ItemOf<"GET /v1/dead_letters">;
const LOOK_MS = 5000;

export function Sources() {
  const [query, setQuery] = useQuery();
  const [turn, setTurn] = useState(0);
  const source = query.get("source");
  const letter = query.get("letter");
  const changed = (): void => setTurn(turn + 1);
  return (
    <main id="main" class="page">
      <header class="page-head"><h1>Sources</h1></header>
      <section class="panel">
        <List<Source>
          caption="Sources"
          question={`sources ${turn}`}
          page={(cursor, signal) => client.call("GET /v1/sources", { query: { limit: 100, ...(cursor === null ? {} : { cursor }) }, signal })}
          rowKey={(one) => one.key}
          pick={(one) => setQuery({ source: one.key })}
          picked={(one) => one.key === source}
          empty="No source yet. Folders, buckets, queues, tables and logs are named in a file for “tallystick apply”, in its list “sources”."
          columns={[
            { name: "Source", cell: (one) => <button type="button" class="link" onClick={() => setQuery({ source: one.key })}>{one.key}</button> },
            { name: "Kind", wide: true, cell: (one) => one.kind },
            { name: "State", cell: (one) => <Badge state={one.state.status} /> },
            { name: "Behind", figure: true, cell: (one) => one.state.lag === null ? "–" : <Figure value={one.state.lag} /> },
            { name: "Taken", figure: true, wide: true, cell: (one) => <Figure value={one.state.taken} /> },
            { name: "Dead letters", figure: true, cell: (one) => <Figure value={one.state.dead_letters} /> },
          ]}
        />
      </section>
      <Letters turn={turn} changed={changed} />
      {source !== null && <OneSource key={source} of={source} close={() => setQuery({ source: null })} changed={changed} />}
      {letter !== null && <OneLetter key={letter} id={letter} close={() => setQuery({ letter: null })} changed={changed} />}
    </main>
  );
}

function Letters({ turn, changed }: { turn: number; changed: () => void }) {
  const [query, setQuery] = useQuery();
  const [told, setTold] = useState("");
  const [failure, setFailure] = useState<Error | null>(null);
  const open = query.get("letter");
  const retry = (): void => {
    setFailure(null);
    client.call("POST /v1/dead_letters/retry", { body: {} }).then(
      (done) => {
        setTold(`${done.retried} are events now, ${done.refused} were refused again.${done.more ? " There are more." : ""}`);
        changed();
      },
      (error: unknown) => setFailure(asError(error)),
    );
  };
  return (
    <section class="panel">
      <header>
        <h2>Dead letters</h2>
        {may("events:write") && <button type="button" onClick={retry}>Retry all</button>}
      </header>
      {told !== "" && <p role="status">{told}</p>}
      {failure && <Failed error={failure} />}
      <List<Letter>
        caption="Dead letters"
        question={`dead letters ${turn}`}
        page={(cursor, signal) => client.call("GET /v1/dead_letters", { query: { limit: 50, ...(cursor === null ? {} : { cursor }) }, signal })}
        rowKey={(one) => one.id}
        pick={(one) => setQuery({ letter: one.id })}
        picked={(one) => one.id === open}
        empty="Everything that came was taken"
        columns={[
          { name: "Where", cell: (one) => <button type="button" class="link" onClick={() => setQuery({ letter: one.id })}>{one.where}</button> },
          { name: "Source", wide: true, cell: (one) => one.source },
          { name: "Reason", cell: (one) => <code>{one.code}</code> },
          { name: "When", wide: true, cell: (one) => <Time at={one.created_at} /> },
        ]}
      />
    </section>
  );
}

function OneSource({ of, close, changed }: { of: string; close: () => void; changed: () => void }) {
  const [turn, setTurn] = useState(0);
  const [failure, setFailure] = useState<Error | null>(null);
  const asked = useAsk(`source ${of} ${turn}`, (signal) => client.call("GET /v1/sources/{key}", { path: { key: of }, signal }), LOOK_MS);
  const set = (paused: boolean): void => {
    setFailure(null);
    client.call(paused ? "POST /v1/sources/{key}/pause" : "POST /v1/sources/{key}/resume", { path: { key: of } }).then(
      () => {
        setTurn(turn + 1);
        changed();
      },
      (error: unknown) => setFailure(asError(error)),
    );
  };
  return (
    <Dialog drawer title={of} close={close}>
      <Answered of={asked}>
        {(source) => (
          <>
            <dl class="facts">
              <dt>State</dt><dd><Badge state={source.state.status} /></dd>
              <dt>Taken</dt><dd><Figure value={source.state.taken} /></dd>
              <dt>Behind</dt><dd>{source.state.lag === null ? "not known" : <Figure value={source.state.lag} />}</dd>
              <dt>Last taken</dt><dd>{source.state.taken_at === null ? "–" : <Time at={source.state.taken_at} exact />}</dd>
              <dt>Dead letters</dt><dd><Figure value={source.state.dead_letters} /></dd>
            </dl>
            {source.state.fault !== null && <p class="fault">{source.state.fault}</p>}
            {source.state.fault === null && source.state.last_error !== null && <p>Last error: {source.state.last_error}</p>}
            {may("admin") && (
              <div class="actions">
                {source.paused
                  ? <button type="button" class="primary" onClick={() => set(false)}>Resume</button>
                  : <button type="button" onClick={() => set(true)}>Pause</button>}
              </div>
            )}
            {failure && <Failed error={failure} />}
            <h3>Definition</h3>
            <Json value={{ kind: source.kind, format: source.format, settings: source.settings, mapping: source.mapping }} label="Definition" />
            {source.progress.length > 0 && <details><summary>Progress</summary><Json value={source.progress} label="Progress" /></details>}
          </>
        )}
      </Answered>
    </Dialog>
  );
}

function OneLetter({ id, close, changed }: { id: string; close: () => void; changed: () => void }) {
  const [turn, setTurn] = useState(0);
  const [text, setText] = useState<string | null>(null);
  const [failure, setFailure] = useState<Error | null>(null);
  const asked = useAsk(`letter ${id} ${turn}`, (signal) => client.call("GET /v1/dead_letters/{id}", { path: { id }, signal }));
  const work = (done: Promise<unknown>): void => {
    setFailure(null);
    done.then(
      () => {
        setText(null);
        setTurn(turn + 1);
        changed();
      },
      (error: unknown) => setFailure(asError(error)),
    );
  };
  const retry = async (): Promise<unknown> => {
    if (text !== null) await client.call("PUT /v1/dead_letters/{id}", { path: { id }, body: { raw: text } });
    return client.call("POST /v1/dead_letters/{id}/retry", { path: { id } });
  };
  return (
    <Dialog drawer title="Dead letter" close={close}>
      <Answered of={asked}>
        {(letter) => (
          <>
            <dl class="facts">
              <dt>State</dt><dd><Badge state={letter.status} /></dd>
              <dt>Source</dt><dd>{letter.source}</dd>
              <dt>Where</dt><dd>{letter.where}</dd>
              <dt>Reason</dt><dd><code>{letter.code}</code></dd>
              {letter.event !== null && <><dt>Event</dt><dd>{letter.event.id}</dd></>}
            </dl>
            <p>{letter.detail}</p>
            {letter.status === "open" && may("events:write") ? (
              <form onSubmit={(event) => {
                event.preventDefault();
                work(retry());
              }}>
                <Field label={letter.form === "event" ? "Event" : "Record"} hint="One JSON object. Its identity stays.">
                  <textarea rows={12} spellcheck={false} value={text ?? letter.raw ?? ""} onInput={(event) => setText(event.currentTarget.value)} />
                </Field>
                {failure && <Failed error={failure} />}
                <div class="actions">
                  <button type="submit" class="primary">{text === null ? "Retry" : "Save and retry"}</button>
                  <button type="button" class="danger" onClick={() => work(client.call("DELETE /v1/dead_letters/{id}", { path: { id } }))}>Discard</button>
                </div>
              </form>
            ) : (
              <pre class="json" tabIndex={0} role="region" aria-label="What came in"><code>{letter.raw ?? letter.raw_base64}</code></pre>
            )}
          </>
        )}
      </Answered>
    </Dialog>
  );
}
