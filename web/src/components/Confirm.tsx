import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { asError } from "../ask";
import { Dialog } from "./Dialog";
import { Failed } from "./States";

/** Ask before something that cannot be taken back; what the server objects to is shown in place. */
export function Confirm({ title, children, verb, danger = true, work, close }: {
  title: string;
  children: ComponentChildren;
  verb: string;
  danger?: boolean;
  work: () => Promise<unknown>;
  /** `done`: it was done. */
  close: (done: boolean) => void;
}) {
  const [failure, setFailure] = useState<Error | null>(null);
  const [busy, setBusy] = useState(false);
  const act = (): void => {
    setBusy(true);
    work().then(
      () => close(true),
      (error: unknown) => {
        setBusy(false);
        setFailure(asError(error));
      },
    );
  };
  return (
    <Dialog title={title} close={() => close(false)}>
      {children}
      {failure && <Failed error={failure} />}
      <div class="actions">
        <button type="button" class={danger ? "danger" : "primary"} disabled={busy} onClick={act}>{verb}</button>
        <button type="button" onClick={() => close(false)}>Cancel</button>
      </div>
    </Dialog>
  );
}
