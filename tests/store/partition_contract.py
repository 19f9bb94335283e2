"""What every store must do for a recorder of one partition of several. As in contract.py for the fixture `store`."""

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pytest
from tests.store.contract import NOON, a_meter, a_query, an_event, table
from tests.store.versions_contract import Fact, corrections, positions, staged_table

from tallystick.metering.evaluate import OracleEvent
from tallystick.metering.meter import Aggregation
from tallystick.metering.reading import derive
from tallystick.store.interface import FORGOTTEN_SCHEMA, IDENTITY_SCHEMA, FencedOff, Reached, Store, Underived

RESTORED = 1 << 58
EVERYTHING = (1 << 64) - 1


def at(partition: int, local: int) -> int:
    return partition << 52 | local


def event(partition: int, local: int, **changes: Any) -> OracleEvent:
    moment_us = NOON + local
    return an_event(
        at(partition, local),
        **{"id": f"{partition}-{local}", "time_us": moment_us, "recorded_at_us": moment_us, **changes},
    )


def write(store: Store, events: Iterable[OracleEvent], token: str) -> None:
    rows = table(events)
    store.insert_events(rows, token=token)
    store.insert_readings(derive([a_meter(), a_meter(id=2)], rows), token=token)


class PartitionContract:
    def test_a_partition_sees_its_own_rows(self, store: Store) -> None:
        zero, two, last = (store.partition(number, epoch=1) for number in (0, 2, 63))
        assert two.reached() == Reached(0, 0)
        for number, view in ((0, zero), (2, two), (63, last)):
            write(view, [event(number, n) for n in range(1, 4)], "t")  # tokens are each partition's own
            view.insert_staged(staged_table(["b"], [event(number, 9)]), token="t")
            repeats = table([event(number, 7, id="x")], original=pa.array([at(number, 1)], pa.uint64()))
            view.insert_duplicates(repeats, token="t")
            gone = Fact(at(number, 5), at(number, 1), at(number, 1), "retract", NOON + 50, event(number, 1))
            # One that a revert restored: named by the position it had and a multiple of 2^58.
            again = Fact(
                at(number, 1) + 3 * RESTORED, at(number, 1), 0, "replace", NOON + 51, event(number, 1)
            )
            view.insert_corrections(corrections([gone, again]), token="t")
        for number, view in ((0, zero), (2, two), (63, last)):
            assert view.reached() == Reached(at(number, 9), NOON + 51)
            assert view.counts() == {
                **{"events": 3, "duplicates": 1, "conflicts": 0, "corrections": 2, "staged": 1},
                **{"forgotten": 0, "readings": 6, "rollups": 0},
            }
            own = [at(number, n) for n in (1, 2, 3)]
            assert positions(view.identities(after=0, through=EVERYTHING)) == own
            assert positions(view.identities(after=own[0], through=own[1])) == [own[1]]
            restored = at(number, 1) + 3 * RESTORED
            assert positions(view.events_of("default", ["call"])) == [*own, restored]
            assert positions(view.events_of("default", ["call"], as_of_us=NOON + 60)) == [*own[1:], restored]
            steps = view.derivations([a_meter(id=3)], recorded_by_us=NOON + 60)
            left = [step.versions for step in steps if isinstance(step, Underived)]
            assert sorted(pa.concat_tables(left)["position"].to_pylist()) == [*own, restored]
            assert positions(view.staged("default", "b")) == [at(number, 9)]
            assert view.staged_count("default", "b") == 1
            assert view.reading_counts(through=own[1]) == {1: 2, 2: 2}
        assert store.counts()["events"] == 9
        assert store.reached() == Reached(at(63, 9), NOON + 51)
        assert store.usage(a_query(a_meter(Aggregation.COUNT)), rows_max=1)[0].value == 9
        zero.close()
        two.ping()

    def test_deletions_touch_no_other_partition(self, store: Store) -> None:
        one, two = store.partition(1, epoch=1), store.partition(2, epoch=1)
        restored = derive([a_meter()], table([event(1, 1)]))
        restored = restored.set_column(
            restored.schema.get_field_index("position"),
            "position",
            pa.array([at(1, 1) + RESTORED], pa.uint64()),
        )
        for _ in range(2):
            for number, view in ((1, one), (2, two)):
                write(view, [event(number, n) for n in (1, 2)], "t")
                view.insert_staged(staged_table(["b"], [event(number, 9)]), token="t")
            one.insert_readings(restored, token="r")
            assert (one.counts()["readings"], two.counts()["readings"]) == (5, 4)
            one.delete_readings([1])
            assert (one.counts()["readings"], two.counts()["readings"]) == (2, 4)
            one.delete_readings(None)
            assert (one.counts()["readings"], two.counts()["readings"]) == (0, 4)
            one.delete_moment(NOON + 1)
            assert (one.counts()["events"], two.counts()["events"]) == (1, 2)
            one.delete_moment(NOON + 2)  # and then all again, under the same tokens
            assert (one.counts()["staged"], two.counts()["staged"]) == (1, 1)
            one.delete_moment(NOON + 9)
            assert (one.counts()["staged"], two.counts()["staged"]) == (0, 1)
        one.insert_staged(staged_table(["b"], [event(1, 9)]), token="t")
        two.delete_staged("default", "b")
        assert (one.counts()["staged"], two.counts()["staged"]) == (1, 0)

    def test_what_retention_forgets_is_found_by_partition(self, store: Store) -> None:
        one, two = store.partition(1, epoch=1), store.partition(2, epoch=1)
        for number, view in ((1, one), (2, two)):
            write(view, [event(number, n) for n in (1, 2)], "t")
        expired = positions(one.expired("default", "call", before_us=NOON + 10, after=0, limit=9))
        assert expired == [at(1, 1), at(1, 2)]
        rows = {
            "tenant": ["default"],
            "type": ["call"],
            "identity": [b"x" * 16],
            "content": [1],
            "position": [at(1, 1)],
            "recorded_at": [NOON + 1],
        }
        one.insert_facts("forgotten", pa.table(rows).cast(FORGOTTEN_SCHEMA), token="f")
        assert one.count_forgotten(at(1, 1), at(1, 1)).events == 1
        one.delete_forgotten(at(1, 1), at(1, 1))
        assert (one.counts()["events"], one.counts()["forgotten"], two.counts()["events"]) == (1, 1, 2)
        assert positions(one.forgotten(after=0, through=EVERYTHING)) == [at(1, 1)]
        assert positions(two.forgotten(after=0, through=EVERYTHING)) == []

    def test_who_lost_a_partition_writes_nothing_to_it(self, store: Store) -> None:
        before = store.partition(5, epoch=7)
        beside = store.partition(6, epoch=1)
        write(before, [event(5, 1)], "1")
        after = store.partition(5, epoch=8)
        rows = table([event(5, 2)])
        counts = store.counts()
        for act in (
            lambda: before.insert_events(rows, token="2"),
            lambda: before.insert_readings(derive([a_meter()], rows), token="2"),
            lambda: before.insert_staged(staged_table(["b"], [event(5, 9)]), token="2"),
            lambda: before.delete_readings([1]),
            lambda: before.delete_readings(None),
            lambda: before.delete_moment(NOON + 1),
            lambda: store.partition(5, epoch=7),
        ):
            with pytest.raises(FencedOff):
                act()
        assert store.counts() == counts
        write(after, [event(5, 1)], "1")  # what it may have left half done, under the same token
        assert store.counts() == counts
        write(after, [event(5, 2)], "2")
        write(beside, [event(6, 1)], "1")
        assert store.counts()["events"] == 3
        write(store.partition(5, epoch=8), [event(5, 2)], "2")  # the same owner again
        assert store.counts()["events"] == 3

    def test_a_partition_must_be_one(self, store: Store) -> None:
        for number, epoch in ((-1, 1), (64, 1), (0, -1)):
            with pytest.raises(ValueError, match="cannot be"):
                store.partition(number, epoch=epoch)

    def test_the_copy_of_an_index_is_kept_by_partition_and_answered_in_its_order(self, store: Store) -> None:
        one, two = store.partition(1, epoch=1), store.partition(2, epoch=1)

        def rows(*keys: int) -> pa.Table:
            columns = (keys, range(len(keys)), [7] * len(keys), [at(1, key % 1000) for key in keys])
            arrays = [
                pa.array(list(column), kind)
                for column, kind in zip(columns, IDENTITY_SCHEMA.types, strict=True)
            ]
            return pa.Table.from_arrays(arrays, schema=IDENTITY_SCHEMA)

        def keys(view: Store, after: int, through: int) -> list[int]:
            kept = view.kept_identities(after=after, through=through)
            found = [key for block in kept.rows() for key in block["key"].to_pylist()]
            assert kept.count == len(found)
            return found

        last = EVERYTHING - 5
        one.insert_identities(rows(last, 30, 10), through=at(1, 3), token="a")
        one.insert_identities(rows(last, 30, 10), through=at(1, 3), token="a")
        one.insert_identities(rows(20), through=at(1, 4), token="b")
        two.insert_identities(rows(5), through=at(2, 1), token="a")
        assert keys(one, 0, at(1, 4)) == [10, 20, 30, last]
        assert keys(one, 0, at(1, 3)) == [10, 30, last]
        assert keys(one, at(1, 3), at(1, 9)) == [20]
        kept = one.kept_identities(after=0, through=at(1, 3))
        assert (kept.position_min, kept.position_max) == (at(1, 10), at(1, last % 1000))
        one.delete_identities(after=at(1, 3))
        one.delete_identities(after=at(1, 3))
        assert (keys(one, 0, at(1, 9)), keys(two, 0, EVERYTHING)) == ([10, 30, last], [5])
        later = store.partition(1, epoch=2)
        with pytest.raises(FencedOff):
            one.insert_identities(rows(40), through=at(1, 5), token="c")
        assert keys(later, 0, EVERYTHING) == [10, 30, last]
