import { AlertList } from "./alerts/AlertList";

export function Alerts() {
  return (
    <main id="main" class="page">
      <header class="page-head"><h1>Alerts</h1><div class="actions"><a class="button" href="/channels">Channels and deliveries</a></div></header>
      <AlertList customer={null} />
    </main>
  );
}
