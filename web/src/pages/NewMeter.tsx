/** A new meter, or a new version of one, tried on the latest events while it is being written. */

import { useState } from "preact/hooks";
import { stringifyJson, type AnswerOf, type Json } from "tallystick";
import { asError, useAsk } from "../ask";
import { Field, Select, faultOf } from "../components/Form";
import { Figure } from "../components/Figure";
import { Answered, Empty, Failed } from "../components/States";
import { Table } from "../components/Table";
import { go, useQuery } from "../router";
import { client } from "../session";
import { valueText } from "./Meters";

const AGGREGATIONS = [
  ["sum", "sum"], ["count", "count of events"], ["min", "minimum"], ["max", "maximum"], ["average", "average"], ["latest", "latest value"],
  ["unique_count", "distinct values"], ["p50", "median (p50)"], ["p90", "p90"], ["p95", "p95"], ["p99", "p99"],
  ["time_weighted", "level over time"], ["duration", "time between start and stop"], ["register", "cumulative register"],
] as const;

/** The form is in the address: it can be sent to a colleague, and going back loses nothing. */
const FIELDS = ["key", "name", "event_type", "aggregation", "value", "filter", "unit", "dimensions", "pair_by"] as const;
type Draft = Record<(typeof FIELDS)[number], string>;

const EMPTY: Draft = { key: "", name: "", event_type: "", aggregation: "sum", value: "", filter: "", unit: "", dimensions: "", pair_by: "" };
/** What a change says of members that the form leaves empty. */
const CLEARED = { value: null, filter: null, unit: null, dimensions: {}, pair_by: null };

function draftOf(meter: AnswerOf<"GET /v1/meters/{key}">): Draft {
  return {
    key: meter.key,
    name: meter.name,
    event_type: meter.event_type,
    aggregation: meter.aggregation,
    value: valueText(meter.value),
    filter: meter.filter ?? "",
    unit: meter.unit ?? "",
    dimensions: Object.entries(meter.dimensions).map(([name, path]) => `${name} = ${String(path)}`).join("\n"),
    pair_by: meter.pair_by ?? "",
  };
}

export function NewMeter() {
  return <MeterForm initial={EMPTY} save={(definition) => client.meters.create(definition as never)} />;
}

export function ChangeMeter({ parameters }: { parameters: Record<string, string> }) {
  const key = parameters["key"] ?? "";
  const asked = useAsk(key, () => client.meters.get(key));
  if (asked.answer === null) return <main id="main" class="page"><h1>Change {key}</h1><Answered of={asked}>{() => null}</Answered></main>;
  return (
    <MeterForm
      of={asked.answer.name}
      initial={draftOf(asked.answer)}
      save={(definition) => client.meters.change(key, { ...CLEARED, ...definition } as never)}
    />
  );
}

function MeterForm({ of, initial, save }: { of?: string; initial: Draft; save: (definition: Record<string, unknown>) => Promise<{ key: string }> }) {
  const [query, setQuery] = useQuery();
  const draft = Object.fromEntries(FIELDS.map((name) => [name, query.get(name) ?? initial[name]])) as Draft;
  const [failure, setFailure] = useState<Error | null>(null);
  const [busy, setBusy] = useState(false);
  // A space stands for a member that was emptied: without it the address would say nothing, and the old one come back.
  const write = (name: keyof Draft, value: string): void => setQuery({ [name]: value === "" && initial[name] !== "" ? " " : value }, { replace: true });
  const set = (name: keyof Draft) => (event: { currentTarget: { value: string } }): void => write(name, event.currentTarget.value.trimStart());
  const definition = definitionOf(draft);
  const ready = draft.event_type !== "" && (draft.aggregation === "count" || draft.value.trim() !== "");
  const preview = useAsk(ready ? stringifyJson({ ...definition, key: "preview", name: "preview" }) : null, async (signal) => {
    await pause(signal);
    return client.meters.preview({ ...definition, key: "preview" } as never, { limit: PREVIEWED, signal });
  });
  const send = async (): Promise<void> => {
    setBusy(true);
    setFailure(null);
    try {
      go(`/meters/${encodeURIComponent((await save(definition)).key)}`);
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
      <h1>{of === undefined ? "New meter" : `Change ${of}`}</h1>
      {of !== undefined && <p class="note">A change of what is counted is a new version: it counts the past as well, and the one before stays readable.</p>}
      <div class="columns uneven">
        <form class="panel form" onSubmit={(event) => {
          event.preventDefault();
          void send();
        }}>
          <Field label="Name"><input value={draft.name.trimStart()} onInput={set("name")} /></Field>
          <Field label="Key" hint="It cannot be changed later." fault={faultOf(failure, "key")}><input required spellcheck={false} disabled={of !== undefined} value={draft.key} onInput={set("key")} /></Field>
          <Field label="Events of the type" fault={faultOf(shown, "event_type")}><TypeInput value={draft.event_type} set={set("event_type")} /></Field>
          <Field label="Aggregation" fault={faultOf(shown, "aggregation")}><Select value={draft.aggregation} options={AGGREGATIONS} change={(value) => write("aggregation", value)} /></Field>
          {draft.aggregation !== "count" && (
            <Field label="Value" hint={<>A path such as <code>$.tokens</code>, or a CEL expression such as <code>ceil(data.ms / 1000.0)</code></>} fault={faultOf(shown, "value")}>
              <input spellcheck={false} value={draft.value.trimStart()} onInput={set("value")} />
            </Field>
          )}
          {draft.aggregation === "duration" && <Field label="Paired by" hint={<>A path such as <code>$.session</code></>} fault={faultOf(shown, "pair_by")}><input spellcheck={false} value={draft.pair_by.trimStart()} onInput={set("pair_by")} /></Field>}
          <Field label="Only where" hint={<>CEL, such as <code>data.status == "ok"</code></>} fault={faultOf(shown, "filter")}><input spellcheck={false} value={draft.filter.trimStart()} onInput={set("filter")} /></Field>
          <Field label="Dimensions" hint={<>One a line: <code>model = $.model</code></>} fault={dimensionsFault}><textarea rows={4} spellcheck={false} value={draft.dimensions.trimStart()} onInput={set("dimensions")} /></Field>
          <Field label="Unit" hint="For people: token, GB, call" fault={faultOf(shown, "unit")}><input value={draft.unit.trimStart()} onInput={set("unit")} /></Field>
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
  const text = (name: keyof Draft): string => draft[name].trim();
  const value = text("value");
  return {
    key: text("key"),
    ...(text("name") === "" ? {} : { name: text("name") }),
    event_type: draft.event_type,
    aggregation: draft.aggregation,
    ...(draft.aggregation === "count" ? {} : { value: value.startsWith("$") ? value : { cel: value } }),
    ...(text("filter") === "" ? {} : { filter: text("filter") }),
    ...(text("unit") === "" ? {} : { unit: text("unit") }),
    ...(Object.keys(dimensions).length === 0 ? {} : { dimensions }),
    ...(draft.aggregation === "duration" && text("pair_by") !== "" ? { pair_by: text("pair_by") } : {}),
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
