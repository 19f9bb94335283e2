import type { ComponentChildren } from "preact";
import { match } from "../router";
import { features, may } from "../session";

/** A link where there is such a page and this key may see it; else the text alone. */
export function PageLink({ to, children }: { to: string; children: ComponentChildren }) {
  const page = match(to.split("?")[0] ?? "")?.page;
  const there = page !== undefined && (page.scope === undefined || may(page.scope)) && (!page.billing || features.has("billing"));
  return there ? <a href={to}>{children}</a> : <>{children}</>;
}
