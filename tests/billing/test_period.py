"""Periods and shares of them, as tables: month ends, leap days, clocks that change, zones on both sides of the date line."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.billing.period import Cadence, Period, add_days, add_length, parse_length
from tallystick.billing.proration import Change, ProrateBy, levels, share
from tallystick.rating.rate import Level

D = Decimal
DAY_US = 86_400_000_000


def us(text: str) -> int:
    text = text if "T" in text else text + "T00:00:00Z"
    return (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def text(moment_us: int) -> str:
    return (
        (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=moment_us))
        .isoformat()
        .replace("+00:00", "Z")
    )


def cadence(length: str, timezone: str = "UTC", anchor: str | None = None) -> Cadence:
    parsed = parse_length(length)
    assert parsed is not None
    assert parse_length(parsed.text()) == parsed
    return Cadence(parsed, timezone, None if anchor is None else us(anchor))


@pytest.mark.parametrize(
    ("length", "timezone", "anchor", "at", "begin", "end"),
    [
        # by the calendar
        ("month", "UTC", None, "2026-02-28T23:59:59Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"),
        ("month", "UTC", None, "2024-02-29T12:00:00Z", "2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z"),
        ("quarter", "UTC", None, "2026-05-05T00:00:00Z", "2026-04-01T00:00:00Z", "2026-07-01T00:00:00Z"),
        ("half_year", "UTC", None, "2026-12-31T00:00:00Z", "2026-07-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("year", "Asia/Tokyo", None, "2025-12-31T15:00:00Z", "2025-12-31T15:00:00Z", "2026-12-31T15:00:00Z"),
        ("week", "UTC", None, "2026-07-05T23:00:00Z", "2026-06-29T00:00:00Z", "2026-07-06T00:00:00Z"),
        ("day", "America/New_York", None, "2026-03-08T12:00:00Z", "2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z"),
        ("day", "America/New_York", None, "2026-11-01T12:00:00Z", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z"),
        ("hour", "Asia/Kolkata", None, "2026-07-01T12:34:56Z", "2026-07-01T12:00:00Z", "2026-07-01T13:00:00Z"),
        ("PT6H", "UTC", "2026-07-01T01:00:00Z", "2026-07-02T00:00:00Z", "2026-07-01T19:00:00Z", "2026-07-02T01:00:00Z"),
        # both sides of the date line
        ("month", "Pacific/Kiritimati", None, "2026-06-30T10:00:00Z", "2026-06-30T10:00:00Z", "2026-07-31T10:00:00Z"),
        ("month", "Pacific/Kiritimati", None, "2026-06-30T09:59:59Z", "2026-05-31T10:00:00Z", "2026-06-30T10:00:00Z"),
        ("month", "Pacific/Pago_Pago", None, "2026-07-01T10:59:59Z", "2026-06-01T11:00:00Z", "2026-07-01T11:00:00Z"),
        # a day that Samoa skipped
        ("day", "Pacific/Apia", None, "2011-12-30T09:00:00Z", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z"),
        ("day", "Pacific/Apia", None, "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"),
        # a day that begins at one, because clocks skip midnight
        ("day", "America/Havana", None, "2026-03-08T12:00:00Z", "2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z"),
        # from an anchor on the 31st: cut to the month's end, and not lost afterwards
        ("month", "UTC", "2026-01-31T15:00:00Z", "2026-02-28T14:59:59Z", "2026-01-31T15:00:00Z", "2026-02-28T15:00:00Z"),
        ("month", "UTC", "2026-01-31T15:00:00Z", "2026-02-28T15:00:00Z", "2026-02-28T15:00:00Z", "2026-03-31T15:00:00Z"),
        ("month", "UTC", "2026-01-31T00:00:00Z", "2028-02-29T00:00:00Z", "2028-02-29T00:00:00Z", "2028-03-31T00:00:00Z"),
        ("month", "UTC", "2026-01-31T00:00:00Z", "2025-12-01T00:00:00Z", "2025-11-30T00:00:00Z", "2025-12-31T00:00:00Z"),
        # a leap day
        ("year", "UTC", "2024-02-29T00:00:00Z", "2025-06-01T00:00:00Z", "2025-02-28T00:00:00Z", "2026-02-28T00:00:00Z"),
        ("year", "UTC", "2024-02-29T00:00:00Z", "2028-02-29T00:00:00Z", "2028-02-29T00:00:00Z", "2029-02-28T00:00:00Z"),
        # the anchor's time of day, by the zone's clock, in summer as in winter
        ("month", "Europe/Berlin", "2026-01-15T09:00:00Z", "2026-07-20T00:00:00Z", "2026-07-15T08:00:00Z", "2026-08-15T08:00:00Z"),
        # 02:30 does not exist on 29 March 2026 in Berlin: the period begins when clocks change
        ("day", "Europe/Berlin", "2026-03-01T01:30:00Z", "2026-03-29T12:00:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"),
        ("P2W", "UTC", "2026-01-07T00:00:00Z", "2026-01-30T00:00:00Z", "2026-01-21T00:00:00Z", "2026-02-04T00:00:00Z"),
        ("P2Y", "UTC", None, "2027-05-05T00:00:00Z", "2026-01-01T00:00:00Z", "2028-01-01T00:00:00Z"),
    ],
)  # fmt: skip
def test_periods(*, length: str, timezone: str, anchor: str | None, at: str, begin: str, end: str) -> None:
    found = cadence(length, timezone, anchor).period_at(us(at))
    assert (text(found.from_us), text(found.to_us)) == (begin, end)


@pytest.mark.parametrize(
    "wrong", ["", "months", "P", "P0M", "P1Y6M", "PT0H", "PT", "P21Y", "P9999M", "-P1M", "PT30M"]
)
def test_no_lengths(wrong: str) -> None:
    assert parse_length(wrong) is None


ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Pacific/Apia",
    "Pacific/Kiritimati",
    "Australia/Lord_Howe",
    "America/Havana",
]
MOMENTS = st.integers(us("1995-01-01"), us("2045-01-01"))


@given(
    st.sampled_from(["hour", "PT7H", "day", "P10D", "week", "month", "quarter", "P5M", "year"]),
    st.sampled_from(ZONES),
    st.none() | MOMENTS,
    MOMENTS,
)
def test_periods_follow_each_other_without_a_gap(
    length: str, timezone: str, anchor_us: int | None, at_us: int
) -> None:
    parsed = parse_length(length)
    assert parsed is not None
    one = Cadence(parsed, timezone, anchor_us)
    first = one.period_at(at_us)
    assert at_us in first
    following = [first]
    for _ in range(4):
        following.append(one.after(following[-1]))
    assert all(earlier.to_us == later.from_us for earlier, later in pairwise(following))
    assert one.before(following[1]) == first
    for period in following:
        assert one.period_at(period.from_us) == period == one.period_at(period.to_us - 1)
    if anchor_us is not None:
        assert one.period_at(anchor_us).from_us == anchor_us


def test_days_and_lengths_are_the_zones() -> None:
    assert text(add_days(us("2026-03-28T12:00:00Z"), 1, "Europe/Berlin")) == "2026-03-29T11:00:00Z"
    month = parse_length("month")
    assert month is not None
    assert text(add_length(us("2026-01-31"), month, "UTC")) == "2026-02-28T00:00:00Z"


# -- shares -----------------------------------------------------------------------------------------------------------
JULY = Period(us("2026-07-01"), us("2026-08-01"))


@pytest.mark.parametrize(
    ("begin", "end", "ends", "days"),
    [
        ("2026-07-01", "2026-08-01", True, 31),
        ("2026-07-16", "2026-08-01", True, 16),
        ("2026-07-16T18:00:00Z", "2026-08-01", True, 16),  # a day that is begun counts
        ("2026-07-01", "2026-07-16T18:00:00Z", True, 16),  # the last one, too
        ("2026-07-01", "2026-07-16T18:00:00Z", False, 15),  # unless something follows on it
        ("2026-07-01", "2026-07-16", True, 15),
        ("2026-07-05T08:00:00Z", "2026-07-05T09:00:00Z", True, 1),
        ("2026-07-05T08:00:00Z", "2026-07-05T09:00:00Z", False, 0),
    ],
)
def test_shares_by_day(begin: str, end: str, ends: bool, days: int) -> None:
    part = Period(us(begin), us(end))
    found = share(JULY, part, by=ProrateBy.DAY, timezone="UTC", ends=ends)
    assert (found.numerator, found.denominator) in {(days, 31), (1, 1) if days == 31 else (days, 31)}


def test_shares_by_second_and_none() -> None:
    part = Period(us("2026-07-01"), us("2026-07-16T12:00:00Z"))
    assert share(JULY, part, by=ProrateBy.SECOND, timezone="UTC").of(D(62)) == 31
    assert share(JULY, part, by=ProrateBy.NONE, timezone="UTC").of(D(62)) == 62
    assert share(JULY, None, by=ProrateBy.DAY, timezone="UTC").of(D(62)) == 0


@given(
    st.lists(st.integers(1, 31 * 24 * 60 - 1), min_size=1, max_size=5, unique=True),
    st.sampled_from(ZONES),
    st.sampled_from(["day", "second"]),
)
def test_shares_of_what_follows_each_other_add_up(minutes: list[int], timezone: str, by: str) -> None:
    period = cadence("month", timezone).period_at(us("2026-03-15"))
    borders = [
        period.from_us,
        *(period.from_us + minute * 60_000_000 for minute in sorted(minutes)),
        period.to_us,
    ]
    borders = [border for border in borders if border <= period.to_us]
    parts = [Period(*pair) for pair in pairwise(dict.fromkeys(borders))]
    shares = [
        share(period, part, by=ProrateBy(by), timezone=timezone, ends=part is parts[-1]).fraction
        for part in parts
    ]
    assert sum(shares) == 1
    assert min(shares) >= 0


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([], [(0, 31)]),
        ([("2026-06-15", 5)], [(5, 31)]),
        ([("2026-06-15", 5), ("2026-07-11", 7)], [(5, 10), (7, 21)]),
        ([("2026-06-15", 5), ("2026-07-11T15:00:00Z", 7)], [(5, 10), (7, 21)]),  # more counts from its day on
        ([("2026-06-15", 5), ("2026-07-11T15:00:00Z", 2)], [(5, 11), (2, 20)]),  # less from the day after
        ([("2026-06-15", 5), ("2026-07-11", 2)], [(5, 10), (2, 21)]),
        ([("2026-07-11T01:00:00Z", 9), ("2026-07-11T02:00:00Z", 0)], [(0, 10), (9, 1), (0, 20)]),
    ],
)
def test_levels_by_day(changes: list[tuple[str, int]], expected: list[tuple[int, int]]) -> None:
    made = [Change(us(at), D(quantity)) for at, quantity in changes]
    found = levels(JULY, JULY, made, by=ProrateBy.DAY, timezone="UTC")
    assert found == tuple(Level(D(quantity), days, 31) for quantity, days in expected)


def test_levels_by_second_and_none() -> None:
    made = [Change(us("2026-06-15"), D(5)), Change(us("2026-07-16T12:00:00Z"), D(7))]
    half = JULY.length_us // 2
    assert levels(JULY, JULY, made, by=ProrateBy.SECOND, timezone="UTC") == (
        Level(D(5), half, JULY.length_us),
        Level(D(7), half, JULY.length_us),
    )
    assert levels(JULY, JULY, made, by=ProrateBy.NONE, timezone="UTC") == (Level(D(7), 1, 1),)
