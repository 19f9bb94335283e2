from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.metering.evaluate import OracleEvent, evaluate
from tallystick.metering.meter import PERCENTILES, Aggregation, Dimension, Meter
from tallystick.metering.query import Filter, Operator, UsageQuery

METER = Meter(
    1, "default", "tokens", 1, "Tokens", "call", Aggregation.SUM, "$.v",
    (Dimension("model", "$.model"), Dimension("size", "$.size")),
)  # fmt: skip


def meter(aggregation: Aggregation) -> Meter:
    value = None if aggregation is Aggregation.COUNT else "$.v"
    pair_by = "$.s" if aggregation is Aggregation.DURATION else None
    return Meter(
        1, "default", "tokens", 1, "Tokens", "call", aggregation, value, METER.dimensions, pair_by=pair_by
    )


def event(
    time_us: int, data: str, *, customer: str = "acme", position: int = 0, recorded_at_us: int = 1
) -> OracleEvent:
    return OracleEvent(
        "default", "/", str(position), "call", customer, customer, time_us, position or time_us + 1, recorded_at_us,
        data.encode(),
    )  # fmt: skip


def query(
    aggregation: Aggregation = Aggregation.SUM, edges_us: tuple[int, ...] = (0, 100), **more: Any
) -> UsageQuery:
    return UsageQuery(meter(aggregation), edges_us[0], edges_us[-1], edges_us, **more)


def answer(asked: UsageQuery, events: list[OracleEvent]) -> list[tuple[Any, ...]]:
    return [
        (row.window_start_us, *row.group, None if row.value is None else str(row.value.normalize() + 0))
        for row in evaluate(asked, events)
    ]


EVENTS = [
    event(1, '{"v":10,"model":"a","size":"2"}'),
    event(5, '{"v":"2.5","model":"b","size":10}'),
    event(12, '{"v":-1,"model":null}', customer="bee"),
    event(25, '{"v":4,"model":"a","size":"big"}', customer="bee"),
    event(25, '{"v":7}', position=900),
    event(100, '{"v":1000}'),
    event(26, '{"w":1}'),
]


@pytest.mark.parametrize(
    ("aggregation", "value"),
    [
        (Aggregation.COUNT, "6"), (Aggregation.SUM, "22.5"), (Aggregation.MIN, "-1"), (Aggregation.MAX, "10"),
        (Aggregation.AVERAGE, "4.5"), (Aggregation.LATEST, "7"), (Aggregation.UNIQUE_COUNT, "5"),
        (Aggregation.P50, "4"), (Aggregation.P90, "10"), (Aggregation.P95, "10"), (Aggregation.P99, "10"),
    ],
)  # fmt: skip
def test_one_total(aggregation: Aggregation, value: str) -> None:
    rows = evaluate(query(aggregation), EVENTS)
    assert [(row.window_start_us, row.window_end_us, row.group, row.value) for row in rows] == [
        (0, 100, (), Decimal(value))
    ]


def test_average_is_rounded_half_even_once() -> None:
    assert evaluate(
        query(Aggregation.AVERAGE), [event(1, '{"v":1}'), event(2, '{"v":0}'), event(3, '{"v":1}')]
    )[0].value == Decimal("0.666666666666666667")
    tie = [event(1, '{"v":0.000000000000000001}'), event(2, '{"v":0}')]
    assert evaluate(query(Aggregation.AVERAGE), tie)[0].value == 0
    tie = [event(1, '{"v":0.000000000000000003}'), event(2, '{"v":0}')]
    assert evaluate(query(Aggregation.AVERAGE), tie)[0].value == Decimal("0.000000000000000002")


def test_latest_breaks_ties_by_position() -> None:
    events = [
        event(5, '{"v":1}', position=3),
        event(5, '{"v":2}', position=9),
        event(5, '{"v":3}', position=4),
    ]
    assert answer(query(Aggregation.LATEST), events) == [(0, "2")]


def test_windows_and_groups_in_order_nulls_first() -> None:
    asked = query(edges_us=(0, 10, 20, 100), group_by=("model",))
    assert answer(asked, EVENTS) == [
        (0, "a", "10"),
        (0, "b", "2.5"),
        (10, None, "-1"),
        (20, None, "7"),
        (20, "a", "4"),
    ]


def test_groups_by_value_over_the_whole_range_with_all_their_windows() -> None:
    asked = query(edges_us=(0, 10, 20, 100), group_by=("customer",), descending=True, limit=1)
    assert answer(asked, EVENTS) == [(0, "acme", "12.5"), (20, "acme", "7")]
    asked = query(group_by=("model",), descending=False)
    assert answer(asked, EVENTS) == [(0, "b", "2.5"), (0, None, "6"), (0, "a", "14")]
    ties = [event(1, '{"v":1,"model":"b"}'), event(2, '{"v":1}'), event(3, '{"v":1,"model":"a"}')]
    for descending in (True, False):
        assert answer(query(group_by=("model",), descending=descending, limit=2), ties) == [
            (0, None, "1"),
            (0, "a", "1"),
        ]


def test_limit_without_order_keeps_the_first_groups() -> None:
    assert answer(query(group_by=("model",), limit=2), EVENTS) == [(0, None, "6"), (0, "a", "14")]


@pytest.mark.parametrize("aggregation", list(Aggregation))
def test_fill(aggregation: Aggregation) -> None:
    without = {Aggregation.MIN, Aggregation.MAX, Aggregation.AVERAGE, Aggregation.LATEST, *PERCENTILES}
    zero = None if aggregation in without else "0"
    events = [event(1, '{"v":10,"model":"a"}')]
    if aggregation is Aggregation.DURATION:
        events = [
            event(0, '{"v":"start","s":1,"model":"a"}'),
            event(1, '{"v":"stop","s":1}'),
        ]
    rows = answer(query(aggregation, (0, 2, 4), group_by=("model",), fill_zero=True, now_us=2), events)
    assert rows[1:] == [(2, "a", zero)]
    assert answer(query(aggregation, (0, 2, 4), fill_zero=True), []) == [(0, zero), (2, zero)]
    assert answer(query(aggregation, (0, 2, 4), group_by=("model",), fill_zero=True), []) == []
    assert answer(query(aggregation, (0, 2, 4)), []) == []


def test_as_of_customers_and_scope() -> None:
    events = [
        event(1, '{"v":1}', recorded_at_us=5),
        event(1, '{"v":2}', recorded_at_us=6),
        OracleEvent("other", "/", "x", "call", "acme", "acme", 1, 9, 1, b'{"v":4}'),
        OracleEvent("default", "/", "x", "tick", "acme", "acme", 1, 9, 1, b'{"v":8}'),
        event(1, '{"v":16}', customer="bee"),
    ]
    assert answer(query(), events) == [(0, "19")]
    assert answer(query(as_of_us=5), events) == [(0, "17")]
    assert answer(query(customers=("acme",)), events) == [(0, "3")]
    assert answer(query(customers=()), events) == []


@pytest.mark.parametrize(
    ("operator", "operands", "total"),
    [
        (Operator.EQ, ("10",), "2.5"), (Operator.NE, ("10",), "20"), (Operator.IN, ("2", "big"), "14"),
        (Operator.NOT_IN, ("2", "big"), "8.5"), (Operator.PREFIX, ("b",), "4"), (Operator.GT, ("2",), "2.5"),
        (Operator.GTE, ("2.0",), "12.5"), (Operator.LT, ("10",), "10"), (Operator.LTE, ("1e1",), "12.5"),
        (Operator.EXISTS, ("true",), "16.5"), (Operator.EXISTS, ("false",), "6"), (Operator.GT, ("x",), None),
    ],
)  # fmt: skip
def test_filters(operator: Operator, operands: tuple[str, ...], total: str | None) -> None:
    asked = query(filters=(Filter("size", operator, operands),))
    assert answer(asked, EVENTS) == ([] if total is None else [(0, total)])


def test_filters_by_customer_and_together() -> None:
    asked = query(
        filters=(Filter("customer", Operator.EQ, ("bee",)), Filter("model", Operator.EXISTS, ("true",)))
    )
    assert answer(asked, EVENTS) == [(0, "4")]


@given(
    st.lists(
        st.tuples(st.integers(0, 99), st.integers(-(10**9), 10**9), st.sampled_from("abc")), max_size=30
    ),
    st.sets(st.integers(1, 99), max_size=4),
)
def test_windows_and_groups_add_up_to_the_total(drawn: list[tuple[int, int, str]], inner: set[int]) -> None:
    events = [event(time, f'{{"v":{value}e-9,"model":"{model}"}}') for time, value, model in drawn]
    total = sum((row.value or Decimal(0) for row in evaluate(query(), events)), Decimal(0))
    assert total == sum(Decimal(value).scaleb(-9) for _, value, _ in drawn)
    for edges_us, group_by in (((0, *sorted(inner), 100), ()), ((0, *sorted(inner), 100), ("model",))):
        parts = evaluate(query(edges_us=edges_us, group_by=group_by), events)
        assert sum((row.value or Decimal(0) for row in parts), Decimal(0)) == total
