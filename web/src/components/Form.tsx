import type { ComponentChildren } from "preact";
import { cloneElement, type VNode } from "preact";
import { useId } from "preact/hooks";
import { Problem, type Fault } from "tallystick";

/** A labelled control with its hint and the server's objection to it. */
export function Field({ label, hint, fault, children, wide }: {
  label: string;
  hint?: ComponentChildren;
  fault?: string | undefined;
  wide?: boolean;
  children: VNode<Record<string, unknown>>;
}) {
  const id = useId();
  const described = [hint && `${id}-hint`, fault && `${id}-fault`].filter(Boolean).join(" ") || undefined;
  return (
    <div class={wide ? "field wide" : "field"}>
      <label for={id}>{label}</label>
      {cloneElement(children, { id, "aria-describedby": described, "aria-invalid": fault !== undefined })}
      {hint && <small id={`${id}-hint`}>{hint}</small>}
      {fault && <small id={`${id}-fault`} class="fault" role="alert">{fault}</small>}
    </div>
  );
}

/** What the server objects to in a member: `/value` or `value`. */
export function faultOf(error: Error | null, name: string): string | undefined {
  if (!(error instanceof Problem)) return undefined;
  return error.errors.find((fault: Fault) => fault.pointer.replace(/^\//, "").split("/")[0] === name)?.detail;
}

export function Select({ value, options, change, ...more }: {
  value: string;
  options: readonly (readonly [string, string])[];
  change: (value: string) => void;
  [attribute: string]: unknown;
}) {
  return (
    <select {...more} value={value} onChange={(event) => change(event.currentTarget.value)}>
      {options.map(([one, name]) => <option key={one} value={one} selected={one === value}>{name}</option>)}
    </select>
  );
}
