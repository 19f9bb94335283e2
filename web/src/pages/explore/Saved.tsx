/** Keeping what the explorer shows: save it, open what was kept, have it sent. */

import { useState } from "preact/hooks";
import type { BodyOf, ItemOf } from "tallystick";
import { asError, useAsk } from "../../ask";
import { Dialog } from "../../components/Dialog";
import { Field, faultOf, Select } from "../../components/Form";
import { Failed } from "../../components/States";
import { go } from "../../router";
import { client } from "../../session";
import { asDocument, type Explored } from "./question";

export type View = ItemOf<"GET /v1/views">;

interface Letters {
  /** The meters of a formula, by letter. */
  letters: Readonly<Record<string, string>>;
}

export function Saved({ explored, query, letters }: { explored: Explored; query: URLSearchParams } & Letters) {
  const [saving, setSaving] = useState(false);
  const asked = useAsk("views", allViews);
  const views = asked.answer ?? [];
  const open = views.find((view) => view.key === query.get("view")) ?? null;
  return (
    <>
      <label class="saved">
        <span class="unseen">Saved views</span>
        <Select
          value={open?.key ?? ""}
          change={(key) => {
            const view = views.find((one) => one.key === key);
            if (view !== undefined) go(addressOf(view));
          }}
          options={[["", views.length === 0 ? "No saved view" : "Saved views…"], ...views.map((view) => [view.key, view.name ?? view.key] as const)]}
        />
      </label>
      <button type="button" onClick={() => setSaving(true)}>Save view…</button>
      {open !== null && <a class="button" href={`/views?schedule=${encodeURIComponent(open.key)}`}>Schedule…</a>}
      {saving && (
        <SaveView
          explored={explored}
          query={query}
          letters={letters}
          open={open}
          close={() => setSaving(false)}
          saved={(view) => {
            setSaving(false);
            asked.again();
            go(addressOf(view), { replace: true });
          }}
        />
      )}
    </>
  );
}

function SaveView({ explored, query, letters, open, close, saved }: Letters & {
  explored: Explored;
  query: URLSearchParams;
  open: View | null;
  close: () => void;
  saved: (view: View) => void;
}) {
  const mine = open?.mine ? open : null;
  const [replaces, setReplaces] = useState(mine !== null);
  const [name, setName] = useState(mine?.name ?? "");
  const [shared, setShared] = useState(mine?.visibility === "shared");
  const [failure, setFailure] = useState<Error | null>(null);
  const [busy, setBusy] = useState(false);
  const save = (): void => {
    setBusy(true);
    setFailure(null);
    const body = {
      name,
      description: replaces ? (mine?.description ?? null) : null,
      visibility: shared ? "shared" : "private",
      question: asDocument(explored, query, letters),
    } as const;
    const work: Promise<View> = replaces && mine !== null
      ? client.call("PUT /v1/views/{key}", { path: { key: mine.key }, body: body as BodyOf<"PUT /v1/views/{key}"> })
      : client.call("POST /v1/views", { body: { key: keyFrom(name), ...body } as BodyOf<"POST /v1/views"> });
    work.then(saved, (error: unknown) => {
      setBusy(false);
      setFailure(asError(error));
    });
  };
  return (
    <Dialog title="Save this view" close={close}>
      <form onSubmit={(event) => {
        event.preventDefault();
        save();
      }}>
        {mine !== null && (
          <Field label="As">
            <Select value={replaces ? "same" : "new"} change={(value) => setReplaces(value === "same")} options={[["same", `${mine.name}, in place of what it was`], ["new", "A new view"]]} />
          </Field>
        )}
        <Field label="Name" fault={faultOf(failure, "name") ?? faultOf(failure, "key")}><input required maxLength={256} value={name} onInput={(event) => setName(event.currentTarget.value)} /></Field>
        <Field label="For" hint={shared ? "Others open it, and change none of it." : "And for who administers the tenant."}>
          <Select value={shared ? "shared" : "private"} change={(value) => setShared(value === "shared")} options={[["private", "Me alone"], ["shared", "Everybody of the tenant"]]} />
        </Field>
        {failure && <Failed error={failure} />}
        <div class="actions"><button type="submit" class="primary" disabled={busy}>Save</button><button type="button" onClick={close}>Cancel</button></div>
      </form>
    </Dialog>
  );
}

const VIEWS_MAX = 1000;

export async function allViews(signal: AbortSignal): Promise<View[]> {
  const found: View[] = [];
  for await (const view of client.all("GET /v1/views", { query: { limit: 200 }, signal })) {
    found.push(view);
    if (found.length >= VIEWS_MAX) break;
  }
  return found;
}

/** The page of a view, which knows that it is one. */
export function addressOf(view: View): string {
  return `${view.path}&view=${encodeURIComponent(view.key)}`;
}

/** `Tokens by model` → `tokens-by-model`. */
export function keyFrom(name: string): string {
  const plain = name.normalize("NFKD").toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "");
  return plain.slice(0, 128) || "view";
}
