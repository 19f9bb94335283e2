import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { usePlace } from "../router";
import { PAGES, type Page } from "../routes";
import { client, features, may, signOut, type Me } from "../session";
import { setTheme, usePreferences, type Theme } from "../preferences";
import { useAsk } from "../ask";
import { Icon } from "./Icon";
import { ZoneField } from "./ZoneField";

const GROUPS = ["Usage", "Billing", "Configuration", "Operation"] as const;

/** Navigation at the side (on a phone: behind a button), the page beside it. */
export function Frame({ me, children }: { me: Me; children: ComponentChildren }) {
  const { path } = usePlace();
  const [open, setOpen] = useState(false);
  const came = useRef(path);
  useEffect(() => {
    setOpen(false);
    if (came.current === path) return;
    came.current = path;
    // As a browser does it with a new page: reading and tabbing begin at its top.
    const main = document.getElementById("main");
    if (main !== null) {
      main.tabIndex = -1;
      main.focus({ preventScroll: true });
    }
  }, [path]);
  useEffect(() => {
    if (!open) return undefined;
    const close = (event: KeyboardEvent): void => {
      if (event.key === "Escape") setOpen(false);
    };
    addEventListener("keydown", close);
    return () => removeEventListener("keydown", close);
  }, [open]);
  return (
    <div class={open ? "frame open" : "frame"}>
      <a class="skip" href="#main">Skip to content</a>
      <header class="top">
        <button type="button" class="icon-button menu-button" aria-label="Menu" aria-expanded={open} aria-controls="navigation" onClick={() => setOpen(!open)}>
          <Icon name="menu" />
        </button>
        <a class="brand" href="/"><Tally />Tallystick</a>
      </header>
      <nav id="navigation" class="side" aria-label="Main">
        <a class="brand" href="/"><Tally />Tallystick</a>
        {GROUPS.map((group) => <Group key={group} group={group} path={path} />)}
        <div class="side-foot">
          <StatusLine />
          <ZoneField />
          <ThemeSwitch />
          <div class="who">
            <span class="who-name" title={`Tenant ${me.tenant}`}>{me.name}<small>{me.tenant}</small></span>
            <button type="button" class="quiet" onClick={signOut}>Sign out</button>
          </div>
        </div>
      </nav>
      {open && <button type="button" class="veil" aria-label="Close the menu" onClick={() => setOpen(false)} />}
      {children}
    </div>
  );
}

function Group({ group, path }: { group: (typeof GROUPS)[number]; path: string }) {
  const pages = PAGES.filter((page) => page.group === group && shown(page));
  if (pages.length === 0) return null;
  return (
    <div class="side-group">
      <h2>{group}</h2>
      <ul>
        {pages.map((page) => (
          <li key={page.path}>
            <a href={page.path} aria-current={isWithin(path, page.path) ? "page" : undefined}>{page.title}</a>
          </li>
        ))}
      </ul>
    </div>
  );
}

function shown(page: Page): boolean {
  return (page.scope === undefined || may(page.scope)) && (!page.billing || features.has("billing"));
}

function isWithin(path: string, of: string): boolean {
  return of === "/" ? path === "/" : path === of || path.startsWith(`${of}/`);
}

function StatusLine() {
  const ready = useAsk("ready", (signal) => client.health(signal), 5000);
  const status = ready.error !== null ? "down" : (ready.answer?.status ?? "asking");
  const text = { ok: "All parts are well", degraded: "A part is degraded", down: "Not ready" }[status as string] ?? "Asking…";
  return <a class="status-line" href="/status"><span class={`dot ${status}`} aria-hidden="true" />{text}</a>;
}

function ThemeSwitch() {
  const { theme } = usePreferences();
  const all: [Theme, string][] = [["system", "System"], ["light", "Light"], ["dark", "Dark"]];
  return (
    <fieldset class="segments" aria-label="Theme">
      {all.map(([value, name]) => (
        <label key={value}>
          <input type="radio" name="theme" value={value} checked={theme === value} onChange={() => setTheme(value)} />
          <span>{name}</span>
        </label>
      ))}
    </fieldset>
  );
}

export function Tally() {
  return (
    <svg class="tally" viewBox="0 0 24 24" aria-hidden="true">
      <path d="M5 4v16M10 4v16M15 4v16M20 4v16M2 17 23 7" />
    </svg>
  );
}
