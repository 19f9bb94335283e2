/** What a customer is subscribed to: begun, changed and ended here. */

import { useState } from "preact/hooks";
import type { ItemOf } from "tallystick";
import { asError, useAsk } from "../../ask";
import { Badge } from "../../components/Badge";
import { Confirm } from "../../components/Confirm";
import { Dialog } from "../../components/Dialog";
import { Field, faultOf, Select } from "../../components/Form";
import { Icon } from "../../components/Icon";
import { PageLink } from "../../components/PageLink";
import { Answered, Empty, Failed } from "../../components/States";
import { Table } from "../../components/Table";
import { Day } from "../../components/Times";
import { useZone } from "../../preferences";
import { client, may } from "../../session";
import { fromInput } from "../../time";

type Subscription = ItemOf<"GET /v1/subscriptions">;
type Asking = { what: "subscribe" } | { what: "change" | "cancel" | "keep"; of: Subscription };

/** `changed`: the open period is another now. */
export function Subscriptions({ customer, changed }: { customer: string; changed: () => void }) {
  const [asking, setAsking] = useState<Asking | null>(null);
  const asked = useAsk(`plan ${customer}`, () => client.call("GET /v1/subscriptions", { query: { customer } }));
  const close = (done: boolean): void => {
    setAsking(null);
    if (!done) return;
    asked.again();
    changed();
  };
  return (
    <section class="panel">
      <header>
        <h2>Plan</h2>
        {may("billing:write") && <button type="button" onClick={() => setAsking({ what: "subscribe" })}><Icon name="plus" />Subscribe</button>}
      </header>
      <Answered of={asked}>
        {(answer) => answer.items.length === 0 ? <Empty title="No subscription" /> : (
          <Table
            caption="Subscriptions"
            rows={answer.items}
            rowKey={(one) => one.id}
            columns={[
              { name: "Plan", cell: (one) => <><PageLink to={`/plans/${encodeURIComponent(one.plan)}`}>{one.plan}</PageLink> <small class="group">version {one.version}</small></> },
              { name: "State", cell: (one) => <Badge state={one.status} /> },
              { name: "Since", wide: true, cell: (one) => <Day at={one.start} /> },
              { name: "Until", cell: (one) => one.end === null ? <span class="none">open</span> : <Day at={one.end} /> },
              { name: "Period ends", wide: true, cell: (one) => <Day at={one.current_period?.to} /> },
              {
                name: "", figure: true, cell: (one) => may("billing:write") && one.status !== "ended" && (
                  <span class="row-actions">
                    <button type="button" class="link" onClick={() => setAsking({ what: "change", of: one })}>Change…</button>
                    {one.end === null
                      ? <button type="button" class="link" onClick={() => setAsking({ what: "cancel", of: one })}>End…</button>
                      : <button type="button" class="link" onClick={() => setAsking({ what: "keep", of: one })}>Keep…</button>}
                  </span>
                ),
              },
            ]}
          />
        )}
      </Answered>
      {asking?.what === "subscribe" && <PlanForm title="Subscribe" verb="Subscribe" customer={customer} close={close} />}
      {asking?.what === "change" && <PlanForm title={`Change from ${asking.of.plan}`} verb="Change" customer={customer} of={asking.of} close={close} />}
      {asking?.what === "cancel" && <Cancel of={asking.of} close={close} />}
      {asking?.what === "keep" && (
        <Confirm title={`Keep ${asking.of.plan}?`} verb="Keep" danger={false} work={() => client.call("POST /v1/subscriptions/{id}/uncancel", { path: { id: asking.of.id }, body: {} })} close={close}>
          <p>Its end, <Day at={asking.of.end} />, is taken back: the subscription goes on.</p>
        </Confirm>
      )}
    </section>
  );
}

const WHEN = [["period_end", "when the open period ends"], ["now", "now"]] as const;

/** Another plan for a subscription, or a subscription for a customer. */
function PlanForm({ title, verb, customer, of, close }: { title: string; verb: string; customer: string; of?: Subscription; close: (done: boolean) => void }) {
  const zone = useZone();
  const plans = useAsk("plans to choose", (signal) => client.call("GET /v1/plans", { query: { limit: 200 }, signal }));
  const offered = (plans.answer?.items ?? []).filter((plan) => plan.status !== "archived" && plan.key !== of?.plan);
  const [plan, setPlan] = useState("");
  const [start, setStart] = useState("");
  const [trialDays, setTrialDays] = useState<number | null>(null);
  const [effective, setEffective] = useState<string>("period_end");
  const [failure, setFailure] = useState<Error | null>(null);
  const [busy, setBusy] = useState(false);
  const work = (): Promise<unknown> => {
    if (of !== undefined) return client.call("POST /v1/subscriptions/{id}/change", { path: { id: of.id }, body: { plan, effective } });
    const at = start === "" ? null : fromInput(start, zone);
    return client.call("POST /v1/subscriptions", { body: { customer, plan, ...(at === null ? {} : { start: at }), ...(trialDays === null ? {} : { trial_days: trialDays }) } });
  };
  const send = (event: Event): void => {
    event.preventDefault();
    setBusy(true);
    setFailure(null);
    work().then(() => close(true), (error: unknown) => {
      setFailure(asError(error));
      setBusy(false);
    });
  };
  return (
    <Dialog title={title} close={() => close(false)}>
      <form onSubmit={send}>
        <Field label="Plan" fault={faultOf(failure, "plan")}>
          <Select required value={plan} change={setPlan} options={[["", plans.answer === null ? "Asking for plans…" : "Choose a plan…"], ...offered.map((one) => [one.key, `${one.name || one.key}${one.status === "draft" ? " (draft)" : ""}, ${one.currency}`] as const)]} />
        </Field>
        {of === undefined ? (
          <>
            <Field label={`From (${zone})`} hint="Empty: from now on" fault={faultOf(failure, "start")}><input type="datetime-local" value={start} onInput={(event) => setStart(event.currentTarget.value)} /></Field>
            <Field label="Days of trial" hint="Empty: as the plan has it" fault={faultOf(failure, "trial_days")}><input type="number" min={0} max={3650} value={trialDays ?? ""} onInput={(event) => setTrialDays(Number.isNaN(event.currentTarget.valueAsNumber) ? null : event.currentTarget.valueAsNumber)} /></Field>
          </>
        ) : <Field label="From" fault={faultOf(failure, "effective")}><Select value={effective} change={setEffective} options={WHEN} /></Field>}
        {plans.error && <Failed error={plans.error} again={plans.again} />}
        {failure && <Failed error={failure} />}
        <div class="actions">
          <button type="submit" class="primary" disabled={busy}>{verb}</button>
          <button type="button" onClick={() => close(false)}>Cancel</button>
        </div>
      </form>
    </Dialog>
  );
}

function Cancel({ of, close }: { of: Subscription; close: (done: boolean) => void }) {
  const [effective, setEffective] = useState<string>("period_end");
  return (
    <Confirm title={`End ${of.plan}?`} verb="End the subscription" work={() => client.call("POST /v1/subscriptions/{id}/cancel", { path: { id: of.id }, body: { effective } })} close={close}>
      <Field label="It ends"><Select value={effective} change={setEffective} options={WHEN} /></Field>
      <p>What was used until then is billed.</p>
    </Confirm>
  );
}
