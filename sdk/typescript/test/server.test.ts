/** Against a real server: TALLYSTICK_URL and TALLYSTICK_KEY name it. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { NumberText, Problem, Tallystick } from "../src/index.js";

const url = process.env["TALLYSTICK_URL"] ?? "";
const key = process.env["TALLYSTICK_KEY"] ?? "";
const skip = url === "" ? "TALLYSTICK_URL names no server" : false;
const connected = (): Tallystick => new Tallystick({ url, key });

test("from an event to its usage, exactly", { skip }, async () => {
  const client = connected();
  await client.meters.create({ key: "sdk_tokens", event_type: "sdk.call", aggregation: "sum", value: "$.tokens", dimensions: { model: "$.model" } });
  const data = { tokens: new NumberText("0.1234567890123456789"), model: "a,b" };
  const verdicts = [0, 1, 2].map((number) => client.ingest.add({ id: `sdk-${number}`, type: "sdk.call", subject: "sdk/acme", time: "2026-07-01T00:00:00Z", data }));
  await client.close();
  assert.deepEqual((await Promise.all(verdicts)).map((one) => one.status), ["accepted", "accepted", "accepted"]);

  const again = await client.events.send([{ id: "sdk-0", type: "sdk.call", subject: "sdk/acme", data }], { wait: true });
  assert.equal(again.duplicates, 1);
  const range = { from: "2026-07-01T00:00:00Z", to: "2026-08-01T00:00:00Z" };
  const usage = await client.meters.usage("sdk_tokens", { ...range, group_by: ["customer", "model"] });
  // A reading keeps 18 digits: 0.123456789012345679 three times.
  assert.deepEqual(usage.rows.map((row) => [row.group, row.value]), [[{ customer: "sdk/acme", model: "a,b" }, "0.370370367037037037"]]);
  assert.equal((await client.customers.get("sdk/acme")).key, "sdk/acme");
  const known = await client.events.lookup({ id: "sdk-0" });
  assert.deepEqual((known.data as unknown as typeof data).tokens, data.tokens);
  assert.match(await (await client.meters.usageFile("sdk_tokens", range, "text/csv")).text(), /0\.370370367037037037/);
  const both = await client.usage.query({ meters: { a: { meter: "sdk_tokens" } }, formula: "a * 2", ...range });
  assert.equal(both.rows[0]?.value, "0.740740734074074074");
});

test("a definition and a correction are tried before they are made", { skip }, async () => {
  const client = connected();
  await client.events.send([{ id: "try-1", type: "sdk.try", subject: "acme", data: { n: 5 } }], { wait: true });
  const tried = await client.meters.preview({ key: "x", event_type: "sdk.try", aggregation: "sum", value: "$.n" });
  assert.equal(tried.matched, 1);
  await client.meters.create({ key: "sdk_try", event_type: "sdk.try", aggregation: "sum", value: "$.n" });
  const effect = await client.events.previewCorrection({ replace: [{ specversion: "1.0", id: "try-1", type: "sdk.try", subject: "acme", data: { n: 7 } }] } as never);
  assert.deepEqual([effect.items[0]?.before[0]?.value, effect.items[0]?.after[0]?.value], ["5", "7"]);
  const none = await client.events.previewCorrection({ retract: [{ id: "nowhere" }] });
  assert.equal(none.items[0]?.found, false);
});

test("lists go on page after page", { skip }, async () => {
  const client = connected();
  for (let number = 0; number < 5; number += 1) await client.customers.create({ key: `page-${number}` } as never);
  const found: string[] = [];
  for await (const customer of client.all("GET /v1/customers", { query: { limit: 2 } })) found.push(customer.key);
  assert.deepEqual(found.filter((one) => one.startsWith("page-")).sort(), [0, 1, 2, 3, 4].map((number) => `page-${number}`));
});

test("a refusal says who, why and where", { skip }, async () => {
  const client = new Tallystick({ url, key: "nobody" });
  await assert.rejects(client.meters.list(), (error: Problem) => error instanceof Problem && error.status === 401);
  const right = connected();
  await assert.rejects(right.meters.create({ key: "?", event_type: "", aggregation: "sum" }), (error: Problem) => error.errors.length > 1);
  assert.deepEqual((await right.me()).scopes, ["admin"]);
  assert.equal((await right.health()).components.log.status, "ok");
});

test("what waits is sent when the process ends by itself", { skip }, () => {
  const script = `import { Tallystick } from ${JSON.stringify(new URL("../src/index.js", import.meta.url).href)};
    const client = new Tallystick({ url: ${JSON.stringify(url)}, key: ${JSON.stringify(key)}, ingest: { lingerMs: 3600000 } });
    client.ingest.add({ id: "exit-1", type: "sdk.exit", subject: "acme" }).then((verdict) => console.log(verdict.status));`;
  const run = spawnSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8", timeout: 20_000 });
  assert.equal(run.stdout.trim(), "accepted", run.stderr);
});
