import { useMemo, useState } from "preact/hooks";
import { Chart, colour, type Series } from "../../components/Chart";
import { Change, Figure } from "../../components/Figure";
import { Empty } from "../../components/States";
import { Table } from "../../components/Table";
import { isZero, percent } from "../../decimal";
import { windowText } from "../../time";
import type { Meter } from "../Explore";
import type { GroupLine, Group, View } from "./answer";
import type { Explored } from "./question";

const WINDOWS_IN_TABLE_MAX = 400;
/** A longer table is closed at first, and costs nothing until it is opened. */
const WINDOWS_OPEN_MAX = 62;

export function Drawn({ answer, explored, meter, open, narrow }: {
  answer: View;
  explored: Explored;
  meter: Meter;
  open: (from: string, to: string, group: Group | null) => void;
  narrow: (name: string, value: string) => void;
}) {
  const lines = answer.groups.length === 0 ? [answer.whole] : answer.groups;
  const series = useMemo<Series[]>(() => lines.map((line) => ({ name: line.name, values: line.values, rest: line.group === null && answer.groups.length > 0 })), [answer]);
  const labels = useMemo(() => answer.windows.map((one) => windowText(one.start, explored.window, explored.zone)), [answer, explored.window, explored.zone]);
  const pick = (window: number, index: number | null): void => {
    const bounds = answer.windows[window];
    if (bounds !== undefined) open(bounds.start, bounds.end, index === null ? null : (answer.groups[index]?.group ?? null));
  };
  const nothing = answer.whole.values.every((value) => value === null) && answer.whole.total === null;
  return (
    <>
      <section class="panel chart-panel">
        <header>
          <div>
            <h2>{meter.name}</h2>
            <p class="big"><Figure value={answer.whole.total} unit={answer.unit} none="no data" /></p>
            {explored.compare && (
              <p class="muted">
                {answer.whole.previous === null || isZero(answer.whole.previous) ? "nothing in the period before" : <><Change percent={answer.whole.changePercent} /> against <Figure value={answer.whole.previous} /> before</>}
              </p>
            )}
          </div>
          {answer.groups.length > 0 && (
            <ul class="legend" aria-label="Groups">
              {answer.groups.map((line, index) => <li key={line.name}><i class={`swatch ${colour(index, line.group === null)}`} />{line.name}</li>)}
            </ul>
          )}
        </header>
        {nothing ? (
          <Empty title="No usage in this range">
            <p><a href={`/meters/${encodeURIComponent(meter.key)}`}>Why is it empty?</a></p>
          </Empty>
        ) : (
          <Chart
            title={`${meter.name} by ${explored.window}`}
            series={series}
            labels={labels}
            before={answer.before ?? undefined}
            kind={answer.additive || answer.groups.length === 0 ? explored.kind : "lines"}
            unit={answer.unit}
            pick={pick}
          />
        )}
      </section>
      {answer.groups.length > 0 && <Groups answer={answer} explored={explored} open={open} narrow={narrow} />}
      <Windows answer={answer} explored={explored} labels={labels} open={open} />
      <p class="muted foot">Answered from {answer.servedFrom}, as of position <code>{answer.position}</code>. Windows are those of {explored.zone}.</p>
    </>
  );
}

function Groups({ answer, explored, open, narrow }: {
  answer: View;
  explored: Explored;
  open: (from: string, to: string, group: Group | null) => void;
  narrow: (name: string, value: string) => void;
}) {
  const total = answer.whole.total;
  const first = explored.group[0] ?? "";
  return (
    <section class="panel">
      <header><h2>By {explored.group.join(" and ")}</h2></header>
      <Table<GroupLine>
        caption={`Usage by ${explored.group.join(" and ")}`}
        rows={answer.groups}
        rowKey={(line) => line.name}
        columns={[
          {
            name: explored.group.join(" · "),
            cell: (line) => {
              const index = answer.groups.indexOf(line);
              const value = line.group?.[first];
              return (
                <span class="group-name">
                  <i class={`swatch ${colour(index, line.group === null)}`} />
                  {value ? <button type="button" class="link" title="Only this one" onClick={() => narrow(first, value)}>{line.name}</button> : line.name}
                </span>
              );
            },
          },
          { name: "Usage", figure: true, cell: (line) => <Figure own={line.group === null} value={line.total} unit={answer.unit} /> },
          ...(answer.additive ? [{ name: "Share", figure: true, wide: true, cell: (line: GroupLine) => (line.total !== null && total !== null ? <Figure own value={percent(line.total, total)} unit="%" /> : "–") }] : []),
          ...(explored.compare
            ? [
                { name: "Before", figure: true, wide: true, cell: (line: GroupLine) => <Figure own={line.group === null} value={line.previous} /> },
                { name: "Change", figure: true, cell: (line: GroupLine) => <Change percent={line.changePercent} /> },
              ]
            : []),
          { name: "", figure: true, wide: true, cell: (line) => line.group !== null && <button type="button" class="link" onClick={() => open(explored.from, explored.to, line.group)}>Events</button> },
        ]}
      />
    </section>
  );
}

interface WindowRow {
  index: number;
  start: string;
  end: string;
}

function Windows({ answer, explored, labels, open }: {
  answer: View;
  explored: Explored;
  labels: readonly string[];
  open: (from: string, to: string, group: Group | null) => void;
}) {
  const rows: WindowRow[] = answer.windows.map((one, index) => ({ index, ...one })).reverse();
  const shown = rows.slice(0, WINDOWS_IN_TABLE_MAX);
  const [opened, setOpened] = useState<boolean | null>(null);
  const isOpen = opened ?? rows.length <= WINDOWS_OPEN_MAX;
  return (
    <details class="panel" open={isOpen} onToggle={(event) => {
      if (event.currentTarget.open !== isOpen) setOpened(event.currentTarget.open);
    }}>
      <summary><h2>By {explored.window}</h2></summary>
      {isOpen && <Table<WindowRow>
        caption={`Usage by ${explored.window}`}
        rows={shown}
        rowKey={(row) => row.start}
        columns={[
          { name: "From", cell: (row) => <button type="button" class="link nowrap" title={`${row.start} to ${row.end}`} onClick={() => open(row.start, row.end, null)}>{labels[row.index]}</button> },
          { name: answer.groups.length > 0 ? "All" : "Usage", figure: true, cell: (row) => <Figure value={answer.whole.values[row.index]} /> },
          ...(answer.before === null ? [] : [{ name: "Before", figure: true, cell: (row: WindowRow) => <Figure value={answer.before?.[row.index]} /> }]),
          ...answer.groups.map((line) => ({ name: line.name, figure: true, cell: (row: WindowRow) => <Figure own={line.group === null} value={line.values[row.index]} /> })),
        ]}
      />}
      {isOpen && rows.length > shown.length && <p class="muted">The latest {shown.length} of {rows.length} windows; the export has them all.</p>}
    </details>
  );
}
