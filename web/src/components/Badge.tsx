const TONES: Readonly<Record<string, string>> = {
  firing: "bad", fired: "bad", dead: "bad", failed: "bad", void: "off", archived: "off", ended: "off", disabled: "off", muted: "off",
  running: "good", retried: "good", waiting: "wait", starting: "wait", paused: "off", discarded: "off", open: "wait",
  grace: "wait", draft: "wait", pending: "wait", scheduled: "wait", hard: "plain", soft: "plain",
  finalized: "good", delivered: "good", sent: "good", ok: "good", recovered: "good", published: "good", active: "good", paid: "good", issued: "good",
};

/** A state in one word. The word says it; the colour only helps. */
export function Badge({ state }: { state: string }) {
  return <span class={`badge ${TONES[state] ?? "plain"}`}>{state}</span>;
}
