"""When a report is due: every day, week or month, at an hour that the clocks of a zone show."""

import calendar
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Literal, cast

from tallystick.document import Document
from tallystick.errors import Invalid
from tallystick.metering.window import zone_of
from tallystick.reporting.ranges import local_date, start_of

Every = Literal["day", "week", "month"]
EVERY: tuple[Every, ...] = ("day", "week", "month")
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
HOUR_DEFAULT = 6
_LOOKED_AT_DAYS = 64
"""Two months: in every two there is a due day."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """`weekday` (0: Monday) of a weekly one; `day` of a monthly one: in a month that is shorter, its last. An hour that the
    clocks skip is the first moment after it; of one that they repeat, the first counts."""

    every: Every
    timezone: str
    hour: int = HOUR_DEFAULT
    weekday: int = 0
    day: int = 1

    def to_wire(self) -> dict[str, Any]:
        made: dict[str, Any] = {"every": self.every, "hour": self.hour, "timezone": self.timezone}
        if self.every == "week":
            made["weekday"] = WEEKDAYS[self.weekday]
        if self.every == "month":
            made["day"] = self.day
        return made

    def after(self, at_us: int) -> int:
        """The first due moment later than this one."""
        return self._found(at_us, 1)

    def latest(self, at_us: int) -> int:
        """The last due moment that is not later than this one."""
        return self._found(at_us, -1)

    def count(self, from_us: int, to_us: int) -> int:
        """How many due moments lie in [from_us, to_us); at most a hundred are told apart."""
        found, at_us = 0, from_us - 1
        while found < 100 and (at_us := self.after(at_us)) < to_us:
            found += 1
        return found

    def _found(self, at_us: int, step: int) -> int:
        day = local_date(at_us, self.timezone) - timedelta(days=step)
        for _ in range(_LOOKED_AT_DAYS + 2):
            if self._falls_on(day):
                due_us = start_of(day, self.timezone, self.hour)
                if (due_us > at_us) if step > 0 else (due_us <= at_us):
                    return due_us
            day += timedelta(days=step)
        raise AssertionError(f"{self} is never due")

    def _falls_on(self, day: date) -> bool:
        if self.every == "week":
            return day.weekday() == self.weekday
        if self.every == "month":
            return day.day == min(self.day, calendar.monthrange(day.year, day.month)[1])
        return True


def read_schedule(document: Document) -> Schedule:
    """What an object says; faults stay in it."""
    if not document.has("every"):
        document.fault("missing", f"is required: one of {', '.join(EVERY)}.", "every")
    every = cast("Every | None", document.choice("every", EVERY)) or "day"
    timezone = document.text("timezone", characters_max=64) or "UTC"
    try:
        zone_of(timezone)
    except Invalid as error:
        document.fault(error.code, f"is no zone: {error.detail}", "timezone")
    hour = document.integer("hour", least=0, most=23)
    weekday = document.choice("weekday", WEEKDAYS)
    day = document.integer("day", least=1, most=31)
    for name, given, wanted in (("weekday", weekday, "week"), ("day", day, "month")):
        if given is not None and every != wanted:
            document.fault("invalid_value", f"is for a schedule by {wanted} alone.", name)
    return Schedule(
        every,
        timezone,
        HOUR_DEFAULT if hour is None else hour,
        0 if weekday is None else WEEKDAYS.index(weekday),
        day or 1,
    )
