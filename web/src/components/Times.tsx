import { useZone } from "../preferences";
import { dateText, exactTimeText, isMidnight, timeText } from "../time";

/** A moment in the chosen zone; the server's own text is in the title. */
export function Time({ at, exact }: { at: string | null | undefined; exact?: boolean }) {
  const zone = useZone();
  if (!at) return <span class="none">–</span>;
  return <time dateTime={at} title={at}>{exact ? exactTimeText(at, zone) : timeText(at, zone)}</time>;
}

/** From and to, of what is billed: days alone where both are midnight in the chosen zone, as they mostly are. */
export function Period({ from, to }: { from: string; to: string }) {
  const zone = useZone();
  const days = isMidnight(from, zone) && isMidnight(to, zone);
  const show = (at: string) => <time dateTime={at} title={at}>{days ? dateText(at, zone) : timeText(at, zone)}</time>;
  return <>{show(from)} to {show(to)}</>;
}

/** A moment that is mostly the beginning of a day: then the day alone. */
export function Day({ at }: { at: string | null | undefined }) {
  const zone = useZone();
  if (!at || !isMidnight(at, zone)) return <Time at={at} />;
  return <time dateTime={at} title={at}>{dateText(at, zone)}</time>;
}
