/** How a customer's limits stand. */

import { useAsk } from "../../ask";
import { Badge } from "../../components/Badge";
import { Figure } from "../../components/Figure";
import { Meterbar } from "../../components/Meterbar";
import { Answered, Empty } from "../../components/States";
import { Table } from "../../components/Table";
import { Day } from "../../components/Times";
import { client } from "../../session";

const EVERY_MS = 15_000;

export function LimitsOf({ customer, none = "No limits: use as much as you like" }: { customer: string; none?: string }) {
  const asked = useAsk(`limits ${customer}`, (signal) => client.call("GET /v1/customers/{key}/limits", { path: { key: customer }, signal }), EVERY_MS);
  return (
    <Answered of={asked}>
      {(answer) => answer.items.length === 0 ? <Empty title={none} /> : (
        <Table
          caption="Limits"
          rows={answer.items}
          rowKey={(one) => `${one.rule} ${one.meter}`}
          columns={[
            { name: "Limit", cell: (one) => <>{one.meter ?? "cost"} <Badge state={one.enforce} /><small class="group"> {one.rule}</small></> },
            { name: "", wide: true, cell: (one) => one.known ? <Meterbar used={one.used} of={one.limit} label={`${one.used} of ${one.limit} used`} /> : <span class="none">not known now</span> },
            { name: "Used", figure: true, cell: (one) => <Figure value={one.used} /> },
            { name: "Held", figure: true, wide: true, cell: (one) => <Figure value={one.held} /> },
            { name: "Left", figure: true, cell: (one) => <strong><Figure value={one.remaining} /></strong> },
            { name: "Of", figure: true, cell: (one) => <Figure value={one.limit} unit={one.currency} /> },
            { name: "Begins anew", cell: (one) => <Day at={one.reset_at} /> },
          ]}
        />
      )}
    </Answered>
  );
}
