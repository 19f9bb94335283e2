/** A list of the server's, page after page. */

import { useEffect, useState } from "preact/hooks";
import { asError, useAsk } from "../ask";
import { noticeRefusal } from "../session";
import { Empty, Failed, Loading } from "./States";
import { Table, type Column } from "./Table";

interface Page<T> {
  items: readonly T[];
  next_cursor: string | null;
}

export function List<T>({ question, page, columns, rowKey, caption, empty, pick, picked, keep }: {
  /** A text that stands for what is asked: another one begins anew. */
  question: string;
  page: (cursor: string | null, signal: AbortSignal) => Promise<Page<T>>;
  columns: readonly Column<T>[];
  rowKey: (row: T, index: number) => string;
  caption: string;
  empty: string;
  pick?: (row: T) => void;
  picked?: (row: T) => boolean;
  /** Rows to show; the others were fetched only to find them. */
  keep?: ((row: T) => boolean) | undefined;
}) {
  const first = useAsk(question, (signal) => page(null, signal));
  const [more, setMore] = useState<{ of: string; items: readonly T[]; cursor: string | null; error: Error | null; busy: boolean } | null>(null);
  useEffect(() => setMore(null), [first.answer]);
  if (first.error !== null) return <Failed error={first.error} again={first.again} />;
  if (first.answer === null) return <Loading />;
  const extra = more !== null && more.of === question ? more : null;
  const rows = [...first.answer.items, ...(extra?.items ?? [])].filter((row) => keep?.(row) ?? true);
  const cursor = extra === null ? first.answer.next_cursor : extra.cursor;
  const next = async (): Promise<void> => {
    const items = extra?.items ?? [];
    setMore({ of: question, items, cursor, error: null, busy: true });
    try {
      const found = await page(cursor, new AbortController().signal);
      setMore({ of: question, items: [...items, ...found.items], cursor: found.next_cursor, error: null, busy: false });
    } catch (error) {
      noticeRefusal(error);
      setMore({ of: question, items, cursor, error: asError(error), busy: false });
    }
  };
  return (
    <div class={first.loading ? "answered stale" : "answered"} aria-busy={first.loading}>
      {rows.length === 0 ? (
        <Empty title={cursor === null ? empty : "None on this page"} />
      ) : (
        <Table caption={caption} columns={columns} rows={rows} rowKey={rowKey} {...(pick ? { pick } : {})} {...(picked ? { picked } : {})} />
      )}
      {extra?.error && <Failed error={extra.error} />}
      {cursor !== null && <p class="more"><button type="button" disabled={extra?.busy ?? false} onClick={next}>{extra?.busy ? "Loading…" : "Show more"}</button></p>}
    </div>
  );
}
