import { ChannelList } from "./channels/ChannelList";

export function Channels() {
  return (
    <main id="main" class="page">
      <header class="page-head"><h1>Channels and deliveries</h1></header>
      <ChannelList customer={null} />
    </main>
  );
}
