"""The recorder with real parts: what is new, what is a repeat, and what a failure at any step changes: nothing."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from tests.flows.rig import NOW_US, PARTITIONS, Rig, event, eventually, expected, of_one

from tallystick.catalog.interface import SYSTEM, Catalog, CustomerChange
from tallystick.errors import Unavailable
from tallystick.flows.record import STEPS, Outcome
from tallystick.metering.definition import parse_meter
from tallystick.metering.event import identity_of
from tallystick.metering.position import local_of, partition_of, partitions_of, vector_of
from tallystick.store.connection import Connection

Play = Callable[[Callable[[Rig], Awaitable[None]]], None]


def test_new_duplicate_and_conflict_within_a_batch_and_across(play: Play) -> None:
    async def scene(rig: Rig) -> None:
        outcome = await rig.record(
            event(1, data={"n": 1, "m": [1, {"a": 2}]}),
            event(1, data={"m": [1, {"a": 2}], "n": 1}, time="2026-09-01T00:00:00Z"),
            event(1, data={"n": 2}),
            event(2),
            event(2, subject="other"),
            event(2, type="other"),
            event(2, source="/t"),
        )
        assert outcome == Outcome(duplicates=[1], conflicts=[2, 4, 5])
        await rig.restart()
        again = await rig.record(
            event(1, data={"n": 1, "m": [1, {"a": 2}]}, time="2020-01-01T00:00:00Z"),
            event(1, data={"m": [1, {"a": 2}], "n": 1}),
            event(1, data={"n": 1, "m": [{"a": 2}, 1]}),
            event(2, data={"n": 1.0}),
            event(2, data=None),
            event(3),
        )
        assert again.duplicates[:2] == [0, 1]
        assert set(again.duplicates + again.conflicts) == {0, 1, 2, 3, 4}
        assert {2, 4} <= set(again.conflicts)
        totals = rig.recorder.totals
        assert totals.events == 4
        assert totals.events + totals.duplicates + totals.conflicts == sum(map(local_of, rig.end))
        assert rig.system.store.counts()["events"] == 4

    play(scene)


def test_tenants_share_a_batch_and_nothing_else(play: Play) -> None:
    async def scene(rig: Rig) -> None:
        for tenant in ("a", "b"):
            rig.system.catalog.create_tenant(tenant, tenant, actor=SYSTEM, now_us=NOW_US)
            rig.meter(tenant)
        rig.on_step = _hold_back(rig, wanted=4)
        await asyncio.gather(
            rig.append(event(1), event(2, subject="x"), tenant="a"),
            rig.append(event(1, data={"n": 5}), event(2, subject="x"), tenant="b"),
        )
        await rig.settled()
        assert rig.recorder.totals.events == 4
        assert [one.customer for one in rig.stored("a")] == ["acme", "x"]
        assert await rig.total(tenant="a") == 2
        assert await rig.total(tenant="b") == 6

    play(scene)


def _hold_back(rig: Rig, wanted: int) -> Callable[[str], None]:
    """Refuse to begin a batch until the log holds so many events, so that one batch has them all."""

    def on_step(step: str) -> None:
        if step == "intent" and rig.system.log.end < wanted:
            raise Unavailable("not yet")

    return on_step


def test_a_subject_that_moves_takes_no_history_along(play: Play) -> None:
    async def scene(rig: Rig) -> None:
        rig.meter()
        catalog = rig.system.catalog
        await rig.record(event(1, subject="s1"), event(2, subject="s2"))
        assert sorted(one.key for one in catalog.customers("default").items) == ["s1", "s2"]
        _customer(catalog, "acme", "s3")
        await rig.record(event(3, subject="s3"), event(4, subject="s1"))
        _customer(catalog, "later", "s3", reassign=True)
        await rig.record(event(5, subject="s3"))
        answer = await rig.usage(group_by=("customer",))
        assert {row.group[0]: row.value for row in answer.rows} == {"s1": 2, "s2": 1, "acme": 1, "later": 1}

    play(scene)


def _customer(catalog: Catalog, key: str, subject: str, *, reassign: bool = False) -> None:
    change = CustomerChange(subjects=(subject,))
    catalog.create_customer("default", key, change, reassign=reassign, actor=SYSTEM, now_us=NOW_US)


def test_moments_grow_under_a_clock_that_jumps_back(play: Play) -> None:
    async def scene(rig: Rig) -> None:
        moments: list[int] = []
        for number, jump_us in enumerate([0, -3_600_000_000, 5_000_000, -86_400_000_000, 0, 0]):
            rig.clock.move_to(rig.clock.now_us() + jump_us)
            await rig.record(event(number, time="2026-09-01T00:00:00Z"))
            moments.append(rig.recorder.recorded_at_us)
            if number == 3:
                await rig.restart()
        assert moments == sorted(set(moments))
        assert sorted(one.recorded_at_us for one in rig.stored()) == moments

    play(scene)


def test_as_of_an_earlier_moment_the_later_is_not_there(play: Play) -> None:
    async def scene(rig: Rig) -> None:
        rig.meter()
        moments: list[int] = []
        for number in range(3):
            rig.clock.advance(seconds=10)
            await rig.record(event(number))
            moments.append(rig.recorder.recorded_at_us)
        for count, moment_us in enumerate(moments, 1):
            assert (await rig.usage(as_of_us=moment_us)).rows[0].value == count

    play(scene)


def test_who_asks_at_once_is_told_of_the_duplicates(play: Play) -> None:
    """The outcome must be known before the position is seen as recorded."""

    async def scene(rig: Rig) -> None:
        await rig.record(event(1))
        following = np.array([rig.stored()[0].position + 1], np.uint64)
        seen: list[Outcome | None] = []
        loop = asyncio.get_running_loop()

        def on_step(step: str) -> None:
            if step == "committed":  # recorded for all to see, and the recorder's own loop does not know yet
                asked = asyncio.run_coroutine_threadsafe(rig.recorder.outcome(following, 5.0), loop)
                seen.append(asked.result(10))

        rig.on_step = on_step
        await rig.append(event(1))
        await rig.settled()

        async def told() -> bool:
            return bool(seen)

        await eventually(told, "whoever asked at the step to be told")
        assert seen == [Outcome(duplicates=[0], conflicts=[])]

    play(scene)


def test_waiting_ends_in_time_and_leaves_nothing_behind(play: Play) -> None:
    async def scene(rig: Rig) -> None:
        assert not await rig.recorder.wait_for((1,), 0.01)
        assert await rig.recorder.outcome(np.array([1], np.uint64), 0.01) is None
        assert rig.recorder._outcomes._waiting == []
        assert await rig.recorder.wait_for((), 0.0)

    play(scene)


@pytest.mark.parametrize("step", [step for step in STEPS if step != "action"])  # plain events never get there
@pytest.mark.slow
@pytest.mark.parametrize("restart", [False, True], ids=["retried", "restarted"])
def test_a_failure_at_any_step_changes_nothing(play: Play, step: str, restart: bool) -> None:
    async def scene(rig: Rig) -> None:
        meter = rig.meter(dimensions={"model": "$.model"})
        await rig.record(event("a"), event("b", data={"n": 3, "model": "x"}))
        failures = 0

        def on_step(reached: str) -> None:
            nonlocal failures
            if reached == step and failures < 2:
                failures += 1
                raise RuntimeError(step)

        rig.on_step = on_step
        positions = await rig.append(
            event("a", time="2026-09-02T00:00:00Z"),
            event("b"),
            event("c", subject="new", data={"n": "0.1"}),
            event("d", data={"n": 7, "model": "x"}),
            event("c", subject="new", data={"n": "0.1"}),
        )
        if restart:
            while not failures:
                await asyncio.sleep(0.002)
            await rig.restart()
        outcome = await rig.recorder.outcome(positions, 10)
        assert failures
        if not restart:
            assert outcome == Outcome(duplicates=[0, 4], conflicts=[1])
        again = await rig.record(event("a"), event("c", subject="new", data={"n": "0.1"}), event("d"))
        assert again == Outcome(duplicates=[0, 1], conflicts=[2])

        assert vars_of(rig.recorder.totals) == (4, 4, 2)
        counts = rig.system.store.counts()
        assert (counts["events"], counts["duplicates"], counts["conflicts"]) == (4, 4, 2)
        assert [one.id for one in rig.stored()] == ["a", "b", "c", "d"]
        answer = await rig.usage(group_by=("customer", "model"))
        assert [(row.group, row.value) for row in answer.rows] == expected(
            meter, rig.stored(), group_by=("customer", "model")
        )
        assert await rig.total() == Decimal("11.1")
        assert rig.recorder.coverage()[meter.id].rows == counts["readings"] == 4

    play(scene)


def beside_of(number: int, *others: int) -> int:
    """The next number whose event goes to the same partition."""

    def partition(of: int) -> int:
        return int(partitions_of([identity_of("default", "/s", str(of))], PARTITIONS)[0])

    return next(
        each
        for each in range(number + 1, 1000)
        if each not in others and partition(each) == partition(number)
    )


def vars_of(totals: object) -> tuple[int, int, int]:
    return (totals.events, totals.duplicates, totals.conflicts)  # type: ignore[attr-defined]


def test_readings_follow_the_customer_their_event_was_stored_with(play: Play) -> None:
    """The subject moves while a batch is being repeated."""

    async def scene(rig: Rig) -> None:
        rig.meter()
        catalog = rig.system.catalog
        moved = False

        def on_step(step: str) -> None:
            nonlocal moved
            if step == "events" and not moved:
                moved = True
                _customer(catalog, "later", "acme", reassign=True)
                raise RuntimeError("between events and readings")

        rig.on_step = on_step
        beside = beside_of(1)  # in one partition, so that both fail as one
        await rig.record(event(1), event(beside, subject="zeta"))
        assert [one.customer for one in rig.stored()] == ["acme", "zeta"]
        from_readings = await rig.usage(group_by=("customer",))
        assert from_readings.served_from == "readings"
        assert [row.group[0] for row in from_readings.rows] == ["acme", "zeta"]
        await rig.record(event(beside_of(1, beside)))
        assert [one.customer for one in rig.stored()] == ["acme", "zeta", "later"]

    play(scene)


# -- meters come and go ------------------------------------------------------------------------------------------
def test_a_new_meter_counts_the_past_and_then_what_comes(play: Play) -> None:
    async def scene(rig: Rig) -> None:
        await rig.record(*(event(number, data={"n": number}) for number in range(50)))
        rig.meter()
        answer = await rig.usage()
        assert answer.rows[0].value == sum(range(50))
        await rig.served_from("readings")
        await rig.record(event(50, data={"n": 50}))
        answer = await rig.usage()
        assert (answer.rows[0].value, answer.served_from) == (sum(range(51)), "readings")
        assert rig.system.store.counts()["readings"] == 51

    play(scene)


def test_a_changed_and_an_archived_meter_keep_their_history(play: Play) -> None:
    async def scene(rig: Rig) -> None:
        rig.meter()
        catalog = rig.system.catalog
        await rig.record(event(1, data={"n": 1, "k": 10}))
        changed = parse_meter({"key": "m", "event_type": "call", "aggregation": "sum", "value": "$.k"})
        catalog.change_meter("default", "m", changed, actor=SYSTEM, now_us=NOW_US)
        await rig.record(event(2, data={"n": 2, "k": 20}))
        assert await rig.total() == 30
        assert (await rig.usage(version=1)).rows[0].value == 3
        await rig.served_from("readings")
        assert await rig.total() == 30
        rig.clock.advance(seconds=1)
        catalog.archive_meter("default", "m", actor=SYSTEM, now_us=rig.clock.now_us())
        rig.clock.advance(seconds=1)
        await rig.record(event(3, data={"n": 4, "k": 40}))
        assert await rig.total() == 30
        await rig.restart()
        assert await rig.total() == 30
        assert (await rig.usage(version=1)).rows[0].value == 3

    play(scene)


# -- derived data vanishes -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "loss",
    [
        "TRUNCATE TABLE readings SYNC",
        "DROP TABLE readings SYNC",
        "ALTER TABLE readings DELETE WHERE position % 3 = 0 SETTINGS mutations_sync = 2",
    ],
    ids=["emptied", "dropped", "some rows"],
)
@pytest.mark.slow
@pytest.mark.parametrize("when", ["running", "stopped"])
def test_readings_that_vanish_come_back_and_answers_stay(
    play: Play, side_door: Connection, loss: str, when: str
) -> None:
    async def scene(rig: Rig) -> None:
        meter = rig.meter(dimensions={"model": "$.model"})
        other = rig.meter(key="other", aggregation="max")
        for start in range(0, 60, 20):
            events = (event(n, data={"n": n, "model": f"m{n % 3}"}) for n in range(start, start + 20))
            await rig.record(*events)
        before = await rig.usage(group_by=("model",))
        assert before.served_from == "readings"
        if when == "running":
            side_door.command(loss)
        else:
            await rig.restart(lambda: side_door.command(loss))
        during = await rig.usage(group_by=("model",))
        assert during.rows == before.rows
        assert during.served_from == "events"
        outcome = await rig.record(event(60, data={"n": 60, "model": "m0"}), event(3))
        assert outcome.conflicts == [1]
        await rig.served_from("readings")
        await rig.served_from("readings", "other")
        after = await rig.usage(group_by=("model",))
        assert [(row.group, row.value) for row in after.rows] == expected(
            meter, rig.stored(), group_by=("model",)
        )
        assert await rig.total("other") == expected(other, rig.stored())[0][1] == 60
        assert rig.system.store.counts()["readings"] == 2 * 61

    play(scene)


@of_one("it calls its recorder's own builds.")
def test_a_given_up_build_leaves_no_readings_beside_the_next_one(play: Play) -> None:
    """Readings are taken out of service while a build is between asking and inserting."""

    async def scene(rig: Rig) -> None:
        await rig.record(*(event(number) for number in range(30)))
        store, recorder = rig.system.store, rig.recorder
        generation, begun = recorder.generation, store.counts()["readings"]
        meter = rig.meter()
        await rig.served_from("readings")
        assert recorder.generation == generation
        assert begun == 0
        readings = _readings_of(rig, meter)
        recorder.want_rebuild()
        while recorder.generation == generation:
            await asyncio.sleep(0.002)
        late = await asyncio.to_thread(
            recorder.insert_built,
            lambda: rig.store.insert_readings(readings, token="late"),
            readings.num_rows,
            generation=generation,
        )
        assert late is False
        await rig.served_from("readings")
        assert store.counts()["readings"] == 30
        assert await rig.total() == 30

    play(scene)


def _readings_of(rig: Rig, meter: object) -> object:
    import pyarrow as pa

    from tallystick.metering.reading import derive

    blocks = list(rig.system.store.events_of("default", ["call"]))
    return derive([meter], pa.Table.from_batches(blocks))  # type: ignore[list-item]


# -- the index, the journal, the log -------------------------------------------------------------------------------
def _flip_a_byte(rig: Rig) -> None:
    largest = max((rig.directory / "identity").iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 0x40
    largest.write_bytes(content)


def _delete_a_run(rig: Rig) -> None:
    max((rig.directory / "identity").iterdir(), key=lambda path: path.stat().st_size).unlink()


@pytest.mark.parametrize(
    "harm",
    [lambda rig: rig.delete("identity"), _flip_a_byte, _delete_a_run],
    ids=["lost", "flipped", "run lost"],
)
@of_one("it harms files of its index; of several, see test_index_copy.py.")
def test_the_index_is_made_again_from_the_facts(play: Play, harm: Callable[[Rig], None]) -> None:
    async def scene(rig: Rig) -> None:
        await rig.record(*(event(number) for number in range(3000)))
        await rig.restart(lambda: harm(rig))
        outcome = await rig.record(event(0), event(2999), event(1500, data={"n": 2}), event(3000))
        assert outcome == Outcome(duplicates=[0, 1], conflicts=[2])
        everything = await rig.record(*(event(number) for number in range(3001)))
        assert everything.duplicates == list(range(3001))
        assert rig.recorder.totals.events == 3001

    play(scene)


@of_one("it moves files of its index; of several, see test_index_copy.py.")
def test_an_index_behind_and_one_ahead(play: Play) -> None:
    import shutil

    async def scene(rig: Rig) -> None:
        identity, older = rig.directory / "identity", rig.directory / "older"
        await rig.record(*(event(number) for number in range(10)))
        await rig.restart(lambda: shutil.copytree(identity, older))
        await rig.record(*(event(number) for number in range(5, 20)))

        def go_back() -> None:
            shutil.rmtree(identity)
            older.rename(identity)

        await rig.restart(go_back)
        assert (await rig.record(event(4), event(19), event(20))).duplicates == [0, 1]

        def foreign_index() -> None:  # of an installation that got further
            shutil.rmtree(identity)
            shutil.copytree(ahead, identity)

        ahead = rig.directory / "ahead"
        await rig.record(*(event(number) for number in range(100, 200)))
        await rig.restart(lambda: shutil.copytree(identity, ahead))
        await rig.restart(foreign_index)
        assert (await rig.record(event(150), event(200))).duplicates == [0]

    play(scene)


@of_one("its journal is a file; of several, rows of the catalog.")
def test_a_lost_journal_is_made_again_from_the_facts(play: Play) -> None:
    async def scene(rig: Rig) -> None:
        rig.meter()
        await rig.record(*(event(number) for number in range(10)), event(0), event(1, data={"n": 9}))
        moment_us, totals = rig.recorder.recorded_at_us, rig.recorder.totals
        await rig.restart(lambda: rig.delete("recorder"))
        await rig.settled()
        assert rig.recorder.recorded_at_us == moment_us
        assert rig.recorder.totals == totals
        assert (await rig.record(event(5), event(10))).duplicates == [0]
        assert await rig.total() == 11
        await rig.served_from("readings")
        assert await rig.total() == 11

    play(scene)


@of_one("its journal is a file; of several, rows of the catalog.")
def test_a_damaged_journal_is_set_aside(play: Play) -> None:
    async def scene(rig: Rig) -> None:
        rig.meter()
        await rig.record(event(1), event(2))

        def harm() -> None:
            rig.delete("recorder")
            (rig.directory / "recorder.sqlite").write_bytes(b"no SQLite file at all" * 1000)

        await rig.restart(harm)
        assert (await rig.record(event(2), event(3))).duplicates == [0]
        assert await rig.total() == 3
        assert (rig.directory / "recorder.sqlite.damaged").exists()

    play(scene)


def test_a_lost_log_repeats_no_position(play: Play) -> None:
    async def scene(rig: Rig) -> None:
        rig.meter()
        await rig.record(*(event(number) for number in range(10)))
        known = {partition_of(last): last for last in rig.end}
        await rig.restart(lambda: rig.delete("log"))
        (at,) = (await rig.append(event(3))).tolist()
        assert at == known[partition_of(at)] + 1
        assert (await rig.record(event(4), event(10))).duplicates == [0]
        assert await rig.total() == 11
        assert len({one.position for one in rig.stored()}) == 11

    play(scene)


@pytest.mark.slow
@pytest.mark.parametrize("table", ["events", "duplicates", "conflicts", "readings"])
def test_rows_whose_token_outlived_them_are_recorded_all_the_same(play: Play, table: str) -> None:
    """The engine writes a token down before the rows it is of. Killed in between it has a token and no rows (0049), just
    as when rows are deleted."""

    async def scene(rig: Rig) -> None:
        meter = rig.meter(dimensions={"model": "$.model"})
        await rig.record(event("a"), event("b", data={"n": 3, "model": "x"}))
        left: list[int] = []

        def on_step(reached: str) -> None:
            if reached == "readings" and not left:
                connection: Connection = rig.system.store._store._connection  # pyright: ignore
                [[last_us]] = connection.rows(f"SELECT toUnixTimestamp64Micro(max(recorded_at)) FROM {table}")
                connection.command(
                    f"ALTER TABLE {table} DELETE WHERE toUnixTimestamp64Micro(recorded_at) = {last_us}"
                )
                left.append(rig.system.store.rows_at_moment(last_us)[table])
                raise RuntimeError(reached)

        rig.on_step = on_step
        positions = await rig.append(
            event("a"), event("b", data={"n": 4}), event("c", data={"n": 5}), event("d", data={"n": 7})
        )
        assert await rig.recorder.outcome(positions, 10) == Outcome(duplicates=[0], conflicts=[1])
        assert left == [0]
        counts = rig.system.store.counts()
        assert (counts["events"], counts["duplicates"], counts["conflicts"]) == (4, 1, 1)
        await rig.served_from("readings")
        answer = await rig.usage(group_by=("customer", "model"))
        assert [(row.group, row.value) for row in answer.rows] == expected(
            meter, rig.stored(), group_by=("customer", "model")
        )

    play(scene)


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS[: STEPS.index("action")])
def test_a_log_lost_in_the_middle_of_a_batch_stops_nobody(play: Play, step: str) -> None:
    """What of the batch reached the store is kept; new events get other positions."""

    async def scene(rig: Rig) -> None:
        rig.meter()
        await rig.record(event("a"))
        failures = 0

        def on_step(reached: str) -> None:
            nonlocal failures
            if reached == step or failures:  # and does not get on by trying again
                failures += 1
                raise RuntimeError(step)

        rig.on_step = on_step
        await rig.append(event("b", subject="b"), event("a"), event("a", data={"n": 2}))
        while not failures:
            await asyncio.sleep(0.002)
        await rig.stop()
        rig.on_step = lambda reached: None
        rig.delete("log")
        await rig.start()
        in_store = {one.id for one in rig.stored()}
        assert in_store == ({"a"} if step in ("intent", "customers") else {"a", "b"})
        outcome = await rig.record(event("a"), event("b", subject="b"), event("c"))
        assert outcome.duplicates == ([0] if "b" not in in_store else [0, 1])
        assert await rig.total() == 3
        await rig.served_from("readings")
        assert await rig.total() == 3
        stored = rig.stored()
        assert len({one.position for one in stored}) == len(stored) == 3
        assert rig.recorder.totals.events == 3

    play(scene)


# -- others are down -----------------------------------------------------------------------------------------------
def test_a_store_that_refuses_for_a_while_loses_nothing(play: Play) -> None:
    async def scene(rig: Rig) -> None:
        rig.meter()
        await rig.record(event(0))
        assert rig.failing is not None
        rig.failing.refuse = {"*"}
        for number in range(1, 20):  # acknowledged all the same
            await rig.append(event(number), event(number))
        while rig.failing.refused < 5:
            await asyncio.sleep(0.002)
        assert rig.recorder.lag().events == 38
        assert "not there" in rig.recorder.fault
        with pytest.raises(Unavailable):
            await rig.usage()
        rig.failing.refuse.clear()
        await rig.settled()
        assert await rig.total() == 20
        assert vars_of(rig.recorder.totals) == (20, 19, 0)
        await rig.record(event(20))
        assert rig.recorder.fault is None
        assert rig.recorder.lag().events == 0

    play(scene)


@pytest.mark.slow
@pytest.mark.parametrize(
    "call",
    ["insert_events", "insert_duplicates", "insert_conflicts", "insert_readings", "events_at", "identities"],
)
def test_one_refused_call_is_repeated(play: Play, call: str) -> None:
    async def scene(rig: Rig) -> None:
        rig.meter()
        await rig.record(event("a"))
        assert rig.failing is not None
        rig.failing.refuse = {call}
        if call == "identities":
            await rig.restart()
            assert not rig.recorder.recovered
        await rig.append(event("a"), event("a", data={"n": 3}), event("b"))
        while not rig.failing.refused:
            await asyncio.sleep(0.002)
        rig.failing.refuse.clear()
        await rig.settled()
        assert vars_of(rig.recorder.totals) == (2, 1, 1)
        assert await rig.total() == 2
        assert (await rig.record(event("a"), event("b"))).duplicates == [0, 1]

    play(scene)


def test_an_unknown_subject_waits_for_the_catalog(play: Play) -> None:
    async def scene(rig: Rig) -> None:
        rig.meter()
        await rig.record(event(0))
        catalog = rig.system.catalog
        known, catalog.create_unknown = catalog.create_unknown, _refuse
        await rig.record(event(1))  # of a known subject: nobody needs the catalog
        waiting = await rig.append(event(2, subject="stranger"))

        async def told() -> bool:
            return "catalog" in (rig.recorder.fault or "")

        await eventually(told, "the recorder to say what it waits for")
        assert not await rig.recorder.wait_for(vector_of(waiting), 0.01)
        assert sum(map(local_of, rig.recorder.position)) == 2
        catalog.create_unknown = known
        await rig.settled()
        assert await rig.total() == 3

    play(scene)


def _refuse(*positional: object, **named: object) -> None:
    raise Unavailable("The catalog is not there (test).")


def test_questions_wait_for_the_first_migration(play: Play) -> None:
    async def scene(rig: Rig) -> None:
        rig.meter()
        await rig.record(event(1))
        assert rig.failing is not None
        rig.failing.refuse = {"migrate"}
        rig.settings = {"wait_s_max": 0}
        await rig.restart()
        with pytest.raises(Unavailable) as refused:
            await rig.usage()
        assert refused.value.retry_after_s == 1
        rig.failing.refuse.clear()
        assert await rig.recorder.wait_until_migrated(5)
        assert await rig.total() == 1

    play(scene)


def test_migrating_leaves_the_scratch_of_a_question_alone(play: Play) -> None:
    async def scene(rig: Rig) -> None:
        meter = rig.meter()
        await rig.record(event(1))
        store = rig.system.store
        scratch = store.scratch()
        store.insert_readings(_readings_of(rig, meter), token="t", into=scratch)
        store.migrate()
        query = _total_of(meter)
        assert store.usage(query, rows_max=10, readings=scratch)[0].value == 1
        store.drop_scratch(scratch)

    play(scene)


def _total_of(meter: object) -> object:
    from tallystick.metering.query import UsageQuery

    edges = (NOW_US - 400 * 86_400_000_000, NOW_US + 86_400_000_000)
    return UsageQuery(meter, edges[0], edges[1], edges)  # type: ignore[arg-type]


def test_numbers_keep_every_digit(play: Play) -> None:
    async def scene(rig: Rig) -> None:
        rig.meter()
        await rig.record(
            event(1, data={"n": "0.123456789012345678"}),
            event(2, data={"n": "99999999999999999999.000000000000000001"}),
            event(3, data={"n": "-99999999999999999999"}),
        )
        assert await rig.total() == Decimal("0.123456789012345679")
        body = json.dumps(event(4)).replace('"n": 1', '"n": 0.1000000000000000055511151231257827')
        await rig.record(json.loads(body, parse_float=str))
        assert await rig.total() == Decimal("0.223456789012345685")

    play(scene)


def test_totals_stay_as_they_were_counted(play: Play) -> None:
    async def scene(rig: Rig) -> None:
        await rig.record(event(1), event(1), event(1, data={}))
        before = rig.recorder.totals
        await rig.restart()
        assert rig.recorder.totals == before == replace(before, events=1, duplicates=1, conflicts=1)

    play(scene)
