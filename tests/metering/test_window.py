import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.errors import Invalid
from tallystick.metering.query import Window
from tallystick.metering.window import edges, zone_of

MINUTE_US = 60_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EPOCH_FACE = datetime(1970, 1, 1)  # noqa: DTZ001
ZONES = {
    "UTC": 2024,
    "America/Los_Angeles": 2025,
    "Europe/Berlin": 2025,
    "Asia/Kathmandu": 1986,  # +05:30 to +05:45
    "Australia/Lord_Howe": 2025,  # half an hour of summer time
    "Pacific/Apia": 2011,  # no 30 December
    "America/Sao_Paulo": 2018,  # midnight skipped
    "America/St_Johns": 2006,  # clocks changed at 00:01
    "Africa/Casablanca": 2023,
    "Asia/Pyongyang": 2015,
    "America/Caracas": 2007,
    "Antarctica/Troll": 2024,  # two hours of summer time
    "Pacific/Kwajalein": 1993,  # no 21 August
}


def us(text: str) -> int:
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1)


def beginning(face: datetime, window: Window) -> datetime:
    day = face.replace(hour=0, minute=0)
    match window:
        case Window.DAY:
            return day
        case Window.WEEK:
            return day - timedelta(days=day.weekday())
        case Window.MONTH:
            return day.replace(day=1)
        case Window.QUARTER:
            return day.replace(day=1, month=(day.month - 1) // 3 * 3 + 1)
        case _:
            return day.replace(day=1, month=1)


def walk(from_us: int, to_us: int, window: Window, zone: ZoneInfo) -> tuple[int, ...]:
    """Minute by minute: look at the clock, and begin a window where the rule of window.py says so."""
    minutes = {Window.MINUTE: 1, Window.MINUTES_5: 5, Window.MINUTES_15: 15, Window.HOUR: 60}.get(window)
    moment = EPOCH + timedelta(microseconds=from_us) - timedelta(days=3)
    furthest: datetime | None = None
    before: int | None = None
    found: list[int] = []
    while (at := (moment - EPOCH) // timedelta(microseconds=1)) < to_us:
        face = moment.astimezone(zone).replace(tzinfo=None)
        if minutes is not None:
            shows = (face - EPOCH_FACE) // timedelta(minutes=1)
            if before is not None and (shows % minutes == 0 or shows // minutes != before // minutes):
                found.append(at)
            before = shows
        elif furthest is None or face > furthest:
            if furthest is not None and beginning(face, window) > beginning(furthest, window):
                found.append(at)
            furthest = face
        moment += timedelta(minutes=1)
    return (from_us, *(border for border in found if border > from_us), to_us)


def changes(name: str, year: int) -> list[int]:
    zone = zone_of(name)
    found: list[int] = []
    moment = datetime(year, 1, 1, tzinfo=UTC)
    while moment.year == year:
        following = moment + timedelta(hours=6)
        if moment.astimezone(zone).utcoffset() != following.astimezone(zone).utcoffset():
            found.append((moment - EPOCH) // timedelta(microseconds=1))
        moment = following
    return found or [us(f"{year}-06-01T00:00:00Z")]


@pytest.mark.parametrize("name", ZONES)
def test_small_windows_around_every_change_of_clocks(name: str) -> None:
    for change in changes(name, ZONES[name]):
        from_us, to_us = change - 1440 * MINUTE_US, change + 1777 * MINUTE_US
        for window in (Window.MINUTE, Window.MINUTES_5, Window.MINUTES_15, Window.HOUR, Window.DAY):
            assert edges(from_us, to_us, window, name, windows_max=5000) == walk(
                from_us, to_us, window, zone_of(name)
            ), (window, change)


@pytest.mark.parametrize("name", ["America/St_Johns", "Pacific/Apia"])
def test_calendar_windows_of_weeks_around_a_year(name: str) -> None:
    middle = us(f"{ZONES[name]}-12-31T00:00:00Z")
    from_us, to_us = middle - 8 * 1440 * MINUTE_US, middle + 3 * 1440 * MINUTE_US
    for window in (Window.DAY, Window.WEEK, Window.MONTH, Window.QUARTER, Window.YEAR):
        assert edges(from_us, to_us, window, name, windows_max=100) == walk(
            from_us, to_us, window, zone_of(name)
        )


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(ZONES)),
    st.sampled_from(list(Window)),
    st.integers(us("1972-01-01T00:00:00Z") // MINUTE_US, us("2037-01-01T00:00:00Z") // MINUTE_US),
    st.integers(1, 3000),
)
def test_any_range_against_the_walk(name: str, window: Window, start_minute: int, minutes: int) -> None:
    from_us, to_us = start_minute * MINUTE_US, (start_minute + minutes) * MINUTE_US
    assert edges(from_us, to_us, window, name, windows_max=5000) == walk(
        from_us, to_us, window, zone_of(name)
    )


@given(
    st.sampled_from([*sorted(ZONES), "Europe/Amsterdam", "Africa/Monrovia"]),
    st.sampled_from(list(Window)),
    st.integers(-(10**16), 10**16),
    st.integers(1, 10**11),
)
def test_windows_partition_the_range(name: str, window: Window, from_us: int, length_us: int) -> None:
    borders = edges(from_us, from_us + length_us, window, name, windows_max=5000)
    assert (borders[0], borders[-1]) == (from_us, from_us + length_us)
    assert all(one < next_one for one, next_one in itertools.pairwise(borders))
    assert all(border % 1_000_000 == 0 for border in borders[1:-1])


def test_a_day_of_23_hours() -> None:
    borders = edges(
        us("2025-03-06T08:00:00Z"),
        us("2025-03-13T07:00:00Z"),
        Window.DAY,
        "America/Los_Angeles",
        windows_max=10,
    )
    hours = [(end - start) / 3_600_000_000 for start, end in itertools.pairwise(borders)]
    assert hours == [24, 24, 24, 23, 24, 24, 24]


def test_a_skipped_day_has_no_window() -> None:
    borders = edges(
        us("2011-12-29T00:00:00-10:00"),
        us("2012-01-01T00:00:00+14:00"),
        Window.DAY,
        "Pacific/Apia",
        windows_max=10,
    )
    assert borders == tuple(
        us(text)
        for text in ("2011-12-29T00:00:00-10:00", "2011-12-31T00:00:00+14:00", "2012-01-01T00:00:00+14:00")
    )


def test_local_mean_time_has_seconds() -> None:
    borders = edges(
        us("1890-01-01T00:00:00Z"), us("1890-01-01T02:00:00Z"), Window.HOUR, "Europe/Berlin", windows_max=10
    )  # +00:53:28
    assert borders[1] == us("1890-01-01T00:06:32Z")


def test_first_and_last_are_cut_and_one_total_is_the_range() -> None:
    from_us, to_us = us("2025-01-15T10:30:00.000001Z"), us("2025-03-02T00:00:00Z")
    assert edges(from_us, to_us, Window.MONTH, "UTC", windows_max=3) == (
        from_us, us("2025-02-01T00:00:00Z"), us("2025-03-01T00:00:00Z"), to_us,
    )  # fmt: skip
    assert edges(from_us, to_us, None, "UTC", windows_max=1) == (from_us, to_us)


@pytest.mark.parametrize(
    ("from_text", "to_text", "window", "timezone", "code"),
    [
        ("2025-01-02T00:00:00Z", "2025-01-02T00:00:00Z", Window.DAY, "UTC", "empty_range"),
        ("2025-01-02T00:00:00Z", "2025-01-01T00:00:00Z", None, "UTC", "empty_range"),
        ("2025-01-01T00:00:00Z", "2025-01-02T00:00:00Z", None, "Mars/Olympus", "unknown_timezone"),
        ("2025-01-01T00:00:00Z", "2025-01-02T00:00:00Z", Window.DAY, "../../etc/passwd", "unknown_timezone"),
        ("2025-01-01T00:00:00Z", "2025-01-02T00:00:00Z", Window.DAY, "", "unknown_timezone"),
        ("0001-01-01T00:00:00Z", "9999-12-31T00:00:00Z", Window.MINUTE, "UTC", "time_out_of_range"),
        ("0002-01-01T00:00:00Z", "9999-12-01T00:00:00Z", Window.MINUTE, "UTC", "too_many_windows"),
        ("2025-01-01T00:00:00Z", "2025-01-12T00:00:00Z", Window.DAY, "UTC", "too_many_windows"),
    ],
)
def test_refusals(from_text: str, to_text: str, window: Window | None, timezone: str, code: str) -> None:
    with pytest.raises(Invalid) as refused:
        edges(us(from_text), us(to_text), window, timezone, windows_max=10)
    assert refused.value.code == code
    assert refused.value.faults[0].code == code


def test_the_limit_is_exact() -> None:
    assert (
        len(edges(us("2025-01-01T00:00:00Z"), us("2025-01-11T00:00:00Z"), Window.DAY, "UTC", windows_max=10))
        == 11
    )
