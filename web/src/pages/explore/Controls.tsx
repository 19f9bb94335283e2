import { useState } from "preact/hooks";
import { useAsk } from "../../ask";
import { Field, Select } from "../../components/Form";
import { Icon } from "../../components/Icon";
import { client } from "../../session";
import { fromInput, RANGES, toInput, WINDOWS } from "../../time";
import type { Meter } from "../Explore";
import { TOPS, type Explored } from "./question";

type Change = (members: Record<string, string | null>, options?: { replace?: boolean }) => void;

export function Controls({ meters, meter, explored, query, change }: {
  meters: readonly Meter[];
  meter: Meter;
  explored: Explored;
  query: URLSearchParams;
  change: Change;
}) {
  const names = ["customer", "subject", ...Object.keys(meter.dimensions ?? {})];
  const another = (key: string): void => {
    // Dimensions are the meter's own: what was chosen of the last one's means nothing here.
    const gone = [...query.keys()].filter((name) => name.startsWith("filter["));
    change({ ...Object.fromEntries(gone.map((name) => [name, null])), group: null, meter: key });
  };
  const setRange = (range: string): void => {
    if (range === "custom") change({ range: null, from: explored.from, to: explored.to, window: null });
    else change({ range, from: null, to: null, window: null });
  };
  return (
    <section class="controls" aria-label="Question">
      <Field label="Meter">
        <Select value={meter.key} change={another} options={meters.map((one) => [one.key, one.archived_at === null ? one.name : `${one.name} (archived)`] as const)} />
      </Field>
      <Field label="Range">
        <Select value={explored.range} change={setRange} options={[...Object.entries(RANGES).map(([key, range]) => [key, range.name] as const), ["custom", "From … to …"]]} />
      </Field>
      {explored.range === "custom" && <Bounds explored={explored} change={change} />}
      <Field label="Window">
        <Select value={explored.window} change={(window) => change({ window })} options={WINDOWS.map((one) => [one, WINDOW_NAMES[one] ?? one] as const)} />
      </Field>
      {!query.has("formula") && <Groups names={names} explored={explored} change={change} />}
      <div class="field">
        <span class="field-name">Also</span>
        <div class="toggles">
          {!query.has("formula") && <label><input type="checkbox" checked={explored.compare} onChange={(event) => change({ compare: event.currentTarget.checked ? "previous" : null })} /> Period before</label>}
          {!query.has("formula") && <label><input type="checkbox" checked={explored.kind === "lines"} onChange={(event) => change({ chart: event.currentTarget.checked ? "lines" : null })} /> Lines</label>}
          <label><input type="checkbox" checked={query.has("formula")} onChange={(event) => change({ formula: event.currentTarget.checked ? "a / b" : null })} /> Formula</label>
        </div>
      </div>
      <Filters meter={meter} names={names} explored={explored} change={change} />
    </section>
  );
}

function Groups({ names, explored, change }: { names: readonly string[]; explored: Explored; change: Change }) {
  const [first = "", second = ""] = explored.group;
  return (
    <>
      <Field label="Group by">
        <Select value={first} change={(name) => change({ group: [name, second === name ? "" : second].filter(Boolean).join(",") })} options={[["", "Nothing"], ...names.map((name) => [name, name] as const)]} />
      </Field>
      {first !== "" && (
        <>
          <Field label="And by">
            <Select value={second} change={(name) => change({ group: [first, name].filter(Boolean).join(",") })} options={[["", "Nothing"], ...names.filter((name) => name !== first).map((name) => [name, name] as const)]} />
          </Field>
          <Field label="Top"><Select value={String(explored.top)} change={(top) => change({ top })} options={[...new Set([...TOPS, String(explored.top)])].map((one) => [one, one] as const)} /></Field>
        </>
      )}
    </>
  );
}

const WINDOW_NAMES: Record<string, string> = {
  minute: "Minute", "5m": "5 minutes", "15m": "15 minutes", hour: "Hour", day: "Day", week: "Week", month: "Month", quarter: "Quarter", year: "Year",
};

function Bounds({ explored, change }: { explored: Explored; change: Change }) {
  const set = (name: "from" | "to") => (event: { currentTarget: HTMLInputElement }): void => {
    const at = fromInput(event.currentTarget.value, explored.zone);
    if (at !== null) change({ from: explored.from, to: explored.to, [name]: at }, { replace: true });
  };
  return (
    <>
      <Field label="From"><input type="datetime-local" value={toInput(explored.from, explored.zone)} onChange={set("from")} /></Field>
      <Field label="To (exclusive)"><input type="datetime-local" value={toInput(explored.to, explored.zone)} onChange={set("to")} /></Field>
    </>
  );
}

function Filters({ meter, names, explored, change }: { meter: Meter; names: readonly string[]; explored: Explored; change: Change }) {
  const [adding, setAdding] = useState("");
  return (
    <div class="filters">
      {explored.customers.map((customer) => (
        <Chip key={`customer ${customer}`} text={`customer is ${customer}`} remove={() => change({ customer: null })} />
      ))}
      {Object.entries(explored.filters).map(([name, value]) => (
        <Chip key={name} text={`${name.slice(7).replace(/\]\[?|\]/g, " ").trim()} is ${value.split(",").join(" or ")}`} remove={() => change({ [name]: null })} />
      ))}
      <label class="add-filter">
        <span class="unseen">Add a filter</span>
        <Select value={adding} change={setAdding} options={[["", "Add a filter…"], ...names.map((name) => [name, name] as const)]} />
      </label>
      {adding !== "" && (
        <ValueField
          key={adding}
          meter={meter}
          name={adding}
          explored={explored}
          choose={(value) => {
            const name = adding === "customer" ? "customer" : `filter[${adding}]`;
            change({ [name]: value });
            setAdding("");
          }}
          cancel={() => setAdding("")}
        />
      )}
    </div>
  );
}

function Chip({ text, remove }: { text: string; remove: () => void }) {
  return <span class="chip">{text}<button type="button" aria-label={`Remove: ${text}`} onClick={remove}><Icon name="close" /></button></span>;
}

function ValueField({ meter, name, explored, choose, cancel }: {
  meter: Meter;
  name: string;
  explored: Explored;
  choose: (value: string) => void;
  cancel: () => void;
}) {
  const [text, setText] = useState("");
  const found = useAsk(`${meter.key} ${name} ${text} ${explored.from}`, (signal) =>
    client.meters.values(meter.key, name, { ...(text === "" ? {} : { prefix: text }), limit: 12, from: explored.from, to: explored.to }, signal));
  return (
    <div class="value-field">
      <input
        aria-label={`Value of ${name}`}
        placeholder={`${name}…`}
        value={text}
        ref={(element) => element?.focus()}
        onInput={(event) => setText(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === "Enter" && text !== "") choose(text);
          if (event.key === "Escape") cancel();
        }}
      />
      <ul class="values">
        {(found.answer?.items ?? []).map((one) => one.value !== null && (
          <li key={one.value}><button type="button" onClick={() => choose(one.value as string)}>{one.value}</button></li>
        ))}
      </ul>
    </div>
  );
}
