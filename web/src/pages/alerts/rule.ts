/** An alert as it is filled in, and as the server takes it. */

import type { AnswerOf, BodyOf } from "tallystick";

export type Alert = AnswerOf<"GET /v1/alerts">["items"][number];
export type Body = BodyOf<"POST /v1/alerts">;

export interface Rule {
  key: string;
  name: string;
  subject: string;
  customer: string;
  window: string;
  op: string;
  value: string;
  per: string;
  silence: string;
  direction: string;
  sensitivity: string;
  channels: readonly string[];
}

export const BLANK: Rule = { key: "", name: "", subject: "", customer: "*", window: "month", op: "gte", value: "", per: "hour", silence: "PT1H", direction: "up", sensitivity: "medium", channels: [] };

export const OPS: readonly (readonly [string, string])[] = [
  ["gte", "reaches"], ["lte", "is at most"], ["percent_of_limit", "reaches percent of the limit"], ["percent_change", "differs by percent from the window before"],
  ["rate", "is as fast as"], ["silence", "stops for"], ["anomaly", "is unusual"],
];
export const WINDOWS: readonly (readonly [string, string])[] = [
  ["hour", "hour"], ["day", "day"], ["week", "week"], ["month", "month"], ["quarter", "quarter"], ["year", "year"], ["billing", "billing period"],
  ["rolling:PT1H", "last hour"], ["rolling:PT24H", "last 24 hours"], ["rolling:P7D", "last 7 days"],
];

/** Conditions that fit what is watched. */
export function opsOf(subject: string): readonly (readonly [string, string])[] {
  const fits = subject === "credits" ? ["lte", "gte"] : subject === "cost" ? ["gte", "percent_of_limit", "percent_change"] : OPS.map(([op]) => op);
  return OPS.filter(([op]) => fits.includes(op));
}

export function hasWindow(rule: Rule): boolean {
  return rule.subject !== "credits" && rule.op !== "percent_of_limit" && rule.op !== "silence";
}

export function hasValue(rule: Rule): boolean {
  return rule.op !== "silence" && rule.op !== "anomaly";
}

/** As a body; texts stay texts, digit for digit. Null: not filled in yet. */
export function bodyOf(rule: Rule): Body | null {
  const values = rule.value.split(",").map((one) => one.trim()).filter((one) => one !== "");
  if (rule.subject === "" || (hasValue(rule) && values.length === 0)) return null;
  const condition: Record<string, unknown> = { op: rule.op };
  if (hasValue(rule)) Object.assign(condition, values.length === 1 ? { value: values[0] } : { steps: values });
  if (rule.op === "rate") condition["per"] = rule.per;
  if (rule.op === "silence") condition["for"] = rule.silence;
  if (rule.op === "percent_change") condition["direction"] = rule.direction;
  if (rule.op === "anomaly") condition["sensitivity"] = rule.sensitivity;
  const subject = rule.subject === "cost" ? { cost: true } : rule.subject === "credits" ? { credits: true } : { meter: rule.subject.slice("meter ".length) };
  return {
    key: rule.key,
    ...(rule.name === "" ? {} : { name: rule.name }),
    ...subject,
    customer: rule.customer,
    ...(hasWindow(rule) ? { window: rule.window } : {}),
    condition: condition as Body["condition"],
    channels: [...rule.channels],
  };
}

/** An alert in one line of words. The figures in it are the server's own texts. */
export function saidOf(alert: Alert): string {
  const what = alert.meter ?? (alert.cost ? "cost" : alert.credits ? "credits" : (alert.events ?? "").replaceAll("_", " "));
  const { condition } = alert;
  const values = (condition.steps ?? (condition.value === undefined || condition.value === null ? [] : [condition.value])).map(String).join(", ");
  const window = alert.window === null ? "" : ` in the ${WINDOWS.find(([name]) => name === alert.window)?.[1] ?? alert.window}`;
  switch (condition.op) {
    case "gte":
      return `${what} reaches ${values}${window}`;
    case "lte":
      return `${what} is at most ${values}${window}`;
    case "percent_of_limit":
      return `${what} reaches ${values} % of the limit`;
    case "percent_change":
      return `${what} differs by ${values} % from the window before${window}`;
    case "rate":
      return `${what} is as fast as ${values} a ${condition.per ?? "second"}`;
    case "silence":
      return `${what} stops for ${condition.for ?? "a while"}`;
    default:
      return `${what} is unusual${window}`;
  }
}
