"""Four partitions in one process, over leases and shared state as in a cluster: what no single recorder shows."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from tests.flows.rig import NOW_US, WAIT_S, Rig, event, expected

from tallystick.catalog.interface import SYSTEM, BackfillRange
from tallystick.flows import correct
from tallystick.flows.position import position_of, token_of
from tallystick.metering.decode import Limits, decode
from tallystick.metering.position import base_of, partition_of, vector_of

PARTITIONS = 4
Play = Callable[[Callable[[Rig], Awaitable[None]]], None]


@pytest.fixture
def play(make_rig: Callable[[], Rig]) -> Play:
    def run(scene: Callable[[Rig], Awaitable[None]]) -> None:
        async def whole() -> None:
            rig = make_rig()
            rig.settings["partitions"] = PARTITIONS
            await rig.start()
            try:
                await scene(rig)
            finally:
                await rig.stop()

        asyncio.run(whole())

    return run


def test_a_request_is_one_however_many_partitions_it_touches(play: Play) -> None:
    async def scene(rig: Rig) -> None:
        meter = rig.meter()
        positions = await rig.append(*(event(number) for number in range(40)))
        vector = vector_of(positions)
        assert {partition_of(each) for each in vector} == set(range(PARTITIONS))
        assert await rig.recorder.wait_for(position_of(token_of(vector), pointer="min_position"), WAIT_S)
        assert rig.recorder.position == vector
        assert await rig.total() == 40  # all of it at once: no partition lags behind the question
        again = await rig.record(event(7), event("new"), event(8, data={"n": 2}), event(7))
        assert (again.duplicates, again.conflicts) == ([0, 3], [2])
        assert (await rig.usage(group_by=("customer",))).rows[0].value == 41
        assert [(row.group, row.value) for row in (await rig.usage(group_by=("customer",))).rows] == expected(
            meter, rig.stored(), group_by=("customer",)
        )
        totals = rig.recorder.totals
        assert (totals.events, totals.duplicates, totals.conflicts) == (41, 2, 1)
        await rig.served_from("readings")

    play(scene)


def test_an_idle_partition_holds_nobody_back(play: Play) -> None:
    async def scene(rig: Rig) -> None:
        """One event wakes one recorder; the others publish its moment after it."""
        moments = []
        for number in range(12):
            await rig.record(event(number))
            moments.append(rig.recorder.recorded_at_us)
        assert moments == sorted(set(moments))

    play(scene)


def test_a_slow_clock_holds_nobody_back(play: Play) -> None:
    async def scene(rig: Rig) -> None:
        rig.meter()
        await rig.record(*(event(number) for number in range(8)))
        before_us = rig.recorder.recorded_at_us
        rig.clock.move_to(NOW_US - 3_600_000_000)
        await rig.record(*(event(number) for number in range(8, 16)))
        assert before_us < rig.recorder.recorded_at_us < before_us + 1_000
        assert await rig.total() == 16

    play(scene)


def test_what_was_recorded_survives_any_number_of_owners(play: Play) -> None:
    async def scene(rig: Rig) -> None:
        rig.meter()
        await rig.record(*(event(number) for number in range(20)))
        moment_us = rig.recorder.recorded_at_us
        for round_number in range(3):
            if round_number == 1:
                await rig.restart(lambda: [rig.delete(f"identity-{each}") for each in range(PARTITIONS)])
            else:
                await rig.restart()
            outcome = await rig.record(*(event(number) for number in range(25)))
            assert outcome.duplicates == list(range(20 if round_number == 0 else 25))
            assert rig.recorder.recorded_at_us > moment_us
        assert await rig.total() == 25

    play(scene)


def test_positions_of_partitions_that_are_not_there_are_waited_for_in_vain(play: Play) -> None:
    async def scene(rig: Rig) -> None:
        assert not await rig.recorder.wait_for((base_of(PARTITIONS + 1) + 1,), 0.05)
        assert not await rig.recorder.wait_for((1,), 0.05)

    play(scene)


# -- actions of all partitions: at one moment, killed at any step ------------------------------------------------------
async def backfill(rig: Rig, key: str, *events: Any) -> None:
    system = rig.system
    system.catalog.create_backfill(
        "default",
        key,
        reason="r",
        author="a",
        replace=BackfillRange(NOW_US - 86_400_000_000 * 30, NOW_US, "call", None),
        actor=SYSTEM,
        now_us=rig.clock.now_us(),
    )
    await correct.stage(system, "default", key, _columns(rig, *events))


def _columns(rig: Rig, *events: Any) -> Any:
    return decode(
        msgspec.json.encode(events),
        content_type="application/json",
        ce_headers={},
        tenant="default",
        received_at_us=rig.clock.now_us(),
        limits=Limits(
            events_max=10_000, event_bytes_max=2**18, depth_max=32, future_tolerance_us=3_600_000_000
        ),
    ).events


def test_no_question_sees_part_of_a_backfill(play: Play) -> None:
    async def scene(rig: Rig) -> None:
        rig.meter()
        await rig.record(*(event(number) for number in range(40)))
        await backfill(rig, "b", *(event(number, data={"n": 10}) for number in range(30)))
        seen: set[Any] = set()
        done = False

        async def ask() -> None:
            while not done:
                seen.add(await rig.total())
                await asyncio.sleep(0)

        asking = asyncio.create_task(ask())
        closed = await correct.close_backfill(rig.system, "default", "b", actor=SYSTEM)
        assert closed.state == "closed"
        assert await rig.total() == 300
        moment_us = rig.recorder.recorded_at_us
        reverted = await correct.revert_backfill(rig.system, "default", "b", actor=SYSTEM)
        assert reverted.state == "reverted"
        assert await rig.total() == 40
        done = True
        await asking
        assert seen <= {40, 300}
        answer = await rig.usage(as_of_us=moment_us)
        assert answer.rows[0].value == 300
        assert closed.counts["replaced"] == 30
        assert closed.counts["retracted"] == 40

    play(scene)


STEPS = [
    ("opened", 1),
    *(("intent", times) for times in (1, 3)),
    *(("action", times) for times in (1, 2, 4)),
    *(("committed", times) for times in (1, 4)),
    ("indexed", 2),
    *(("finished", times) for times in (1, 2, 3, 4)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("step", "times"), STEPS)
@pytest.mark.parametrize("restart", [False, True], ids=["retried", "restarted"])
def test_a_failure_at_any_step_of_an_action_of_all_changes_nothing(
    play: Play, step: str, times: int, restart: bool
) -> None:
    async def scene(rig: Rig) -> None:
        rig.meter()
        await rig.record(*(event(number) for number in range(20)))
        await backfill(rig, "b", *(event(number, data={"n": 10}) for number in range(10, 30)))
        await rig.settled()
        reached = itertools.count(1)
        failed = asyncio.Event()
        loop = asyncio.get_running_loop()
        broken = True

        def on_step(at: str) -> None:
            if at == step and broken and next(reached) >= times:
                loop.call_soon_threadsafe(failed.set)
                raise RuntimeError(step)

        rig.on_step = on_step
        closing = asyncio.create_task(correct.close_backfill(rig.system, "default", "b", actor=SYSTEM))
        await asyncio.wait_for(failed.wait(), WAIT_S)
        if restart:
            closing.cancel()
            await asyncio.gather(closing, return_exceptions=True)
            await rig.restart()
        broken = False
        if restart:
            await correct.close_backfill(rig.system, "default", "b", actor=SYSTEM)
        else:
            await closing
        assert rig.system.catalog.backfill("default", "b").state == "closed"
        assert await rig.total() == 200
        rig.on_step = lambda at: None
        again = await rig.record(event(5), event(29), event(31))
        assert again.duplicates == [0]
        assert again.conflicts == [1]
        await correct.revert_backfill(rig.system, "default", "b", actor=SYSTEM)
        assert await rig.total() == 21
        await rig.served_from("readings")

    play(scene)


@pytest.mark.slow
def test_an_index_lost_in_the_midst_of_a_close_is_filled_without_what_does_not_count_yet(
    make_rig: Callable[[], Rig],
) -> None:
    """With one partition, too."""

    async def scene() -> None:
        rig = make_rig()
        rig.settings["partitions"] = 1
        await rig.start()
        rig.meter()
        await rig.record(*(event(number) for number in range(5)))
        await backfill(rig, "b", *(event(number, data={"n": 10}) for number in range(3, 8)))
        await rig.settled()
        failed = asyncio.Event()
        loop = asyncio.get_running_loop()

        def on_step(at: str) -> None:
            if at == "action":
                loop.call_soon_threadsafe(failed.set)
                raise RuntimeError(at)

        rig.on_step = on_step
        closing = asyncio.create_task(correct.close_backfill(rig.system, "default", "b", actor=SYSTEM))
        await asyncio.wait_for(failed.wait(), WAIT_S)
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
        await rig.stop()
        rig.delete("identity")
        rig.on_step = lambda at: None
        await rig.start()
        try:
            closed = await correct.close_backfill(rig.system, "default", "b", actor=SYSTEM)
            assert closed.state == "closed", rig.recorder.fault
            assert await rig.total() == 50
            assert rig.recorder.totals.events == 8
        finally:
            await rig.stop()

    asyncio.run(scene())
