/** A customer's own pages: a token opens them, and they show that customer alone. */

import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { asError, useAsk } from "../ask";
import { Tally } from "../components/Frame";
import { ZoneField } from "../components/ZoneField";
import { Empty, Failed, Loading } from "../components/States";
import { setUsualZone } from "../preferences";
import { followLinks, usePlace } from "../router";
import { client, features, may, signIn, signOut, useMe, type Me } from "../session";
import { Alerts } from "./Alerts";
import { Credits } from "./Credits";
import { embedded, applyGivenTheme, takeFragment, tellExpired, tellHeight, within } from "./embed";
import { Enter } from "./Enter";
import { Events } from "./Events";
import { Invoices } from "./Invoices";
import { Limits } from "./Limits";
import { Usage } from "./Usage";

export interface Section {
  path: string;
  title: string;
  view: ComponentType<{ customer: string; rest: string | null }>;
  scope: string;
  billing?: boolean;
}

const SECTIONS: readonly Section[] = [
  { path: "/portal", title: "Usage", view: Usage, scope: "usage:read" },
  { path: "/portal/limits", title: "Limits", view: Limits, scope: "limits:check" },
  { path: "/portal/invoices", title: "Invoices", view: Invoices, scope: "billing:read", billing: true },
  { path: "/portal/credits", title: "Credits", view: Credits, scope: "billing:read", billing: true },
  { path: "/portal/events", title: "Events", view: Events, scope: "events:read" },
  { path: "/portal/alerts", title: "Alerts", view: Alerts, scope: "alerts:read" },
];

export function Portal() {
  const me = useMe();
  const [failure, setFailure] = useState<Error | null>(null);
  const [entering, setEntering] = useState(() => location.hash.length > 1);
  const enter = async (token: string): Promise<void> => {
    setFailure(null);
    setEntering(true);
    try {
      await signIn(token);
    } catch (error) {
      signOut();
      setFailure(asError(error));
    } finally {
      setEntering(false);
    }
  };
  useEffect(() => {
    const arrived = (): void => {
      const token = takeFragment();
      applyGivenTheme();
      if (token === null) setEntering(false);
      else void enter(token);
    };
    arrived();
    addEventListener("hashchange", arrived);
    document.addEventListener("click", followLinks);
    const stop = tellHeight();
    return () => {
      removeEventListener("hashchange", arrived);
      document.removeEventListener("click", followLinks);
      stop();
    };
  }, []);
  useEffect(() => {
    if (me === null && !entering) tellExpired();
  }, [me === null, entering]);

  if (entering || me === "asking") return <div class="alone"><Loading what="Opening" /></div>;
  if (me === null) return <Enter failure={failure} enter={enter} />;
  if (me instanceof Error) return <div class="alone"><Failed error={me} again={() => location.reload()} /></div>;
  if (me.customer === null) {
    return (
      <main id="main" class="alone">
        <Empty title="This is a key of the company, not a customer's token">
          <p><a href="/">Go to the company's pages</a></p>
          <button type="button" onClick={signOut}>Use a token</button>
        </Empty>
      </main>
    );
  }
  return <Opened me={me} customer={me.customer} />;
}

function Opened({ me, customer }: { me: Me; customer: string }) {
  const { path } = usePlace();
  const [, , section = ""] = path.split("/");
  const rest = path.split("/")[3] ?? null;
  const allowed = SECTIONS.filter((one) => may(one.scope) && (!one.billing || features.has("billing")));
  const found = allowed.find((one) => one.path === (section === "" ? "/portal" : `/portal/${section}`)) ?? (section === "" ? allowed[0] : undefined);
  const known = useAsk(may("customers:read") ? customer : null, () => client.customers.get(customer));
  const name = known.answer?.name || customer;
  useEffect(() => {
    if (known.answer !== null) setUsualZone(known.answer.timezone);
  }, [known.answer]);
  useEffect(() => {
    document.title = `${found?.title ?? "Not found"} · ${name}`;
  }, [found, name]);
  return (
    <div class={embedded ? "portal embedded" : "portal"}>
      <a class="skip" href="#main">Skip to content</a>
      {!embedded && (
        <header class="portal-head">
          <span class="brand"><Tally />{name}</span>
          <div class="actions"><ZoneField /><button type="button" class="quiet" onClick={signOut}>Leave</button></div>
        </header>
      )}
      <nav class="portal-nav" aria-label="Sections">
        <ul>
          {allowed.map((one) => <li key={one.path}><a href={within(one.path)} aria-current={one === found ? "page" : undefined} ref={one === found ? inSight : null}>{one.title}</a></li>)}
        </ul>
      </nav>
      <main id="main" class="page">
        {found === undefined ? <><h1>Not found</h1><Empty title="There is no such page, or this token does not open it" /></> : <found.view key={path} customer={customer} rest={rest === null ? null : decoded(rest)} />}
      </main>
      {me.expires_at !== null && <Expiry at={me.expires_at} />}
    </div>
  );
}

/** Where sections do not fit the screen, the one that is open is not out of it. */
function inSight(link: HTMLAnchorElement | null): void {
  const bar = link?.closest("nav");
  if (link && bar && bar.scrollWidth > bar.clientWidth) bar.scrollLeft = link.offsetLeft - bar.clientWidth / 2;
}

/** A token that ends takes its pages with it. */
function Expiry({ at }: { at: string }) {
  useEffect(() => {
    const waitMs = Math.min(2 ** 31 - 1, Math.max(0, Date.parse(at) - Date.now()));
    const timer = setTimeout(signOut, waitMs);
    return () => clearTimeout(timer);
  }, [at]);
  return null;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
