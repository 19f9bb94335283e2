/** The pages: their paths, their names in the navigation, what they need. api/web.py has the same first segments. */

import type { ComponentType } from "preact";
import { Access } from "./pages/Access";
import { Alerts } from "./pages/Alerts";
import { Audit } from "./pages/Audit";
import { BackfillPage } from "./pages/Backfill";
import { Backfills } from "./pages/Backfills";
import { Channels } from "./pages/Channels";
import { Credits } from "./pages/Credits";
import { CustomerPage } from "./pages/Customer";
import { Customers } from "./pages/Customers";
import { Events } from "./pages/Events";
import { Explore } from "./pages/Explore";
import { InvoicePage } from "./pages/Invoice";
import { Invoices } from "./pages/Invoices";
import { Limits } from "./pages/Limits";
import { MeterPage } from "./pages/Meter";
import { Meters } from "./pages/Meters";
import { ChangeMeter, NewMeter } from "./pages/NewMeter";
import { PlanPage } from "./pages/Plan";
import { Plans } from "./pages/Plans";
import { Overview } from "./pages/Overview";
import { Sources } from "./pages/Sources";
import { SignIn } from "./pages/SignIn";
import { Start } from "./pages/Start";
import { Status } from "./pages/Status";
import { Views } from "./pages/Views";
import { Portal } from "./portal/Portal";

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
  { path: "/views", title: "Views and reports", view: Views, group: "Usage", scope: "usage:read" },
  { path: "/events", title: "Events", view: Events, group: "Usage", scope: "events:read" },
  { path: "/sources", title: "Sources", view: Sources, group: "Usage", scope: "events:read" },
  { path: "/backfills", title: "Backfills", view: Backfills, group: "Usage", scope: "events:read" },
  { path: "/backfills/:key", title: "Backfill", view: BackfillPage, scope: "events:read" },
  { path: "/customers", title: "Customers", view: Customers, group: "Usage", scope: "customers:read" },
  { path: "/customers/:key", title: "Customer", view: CustomerPage, scope: "customers:read" },
  { path: "/invoices", title: "Invoices", view: Invoices, group: "Billing", scope: "billing:read", billing: true },
  { path: "/invoices/:id", title: "Invoice", view: InvoicePage, scope: "billing:read", billing: true },
  { path: "/plans", title: "Plans and prices", view: Plans, group: "Billing", scope: "billing:read", billing: true },
  { path: "/plans/:key", title: "Plan", view: PlanPage, scope: "billing:read", billing: true },
  { path: "/credits", title: "Credits", view: Credits, group: "Billing", scope: "billing:read", billing: true },
  { path: "/meters", title: "Meters", view: Meters, group: "Configuration", scope: "meters:read" },
  { path: "/meters/new", title: "New meter", view: NewMeter, scope: "meters:write" },
  { path: "/meters/:key/change", title: "Change a meter", view: ChangeMeter, scope: "meters:write" },
  { path: "/meters/:key", title: "Meter", view: MeterPage, scope: "meters:read" },
  { path: "/limits", title: "Limits", view: Limits, group: "Configuration", scope: "limits:check" },
  { path: "/alerts", title: "Alerts", view: Alerts, group: "Configuration", scope: "alerts:read" },
  { path: "/channels", title: "Channels", view: Channels, group: "Configuration", scope: "alerts:read" },
  { path: "/access", title: "Keys and tokens", view: Access, group: "Operation", scope: "admin" },
  { path: "/audit", title: "Audit", view: Audit, group: "Operation", scope: "admin" },
  { path: "/status", title: "Health", view: Status, group: "Operation" },
  { path: "/start", title: "First steps", view: Start },
  // One application of its own; here for its links (portal/Portal.tsx has its sections).
  { path: "/portal", title: "Usage", view: Portal, public: true },
  { path: "/portal/:section", title: "Usage", view: Portal, public: true },
  { path: "/portal/:section/:id", title: "Usage", view: Portal, public: true },
  { path: "/sign-in", title: "Sign in", view: SignIn, public: true },
];
