import { pixels } from "../decimal";

/** How much of an amount is used. A picture only: the figures stand beside it. */
export function Meterbar({ used, of, label }: { used: string | null; of: string | null; label: string }) {
  const whole = pixels(of);
  const share = whole <= 0 ? (pixels(used) > 0 ? 1 : 0) : Math.min(1, Math.max(0, pixels(used) / whole));
  return (
    <span class={share >= 1 ? "meterbar full" : share >= 0.8 ? "meterbar near" : "meterbar"} role="img" aria-label={label}>
      <span style={{ width: `${Math.round(share * 1000) / 10}%` }} />
    </span>
  );
}
