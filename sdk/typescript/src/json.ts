/**
 * JSON that keeps every digit. `JSON.parse` reads `0.1234567890123456789` as a double and forgets the rest; an event's
 * `data` must come back as it was sent. Numbers that a double holds exactly as written stay numbers; all others become a
 * `NumberText`.
 */

export type Json = null | boolean | number | string | NumberText | Json[] | { [name: string]: Json };

/** A number with its digits as they stand in the text. */
export class NumberText {
  constructor(readonly text: string) {}

  toString(): string {
    return this.text;
  }
}

const DEPTH_MAX = 512;
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const PLAIN = /[^"\\\u0000-\u001f]*/y;
const SPACE = /[ \t\r\n]*/y;
const ESCAPES: Record<string, string> = {
  '"': '"', "\\": "\\", "/": "/", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t",
};

/** Read a JSON text (RFC 8259). Throws SyntaxError with the place. */
export function parse(text: string): Json {
  const reader = new Reader(text);
  const value = reader.value(0);
  reader.end();
  return value;
}

/** Write it again: a `NumberText` as its digits. `undefined` members are left out. */
export function stringify(value: unknown, indent = ""): string {
  return write(value, indent, "") ?? "null";
}

class Reader {
  private at = 0;

  constructor(private readonly text: string) {}

  value(depth: number): Json {
    if (depth > DEPTH_MAX) throw this.wrong("nested too deeply");
    this.space();
    switch (this.text[this.at]) {
      case "{":
        return this.object(depth);
      case "[":
        return this.array(depth);
      case '"':
        return this.string();
      case "t":
        return this.word("true", true);
      case "f":
        return this.word("false", false);
      case "n":
        return this.word("null", null);
      default:
        return this.number();
    }
  }

  end(): void {
    this.space();
    if (this.at < this.text.length) throw this.wrong("text after the value");
  }

  private object(depth: number): Json {
    const made: { [name: string]: Json } = {};
    this.at += 1;
    this.space();
    if (this.took("}")) return made;
    do {
      this.space();
      if (this.text[this.at] !== '"') throw this.wrong("a name was expected");
      const name = this.string();
      this.space();
      if (!this.took(":")) throw this.wrong("a colon was expected");
      const value = this.value(depth + 1);
      // An assignment to `__proto__` would set the prototype instead of a member.
      if (name === "__proto__") Object.defineProperty(made, name, { value, enumerable: true, configurable: true, writable: true });
      else made[name] = value;
      this.space();
    } while (this.took(","));
    if (!this.took("}")) throw this.wrong("a comma or } was expected");
    return made;
  }

  private array(depth: number): Json {
    const made: Json[] = [];
    this.at += 1;
    this.space();
    if (this.took("]")) return made;
    do {
      made.push(this.value(depth + 1));
      this.space();
    } while (this.took(","));
    if (!this.took("]")) throw this.wrong("a comma or ] was expected");
    return made;
  }

  private string(): string {
    let made = "";
    this.at += 1;
    for (;;) {
      made += this.run(PLAIN);
      const next = this.text[this.at];
      if (next === '"') {
        this.at += 1;
        return made;
      }
      if (next !== "\\") throw this.wrong("the string does not end");
      const letter = this.text[this.at + 1] ?? "";
      if (letter === "u") {
        const digits = this.text.slice(this.at + 2, this.at + 6);
        if (!/^[0-9a-fA-F]{4}$/.test(digits)) throw this.wrong("\\u needs four digits");
        made += String.fromCharCode(Number.parseInt(digits, 16));
        this.at += 6;
      } else {
        const meant = ESCAPES[letter];
        if (meant === undefined) throw this.wrong("an unknown escape");
        made += meant;
        this.at += 2;
      }
    }
  }

  private number(): number | NumberText {
    const digits = this.run(NUMBER);
    if (digits === "") throw this.wrong("a value was expected");
    const double = Number(digits);
    return String(double) === digits ? double : new NumberText(digits);
  }

  private word<T>(word: string, value: T): T {
    if (!this.text.startsWith(word, this.at)) throw this.wrong("a value was expected");
    this.at += word.length;
    return value;
  }

  private took(character: string): boolean {
    if (this.text[this.at] !== character) return false;
    this.at += 1;
    return true;
  }

  private space(): void {
    this.run(SPACE);
  }

  private run(pattern: RegExp): string {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text)?.[0] ?? "";
    this.at += found.length;
    return found;
  }

  private wrong(why: string): SyntaxError {
    return new SyntaxError(`Not JSON at character ${this.at}: ${why}`);
  }
}

function write(value: unknown, indent: string, margin: string): string | undefined {
  if (value instanceof NumberText) return value.text;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  if (typeof (value as { toJSON?: unknown }).toJSON === "function") return JSON.stringify(value);
  const inner = margin + indent;
  const [line, end] = indent === "" ? ["", ""] : [`\n${inner}`, `\n${margin}`];
  if (Array.isArray(value)) {
    if (value.length === 0) return "[]";
    return `[${value.map((one) => line + (write(one, indent, inner) ?? "null")).join(",")}${end}]`;
  }
  const colon = indent === "" ? ":" : ": ";
  const members: string[] = [];
  for (const [name, one] of Object.entries(value)) {
    const written = write(one, indent, inner);
    if (written !== undefined) members.push(`${line}${JSON.stringify(name)}${colon}${written}`);
  }
  return members.length === 0 ? "{}" : `{${members.join(",")}${end}}`;
}
