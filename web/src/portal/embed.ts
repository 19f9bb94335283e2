/**
 * What the page around us says: the fragment carries the token and the theme, since no server sees it. `?embed=1` leaves our
 * frame away. What we say back: our height, and that a token is no longer good.
 */

import { setUsualZone } from "../preferences";
import { store, stored } from "../storage";

const THEME = "tallystick-portal-theme";
/** Variables that may be set from outside; the values are colours, but for the font. */
const COLOURS = new Set([
  "ground", "panel", "raised", "ink", "muted", "line", "line-strong", "accent", "accent-ink", "accent-soft", "danger", "danger-soft", "warn", "ok",
  ...Array.from({ length: 10 }, (_, index) => `c${index}`), "c-rest",
]);

export const embedded = new URLSearchParams(location.search).get("embed") === "1";

/** Take the token and the theme out of the fragment, so that neither history nor a copied address has them. */
export function takeFragment(): string | null {
  const given = new URLSearchParams(location.hash.slice(1));
  if ([...given.keys()].length === 0) return null;
  const token = given.get("token");
  given.delete("token");
  const theme = given.toString();
  if (theme !== "") store("session", THEME, theme);
  history.replaceState(null, "", location.pathname + location.search);
  return token === "" ? null : token;
}

export function applyGivenTheme(): void {
  const root = document.documentElement;
  for (const [name, value] of new URLSearchParams(stored("session", THEME) ?? "")) {
    if (name === "theme" && (value === "light" || value === "dark")) root.dataset["theme"] = value;
    else if (name === "zone") setUsualZone(value);
    else if (COLOURS.has(name) && CSS.supports("color", value)) root.style.setProperty(`--${name}`, value);
    // A font that is installed: the policy lets no other be fetched.
    else if (name === "font" && /^[\w\s,"'-]{1,200}$/.test(value)) root.style.setProperty("--font", value);
  }
}

/** Our own addresses keep what the page around us asked for. */
export function within(path: string, query: Record<string, string> = {}): string {
  const made = new URLSearchParams(query);
  if (embedded) made.set("embed", "1");
  const text = made.toString();
  return text === "" ? path : `${path}?${text}`;
}

function tell(message: object): void {
  // Nothing in it is secret, and who embeds us is not known here.
  if (window.parent !== window) window.parent.postMessage({ source: "tallystick", ...message }, "*");
}

export function tellExpired(): void {
  tell({ kind: "expired" });
}

/** Say how high the content is, whenever that changes. */
export function tellHeight(): () => void {
  const root = document.getElementById("root");
  if (!embedded || root === null) return () => undefined;
  const observer = new ResizeObserver(() => tell({ kind: "height", height: Math.ceil(root.getBoundingClientRect().height) }));
  observer.observe(root);
  return () => observer.disconnect();
}
