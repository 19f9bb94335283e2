"""Billing periods: of any length from an hour to years, by the calendar or from an anchor, in the customer's zone.

- Without an anchor, periods follow the calendar: months begin on the 1st, quarters in January, April, July and October,
  weeks on Monday, at the zone's midnight. Several of a unit are counted from 1970 (weeks from Monday, 5 January).
- With an anchor, they repeat from it: its time of day by the zone's clock, its day of the month cut to the last day where
  a month is shorter and never lost afterwards (31 January, 28 February, 31 March).
- Periods of hours are elapsed hours, from the anchor or from UTC's midnight, whatever clocks do.
- Where clocks skip the time a period begins at, it begins at the moment of the change; where they show it twice, at the
  first. A period that a zone skipped altogether does not exist.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache

from tallystick.document import Document
from tallystick.errors import Fault, Invalid
from tallystick.metering.window import first_reached_s, zone_of

HOUR_US = 3_600_000_000
YEARS_MAX = 20
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MONDAY_DAYS = 4  # 1970-01-05
_ISO = re.compile(r"P(?:(\d{1,4})([YMWD])|T(\d{1,6})H)", re.ASCII)
_DURATION = re.compile(
    r"P(?!$)(?:(\d{1,4})W)?(?:(\d{1,4})D)?(?:T(?=\d)(?:(\d{1,5})H)?(?:(\d{1,5})M)?(?:(\d{1,7})S)?)?", re.ASCII
)


class Unit(StrEnum):
    """What a length is counted in."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"


_ISO_UNITS = {"Y": Unit.YEAR, "M": Unit.MONTH, "W": Unit.WEEK, "D": Unit.DAY}
_COUNT_MAX = {
    Unit.HOUR: YEARS_MAX * 8766,
    Unit.DAY: YEARS_MAX * 366,
    Unit.WEEK: YEARS_MAX * 53,
    Unit.MONTH: YEARS_MAX * 12,
    Unit.YEAR: YEARS_MAX,
}


@dataclass(frozen=True, slots=True)
class Length:
    """So many of a unit."""

    unit: Unit
    count: int

    @property
    def months(self) -> int:
        """0 for units that are not made of months."""
        return {Unit.MONTH: 1, Unit.YEAR: 12}.get(self.unit, 0) * self.count

    @property
    def days(self) -> int:
        """0 for units that are not made of days."""
        return {Unit.DAY: 1, Unit.WEEK: 7}.get(self.unit, 0) * self.count

    def text(self) -> str:
        """As `parse_length` reads it: a name where there is one, or ISO 8601."""
        for name, length in NAMES.items():
            if (length.unit, length.count) == (self.unit, self.count):
                return name
        if self.unit is Unit.HOUR:
            return f"PT{self.count}H"
        letter = next(letter for letter, unit in _ISO_UNITS.items() if unit is self.unit)
        return f"P{self.count}{letter}"


NAMES = {
    "hour": Length(Unit.HOUR, 1),
    "day": Length(Unit.DAY, 1),
    "week": Length(Unit.WEEK, 1),
    "month": Length(Unit.MONTH, 1),
    "quarter": Length(Unit.MONTH, 3),
    "half_year": Length(Unit.MONTH, 6),
    "year": Length(Unit.YEAR, 1),
}
LENGTH_SENTENCE = f"must be one of {', '.join(NAMES)}, or an ISO 8601 duration of one unit such as P2W, P3M or PT6H, up to {YEARS_MAX} years."


def parse_length(text: str) -> Length | None:
    """A name (`NAMES`) or an ISO 8601 duration of one unit; None when it is neither, or out of bounds."""
    if text in NAMES:
        return NAMES[text]
    match = _ISO.fullmatch(text)
    if match is None:
        return None
    unit = Unit.HOUR if match[3] else _ISO_UNITS[match[2]]
    count = int(match[3] or match[1])
    return Length(unit, count) if 0 < count <= _COUNT_MAX[unit] else None


def read_length(document: Document, name: str) -> Length | None:
    """The member `name` of a document. Fault: invalid_period."""
    text = document.text(name, characters_max=16)
    if text is None:
        return None
    length = parse_length(text)
    if length is None:
        document.fault("invalid_period", LENGTH_SENTENCE, name)
    return length


def read_duration_us(document: Document, name: str) -> int | None:
    """A fixed time as ISO 8601 (PT1H, P3D, PT90M), in microseconds. Fault: invalid_period."""
    text = document.text(name, characters_max=40)
    if text is None:
        return None
    found = parse_duration_us(text)
    if found is None:
        document.fault("invalid_period", "must be an ISO 8601 duration such as PT1H or P3D.", name)
    return found


def parse_duration_us(text: str) -> int | None:
    """See `read_duration_us`; None where it is none."""
    match = _DURATION.fullmatch(text)
    if match is None:
        return None
    weeks, days, hours, minutes, seconds = (int(number or 0) for number in match.groups())
    return (((weeks * 7 + days) * 24 + hours) * 3600 + minutes * 60 + seconds) * 1_000_000


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """[from_us, to_us), microseconds since 1970, never empty."""

    from_us: int
    to_us: int

    def __contains__(self, at_us: int) -> bool:
        return self.from_us <= at_us < self.to_us

    @property
    def length_us(self) -> int:
        return self.to_us - self.from_us

    def cut(self, from_us: int | None, to_us: int | None) -> "Period | None":
        """What of it lies in [from_us, to_us), None for no border; None when that is nothing."""
        begin = self.from_us if from_us is None else max(self.from_us, from_us)
        end = self.to_us if to_us is None else min(self.to_us, to_us)
        return Period(begin, end) if begin < end else None


@dataclass(frozen=True, slots=True)
class Cadence:
    """The periods of one subscription. `anchor_us` None: by the calendar."""

    length: Length
    timezone: str
    anchor_us: int | None = None

    def period_at(self, at_us: int) -> Period:
        """The period that holds a moment. Raises Invalid (time_out_of_range, unknown_timezone)."""
        index = self._estimate(at_us)
        while (begin := self.border(index)) > at_us:
            index -= 1
        while (end := self.border(index + 1)) <= at_us:
            index, begin = index + 1, end
        return Period(begin, end)

    def after(self, period: Period) -> Period:
        return self.period_at(period.to_us)

    def before(self, period: Period) -> Period:
        return self.period_at(period.from_us - 1)

    def periods(self, from_us: int, to_us: int) -> Iterator[Period]:
        """The periods that reach into [from_us, to_us), whole, in order."""
        at_us = from_us
        while at_us < to_us:
            period = self.period_at(at_us)
            yield period
            at_us = period.to_us

    def border(self, index: int) -> int:
        """The moment at which period number `index` begins, counted from the anchor."""
        if index == 0 and self.anchor_us is not None:
            return self.anchor_us
        if self.length.unit is Unit.HOUR:
            return (self.anchor_us or 0) + index * self.length.count * HOUR_US
        face = self._face()
        try:
            if self.length.months:
                face = _add_months(face, index * self.length.months)
            else:
                face += timedelta(days=index * self.length.days)
            second = first_reached_s(zone_of(self.timezone), face.replace(microsecond=0))
        except (OverflowError, ValueError):
            raise _out_of_range() from None
        return second * 1_000_000 + face.microsecond

    def _face(self) -> datetime:
        """What the clock shows at the anchor."""
        if self.anchor_us is not None:
            return local(self.anchor_us, self.timezone)
        days = _MONDAY_DAYS if self.length.unit is Unit.WEEK else 0
        return (_EPOCH + timedelta(days=days)).replace(tzinfo=None)

    def _estimate(self, at_us: int) -> int:
        """The number of the period, give or take one."""
        if self.length.unit is Unit.HOUR:
            return (at_us - (self.anchor_us or 0)) // (self.length.count * HOUR_US)
        face, now = self._face(), local(at_us, self.timezone)
        if self.length.months:
            return ((now.year - face.year) * 12 + now.month - face.month) // self.length.months
        return (now.toordinal() - face.toordinal()) // self.length.days


@lru_cache(maxsize=4096)
def local(at_us: int, timezone: str) -> datetime:
    """What the zone's clocks show at a moment, without a zone. Raises Invalid (time_out_of_range)."""
    try:
        moment = _EPOCH + timedelta(microseconds=at_us)
        return moment.astimezone(zone_of(timezone)).replace(tzinfo=None)
    except (OverflowError, ValueError):
        raise _out_of_range() from None


def day_begin_us(day: datetime, timezone: str) -> int:
    """The moment at which a local day begins (its time of day is ignored)."""
    return first_reached_s(zone_of(timezone), datetime(day.year, day.month, day.day)) * 1_000_000  # noqa: DTZ001


def add_days(at_us: int, days: int, timezone: str) -> int:
    """The same time of day by the zone's clock, so many days later: the end of a trial."""
    face = local(at_us, timezone)
    if not days:
        return at_us
    try:
        later = face + timedelta(days=days)
        return first_reached_s(zone_of(timezone), later.replace(microsecond=0)) * 1_000_000 + face.microsecond
    except OverflowError:
        raise _out_of_range() from None


def add_length(at_us: int, length: Length, timezone: str) -> int:
    """A moment one length later, as an anchored period counts it: the end of a phase."""
    return Cadence(length, timezone, at_us).border(1)


def _add_months(face: datetime, months: int) -> datetime:
    year, month = divmod(face.year * 12 + face.month - 1 + months, 12)
    return face.replace(year=year, month=month + 1, day=min(face.day, _days_in(year, month + 1)))


def _days_in(year: int, month: int) -> int:
    first = datetime(year, month, 1)  # noqa: DTZ001
    following = datetime(year + month // 12, month % 12 + 1, 1)  # noqa: DTZ001
    return (following - first) // timedelta(days=1)


def _out_of_range() -> Invalid:
    detail = "The moment lies outside the years that periods can be made for."
    return Invalid(detail, code="time_out_of_range", faults=[Fault("", "time_out_of_range", detail)])
