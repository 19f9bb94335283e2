"""Named ranges of time, as the explorer has them: days and months are whole ones of a zone."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta

from tallystick.metering.query import Window
from tallystick.metering.window import first_reached_s, zone_of

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR_US = 3600 * 1_000_000

RANGES: Mapping[str, Window] = {
    "1h": Window.MINUTE,
    "24h": Window.HOUR,
    "7d": Window.DAY,
    "30d": Window.DAY,
    "90d": Window.WEEK,
    "month": Window.DAY,
    "last-month": Window.DAY,
    "12mo": Window.MONTH,
}
"""By name, with the window that makes some tens of bars of each."""
_DAYS = {"7d": 6, "30d": 29, "90d": 89}
_MONTHS = {"month": 0, "last-month": 1, "12mo": 11}


def bounds_of(name: str, timezone: str, now_us: int) -> tuple[int, int]:
    """[from, to) of a named range at a moment, which it ends at (`last-month`: at the beginning of this one)."""
    if name in ("1h", "24h"):
        return now_us - (1 if name == "1h" else 24) * _HOUR_US, now_us
    today = local_date(now_us, timezone)
    if name in _DAYS:
        return start_of(today - timedelta(days=_DAYS[name]), timezone), now_us
    months = today.year * 12 + today.month - 1 - _MONTHS[name]
    begin = start_of(date(months // 12, months % 12 + 1, 1), timezone)
    return begin, start_of(today.replace(day=1), timezone) if name == "last-month" else now_us


def window_for(from_us: int, to_us: int) -> Window:
    """A window that makes some tens of bars of a range that has no name."""
    hours = (to_us - from_us) / _HOUR_US
    for most, window in (
        (3, Window.MINUTE),
        (12, Window.MINUTES_15),
        (96, Window.HOUR),
        (24 * 90, Window.DAY),
        (24 * 550, Window.WEEK),
    ):
        if hours <= most:
            return window
    return Window.MONTH


def local_date(at_us: int, timezone: str) -> date:
    """The date that the zone's calendars show."""
    return (_EPOCH + timedelta(microseconds=at_us)).astimezone(zone_of(timezone)).date()


def start_of(day: date, timezone: str, hour: int = 0) -> int:
    """When the zone's clocks first show this hour of a day, or later."""
    face = datetime(day.year, day.month, day.day, hour)  # noqa: DTZ001  (a face of a clock, not a moment)
    return first_reached_s(zone_of(timezone), face) * 1_000_000
