"""The recorder against a plain dict, under random batches, failures at random steps, restarts and losses."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.flows.rig import Event, Rig, event, expected

from tallystick.flows.record import STEPS

Make = Callable[[], Rig]

IDS = st.integers(0, 12)
EVENTS = st.builds(
    lambda number, n, subject, again: event(
        number, data={"n": n} if again else {"n": n, "k": 1}, subject=subject
    ),
    IDS,
    st.integers(0, 2),
    st.sampled_from(["acme", "zeta"]),
    st.booleans(),
)
APPEND = st.tuples(st.just("append"), st.lists(EVENTS, min_size=1, max_size=8))
FAIL = st.tuples(st.just("fail"), st.tuples(st.sampled_from(STEPS), st.integers(1, 3)))
SIMPLE = st.sampled_from(
    [
        ("restart", None),
        ("settle", None),
        ("meter", None),
        ("lose index", None),
        ("rebuild", None),
        ("ask", None),
    ]
)


class Model:
    """What ought to be: the first of an identity stands."""

    def __init__(self) -> None:
        self.recorded: dict[str, Event] = {}
        self.duplicates = 0
        self.conflicts = 0

    def take(self, sent: list[Event]) -> None:
        for one in sent:
            first = self.recorded.setdefault(one["id"], one)
            if first is one:
                continue
            if (first["subject"], first["data"]) == (one["subject"], one["data"]):
                self.duplicates += 1
            else:
                self.conflicts += 1


async def run(rig: Rig, actions: list[tuple[str, Any]]) -> None:
    model = Model()
    meters = [rig.meter(key="m0")]
    armed: list[tuple[str, int]] = []
    reached: dict[str, int] = {}

    def on_step(step: str) -> None:
        reached[step] = reached.get(step, 0) + 1
        if armed and armed[0][0] == step:
            wanted, left = armed.pop(0)
            if left > 1:
                armed.insert(0, (wanted, left - 1))
            raise RuntimeError(f"armed at {step}")

    rig.on_step = on_step

    async def check() -> None:
        await rig.settled()
        totals = rig.recorder.totals
        assert (totals.events, totals.duplicates, totals.conflicts) == (
            len(model.recorded),
            model.duplicates,
            model.conflicts,
        )
        stored = rig.stored()
        assert {one.id: (one.subject, one.data) for one in stored} == {
            key: (one["subject"], _compact(one["data"])) for key, one in model.recorded.items()
        }
        assert len(stored) == len(model.recorded)
        for meter in meters:
            answer = await rig.usage(meter.key, group_by=("customer",))
            found = [(row.group, row.value) for row in answer.rows]
            assert found == expected(meter, stored, group_by=("customer",)), answer.served_from

    for action, argument in actions:
        if action == "append":
            await rig.append(*argument)
            model.take(argument)
        elif action == "fail":
            armed[:] = [argument]
        elif action == "restart":
            await rig.restart()
        elif action == "lose index":
            await rig.restart(lambda: rig.files("identity") and rig.delete("identity"))
        elif action == "meter":
            meters.append(rig.meter(key=f"m{len(meters)}"))
        elif action == "rebuild":
            rig.recorder.want_rebuild()
        elif action == "settle":
            await rig.settled()
        elif action == "ask":
            await check()
    armed.clear()
    await check()
    await rig.restart()
    await check()


def _compact(data: dict[str, Any]) -> bytes:
    import json

    return json.dumps(data).encode()


def _play(make_rig: Make, actions: list[tuple[str, Any]]) -> None:
    async def whole() -> None:
        rig = make_rig()
        await rig.start()
        try:
            await run(rig, actions)
        finally:
            with contextlib.suppress(Exception):
                await rig.stop()

    asyncio.run(whole())


@pytest.mark.slow
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(actions=st.lists(st.one_of(APPEND, APPEND, FAIL, SIMPLE), min_size=3, max_size=14))
def test_against_a_dict(make_rig: Make, actions: list[tuple[str, Any]]) -> None:
    _play(make_rig, actions)
