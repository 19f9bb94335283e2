import { useZone } from "../preferences";
import { exactTimeText, timeText } from "../time";

/** A moment in the chosen zone; the server's own text is in the title. */
export function Time({ at, exact }: { at: string | null | undefined; exact?: boolean }) {
  const zone = useZone();
  if (!at) return <span class="none">–</span>;
  return <time dateTime={at} title={at}>{exact ? exactTimeText(at, zone) : timeText(at, zone)}</time>;
}
