"""Aggregations that look at more than one reading at a time, by tables that can be checked by hand."""

import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.metering.evaluate import OracleEvent, evaluate
from tallystick.metering.meter import PERCENTILES, Aggregation, Dimension, InnerAggregation, Meter
from tallystick.metering.query import Filter, Operator, UsageQuery, Window
from tallystick.metering.window import edges

HOUR_US = 3_600_000_000
SECOND_US = 1_000_000
DAY_US = 24 * HOUR_US


def meter(aggregation: Aggregation, **more: Any) -> Meter:
    duration = aggregation is Aggregation.DURATION
    members: dict[str, Any] = {"value": "$.state" if duration else "$.v", **more}
    return Meter(
        1, "default", "m", 1, "m", "call", aggregation, dimensions=(Dimension("model", "$.model"),),
        pair_by="$.session" if duration else None, **members,
    )  # fmt: skip


def us(text: str) -> int:
    return (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def at(
    time_us: int, position: int = 0, *, customer: str = "acme", subject: str = "s", **data: Any
) -> OracleEvent:
    return OracleEvent(
        "default", "/", str(position), "call", subject, customer, time_us, position or time_us + 1, 1,
        json.dumps(data).encode(),
    )  # fmt: skip


def rows(one: Meter, events: list[OracleEvent], *edges_us: int, **more: Any) -> list[tuple[Any, ...]]:
    asked = UsageQuery(one, edges_us[0], edges_us[-1], edges_us, **more)
    return [
        (*((row.window_start_us,) if len(edges_us) > 2 else ()), *row.group, None if row.value is None else plain(row.value))
        for row in evaluate(asked, events)
    ]  # fmt: skip


def plain(value: Decimal) -> str:
    return format(value.normalize() + 0, "f")


def hours(*readings: tuple[float, float], **more: Any) -> list[OracleEvent]:
    """Readings of one gauge or register at hours."""
    return [at(int(hour * HOUR_US), position, v=v, **more) for position, (hour, v) in enumerate(readings, 1)]


def seconds(text: str, **more: Any) -> list[OracleEvent]:
    """Starts and stops of one session at seconds, in the order they arrived: "+3 -10"."""
    return [
        at(int(float(word[1:]) * SECOND_US), position, state={"+": "start", "-": "stop"}[word[0]], **({"session": 1} | more))
        for position, word in enumerate(text.split(), 1)
    ]  # fmt: skip


# -- time_weighted ----------------------------------------------------------------------------------------------------

GAUGE = meter(Aggregation.TIME_WEIGHTED)


def test_the_worked_example() -> None:
    events = hours((0, 10), (6, 7), (12, 12), (18, 12), (23, 10))
    assert rows(GAUGE, events, 0, DAY_US) == [("244",)]


def test_a_level_is_carried_over_windows_and_from_before_the_range() -> None:
    events = hours((0, 2), (25, 5))
    assert rows(GAUGE, events, 10 * HOUR_US, 20 * HOUR_US) == [("20",)]
    assert rows(GAUGE, events, *(hour * HOUR_US for hour in (23, 24, 25, 26, 28))) == [
        (23 * HOUR_US, "2"),
        (24 * HOUR_US, "2"),
        (25 * HOUR_US, "5"),
        (26 * HOUR_US, "10"),
    ]


def test_a_level_of_zero_is_data_and_what_comes_later_is_none() -> None:
    events = hours((1, 3), (2, 0))
    borders = [hour * HOUR_US for hour in (0, 1, 2, 3)]
    assert rows(GAUGE, events, *borders) == [(HOUR_US, "3"), (2 * HOUR_US, "0")]
    assert rows(GAUGE, hours((5, 3)), *borders) == []
    assert rows(GAUGE, hours((3, 3)), *borders) == []


def test_levels_over_month_borders_and_days_of_other_lengths() -> None:
    events = [at(us("2024-01-15T00:00:00Z"), v=1)]
    months = edges(us("2024-01-01T00:00:00Z"), us("2024-04-01T00:00:00Z"), Window.MONTH, "UTC", windows_max=9)
    assert [row[1] for row in rows(GAUGE, events, *months)] == [str(17 * 24), str(29 * 24), str(31 * 24)]
    berlin = edges(
        us("2024-03-30T00:00:00+01:00"), us("2024-04-01T00:00:00+02:00"), Window.DAY, "Europe/Berlin", windows_max=9
    )  # fmt: skip
    assert [row[1] for row in rows(GAUGE, events, *berlin)] == ["24", "23"]
    berlin = edges(
        us("2024-10-27T00:00:00+02:00"), us("2024-10-29T00:00:00+01:00"), Window.DAY, "Europe/Berlin", windows_max=9
    )  # fmt: skip
    assert [row[1] for row in rows(GAUGE, events, *berlin)] == ["25", "24"]


def test_a_timeout_ends_a_level() -> None:
    one = replace(GAUGE, timeout_us=HOUR_US)
    events = hours((0, 4), (0.5, 6), (10, 1))
    assert rows(one, events, 0, DAY_US) == [("9",)]  # 4 × 0.5 + 6 × 1 + 1 × 1
    assert rows(one, events, HOUR_US, 2 * HOUR_US) == [("3",)]
    # Once it has timed out there is no level to carry, so there is no row.
    assert rows(one, events, HOUR_US * 3 // 2, 3 * HOUR_US) == []
    assert rows(one, events, 0, HOUR_US, 2 * HOUR_US, 3 * HOUR_US) == [(0, "5"), (HOUR_US, "3")]


def test_of_readings_at_the_same_time_the_later_position_holds() -> None:
    events = [at(0, 7, v=1), at(0, 9, v=5), at(0, 8, v=3)]
    assert rows(GAUGE, events, 0, HOUR_US) == [("5",)]


def test_the_future_is_not_used() -> None:
    events = hours((0, 2), (5, 100))
    borders = [hour * HOUR_US for hour in (0, 2, 4, 6)]
    assert rows(GAUGE, events, *borders, now_us=3 * HOUR_US) == [(0, "4"), (2 * HOUR_US, "2")]
    assert rows(GAUGE, events, *borders, now_us=3 * HOUR_US, fill_zero=True)[-1] == (4 * HOUR_US, "0")
    assert rows(GAUGE, events, *borders, now_us=9 * HOUR_US)[-1] == (4 * HOUR_US, "102")
    assert rows(GAUGE, events, *borders, now_us=0) == []


def test_every_subject_and_dimension_has_a_curve_and_totals_are_their_sum() -> None:
    events = [
        at(0, 1, v=1, subject="a"),
        at(0, 2, v=2, subject="b"),
        at(HOUR_US, 3, v=5, subject="a"),
        at(HOUR_US, 4, v=7, subject="a", model="x"),
        at(0, 5, v=100, customer="bee"),
    ]
    assert rows(GAUGE, events, 0, 2 * HOUR_US, customers=("acme",)) == [("17",)]  # 1 + 5, 2 + 2, 7
    assert rows(GAUGE, events, 0, 2 * HOUR_US, customers=("acme",), group_by=("subject", "model")) == [
        ("a", None, "6"),
        ("a", "x", "7"),
        ("b", None, "4"),
    ]
    one = (Filter("subject", Operator.EQ, ("b",)),)
    assert rows(GAUGE, events, 0, 2 * HOUR_US, filters=one) == [("4",)]
    assert rows(GAUGE, events, 0, 2 * HOUR_US, group_by=("customer",), descending=True, limit=1) == [
        ("bee", "200")
    ]


def test_an_area_is_rounded_once() -> None:
    third = [at(0, v=1), at(1_200_000_000, v=0)]
    assert rows(GAUGE, third, 0, HOUR_US) == [("0.333333333333333333",)]
    three = [replace(event, subject=subject) for event in third for subject in "abc"]
    assert rows(GAUGE, three, 0, HOUR_US) == [("1",)]


# -- duration ---------------------------------------------------------------------------------------------------------

PAIRS = meter(Aggregation.DURATION)


@pytest.mark.parametrize(
    ("arrived", "total"),
    [
        ("+10 -25", "15"),
        ("-25 +10", "15"),  # the stop arrived first
        ("+10 +15 -25", "15"),  # a start while open is ignored
        ("+10 -25 -30", "15"),  # a stop without a start is ignored
        ("-5 +10 -25", "15"),
        ("+10 -25 +30 -31.5", "16.5"),
        ("+10 -25 +25 -30", "20"),
        ("+10.000001 -10.000003", "0.000002"),
        ("+10", None),  # only closed pairs count
        ("-10", None),
        ("+10 -10", "0"),
        ("-10 +10", None),  # at the same time the position decides
        ("+10 -200", "90"),  # up to the border of the range
        ("+90 -100", "10"),
    ],
)
def test_pairs(arrived: str, total: str | None) -> None:
    assert rows(PAIRS, seconds(arrived), 0, 100 * SECOND_US) == ([] if total is None else [(total,)])


@pytest.mark.parametrize(
    ("arrived", "now_s", "total"),
    [
        ("+10", 100, "30"),  # closed by the timeout
        ("+10", 40, "30"),
        ("+10", 39, None),  # not yet
        ("+10 -25", 100, "15"),
        ("+10 -60", 100, "30"),  # longer than the timeout
        ("+10 -40", 100, "30"),
        ("+10 +30 -60", 100, "30"),  # 30 was ignored; 60 has nothing to stop
        ("+10 +40 -60", 100, "50"),  # 40 opens again
        ("+10 +40 +70", 200, "90"),
        ("+80", 200, "20"),  # to 110, of which 20 lie in the range
    ],
)
def test_pairs_with_a_timeout(arrived: str, now_s: int, total: str | None) -> None:
    one = replace(PAIRS, timeout_us=30 * SECOND_US)
    answered = rows(one, seconds(arrived), 0, 100 * SECOND_US, now_us=now_s * SECOND_US)
    assert answered == ([] if total is None else [(total,)])


def test_seconds_fall_where_they_were_spent() -> None:
    events = seconds("+50 -250")
    borders = [second * SECOND_US for second in (0, 100, 200, 300, 400)]
    assert [row[1] for row in rows(PAIRS, events, *borders)] == ["50", "100", "50"]
    # A pair that began before the range and ends after it.
    assert rows(PAIRS, events, 100 * SECOND_US, 200 * SECOND_US) == [("100",)]
    assert rows(PAIRS, events, 250 * SECOND_US, 300 * SECOND_US) == []
    assert rows(PAIRS, events, 0, 50 * SECOND_US) == []


def test_pairs_of_sessions_and_subjects_are_kept_apart_and_named_by_their_start() -> None:
    events = [
        *seconds("+0", session=1, model="x"),
        *seconds("+10", session=2, model="y"),
        *seconds("-40", session=1),
        *seconds("-20", session="2", model="z"),
        *(replace(event, subject="other") for event in seconds("+5 -6")),
    ]
    assert rows(PAIRS, events, 0, DAY_US) == [("51",)]
    assert rows(PAIRS, events, 0, DAY_US, group_by=("model",)) == [(None, "1"), ("x", "40"), ("y", "10")]
    assert rows(PAIRS, events, 0, DAY_US, filters=(Filter("model", Operator.EQ, ("x",)),)) == [("40",)]


# -- register ---------------------------------------------------------------------------------------------------------

REGISTER = meter(Aggregation.REGISTER)


def test_a_register_counts_what_was_added() -> None:
    events = hours((1, 100), (2, 130), (3, 5), (4, 5), (5, 25.5))
    borders = [hour * HOUR_US for hour in (0, 2, 3, 4, 5, 6)]
    assert [row[1] for row in rows(REGISTER, events, *borders)] == ["0", "30", "5", "0", "20.5"]
    assert rows(REGISTER, events, 0, DAY_US) == [("55.5",)]
    # The reading before may lie before the range.
    assert rows(REGISTER, events, 2 * HOUR_US, 3 * HOUR_US) == [("30",)]
    assert rows(REGISTER, events, 6 * HOUR_US, 7 * HOUR_US) == []


def test_a_register_reading_that_arrives_late_comes_right() -> None:
    late = [at(3 * HOUR_US, 1, v=150), at(HOUR_US, 2, v=100), at(2 * HOUR_US, 3, v=120)]
    borders = [hour * HOUR_US for hour in (0, 2, 3, 4)]
    assert [row[1] for row in rows(REGISTER, late, *borders)] == ["0", "20", "30"]
    assert [row[1] for row in rows(REGISTER, late[:2], *borders)] == ["0", "50"]
    same_time = [at(HOUR_US, 1, v=100), at(HOUR_US, 3, v=10), at(HOUR_US, 2, v=110)]
    assert rows(REGISTER, same_time, 0, DAY_US) == [("20",)]  # 100, 110, 10


def test_every_subject_and_dimension_has_a_register() -> None:
    events = [
        at(1, 1, v=100, subject="a"), at(2, 2, v=7, subject="b"), at(3, 3, v=101, subject="a"),
        at(4, 4, v=9, subject="b"), at(5, 5, v=1000, subject="a", model="x"), at(6, 6, v=50, customer="bee", subject="a"),
    ]  # fmt: skip
    assert rows(REGISTER, events, 0, 9, group_by=("subject",)) == [("a", "1"), ("b", "2")]


# -- percentiles ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "p50", "p90", "p95", "p99"),
    [(1, 1, 1, 1, 1), (2, 1, 2, 2, 2), (10, 5, 9, 10, 10), (20, 10, 18, 19, 20), (100, 50, 90, 95, 99), (101, 51, 91, 96, 100)],
)  # fmt: skip
def test_nearest_rank(count: int, p50: int, p90: int, p95: int, p99: int) -> None:
    events = [at(place, v=count - place) for place in range(count)]  # count … 1
    for aggregation, expected in zip(PERCENTILES, (p50, p90, p95, p99), strict=True):
        assert rows(meter(aggregation), events, 0, DAY_US) == [(str(expected),)]


# -- aggregates of aggregates -----------------------------------------------------------------------------------------


def of(outer: Aggregation, inner: Aggregation, window: Window = Window.DAY) -> Meter:
    return meter(
        outer, value=None if inner is Aggregation.COUNT else "$.v", of=InnerAggregation(inner, window)
    )


DAYS = [day * DAY_US for day in range(4)]
PEAKS = [
    *hours((1, 5), (2, 9), (30, 4), (50, 6), (51, 2), model="x"),
    at(3 * HOUR_US, 90, customer="bee", v=100),
]


@pytest.mark.parametrize(
    ("outer", "inner", "total"),
    [
        (Aggregation.SUM, Aggregation.MAX, "119"),  # 9, 4, 6 and 100
        (Aggregation.MAX, Aggregation.SUM, "100"),  # 14, 4, 8 and 100
        (Aggregation.MIN, Aggregation.SUM, "4"),
        (Aggregation.AVERAGE, Aggregation.COUNT, "1.5"),  # 2, 1, 2 and 1
        (Aggregation.COUNT, Aggregation.MIN, "4"),  # days of customers with data
        (Aggregation.LATEST, Aggregation.AVERAGE, "4"),
        (Aggregation.P50, Aggregation.MAX, "6"),
        (Aggregation.SUM, Aggregation.UNIQUE_COUNT, "6"),
        (Aggregation.SUM, Aggregation.P90, "119"),
        (Aggregation.SUM, Aggregation.LATEST, "115"),  # 9, 4, 2 and 100
    ],
)
def test_an_aggregate_of_aggregates(outer: Aggregation, inner: Aggregation, total: str) -> None:
    assert rows(of(outer, inner), PEAKS, 0, DAYS[-1], inner_edges_us=tuple(DAYS)) == [(total,)]


def test_inner_figures_are_of_one_group_and_cut_to_windows_and_range() -> None:
    peaks = of(Aggregation.SUM, Aggregation.MAX)
    inner = {"inner_edges_us": tuple(DAYS)}
    assert rows(peaks, PEAKS, 0, DAYS[-1], group_by=("customer",), **inner) == [
        ("acme", "19"),
        ("bee", "100"),
    ]
    assert rows(peaks, PEAKS, 0, DAYS[-1], group_by=("model",), **inner) == [(None, "100"), ("x", "19")]
    # Windows of 36 hours cut the second day: each has a maximum of its own part of it.
    borders = [0, 36 * HOUR_US, DAYS[-1]]
    assert [row[1] for row in rows(peaks, PEAKS, *borders, **inner)] == ["113", "6"]
    hourly = [hour * HOUR_US for hour in range(4)]
    cut = (0, 3 * HOUR_US)
    assert [row[1] for row in rows(peaks, PEAKS, *hourly[:4], inner_edges_us=cut)] == ["5", "9"]
    assert rows(peaks, PEAKS, 2 * HOUR_US, DAYS[2], inner_edges_us=(2 * HOUR_US, DAYS[1], DAYS[2])) == [
        ("113",)
    ]
    assert rows(peaks, PEAKS, 2 * HOUR_US, DAYS[2], group_by=("model",), inner_edges_us=(2 * HOUR_US, DAYS[1], DAYS[2]),
                descending=True, limit=1) == [(None, "100")]  # fmt: skip


def test_inner_windows_are_of_the_zone() -> None:
    events = [
        at(us("2024-03-30T22:30:00Z"), v=3),
        at(us("2024-03-30T23:30:00Z"), v=2),
        at(us("2024-03-31T21:30:00Z"), v=1),
    ]
    from_us, to_us = us("2024-03-30T00:00:00+01:00"), us("2024-04-01T00:00:00+02:00")
    for zone, total in (("UTC", "4"), ("Europe/Berlin", "5")):
        inner = edges(from_us, to_us, Window.DAY, zone, windows_max=9)
        asked = rows(of(Aggregation.SUM, Aggregation.MAX), events, from_us, to_us, inner_edges_us=inner)
        assert asked == [(total,)]


# -- what was taken back ----------------------------------------------------------------------------------------------


def test_an_event_counts_up_to_the_moment_it_was_taken_back() -> None:
    kept = at(1, v=1)
    gone = replace(at(2, v=10), recorded_at_us=5, superseded_at_us=9)
    total = meter(Aggregation.SUM)
    for as_of_us, expected in ((4, "1"), (5, "11"), (8, "11"), (9, "1"), (None, "1")):
        assert rows(total, [kept, gone], 0, 100, as_of_us=as_of_us) == [(expected,)]


# -- properties -------------------------------------------------------------------------------------------------------

RANGE_US = 60


@st.composite
def drawn_events(draw: st.DrawFn) -> list[OracleEvent]:
    drawn = draw(
        st.lists(
            st.tuples(
                st.integers(-20, RANGE_US + 20),
                st.integers(0, 12),
                st.sampled_from("ab"),
                st.sampled_from([None, "x", "y"]),
                st.booleans(),
                st.integers(1, 2),
            ),
            max_size=25,
        )
    )
    positions = draw(st.permutations(range(1, len(drawn) + 1)))
    return [
        at(time, position, subject=subject, v=v, state="start" if starts else "stop", session=session,
           **({} if model is None else {"model": model}))
        for position, (time, v, subject, model, starts, session) in zip(positions, drawn, strict=True)
    ]  # fmt: skip


SERIES_METERS = st.one_of(
    st.just(REGISTER),
    st.builds(lambda timeout: replace(GAUGE, timeout_us=timeout), st.none() | st.integers(1, 40)),
    st.builds(lambda timeout: replace(PAIRS, timeout_us=timeout), st.none() | st.integers(1, 40)),
)
BORDERS = st.sets(st.integers(1, RANGE_US - 1), max_size=5).map(lambda inner: [0, *sorted(inner), RANGE_US])
NOW = st.none() | st.integers(-5, RANGE_US + 30)


def summed(one: Meter, events: list[OracleEvent], edges_us: list[int], **more: Any) -> Decimal:
    asked = UsageQuery(one, edges_us[0], edges_us[-1], tuple(edges_us), **more)
    return sum((row.value or Decimal(0) for row in evaluate(asked, events)), Decimal(0))


@given(SERIES_METERS, drawn_events(), BORDERS, NOW, st.sampled_from([(), ("model",), ("subject", "model")]))
def test_windows_and_groups_add_up_to_the_total(
    one: Meter, events: list[OracleEvent], borders: list[int], now_us: int | None, group_by: tuple[str, ...]
) -> None:
    total = summed(one, events, [0, RANGE_US], now_us=now_us)
    parts = summed(one, events, borders, now_us=now_us, group_by=group_by)
    # Every row of a gauge may be half a last digit off.
    assert abs(total - parts) <= Decimal("1e-18") * 6 * 6
    if one.aggregation is not Aggregation.TIME_WEIGHTED:
        assert total == parts


@given(SERIES_METERS, drawn_events(), BORDERS, st.randoms())
def test_the_order_of_arrival_changes_nothing(
    one: Meter, events: list[OracleEvent], borders: list[int], random: Any
) -> None:
    at_one_time = {event.time_us: event for event in events}
    distinct = list(at_one_time.values())
    positions = list(range(1, len(distinct) + 1))
    random.shuffle(positions)
    otherwise = [
        replace(event, position=position) for event, position in zip(distinct, positions, strict=True)
    ]
    random.shuffle(otherwise)
    asked = UsageQuery(one, 0, RANGE_US, tuple(borders), group_by=("model",))
    assert evaluate(asked, distinct) == evaluate(asked, otherwise)


@given(drawn_events(), st.none() | st.integers(1, 40), NOW)
def test_a_gauge_is_its_level_at_every_microsecond(
    events: list[OracleEvent], timeout_us: int | None, now_us: int | None
) -> None:
    def level(curve: list[OracleEvent], moment: int) -> int:
        before = [event for event in curve if event.time_us <= moment]
        if not before:
            return 0
        last = max(before, key=lambda event: (event.time_us, event.position))
        timed_out = timeout_us is not None and moment >= last.time_us + timeout_us
        return 0 if timed_out else json.loads(last.data)["v"]

    curves: dict[tuple[str, Any], list[OracleEvent]] = {}
    for event in events:
        curves.setdefault((event.subject, json.loads(event.data).get("model")), []).append(event)
    until = RANGE_US if now_us is None else min(RANGE_US, now_us)
    area = sum(level(curve, moment) for curve in curves.values() for moment in range(until))
    expected = (Decimal(area) / Decimal(HOUR_US)).quantize(Decimal("1e-18"))
    assert summed(replace(GAUGE, timeout_us=timeout_us), events, [0, RANGE_US], now_us=now_us) == expected


@given(drawn_events(), st.integers(1, 40))
def test_pairs_of_a_series_never_overlap_and_are_never_longer_than_the_timeout(
    events: list[OracleEvent], timeout_us: int
) -> None:
    one_series = [
        event for event in events if event.subject == "a" and json.loads(event.data)["session"] == 1
    ]
    limited = replace(PAIRS, timeout_us=timeout_us)
    total = summed(limited, one_series, [-100, 200])
    starts = sum(json.loads(event.data)["state"] == "start" for event in one_series)
    assert total * SECOND_US <= timeout_us * starts
    for moment in range(-20, RANGE_US + 60):
        assert summed(limited, one_series, [moment, moment + 1]) in (0, Decimal(1) / SECOND_US)
    # A timeout that is never reached is none, but for what is still open.
    closed = seconds_closed(one_series)
    assert summed(PAIRS, one_series, [-100, 200]) == Decimal(closed) / SECOND_US


def seconds_closed(series: list[OracleEvent]) -> int:
    """Runs of starts, then stops: from the first of the one to the first of the other."""
    ordered = sorted(series, key=lambda event: (event.time_us, event.position))
    runs = [
        (state, next(run).time_us)
        for state, run in itertools.groupby(ordered, key=lambda event: json.loads(event.data)["state"])
    ]
    return sum(after[1] - before[1] for before, after in itertools.pairwise(runs) if before[0] == "start")


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=12))
def test_a_register_that_never_falls_adds_up_to_last_less_first(steps: list[int]) -> None:
    totals = list(itertools.accumulate(steps))
    events = [at(index, v=total) for index, total in enumerate(totals)]
    assert summed(REGISTER, events, [0, RANGE_US]) == totals[-1] - totals[0]


@given(
    st.lists(st.decimals(-100, 100, places=3), min_size=1, max_size=120), st.sampled_from(list(PERCENTILES))
)
def test_a_percentile_is_the_least_value_that_enough_do_not_exceed(
    values: list[Decimal], aggregation: Aggregation
) -> None:
    events = [at(index, v=str(value)) for index, value in enumerate(values)]
    ((answered,),) = rows(meter(aggregation), events, 0, 1000)
    percent = PERCENTILES[aggregation]
    enough = [one for one in values if sum(other <= one for other in values) * 100 >= percent * len(values)]
    assert Decimal(answered) == min(enough)
