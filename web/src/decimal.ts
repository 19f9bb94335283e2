/** Exact decimals, as the server writes them: texts in, texts out. A double is made for pixels alone. */

interface Parts {
  digits: bigint;
  /** Digits after the point. */
  scale: number;
}

const DECIMAL = /^(-?)(\d+)(?:\.(\d+))?$/;

function read(text: string): Parts {
  const found = DECIMAL.exec(text);
  if (found === null) throw new RangeError(`${text} is no decimal`);
  const [, sign, whole, fraction = ""] = found;
  return { digits: BigInt(`${sign}${whole}${fraction}`), scale: fraction.length };
}

function aligned(left: string, right: string): [bigint, bigint, number] {
  const [a, b] = [read(left), read(right)];
  const scale = Math.max(a.scale, b.scale);
  return [a.digits * 10n ** BigInt(scale - a.scale), b.digits * 10n ** BigInt(scale - b.scale), scale];
}

function written(digits: bigint, scale: number): string {
  const negative = digits < 0n;
  const text = (negative ? -digits : digits).toString().padStart(scale + 1, "0");
  const whole = text.slice(0, text.length - scale);
  const fraction = scale === 0 ? "" : text.slice(-scale).replace(/0+$/, "");
  return `${negative ? "-" : ""}${whole}${fraction === "" ? "" : `.${fraction}`}`;
}

export function add(left: string, right: string): string {
  const [a, b, scale] = aligned(left, right);
  return written(a + b, scale);
}

export function subtract(left: string, right: string): string {
  const [a, b, scale] = aligned(left, right);
  return written(a - b, scale);
}

export function compare(left: string, right: string): number {
  const [a, b] = aligned(left, right);
  return a < b ? -1 : a > b ? 1 : 0;
}

export function isZero(text: string): boolean {
  return /^-?0*\.?0*$/.test(text);
}

/** `change` of `before` in percent, rounded to one place; null where `before` is 0. */
export function percent(part: string, whole: string): string | null {
  const [a, b] = aligned(part, whole);
  if (b === 0n) return null;
  const tenths = ((a < 0n ? -a : a) * 2000n + (b < 0n ? -b : b)) / (2n * (b < 0n ? -b : b));
  return written(a < 0n !== b < 0n ? -tenths : tenths, 1);
}

/** For the place of a pixel. Never shown. */
export function pixels(text: string | null): number {
  return text === null ? 0 : Number(text);
}
