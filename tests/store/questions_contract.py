"""Every aggregation's figures, held to the oracle. A subclass's module provides the fixture `store`: migrated, empty."""

import json
from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.store.contract import (
    DAY,
    HOUR,
    NOON,
    a_meter,
    a_query,
    an_event,
    some_events,
    some_question,
    table,
)

from tallystick.metering import window
from tallystick.metering.evaluate import OracleEvent, evaluate
from tallystick.metering.meter import INNER, OUTER, PERCENTILES, Aggregation, InnerAggregation, Meter
from tallystick.metering.query import UsageQuery, UsageRow, Window
from tallystick.metering.reading import derive
from tallystick.store.interface import Store

MINUTE = HOUR // 60
_UNCHECKED = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]


def a_meter_of(aggregation: Aggregation, **changes: object) -> Meter:
    """A meter with what its aggregation needs."""
    of = changes.get("of")
    read_as = of.aggregation if isinstance(of, InnerAggregation) else aggregation
    meter = a_meter(aggregation, value=None if read_as is Aggregation.COUNT else "$.n")
    if aggregation is Aggregation.DURATION:
        meter = replace(meter, value="$.state", pair_by="$.session")
    return replace(meter, **changes)  # pyright: ignore[reportArgumentType]


def record_readings(
    store: Store, meters: Sequence[Meter], events: Sequence[OracleEvent], token: str = "t"
) -> None:
    """Readings of these events, and of those superseded the rows that take them back."""
    store.insert_readings(derive(meters, table(events)), token=token)
    taken_back = [
        replace(event, recorded_at_us=event.superseded_at_us)
        for event in events
        if event.superseded_at_us is not None
    ]
    if taken_back:
        rows = derive(meters, table(taken_back))
        at = rows.schema.get_field_index("sign")
        minus = pa.array([-1] * rows.num_rows, pa.int8())
        store.insert_readings(rows.set_column(at, rows.schema.field(at), minus), token=f"{token}-minus")


def values(rows: Sequence[UsageRow]) -> list[str | None]:
    return [None if row.value is None else format(row.value.normalize(), "f") for row in rows]


def gauges(levels: Sequence[tuple[int, str]], **changes: object) -> list[OracleEvent]:
    """(time after noon, level)."""
    return [
        replace(an_event(i + 1, time_us=NOON + at, data=f'{{"n":{level}}}'.encode()), **changes)  # pyright: ignore[reportArgumentType]
        for i, (at, level) in enumerate(levels)
    ]


def streamed(store: Store, asked: UsageQuery) -> list[UsageRow]:
    """The answer as it is streamed; the extent told beforehand is that of what came."""
    extent = store.usage_extent(asked, rows_max=100_000, time_s_max=60)
    rows: list[UsageRow] = []
    for block in store.usage_batches(asked, rows_max=100_000, time_s_max=60):
        start, end, *group, value = (
            column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
            for column in block.columns
        )
        columns = [start.to_pylist(), end.to_pylist(), value.to_pylist(), *(one.to_pylist() for one in group)]
        rows += [UsageRow(row[0], row[1], tuple(row[3:]), row[2]) for row in zip(*columns, strict=True)]
    known = [row.value for row in rows if row.value is not None]
    assert extent.rows == len(rows)
    if known:
        assert extent.least <= min(known)
        assert max(known) <= extent.greatest
    return rows


def states(changes: Sequence[tuple[int, str]]) -> list[OracleEvent]:
    """(time after noon, "start" or "stop") of one session."""
    return [
        an_event(i + 1, time_us=NOON + at, data=json.dumps({"state": state, "session": "x"}).encode())
        for i, (at, state) in enumerate(changes)
    ]


class QuestionsContract:
    @pytest.fixture
    def examples(self, pytestconfig: pytest.Config) -> int:
        """How often about thirty questions are drawn: a look for `-m "not slow"`, whole otherwise."""
        return 5 if "not slow" in str(pytestconfig.getoption("markexpr")) else 30

    # -- worked examples, a figure a reader can check by eye ----------------------------------------------------
    def test_a_gauge_is_the_area_under_its_curve(self, store: Store) -> None:
        # 10 for 6 h, 7 for 6 h, 12 for 6 h, 12 for 5 h, 10 for 1 h.
        meter = a_meter_of(Aggregation.TIME_WEIGHTED)
        events = gauges([(0, "10"), (6 * HOUR, "7"), (12 * HOUR, "12"), (18 * HOUR, "12"), (23 * HOUR, "10")])
        record_readings(store, [meter], events)
        assert values(store.usage(a_query(meter, (NOON, NOON + DAY)), rows_max=9)) == ["244"]
        halves = a_query(meter, (NOON, NOON + DAY // 2, NOON + DAY, NOON + 2 * DAY))
        assert values(store.usage(halves, rows_max=9)) == ["102", "142", "240"]
        now = replace(halves, now_us=NOON + DAY // 2 + HOUR)
        assert values(store.usage(now, rows_max=9)) == ["102", "12"]
        slow = replace(halves, meter=replace(meter, timeout_us=2 * HOUR))
        assert values(store.usage(slow, rows_max=9)) == ["34", "58", "10"]

    def test_a_level_is_carried_into_a_range_without_readings(self, store: Store) -> None:
        meter = a_meter_of(Aggregation.TIME_WEIGHTED)
        record_readings(store, [meter], gauges([(0, "3"), (1, "1.5")]))
        edges = tuple(range(NOON + 10 * DAY, NOON + 20 * DAY + 1, 2 * DAY))
        assert values(store.usage(a_query(meter, edges), rows_max=9)) == ["72"] * 5

    def test_a_register_adds_what_it_grew_by(self, store: Store) -> None:
        meter = a_meter_of(Aggregation.REGISTER)
        # As they arrived; in order: 100, 130, 5, 6.
        events = gauges([(HOUR, "130"), (0, "100"), (3 * HOUR, "6"), (2 * HOUR, "5")])
        record_readings(store, [meter], events)
        hours = tuple(NOON + at * HOUR for at in range(5))
        assert values(store.usage(a_query(meter, hours), rows_max=9)) == ["0", "30", "5", "1"]
        assert values(store.usage(a_query(meter, (NOON + 1, NOON + DAY)), rows_max=9)) == ["36"]
        # Nothing in the range, and a series before it.
        assert store.usage(a_query(meter, (NOON + DAY, NOON + 2 * DAY)), rows_max=9) == []

    def test_a_duration_is_closed_by_its_stop_or_its_timeout(self, store: Store) -> None:
        meter = a_meter_of(Aggregation.DURATION)
        events = states(
            [
                (0, "stop"),
                (MINUTE, "start"),
                (2 * MINUTE, "start"),
                (5 * HOUR, "stop"),
                (6 * HOUR, "stop"),
                (7 * HOUR, "start"),
            ]
        )
        record_readings(store, [meter], events)
        late = a_query(meter, (NOON + 2 * HOUR, NOON + 3 * HOUR, NOON + DAY))
        assert values(store.usage(late, rows_max=9)) == ["3600", "7200"]
        meter = replace(meter, timeout_us=HOUR)
        whole = a_query(meter, (NOON, NOON + DAY), now_us=NOON + 8 * HOUR - 1)
        assert values(store.usage(whole, rows_max=9)) == ["3600"]
        assert values(store.usage(replace(whole, now_us=NOON + 8 * HOUR), rows_max=9)) == ["7200"]

    def test_percentiles_are_the_nearest_rank_at_any_count(self, store: Store) -> None:
        meters = [a_meter_of(one, id=i) for i, one in enumerate(PERCENTILES, start=1)]
        # The customer of count n has n readings, in no order.
        events = [
            an_event(count * 100 + i, customer=f"{count:03}", data=f'{{"n":{(i * 37) % 101}}}'.encode())
            for count in range(1, 101)
            for i in range(count)
        ]
        record_readings(store, meters, events)
        for meter in meters:
            asked = a_query(meter, group_by=("customer",))
            assert store.usage(asked, rows_max=100) == evaluate(asked, events), meter.aggregation

    def test_the_sum_over_a_month_of_each_customers_maximum_a_day(self, store: Store) -> None:
        meter = a_meter_of(Aggregation.SUM, of=InnerAggregation(Aggregation.MAX, Window.DAY))
        events = [
            an_event(i + 1, customer=customer, time_us=NOON + at, data=f'{{"n":{n}}}'.encode())
            for i, (customer, at, n) in enumerate(
                [("a", 0, 5), ("a", HOUR, 7), ("a", DAY, 1), ("b", 0, 2), ("b", DAY, 3), ("b", DAY, 4)]
            )
        ]
        record_readings(store, [meter], events)
        inner = (NOON - DAY // 2, NOON + DAY // 2, NOON + 3 * DAY // 2)
        asked = a_query(meter, (inner[0], inner[-1]), inner_edges_us=inner)
        assert values(store.usage(asked, rows_max=9)) == ["14"]
        assert values(store.usage(replace(asked, group_by=("customer",)), rows_max=9)) == ["8", "6"]

    def test_what_is_taken_back_counts_until_it_was(self, store: Store) -> None:
        meters = [a_meter_of(one, id=i) for i, one in enumerate(Aggregation, start=1)]
        event = an_event(1, data=b'{"n":3,"state":"start","session":"x"}')
        event = replace(event, superseded_at_us=event.recorded_at_us + 10)
        replaced = replace(
            event,
            position=2,
            data=b'{"n":2,"state":"start","session":"x"}',
            recorded_at_us=event.recorded_at_us + 10,
            superseded_at_us=event.recorded_at_us + 20,
        )
        stop = an_event(3, data=b'{"n":4,"state":"stop","session":"x"}')
        events = [event, replaced, stop]
        record_readings(store, meters, events)
        for meter in meters:
            for later in (-1, 9, 10, 20):
                asked = a_query(meter, as_of_us=event.recorded_at_us + later)
                assert store.usage(asked, rows_max=9) == evaluate(asked, events), (meter.aggregation, later)

    # -- any question -------------------------------------------------------------------------------------------
    def test_answers_equal_the_oracle(self, store: Store, examples: int) -> None:
        ids = iter(range(1, 1_000_000))

        @settings(max_examples=examples, deadline=None, suppress_health_check=_UNCHECKED, derandomize=True)
        @given(data=st.data())
        def check(data: st.DataObject) -> None:
            number = next(ids)
            tenant = f"tenant-{number}"
            events = data.draw(some_course(tenant))
            meters = data.draw(some_meters(tenant, number))
            record_readings(store, meters, events, token=tenant)
            # Each question of every meter: what breaks one aggregation is rarely drawn for it alone.
            question = data.draw(some_question_of(meters[0], events))
            for meter in meters:
                asked = replace(question, meter=meter)
                if meter.of is not None:
                    inner_edges_us = window.edges(
                        asked.from_us, asked.to_us, meter.of.window, "Europe/Berlin", windows_max=100_000
                    )
                    asked = replace(asked, inner_edges_us=inner_edges_us)
                expected = evaluate(asked, events)
                assert store.usage(asked, rows_max=100_000) == expected, asked
                if (meter.id + number) % 3 == 0:  # the others with another draw: a third of the time
                    assert streamed(store, asked) == expected, asked

        check()


# -- what hypothesis draws ------------------------------------------------------------------------------------------

_timeouts = st.sampled_from([None, 1, HOUR // 4, HOUR, 5 * HOUR])
_states = st.sampled_from(["start", "start", "stop", "stop", "on"])
_sessions = st.sampled_from(["1", "1", "1", '"1"', "2", '"ü"', "null"])
_kinds = st.sampled_from([kind for kind in Window if kind is not Window.MINUTE])


@st.composite
def some_meters(draw: st.DrawFn, tenant: str, number: int) -> list[Meter]:
    """One of each aggregation, more of those with a timeout, and some aggregates of aggregates."""
    timed = (Aggregation.TIME_WEIGHTED, Aggregation.DURATION)
    meters = [a_meter_of(aggregation) for aggregation in Aggregation]
    meters += [a_meter_of(aggregation, timeout_us=draw(_timeouts)) for aggregation in timed for _ in range(2)]
    for _ in range(5):
        inner = InnerAggregation(draw(st.sampled_from(sorted(INNER))), draw(_kinds))
        meters.append(a_meter_of(draw(st.sampled_from(sorted(OUTER))), of=inner))
    return [replace(meter, id=number * 100 + i, tenant=tenant) for i, meter in enumerate(meters)]


@st.composite
def some_course(draw: st.DrawFn, tenant: str) -> list[OracleEvent]:
    """Events that are states too, in few series, some of them superseded."""
    corrected = draw(st.booleans())
    events: list[OracleEvent] = []
    for event in draw(some_events(tenant)):
        state = f',"state":"{draw(_states)}","session":{draw(_sessions)}}}'.encode()
        gone = corrected and draw(st.integers(0, 2)) == 0
        events.append(
            replace(
                event,
                data=event.data[:-1] + state,
                subject=draw(st.sampled_from(["s1", event.subject])),
                customer=draw(st.sampled_from(["c1", event.customer])),
                superseded_at_us=event.recorded_at_us + draw(st.integers(0, 5)) if gone else None,
            )
        )
    return events


@st.composite
def some_question_of(draw: st.DrawFn, meter: Meter, events: list[OracleEvent]) -> UsageQuery:
    """As some_question, also of ranges before and behind all events, and at any moment."""
    away = draw(st.sampled_from([0, 0, 0, -DAY, HOUR, DAY]))
    asked = draw(some_question(meter, [replace(event, time_us=event.time_us + away) for event in events]))
    moments = {event.recorded_at_us for event in events}
    moments |= {event.superseded_at_us for event in events if event.superseded_at_us is not None}
    reached = asked.from_us + draw(st.integers(-10, 100)) * HOUR
    return replace(
        asked,
        as_of_us=draw(st.sampled_from([None, *sorted(moments)])),
        now_us=draw(st.sampled_from([None, asked.from_us, reached, asked.to_us + HOUR])),
    )
