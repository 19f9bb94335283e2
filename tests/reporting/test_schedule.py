"""When reports are due, and over which range, against a slow walk through the hours."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.errors import Invalid
from tallystick.metering.instant import instant_text, instant_us
from tallystick.reporting.ranges import bounds_of
from tallystick.reporting.report import read_report
from tallystick.reporting.schedule import WEEKDAYS, Schedule

BASE: dict[str, Any] = {"key": "r", "view": "v", "format": "csv", "channel": "ops"}


def schedule(**members: Any) -> Schedule:
    return read_report({**BASE, "schedule": members}).schedule


def dues(one: Schedule, since: str, count: int) -> list[str]:
    at_us, found = instant_us(since), list[str]()
    for _ in range(count):
        at_us = one.after(at_us)
        found.append(instant_text(at_us))
    return found


def test_every_day_over_a_change_of_clocks() -> None:
    daily = schedule(every="day", hour=2, timezone="Europe/Berlin")
    # 29 March 2026: 02:00 is skipped, and 03:00 (01:00 UTC) is the first moment after it.
    assert dues(daily, "2026-03-27T12:00:00Z", 3) == [
        "2026-03-28T01:00:00Z",
        "2026-03-29T01:00:00Z",
        "2026-03-30T00:00:00Z",
    ]
    # 25 October 2026: 02:00 is shown twice, and the first counts.
    assert dues(daily, "2026-10-24T12:00:00Z", 2) == ["2026-10-25T00:00:00Z", "2026-10-26T01:00:00Z"]


def test_the_last_day_of_a_month() -> None:
    monthly = schedule(every="month", day=31, hour=0, timezone="UTC")
    assert dues(monthly, "2028-01-15T00:00:00Z", 4) == [
        "2028-01-31T00:00:00Z",
        "2028-02-29T00:00:00Z",
        "2028-03-31T00:00:00Z",
        "2028-04-30T00:00:00Z",
    ]


ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Kiritimati")


@given(
    every=st.sampled_from(["day", "week", "month"]),
    zone=st.sampled_from(ZONES),
    hour=st.integers(0, 23),
    place=st.integers(0, 30),
    at=st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1)),  # noqa: DTZ001
)
def test_after_and_latest_are_each_others_neighbours(
    every: Any, zone: str, hour: int, place: int, at: datetime
) -> None:
    one = Schedule(every, zone, hour, place % 7, place + 1)
    at_us = round(at.replace(tzinfo=UTC).timestamp()) * 1_000_000
    after, latest = one.after(at_us), one.latest(at_us)
    assert latest <= at_us < after
    assert one.after(latest) == after
    assert one.latest(after) == after
    assert one.count(latest, after) == 1
    local = datetime.fromtimestamp(after / 1e6, UTC).astimezone(ZoneInfo(zone))
    assert local.hour == hour or local.utcoffset() != (local - timedelta(hours=3)).utcoffset()
    if every == "week":
        assert local.weekday() == place % 7
    if every == "month":
        assert local.day == place + 1 or (local + timedelta(days=1)).day == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("24h", ("2026-07-14T22:30:00Z", "2026-07-15T22:30:00Z")),
        ("7d", ("2026-07-09T22:00:00Z", "2026-07-15T22:30:00Z")),
        ("month", ("2026-06-30T22:00:00Z", "2026-07-15T22:30:00Z")),
        ("last-month", ("2026-05-31T22:00:00Z", "2026-06-30T22:00:00Z")),
        ("12mo", ("2025-07-31T22:00:00Z", "2026-07-15T22:30:00Z")),
    ],
)
def test_ranges_are_whole_days_and_months_of_the_zone(name: str, expected: tuple[str, str]) -> None:
    # In Berlin it is the 16th already.
    found = bounds_of(name, "Europe/Berlin", instant_us("2026-07-15T22:30:00Z"))
    assert tuple(map(instant_text, found)) == expected


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({"every": "year"}, [("/schedule/every", "invalid_value")]),
        ({}, [("/schedule/every", "missing")]),
        ({"every": "day", "day": 3}, [("/schedule/day", "invalid_value")]),
        ({"every": "week", "weekday": "Montag"}, [("/schedule/weekday", "invalid_value")]),
        (
            {"every": "month", "hour": 24, "timezone": "Mars/Base", "x": 1},
            [
                ("/schedule/timezone", "unknown_timezone"),
                ("/schedule/hour", "invalid_number"),
                ("/schedule/x", "unknown_member"),
            ],
        ),
    ],
)
def test_every_fault_at_once(schedule: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    with pytest.raises(Invalid) as raised:
        read_report({**BASE, "schedule": schedule})
    assert [(fault.pointer, fault.code) for fault in raised.value.faults] == expected


def test_a_report_reads_what_it_writes() -> None:
    for weekday in WEEKDAYS:
        made = read_report({**BASE, "schedule": {"every": "week", "weekday": weekday}})
        assert read_report(made.to_wire()) == made
