"""What every store must do with corrections, versions and what is staged. Beside contract.py, with the same fixtures."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.store.contract import DAY, NOON, a_meter, an_event, many, record, table

from tallystick.metering.evaluate import OracleEvent
from tallystick.metering.meter import Aggregation
from tallystick.metering.reading import derive
from tallystick.store import versions
from tallystick.store.interface import (
    CORRECTION_SCHEMA,
    STAGED_SCHEMA,
    VERSION_SCHEMA,
    EventSearch,
    Store,
    TypeTotals,
)

_compute: Any = pc


@dataclass(frozen=True)
class Fact:
    """A correction, with the version it makes (a retraction's says only when and where)."""

    position: int
    original: int
    superseded: int
    action: str
    recorded_at_us: int
    made: OracleEvent
    backfill: str = ""


def corrections(facts: Iterable[Fact]) -> pa.Table:
    rows = list(facts)
    made = table(replace(f.made, position=f.position, recorded_at_us=f.recorded_at_us) for f in rows)
    for name, values, kind in (
        ("original", [f.original for f in rows], pa.uint64()),
        ("superseded", [f.superseded for f in rows], pa.uint64()),
        ("reason", [f"why {f.position}" for f in rows], pa.string()),
        ("author", ["admin" for _ in rows], pa.string()),
        ("backfill", [f.backfill for f in rows], pa.string()),
    ):
        made = made.append_column(name, pa.array(values, kind))
    at = made.schema.get_field_index("action")
    made = made.set_column(at, "action", pa.array([f.action for f in rows], pa.string()))
    return made.select(CORRECTION_SCHEMA.names).cast(CORRECTION_SCHEMA)


@dataclass
class History:
    """The slow obvious model of corrections: what happened, as a list of versions with their beginnings and ends."""

    events: list[OracleEvent] = field(default_factory=list[OracleEvent])
    facts: list[Fact] = field(default_factory=list[Fact])
    versions: list[tuple[int, OracleEvent, int | None]] = field(
        default_factory=list[tuple[int, OracleEvent, int | None]]
    )
    """(original, version, superseded at)"""
    position: int = 0
    moment_us: int = NOON

    def event(self, **changes: Any) -> OracleEvent:
        self._next()
        made = an_event(self.position, recorded_at_us=self.moment_us, **changes)
        self.events.append(made)
        self.versions.append((made.position, made, None))
        return made

    def _next(self) -> None:
        self.position += 1
        self.moment_us += 1

    def _end(self, original: int) -> int:
        for at, (of, version, end) in enumerate(self.versions):
            if of == original and end is None:
                self.versions[at] = (of, version, self.moment_us)
                return version.position
        return 0

    def retract(self, original: OracleEvent, **changes: Any) -> None:
        if self.current(original.position) is None:
            return
        self._next()
        nothing = replace(original, type="", subject="", customer="", time_us=0, data=b"")
        superseded = self._end(original.position)
        self.facts.append(
            Fact(self.position, original.position, superseded, "retract", self.moment_us, nothing, **changes)
        )

    def replace(self, original: OracleEvent, *, backfill: str = "", **changes: Any) -> OracleEvent:
        self._next()
        made = replace(original, position=self.position, recorded_at_us=self.moment_us, **changes)
        superseded = self._end(original.position)
        self.versions.append((original.position, made, None))
        self.facts.append(
            Fact(self.position, original.position, superseded, "replace", self.moment_us, made, backfill)
        )
        return made

    def current(self, original: int, as_of_us: int | None = None) -> OracleEvent | None:
        found = [v for of, v in self.as_of(as_of_us) if of == original]
        return found[0] if found else None

    def as_of(self, as_of_us: int | None) -> list[tuple[int, OracleEvent]]:
        return [
            (original, version)
            for original, version, end in self.versions
            if as_of_us is None or (version.recorded_at_us <= as_of_us and (end is None or end > as_of_us))
            if as_of_us is not None or end is None
        ]

    def insert(self, store: Store, token: str = "h") -> None:
        store.insert_events(table(self.events), token=token)
        store.insert_corrections(corrections(self.facts), token=token)


def positions(blocks: Iterator[pa.RecordBatch]) -> list[int]:
    return sorted(p for block in blocks for p in block.column("position").to_pylist())


def ends(blocks: Iterator[pa.RecordBatch]) -> dict[int, int | None]:
    """superseded_at by position."""
    found: dict[int, int | None] = {}
    for block in blocks:
        moments = block.column("superseded_at").cast(pa.int64()).to_pylist()
        found |= dict(zip(block.column("position").to_pylist(), moments, strict=True))
    return found


def staged_table(backfills: Sequence[str], events: Sequence[OracleEvent]) -> pa.Table:
    return (
        table(events, backfill=pa.array(list(backfills), pa.string()))
        .select(STAGED_SCHEMA.names)
        .cast(STAGED_SCHEMA)
    )


class VersionsContract:
    def test_versions_count_from_their_moment_to_the_next(self, store: Store) -> None:
        h = History()
        first, second = h.event(), h.event(customer="c2")
        t0 = h.moment_us
        h.replace(first, data=b'{"n":2}', customer="c3", backfill="b")
        t1 = h.moment_us
        h.retract(first)
        t2 = h.moment_us
        h.replace(first, data=b'{"n":3}', time_us=NOON - DAY)
        t3 = h.moment_us
        h.insert(store)
        h.insert(store)
        assert (store.counts()["events"], store.counts()["corrections"]) == (2, 3)

        def counting(**bounds: Any) -> list[int]:
            return positions(store.events_of("default", ["call"], **bounds))

        assert [counting(as_of_us=t) for t in (t0 - 2, t0, t1, t2, t3)] == [[], [1, 2], [2, 3], [2], [2, 5]]
        assert counting(as_of_us=t0, from_us=NOON) == [1, 2]
        assert counting(as_of_us=t3, from_us=NOON) == [2]
        assert counting(as_of_us=t1, customers=["c3"]) == [3]
        assert counting(as_of_us=t1, customers=["c1"]) == []
        assert counting(backfill="b") == [3]
        assert counting(after=2, through=4) == [3]
        everything = ends(store.events_of("default", None))
        assert everything == {1: t1, 2: None, 3: t2, 5: None}
        # A correction behind `through` or after `recorded_by_us` has not happened.
        assert ends(store.events_of("default", ["call"], through=3)) == {1: t1, 2: None, 3: None}
        assert ends(store.events_of("default", ["call"], recorded_by_us=t0)) == {1: None, 2: None}
        assert ends(store.events_of("default", ["call"], recorded_by_us=t2)) == {1: t1, 2: None, 3: t2}
        assert list(store.events_of("other", None)) == []
        (block,) = store.events_of("default", None, after=4)
        assert block.schema.equals(VERSION_SCHEMA)
        assert block.column("data").to_pylist() == [b'{"n":3}']

        found = store.versions_of([first.position, second.position, 3, 77])
        assert found["original"].to_pylist() == [1, 1, 1, 2]
        assert found["position"].to_pylist() == [1, 3, 5, 2]
        assert found["superseded_at"].cast(pa.int64()).to_pylist() == [t1, t2, None, None]
        assert store.versions_of([1], through=3)["position"].to_pylist() == [1, 3]
        assert store.versions_of([1], recorded_by_us=t0)["superseded_at"].to_pylist() == [None]
        assert store.versions_of([]).num_rows == 0
        made = pa.Table.from_batches(store.corrections_made("default", "b"))
        assert made.equals(corrections(h.facts[:1]))
        assert list(store.corrections_made("default", "b", recorded_by_us=t0)) == []
        assert list(store.corrections_made("other", "b")) == []

    def test_lookup_shows_what_counts_and_what_was_corrected(self, store: Store) -> None:
        h = History()
        first = h.event()
        t0 = h.moment_us
        made = h.replace(first, data=b'{"n":2}', customer="c3")
        t1 = h.moment_us
        h.retract(first)
        h.insert(store)

        def seen(**asked: Any) -> tuple[int, bytes, int | None, bool]:
            event = store.lookup("default", "/api", "e1", **asked)
            assert event is not None
            return event.position, event.data, event.original, event.retracted

        assert seen() == (2, made.data, 1, True)
        assert seen(as_of_us=t1) == (2, made.data, 1, False)
        assert seen(as_of_us=t0) == (1, first.data, None, False)
        assert seen(as_sent=True) == (1, first.data, None, True)
        assert store.lookup("default", "/api", "e1", as_of_us=t0 - 1) is None
        total, latest = store.corrections_of("default", "/api", "e1", limit=9)
        assert total == 2
        assert [(c.position, c.original, c.superseded, c.action) for c in latest] == [
            (3, 1, 2, "retract"),
            (2, 1, 1, "replace"),
        ]
        assert (latest[0].reason, latest[0].author, latest[0].made) == ("why 3", "admin", None)
        assert latest[1].made is not None
        assert (latest[1].made.customer, latest[1].recorded_at_us) == ("c3", t1)
        assert store.corrections_of("default", "/api", "e1", limit=1) == (2, latest[:1])
        assert store.corrections_of("default", "/api", "e1", limit=9, as_of_us=t0) == (0, [])
        assert store.corrections_of("default", "/api", "e2", limit=9) == (0, [])

    def test_search_tells_what_is_retracted(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(versions, "RANGE_POSITIONS", 3)
        h = History()
        events = [h.event(customer=f"c{i % 2}") for i in range(8)]
        before = h.moment_us
        for event in events[1:7]:
            h.retract(event)
        h.replace(events[3])
        h.replace(events[0])
        h.insert(store)

        def found(**wanted: Any) -> list[int]:
            return [e.position for e in store.search(EventSearch("default", status="retracted", **wanted))]

        assert found() == [7, 6, 5, 3, 2]
        assert found(limit=2) == [7, 6]
        assert found(before_position=6) == [5, 3, 2]
        assert found(customers=("c0",)) == [7, 5, 3]
        assert found(as_of_us=before + 2) == [3, 2]
        assert found(as_of_us=before) == []
        recorded = store.search(EventSearch("default"))
        assert {e.position: e.retracted for e in recorded} == {p: p in {7, 6, 5, 3, 2} for p in range(1, 9)}

    def test_search_finds_the_versions_that_count(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(versions, "RANGE_POSITIONS", 3)
        h = History()
        events = [h.event(customer=f"c{i % 2}") for i in range(8)]  # positions 1 to 8
        before = h.moment_us
        h.retract(events[1])  # 9
        h.replace(events[2], customer="c1", type="other")  # 10
        h.replace(events[0], data=b"{}")  # 11
        h.replace(events[1])  # 12
        h.insert(store)

        def found(**wanted: Any) -> list[int]:
            return [e.position for e in store.search(EventSearch("default", status="current", **wanted))]

        assert found() == [12, 11, 10, 8, 7, 6, 5, 4]
        assert found(limit=3) == [12, 11, 10]
        assert found(limit=2, before_position=11) == [10, 8]
        assert found(types=("call",), customers=("c1",)) == [12, 8, 6, 4]
        assert found(types_excluded=("call",)) == [10]
        assert found(as_of_us=before) == [8, 7, 6, 5, 4, 3, 2, 1]
        shown = store.search(EventSearch("default", status="current", limit=3))
        assert [(e.id, e.original, e.retracted) for e in shown] == [
            (events[1].id, 2, False),
            (events[0].id, 1, False),
            (events[2].id, 3, False),
        ]

    def test_values_of_a_dimension_count_what_is_left(self, store: Store) -> None:
        meter = a_meter(Aggregation.COUNT)
        events = [an_event(i, data=f'{{"model":"{"ab"[i // 3]}"}}'.encode()) for i in range(1, 6)]
        record(store, [meter], events)
        readings = derive([meter], table(events[2:5]))
        at = readings.schema.get_field_index("sign")
        taken_back = readings.set_column(at, readings.schema.field(at), pa.array([-1] * 3, pa.int8()))
        at = readings.schema.get_field_index("recorded_at")
        late = pa.array([NOON + DAY] * 3, pa.int64()).cast(readings.schema.field(at).type)
        store.insert_readings(taken_back.set_column(at, readings.schema.field(at), late), token="back")

        def values(as_of_us: int) -> list[tuple[str | None, int]]:
            return store.dimension_values(
                meter, 0, customers=None, from_us=0, to_us=NOON + DAY, as_of_us=as_of_us, prefix="", limit=9
            )

        assert values(NOON + DAY - 1) == [("b", 3), ("a", 2)]
        assert values(NOON + DAY) == [("a", 2)]

    def test_what_is_staged_counts_nowhere_and_comes_in_blocks(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tallystick.store.clickhouse.STAGED_BLOCK_ROWS", 3)
        events = [an_event(i) for i in range(1, 11)]
        rows = staged_table(["b", "c"] * 5, events)
        other = staged_table(["b"], [an_event(11, tenant="t2")])
        for _ in range(2):
            store.insert_staged(rows.slice(4), token="second")
            store.insert_staged(rows.slice(0, 4), token="first")
            store.insert_staged(other, token="other")
        assert store.counts() == dict.fromkeys(store.counts(), 0) | {"staged": 11}
        assert store.reached().position == 11
        blocks = list(store.staged("default", "b"))
        assert [block.column("position").to_pylist() for block in blocks] == [[1, 3, 5], [7, 9]]
        assert pa.Table.from_batches(blocks).equals(rows.take([0, 2, 4, 6, 8]))
        assert [b.column("position").to_pylist() for b in store.staged("default", "b", after=5)] == [[7, 9]]
        assert (store.staged_count("default", "b"), store.staged_count("default", "x")) == (5, 0)
        assert store.search(EventSearch("default")) == []
        assert store.lookup("default", "/api", "e1") is None
        store.delete_staged("default", "b")
        assert list(store.staged("default", "b")) == []
        assert (store.staged_count("default", "c"), store.staged_count("t2", "b")) == (5, 1)

    def test_a_moment_can_be_taken_away_and_done_again(self, store: Store) -> None:
        meter = a_meter()
        events = [an_event(i) for i in range(1, 7)]
        first, later = events[:2], [replace(e, recorded_at_us=NOON + DAY) for e in events[2:]]
        record(store, [meter], first, token="first")

        def close() -> None:
            record(store, [meter], later, token="close")
            fact = Fact(9, 1, 1, "retract", NOON + DAY, events[0])
            store.insert_corrections(corrections([fact]), token="close")
            for insert in (store.insert_duplicates, store.insert_conflicts):
                insert(table(later[:1], original=pa.array([1], pa.uint64())), token="close")

        for _ in range(2):
            close()
            assert store.counts() == dict.fromkeys(store.counts(), 0) | {
                "events": 6,
                "readings": 6,
                "duplicates": 1,
                "conflicts": 1,
                "corrections": 1,
            }
            store.delete_moment(NOON + DAY)
            store.delete_moment(NOON + DAY)
            assert store.counts() == dict.fromkeys(store.counts(), 0) | {"events": 2, "readings": 2}
        close()
        assert store.counts()["events"] == 6
        assert store.reached().recorded_at_us == NOON + DAY

    def test_a_backfill_is_known_of_its_events(self, store: Store) -> None:
        rows = table([an_event(1), an_event(2)], backfill=pa.array(["", "b"], pa.string()))
        store.insert_events(rows, token="t")
        assert positions(store.events_of("default", None, backfill="b")) == [2]
        assert [e.backfill for e in store.search(EventSearch("default"))] == ["b", ""]

    def test_reached_knows_late_moments_of_early_positions(self, store: Store) -> None:
        store.insert_events(table([an_event(9, recorded_at_us=NOON)]), token="t")
        store.insert_events(table([an_event(4, recorded_at_us=NOON + 5)]), token="u")
        assert (store.reached().position, store.reached().recorded_at_us) == (9, NOON + 5)
        store.insert_corrections(corrections([Fact(12, 9, 9, "retract", NOON + 7, an_event(9))]), token="t")
        assert (store.reached().position, store.reached().recorded_at_us) == (12, NOON + 7)

    @pytest.mark.slow
    def test_a_scan_with_many_corrections_is_bounded(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(versions, "RANGE_POSITIONS", 40_000)
        rows = many(200_000)
        store.insert_events(rows, token="t")
        fact = Fact(1, 1, 1, "retract", NOON + DAY, an_event(1))
        facts = corrections([fact]).take(pa.array([0] * 100_000))
        for name, values in (
            ("superseded", range(2, 200_002, 2)),
            ("original", range(2, 200_002, 2)),
            ("position", range(200_001, 300_001)),
        ):
            facts = facts.set_column(
                facts.schema.get_field_index(name), name, pa.array(list(values), pa.uint64())
            )
        store.insert_corrections(facts, token="t")
        sizes = [b.num_rows for b in store.events_of("default", ["call"], as_of_us=NOON + DAY)]
        assert sum(sizes) == 100_000
        assert max(sizes) <= 40_000
        left = [b.column("superseded_at").null_count for b in store.events_of("default", ["call"])]
        assert sum(left) == 100_000

    @pytest.fixture
    def examples(self) -> int:
        return 8

    def test_any_history_asked_as_of_every_moment(self, store: Store, examples: int) -> None:
        @settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(data=st.data(), positions_at_once=st.sampled_from([2, 5, 1000]))
        def check(data: st.DataObject, positions_at_once: int) -> None:
            # A tenant of its own for each example: nothing is deleted in between, as nothing ever is.
            tenant = f"t{store.counts()['events']}-{store.counts()['corrections']}"
            h = History(position=store.reached().position)
            began = h.position
            for _ in range(data.draw(st.integers(1, 10))):
                known = [e for e in h.events if e.tenant == tenant]
                changes = {
                    "customer": data.draw(st.sampled_from(["c1", "c2"])),
                    "time_us": NOON + data.draw(st.integers(-2, 2)) * DAY,
                    "type": data.draw(st.sampled_from(["call", "other"])),
                }
                action = data.draw(st.sampled_from(["event", "replace", "replace", "retract", "retract"]))
                if not known or action == "event":
                    h.event(tenant=tenant, **changes)
                elif action == "replace":
                    h.replace(data.draw(st.sampled_from(known)), **changes)
                else:
                    h.retract(data.draw(st.sampled_from(known)))
            h.insert(store, token=tenant)
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(versions, "RANGE_POSITIONS", positions_at_once)
                from_us, to_us = NOON - DAY, NOON + 2 * DAY
                for moment in [None, *range(NOON + 1, h.moment_us + 1)]:
                    counting = [version for _, version in h.as_of(moment) if version.type == "call"]
                    within = [v for v in counting if from_us <= v.time_us < to_us]
                    if moment is not None:
                        blocks = store.events_of(
                            tenant, ["call"], as_of_us=moment, from_us=from_us, to_us=to_us
                        )
                        assert positions(blocks) == sorted(v.position for v in within)
                    totals = store.type_totals(
                        tenant, "call", customers=None, from_us=from_us, to_us=to_us, as_of_us=moment
                    )
                    times = [v.time_us for v in within]
                    assert totals == TypeTotals(
                        len(within), min(times, default=None), max(times, default=None)
                    )
                    left = {original for original, _ in h.as_of(moment)}
                    gone = [
                        e.position
                        for e in reversed(h.events)
                        if (moment is None or e.recorded_at_us <= moment) and e.position not in left
                    ]
                    found = store.search(EventSearch(tenant, status="retracted", as_of_us=moment))
                    assert [e.position for e in found] == gone
                    found = store.search(EventSearch(tenant, status="current", as_of_us=moment))
                    counting = sorted((v.position for _, v in h.as_of(moment)), reverse=True)
                    assert [e.position for e in found] == counting
                for through in range(began + 1, h.position + 1, 3):
                    happened = History(
                        versions=[
                            (of, v, end if end is not None and end - NOON + began <= through else None)
                            for of, v, end in h.versions
                            if v.position <= through
                        ]
                    )
                    assert ends(store.events_of(tenant, None, through=through)) == {
                        v.position: end for _, v, end in happened.versions
                    }
                expected = {v.position: end for _, v, end in h.versions}
                found = store.versions_of([e.position for e in h.events])
                moments = found["superseded_at"].cast(pa.int64()).to_pylist()
                assert dict(zip(found["position"].to_pylist(), moments, strict=True)) == expected
                for event in h.events:
                    shown = store.lookup(tenant, event.source, event.id)
                    current = h.current(event.position)
                    assert shown is not None
                    assert shown.retracted == (current is None)
                    last = current or max(
                        (v for of, v, _ in h.versions if of == event.position), key=lambda v: v.position
                    )
                    assert (shown.position, shown.customer, shown.type) == (
                        last.position,
                        last.customer,
                        last.type,
                    )

        check()
