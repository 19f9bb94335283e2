/** One backfill: what lies aside, what it takes away, and closing or reverting it. */

import { useState } from "preact/hooks";
import type { AnswerOf } from "tallystick";
import { asError, useAsk } from "../ask";
import { Dialog } from "../components/Dialog";
import { Field } from "../components/Form";
import { Figure } from "../components/Figure";
import { Answered, Empty, Failed } from "../components/States";
import { Table } from "../components/Table";
import { Time } from "../components/Times";
import { subtract } from "../decimal";
import { go } from "../router";
import { client, may } from "../session";

type Backfill = AnswerOf<"GET /v1/backfills/{key}">;

const REFRESH_MS = 2000;
const ACTIONS = {
  close: { verb: "Close", title: "Close this backfill?", text: "All that lies aside counts at once, and what it replaces is taken away. It can be reverted." },
  revert: { verb: "Revert", title: "Revert this backfill?", text: "Its events are taken back, and what it replaced counts again, all at once." },
  discard: { verb: "Discard", title: "Discard this backfill?", text: "What lies aside is thrown away. Nothing of it has counted." },
} as const;

export function BackfillPage({ parameters }: { parameters: Record<string, string> }) {
  const key = parameters["key"] ?? "";
  const asked = useAsk(key, () => client.backfills.get(key), REFRESH_MS);
  const [sure, setSure] = useState<keyof typeof ACTIONS | null>(null);
  return (
    <main id="main" class="page">
      <p class="crumbs"><a href="/backfills">Backfills</a></p>
      <Answered of={asked}>
        {(backfill) => (
          <>
            <header class="page-head">
              <h1>{backfill.key}</h1>
              {may("events:write") && (
                <div class="actions">
                  {backfill.state === "open" && <button type="button" class="primary" onClick={() => setSure("close")}>Close…</button>}
                  {backfill.state === "open" && <button type="button" onClick={() => setSure("discard")}>Discard…</button>}
                  {backfill.state === "closed" && <button type="button" onClick={() => setSure("revert")}>Revert…</button>}
                </div>
              )}
            </header>
            <dl class="facts">
              <dt>State</dt><dd>{backfill.state}</dd>
              <dt>Reason</dt><dd>{backfill.reason}, by {backfill.author}</dd>
              <dt>Opened</dt><dd><Time at={backfill.opened_at} /></dd>
              {backfill.closed_at && <><dt>Closed</dt><dd><Time at={backfill.closed_at} exact /></dd></>}
              {backfill.reverted_at && <><dt>Reverted</dt><dd><Time at={backfill.reverted_at} exact /></dd></>}
              <dt>Replaces</dt><dd>{backfill.replace === null ? "nothing but its own identities" : <><Time at={backfill.replace.from} /> to <Time at={backfill.replace.to} />{backfill.replace.type && <>, type <code>{backfill.replace.type}</code></>}{backfill.replace.customer && <>, customer {backfill.replace.customer}</>}</>}</dd>
              <dt>Laid aside</dt><dd><Figure value={backfill.pending} /> events</dd>
            </dl>
            {backfill.state !== "open" && (
              <ul class="counts">
                <li><Figure value={backfill.counts.recorded} /> recorded</li>
                <li><Figure value={backfill.counts.replaced} /> replaced</li>
                <li><Figure value={backfill.counts.retracted} /> taken away</li>
                <li><Figure value={backfill.counts.duplicates} /> duplicates</li>
                <li><Figure value={backfill.counts.conflicts} /> conflicts</li>
              </ul>
            )}
            {backfill.state === "open" && may("events:write") && <Fill backfillKey={key} sent={asked.again} />}
            {backfill.replace !== null && may("usage:read") && <Effect backfill={backfill} range={backfill.replace} />}
            {sure !== null && <Sure action={sure} backfillKey={key} close={() => setSure(null)} done={() => {
              setSure(null);
              if (sure === "discard") go("/backfills");
              else asked.again();
            }} />}
          </>
        )}
      </Answered>
    </main>
  );
}

function Fill({ backfillKey, sent }: { backfillKey: string; sent: () => void }) {
  const [text, setText] = useState("");
  const [type, setType] = useState("application/x-ndjson");
  const [answer, setAnswer] = useState<AnswerOf<"POST /v1/backfills/{key}/events"> | null>(null);
  const [failure, setFailure] = useState<Error | null>(null);
  const [busy, setBusy] = useState(false);
  const send = async (): Promise<void> => {
    setBusy(true);
    setFailure(null);
    setAnswer(null);
    try {
      setAnswer(await client.backfills.send(backfillKey, text, type));
      setText("");
      sent();
    } catch (error) {
      setFailure(asError(error));
    } finally {
      setBusy(false);
    }
  };
  const take = async (file: File | undefined): Promise<void> => {
    if (file === undefined) return;
    setType(file.name.endsWith(".csv") ? "text/csv" : file.name.endsWith(".json") ? "application/json" : "application/x-ndjson");
    setText(await file.text());
  };
  return (
    <form class="panel form" onSubmit={(event) => {
      event.preventDefault();
      void send();
    }}>
      <h2>Lay events aside</h2>
      <Field label="A file: NDJSON, CSV or JSON"><input type="file" accept=".ndjson,.jsonl,.csv,.json" onChange={(event) => void take(event.currentTarget.files?.[0])} /></Field>
      <Field label="Events" hint="One a line. Nothing counts before the backfill is closed."><textarea rows={6} spellcheck={false} value={text} onInput={(event) => setText(event.currentTarget.value)} /></Field>
      {failure && <Failed error={failure} />}
      {answer && (
        <div class="note" role="status">
          <Figure value={answer.accepted} /> laid aside, <Figure value={answer.rejected} /> rejected
          {answer.results.length > 0 && <ul>{answer.results.slice(0, 10).map((one) => <li key={one.index}>Line <Figure own value={one.index + 1} />: {one.detail ?? one.code}</li>)}</ul>}
        </div>
      )}
      <div class="actions"><button type="submit" disabled={busy || text === ""}>{busy ? "Sending…" : "Send"}</button></div>
    </form>
  );
}

interface Line {
  meter: string;
  unit: string | null;
  before: string | null;
  now: string | null;
}

/** Usage of the range it replaces: as it was when the backfill was opened, and now. */
function Effect({ backfill, range }: { backfill: Backfill; range: NonNullable<Backfill["replace"]> }) {
  const asked = useAsk(`${backfill.key} ${backfill.state}`, async (): Promise<Line[]> => {
    const question = { from: range.from, to: range.to, ...(range.customer ? { customer: range.customer } : {}) };
    const [now, before] = await Promise.all([client.usage.all(question), client.usage.all({ ...question, as_of: backfill.opened_at })]);
    const then = new Map(before.items.map((one) => [one.meter, one.rows[0]?.value ?? null]));
    return now.items
      .map((one) => ({ meter: one.meter, unit: one.unit, before: then.get(one.meter) ?? null, now: one.rows[0]?.value ?? null }))
      .filter((line) => line.before !== null || line.now !== null);
  });
  return (
    <section class="panel">
      <header><h2>What counts in the range it replaces</h2></header>
      <Answered of={asked}>
        {(lines) => lines.length === 0 ? <Empty title="Nothing counts there" /> : (
          <Table
            caption="Usage before and now"
            rows={lines}
            rowKey={(line) => line.meter}
            columns={[
              { name: "Meter", cell: (line) => line.meter },
              { name: "When it was opened", figure: true, cell: (line) => <Figure value={line.before} unit={line.unit} /> },
              { name: "Now", figure: true, cell: (line) => <Figure value={line.now} unit={line.unit} /> },
              { name: "Difference", figure: true, cell: (line) => <Figure own value={subtract(line.now ?? "0", line.before ?? "0")} /> },
            ]}
          />
        )}
      </Answered>
    </section>
  );
}

function Sure({ action, backfillKey, close, done }: { action: keyof typeof ACTIONS; backfillKey: string; close: () => void; done: () => void }) {
  const [failure, setFailure] = useState<Error | null>(null);
  const { verb, title, text } = ACTIONS[action];
  const act = async (): Promise<void> => {
    try {
      await client.backfills[action](backfillKey);
      done();
    } catch (error) {
      setFailure(asError(error));
    }
  };
  return (
    <Dialog title={title} close={close}>
      <p>{text}</p>
      {failure && <Failed error={failure} />}
      <div class="actions"><button type="button" class={action === "close" ? "primary" : "danger"} onClick={act}>{verb}</button><button type="button" onClick={close}>Cancel</button></div>
    </Dialog>
  );
}
