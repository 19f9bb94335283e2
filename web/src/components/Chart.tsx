/**
 * Bars or lines over windows, as SVG: one path a series, however many windows, so that thousands stay quick. A pointer or the
 * arrow keys choose a window; Enter or a click picks it. The exact figures stand in the table beside every chart.
 */

import { useEffect, useId, useMemo, useRef, useState } from "preact/hooks";
import { pixels } from "../decimal";
import { Figure } from "./Figure";

export interface Series {
  name: string;
  values: readonly (string | null)[];
  /** Drawn in grey: the rest of something. */
  rest?: boolean;
}

const TOP = 10;
const BOTTOM = 26;
const LEFT = 54;
const RIGHT = 8;
const TIPS_MAX = 11;

export function Chart({ series, labels, before, kind, height = 280, unit, title, pick }: {
  series: readonly Series[];
  /** A name for each window. */
  labels: readonly string[];
  /** The same windows of the period before: one dashed line. */
  before?: readonly (string | null)[] | undefined;
  kind: "bars" | "lines";
  height?: number;
  unit?: string | null;
  title: string;
  pick?: ((window: number, series: number | null) => void) | undefined;
}) {
  const box = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  const [at, setAt] = useState<number | null>(null);
  const id = useId();
  useEffect(() => {
    const element = box.current;
    if (element === null) return undefined;
    const observer = new ResizeObserver(() => setWidth(Math.floor(element.clientWidth)));
    observer.observe(element);
    setWidth(Math.floor(element.clientWidth));
    return () => observer.disconnect();
  }, []);

  const count = labels.length;
  const inner = Math.max(1, width - LEFT - RIGHT);
  const step = inner / Math.max(1, count);
  const drawn = useMemo(() => draw(series, before, kind, count, inner, height), [series, before, kind, count, inner, height]);
  const nearest = (clientX: number): number => {
    const left = box.current?.getBoundingClientRect().left ?? 0;
    return Math.min(count - 1, Math.max(0, Math.floor((clientX - left - LEFT) / step)));
  };
  const keys = (event: KeyboardEvent): void => {
    const move = { ArrowRight: 1, ArrowLeft: -1, Home: -count, End: count }[event.key];
    if (move !== undefined) {
      event.preventDefault();
      setAt(Math.min(count - 1, Math.max(0, (at ?? (move > 0 ? -1 : count)) + move)));
    } else if (event.key === "Enter" && at !== null) pick?.(at, null);
    else if (event.key === "Escape") setAt(null);
  };
  const labelEvery = Math.max(1, Math.ceil(count / Math.max(1, Math.floor(inner / 100))));

  return (
    <div class={pick ? "chart pickable" : "chart"} ref={box}>
      {width > 0 && (
        <svg
          width={width}
          height={height}
          role="application"
          aria-roledescription="chart"
          aria-label={`${title}. ${count} windows. Arrow keys choose one${pick ? ", Enter opens its events" : ""}.`}
          aria-describedby={at === null ? undefined : `${id}-tip`}
          tabIndex={0}
          onKeyDown={keys}
          onPointerMove={(event) => count > 0 && setAt(nearest(event.clientX))}
          onPointerLeave={() => setAt(null)}
          onBlur={() => setAt(null)}
          onClick={(event) => count > 0 && pick?.(nearest(event.clientX), seriesAt(series, kind, nearest(event.clientX), event, drawn))}
        >
          <g class="grid">
            {drawn.ticks.map((tick) => (
              <g key={tick.text + tick.y}>
                <line x1={LEFT} x2={width - RIGHT} y1={tick.y} y2={tick.y} />
                <text x={LEFT - 8} y={tick.y + 4} text-anchor="end">{tick.text}</text>
              </g>
            ))}
          </g>
          <g transform={`translate(${LEFT} 0)`}>
            {at !== null && <rect class="cursor" x={at * step} y={TOP} width={step} height={height - TOP - BOTTOM} />}
            {drawn.paths.map((path, index) => (
              <path key={series[index]?.name ?? index} class={`${kind} ${colour(index, series[index]?.rest)}`} d={path} />
            ))}
            {drawn.before !== null && <path class="before" d={drawn.before} />}
          </g>
          <g class="labels">
            {labels.map((label, index) =>
              index % labelEvery === 0 && (
                <text key={index} x={LEFT + index * step + step / 2} y={height - 8} text-anchor={anchor(index, step, inner)}>{label}</text>
              ),
            )}
          </g>
        </svg>
      )}
      {at !== null && at < count && (
        <div id={`${id}-tip`} class={at * step > inner / 2 ? "tip left" : "tip"} style={{ left: `${LEFT + at * step + step / 2}px` }} role="status">
          <strong>{labels[at]}</strong>
          <ul>
            {series.slice(0, TIPS_MAX).map((one, index) => one.values[at] !== undefined && (
              <li key={one.name}>
                <i class={`swatch ${colour(index, one.rest)}`} /><span>{one.name}</span><Figure own={one.rest ?? false} value={one.values[at]} />
              </li>
            ))}
            {before && <li><i class="swatch before" /><span>before</span><Figure value={before[at] ?? null} /></li>}
          </ul>
          {unit && <small>{unit}</small>}
        </div>
      )}
    </div>
  );
}

export function colour(index: number, rest?: boolean): string {
  return rest ? "c-rest" : `c-${index % 10}`;
}

interface Drawn {
  paths: string[];
  before: string | null;
  ticks: { y: number; text: string }[];
  toY: (value: number) => number;
}

function draw(series: readonly Series[], before: readonly (string | null)[] | undefined, kind: "bars" | "lines", count: number, width: number, height: number): Drawn {
  let most = 0;
  let least = 0;
  for (let window = 0; window < count; window += 1) {
    let up = 0;
    let down = 0;
    for (const one of series) {
      const value = pixels(one.values[window] ?? null);
      if (kind === "lines") [up, down] = [Math.max(up, value), Math.min(down, value)];
      else if (value > 0) up += value;
      else down += value;
    }
    const past = pixels(before?.[window] ?? null);
    most = Math.max(most, up, past);
    least = Math.min(least, down, past);
  }
  const scale = steps(least, most);
  const span = scale.to - scale.from || 1;
  const toY = (value: number): number => TOP + (1 - (value - scale.from) / span) * (height - TOP - BOTTOM);
  const step = width / Math.max(1, count);
  const gap = step > 6 ? Math.min(6, step * 0.2) : 0;
  const ups = new Float64Array(count);
  const downs = new Float64Array(count);
  const paths = series.map((one) => {
    let path = "";
    let pen = false;
    for (let window = 0; window < count; window += 1) {
      const text = one.values[window] ?? null;
      if (kind === "lines") {
        if (text === null) {
          pen = false;
          continue;
        }
        path += `${pen ? "L" : "M"}${short(window * step + step / 2)} ${short(toY(pixels(text)))}`;
        if (!pen && (one.values[window + 1] ?? null) === null) path += "h.01"; // alone: a dot
        pen = true;
        continue;
      }
      const value = pixels(text);
      if (value === 0) continue;
      const stack = value > 0 ? ups : downs;
      const base = stack[window] ?? 0;
      stack[window] = base + value;
      const [high, low] = [toY(Math.max(base, base + value)), toY(Math.min(base, base + value))];
      path += `M${short(window * step + gap / 2)} ${short(low)}V${short(high)}h${short(step - gap)}V${short(low)}z`;
    }
    return path;
  });
  const past = before?.map((value, window) => (value === null ? "" : `${window > 0 && before[window - 1] !== null ? "L" : "M"}${short(window * step + step / 2)} ${short(toY(pixels(value)))}`)).join("") ?? null;
  return { paths, before: past, ticks: scale.ticks.map((value) => ({ y: toY(value), text: brief(value) })), toY };
}

/** Which series of a stack of bars the pointer is on. */
function seriesAt(series: readonly Series[], kind: "bars" | "lines", window: number, event: MouseEvent, drawn: Drawn): number | null {
  if (kind !== "bars" || !(event.currentTarget instanceof Element)) return null;
  const y = event.clientY - event.currentTarget.getBoundingClientRect().top;
  let base = 0;
  for (let index = 0; index < series.length; index += 1) {
    const value = pixels(series[index]?.values[window] ?? null);
    if (value > 0 && y <= drawn.toY(base) && y >= drawn.toY(base + value)) return index;
    if (value > 0) base += value;
  }
  return null;
}

function steps(least: number, most: number): { from: number; to: number; ticks: number[] } {
  const span = most - least || 1;
  const raw = span / 4;
  const power = 10 ** Math.floor(Math.log10(raw));
  const size = ([1, 2, 2.5, 5, 10].find((one) => one * power >= raw) ?? 10) * power;
  const from = Math.floor(least / size) * size;
  const to = Math.max(from + size, Math.ceil(most / size) * size);
  const ticks: number[] = [];
  for (let index = 0; from + index * size <= to + size / 2; index += 1) ticks.push(from + index * size);
  return { from, to, ticks };
}

const BRIEF = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

/** A mark on the axis. */
function brief(value: number): string {
  return BRIEF.format(value);
}

function short(value: number): string {
  return value.toFixed(1);
}

function anchor(index: number, step: number, width: number): "start" | "middle" | "end" {
  const middle = index * step + step / 2;
  return middle > width - 30 ? "end" : "middle";
}

/** A small line without axes. */
export function Spark({ values, title }: { values: readonly (string | null)[]; title: string }) {
  const numbers = values.map(pixels);
  const most = Math.max(...numbers, 0);
  const least = Math.min(...numbers, 0);
  const span = most - least || 1;
  const path = numbers.map((value, index) => `${index === 0 ? "M" : "L"}${short((index / Math.max(1, numbers.length - 1)) * 100)} ${short(22 - ((value - least) / span) * 20)}`).join("");
  return <svg class="spark" viewBox="0 0 100 24" preserveAspectRatio="none" role="img" aria-label={title}><path d={path} /></svg>;
}
