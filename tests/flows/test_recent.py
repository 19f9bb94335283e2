"""What was recorded between two moments, as limits and alerts follow it."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from decimal import Decimal

from tests.flows.rig import DAY_US, NOW_US, WAIT_S, Rig, event, eventually

from tallystick.catalog.interface import SYSTEM
from tallystick.flows.correct import correct
from tallystick.flows.recent import recorded_between, unread_between

Play = Callable[[Callable[[Rig], Awaitable[None]]], None]


def test_what_moments_tile_adds_up_to_usage(play: Play) -> None:
    async def scene(rig: Rig) -> None:
        meters = {
            meter.id: meter for meter in (rig.meter(), rig.meter(key="c", aggregation="count", value=None))
        }
        await rig.record(event(0))
        await eventually(_sure(rig), "readings of the meters")
        at_us = 0
        found: Counter[tuple[str, str]] = Counter()
        for step in range(4):
            subject = ("acme", "globex")[step % 2]
            waiting = asyncio.create_task(rig.recorder.wait_for_moment(rig.recorder.recorded_at_us, WAIT_S))
            await asyncio.sleep(0)
            if step == 3:
                wrong = [("/s", "a1")]
                await correct(
                    rig.system, "default", reason="wrong", actor=SYSTEM, retract=wrong, replacements=None
                )
            else:
                time = "2026-09-20T10:00:00Z" if step == 2 else "2026-09-21T14:00:00Z"
                await rig.append(
                    *[event(f"{'abc'[step]}{n}", subject=subject, data={"n": n}, time=time) for n in (1, 2)]
                )
            later_us = await waiting
            assert later_us is not None
            news = await recorded_between(rig.system, at_us, later_us)
            assert not news.unsure
            for one in news.usage:
                found[meters[one.meter].key, one.customer] += one.total  # pyright: ignore[reportArgumentType]
                assert one.earliest_us <= one.latest_us < NOW_US + DAY_US
            at_us = later_us
        await rig.settled()
        rest = await recorded_between(rig.system, at_us, rig.recorder.recorded_at_us)
        for one in rest.usage:
            found[meters[one.meter].key, one.customer] += one.total  # pyright: ignore[reportArgumentType]
        for key in ("m", "c"):
            rows = (await rig.usage(key, group_by=("customer",))).rows
            assert {row.group[0]: row.value for row in rows} == {
                customer: Decimal(total) for (of, customer), total in found.items() if of == key
            }

    play(scene)


def _sure(rig: Rig) -> Callable[[], Awaitable[bool]]:
    async def sure() -> bool:
        return not (await recorded_between(rig.system, 0, rig.recorder.recorded_at_us)).unsure

    return sure


def test_readings_that_are_lost_make_it_unsure(play: Play) -> None:
    async def scene(rig: Rig) -> None:
        meter = rig.meter()
        await rig.record(event(1))
        await eventually(_sure(rig), "readings of the meter")
        rig.system.store.delete_readings(None)
        news = await recorded_between(rig.system, 0, rig.recorder.recorded_at_us)
        assert news.unsure == {meter.id}
        assert news.usage == ()

    play(scene)


def test_of_more_groups_than_one_answer_holds_nothing_is_sure(play: Play) -> None:
    async def scene(rig: Rig) -> None:
        meter = rig.meter()
        await rig.record(event(1), event(2, subject="globex"))
        await eventually(_sure(rig), "readings of the meter")
        news = await recorded_between(rig.system, 0, rig.recorder.recorded_at_us, rows_max=2)
        assert news.unsure == {meter.id}
        assert (
            len((await recorded_between(rig.system, 0, rig.recorder.recorded_at_us, rows_max=3)).usage) == 2
        )

    play(scene)


def test_events_that_nothing_reads_are_told(make_rig: Callable[[], Rig]) -> None:
    async def scene(rig: Rig) -> None:
        rig.settings = {"unknown_subject": "quarantine"}
        await rig.start()
        try:
            rig.meter()
            before_us = rig.recorder.recorded_at_us
            await rig.record(event(1), event(2, type="mystery"), event(3, type="mystery"))
            unread = await unread_between(rig.system, before_us, rig.recorder.recorded_at_us)
            assert {(one.type, one.subject_of_nobody, one.events) for one in unread.by_type} == {
                ("call", "acme", 1),
                ("mystery", "acme", 2),
            }
            assert [one.type for one in unread.unmetered] == ["mystery"]
            assert len(unread.unknown) == 2
            nothing = await unread_between(rig.system, rig.recorder.recorded_at_us, NOW_US * 2)
            assert not nothing.by_type
        finally:
            await rig.stop()

    asyncio.run(scene(make_rig()))


def test_who_waits_for_a_moment_is_woken_by_it_or_by_the_end(play: Play) -> None:
    async def scene(rig: Rig) -> None:
        recorder = rig.recorder
        assert await recorder.wait_for_moment(-1, 0) == recorder.recorded_at_us
        assert await recorder.wait_for_moment(recorder.recorded_at_us, 0.01) is None
        waiting = asyncio.create_task(recorder.wait_for_moment(recorder.recorded_at_us, WAIT_S))
        await asyncio.sleep(0)
        await rig.stop()
        assert await waiting is None
        await rig.start()

    play(scene)
