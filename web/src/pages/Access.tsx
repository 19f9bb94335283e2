/** API keys, and the tokens of customers' own pages. */

import { useState } from "preact/hooks";
import type { ItemOf } from "tallystick";
import { asError } from "../ask";
import { Code } from "../components/Copy";
import { Dialog } from "../components/Dialog";
import { Field, Select, faultOf } from "../components/Form";
import { Icon } from "../components/Icon";
import { List } from "../components/List";
import { Failed } from "../components/States";
import { Time } from "../components/Times";
import { client } from "../session";

type Key = ItemOf<"GET /v1/api_keys">;
type Token = ItemOf<"GET /v1/portal_tokens">;

const SCOPES = [
  "events:write", "events:read", "usage:read", "meters:read", "meters:write", "customers:read", "customers:write", "limits:check", "limits:write",
  "alerts:read", "alerts:write", "billing:read", "billing:write", "admin",
] as const;

export function Access() {
  const [turn, setTurn] = useState(0);
  const [dialog, setDialog] = useState<"key" | "token" | null>(null);
  const [acting, setActing] = useState<{ title: string; text: string; verb: string; work: () => Promise<string | null> } | null>(null);
  const [secret, setSecret] = useState<string | null>(null);
  const again = (): void => setTurn((before) => before + 1);
  return (
    <main id="main" class="page">
      <h1>Keys and tokens</h1>
      <section class="panel">
        <header><h2>API keys</h2><button type="button" class="primary" onClick={() => setDialog("key")}><Icon name="plus" />New key</button></header>
        <List<Key>
          caption="API keys"
          question={`keys ${turn}`}
          page={(cursor, signal) => client.call("GET /v1/api_keys", { query: { limit: 100, ...(cursor === null ? {} : { cursor }) }, signal })}
          rowKey={(key) => key.id}
          empty="No key"
          columns={[
            { name: "Name", cell: (key) => key.name },
            { name: "Begins with", wide: true, cell: (key) => <code>{key.prefix}</code> },
            { name: "May", cell: (key) => key.scopes.join(", ") },
            { name: "Last used", wide: true, cell: (key) => <Time at={key.last_used_at} /> },
            { name: "State", cell: (key) => (key.revoked_at ? "revoked" : key.expires_at ? <>until <Time at={key.expires_at} /></> : "in force") },
            {
              name: "",
              figure: true,
              cell: (key) => !key.revoked_at && !key.configured && (
                <span class="row-actions">
                  <button type="button" class="link" onClick={() => setActing({
                    title: `New secret for ${key.name}?`, text: "The present secret stops working at once.", verb: "Rotate",
                    work: async () => (await client.call("POST /v1/api_keys/{id}/rotate", { path: { id: key.id } })).secret,
                  })}>Rotate</button>
                  <button type="button" class="link" onClick={() => setActing({
                    title: `Revoke ${key.name}?`, text: "Whoever uses it is refused within a second. This cannot be undone.", verb: "Revoke",
                    work: async () => {
                      await client.call("DELETE /v1/api_keys/{id}", { path: { id: key.id } });
                      return null;
                    },
                  })}>Revoke</button>
                </span>
              ),
            },
          ]}
        />
      </section>
      <section class="panel">
        <header><h2>Customers' tokens</h2><button type="button" onClick={() => setDialog("token")}><Icon name="plus" />New token</button></header>
        <List<Token>
          caption="Tokens of customers"
          question={`tokens ${turn}`}
          page={(cursor, signal) => client.call("GET /v1/portal_tokens", { query: { limit: 100, ...(cursor === null ? {} : { cursor }) }, signal })}
          rowKey={(token) => token.id}
          empty="No token"
          columns={[
            { name: "Customer", cell: (token) => <a href={`/customers/${encodeURIComponent(token.customer)}`}>{token.customer}</a> },
            { name: "May", cell: (token) => token.scopes.join(", ") },
            { name: "State", cell: (token) => (token.revoked_at ? "revoked" : <>until <Time at={token.expires_at} /></>) },
            {
              name: "",
              figure: true,
              cell: (token) => !token.revoked_at && (
                <button type="button" class="link" onClick={() => setActing({
                  title: `Revoke the token of ${token.customer}?`, text: "Its pages are refused within a second.", verb: "Revoke",
                  work: async () => {
                    await client.call("DELETE /v1/portal_tokens/{id}", { path: { id: token.id } });
                    return null;
                  },
                })}>Revoke</button>
              ),
            },
          ]}
        />
      </section>
      {dialog === "key" && <NewKey close={() => setDialog(null)} made={(value) => {
        setDialog(null);
        setSecret(value);
        again();
      }} />}
      {dialog === "token" && <NewToken close={() => setDialog(null)} made={(value) => {
        setDialog(null);
        setSecret(value);
        again();
      }} />}
      {acting !== null && <Sure {...acting} close={() => setActing(null)} done={(value) => {
        setActing(null);
        setSecret(value);
        again();
      }} />}
      {secret !== null && (
        <Dialog title="The secret" close={() => setSecret(null)}>
          <p>It is shown this once. Keep it where secrets are kept.</p>
          <Code text={secret} label="The secret" />
        </Dialog>
      )}
    </main>
  );
}

function Sure({ title, text, verb, work, close, done }: { title: string; text: string; verb: string; work: () => Promise<string | null>; close: () => void; done: (secret: string | null) => void }) {
  const [failure, setFailure] = useState<Error | null>(null);
  return (
    <Dialog title={title} close={close}>
      <p>{text}</p>
      {failure && <Failed error={failure} />}
      <div class="actions">
        <button type="button" class="danger" onClick={() => work().then(done, (error: unknown) => setFailure(asError(error)))}>{verb}</button>
        <button type="button" onClick={close}>Cancel</button>
      </div>
    </Dialog>
  );
}

function NewKey({ close, made }: { close: () => void; made: (secret: string | null) => void }) {
  const [name, setName] = useState("");
  const [scopes, setScopes] = useState<readonly string[]>(["events:write"]);
  const [failure, setFailure] = useState<Error | null>(null);
  const make = (): void => {
    client.call("POST /v1/api_keys", { body: { name, scopes } as never }).then((answer) => made(answer.secret), (error: unknown) => setFailure(asError(error)));
  };
  return (
    <Dialog title="New API key" close={close}>
      <form onSubmit={(event) => {
        event.preventDefault();
        make();
      }}>
        <Field label="Name" hint="What uses it" fault={faultOf(failure, "name")}><input required value={name} onInput={(event) => setName(event.currentTarget.value)} /></Field>
        <fieldset class="checks">
          <legend>It may</legend>
          {SCOPES.map((scope) => (
            <label key={scope}>
              <input type="checkbox" checked={scopes.includes(scope)} onChange={(event) => setScopes(event.currentTarget.checked ? [...scopes, scope] : scopes.filter((one) => one !== scope))} />
              <code>{scope}</code>
            </label>
          ))}
        </fieldset>
        {failure && <Failed error={failure} />}
        <div class="actions"><button type="submit" class="primary" disabled={scopes.length === 0}>Create</button><button type="button" onClick={close}>Cancel</button></div>
      </form>
    </Dialog>
  );
}

const TTLS = [["3600", "an hour"], ["86400", "a day"], ["604800", "a week"]] as const;

function NewToken({ close, made }: { close: () => void; made: (secret: string | null) => void }) {
  const [customer, setCustomer] = useState("");
  const [ttl, setTtl] = useState("3600");
  const [failure, setFailure] = useState<Error | null>(null);
  const make = (): void => {
    client.call("POST /v1/portal_tokens", { body: { customer, ttl_seconds: Number(ttl) } as never }).then((answer) => made(answer.token), (error: unknown) => setFailure(asError(error)));
  };
  return (
    <Dialog title="New token for a customer's pages" close={close}>
      <form onSubmit={(event) => {
        event.preventDefault();
        make();
      }}>
        <Field label="Customer" fault={faultOf(failure, "customer")}><input required value={customer} onInput={(event) => setCustomer(event.currentTarget.value)} /></Field>
        <Field label="Good for"><Select value={ttl} options={TTLS} change={setTtl} /></Field>
        {failure && <Failed error={failure} />}
        <div class="actions"><button type="submit" class="primary">Create</button><button type="button" onClick={close}>Cancel</button></div>
      </form>
    </Dialog>
  );
}
