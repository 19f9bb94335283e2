/** A new meter, tried on the latest events while it is being written. */

import { useState } from "preact/hooks";
import { stringifyJson, type AnswerOf, type Json } from "tallystick";
import { asError, useAsk } from "../ask";
import { Field, Select, faultOf } from "../components/Form";
import { Figure } from "../components/Figure";
import { Answered, Empty, Failed } from "../components/States";
import { Table } from "../components/Table";
import { go, useQuery } from "../router";
import { client } from "../session";

const AGGREGATIONS = [
  ["sum", "sum"], ["count", "count of events"], ["min", "minimum"], ["max", "maximum"], ["average", "average"], ["latest", "latest value"],
  ["unique_count", "distinct values"], ["p50", "median (p50)"], ["p90", "p90"], ["p95", "p95"], ["p99", "p99"],
  ["time_weighted", "level over time"], ["duration", "time between start and stop"], ["register", "cumulative register"],
] as const;

/** The form is in the address: it can be sent to a colleague, and going back loses nothing. */
const FIELDS = ["key", "name", "event_type", "aggregation", "value", "filter", "unit", "dimensions", "pair_by"] as const;
type Draft = Record<(typeof FIELDS)[number], string>;

export function NewMeter() {
  const [query, setQuery] = useQuery();
  const draft = Object.fromEntries(FIELDS.map((name) => [name, query.get(name) ?? (name === "aggregation" ? "sum" : "")])) as Draft;
  const [failure, setFailure] = useState<Error | null>(null);
  const [busy, setBusy] = useState(false);
  const set = (name: keyof Draft) => (event: { currentTarget: { value: string } }): void => setQuery({ [name]: event.currentTarget.value }, { replace: true });
  const definition = definitionOf(draft);
  const ready = draft.event_type !== "" && (draft.aggregation === "count" || draft.value !== "");
  const preview = useAsk(ready ? stringifyJson({ ...definition, key: "preview", name: "preview" }) : null, async (signal) => {
    await pause(signal);
    return client.meters.preview({ ...definition, key: "preview" } as never, { limit: PREVIEWED, signal });
  });
  const save = async (): Promise<void> => {
    setBusy(true);
    setFailure(null);
    try {
      const made = await client.meters.create(definition as never);
      go(`/meters/${encodeURIComponent(made.key)}`);
    } catch (error) {
      setFailure(asError(error));
      setBusy(false);
    }
  };
  const shown = failure ?? preview.error;
  const dimensionsFault = faultOf(shown, "dimensions");
  return (
    <main id="main" class="page">
      <p class="crumbs"><a href="/meters">Meters</a></p>
      <h1>New meter</h1>
      <div class="columns uneven">
        <form class="panel form" onSubmit={(event) => {
          event.preventDefault();
          void save();
        }}>
          <Field label="Name"><input value={draft.name} onInput={set("name")} /></Field>
          <Field label="Key" hint="It cannot be changed later." fault={faultOf(failure, "key")}><input required spellcheck={false} value={draft.key} onInput={set("key")} /></Field>
          <Field label="Events of the type" fault={faultOf(shown, "event_type")}><TypeInput value={draft.event_type} set={set("event_type")} /></Field>
          <Field label="Aggregation" fault={faultOf(shown, "aggregation")}><Select value={draft.aggregation} options={AGGREGATIONS} change={(value) => setQuery({ aggregation: value })} /></Field>
          {draft.aggregation !== "count" && (
            <Field label="Value" hint={<>A path such as <code>$.tokens</code>, or a CEL expression such as <code>ceil(data.ms / 1000.0)</code></>} fault={faultOf(shown, "value")}>
              <input spellcheck={false} value={draft.value} onInput={set("value")} />
            </Field>
          )}
          {draft.aggregation === "duration" && <Field label="Paired by" hint={<>A path such as <code>$.session</code></>} fault={faultOf(shown, "pair_by")}><input spellcheck={false} value={draft.pair_by} onInput={set("pair_by")} /></Field>}
          <Field label="Only where" hint={<>CEL, such as <code>data.status == "ok"</code></>} fault={faultOf(shown, "filter")}><input spellcheck={false} value={draft.filter} onInput={set("filter")} /></Field>
          <Field label="Dimensions" hint={<>One a line: <code>model = $.model</code></>} fault={dimensionsFault}><textarea rows={4} spellcheck={false} value={draft.dimensions} onInput={set("dimensions")} /></Field>
          <Field label="Unit" hint="For people: token, GB, call" fault={faultOf(shown, "unit")}><input value={draft.unit} onInput={set("unit")} /></Field>
          {failure && <Failed error={failure} />}
          <div class="actions"><button type="submit" class="primary" disabled={busy}>{busy ? "Saving…" : "Save the meter"}</button></div>
        </form>
        <section class="panel" aria-live="polite">
          <header><h2>What it would make of the latest events</h2></header>
          {!ready ? <Empty title="Say which events, and what of them" /> : (
            <Answered of={preview} what="Trying it">{(answer) => <Preview answer={answer as unknown as Tried} type={draft.event_type} />}</Answered>
          )}
        </section>
      </div>
    </main>
  );
}

type Tried = Omit<AnswerOf<"POST /v1/meter_preview">, "items"> & {
  items: { id: string; source: string; data: Json; reading: { value?: string | null; excluded?: string; dimensions?: Record<string, string | null> } }[];
};

function Preview({ answer, type }: { answer: Tried; type: string }) {
  if (answer.scanned === 0) return <Empty title={`No event of the type ${type} yet`} />;
  return (
    <>
      <ul class="counts">
        <li><Figure value={answer.matched} /> of <Figure value={answer.scanned} /> count</li>
        {answer.reasons.map((one) => <li key={one.reason}><Figure value={one.count} /> <code>{one.reason}</code></li>)}
      </ul>
      <Table
        caption="The latest events, and what the meter reads from each"
        rows={answer.items}
        rowKey={(one) => `${one.source} ${one.id}`}
        columns={[
          { name: "Event", cell: (one) => <code class="data">{stringifyJson(one.data).slice(0, 120)}</code> },
          { name: "Value", figure: true, cell: (one) => one.reading.excluded ? <span class="excluded">{one.reading.excluded}</span> : <Figure value={one.reading.value} /> },
          { name: "Dimensions", wide: true, cell: (one) => Object.entries(one.reading.dimensions ?? {}).map(([name, value]) => `${name}: ${value ?? "(none)"}`).join(", ") },
        ]}
      />
    </>
  );
}

/** Types that the latest events have. */
function TypeInput({ value, set, ...more }: { value: string; set: (event: { currentTarget: HTMLInputElement }) => void; [attribute: string]: unknown }) {
  const asked = useAsk("types", async (signal) => {
    const page = await client.events.search({ limit: 200 }, signal);
    return [...new Set(page.items.map((event) => event.type))].sort();
  });
  return (
    <>
      <input {...more} required spellcheck={false} list="event-types" value={value} onInput={set} />
      <datalist id="event-types">{(asked.answer ?? []).map((one) => <option key={one} value={one} />)}</datalist>
    </>
  );
}

function definitionOf(draft: Draft): Record<string, unknown> {
  const dimensions: Record<string, string> = {};
  for (const line of draft.dimensions.split("\n")) {
    const [name = "", ...path] = line.split("=");
    if (line.trim() !== "") dimensions[name.trim()] = path.join("=").trim();
  }
  const value = draft.value.trim();
  return {
    key: draft.key,
    ...(draft.name === "" ? {} : { name: draft.name }),
    event_type: draft.event_type,
    aggregation: draft.aggregation,
    ...(draft.aggregation === "count" ? {} : { value: value.startsWith("$") ? value : { cel: value } }),
    ...(draft.filter === "" ? {} : { filter: draft.filter }),
    ...(draft.unit === "" ? {} : { unit: draft.unit }),
    ...(Object.keys(dimensions).length === 0 ? {} : { dimensions }),
    ...(draft.aggregation === "duration" && draft.pair_by !== "" ? { pair_by: draft.pair_by } : {}),
  };
}

const TYPING_MS = 300;
const PREVIEWED = 25;

function pause(signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, TYPING_MS);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason as Error);
    });
  });
}
