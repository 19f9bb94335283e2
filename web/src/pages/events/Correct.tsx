/** Retract or replace an event: first what it would change, then, with a reason, the change. */

import { useState } from "preact/hooks";
import { parseJson, stringifyJson, type AnswerOf, type Json } from "tallystick";
import { asError, useAsk } from "../../ask";
import { Field } from "../../components/Form";
import { Figure } from "../../components/Figure";
import { Answered, Failed } from "../../components/States";
import { Table } from "../../components/Table";
import { subtract } from "../../decimal";
import { client } from "../../session";
import type { Known } from "./EventDetail";

export function Correct({ known, action, cancel, done }: { known: Known; action: "retract" | "replace"; cancel: () => void; done: () => void }) {
  const [reason, setReason] = useState("");
  const [text, setText] = useState(() => stringifyJson(known.data, "  "));
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<Error | null>(null);
  const data = read(text);
  const body = data instanceof Error ? null : change(known, action, data);
  const preview = useAsk(body === null ? null : stringifyJson(body), (signal) => client.events.previewCorrection(body as never, signal));

  const send = async (): Promise<void> => {
    setBusy(true);
    setFailure(null);
    try {
      const answer = await client.events.correct({ reason, ...body } as never);
      const refused = answer.results.find((one) => one.status === "rejected" || one.status === "not_found");
      if (refused) throw new Error(refused.detail ?? refused.status);
      done();
    } catch (error) {
      setFailure(asError(error));
      setBusy(false);
    }
  };
  return (
    <form
      class="panel correct"
      onSubmit={(event) => {
        event.preventDefault();
        void send();
      }}
    >
      <h3>{action === "retract" ? "Retract this event" : "Put another in its place"}</h3>
      {action === "replace" && (
        <Field label="Data" fault={data instanceof Error ? data.message : undefined} wide>
          <textarea rows={Math.min(16, text.split("\n").length + 1)} spellcheck={false} value={text} onInput={(event) => setText(event.currentTarget.value)} />
        </Field>
      )}
      {body !== null && (
        <Answered of={preview} what="Seeing what it would change">
          {(answer) => <Effect answer={answer} />}
        </Answered>
      )}
      <Field label="Reason" hint="It is kept with the correction. What was sent stays as it is." wide>
        <input required maxLength={1000} value={reason} onInput={(event) => setReason(event.currentTarget.value)} />
      </Field>
      {failure && <Failed error={failure} />}
      <div class="actions">
        <button type="submit" class={action === "retract" ? "danger" : "primary"} disabled={busy || reason === "" || body === null}>{busy ? "Correcting…" : action === "retract" ? "Retract" : "Replace"}</button>
        <button type="button" onClick={cancel}>Cancel</button>
      </div>
    </form>
  );
}

interface Side {
  meter: string;
  value?: string | null;
  excluded?: string;
}

function Effect({ answer }: { answer: AnswerOf<"POST /v1/correction_preview"> }) {
  const item = answer.items[0];
  const refused = answer.rejected[0];
  if (refused !== undefined) return <p class="note">{refused.detail}</p>;
  if (item === undefined) return null;
  const after = new Map<string, Side>(item.after.map((side) => [side.meter, side]));
  const before = new Map<string, Side>(item.before.map((side) => [side.meter, side]));
  const meters = [...new Set([...before.keys(), ...after.keys()])];
  if (meters.length === 0) return <p class="note">No meter counts this event, before or after.</p>;
  return (
    <Table
      caption="What the correction changes"
      rows={meters}
      rowKey={(meter) => meter}
      columns={[
        { name: "Meter", cell: (meter) => meter },
        { name: "Now", figure: true, cell: (meter) => <Value side={before.get(meter)} /> },
        { name: "Then", figure: true, cell: (meter) => <Value side={after.get(meter)} /> },
        { name: "Difference", figure: true, cell: (meter) => <Figure own value={difference(before.get(meter), after.get(meter))} /> },
      ]}
    />
  );
}

function Value({ side }: { side: Side | undefined }) {
  return side === undefined || side.excluded ? <span class="excluded" title={side?.excluded}>not counted</span> : <Figure value={side.value} />;
}

function difference(before: Side | undefined, after: Side | undefined): string | null {
  try {
    return subtract(after?.value ?? "0", before?.value ?? "0");
  } catch {
    return null; // a distinct value is no number
  }
}

function read(text: string): Json | Error {
  try {
    const found = parseJson(text === "" ? "null" : text);
    if (found !== null && (typeof found !== "object" || Array.isArray(found))) return new Error("Data is an object, or null.");
    return found;
  } catch (error) {
    return asError(error);
  }
}

function change(known: Known, action: "retract" | "replace", data: Json): Record<string, unknown> {
  const { source, id } = known;
  if (action === "retract") return { retract: [{ source, id }] };
  return { replace: [{ ...(known.extensions as object), id, source, type: known.type, subject: known.subject, time: known.time, data }] };
}
