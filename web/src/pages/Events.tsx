/** Events: search, live, and everything known of one. */

import { useEffect, useState } from "preact/hooks";
import type { ItemOf, Json } from "tallystick";
import { stringifyJson } from "tallystick";
import { useAsk } from "../ask";
import { Field, Select } from "../components/Form";
import { Icon } from "../components/Icon";
import { List } from "../components/List";
import type { Column } from "../components/Table";
import { Time } from "../components/Times";
import { usePreferences } from "../preferences";
import { dimensionText, valueAt } from "../path";
import { useQuery } from "../router";
import { client } from "../session";
import { fromInput, toInput } from "../time";
import { EventDetail } from "./events/EventDetail";
import { LiveTail } from "./events/LiveTail";

export type FoundEvent = ItemOf<"GET /v1/events">;

const STATUSES = [
  ["recorded", "Recorded"], ["conflict", "Conflict"], ["invalid", "Invalid"], ["unmetered", "Unmetered"], ["retracted", "Retracted"], ["quarantined", "Quarantined"],
] as const;
const TEXTS = [["type", "Type"], ["customer", "Customer"], ["subject", "Subject"], ["source", "Source"], ["id", "Id"]] as const;
const DATA_CHARACTERS_SHOWN = 160;

export function Events() {
  const [query, setQuery] = useQuery();
  const live = query.get("live") === "1";
  const opened = query.get("event");
  const open = (event: { id: string; source: string }): void => setQuery({ event: event.id, event_source: event.source });
  return (
    <main id="main" class="page">
      <header class="page-head">
        <h1>Events</h1>
        <div class="actions">
          <LookUp open={open} />
          <button type="button" aria-pressed={live} onClick={() => setQuery({ live: live ? null : "1" })}><Icon name={live ? "pause" : "play"} />{live ? "Stop live" : "Live"}</button>
        </div>
      </header>
      <Search />
      {live ? <LiveTail question={liveQuestion(query)} open={open} /> : <Found open={open} />}
      {opened !== null && <EventDetail key={opened} source={query.get("event_source") ?? "/"} id={opened} close={() => setQuery({ event: null, event_source: null })} />}
    </main>
  );
}

/** What the stream can tell apart: types, customers, and dimensions of a meter. */
function liveQuestion(query: URLSearchParams): Record<string, string> {
  const asked: Record<string, string> = { kind: "events" };
  for (const name of ["type", "customer", "meter"]) {
    const value = query.get(name);
    if (value) asked[name] = value;
  }
  for (const [name, value] of query) {
    const dimension = /^group\[(.+)\]$/.exec(name)?.[1];
    if (dimension !== undefined && value !== "" && asked["meter"]) asked[`filter[${dimension}]`] = value;
  }
  return asked;
}

export const COLUMNS: readonly Column<FoundEvent>[] = [
  { name: "Time", cell: (event) => <Time at={event.time} /> },
  { name: "Type", cell: (event) => <code>{event.type}</code> },
  { name: "Customer", cell: (event) => <a class="one-line" href={`/customers/${encodeURIComponent(event.customer)}`}>{event.customer}</a> },
  { name: "Data", wide: true, cell: (event) => <code class="data">{clipped(event.data as Json)}</code> },
];

function clipped(data: Json): string {
  const text = data === null ? "" : stringifyJson(data);
  return text.length <= DATA_CHARACTERS_SHOWN ? text : `${text.slice(0, DATA_CHARACTERS_SHOWN)}…`;
}

function Found({ open }: { open: (event: FoundEvent) => void }) {
  const [query] = useQuery();
  const meterKey = query.get("meter");
  const groups = [...query].flatMap(([name, value]) => {
    const dimension = /^group\[(.+)\]$/.exec(name)?.[1];
    return dimension === undefined ? [] : [[dimension, value] as const];
  });
  const meter = useAsk(meterKey === null || groups.length === 0 ? null : meterKey, () => client.meters.get(meterKey ?? ""));
  const asked = Object.fromEntries(
    [...TEXTS.map(([name]) => name), "from", "to", "status"].flatMap((name) => {
      const value = query.get(name);
      return value === null || value === "" ? [] : [[name, value]];
    }),
  );
  // A search knows no dimensions: they are read from the events, as the meter reads them.
  const dimensions = meter.answer?.dimensions as Record<string, string> | undefined;
  const keep = groups.length === 0 ? undefined : (event: FoundEvent): boolean =>
    dimensions === undefined || groups.every(([name, value]) => (dimensionText(valueAt(dimensions[name] ?? "$", event.data as Json)) ?? "") === value);
  return (
    <section class="panel">
      <List<FoundEvent>
        caption="Events, newest first"
        question={JSON.stringify([asked, groups])}
        page={(cursor, signal) => client.events.search({ ...asked, limit: 100, ...(cursor === null ? {} : { cursor }) } as never, signal)}
        rowKey={(event) => `${event.source} ${event.id} ${event.position}`}
        pick={open}
        keep={keep}
        empty="No event matches"
        columns={[
          { name: "Id", cell: (event) => <button type="button" class="link id" onClick={() => open(event)}>{event.id}</button> },
          ...COLUMNS,
          ...(asked["status"] === "invalid" ? [{ name: "Why", cell: (event: FoundEvent) => event.excluded?.map((one) => `${one.excluded} (${one.meter})`).join(", ") }] : []),
        ]}
      />
    </section>
  );
}

function Search() {
  const [query, setQuery] = useQuery();
  const { zone } = usePreferences();
  const groups = [...query.keys()].filter((name) => name.startsWith("group["));
  const any = [...query.keys()].some((name) => !["live", "zone", "event", "event_source"].includes(name));
  return (
    <section class="controls" aria-label="Search">
      {TEXTS.map(([name, label]) => (
        <Field key={name} label={label}>
          <TextInput value={query.get(name) ?? ""} change={(value) => setQuery({ [name]: value }, { replace: true })} />
        </Field>
      ))}
      <Field label="Status"><Select value={query.get("status") ?? "recorded"} options={STATUSES} change={(status) => setQuery({ status: status === "recorded" ? null : status })} /></Field>
      <Field label="From"><input type="datetime-local" value={inputTime(query.get("from"), zone)} onChange={(event) => setQuery({ from: fromInput(event.currentTarget.value, zone) }, { replace: true })} /></Field>
      <Field label="To (exclusive)"><input type="datetime-local" value={inputTime(query.get("to"), zone)} onChange={(event) => setQuery({ to: fromInput(event.currentTarget.value, zone) }, { replace: true })} /></Field>
      <div class="filters">
        {groups.map((name) => (
          <span class="chip" key={name}>{name.slice(6, -1)} is {query.get(name) || "(none)"}<button type="button" aria-label={`Remove: ${name.slice(6, -1)}`} onClick={() => setQuery({ [name]: null })}><Icon name="close" /></button></span>
        ))}
        {any && <button type="button" class="link" onClick={() => setQuery(Object.fromEntries([...query.keys()].map((name) => [name, null])))}>Clear the search</button>}
      </div>
    </section>
  );
}

function inputTime(iso: string | null, zone: string): string {
  return iso === null || Number.isNaN(Date.parse(iso)) ? "" : toInput(iso, zone);
}

const TYPING_MS = 350;

/** Says what was typed once the typing pauses. */
function TextInput({ value, change, ...more }: { value: string; change: (value: string) => void; [attribute: string]: unknown }) {
  const [text, setText] = useState(value);
  useEffect(() => setText(value), [value]);
  useEffect(() => {
    if (text === value) return undefined;
    const timer = setTimeout(() => change(text), TYPING_MS);
    return () => clearTimeout(timer);
  }, [text, value]);
  return <input {...more} type="search" spellcheck={false} autocomplete="off" value={text} onInput={(event) => setText(event.currentTarget.value)} />;
}

/** The debugger's door: an identity, and everything known of it. */
function LookUp({ open }: { open: (event: { id: string; source: string }) => void }) {
  const [id, setId] = useState("");
  const [source, setSource] = useState("");
  return (
    <form
      class="look-up"
      onSubmit={(event) => {
        event.preventDefault();
        if (id !== "") open({ id, source: source || "/" });
      }}
    >
      <input aria-label="Source of the event" placeholder="source (/)" value={source} spellcheck={false} onInput={(event) => setSource(event.currentTarget.value)} />
      <input aria-label="Id of the event" placeholder="event id" value={id} spellcheck={false} onInput={(event) => setId(event.currentTarget.value)} />
      <button type="submit">Why was it counted, or not?</button>
    </form>
  );
}
