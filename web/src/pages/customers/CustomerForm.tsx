/** A new customer, or another name, subjects and so on of one. */

import { useState } from "preact/hooks";
import { Problem, type AnswerOf } from "tallystick";
import { asError } from "../../ask";
import { Dialog } from "../../components/Dialog";
import { Field, faultOf } from "../../components/Form";
import { Failed } from "../../components/States";
import { client } from "../../session";

export type Customer = AnswerOf<"GET /v1/customers/{key}">;

export function CustomerForm({ of, close, done }: { of?: Customer; close: () => void; done: (customer: Customer) => void }) {
  const [key, setKey] = useState(of?.key ?? "");
  const [name, setName] = useState(of?.name ?? "");
  const [subjects, setSubjects] = useState(of?.subjects.join("\n") ?? "");
  const [currency, setCurrency] = useState(of?.currency ?? "");
  const [timezone, setTimezone] = useState(of?.timezone ?? "UTC");
  const [email, setEmail] = useState(of?.email ?? "");
  const [parent, setParent] = useState(of?.parent ?? "");
  const [failure, setFailure] = useState<Error | null>(null);
  const [busy, setBusy] = useState(false);
  const save = async (reassign: boolean): Promise<void> => {
    setBusy(true);
    setFailure(null);
    const wanted = {
      name: name || key,
      currency: currency || null,
      timezone,
      email: email || null,
      parent: parent || null,
      subjects: subjects.split("\n").map((one) => one.trim()).filter((one) => one !== ""),
      ...(reassign ? { reassign: true } : {}),
    };
    try {
      done(await (of === undefined ? client.customers.create({ key, ...wanted } as never) : client.customers.change(of.key, wanted as never)));
    } catch (error) {
      setFailure(asError(error));
      setBusy(false);
    }
  };
  const taken = failure instanceof Problem && failure.code === "subject_taken";
  return (
    <Dialog title={of === undefined ? "New customer" : `Change ${of.name || of.key}`} close={close}>
      <form onSubmit={(event) => {
        event.preventDefault();
        void save(false);
      }}>
        {of === undefined && <Field label="Key" hint="What your own systems call it. It cannot be changed." fault={faultOf(failure, "key")}><input required spellcheck={false} value={key} onInput={(event) => setKey(event.currentTarget.value)} /></Field>}
        <Field label="Name" fault={faultOf(failure, "name")}><input value={name} onInput={(event) => setName(event.currentTarget.value)} /></Field>
        <Field label="Subjects" hint="One a line: what its events name." fault={faultOf(failure, "subjects")}><textarea rows={3} spellcheck={false} value={subjects} onInput={(event) => setSubjects(event.currentTarget.value)} /></Field>
        <Field label="Currency" hint="Three letters; empty: none yet" fault={faultOf(failure, "currency")}><input maxLength={3} value={currency} onInput={(event) => setCurrency(event.currentTarget.value.toUpperCase())} /></Field>
        <Field label="Zone" fault={faultOf(failure, "timezone")}><input required spellcheck={false} value={timezone} onInput={(event) => setTimezone(event.currentTarget.value)} /></Field>
        <Field label="Email" fault={faultOf(failure, "email")}><input type="email" value={email} onInput={(event) => setEmail(event.currentTarget.value)} /></Field>
        <Field label="Part of" hint="The key of another customer; empty: of none" fault={faultOf(failure, "parent")}><input spellcheck={false} value={parent} onInput={(event) => setParent(event.currentTarget.value)} /></Field>
        {failure && <Failed error={failure} />}
        <div class="actions">
          <button type="submit" class="primary" disabled={busy}>{of === undefined ? "Create" : "Save"}</button>
          {taken && <button type="button" disabled={busy} onClick={() => save(true)}>Take the subject over, from now on</button>}
          <button type="button" onClick={close}>Cancel</button>
        </div>
      </form>
    </Dialog>
  );
}
