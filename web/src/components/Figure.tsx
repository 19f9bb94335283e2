import type { ComponentChildren } from "preact";

const DECIMAL = /^(-?)(\d+)(\.\d+)?$/;

/**
 * A figure, digit for digit as the server gave it. Thousands are set apart by space alone (CSS), so that the text which is
 * copied, searched and read aloud is the figure itself.
 */
export function Figure({ value, unit, none = "–", own }: {
  value: string | number | null | undefined;
  unit?: string | null;
  /** What stands in the place of a figure that there is not. */
  none?: string;
  /** Computed by these pages, such as a share: the tests hold all others to the API's answers. */
  own?: boolean;
}) {
  const text = value === null || value === undefined ? null : String(value);
  if (text === null) return <span class="figure none">{none}</span>;
  return (
    <span class="figure">
      <span {...(own ? { "data-own": text } : { "data-figure": text })}>{grouped(text)}</span>
      {unit && <span class="unit"> {unit}</span>}
    </span>
  );
}

function grouped(text: string): ComponentChildren {
  const found = DECIMAL.exec(text);
  if (found === null) return text;
  const [, sign = "", whole = "", fraction = ""] = found;
  if (whole.length <= 4) return text;
  const first = whole.length % 3 || 3;
  const groups: ComponentChildren[] = [sign + whole.slice(0, first)];
  for (let at = first; at < whole.length; at += 3) groups.push(<span class="thousand" key={at}>{whole.slice(at, at + 3)}</span>);
  return fraction === "" ? groups : [...groups, fraction];
}

/** `+12.5 %` against before; better or worse is not ours to say, so it has no colour. */
export function Change({ percent }: { percent: string | null | undefined }) {
  if (percent === null || percent === undefined) return <span class="change none">–</span>;
  const down = percent.startsWith("-");
  const flat = /^-?0(\.0*)?$/.test(percent);
  return (
    <span class="change">
      <span aria-hidden="true">{flat ? "=" : down ? "↓" : "↑"} </span>
      <Figure own value={down || flat ? percent : `+${percent}`} unit="%" />
    </span>
  );
}
