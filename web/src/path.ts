/** RFC 9535 singular paths (`$.model`, `$['a b'][0]`) into an event's data, as meters name their dimensions. */

import { NumberText, type Json } from "tallystick";

const STEP = /\.([A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)|\[(-?\d+)\]|\['((?:[^'\\]|\\.)*)'\]|\["((?:[^"\\]|\\.)*)"\]/y;

export function valueAt(path: string, data: Json): Json | undefined {
  let value: Json | undefined = data;
  let at = 1;
  while (at < path.length) {
    STEP.lastIndex = at;
    const found = STEP.exec(path);
    if (found === null || value === undefined || value === null || typeof value !== "object" || value instanceof NumberText) return undefined;
    at += found[0].length;
    if (found[2] !== undefined) value = Array.isArray(value) ? value.at(Number(found[2])) : undefined;
    else {
      const name = found[1] ?? (found[3] ?? found[4] ?? "").replace(/\\(.)/g, "$1");
      value = Array.isArray(value) || !Object.hasOwn(value, name) ? undefined : value[name];
    }
  }
  return value;
}

/** A dimension's text; null where there is none. */
export function dimensionText(value: Json | undefined): string | null {
  if (value === undefined || value === null || (typeof value === "object" && !(value instanceof NumberText))) return null;
  return String(value);
}
