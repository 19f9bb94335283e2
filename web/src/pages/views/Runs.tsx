/** What became of each time a report was due, or sent by hand. */

import { useState } from "preact/hooks";
import type { ItemOf } from "tallystick";
import { asError } from "../../ask";
import { Badge } from "../../components/Badge";
import { Dialog } from "../../components/Dialog";
import { Figure } from "../../components/Figure";
import { List } from "../../components/List";
import { Failed } from "../../components/States";
import { Time } from "../../components/Times";
import { save } from "../../files";
import { client, may } from "../../session";

type Run = ItemOf<"GET /v1/reports/{key}/runs">;

export function Runs({ report, close }: { report: string; close: () => void }) {
  const [failure, setFailure] = useState<Error | null>(null);
  const fetchFile = (run: Run): void => {
    setFailure(null);
    client.file("GET /v1/reports/{key}/runs/{id}/file", { path: { key: report, id: run.id } }, run.file?.media_type ?? "text/csv").then(
      (file) => save(file, run.file?.name ?? run.id),
      (error: unknown) => setFailure(asError(error)),
    );
  };
  return (
    <Dialog drawer title={`Runs of ${report}`} close={close}>
      {failure && <Failed error={failure} />}
      <List<Run>
        caption="Runs"
        question={`runs ${report}`}
        page={(cursor, signal) => client.call("GET /v1/reports/{key}/runs", { path: { key: report }, query: { limit: 50, ...(cursor === null ? {} : { cursor }) }, signal })}
        rowKey={(run) => run.id}
        empty="It was not sent yet"
        columns={[
          { name: "Due", cell: (run) => <Time at={run.due_at} /> },
          { name: "", cell: (run) => <>{run.kind === "manual" ? "by hand" : "by itself"}{run.missed > 0 && <small class="muted"> <Figure value={run.missed} /> before it missed</small>}</> },
          { name: "", cell: (run) => <><Badge state={run.status} />{run.detail !== null && <small class="fault"> {run.detail}</small>}</> },
          {
            name: "", figure: true, cell: (run) => (
              <span class="row-actions">
                {run.file?.kept && may("usage:read") && <button type="button" class="link" onClick={() => fetchFile(run)}>File</button>}
                {run.delivery !== null && <a href={`/channels?delivery=${encodeURIComponent(run.delivery)}`}>Delivery</a>}
              </span>
            ),
          },
        ]}
      />
    </Dialog>
  );
}
