/** Taking it elsewhere: files, and the request itself. */

import { useState } from "preact/hooks";
import type { FileType } from "../../files";
import { save } from "../../files";
import { asError } from "../../ask";
import { CopyButton } from "../../components/Copy";
import { Icon } from "../../components/Icon";
import { client } from "../../session";
import { asCurl, asRequest, type Explored } from "./question";

const FILES: readonly [string, FileType, string][] = [
  ["CSV", "text/csv", "csv"],
  ["Parquet", "application/vnd.apache.parquet", "parquet"],
];

export function Send({ explored }: { explored: Explored }) {
  const [busy, setBusy] = useState<string | null>(null);
  const [failure, setFailure] = useState<string | null>(null);
  const fetchFile = async (name: string, type: FileType, ending: string): Promise<void> => {
    setBusy(name);
    setFailure(null);
    try {
      const file = await client.meters.usageFile(explored.meter, asRequest(explored), type);
      save(file, `${explored.meter}-${explored.from.slice(0, 10)}-${explored.window}.${ending}`);
    } catch (error) {
      setFailure(asError(error).message);
    } finally {
      setBusy(null);
    }
  };
  return (
    <>
      {failure && <small class="fault" role="alert">{failure}</small>}
      {FILES.map(([name, type, ending]) => (
        <button key={name} type="button" disabled={busy !== null} onClick={() => fetchFile(name, type, ending)}><Icon name="down" />{busy === name ? "Fetching…" : name}</button>
      ))}
      <CopyButton label="Copy as curl" text={() => asCurl(explored, location.origin, "application/json")} />
    </>
  );
}
