/** A schedule in words. */

export const WEEKDAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"] as const;

export interface Schedule {
  every: string;
  hour?: number | null;
  timezone?: string | null;
  weekday?: string | null;
  day?: number | null;
}

export function scheduleText(schedule: Schedule): string {
  const at = `${String(schedule.hour ?? 0).padStart(2, "0")}:00 ${schedule.timezone ?? "UTC"}`;
  switch (schedule.every) {
    case "week":
      return `each ${capital(schedule.weekday ?? "monday")}, ${at}`;
    case "month":
      return schedule.day === 31 ? `last day of a month, ${at}` : `day ${schedule.day ?? 1} of a month, ${at}`;
    default:
      return `each day, ${at}`;
  }
}

export function capital(word: string): string {
  return word.slice(0, 1).toUpperCase() + word.slice(1);
}
