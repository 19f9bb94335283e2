import type { ComponentChildren } from "preact";

export interface Column<T> {
  name: string;
  cell: (row: T) => ComponentChildren;
  /** Figures: aligned at the end. */
  figure?: boolean;
  /** Left out where there is no room. */
  wide?: boolean;
}

/** A table that scrolls within itself. `pick`: a row is a button as well. */
export function Table<T>({ columns, rows, rowKey, caption, pick, picked }: {
  columns: readonly Column<T>[];
  rows: readonly T[];
  rowKey: (row: T, index: number) => string;
  caption: string;
  pick?: (row: T) => void;
  picked?: (row: T) => boolean;
}) {
  return (
    <div class="table-scroll" tabIndex={0} role="region" aria-label={caption}>
      <table>
        <caption class="unseen">{caption}</caption>
        <thead>
          <tr>{columns.map((column) => <th key={column.name} scope="col" class={classOf(column)}>{column.name}</th>)}</tr>
        </thead>
        <tbody>
          {rows.map((row, index) => (
            <tr
              key={rowKey(row, index)}
              class={pick ? (picked?.(row) ? "pick picked" : "pick") : undefined}
              onClick={pick && ((event) => {
                if (!(event.target instanceof Element && event.target.closest("a, button, input"))) pick(row);
              })}
            >
              {columns.map((column) => <td key={column.name} class={classOf(column)}>{column.cell(row)}</td>)}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function classOf<T>(column: Column<T>): string | undefined {
  return [column.figure && "number", column.wide && "wide"].filter(Boolean).join(" ") || undefined;
}
