import { Badge } from "../../components/Badge";
import { Figure } from "../../components/Figure";
import { PageLink } from "../../components/PageLink";
import { Table } from "../../components/Table";
import { Time } from "../../components/Times";
import { inPortal } from "../../session";

export interface Transition {
  id: string;
  kind: string;
  alert: string;
  customer: string | null;
  at: string;
  muted?: boolean;
  value?: string | null;
  threshold?: string | null;
  group?: Record<string, unknown> | null;
}

/** When something fired and recovered, with its evidence. */
export function Transitions({ items, caption }: { items: readonly Transition[]; caption: string }) {
  return <Table caption={caption} rows={items} rowKey={(one, index) => `${one.id} ${index}`} columns={[...COLUMNS]} />;
}

export const COLUMNS = [
  { name: "When", cell: (one: Transition) => <Time at={one.at} /> },
  { name: "What", cell: (one: Transition) => <><Badge state={one.kind} />{one.muted && <> <Badge state="muted" /></>}</> },
  { name: "Customer", cell: (one: Transition) => <>{one.customer === null ? "all" : inPortal ? one.customer : <PageLink to={`/customers/${encodeURIComponent(one.customer)}`}>{one.customer}</PageLink>}{one.group && <small class="group"> {Object.entries(one.group).map(([name, value]) => `${name} ${String(value ?? "none")}`).join(", ")}</small>}</> },
  { name: "Figure", figure: true, cell: (one: Transition) => <Figure value={one.value} /> },
  { name: "Step", figure: true, cell: (one: Transition) => <Figure value={one.threshold} /> },
] as const;
