/** The requests behind one view, and what is made of their answers. */

import type { AnswerOf, QueryOf } from "tallystick";
import { isZero, percent, subtract } from "../../decimal";
import { client } from "../../session";
import type { Meter } from "../Explore";
import { before, shared, type Explored } from "./question";

type Usage = AnswerOf<"GET /v1/meters/{key}/usage">;
type Row = Usage["rows"][number];
type Question = QueryOf<"GET /v1/meters/{key}/usage">;
export type Group = Readonly<Record<string, string | null>>;

/** Groups of the period before that are looked through for those shown. */
const PAST_GROUPS_MAX = 1000;

/** Figures of these add up over groups, so that what the top leaves out is a figure too. */
const ADDITIVE = new Set(["sum", "count", "duration", "register", "time_weighted"]);

export interface GroupLine {
  /** Null: the rest. */
  group: Group | null;
  name: string;
  total: string | null;
  previous: string | null;
  changePercent: string | null;
  /** One for each window. */
  values: (string | null)[];
}

export interface View {
  unit: string | null;
  windows: { start: string; end: string }[];
  /** Of everything that is asked for, whatever the groups. */
  whole: GroupLine;
  before: (string | null)[] | null;
  /** Empty where nothing is grouped. */
  groups: GroupLine[];
  additive: boolean;
  servedFrom: string;
  position: string;
}

export async function ask(explored: Explored, meter: Meter, signal: AbortSignal): Promise<View> {
  const base = shared(explored) as Question;
  const past = explored.compare ? ({ ...base, ...before(explored) } as Question) : null;
  const grouped: Question = { group_by: explored.group.join(","), order_by: "-value", limit: explored.top };
  const usage = (more: Question): Promise<Usage> => client.meters.usage(meter.key, { ...base, ...more }, signal);
  const isGrouped = explored.group.length > 0;
  const none = Promise.resolve(null);
  const [windows, groupWindows, pastWindows, pastGroups] = await Promise.all([
    usage({ window: explored.window, fill: "zero", totals: true }),
    isGrouped ? usage({ ...grouped, window: explored.window, totals: true }) : none,
    past === null ? none : usage({ ...past, window: explored.window, fill: "zero", totals: true }),
    past !== null && isGrouped ? usage({ ...past, ...grouped, limit: PAST_GROUPS_MAX }) : none,
  ]);
  const pastOf = new Map((pastGroups?.rows ?? []).map((row) => [nameOf(row.group), row.value]));
  const places = new Map(windows.rows.map((row, index) => [row.window_start, index]));
  const whole = lineOf(null, "All", totalOf(windows), totalOf(pastWindows), windows.rows.map((row) => row.value));
  const groups: GroupLine[] = (groupWindows?.totals ?? []).map((row) => lineOf(row.group, nameOf(row.group), row.value, pastOf.get(nameOf(row.group)), windows.rows.map(() => null)));
  const byName = new Map(groups.map((line) => [line.name, line]));
  for (const row of groupWindows?.rows ?? []) {
    const [line, place] = [byName.get(nameOf(row.group)), places.get(row.window_start)];
    if (line !== undefined && place !== undefined) line.values[place] = row.value;
  }
  const additive = ADDITIVE.has(meter.aggregation) && meter.of === null;
  const rest = additive && groups.length >= explored.top ? restOf(whole, groups) : null;
  return {
    unit: windows.unit,
    windows: windows.rows.map((row) => ({ start: row.window_start, end: row.window_end })),
    whole,
    before: pastWindows === null ? null : windows.rows.map((_, index) => pastWindows.rows[index]?.value ?? null),
    groups: rest === null ? groups : [...groups, rest],
    additive,
    servedFrom: windows.served_from,
    position: windows.position,
  };
}

function totalOf(usage: Usage | null): string | null | undefined {
  return usage?.totals?.[0]?.value;
}

function lineOf(group: Group | null, name: string, total: string | null | undefined, previous: string | null | undefined, values: (string | null)[]): GroupLine {
  const [now, then] = [total ?? null, previous ?? null];
  return { group, name, total: now, previous: then, changePercent: changed(now, then), values };
}

/** By how much more, in percent of before, rounded to one place; null where there is nothing to compare with. */
function changed(now: string | null, then: string | null): string | null {
  return now === null || then === null || isZero(then) ? null : percent(subtract(now, then), then);
}

/** All less the groups shown, exactly; null where nothing is left. */
function restOf(whole: GroupLine, groups: readonly GroupLine[]): GroupLine | null {
  const less = (from: string | null, all: readonly (string | null)[]): string | null =>
    from === null ? null : all.reduce<string>((left, value) => (value === null ? left : subtract(left, value)), from);
  const total = less(whole.total, groups.map((line) => line.total));
  if (total === null || isZero(total)) return null;
  const previous = less(whole.previous, groups.map((line) => line.previous));
  return {
    group: null,
    name: "other",
    total,
    previous,
    changePercent: changed(total, previous),
    values: whole.values.map((value, index) => less(value, groups.map((line) => line.values[index] ?? null))),
  };
}

export function nameOf(group: Group): string {
  return Object.values(group).map((value) => value ?? "(none)").join(" · ");
}
