"""What the recorder keeps in memory for its followers, against sums made one by one."""

from collections import defaultdict
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.flows.fresh import Followed, Fresh, touched_by
from tallystick.metering.meter import Aggregation, Meter
from tallystick.metering.reading import READING_SCHEMA

WIDEST = Decimal("99999999999999999999.999999999999999999")


def a_meter(number: int) -> Meter:
    return Meter(number, "t", f"m{number}", 1, f"m{number}", "use", Aggregation.SUM, "$.n")


METERS = [a_meter(number) for number in (1, 2, 3)]

Row = tuple[int, str, int, Decimal]


def readings_of(rows: list[Row]) -> pa.Table:
    columns: dict[str, list[Any]] = {name: [] for name in READING_SCHEMA.names}
    for position, (meter, customer, time_us, value) in enumerate(rows, 1):
        whole = {
            "tenant": "t",
            "meter": meter,
            "customer": customer,
            "subject": customer,
            "time": time_us,
            "value": value,
            "text": "",
            "position": position,
            "recorded_at": 1,
            "sign": 1,
        }
        for name, column in columns.items():
            column.append(whole.get(name))
    made = {
        name: pa.array(
            column,
            pa.int64() if name in ("time", "recorded_at") else READING_SCHEMA.field(name).type,
        ).cast(READING_SCHEMA.field(name).type)
        for name, column in columns.items()
    }
    # As the recorder has them: each batch with a dictionary of its own.
    return pa.table(made | {name: made[name].dictionary_encode() for name in ("tenant", "customer")})


def summed(rows: list[Row], meters: set[int]) -> dict[tuple[int, str], tuple[int, int, int, Decimal]]:
    made: dict[tuple[int, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row[0] in meters:
            made[row[0], row[1]].append(row)
    return {
        series: (
            min(r[2] for r in own),
            max(r[2] for r in own),
            len(own),
            sum((r[3] for r in own), Decimal(0)),
        )
        for series, own in made.items()
    }


_row = st.tuples(
    st.sampled_from((1, 2, 3)),
    st.sampled_from(("acme", "beta", "")),
    st.integers(1, 10**6),
    st.decimals(-1000, 1000, places=6),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(_row, max_size=12), min_size=1, max_size=4), st.sets(st.sampled_from((1, 2, 3))))
def test_sums_of_batches_are_those_of_their_readings(batches: list[list[Row]], wanted: set[int]) -> None:
    fresh = Fresh()
    fresh.follow("limits", Followed(frozenset(wanted)))
    for number, rows in enumerate(batches):
        fresh.put(number, number + 1, METERS, readings_of(rows))
    news = fresh.between(0, len(batches), Followed(frozenset(wanted)))
    if not wanted:
        assert news is None
        return
    assert news is not None
    found = {
        (one.meter, one.customer): (one.earliest_us, one.latest_us, one.readings, one.total)
        for one in news.usage
    }
    assert len(found) == len(news.usage)
    assert found == summed([row for rows in batches for row in rows], wanted)


def test_a_sum_may_be_wider_than_a_reading() -> None:
    rows: list[Row] = [(1, "acme", 5, WIDEST)] * 4
    (one,) = touched_by(readings_of(rows), frozenset({1}))
    assert one.total == Decimal("399999999999999999999.999999999999999996")


def test_what_is_not_known_is_not_answered() -> None:
    fresh, all_three = Fresh(), Followed(frozenset({1, 2, 3}))
    rows: list[Row] = [(1, "acme", 5, Decimal(2))]
    fresh.put(0, 10, METERS, readings_of(rows))  # nobody followed yet
    fresh.follow("limits", Followed(frozenset({1}), frozenset({("t", "m2")})))
    fresh.put(10, 20, METERS, readings_of(rows))
    fresh.put(30, 40, METERS, readings_of(rows))  # between them something else was recorded
    one = Followed(frozenset({1}))
    assert fresh.between(0, 20, one) is None
    assert fresh.between(10, 20, all_three) is None
    assert fresh.between(10, 40, one) is None
    assert fresh.between(10, 30, one) is None
    known = fresh.between(30, 40, one)
    assert known is not None
    assert [touched.total for touched in known.usage] == [2]


def test_a_meter_that_was_not_in_force_is_unsure() -> None:
    fresh = Fresh()
    fresh.follow("limits", Followed(frozenset({1, 2})))
    fresh.put(0, 10, METERS[:1], readings_of([(1, "acme", 5, Decimal(2))]))
    news = fresh.between(0, 10, Followed(frozenset({1, 2})))
    assert news is not None
    assert news.unsure == {2}


def test_a_batch_that_is_repeated_counts_once() -> None:
    fresh = Fresh()
    fresh.follow("limits", Followed(frozenset({1})))
    for _ in range(2):
        fresh.put(0, 10, METERS, readings_of([(1, "acme", 5, Decimal(2))]))
    news = fresh.between(0, 10, Followed(frozenset({1})))
    assert news is not None
    assert [touched.total for touched in news.usage] == [2]


def test_each_of_two_followers_is_told_of_its_meters() -> None:
    fresh = Fresh()
    limits, alerts = Followed(names=frozenset({("t", "m3")})), Followed(frozenset({1, 2}))
    fresh.follow("limits", limits)
    fresh.follow("alerts", alerts)
    rows: list[Row] = [(number, "acme", 5, Decimal(number)) for number in (1, 2, 3)]
    for moment in (0, 10):
        fresh.put(moment, moment + 10, METERS, readings_of(rows))
    for followed, expected in ((limits, [(3, 6)]), (alerts, [(1, 2), (2, 4)])):
        news = fresh.between(0, 20, followed)
        assert news is not None
        assert sorted((one.meter, one.total) for one in news.usage) == expected
        assert news.unsure == frozenset()
    fresh.follow("alerts", Followed())
    fresh.put(20, 30, METERS, readings_of(rows))
    assert fresh.between(20, 30, alerts) is None


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(_row, st.sampled_from((None, "a", "b"))), max_size=12), min_size=1, max_size=3
    )
)
def test_parts_are_what_each_value_got(batches: list[list[tuple[Row, str | None]]]) -> None:
    fresh = Fresh()
    fresh.follow("somebody", Followed(frozenset({1, 2, 3})))
    splits = {(1, ("d0",)), (2, ())}
    fresh.split(splits)
    for number, batch in enumerate(batches):
        table = readings_of([row for row, _ in batch])
        values = pa.array([value for _, value in batch], pa.string()).dictionary_encode()
        fresh.put(
            number, number + 1, METERS, table.set_column(table.schema.get_field_index("d0"), "d0", values)
        )
    found = fresh.parts_between(0, len(batches), splits)
    assert found.keys() == {1, 2}
    expected: dict[tuple[int, str, tuple[str | None, ...]], list[Row]] = defaultdict(list)
    for row, value in (one for batch in batches for one in batch):
        if row[0] in found:
            expected[row[0], row[1], (value,) if row[0] == 1 else ()].append(row)
    got: dict[Any, list[Any]] = defaultdict(list)
    for meter, parts in found.items():
        for part in parts:
            got[meter, part.customer, part.values].append(part)
    assert got.keys() == expected.keys()
    for key, parts in got.items():
        rows = expected[key]
        assert sum((part.total for part in parts), Decimal(0)) == sum((row[3] for row in rows), Decimal(0))
        assert max(part.greatest for part in parts) == max(row[3] for row in rows)
        assert min(part.earliest_us for part in parts) == min(row[2] for row in rows)
        assert max(part.latest_us for part in parts) == max(row[2] for row in rows)
    assert fresh.parts_between(0, len(batches), {(1, ("d1",))}) == {}  # nobody asked for that before
    assert fresh.parts_between(0, len(batches) + 1, splits) == {}
