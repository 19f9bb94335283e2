"""What is past its limit goes, with all that hangs on it; figures behind the limit stay as they were, identities for ever."""

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import pytest
from tests.flows.rig import DAY_US, LIMITS, NOW_US, Rig, event, eventually

from tallystick.catalog.interface import SYSTEM, Actor
from tallystick.errors import Invalid
from tallystick.flows.correct import correct
from tallystick.flows.doctor import examine
from tallystick.flows.retention import RetentionKeeper
from tallystick.metering.decode import decode
from tallystick.store.connection import Connection
from tallystick.store.interface import FACTS, RollupView

Play = Callable[[Callable[[Rig], Awaitable[None]]], None]
LIMIT_US = NOW_US // DAY_US * DAY_US - 30 * DAY_US  # NOW is in the day of 2026-09-21
OLD, NEW = "2026-08-01T12:00:00Z", "2026-09-10T12:00:00Z"


class Killed(Exception):
    """The process ends here."""


@pytest.fixture(autouse=True)
def empty_facts(side_door: Connection) -> None:
    for table in (*FACTS, "readings", *(view.value for view in RollupView)):
        side_door.command(f"TRUNCATE TABLE IF EXISTS {table} SYNC")


def keeper(rig: Rig, **options: Any) -> RetentionKeeper:
    system = rig.system
    return RetentionKeeper(
        store=system.store, catalog=system.catalog, recorder=system.recorder, clock=rig.clock, **options
    )


def limit(rig: Rig, days: int | None = 30, kind: str = "call") -> None:
    rig.system.catalog.set_retention("default", kind, days, actor=SYSTEM, now_us=NOW_US)


async def fill(rig: Rig) -> None:
    """Ten old events and ten new; of the old ones a duplicate, a conflict, one retracted and two replaced."""
    rig.meter()
    await rig.record(*(event(f"old{n}", time=OLD, data={"n": n}) for n in range(10)))
    await rig.record(*(event(f"new{n}", time=NEW, data={"n": n}) for n in range(10)))
    await rig.record(event("other", type="other", time=OLD))
    await rig.record(
        event("old1", data={"n": 1}), event("old2", data={"n": 99}), event("new1", data={"n": 9})
    )
    replacing = decode(
        b"["
        b'{"id":"old4","source":"/s","type":"call","subject":"acme","time":"2026-08-01T13:00:00Z","data":{"n":40}},'
        b'{"id":"old5","source":"/s","type":"call","subject":"acme","time":"2026-09-10T13:00:00Z","data":{"n":50}}]',
        content_type="application/json",
        ce_headers={},
        tenant="default",
        received_at_us=NOW_US,
        limits=LIMITS,
    ).events
    await correct(
        rig.system, "default", reason="r", actor=Actor("a"), retract=[("/s", "old3")], replacements=replacing
    )
    await built(rig)


async def built(rig: Rig) -> None:
    async def ready() -> bool:
        return not rig.recorder.unbuilt() and rig.recorder.recovered

    await eventually(ready, "readings built")


async def kept(rig: Rig) -> Decimal:
    """The sum behind the limit."""
    from tallystick.flows.usage import UsageRequest, usage

    request = UsageRequest(tenant="default", meter="m", from_us=LIMIT_US, to_us=NOW_US + DAY_US)
    return (await usage(rig.system, request)).rows[0].value


async def check_all(rig: Rig) -> None:
    """Everything that was to go is gone, all else is as it was, and the identities are known."""
    counts = rig.system.store.counts()
    assert {
        name: counts[name] for name in ("events", "duplicates", "conflicts", "corrections", "forgotten")
    } == {
        "events": 12,  # ten new, one of another type, one whose content is new
        "duplicates": 0,
        "conflicts": 1,
        "corrections": 1,
        "forgotten": 9,
    }
    assert await kept(rig) == Decimal(45 + 50)
    with pytest.raises(Invalid) as refused:
        await rig.usage()
    assert refused.value.code == "past_retention"
    assert "2026-08-22T00:00:00Z" in refused.value.detail
    found = await examine(rig.system, full=True)
    assert found.findings == ()
    again = await rig.record(
        event("old6", data={"n": 6}),
        event("old7", data={"n": 70}),
        event("old3", data={"n": 3}),
        event("fresh"),
    )
    assert (again.duplicates, again.conflicts) == ([0, 2], [1])


def test_what_is_past_its_limit_goes_and_stays_known(play: Play) -> None:
    async def scene(rig: Rig) -> None:
        await fill(rig)
        before = await kept(rig)
        assert await keeper(rig).sweep() == 0  # off until it is set
        limit(rig)
        assert await keeper(rig).sweep() == 9
        assert await kept(rig) == before
        result = await correct(
            rig.system,
            "default",
            reason="r",
            actor=Actor("a"),
            retract=[("/s", "old1"), ("/s", "new1")],
            replacements=None,
        )
        assert result.statuses == ["not_found", "retracted"]
        replaced = decode(
            b'[{"id":"new1","source":"/s","type":"call","subject":"acme","time":"2026-09-10T12:00:00Z","data":{"n":1}}]',
            content_type="application/json",
            ce_headers={},
            tenant="default",
            received_at_us=NOW_US,
            limits=LIMITS,
        ).events
        await correct(rig.system, "default", reason="r", actor=Actor("a"), retract=[], replacements=replaced)
        assert await kept(rig) == before
        assert rig.recorder.totals.events == 21

    play(scene)


def test_everything_is_right_after_a_restart_and_every_rebuild(play: Play) -> None:
    async def scene(rig: Rig) -> None:
        await fill(rig)
        limit(rig)
        assert await keeper(rig, step_events=4).sweep() == 9
        await rig.restart(lambda: rig.delete("identity"))
        await built(rig)
        await check_all(rig)
        await rig.restart(lambda: rig.delete("recorder.sqlite"))
        await built(rig)
        assert rig.recorder.totals.events == 22
        assert await kept(rig) == Decimal(45 + 50 + 1)
        rig.recorder.want_rebuild()
        generation = rig.recorder.generation
        await eventually(lambda: _differs(rig, generation), "rebuild")
        await built(rig)
        assert await kept(rig) == Decimal(45 + 50 + 1)
        assert (await rig.record(event("old8", data={"n": 8}))).duplicates == [0]

    play(scene)


async def _differs(rig: Rig, generation: int) -> bool:
    return rig.recorder.generation != generation


@pytest.mark.parametrize("step", ["forgotten", "forgetting"])
def test_killed_in_the_middle_of_a_step(play: Play, step: str) -> None:
    async def scene(rig: Rig) -> None:
        await fill(rig)
        limit(rig)

        def kill(reached: str) -> None:
            if reached == step:
                raise Killed

        rig.on_step = kill
        with pytest.raises(Killed):
            await keeper(rig, step_events=4).sweep()
        rig.on_step = lambda reached: None
        await rig.restart(lambda: rig.delete("identity"))
        await built(rig)
        with pytest.raises(Invalid):  # refused from before the first event went
            await rig.usage()
        assert await kept(rig) == Decimal(45 + 50)
        await keeper(rig).sweep()
        await check_all(rig)

    play(scene)


def test_a_store_that_fails_in_the_middle_is_tried_again(play: Play) -> None:
    async def scene(rig: Rig) -> None:
        await fill(rig)
        limit(rig)
        rig.failing.refuse = {"delete_forgotten"}
        with pytest.raises(Exception, match="test"):
            await keeper(rig).sweep()
        rig.failing.refuse = set()
        await rig.record(event("later", time=NEW, data={"n": 0}))
        assert rig.system.store.counts()["events"] == 13
        assert await keeper(rig).sweep() == 0
        assert (await examine(rig.system, full=True)).findings == ()

    play(scene)


def test_what_is_needed_or_carried_is_kept(play: Play) -> None:
    async def scene(rig: Rig) -> None:
        await fill(rig)
        limit(rig)
        assert await keeper(rig, needed_since=lambda tenant, kind: LIMIT_US - 40 * DAY_US).sweep() == 0
        rig.meter(key="level", aggregation="time_weighted", value="$.n", event_type="other")
        limit(rig, kind="other")
        gone = 0
        for _ in range(5000):  # nothing goes while the readings of the new meter are being built
            gone = gone or await keeper(rig).sweep()
            if gone:
                break
            await asyncio.sleep(0.02)
        assert gone == 9
        assert rig.system.store.counts()["events"] == 12
        limit(rig, None)
        rig.clock.advance(seconds=90 * 86_400)
        assert await keeper(rig).sweep() == 0

    play(scene)
