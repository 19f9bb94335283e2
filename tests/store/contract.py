"""What every store must do. A subclass's module provides the fixture `store`: migrated and empty."""

import json
import threading
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import strategies as st

from tallystick.errors import Invalid, Unavailable
from tallystick.metering import window
from tallystick.metering.evaluate import OracleEvent, evaluate
from tallystick.metering.event import RECORDED_SCHEMA
from tallystick.metering.meter import Aggregation, Dimension, Meter
from tallystick.metering.query import Filter, Operator, UsageQuery, UsageRow, Window
from tallystick.metering.reading import READING_SCHEMA, derive
from tallystick.store.interface import DerivedMissing, EventSearch, Reached, Repeat, Store, StoredEvent

NOON = 1_700_049_600_000_000  # 2023-11-15T12:00:00Z
HOUR = 3_600_000_000
DAY = 24 * HOUR
COUNTED = ("events", "duplicates", "conflicts", "corrections", "staged", "forgotten", "readings", "rollups")


def an_event(position: int, **changes: Any) -> OracleEvent:
    event = OracleEvent(
        tenant="default",
        source="/api",
        id=f"e{position}",
        type="call",
        subject="s1",
        customer="c1",
        time_us=NOON + position * 1_000_000,
        position=position,
        recorded_at_us=NOON + position * 1_000_000 + 500,
        data=b'{"n":1}',
    )
    return replace(event, **changes)


def table(events: Iterable[OracleEvent], **extra: Any) -> pa.Table:
    """RECORDED_SCHEMA, with the columns the store does not keep; `extra` adds columns."""
    rows = list(events)
    columns: dict[str, Any] = {
        "tenant": [e.tenant for e in rows],
        "source": [e.source for e in rows],
        "id": [e.id for e in rows],
        "type": [e.type for e in rows],
        "subject": [e.subject for e in rows],
        "time": [e.time_us for e in rows],
        "time_given": [e.position % 2 == 0 for e in rows],
        "received_at": [e.recorded_at_us - 100 for e in rows],
        "data": [e.data for e in rows],
        "attributes": [b'{"traceparent":"x"}' for _ in rows],
        "identity": [e.position.to_bytes(16, "big") for e in rows],
        "content": [e.position for e in rows],
        "action": ["" for _ in rows],
        "note": [b"" for _ in rows],
        "customer": [e.customer for e in rows],
        "position": [e.position for e in rows],
        "recorded_at": [e.recorded_at_us for e in rows],
    }
    arrays: list[pa.Array] = []
    for field in RECORDED_SCHEMA:
        values = columns[field.name]
        arrays.append(
            pa.array(values, pa.int64()).cast(field.type)
            if pa.types.is_timestamp(field.type)
            else pa.array(values, field.type)
        )
    whole = pa.Table.from_arrays(arrays, schema=RECORDED_SCHEMA)
    for name, values in extra.items():
        whole = whole.append_column(name, values)
    return whole


def many(rows: int, **changes: Any) -> pa.Table:
    """The same event again and again, at positions 1, 2, 3 …"""
    whole = table([an_event(1, **changes)]).take(pa.array(np.zeros(rows, np.int64)))
    at = whole.schema.get_field_index("position")
    return whole.set_column(at, whole.schema.field(at), pa.array(np.arange(1, rows + 1), pa.uint64()))


def a_meter(aggregation: Aggregation = Aggregation.SUM, **changes: Any) -> Meter:
    meter = Meter(
        id=1,
        tenant="default",
        key="m",
        version=1,
        name="m",
        event_type="call",
        aggregation=aggregation,
        value=None if aggregation is Aggregation.COUNT else "$.n",
        dimensions=(Dimension("model", "$.model"), Dimension("size", "$.size")),
    )
    return replace(meter, **changes)


def a_query(meter: Meter, edges: tuple[int, ...] = (NOON - DAY, NOON + DAY), **changes: Any) -> UsageQuery:
    return replace(UsageQuery(meter, edges[0], edges[-1], edges), **changes)


def record(store: Store, meters: list[Meter], events: list[OracleEvent], token: str = "t") -> None:
    rows = table(events)
    store.insert_events(rows, token=token)
    store.insert_readings(derive(meters, rows), token=token)


def of(events: list[OracleEvent], position: int) -> StoredEvent:
    e = next(e for e in events if e.position == position)
    return StoredEvent(
        tenant=e.tenant,
        source=e.source,
        id=e.id,
        type=e.type,
        subject=e.subject,
        customer=e.customer,
        time_us=e.time_us,
        time_given=e.position % 2 == 0,
        received_at_us=e.recorded_at_us - 100,
        recorded_at_us=e.recorded_at_us,
        position=e.position,
        data=e.data,
        attributes=b'{"traceparent":"x"}',
    )


class StoreContract:
    # -- keeping house ------------------------------------------------------------------------------------------
    def test_migrate_twice_changes_nothing(self, store: Store) -> None:
        store.insert_events(table([an_event(1)]), token="t")
        store.migrate()
        store.ping()
        assert store.counts() == dict.fromkeys(COUNTED, 0) | {"events": 1}

    def test_readings_that_vanished_are_missed_and_made_again(self, store: Store, side_door: Any) -> None:
        meter = a_meter()
        record(store, [meter], [an_event(1)])
        side_door("DROP TABLE readings SYNC")
        assert store.counts()["readings"] == 0
        assert store.reading_counts(through=9) == {}
        store.delete_readings([1])
        for edges in [(NOON - DAY, NOON + DAY), (NOON - DAY, NOON, NOON + DAY)]:
            with pytest.raises(DerivedMissing):
                store.usage(a_query(meter, edges), rows_max=10)
        store.migrate()
        assert store.usage(a_query(meter), rows_max=10) == []
        store.insert_readings(derive([meter], table([an_event(1)])), token="t")
        assert store.counts()["readings"] == 1

    def test_readings_of_another_layout_are_made_again_empty(self, store: Store, side_door: Any) -> None:
        record(store, [a_meter()], [an_event(1)])
        side_door("ALTER TABLE readings MODIFY COMMENT 'an older layout'")
        store.migrate()
        assert store.counts()["readings"] == 0
        store.migrate()
        record(store, [a_meter()], [an_event(2)], token="u")
        store.migrate()
        assert store.counts()["readings"] == 1

    # -- facts in -----------------------------------------------------------------------------------------------
    def test_the_same_token_again_changes_nothing(self, store: Store) -> None:
        first, second = table([an_event(1), an_event(2)]), table([an_event(3)])
        for _ in range(3):
            store.insert_events(first, token="1-2")
            store.insert_events(second, token="3-3")
            store.insert_duplicates(table([an_event(4)], original=pa.array([1], pa.uint64())), token="3-3")
            store.insert_conflicts(table([an_event(5)], original=pa.array([1], pa.uint64())), token="3-3")
        assert store.counts() == dict.fromkeys(COUNTED, 0) | {"events": 3, "duplicates": 1, "conflicts": 1}

    def test_an_insert_over_many_months_is_one(self, store: Store) -> None:
        # 1900 to 2200, and the ends of what Python can tell.
        times = [-62_135_596_800_000_000, 253_402_300_799_000_000, *range(-(10**15), 3 * 10**15, 10**14)]
        events = [an_event(i + 1, time_us=time) for i, time in enumerate(times)]
        meter = a_meter(Aggregation.COUNT)
        for _ in range(2):
            record(store, [meter], events)
        assert store.counts()["events"] == store.counts()["readings"] == len(times)
        old = a_query(meter, (-(10**15), 0))
        assert store.usage(old, rows_max=1)[0].value == 10
        assert store.search(EventSearch("default", id="e1"))[0].time_us == times[0]
        assert store.search(EventSearch("default", id="e2"))[0].time_us == times[1]

    @pytest.mark.slow
    def test_a_big_insert_is_one_block_however_it_is_chunked(self, store: Store) -> None:
        # Past the engine's usual limits for a block: 256 MiB.
        pad = b'{"n":1,"pad":"' + b"x" * 2_000 + b'"}'
        rows = many(150_000, data=pad)
        store.insert_events(rows, token="big")
        pieces = pa.concat_tables([rows.slice(at, 50_001) for at in range(0, rows.num_rows, 50_001)])
        store.insert_events(pieces, token="big")
        assert store.counts()["events"] == 150_000

    def test_dictionaries_may_differ_from_chunk_to_chunk(self, store: Store) -> None:
        def encoded(*events: OracleEvent) -> pa.Table:
            rows = table(events)
            at = rows.schema.get_field_index("customer")
            return rows.set_column(at, "customer", rows["customer"].dictionary_encode())

        rows = pa.concat_tables([encoded(an_event(1, customer="a")), encoded(an_event(2, customer="b"))])
        store.insert_events(rows, token="t")
        assert {e.customer for e in store.search(EventSearch("default"))} == {"a", "b"}

    def test_an_empty_insert_is_nothing(self, store: Store) -> None:
        store.insert_events(table([]), token="t")
        store.insert_events(table([an_event(1)]), token="t")
        assert store.counts()["events"] == 1

    # -- facts out ----------------------------------------------------------------------------------------------
    def test_reached(self, store: Store) -> None:
        assert store.reached() == Reached(0, 0)
        store.insert_events(table([an_event(1)]), token="t")
        assert store.reached() == Reached(1, an_event(1).recorded_at_us)
        store.insert_duplicates(table([an_event(7)], original=pa.array([1], pa.uint64())), token="t")
        assert store.reached() == Reached(7, an_event(7).recorded_at_us)

    def test_identities_and_events_at(self, store: Store) -> None:
        rows = table([an_event(i, subject="ü\n'\\\0") for i in range(1, 11)])
        store.insert_events(rows, token="t")
        found = pa.Table.from_batches(store.identities(after=3, through=8)).sort_by("position")
        assert found.equals(rows.slice(3, 5).select(found.column_names))
        assert found.column_names == ["tenant", "source", "id", "type", "subject", "data", "position"]
        at = store.events_at([9, 2, 2, 77]).sort_by("position")
        assert at.equals(rows.select(["position", "type", "subject", "data", "customer"]).take([1, 8]))
        assert store.events_at([]).num_rows == 0
        assert list(store.identities(after=10, through=99)) == []

    def test_events_of(self, store: Store) -> None:
        events = [
            an_event(1),
            an_event(2, type="other"),
            an_event(3, customer="c2"),
            an_event(4, tenant="t2"),
            an_event(5, type="third"),
        ]
        rows = table(events)
        store.insert_events(rows, token="t")

        def positions(types: list[str], **bounds: Any) -> list[int]:
            blocks = list(store.events_of("default", types, **bounds))
            return sorted(p for block in blocks for p in block.column("position").to_pylist())

        assert positions(["call", "third"]) == [1, 3, 5]
        assert positions(["call"], customers=["c2"]) == [3]
        assert positions(["call"], customers=[]) == []
        assert positions(["call"], after=1, through=3) == [3]
        assert positions(["call", "third"], from_us=events[2].time_us, to_us=events[4].time_us) == [3]
        assert positions(["call", "third"], as_of_us=events[2].recorded_at_us) == [1, 3]
        (block,) = store.events_of("default", ["other"])
        kept = [n for n in RECORDED_SCHEMA.names if n not in {"identity", "content", "action", "note"}]
        assert pa.Table.from_batches([block]).select(kept).equals(rows.select(kept).slice(1, 1))

    def test_blocks_are_bounded_and_may_be_left_early(self, store: Store) -> None:
        store.insert_events(many(250_000), token="t")
        sizes = [block.num_rows for block in store.events_of("default", ["call"])]
        assert sum(sizes) == 250_000
        assert max(sizes) <= 100_000
        blocks = store.events_of("default", ["call"])
        next(blocks)
        del blocks
        assert store.counts()["events"] == 250_000

    def test_search(self, store: Store) -> None:
        events = [
            an_event(1),
            an_event(2, type="other", subject="s2"),
            an_event(3, customer="c2", source="/else"),
            an_event(4, tenant="t2"),
            an_event(5, time_us=NOON - DAY),
        ]
        store.insert_events(table(events), token="t")
        store.insert_conflicts(table([an_event(6)], original=pa.array([1], pa.uint64())), token="t")

        def found(**wanted: Any) -> list[int]:
            return [e.position for e in store.search(EventSearch("default", **wanted))]

        assert store.search(EventSearch("default")) == [of(events, p) for p in (5, 3, 2, 1)]
        assert found(limit=2) == [5, 3]
        assert found(before_position=3) == [2, 1]
        assert found(types=("other",)) == [2]
        assert found(types=()) == []
        assert found(types_excluded=("other",)) == [5, 3, 1]
        assert found(customers=("c2", "c3")) == [3]
        assert found(subjects=("s2", "s3")) == [2]
        assert found(subjects=()) == []
        assert found(belonging=(("c2",), ("s2",))) == [3, 2]
        assert found(belonging=((), ("s2",)), from_us=NOON) == [2]
        assert found(belonging=((), ())) == []
        assert found(source="/else") == [3]
        assert found(id="e1") == [1]
        assert found(from_us=NOON, to_us=events[2].time_us) == [2, 1]
        assert found(as_of_us=events[1].recorded_at_us) == [2, 1]
        assert found(status="conflict") == [6]
        assert found(subjects=("' OR 1=1 --",)) == []
        assert found(partition=0) == [5, 3, 2, 1]
        assert found(partition=1) == []

    def test_lookup_and_what_repeats_it(self, store: Store) -> None:
        events = [an_event(1, data=b'{"n": 1.000, "k":"\\u0000\xc3\xbc"}'), an_event(2)]
        store.insert_events(table(events), token="t")
        repeats = [an_event(p, id="e1") for p in (3, 4, 5)]
        originals = pa.array([1, 1, 1], pa.uint64())
        store.insert_duplicates(table(repeats, original=originals), token="t")
        store.insert_conflicts(table(repeats, original=originals), token="t")
        assert store.lookup("default", "/api", "e1") == of(events, 1)
        assert store.lookup("default", "/api", "E1") is None
        assert store.lookup("other", "/api", "e1") is None
        total, latest = store.duplicates_of("default", "/api", "e1", limit=2)
        assert total == 3
        assert latest == [
            Repeat(e.position, e.recorded_at_us - 100, e.recorded_at_us) for e in (repeats[2], repeats[1])
        ]
        assert store.duplicates_of("default", "/api", "e2", limit=2) == (0, [])
        assert store.conflicts_of("default", "/api", "e1", limit=2) == (3, [of(repeats, 5), of(repeats, 4)])
        assert store.conflicts_of("default", "/api", "e2", limit=2) == (0, [])

    def test_type_totals(self, store: Store) -> None:
        events = [an_event(i, customer=f"c{i % 2}") for i in range(1, 9)]
        store.insert_events(table(events), token="t")

        def totals(**changes: Any) -> tuple[int, int | None, int | None]:
            asked: dict[str, Any] = {"customers": None, "from_us": 0, "to_us": NOON + DAY, "as_of_us": None}
            found = store.type_totals("default", "call", **(asked | changes))
            return found.events, found.first_us, found.last_us

        assert totals() == (8, events[0].time_us, events[7].time_us)
        assert totals(customers=["c1"]) == (4, events[0].time_us, events[6].time_us)
        assert totals(to_us=events[3].time_us, as_of_us=events[1].recorded_at_us) == (
            2,
            events[0].time_us,
            events[1].time_us,
        )
        assert totals(to_us=1) == (0, None, None)

    # -- facts as a whole ---------------------------------------------------------------------------------------
    def test_a_snapshot_stays_as_it_is(self, store: Store) -> None:
        def insert(*positions: int) -> None:
            rows = table([an_event(p) for p in positions])
            store.insert_events(rows, token=f"{positions}")
            store.insert_conflicts(rows.append_column("original", rows["position"]), token=f"{positions}")

        insert(1, 2, 5)
        name = store.snapshot()
        insert(6)
        by_us = an_event(5).recorded_at_us

        def ranges(snapshot: str, table_: str = "events", by_us: int = by_us) -> list[tuple[int, int]]:
            found = store.snapshot_ranges(snapshot, table_, recorded_by_us=by_us, span=2)
            return [(one.number, one.rows) for one in found]

        assert ranges(name) == ranges(name, "conflicts") == [(0, 2), (2, 1)]
        assert ranges(name, by_us=by_us - 1) == [(0, 2)]
        assert ranges(name, "corrections") == []
        rows = store.snapshot_rows(name, "events", 0, recorded_by_us=by_us, span=2)
        assert [p for block in rows for p in block.column("position").to_pylist()] == [1, 2]
        store.migrate()
        later = store.snapshot()
        assert ranges(later, by_us=2 * by_us) == [(0, 2), (2, 2)]
        digests = [
            store.snapshot_ranges(one, "events", recorded_by_us=by_us, span=2) for one in (name, later)
        ]
        assert digests[0] == digests[1]
        for one in (name, later):
            store.drop_snapshot(one)
            with pytest.raises(Unavailable):
                ranges(one)

    # -- derived data -------------------------------------------------------------------------------------------
    def test_readings_deleted_can_be_inserted_again_under_the_same_token(self, store: Store) -> None:
        one, two = a_meter(id=1), a_meter(id=2)
        rows = derive([one, two], table([an_event(1), an_event(2)]))
        for meters, left in [([1], {2: 2}), ([1, 2], {}), (None, {}), ([], {1: 2, 2: 2})]:
            store.insert_readings(rows, token="t")
            assert store.reading_counts(through=2) == {1: 2, 2: 2}
            store.delete_readings(meters)
            assert store.reading_counts(through=2) == left
            assert store.counts()["readings"] == sum(left.values())
            store.delete_readings(None)
        store.insert_readings(rows, token="t")
        assert store.reading_counts(through=1) == {1: 1, 2: 1}

    def test_scratch(self, store: Store, side_door: Any) -> None:
        meter = a_meter(Aggregation.COUNT)
        rows = derive([meter], table([an_event(1)]))
        one, two = store.scratch(), store.scratch()
        store.insert_readings(rows, token="t", into=one)
        assert store.usage(a_query(meter), rows_max=1, readings=one)[0].value == 1
        assert store.usage(a_query(meter), rows_max=1, readings=two) == []
        assert store.usage(a_query(meter), rows_max=1) == []
        store.drop_scratch(one)
        with pytest.raises(DerivedMissing):
            store.usage(a_query(meter), rows_max=1, readings=one)
        left_over = f"scratch_{0:032x}"
        side_door(f"CREATE TABLE {left_over} AS readings")
        store.migrate()
        with pytest.raises(DerivedMissing):
            store.usage(a_query(meter), rows_max=1, readings=left_over)
        assert store.usage(a_query(meter), rows_max=1, readings=two) == []  # may be in use
        store.drop_scratch(two)
        for name in ("events", "readings; DROP TABLE events", "readings"):
            with pytest.raises(ValueError, match="readings"):
                store.drop_scratch(name)

    def test_dimension_values(self, store: Store) -> None:
        meter = a_meter()
        models = ["b", "a", None, "a", "", None, "ab"]
        events = [
            an_event(i + 1, data=json.dumps({"n": 1, "model": model}).encode())
            for i, model in enumerate(models)
        ]
        record(store, [meter], events)

        def values(**changes: Any) -> list[tuple[str | None, int]]:
            asked: dict[str, Any] = {
                "customers": None,
                "from_us": NOON,
                "to_us": NOON + DAY,
                "as_of_us": None,
                "prefix": "",
                "limit": 10,
            }
            return store.dimension_values(meter, 0, **(asked | changes))

        assert values() == [(None, 2), ("a", 2), ("", 1), ("ab", 1), ("b", 1)]
        assert values(prefix="a") == [("a", 2), ("ab", 1)]
        assert values(limit=1) == [(None, 2)]
        assert values(customers=["c2"]) == []
        assert values(as_of_us=events[1].recorded_at_us) == [("a", 1), ("b", 1)]

    # -- questions ----------------------------------------------------------------------------------------------
    def test_figures_are_exact(self, store: Store) -> None:
        big = "99999999999999999999.999999999999999999"
        events = [an_event(i, data=f'{{"n":{big}}}'.encode()) for i in range(1, 1001)]
        numeric = [a for a in Aggregation if a is not Aggregation.DURATION]
        meters = [a_meter(a, id=i) for i, a in enumerate(numeric, start=1)]
        record(store, meters, events)
        for meter in meters:
            asked = a_query(meter)
            assert store.usage(asked, rows_max=1) == evaluate(asked, events), meter.aggregation
        (row,) = store.usage(a_query(meters[1]), rows_max=1)
        assert row.value == Decimal("99999999999999999999999.999999999999999000")

    @pytest.mark.parametrize(
        ("numbers", "average"),
        [
            (["0.000000000000000001", "0"], "0"),
            (["0.000000000000000003", "0"], "0.000000000000000002"),
            (["-0.000000000000000001", "0"], "0"),
            (["-0.000000000000000003", "0"], "-0.000000000000000002"),
            (["1", "0", "0"], "0.333333333333333333"),
            (["-2", "0", "0"], "-0.666666666666666667"),
        ],
    )
    def test_averages_round_half_even(self, store: Store, numbers: list[str], average: str) -> None:
        meter = a_meter(Aggregation.AVERAGE)
        events = [an_event(i + 1, data=f'{{"n":{n}}}'.encode()) for i, n in enumerate(numbers)]
        record(store, [meter], events)
        assert store.usage(a_query(meter), rows_max=1)[0].value == Decimal(average)

    def test_as_of_is_inclusive(self, store: Store) -> None:
        meter = a_meter(Aggregation.COUNT)
        events = [an_event(1), an_event(2)]
        record(store, [meter], events)
        for moment, expected in [(0, []), (-1, []), (events[0].recorded_at_us, [1]), (10**17, [2])]:
            asked = a_query(meter, as_of_us=moment)
            assert [row.value for row in store.usage(asked, rows_max=1)] == expected

    def test_too_many_rows(self, store: Store) -> None:
        meter = a_meter()
        events = [an_event(i, customer=f"c{i}", time_us=NOON + i * HOUR) for i in range(6)]
        record(store, [meter], events)
        edges = tuple(range(NOON, NOON + 7 * HOUR, HOUR))
        total = a_query(meter, (NOON, NOON + DAY), group_by=("customer",))
        windows = a_query(meter, edges, group_by=("customer",))
        for asked in (total, windows, replace(windows, descending=True)):
            assert len(store.usage(asked, rows_max=6)) == 6
            with pytest.raises(Invalid, match="more than 5 rows") as refused:
                store.usage(asked, rows_max=5)
            assert refused.value.code == "too_many_rows"
        assert len(store.usage(replace(windows, fill_zero=True), rows_max=36)) == 36
        with pytest.raises(Invalid, match="more than 35 rows"):
            store.usage(replace(windows, fill_zero=True), rows_max=35)
        assert len(store.usage(replace(total, descending=True, limit=5), rows_max=5)) == 5
        assert store.usage(replace(total, limit=0), rows_max=5) == []

    def test_unknown_names_are_refused(self, store: Store) -> None:
        for changes in [{"group_by": ("d0",)}, {"filters": (Filter("1=1", Operator.EQ, ("x",)),)}]:
            with pytest.raises(Invalid, match="has no dimension"):
                store.usage(a_query(a_meter(), **changes), rows_max=5)

    @pytest.mark.parametrize("operator", [Operator.GT, Operator.GTE, Operator.LT, Operator.LTE])
    def test_numbers_compare_as_the_oracle_reads_them(self, store: Store, operator: Operator) -> None:
        texts = [
            *("0", "-0", "0.0", "0e9", "1", "1.0", "10e-1", "0.1e1", "100E-2", "9", "10", "-1", "-9", "-10"),
            *(
                "0.5",
                "0.50",
                "5e-1",
                "0.05",
                "1e-19",
                "-1e-19",
                "5e-19",
                "6e-19",
                "1.5e-18",
                "2.5e-18",
                "-5e-19",
            ),
            *(
                "1.0000000000000000005",
                "1.00000000000000000050001",
                "0.9999999999999999995",
                "2.0000000000000000015",
            ),
            *("99999999999999999999.9999999999999999994", "99999999999999999999.9999999999999999995", "1e20"),
            *("1e400", "-1e400", "1e-400", "1e99999999999999999999", "-1e-99999999999999999999"),
            *("", "x", "+1", "01", ".5", "1.", "1e", "NaN", "Infinity", " 1", "1\n", "0x10", "1_0", "١"),
        ]
        meter = a_meter(Aggregation.COUNT)
        events = [
            an_event(i + 1, data=json.dumps({"size": text}).encode()) for i, text in enumerate([*texts, None])
        ]
        record(store, [meter], events)
        for bound in texts[:: 1 if operator is Operator.GT else 3]:
            asked = a_query(meter, group_by=("size",), filters=(Filter("size", operator, (bound,)),))
            assert store.usage(asked, rows_max=100) == evaluate(asked, events), bound

    # -- together -----------------------------------------------------------------------------------------------
    def test_questions_and_inserts_from_many_threads(self, store: Store) -> None:
        meter = a_meter(Aggregation.COUNT)
        errors: list[BaseException] = []
        seen: list[list[int]] = [[], [], []]
        done = threading.Event()

        def insert(start: int) -> None:
            try:
                for at in range(start, start + 500, 100):
                    events = [an_event(i) for i in range(at, at + 100)]
                    record(store, [meter], events, token=f"{at}")
                    record(store, [meter], events, token=f"{at}")
            except BaseException as error:
                errors.append(error)

        def ask(into: list[int]) -> None:
            try:
                while not done.is_set():
                    rows: list[UsageRow] = store.usage(a_query(meter), rows_max=1)
                    into.append(int(rows[0].value or 0) if rows else 0)
            except BaseException as error:
                errors.append(error)

        asking = [threading.Thread(target=ask, args=(into,)) for into in seen]
        inserting = [threading.Thread(target=insert, args=(start,)) for start in (1, 501)]
        for thread in [*asking, *inserting]:
            thread.start()
        for thread in inserting:
            thread.join()
        done.set()
        for thread in asking:
            thread.join()
        assert errors == []
        assert store.counts()["events"] == store.counts()["readings"] == 1000
        assert all(sorted(one) == one for one in seen)

    def test_readings_may_be_of_no_dimension_at_all(self, store: Store) -> None:
        rows = derive([a_meter(dimensions=())], table([an_event(1)]))
        assert rows.schema.names == READING_SCHEMA.names
        store.insert_readings(rows, token="t")
        assert np.all(np.array(list(store.reading_counts(through=1).values())) == 1)


# -- what hypothesis draws ------------------------------------------------------------------------------------------

_texts = st.sampled_from(
    ["a", "b", "ä", "", "'", "\\", "a'b", "\U0001f642", "1", "1.0", "2", "-3e1", "x\ny", "%"]
)
_numbers = st.one_of(
    st.integers(-5, 5).map(str),
    st.decimals(-(10**19), 10**19, places=18).map(lambda d: format(d, "f")),
    st.sampled_from(['"7"', "null", '"x"', "1e400", "true", "0.1", "0.0000000000000000005"]),
)


@st.composite
def some_events(draw: st.DrawFn, tenant: str) -> list[OracleEvent]:
    # Around the end of summer time in Berlin and New York, and of a year.
    center = draw(st.sampled_from([1_698_541_200_000_000, 1_699_164_000_000_000, 1_704_067_200_000_000]))
    events: list[OracleEvent] = []
    for position in range(1, draw(st.integers(0, 25)) + 1):
        members = [f'"n":{draw(_numbers)}']
        for name in ("model", "size"):
            value = draw(st.one_of(st.none(), _texts))
            if value is not None:
                members.append(f'"{name}":{json.dumps(value)}')
        events.append(
            OracleEvent(
                tenant=tenant,
                source="/",
                id=str(position),
                type=draw(st.sampled_from(["call", "call", "call", "other"])),
                subject=draw(st.sampled_from(["s1", "s2", "ü"])),
                customer=draw(st.sampled_from(["c1", "c2", "ü"])),
                time_us=center + draw(st.integers(-40, 40)) * HOUR // 4 + draw(st.integers(-1, 1)),
                position=position,
                recorded_at_us=center + 10 * DAY + position // 3,
                data=("{" + ",".join(members) + "}").encode(),
            )
        )
    return events


@st.composite
def some_question(draw: st.DrawFn, meter: Meter, events: list[OracleEvent]) -> UsageQuery:
    middle = events[0].time_us if events else NOON
    from_us = middle - draw(st.integers(0, 14 * 24)) * HOUR // 2 - draw(st.integers(0, 1))
    to_us = middle + draw(st.integers(1, 14 * 24)) * HOUR // 2
    kind = draw(st.one_of(st.none(), st.sampled_from([w for w in Window if w is not Window.MINUTE])))
    zone = draw(st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"]))
    filters: list[Filter] = []
    for _ in range(draw(st.integers(0, 2))):
        name = draw(st.sampled_from(["customer", "subject", "model", "size"]))
        operator = draw(st.sampled_from(list(Operator)))
        if operator is Operator.EXISTS:
            operands: tuple[str, ...] = (draw(st.sampled_from(["true", "false"])),)
        elif operator in {Operator.IN, Operator.NOT_IN}:
            operands = tuple(draw(st.lists(_texts, max_size=3)))
        else:
            operands = (draw(st.one_of(_texts, st.sampled_from(["c1", "c", "s2"]))),)
        filters.append(Filter(name, operator, operands))
    group_by = draw(
        st.lists(st.sampled_from(["customer", "subject", "model", "size"]), max_size=3, unique=True)
    )
    return UsageQuery(
        meter=meter,
        from_us=from_us,
        to_us=to_us,
        edges_us=window.edges(from_us, to_us, kind, zone, windows_max=100_000),
        customers=draw(st.one_of(st.none(), st.just(("c1",)), st.just(("c2", "ü")), st.just(()))),
        group_by=tuple(group_by),
        filters=tuple(filters),
        descending=draw(st.sampled_from([None, True, False])) if group_by else None,
        limit=draw(st.one_of(st.none(), st.integers(1, 3))) if group_by else None,
        fill_zero=draw(st.booleans()),
        as_of_us=draw(st.one_of(st.none(), st.sampled_from([e.recorded_at_us for e in events] or [NOON]))),
    )
