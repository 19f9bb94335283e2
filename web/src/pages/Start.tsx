/** From nothing to a first counted event: three ways to send one, and a place that notices when it has come. */

import { useEffect, useState } from "preact/hooks";
import type { ItemOf } from "tallystick";
import { useAsk } from "../ask";
import { Code } from "../components/Copy";
import { Figure } from "../components/Figure";
import { Time } from "../components/Times";
import { client, may } from "../session";
import { withQuery } from "../router";

const LANGUAGES = ["curl", "Python", "JavaScript"] as const;
type Language = (typeof LANGUAGES)[number];
type FoundEvent = ItemOf<"GET /v1/events">;

export function Start() {
  const [language, setLanguage] = useState<Language>("curl");
  const [since] = useState(() => new Date().toISOString());
  const [id] = useState(() => `first-${Date.now().toString(36)}`);
  const origin = location.origin;
  const came = useAsk("first", (signal) => newest(since, signal), 1000);
  const first = came.answer;
  return (
    <main id="main" class="page narrow">
      <h1>Your first event</h1>
      <ol class="steps">
        <li>
          <h2>Make a meter</h2>
          <p>It says what is counted: here, the member <code>tokens</code> of events of the type <code>llm.completion</code>. It counts what came before it, too.</p>
          <MakeMeter />
        </li>
        <li>
          <h2>Send an event</h2>
          <div class="tabs" role="tablist" aria-label="Language">
            {LANGUAGES.map((one) => (
              <button key={one} type="button" role="tab" aria-selected={one === language} onClick={() => setLanguage(one)}>{one}</button>
            ))}
          </div>
          <Code label={`The first event, in ${language}`} text={example(language, origin, id)} />
          <p class="muted">Put your key in the place of <code>$TALLYSTICK_KEY</code>. Sent twice, it is counted once: its identity is source and id.</p>
        </li>
        <li>
          <h2>See it arrive</h2>
          <div class={first ? "arrival arrived" : "arrival"} role="status">
            {first === null || first === undefined ? (
              <p><span class="pulse" aria-hidden="true" />Waiting for an event…</p>
            ) : (
              <>
                <p><strong>It is here, and it counts.</strong></p>
                <p><code>{first.id}</code> of <code>{first.subject}</code>, recorded <Time at={first.recorded_at} exact /></p>
                <p>
                  <a class="button" href={withQuery("/events", { event: first.id, event_source: first.source })}>Everything known of it</a>{" "}
                  <a class="button primary" href="/explore">Explore usage</a>
                </p>
              </>
            )}
          </div>
        </li>
      </ol>
    </main>
  );
}

/** The latest event recorded since. */
async function newest(since: string, signal: AbortSignal): Promise<FoundEvent | null> {
  const page = await client.events.search({ limit: 1 }, signal);
  const event = page.items[0];
  return event !== undefined && event.recorded_at >= since ? event : null;
}

function MakeMeter() {
  const [turn, setTurn] = useState(0);
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<string | null>(null);
  const asked = useAsk(`meters ${turn}`, () => client.meters.list({ limit: 5 }));
  useEffect(() => setBusy(false), [turn]);
  const make = async (): Promise<void> => {
    setBusy(true);
    setFailure(null);
    try {
      await client.meters.create({
        key: "tokens", name: "LLM tokens", event_type: "llm.completion", aggregation: "sum", value: "$.tokens",
        dimensions: { model: "$.model" }, unit: "token",
      });
    } catch (error) {
      setFailure(error instanceof Error ? error.message : String(error));
    }
    setTurn((before) => before + 1);
  };
  const meters = asked.answer?.items ?? [];
  if (meters.length > 0) {
    return <p class="done">You have {meters.length === 1 ? "a meter" : <><Figure own value={meters.length} />{asked.answer?.next_cursor ? "+" : ""} meters</>}: {meters.map((meter) => meter.key).join(", ")}.</p>;
  }
  if (!may("meters:write")) return <p>This key may not make meters; use one with the scope <code>meters:write</code>.</p>;
  return (
    <p>
      <button type="button" class="primary" disabled={busy} onClick={make}>Make the meter “tokens”</button>{" "}
      <a class="button" href="/meters/new">Define one of your own</a>
      {failure && <small class="fault" role="alert"> {failure}</small>}
    </p>
  );
}

export function example(language: Language, origin: string, id: string): string {
  if (language === "curl") {
    return `curl -s '${origin}/v1/events?wait=recorded' \\
  -H "Authorization: Bearer $TALLYSTICK_KEY" \\
  -H 'Content-Type: application/json' \\
  -d '{"id": "${id}", "type": "llm.completion", "subject": "acme",
       "data": {"model": "atlas", "tokens": 1234}}'`;
  }
  if (language === "Python") {
    return `import json, os, urllib.request

event = {"id": "${id}", "type": "llm.completion", "subject": "acme",
         "data": {"model": "atlas", "tokens": 1234}}
request = urllib.request.Request(
    "${origin}/v1/events?wait=recorded",
    data=json.dumps(event).encode(),
    headers={"Authorization": f"Bearer {os.environ['TALLYSTICK_KEY']}",
             "Content-Type": "application/json"},
)
print(urllib.request.urlopen(request).read().decode())`;
  }
  return `const answer = await fetch("${origin}/v1/events?wait=recorded", {
  method: "POST",
  headers: {
    Authorization: \`Bearer \${process.env.TALLYSTICK_KEY}\`,
    "Content-Type": "application/json",
  },
  body: JSON.stringify({
    id: "${id}", type: "llm.completion", subject: "acme",
    data: { model: "atlas", tokens: 1234 },
  }),
});
console.log(await answer.json());`;
}
