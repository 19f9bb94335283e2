/** The frame around every page: navigation, zone, theme; and who may see what. */

import { useEffect, useState } from "preact/hooks";
import { Failed, Loading } from "./components/States";
import { Frame } from "./components/Frame";
import { followLinks, match, usePlace } from "./router";
import { features, inPortal, may, useMe } from "./session";
import { SignIn } from "./pages/SignIn";
import { NotFound } from "./pages/NotFound";
import { Portal } from "./portal/Portal";

/** Customers' own pages, or the company's. */
export function App() {
  return inPortal ? <Portal /> : <Company />;
}

function Company() {
  const { path } = usePlace();
  const me = useMe();
  const found = match(path);
  const title = found?.page.title ?? "Not found";

  useEffect(() => {
    document.title = path === "/" ? "Tallystick" : `${title} · Tallystick`;
  }, [title, path]);
  useEffect(() => {
    document.addEventListener("click", followLinks);
    return () => document.removeEventListener("click", followLinks);
  }, []);

  if (me === null) return <SignIn />;
  if (me === "asking") return <div class="alone"><Loading what="Signing in" /></div>;
  if (me instanceof Error) return <div class="alone"><Failed error={me} again={() => location.reload()} /></div>;
  if (found === null || (found.page.billing && !features.has("billing"))) return <Frame me={me}><NotFound /></Frame>;
  const { page, parameters } = found;
  if (page.public) return <page.view parameters={parameters} />;
  const allowed = page.scope === undefined || may(page.scope);
  return (
    <Frame me={me}>
      {allowed ? <page.view key={path} parameters={parameters} /> : <NotAllowed scope={page.scope ?? ""} />}
    </Frame>
  );
}

function NotAllowed({ scope }: { scope: string }) {
  const [shown] = useState(scope);
  return (
    <main id="main" class="page">
      <h1>Not with this key</h1>
      <p>
        The key you signed in with lacks the scope <code>{shown}</code>. Sign in with another, or ask whoever administers this
        installation.
      </p>
    </main>
  );
}
