import assert from "node:assert/strict";
import { test } from "node:test";
import { add, compare, isZero, percent, subtract } from "../src/decimal.js";

test("sums and differences are exact, whatever the digits", () => {
  assert.equal(add("0.1", "0.2"), "0.3");
  assert.equal(add("99999999999999999999.999999999999999999", "0.000000000000000001"), "100000000000000000000");
  assert.equal(subtract("1", "0.000000000000000001"), "0.999999999999999999");
  assert.equal(subtract("0.05", "1"), "-0.95");
  assert.equal(subtract("-1.5", "-1.5"), "0");
  assert.equal(add("-0.5", "0.25"), "-0.25");
});

test("order and zero", () => {
  assert.deepEqual(["2", "-1", "10", "1.50", "1.5"].sort(compare), ["-1", "1.50", "1.5", "2", "10"]);
  for (const zero of ["0", "0.00", "-0"]) assert.ok(isZero(zero), zero);
  for (const not of ["0.01", "10", "-0.5"]) assert.ok(!isZero(not), not);
});

test("percent is rounded half up to one place, of exact figures", () => {
  assert.equal(percent("1", "3"), "33.3");
  assert.equal(percent("2", "3"), "66.7");
  assert.equal(percent("1", "2000"), "0.1"); // 0.05
  assert.equal(percent("-1", "3"), "-33.3");
  assert.equal(percent("5", "-2"), "-250");
  assert.equal(percent("123456789012345678901", "123456789012345678901"), "100");
  assert.equal(percent("1", "0"), null);
});

test("what is no decimal is refused", () => {
  for (const text of ["", "1e5", "NaN", ".5", "1.", "1,000", " 1"]) assert.throws(() => add(text, "1"), RangeError, text);
});
