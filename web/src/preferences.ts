/** What a person likes, kept in this browser: the theme and the zone of times. */

import { useEffect, useState } from "preact/hooks";
import { store, stored } from "./storage";
import { isZone } from "./time";

export type Theme = "system" | "light" | "dark";

const THEME = "tallystick-theme";
const ZONE = "tallystick-zone";
const CHANGED = "tallystick:preferences";

export function theme(): Theme {
  const kept = stored("local", THEME);
  return kept === "light" || kept === "dark" ? kept : "system";
}

export function setTheme(wanted: Theme): void {
  store("local", THEME, wanted === "system" ? null : wanted);
  applyTheme();
  dispatchEvent(new Event(CHANGED));
}

export function applyTheme(): void {
  const wanted = theme();
  if (wanted === "system") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = wanted;
}

let usualZone = "UTC";

/** The zone of whoever has chosen none: that of the customer, on its own pages. */
export function setUsualZone(wanted: string): void {
  if (!isZone(wanted) || wanted === usualZone) return;
  usualZone = wanted;
  dispatchEvent(new Event(CHANGED));
}

/** The zone that times are shown in: what the address says, or what was chosen last. */
export function zone(): string {
  const asked = new URLSearchParams(location.search).get("zone");
  if (asked !== null && isZone(asked)) return asked;
  const kept = stored("local", ZONE);
  return kept !== null && isZone(kept) ? kept : usualZone;
}

export function setZone(wanted: string): void {
  store("local", ZONE, wanted);
  dispatchEvent(new Event(CHANGED));
}

export function usePreferences(): { theme: Theme; zone: string } {
  const [, setTurn] = useState(0);
  useEffect(() => {
    const changed = (): void => setTurn((turn) => turn + 1);
    addEventListener(CHANGED, changed);
    return () => removeEventListener(CHANGED, changed);
  }, []);
  return { theme: theme(), zone: zone() };
}

export function useZone(): string {
  return usePreferences().zone;
}
