/** A new alert, and what it would have done over the past month. */

import { useState } from "preact/hooks";
import type { AnswerOf } from "tallystick";
import { asError, useAsk } from "../../ask";
import { Dialog } from "../../components/Dialog";
import { Field, faultOf, Select } from "../../components/Form";
import { Figure } from "../../components/Figure";
import { Failed } from "../../components/States";
import { client, features } from "../../session";
import { bodyOf, BLANK, hasValue, hasWindow, opsOf, WINDOWS, type Rule } from "./rule";
import { Transitions } from "./Transitions";

type Preview = AnswerOf<"POST /v1/alerts/preview">;

export function AlertForm({ customer, close, made }: {
  /** The customer whose own alert it will be; null: the company's. */
  customer: string | null;
  close: () => void;
  made: () => void;
}) {
  const [rule, setRule] = useState<Rule>({ ...BLANK, customer: customer ?? "*" });
  const [failure, setFailure] = useState<Error | null>(null);
  const [preview, setPreview] = useState<Preview | null>(null);
  const [busy, setBusy] = useState(false);
  const meters = useAsk("meters", () => client.meters.list({ limit: 500 }));
  const channels = useAsk("channels", () => client.channels.list({ limit: 500 }));
  const set = (members: Partial<Rule>): void => {
    setRule((before) => {
      const next = { ...before, ...members };
      return opsOf(next.subject).some(([op]) => op === next.op) ? next : { ...next, op: "gte" };
    });
    setPreview(null);
    setFailure(null);
  };
  const body = bodyOf(rule);
  const work = (task: () => Promise<void>): void => {
    setBusy(true);
    setFailure(null);
    task().catch((error: unknown) => setFailure(asError(error))).finally(() => setBusy(false));
  };
  const tryIt = (): void => body === null ? undefined : work(async () => {
    const { key, channels: _, ...rest } = body;
    setPreview(await client.call("POST /v1/alerts/preview", { body: key === "" ? rest : { key, ...rest } }));
  });
  const save = (): void => body === null ? undefined : work(async () => {
    await client.alerts.create(body);
    made();
  });
  const subjects: [string, string][] = [
    ["", "choose"],
    ...(meters.answer?.items ?? []).map((meter): [string, string] => [`meter ${meter.key}`, meter.key]),
    ...(features.has("billing") ? ([["cost", "cost"], ["credits", "credits left"]] as [string, string][]) : []),
  ];
  return (
    <Dialog drawer title="New alert" close={close}>
      <form class="form" onSubmit={(event) => {
        event.preventDefault();
        save();
      }}>
        <Field label="Key" fault={faultOf(failure, "key")}><input required value={rule.key} spellcheck={false} onInput={(event) => set({ key: event.currentTarget.value })} /></Field>
        <Field label="Name"><input value={rule.name} onInput={(event) => set({ name: event.currentTarget.value })} /></Field>
        <Field label="When" fault={faultOf(failure, "meter")}><Select required value={rule.subject} options={subjects} change={(subject) => set({ subject })} /></Field>
        {customer === null && (
          <Field label="Of" hint="The key of a customer, or * for each by itself" fault={faultOf(failure, "customer")}>
            <input required value={rule.customer} spellcheck={false} onInput={(event) => set({ customer: event.currentTarget.value })} />
          </Field>
        )}
        <Field label="Condition" fault={faultOf(failure, "condition")}><Select value={rule.op} options={opsOf(rule.subject)} change={(op) => set({ op })} /></Field>
        {hasValue(rule) && (
          <Field label="Value" hint="Several, separated by commas, fire one by one">
            <input required inputmode="decimal" value={rule.value} spellcheck={false} onInput={(event) => set({ value: event.currentTarget.value })} />
          </Field>
        )}
        {rule.op === "rate" && <Field label="Per"><Select value={rule.per} options={["second", "minute", "hour"].map((one) => [one, one] as const)} change={(per) => set({ per })} /></Field>}
        {rule.op === "silence" && <Field label="For" hint="PT1H is an hour, P1D a day"><input required value={rule.silence} onInput={(event) => set({ silence: event.currentTarget.value })} /></Field>}
        {rule.op === "percent_change" && <Field label="Direction"><Select value={rule.direction} options={["up", "down", "either"].map((one) => [one, one] as const)} change={(direction) => set({ direction })} /></Field>}
        {rule.op === "anomaly" && <Field label="Sensitivity"><Select value={rule.sensitivity} options={["low", "medium", "high"].map((one) => [one, one] as const)} change={(sensitivity) => set({ sensitivity })} /></Field>}
        {hasWindow(rule) && <Field label="Within" fault={faultOf(failure, "window")}><Select value={rule.window} options={WINDOWS} change={(window) => set({ window })} /></Field>}
        <fieldset class="checks">
          <legend>Tell</legend>
          {(channels.answer?.items ?? []).map((channel) => (
            <label key={channel.key}>
              <input type="checkbox" checked={rule.channels.includes(channel.key)} onChange={(event) => set({ channels: event.currentTarget.checked ? [...rule.channels, channel.key] : rule.channels.filter((one) => one !== channel.key) })} />
              {channel.name || channel.key}
            </label>
          ))}
          {channels.answer?.items.length === 0 && <small>No channel yet: it will be shown here alone.</small>}
        </fieldset>
        {failure && <Failed error={failure} />}
        <div class="actions">
          <button type="submit" class="primary" disabled={busy || body === null}>Create</button>
          <button type="button" disabled={busy || body === null} onClick={tryIt}>Try over the past 30 days</button>
        </div>
      </form>
      {preview !== null && (
        <section class="tried" aria-live="polite">
          <h3>Over the past 30 days</h3>
          <ul class="counts">
            <li><Figure value={preview.fired} /> fired</li>
            <li><Figure value={preview.recovered} /> recovered</li>
            <li><Figure value={preview.customers} /> {preview.customers === 1 ? "customer" : "customers"}</li>
          </ul>
          {preview.transitions.length > 0 && <Transitions items={preview.transitions} caption="What it would have said" />}
          {!preview.complete && <p class="muted">There were more.</p>}
        </section>
      )}
    </Dialog>
  );
}
