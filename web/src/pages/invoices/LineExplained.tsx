/** Why a line is what it is: the price, its steps, the usage, the events. */

import type { ComponentChildren } from "preact";
import { useAsk } from "../../ask";
import { Dialog } from "../../components/Dialog";
import { Figure } from "../../components/Figure";
import { Answered } from "../../components/States";
import { Table } from "../../components/Table";
import { Period, Time } from "../../components/Times";
import { withQuery } from "../../router";
import { client, inPortal, may } from "../../session";
import { Price } from "../plans/Price";

interface Step {
  kind: string;
  label?: string[];
  from?: string | null;
  to?: string | null;
  quantity?: string;
  unit_amount?: string;
  flat_amount?: string;
  rate?: string;
  amount: string;
}

interface Asked {
  meter: string;
  version: number;
  aggregation: string;
  filter: unknown;
  from: string;
  to: string;
  rows: { window_start: string; group: Record<string, string | null>; value: string }[];
  events: { source: string; id: string; time: string; customer: string; subject: string; value: string }[];
  events_complete: boolean;
  events_sum: string | null;
}

interface Explained {
  amount: string;
  rounded: string;
  price: { plan: string; version: number; charge: string; share: string; price: unknown } | null;
  steps: Step[];
  usage: Asked[];
  as_of: string;
}

export function LineExplained({ invoice, currency, line, close }: {
  invoice: string;
  currency: string;
  line: { id: string; name: string };
  close: () => void;
}) {
  const asked = useAsk(`${invoice} ${line.id}`, async () => (await client.invoices.explain(invoice, line.id)) as unknown as Explained);
  return (
    <Dialog drawer title={line.name} close={close}>
      <Answered of={asked} what="Adding up">
        {(told) => (
          <>
            <p class="big"><Figure value={told.rounded} unit={currency} /></p>
            <p class="muted">Exactly <Figure value={told.amount} />, from what was known at <Time at={told.as_of} exact /></p>
            {told.steps.length > 0 && <Steps steps={told.steps} />}
            {told.price !== null && (
              <>
                <h3>Price</h3>
                <p>Plan <code>{told.price.plan}</code>, version <Figure value={told.price.version} />, charge <code>{told.price.charge}</code>{told.price.share !== "1/1" && <>, for {told.price.share} of the period</>}</p>
                <Price of={told.price.price} currency={currency} label="The price" />
              </>
            )}
            {told.usage.map((one, index) => <Usage key={index} of={one} />)}
          </>
        )}
      </Answered>
    </Dialog>
  );
}

/** The steps of a price: their amounts add up to the whole. */
export function Steps({ steps }: { steps: readonly Step[] }) {
  const has = (name: keyof Step): boolean => steps.some((step) => step[name] !== undefined && step[name] !== null);
  const figure = (title: string, name: "quantity" | "unit_amount" | "flat_amount" | "rate") =>
    has(name) ? [{ name: title, figure: true, cell: (step: Step): ComponentChildren => <Figure value={step[name] ?? null} /> }] : [];
  return (
    <Table
      caption="Steps of the price"
      rows={steps}
      rowKey={(_, index) => String(index)}
      columns={[
        { name: "Step", cell: (step) => <>{step.kind.replaceAll("_", " ")}{step.label && step.label.length > 0 && <> {step.label.join(", ")}</>}{has("from") && step.from !== undefined && step.from !== null && <> above <Figure value={step.from} />{step.to !== null && <> to <Figure value={step.to} /></>}</>}</> },
        ...figure("Quantity", "quantity"),
        ...figure("Each", "unit_amount"),
        ...figure("Percent", "rate"),
        ...figure("Flat", "flat_amount"),
        { name: "Amount", figure: true, cell: (step) => <Figure value={step.amount} /> },
      ]}
    />
  );
}

function Usage({ of: asked }: { of: Asked }) {
  const link = (event: Asked["events"][number]): ComponentChildren =>
    !inPortal && may("events:read")
      ? <a class="link id" href={withQuery("/events", { event: event.id, event_source: event.source })}>{event.id}</a>
      : <code>{event.id}</code>;
  return (
    <>
      <h3>{asked.aggregation} of {asked.meter}</h3>
      <p class="muted"><Period from={asked.from} to={asked.to} />, version <Figure value={asked.version} /> of the meter</p>
      {asked.rows.length > 0 && (
        <Table
          caption={`Usage of ${asked.meter}`}
          rows={asked.rows}
          rowKey={(_, index) => String(index)}
          columns={[
            { name: "From", cell: (row) => <Time at={row.window_start} /> },
            { name: "Group", cell: (row) => Object.entries(row.group).map(([name, value]) => `${name} ${value ?? "none"}`).join(", ") || "all" },
            { name: "Quantity", figure: true, cell: (row) => <Figure value={row.value} /> },
          ]}
        />
      )}
      {asked.events.length > 0 && (
        <>
          <p>{asked.events_complete ? "All events" : "The latest events"}{asked.events_sum !== null && <>, together <Figure value={asked.events_sum} /></>}</p>
          <Table
            caption={`Events of ${asked.meter}`}
            rows={asked.events}
            rowKey={(event) => `${event.source} ${event.id}`}
            columns={[
              { name: "Time", cell: (event) => <Time at={event.time} /> },
              { name: "Event", cell: link },
              { name: "Subject", wide: true, cell: (event) => event.subject },
              { name: "Value", figure: true, cell: (event) => <Figure value={event.value} /> },
            ]}
          />
        </>
      )}
    </>
  );
}
