/** Where alerts and reports go, and everything that was sent. */

import { useState } from "preact/hooks";
import type { BodyOf, ItemOf } from "tallystick";
import { asError } from "../../ask";
import { Badge } from "../../components/Badge";
import { Confirm } from "../../components/Confirm";
import { Code } from "../../components/Copy";
import { Dialog } from "../../components/Dialog";
import { Field, faultOf, Select } from "../../components/Form";
import { Icon } from "../../components/Icon";
import { List } from "../../components/List";
import { Failed } from "../../components/States";
import { Time } from "../../components/Times";
import { useQuery } from "../../router";
import { client, may } from "../../session";
import { Deliveries } from "./Deliveries";

type Channel = ItemOf<"GET /v1/channels">;

export function ChannelList({ customer }: { customer: string | null }) {
  const [, setQuery] = useQuery();
  const [turn, setTurn] = useState(0);
  const [making, setMaking] = useState(false);
  const [secret, setSecret] = useState<string | null>(null);
  const [removing, setRemoving] = useState<Channel | null>(null);
  const [failure, setFailure] = useState<Error | null>(null);
  const test = (channel: Channel): void => {
    setFailure(null);
    client.call("POST /v1/channels/{key}/test", { path: { key: channel.key } }).then(
      (delivery) => {
        setTurn((before) => before + 1);
        setQuery({ delivery: delivery.id });
      },
      (error: unknown) => setFailure(asError(error)),
    );
  };
  return (
    <>
      <section class="panel">
        <header>
          <h2>Channels</h2>
          {may("alerts:write") && <button type="button" onClick={() => setMaking(true)}><Icon name="plus" />New channel</button>}
        </header>
        {failure && <Failed error={failure} />}
        <List<Channel>
          caption="Channels"
          question={`channels ${turn}`}
          page={(cursor) => client.channels.list({ limit: 100, ...(cursor === null ? {} : { cursor }) })}
          rowKey={(channel) => `${channel.customer} ${channel.key}`}
          empty="No channel yet"
          columns={[
            { name: "Channel", cell: (channel) => channel.name || channel.key },
            { name: "Kind", cell: (channel) => channel.type },
            { name: "To", wide: true, cell: (channel) => <span class="address">{channel.url ?? channel.to.join(", ")}</span> },
            ...(customer === null ? [{ name: "Of", wide: true, cell: (channel: Channel) => channel.customer ?? "us" }] : []),
            { name: "Since", wide: true, cell: (channel) => <Time at={channel.created_at} /> },
            { name: "", cell: (channel) => channel.enabled ? null : <><Badge state="disabled" /> {channel.disabled_reason}</> },
            {
              name: "", figure: true, cell: (channel) => may("alerts:write") && (
                <span class="row-actions">
                  <button type="button" class="link" onClick={() => test(channel)}>Test</button>
                  <button type="button" class="link" onClick={() => setRemoving(channel)}>Delete…</button>
                </span>
              ),
            },
          ]}
        />
      </section>
      <Deliveries turn={turn} />
      {making && <NewChannel customer={customer} close={() => setMaking(false)} made={(value) => {
        setMaking(false);
        setTurn(turn + 1);
        setSecret(value);
      }} />}
      {removing !== null && (
        <Confirm title={`Delete ${removing.key}?`} verb="Delete" work={() => client.channels.remove(removing.key)} close={(done) => {
          setRemoving(null);
          if (done) setTurn(turn + 1);
        }}>
          <p>Nothing is sent to it any more.</p>
        </Confirm>
      )}
      {secret !== null && (
        <Dialog title="The secret" close={() => setSecret(null)}>
          <p>Deliveries are signed with it. It is shown this once.</p>
          <Code text={secret} label="The secret" />
        </Dialog>
      )}
    </>
  );
}

const KINDS = [["webhook", "webhook"], ["email", "email"], ["slack", "Slack"]] as const;

function NewChannel({ customer, close, made }: { customer: string | null; close: () => void; made: (secret: string | null) => void }) {
  const [key, setKey] = useState("");
  const [name, setName] = useState("");
  const [type, setType] = useState<"webhook" | "email" | "slack">("webhook");
  const [to, setTo] = useState("");
  const [failure, setFailure] = useState<Error | null>(null);
  const make = (): void => {
    const target = type === "email" ? { to: to.split(",").map((one) => one.trim()).filter((one) => one !== "") } : { url: to };
    const body: BodyOf<"POST /v1/channels"> = { key, type, ...target, ...(name === "" ? {} : { name }), ...(customer === null ? {} : { customer }) };
    client.call("POST /v1/channels", { body }).then((channel) => made(channel.secret), (error: unknown) => setFailure(asError(error)));
  };
  return (
    <Dialog title="New channel" close={close}>
      <form onSubmit={(event) => {
        event.preventDefault();
        make();
      }}>
        <Field label="Key" fault={faultOf(failure, "key")}><input required spellcheck={false} value={key} onInput={(event) => setKey(event.currentTarget.value)} /></Field>
        <Field label="Name" fault={faultOf(failure, "name")}><input value={name} onInput={(event) => setName(event.currentTarget.value)} /></Field>
        <Field label="Kind" fault={faultOf(failure, "type")}><Select value={type} options={KINDS} change={(value) => setType(value as typeof type)} /></Field>
        <Field label={type === "email" ? "Addresses" : "URL"} hint={type === "email" ? "Separated by commas" : undefined} fault={faultOf(failure, "url") ?? faultOf(failure, "to")}>
          <input required spellcheck={false} value={to} onInput={(event) => setTo(event.currentTarget.value)} />
        </Field>
        {failure && <Failed error={failure} />}
        <div class="actions"><button type="submit" class="primary">Create</button><button type="button" onClick={close}>Cancel</button></div>
      </form>
    </Dialog>
  );
}
