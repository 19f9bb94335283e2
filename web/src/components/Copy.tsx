import { useEffect, useState } from "preact/hooks";
import { Icon } from "./Icon";

export function CopyButton({ text, label = "Copy", quiet }: { text: string | (() => string); label?: string; quiet?: boolean }) {
  const [done, setDone] = useState<"copied" | "failed" | null>(null);
  useEffect(() => {
    if (done === null) return undefined;
    const timer = setTimeout(() => setDone(null), 1600);
    return () => clearTimeout(timer);
  }, [done]);
  const copy = async (): Promise<void> => {
    setDone((await copied(typeof text === "string" ? text : text())) ? "copied" : "failed");
  };
  const said = done === "copied" ? "Copied" : done === "failed" ? "Select and copy it yourself" : label;
  return (
    <button type="button" class={quiet ? "quiet" : undefined} onClick={copy}>
      <Icon name={done === "copied" ? "check" : "copy"} /><span aria-live="polite">{said}</span>
    </button>
  );
}

async function copied(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Without https the browser has no clipboard for pages; the old way still works there.
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "unseen";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

export function Code({ text, label }: { text: string; label: string }) {
  return (
    <div class="code">
      <CopyButton text={text} quiet label="Copy" />
      <pre tabIndex={0} role="region" aria-label={label}><code>{text}</code></pre>
    </div>
  );
}
