import assert from "node:assert/strict";
import { test } from "node:test";
import { exactTimeText, fromInput, instantOf, isZone, partsOf, rangeOf, startOfDay, startOfMonth, stepBack, toInput, windowText } from "../src/time.js";

const at = (text: string): number => Date.parse(text);
const iso = (ms: number): string => new Date(ms).toISOString();

test("days and months begin where the zone's do, also where the clock is changed", () => {
  // Berlin goes to summer time on 29 March 2026 at 01:00 UTC and back on 25 October.
  assert.equal(iso(startOfDay(at("2026-03-29T12:00:00Z"), "Europe/Berlin")), "2026-03-28T23:00:00.000Z");
  assert.equal(iso(startOfDay(at("2026-03-29T12:00:00Z"), "Europe/Berlin", 1)), "2026-03-29T22:00:00.000Z");
  assert.equal(iso(startOfDay(at("2026-10-25T12:00:00Z"), "Europe/Berlin", 1)), "2026-10-25T23:00:00.000Z");
  assert.equal(iso(startOfMonth(at("2026-01-15T00:00:00Z"), "Asia/Kathmandu", -1)), "2025-11-30T18:15:00.000Z");
  assert.equal(iso(startOfDay(at("2026-07-01T00:30:00Z"), "America/New_York")), "2026-06-30T04:00:00.000Z");
});

test("a time that occurs twice is its first, one that is left out comes after the gap", () => {
  const hour = (hour: number, minute = 0) => ({ year: 2026, month: 10, day: 25, hour, minute, second: 0 });
  assert.equal(iso(instantOf(hour(2, 30), "Europe/Berlin")), "2026-10-25T00:30:00.000Z");
  const gap = { year: 2026, month: 3, day: 29, hour: 2, minute: 30, second: 0 };
  assert.equal(partsOf(instantOf(gap, "Europe/Berlin"), "Europe/Berlin").hour, 3);
});

test("every instant of a year is found again from its clock, or its twin an hour earlier", () => {
  for (const zone of ["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia", "UTC"]) {
    for (let ms = at("2026-01-01T00:00:00Z"); ms < at("2027-01-01T00:00:00Z"); ms += 5_413_000) {
      const found = instantOf(partsOf(ms, zone), zone);
      assert.deepEqual(partsOf(found, zone), partsOf(ms, zone), `${zone} ${iso(ms)}`);
      assert.ok(ms - found === 0 || ms - found === 3_600_000 || ms - found === 1_800_000, `${zone} ${iso(ms)}`);
    }
  }
});

test("the period before has the same clock", () => {
  assert.equal(iso(stepBack(at("2026-03-31T10:00:00Z"), "month", 1, "UTC")), "2026-02-28T10:00:00.000Z");
  assert.equal(iso(stepBack(at("2026-03-30T22:00:00Z"), "day", 3, "Europe/Berlin")), "2026-03-27T23:00:00.000Z");
  assert.equal(iso(stepBack(at("2026-03-30T22:00:00.250Z"), "hour", 3, "Europe/Berlin")), "2026-03-30T19:00:00.250Z");
  assert.equal(iso(stepBack(at("2024-02-29T00:00:00Z"), "year", 1, "UTC")), "2023-02-28T00:00:00.000Z");
});

test("named ranges end now, and begin with a whole day or month", () => {
  const now = at("2026-07-15T12:34:56Z");
  assert.deepEqual(rangeOf("7d", "UTC", now), { from: "2026-07-09T00:00:00.000Z", to: "2026-07-15T12:34:56.000Z" });
  assert.deepEqual(rangeOf("last-month", "UTC", now), { from: "2026-06-01T00:00:00.000Z", to: "2026-07-01T00:00:00.000Z" });
  assert.equal(rangeOf("24h", "Asia/Tokyo", now).from, "2026-07-14T12:34:56.000Z");
});

test("times are shown with the digits the server gave, and read as they are shown", () => {
  assert.equal(exactTimeText("2026-07-01T22:00:00.123456Z", "Europe/Berlin"), "2 Jul 2026, 00:00:00.123456");
  assert.equal(fromInput(toInput("2026-07-01T22:00:00Z", "Europe/Berlin"), "Europe/Berlin"), "2026-07-01T22:00:00.000Z");
  assert.match(windowText("2026-06-30T22:00:00Z", "day", "Europe/Berlin"), /^Wed,? 1 Jul$/);
  assert.ok(isZone("Europe/Berlin") && !isZone("Mars/Base") && !isZone(""));
});
