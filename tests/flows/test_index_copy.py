"""The copy of the identity index: who takes a partition over has it from there, and nothing that is wrong with it does harm."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tallystick.catalog.interface import SYSTEM
from tallystick.errors import Unavailable
from tallystick.flows import index_copy
from tallystick.flows.correct import correct
from tallystick.flows.index_copy import IndexCopy
from tallystick.identity.runs import RunsIndex
from tallystick.store.identities import IdentityCopies

from .rig import Rig, event

PARTITIONS = 4
EVENTS = 200
Play = Callable[[Callable[[Rig], Awaitable[None]]], None]


@pytest.fixture
def play(make_rig: Callable[[], Rig], monkeypatch: pytest.MonkeyPatch) -> Play:
    monkeypatch.setattr(index_copy, "COPY_ROWS", 8)
    monkeypatch.setattr(index_copy, "_PIECE_ROWS", 16)

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


class Loads:
    """How many identities indexes were loaded with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows = 0
        load = RunsIndex.load

        def counted(index: RunsIndex, blocks: Any, *, count: int, **named: Any) -> None:
            load(index, blocks, count=count, **named)
            self.rows += count

        monkeypatch.setattr(RunsIndex, "load", counted)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Loads:
    return Loads(monkeypatch)


async def send(rig: Rig, first: int, count: int) -> list[int]:
    """Which of these events were there already."""
    found: list[int] = []
    for start in range(first, first + count, 50):
        outcome = await rig.record(
            *(event(number) for number in range(start, min(start + 50, first + count)))
        )
        assert outcome.conflicts == []
        found += [start + at for at in outcome.duplicates]
    return found


def lose_indexes(rig: Rig) -> None:
    for partition in range(PARTITIONS):
        rig.delete(f"identity-{partition}")


def copied(rig: Rig) -> int:
    return sum(view.kept(after=0, through=2**64 - 1).count for view in views(rig))


def views(rig: Rig) -> list[IdentityCopies]:
    store = rig.system.store
    return [
        IdentityCopies(store._store._connection, store._store._writer, partition)  # pyright: ignore
        for partition in range(PARTITIONS)
    ]


def test_an_index_that_is_lost_comes_back_from_its_copy(play: Play, loads: Loads) -> None:
    async def scene(rig: Rig) -> None:
        assert await send(rig, 0, EVENTS) == []
        await correct(
            rig.system, "default", reason="r", actor=SYSTEM, retract=[("/s", "4")], replacements=None
        )
        await rig.restart(lambda: lose_indexes(rig))
        assert await send(rig, 0, EVENTS + 20) == list(range(EVENTS))
        assert loads.rows == EVENTS  # a clean end leaves nothing to be read from the events
        assert copied(rig) >= EVENTS
        # An index that has fallen behind takes only what it lacks.
        await rig.restart()
        assert await send(rig, 0, EVENTS + 40) == list(range(EVENTS + 20))
        assert loads.rows == EVENTS

    play(scene)


def test_a_copy_that_is_wrong_is_noticed_and_made_anew(play: Play, loads: Loads) -> None:
    async def scene(rig: Rig) -> None:
        assert await send(rig, 0, EVENTS) == []
        await rig.stop()
        await rig.start()
        await rig.settled()
        views(rig)[1].delete(after=0)
        await rig.restart(lambda: lose_indexes(rig))
        assert await send(rig, 0, EVENTS) == list(range(EVENTS))
        assert 0 < loads.rows < EVENTS
        for _ in range(2400):
            if copied(rig) == EVENTS:
                break
            await asyncio.sleep(0.05)
        before, loads.rows = loads.rows, 0
        await rig.restart(lambda: lose_indexes(rig))
        assert await send(rig, 0, EVENTS) == list(range(EVENTS))
        assert loads.rows == EVENTS > before

    play(scene)


def test_rows_that_were_not_written_down_are_not_copied_twice(
    play: Play, loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert, broken = IndexCopy._insert, 0  # pyright: ignore[reportPrivateUsage]

    def breaking(copy: IndexCopy, *given: Any, **named: Any) -> None:
        nonlocal broken
        insert(copy, *given, **named)
        broken += 1
        if broken % 3 == 1:
            raise Unavailable("broken (test)")

    async def scene(rig: Rig) -> None:
        monkeypatch.setattr(IndexCopy, "_insert", breaking)
        assert await send(rig, 0, EVENTS) == []
        assert broken > PARTITIONS
        await rig.restart(lambda: lose_indexes(rig))
        monkeypatch.setattr(IndexCopy, "_insert", insert)
        assert await send(rig, 0, EVENTS + 100) == list(range(EVENTS))
        await rig.restart(lambda: lose_indexes(rig))
        assert await send(rig, 0, EVENTS + 100) == list(range(EVENTS + 100))
        assert copied(rig) == EVENTS + 100
        assert loads.rows > EVENTS

    play(scene)
