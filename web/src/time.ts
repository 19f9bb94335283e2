/** Times in a chosen zone. The server's texts keep their microseconds; the calendar comes from the browser's own table. */

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

export interface Parts {
  year: number;
  month: number;
  day: number;
  hour: number;
  minute: number;
  second: number;
}

const formats = new Map<string, Intl.DateTimeFormat>();

function format(zone: string, options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
  const name = `${zone} ${JSON.stringify(options)}`;
  let made = formats.get(name);
  if (made === undefined) {
    made = new Intl.DateTimeFormat("en-GB", { timeZone: zone, ...options });
    formats.set(name, made);
  }
  return made;
}

export function isZone(zone: string): boolean {
  try {
    new Intl.DateTimeFormat("en-GB", { timeZone: zone });
    return zone !== "";
  } catch {
    return false;
  }
}

export function zones(): string[] {
  const known = "supportedValuesOf" in Intl ? Intl.supportedValuesOf("timeZone") : [];
  return ["UTC", ...known.filter((zone) => zone !== "UTC")];
}

export function browserZone(): string {
  return Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
}

export function partsOf(ms: number, zone: string): Parts {
  const options = { year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric", second: "numeric", hourCycle: "h23" } as const;
  const found: Record<string, number> = {};
  for (const part of format(zone, options).formatToParts(ms)) found[part.type] = Number(part.value);
  return { year: found["year"] ?? 0, month: found["month"] ?? 1, day: found["day"] ?? 1, hour: found["hour"] ?? 0, minute: found["minute"] ?? 0, second: found["second"] ?? 0 };
}

/** The instant of a wall clock's reading; of a reading that occurs twice, the first. */
export function instantOf(parts: Parts, zone: string): number {
  const wall = Date.UTC(parts.year, parts.month - 1, parts.day, parts.hour, parts.minute, parts.second);
  const offset = (ms: number): number => {
    const seen = partsOf(ms, zone);
    return Date.UTC(seen.year, seen.month - 1, seen.day, seen.hour, seen.minute, seen.second) - Math.floor(ms / 1000) * 1000;
  };
  const earliest = wall - Math.max(offset(wall - DAY_MS), offset(wall + DAY_MS));
  return offset(earliest) === wall - earliest ? earliest : wall - Math.min(offset(wall - DAY_MS), offset(wall + DAY_MS));
}

export function startOfDay(ms: number, zone: string, daysLater = 0): number {
  const parts = partsOf(ms, zone);
  return instantOf({ ...parts, day: parts.day + daysLater, hour: 0, minute: 0, second: 0 }, zone);
}

export function startOfMonth(ms: number, zone: string, monthsLater = 0): number {
  const parts = partsOf(ms, zone);
  return instantOf({ ...parts, month: parts.month + monthsLater, day: 1, hour: 0, minute: 0, second: 0 }, zone);
}

/** `22 Nov 2026, 10:31:11` */
export function timeText(iso: string, zone: string): string {
  const at = new Date(iso);
  return `${format(zone, { day: "numeric", month: "short", year: "numeric" }).format(at)}, ${format(zone, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" }).format(at)}`;
}

/** With its microseconds: `22 Nov 2026, 10:31:11.319706` */
export function exactTimeText(iso: string, zone: string): string {
  const fraction = /\.\d+/.exec(iso)?.[0] ?? "";
  return timeText(iso, zone) + fraction;
}

export type Window = "minute" | "5m" | "15m" | "hour" | "day" | "week" | "month" | "quarter" | "year";
export const WINDOWS: readonly Window[] = ["minute", "5m", "15m", "hour", "day", "week", "month", "quarter", "year"];

const MINUTE_MS = 60_000;

/** How long a window is at most. */
export const WINDOW_MS: Readonly<Record<Window, number>> = {
  minute: MINUTE_MS, "5m": 5 * MINUTE_MS, "15m": 15 * MINUTE_MS, hour: HOUR_MS, day: 25 * HOUR_MS, week: 7 * DAY_MS + HOUR_MS, month: 31 * DAY_MS, quarter: 92 * DAY_MS, year: 366 * DAY_MS,
};

/** The same time of the clock so many windows earlier. */
export function stepBack(ms: number, window: Window, count: number, zone: string): number {
  const parts = partsOf(ms, zone);
  const rest = ms - Math.floor(ms / 1000) * 1000;
  switch (window) {
    case "day":
    case "week":
      return instantOf({ ...parts, day: parts.day - count * (window === "day" ? 1 : 7) }, zone) + rest;
    case "month":
    case "quarter":
    case "year": {
      const month = parts.month - count * { month: 1, quarter: 3, year: 12 }[window];
      // 31 March a month earlier is the last day of February.
      const last = new Date(Date.UTC(parts.year, month, 0)).getUTCDate();
      return instantOf({ ...parts, month, day: Math.min(parts.day, last) }, zone) + rest;
    }
    default:
      return ms - count * WINDOW_MS[window];
  }
}

/** What a window is called under a chart. */
export function windowText(iso: string, window: Window | null, zone: string): string {
  const at = new Date(iso);
  switch (window) {
    case "minute":
    case "5m":
    case "15m":
    case "hour":
      return format(zone, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" }).format(at);
    case "month":
    case "quarter":
      return format(zone, { month: "short", year: "numeric" }).format(at);
    case "year":
      return format(zone, { year: "numeric" }).format(at);
    default:
      return format(zone, { weekday: "short", day: "numeric", month: "short" }).format(at);
  }
}

export function clockText(iso: string, zone: string): string {
  return format(zone, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }).format(new Date(iso));
}

export function isMidnight(iso: string, zone: string): boolean {
  const parts = partsOf(Date.parse(iso), zone);
  return parts.hour === 0 && parts.minute === 0 && parts.second === 0;
}

export function dateText(iso: string, zone: string): string {
  return format(zone, { day: "numeric", month: "short", year: "numeric" }).format(new Date(iso));
}

export function dayText(iso: string, zone: string): string {
  return format(zone, { day: "numeric", month: "short" }).format(new Date(iso));
}

export interface Range {
  from: string;
  to: string;
}

export const RANGES: Readonly<Record<string, { name: string; window: Window }>> = {
  "1h": { name: "Last hour", window: "minute" },
  "24h": { name: "Last 24 hours", window: "hour" },
  "7d": { name: "Last 7 days", window: "day" },
  "30d": { name: "Last 30 days", window: "day" },
  "90d": { name: "Last 90 days", window: "week" },
  month: { name: "This month", window: "day" },
  "last-month": { name: "Last month", window: "day" },
  "12mo": { name: "Last 12 months", window: "month" },
};

/** A named range as bounds. Days and months are whole ones of the zone. */
export function rangeOf(name: string, zone: string, nowMs: number): Range {
  const from = ((): number => {
    switch (name) {
      case "1h":
        return nowMs - HOUR_MS;
      case "24h":
        return nowMs - DAY_MS;
      case "7d":
        return startOfDay(nowMs, zone, -6);
      case "90d":
        return startOfDay(nowMs, zone, -89);
      case "month":
        return startOfMonth(nowMs, zone);
      case "last-month":
        return startOfMonth(nowMs, zone, -1);
      case "12mo":
        return startOfMonth(nowMs, zone, -11);
      default:
        return startOfDay(nowMs, zone, -29);
    }
  })();
  const to = name === "last-month" ? startOfMonth(nowMs, zone) : nowMs;
  return { from: new Date(from).toISOString(), to: new Date(to).toISOString() };
}

/** For `<input type="datetime-local">`: the wall clock of the zone. */
export function toInput(iso: string, zone: string): string {
  const parts = partsOf(Date.parse(iso), zone);
  const two = (value: number): string => String(value).padStart(2, "0");
  return `${String(parts.year).padStart(4, "0")}-${two(parts.month)}-${two(parts.day)}T${two(parts.hour)}:${two(parts.minute)}`;
}

export function fromInput(text: string, zone: string): string | null {
  const found = /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d)/.exec(text);
  if (found === null) return null;
  const [year, month, day, hour, minute] = found.slice(1).map(Number) as [number, number, number, number, number];
  return new Date(instantOf({ year, month, day, hour, minute, second: 0 }, zone)).toISOString();
}
