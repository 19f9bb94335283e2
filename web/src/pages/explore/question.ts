/** The address as a question, and as a request that anybody can make. */

import { queryText } from "tallystick";
import { isZone, rangeOf, RANGES, stepBack, WINDOW_MS, WINDOWS, type Window } from "../../time";
import type { Meter } from "../Explore";

export const TOPS = ["3", "5", "8", "10"] as const;
export const TOP_DEFAULT = "8";

export interface Explored {
  meter: string;
  range: string;
  from: string;
  to: string;
  zone: string;
  window: Window;
  group: readonly string[];
  customers: readonly string[];
  /** As in the API: `filter[model]` → `a,b`. */
  filters: Readonly<Record<string, string>>;
  compare: boolean;
  top: number;
  kind: "bars" | "lines";
}

export function readQuestion(query: URLSearchParams, meter: Meter, zone: string, nowMs: number): Explored {
  const asked = query.get("zone");
  const known = asked !== null && isZone(asked) ? asked : zone;
  const [from, to] = [query.get("from"), query.get("to")];
  const custom = from !== null && to !== null && Date.parse(from) < Date.parse(to);
  const range = custom ? "custom" : (query.get("range") ?? "30d") in RANGES ? (query.get("range") ?? "30d") : "30d";
  const bounds = custom ? { from: new Date(from).toISOString(), to: new Date(to).toISOString() } : rangeOf(range, known, nowMs);
  const names = ["customer", "subject", ...Object.keys(meter.dimensions ?? {})];
  const window = query.get("window");
  const filters: Record<string, string> = {};
  for (const [name, value] of query) {
    const dimension = /^filter\[([^\]]+)\]/.exec(name)?.[1];
    if (dimension !== undefined && names.includes(dimension) && value !== "") filters[name] = value;
  }
  const top = query.get("top") ?? TOP_DEFAULT;
  return {
    meter: meter.key,
    range,
    ...bounds,
    zone: known,
    window: (WINDOWS as readonly string[]).includes(window ?? "") ? (window as Window) : windowFor(range, bounds),
    group: (query.get("group") ?? "").split(",").filter((name) => names.includes(name)),
    customers: query.getAll("customer").filter((one) => one !== ""),
    filters,
    compare: query.get("compare") === "previous",
    top: /^([1-9]\d?|100)$/.test(top) ? Number(top) : Number(TOP_DEFAULT),
    kind: query.get("chart") === "lines" ? "lines" : "bars",
  };
}

/** A window that makes some tens of bars. */
function windowFor(range: string, bounds: { from: string; to: string }): Window {
  const named = RANGES[range];
  if (named !== undefined) return named.window;
  const hours = (Date.parse(bounds.to) - Date.parse(bounds.from)) / 3_600_000;
  return hours <= 3 ? "minute" : hours <= 12 ? "15m" : hours <= 96 ? "hour" : hours <= 24 * 90 ? "day" : hours <= 24 * 550 ? "week" : "month";
}

/** The address as the document of a view (POST /v1/views), which the server makes the same address of. */
export function asDocument(explored: Explored, query: URLSearchParams, letters: Readonly<Record<string, string>>): Record<string, unknown> {
  const formula = query.get("formula");
  const members = {
    meter: explored.meter,
    ...(explored.range === "custom" ? { from: explored.from, to: explored.to } : { range: explored.range }),
    timezone: explored.zone,
    ...(query.has("window") ? { window: explored.window } : {}),
    customer: explored.customers,
  };
  if (formula !== null) {
    const used = Object.entries(letters).filter(([letter]) => letter !== "a" && new RegExp(`\\b${letter}\\b`).test(formula));
    return { ...members, formula, meters: Object.fromEntries(used) };
  }
  const filter: Record<string, Record<string, unknown>> = {};
  for (const [name, value] of Object.entries(explored.filters)) {
    const [, dimension = "", operator = "in"] = /^filter\[([^\]]+)\](?:\[([^\]]+)\])?$/.exec(name) ?? [];
    filter[dimension] = { ...filter[dimension], [operator]: ["in", "not_in"].includes(operator) ? value.split(",") : value };
  }
  return {
    ...members,
    group_by: explored.group,
    filter,
    ...(explored.compare ? { compare: "previous" } : {}),
    top: explored.top,
    chart: explored.kind,
  };
}

/** What every request of this page has in common. */
export function shared(explored: Explored): Record<string, unknown> {
  return {
    from: explored.from,
    to: explored.to,
    timezone: explored.zone,
    ...(explored.customers.length === 0 ? {} : { customer: explored.customers }),
    ...explored.filters,
  };
}

/**
 * The same windows of the period before: as many whole windows earlier as it takes to pass the range, so that day stands
 * beside day. (The API's `compare=previous` sets each window beside the one before it.)
 */
export function before(explored: Explored): { from: string; to: string } {
  const [from, to] = [Date.parse(explored.from), Date.parse(explored.to)];
  const earlier = (count: number) => (ms: number): number => stepBack(ms, explored.window, count, explored.zone);
  let count = Math.max(1, Math.floor((to - from) / WINDOW_MS[explored.window]));
  // Months and days of clock changes differ in length.
  while (earlier(count)(to) > from) count += 1;
  return { from: new Date(earlier(count)(from)).toISOString(), to: new Date(earlier(count)(to)).toISOString() };
}

/** The question as one request: what `copy as curl` and the exports send. */
export function asRequest(explored: Explored): Record<string, unknown> {
  return {
    ...shared(explored),
    window: explored.window,
    ...(explored.group.length === 0 ? {} : { group_by: explored.group.join(","), order_by: "-value", limit: explored.top }),
  };
}

export function asCurl(explored: Explored, origin: string, accept: string): string {
  const path = `/v1/meters/${encodeURIComponent(explored.meter)}/usage${queryText(asRequest(explored))}`;
  const type = accept === "application/json" ? "" : ` \\\n  -H 'Accept: ${accept}'`;
  return `curl -s '${origin}${path.replaceAll("'", "%27")}' \\\n  -H "Authorization: Bearer $TALLYSTICK_KEY"${type}`;
}
