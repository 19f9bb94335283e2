import assert from "node:assert/strict";
import { test } from "node:test";
import { NumberText, parse, stringify } from "../src/json.js";

test("digits that a double would change are kept", () => {
  const text = '{"a":0.1234567890123456789,"b":1e400,"c":12345678901234567890,"d":1.50,"e":7}';
  const read = parse(text) as Record<string, unknown>;
  assert.deepEqual(read["a"], new NumberText("0.1234567890123456789"));
  assert.equal(read["e"], 7);
  assert.equal(stringify(read), text);
});

test("what JSON.parse reads, this reads the same", () => {
  for (const text of ["null", "true", '"\\u00e9\\n\\ud83d\\ude00"', "[]", "{}", '[1,-2,0.5,{"x":[null,""]}]', ' { "a" : [ 1 , 2 ] } ', '{"a":{"b":"c"}}']) {
    assert.deepEqual(parse(text), JSON.parse(text), text);
    assert.deepEqual(JSON.parse(stringify(parse(text))), JSON.parse(text), text);
  }
});

test("what is not JSON is refused with its place", () => {
  for (const text of ["", "{", "[1,]", '{"a":1,}', "01", "+1", ".5", "1.", '"a', "nul", "{} x", "'a'", '{"a" 1}', '"\\x"', '"\\u12"', "[".repeat(1000)]) {
    assert.throws(() => parse(text), SyntaxError, text);
  }
});

test("a member called __proto__ is a member", () => {
  const read = parse('{"__proto__":{"polluted":true}}') as object;
  assert.equal((read as { polluted?: boolean }).polluted, undefined);
  assert.equal(stringify(read), '{"__proto__":{"polluted":true}}');
});

test("written with an indent as JSON.stringify does", () => {
  const value = { a: [1, { b: null }], c: "x", d: undefined, e: [], f: {} };
  assert.equal(stringify(value, "  "), JSON.stringify(value, null, 2));
});
