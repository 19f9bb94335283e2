/** What was sent, each attempt with its request and answer. */

import { useState } from "preact/hooks";
import type { ItemOf } from "tallystick";
import { asError, useAsk } from "../../ask";
import { Badge } from "../../components/Badge";
import { Dialog } from "../../components/Dialog";
import { Figure } from "../../components/Figure";
import { Select } from "../../components/Form";
import { Json } from "../../components/Json";
import { List } from "../../components/List";
import { Answered, Failed } from "../../components/States";
import { Time } from "../../components/Times";
import { useQuery } from "../../router";
import { client, may } from "../../session";

type Delivery = ItemOf<"GET /v1/deliveries">;
const STATES = [["", "all"], ["pending", "pending"], ["delivered", "delivered"], ["dead", "dead"]] as const;

export function Deliveries({ turn }: { turn: number }) {
  const [query, setQuery] = useQuery();
  const [again, setAgain] = useState(0);
  const status = query.get("status") ?? "";
  const open = query.get("delivery");
  return (
    <section class="panel">
      <header>
        <h2>Deliveries</h2>
        <Select aria-label="State" value={status} options={STATES} change={(value) => setQuery({ status: value })} />
      </header>
      <List<Delivery>
        caption="Deliveries"
        question={`deliveries ${status} ${turn} ${again}`}
        page={(cursor, signal) => client.call("GET /v1/deliveries", { query: { limit: 50, ...(status === "" ? {} : { status: status as "pending" }), ...(cursor === null ? {} : { cursor }) }, signal })}
        rowKey={(one) => one.id}
        pick={(one) => setQuery({ delivery: one.id })}
        picked={(one) => one.id === open}
        empty="Nothing was sent"
        columns={[
          { name: "When", cell: (one) => <Time at={one.created_at} /> },
          { name: "What", cell: (one) => <button type="button" class="link" onClick={() => setQuery({ delivery: one.id })}>{one.summary || one.kind}</button> },
          { name: "Channel", wide: true, cell: (one) => one.channel },
          { name: "State", cell: (one) => <Badge state={one.status} /> },
          { name: "Attempts", figure: true, wide: true, cell: (one) => <Figure value={one.attempt_count} /> },
          { name: "Answer", figure: true, wide: true, cell: (one) => one.last_status === null ? (one.last_error ?? "–") : <Figure value={one.last_status} /> },
        ]}
      />
      {open !== null && <Detail id={open} close={() => setQuery({ delivery: null })} resent={() => setAgain(again + 1)} />}
    </section>
  );
}

function Detail({ id, close, resent }: { id: string; close: () => void; resent: () => void }) {
  const [failure, setFailure] = useState<Error | null>(null);
  const [turn, setTurn] = useState(0);
  const asked = useAsk(`delivery ${id} ${turn}`, () => client.call("GET /v1/deliveries/{id}", { path: { id } }), 5000);
  const resend = (): void => {
    setFailure(null);
    client.call("POST /v1/deliveries/{id}/resend", { path: { id } }).then(
      () => {
        setTurn(turn + 1);
        resent();
      },
      (error: unknown) => setFailure(asError(error)),
    );
  };
  return (
    <Dialog drawer title="Delivery" close={close}>
      <Answered of={asked}>
        {(delivery) => (
          <>
            <p>{delivery.summary}</p>
            <dl class="facts">
              <dt>State</dt><dd><Badge state={delivery.status} /></dd>
              <dt>Channel</dt><dd>{delivery.channel}</dd>
              <dt>Made</dt><dd><Time at={delivery.created_at} exact /></dd>
              {delivery.next_attempt_at && <><dt>Next attempt</dt><dd><Time at={delivery.next_attempt_at} /></dd></>}
            </dl>
            {may("alerts:write") && <div class="actions"><button type="button" onClick={resend}>Send again</button></div>}
            {failure && <Failed error={failure} />}
            <h3>What is sent</h3>
            <Json value={delivery.payload} label="What is sent" />
            {delivery.attempts.map((one) => (
              <section key={one.attempt} class="attempt">
                <h3>Attempt <Figure value={one.attempt} /></h3>
                <p><Time at={one.at} exact />, <Figure value={one.duration_ms} unit="ms" />, {one.status === null ? <Badge state="failed" /> : <>answered <Figure value={one.status} /></>}</p>
                <p class="address"><code>{one.target}</code></p>
                {(one.error || one.detail) && <p class="fault">{[one.error, one.detail].filter(Boolean).join(": ")}</p>}
                {Object.keys(one.request_headers).length > 0 && <details><summary>Headers of the request</summary><Json value={one.request_headers} label="Headers of the request" /></details>}
                {one.status !== null && <details open={one.status >= 300}><summary>Answer</summary><Json value={one.answer_headers} label="Headers of the answer" /><pre class="json" tabIndex={0} role="region" aria-label="Answer"><code>{one.answer}</code></pre></details>}
              </section>
            ))}
          </>
        )}
      </Answered>
    </Dialog>
  );
}
