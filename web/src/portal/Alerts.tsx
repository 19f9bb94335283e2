import { AlertList } from "../pages/alerts/AlertList";
import { ChannelList } from "../pages/channels/ChannelList";

export function Alerts({ customer }: { customer: string }) {
  return (
    <>
      <header class="page-head"><h1>Alerts</h1></header>
      <AlertList customer={customer} />
      <ChannelList customer={customer} />
    </>
  );
}
