"""Calendar windows of a time zone.

A window begins where the zone's clocks first reach its beginning. From that one rule follows what happens when clocks
are changed:
- A day has 23 or 25 hours where clocks go forward or back in it. Where midnight is skipped the day begins at the
  moment of the change. A date that a zone skipped altogether (Pacific/Apia, 30 December 2011) has no window.
- Windows of an hour and less follow the face of the clock: they begin wherever it shows a multiple of their length. An
  hour that clocks repeat has two windows; where clocks jump into the middle of an hour, that hour begins at the jump;
  where they fall back by half an hour into the middle of an hour, that hour lasts 90 minutes.

Zones come from the `tzdata` package, not from the machine: the same question has the same answer everywhere.
"""

import importlib.resources
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from tallystick.errors import Fault, Invalid
from tallystick.metering.query import Window

_SECOND_US = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_NAIVE_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  (a face of a clock, not a moment)

TIME_US_MIN = -62_135_424_000 * _SECOND_US
"""0001-01-03T00:00:00Z: two days within what Python's datetime can hold, so that no zone leaves it."""
TIME_US_MAX = 253_402_128_000 * _SECOND_US
"""9999-12-30T00:00:00Z."""

_CLOCK_SECONDS = {Window.MINUTE: 60, Window.MINUTES_5: 300, Window.MINUTES_15: 900, Window.HOUR: 3600}
_CALENDAR_DAYS_MAX = {
    Window.DAY: 1,
    Window.WEEK: 7,
    Window.MONTH: 31,
    Window.QUARTER: 92,
    Window.YEAR: 366,
}
_PROBE_SECONDS = 43_200  # no zone changes its clocks and changes them back within twelve hours


def edges(
    from_us: int, to_us: int, window: Window | None, timezone: str, *, windows_max: int
) -> tuple[int, ...]:
    """Borders of the windows of [from_us, to_us), ascending: the first is from_us, the last to_us.

    Window i is [edges[i], edges[i + 1]); the first and the last are cut to the range. Without `window` there is one.

    Raises Invalid with code unknown_timezone, empty_range, time_out_of_range or too_many_windows (judged before
    anything is built).
    """
    if from_us >= to_us:
        raise _invalid("to", "empty_range", "The range is empty: `to` must lie after `from`.")
    zone = zone_of(timezone)
    if window is None:
        return (from_us, to_us)
    if from_us < TIME_US_MIN or to_us > TIME_US_MAX:
        raise _invalid("from", "time_out_of_range", "Windows can be made from 0001-01-03 up to 9999-12-30.")
    if window in _CLOCK_SECONDS:
        # An hour with a repeated half lasts at most twice its length.
        seconds_max = 2 * _CLOCK_SECONDS[window]
    else:
        # A day lasts at most two days: 24 hours, and what clocks may be put back.
        seconds_max = (_CALENDAR_DAYS_MAX[window] + 1) * 86_400
    if (to_us - from_us) // (seconds_max * _SECOND_US) > windows_max:
        raise _too_many(windows_max)
    first_s, last_s = from_us // _SECOND_US, -(-to_us // _SECOND_US)
    if window in _CLOCK_SECONDS:
        borders = _clock_borders(zone, first_s, last_s, _CLOCK_SECONDS[window])
    else:
        borders = _calendar_borders(zone, first_s, last_s, window)
    inner = [border for second in borders if from_us < (border := second * _SECOND_US) < to_us]
    if len(inner) + 1 > windows_max:
        raise _too_many(windows_max)
    return (from_us, *inner, to_us)


@lru_cache(maxsize=1024)
def zone_of(timezone: str) -> ZoneInfo:
    """The zone of that name in the pinned `tzdata`. Raises Invalid with code unknown_timezone."""
    if timezone not in _names():
        raise _invalid(
            "timezone",
            "unknown_timezone",
            f"There is no IANA time zone {timezone[:64]!r}; a name looks like Europe/Berlin or UTC.",
        )
    file = importlib.resources.files("tzdata").joinpath("zoneinfo", *timezone.split("/"))
    with file.open("rb") as stream:
        return ZoneInfo.from_file(stream, key=timezone)


@lru_cache(maxsize=1)
def _names() -> frozenset[str]:
    return frozenset(importlib.resources.files("tzdata").joinpath("zones").read_text("utf-8").split())


def _invalid(pointer: str, code: str, detail: str) -> Invalid:
    return Invalid(detail, code=code, faults=[Fault(pointer, code, detail)])


def _too_many(windows_max: int) -> Invalid:
    return _invalid(
        "window",
        "too_many_windows",
        f"The range has more than {windows_max} windows; ask for a shorter range or longer windows.",
    )


def _offset_s(zone: ZoneInfo, second: int) -> int:
    """What the zone's clocks show less UTC at this moment, in seconds."""
    offset = (_EPOCH + timedelta(seconds=second)).astimezone(zone).utcoffset()
    assert offset is not None
    return offset.days * 86_400 + offset.seconds


def _change_in(zone: ZoneInfo, low: int, high: int) -> int:
    """The first moment after `low` with another offset than `low` has, given that `high` has another one."""
    offset = _offset_s(zone, low)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset_s(zone, middle) == offset:
            low = middle
        else:
            high = middle
    return high


def _clock_borders(zone: ZoneInfo, first_s: int, last_s: int, length_s: int) -> list[int]:
    borders: list[int] = []
    start = first_s
    offset = _offset_s(zone, start)
    probe = start
    while start < last_s:
        end = last_s
        while probe < last_s:
            ahead = min(probe + _PROBE_SECONDS, last_s)
            if _offset_s(zone, ahead) != offset:
                end = _change_in(zone, probe, ahead)
                break
            probe = ahead
        aligned = -(-(start + offset) // length_s) * length_s - offset
        borders.extend(range(aligned, end, length_s))
        if end < last_s:
            following = _offset_s(zone, end)
            shows, showed = end + following, end - 1 + offset
            # Not on a multiple, but past one that clocks never showed or in another window than a moment ago.
            if shows % length_s and shows // length_s != showed // length_s:
                borders.append(end)
            offset = following
        start = probe = end
    return borders


def _calendar_borders(zone: ZoneInfo, first_s: int, last_s: int, window: Window) -> list[int]:
    # From a window before the first to one after the last: what lies outside the range is dropped by the caller.
    local = (_EPOCH + timedelta(seconds=first_s)).astimezone(zone).date()
    day = _beginning(local, window)
    borders: list[int] = []
    is_utc = zone.key == "UTC"  # most questions; its midnights need no table of changes
    while True:
        second = (day.toordinal() - _EPOCH_ORDINAL) * 86_400 if is_utc else _first_reached(zone, day)
        if second >= last_s:
            return borders
        if not borders or second > borders[-1]:
            borders.append(second)
        day = _following(day, window)


def _beginning(day: date, window: Window) -> date:
    if window is Window.WEEK:
        # The year 1 begins on a Monday, so this stays within what a date can hold.
        return day - timedelta(days=day.weekday())
    if window is Window.MONTH:
        return day.replace(day=1)
    if window is Window.QUARTER:
        return day.replace(month=day.month - (day.month - 1) % 3, day=1)
    if window is Window.YEAR:
        return day.replace(month=1, day=1)
    return day


def _following(day: date, window: Window) -> date:
    if window is Window.DAY:
        return day + timedelta(days=1)
    if window is Window.WEEK:
        return day + timedelta(days=7)
    months = {Window.MONTH: 1, Window.QUARTER: 3, Window.YEAR: 12}[window]
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, 1)


def _first_reached(zone: ZoneInfo, day: date) -> int:
    """The first moment at which the zone's clocks show midnight of this day, or later."""
    return first_reached_s(zone, datetime(day.year, day.month, day.day))  # noqa: DTZ001


def first_reached_s(zone: ZoneInfo, face: datetime) -> int:
    """The first moment, in seconds since 1970, at which the zone's clocks show `face` (no zone, whole seconds) or later."""
    face_s = (face - _NAIVE_EPOCH) // timedelta(seconds=1)
    before = face.replace(tzinfo=zone).utcoffset()
    after = face.replace(tzinfo=zone, fold=1).utcoffset()
    assert before is not None
    assert after is not None
    if before >= after:  # equal: the usual; greater: shown twice, and the first counts
        return face_s - before // timedelta(seconds=1)
    # Never shown: the moment of the change, which lies between the two readings of the missing time.
    return _change_in(
        zone, face_s - after // timedelta(seconds=1) - 1, face_s - before // timedelta(seconds=1)
    )
