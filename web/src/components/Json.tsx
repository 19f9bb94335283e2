import { stringifyJson } from "tallystick";

/** JSON as it is, every digit of it, as text. */
export function Json({ value, label }: { value: unknown; label: string }) {
  return <pre class="json" tabIndex={0} role="region" aria-label={label}><code>{stringifyJson(value, "  ")}</code></pre>;
}
