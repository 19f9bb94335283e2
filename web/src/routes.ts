/** The pages: their paths, their names in the navigation, what they need. api/web.py has the same first segments. */

import type { ComponentType } from "preact";
import { Access } from "./pages/Access";
import { Audit } from "./pages/Audit";
import { BackfillPage } from "./pages/Backfill";
import { Backfills } from "./pages/Backfills";
import { CustomerPage } from "./pages/Customer";
import { Customers } from "./pages/Customers";
import { Events } from "./pages/Events";
import { Explore } from "./pages/Explore";
import { MeterPage } from "./pages/Meter";
import { Meters } from "./pages/Meters";
import { ChangeMeter, NewMeter } from "./pages/NewMeter";
import { Overview } from "./pages/Overview";
import { SignIn } from "./pages/SignIn";
import { Start } from "./pages/Start";
import { Status } from "./pages/Status";

export interface Page {
  /** `/customers/:key`: a segment that begins with a colon is a parameter. */
  path: string;
  title: string;
  view: ComponentType<{ parameters: Record<string, string> }>;
  /** Its place in the navigation; absent: it has none. */
  group?: "Usage" | "Configuration" | "Billing" | "Operation";
  /** The scope without which the page has nothing to show. */
  scope?: string;
  /** Absent while billing is off. */
  billing?: boolean;
  /** Anybody may see it, and it stands alone. */
  public?: boolean;
}

export const PAGES: readonly Page[] = [
  { path: "/", title: "Overview", view: Overview, group: "Usage", scope: "usage:read" },
  { path: "/explore", title: "Explore", view: Explore, group: "Usage", scope: "usage:read" },
  { path: "/events", title: "Events", view: Events, group: "Usage", scope: "events:read" },
  { path: "/backfills", title: "Backfills", view: Backfills, group: "Usage", scope: "events:read" },
  { path: "/backfills/:key", title: "Backfill", view: BackfillPage, scope: "events:read" },
  { path: "/customers", title: "Customers", view: Customers, group: "Usage", scope: "customers:read" },
  { path: "/customers/:key", title: "Customer", view: CustomerPage, scope: "customers:read" },
  { path: "/meters", title: "Meters", view: Meters, group: "Configuration", scope: "meters:read" },
  { path: "/meters/new", title: "New meter", view: NewMeter, scope: "meters:write" },
  { path: "/meters/:key/change", title: "Change a meter", view: ChangeMeter, scope: "meters:write" },
  { path: "/meters/:key", title: "Meter", view: MeterPage, scope: "meters:read" },
  { path: "/access", title: "Keys and tokens", view: Access, group: "Operation", scope: "admin" },
  { path: "/audit", title: "Audit", view: Audit, group: "Operation", scope: "admin" },
  { path: "/status", title: "Health", view: Status, group: "Operation" },
  { path: "/start", title: "First steps", view: Start },
  { path: "/sign-in", title: "Sign in", view: SignIn, public: true },
];
