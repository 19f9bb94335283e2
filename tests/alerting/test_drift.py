"""Levels that hold, looked at when they get somewhere, beside deciding every window of everybody at each look."""

import asyncio
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from typing import Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.alerting.test_levels import (
    CUSTOMERS,
    HOUR,
    METER,
    SECOND,
    FakeCalendar,
    World,
    armed,
    fast,
    finish,
    shown,
    system_of,
    touched,
)

from tallystick.billing.period import Period
from tallystick.catalog.alerting import KeptState, StatePlace
from tallystick.flows.alerts import levels as levels_module
from tallystick.flows.alerts import shared as shared_module
from tallystick.flows.alerts.figures import Measured, Scopes
from tallystick.flows.alerts.finding import Armed, AsOf, decided
from tallystick.flows.alerts.levels import Levels
from tallystick.flows.alerts.tick import Tick
from tallystick.flows.alerts.watched import Level
from tallystick.metering.meter import Aggregation
from tallystick.money import exactly, quotient

GAUGE = replace(METER, aggregation=Aggregation.TIME_WEIGHTED)


class Held(World):
    """A reading is a level from its time on."""

    @exactly
    def areas(self, period: Period, customers: Collection[str] | None, now_us: int) -> dict[str, Scopes]:
        made: dict[str, Scopes] = {}
        end_us = min(period.to_us, now_us)
        for customer in CUSTOMERS if customers is None else customers:
            levels = sorted((one for one in self.readings if one[0] == customer), key=lambda one: one[1])
            ends = [one[1] for one in levels[1:]] + [end_us]
            parts = [
                level * (min(until_us, end_us) - max(from_us, period.from_us))
                for (_, from_us, level, _), until_us in zip(levels, ends, strict=False)
                if min(until_us, end_us) > max(from_us, period.from_us)
            ]
            if parts:
                made[customer] = {"": quotient(sum(parts, Decimal(0)), Decimal(HOUR))}
        return made


def slowly(world: Held, alerts: list[Armed], tick: Tick, before_us: int) -> None:
    moved: dict[StatePlace, KeptState] = {}
    for alert in alerts:
        window = alert.rule.window
        assert window is not None
        for customer in CUSTOMERS:
            zone = world.zones[customer]
            begin_us = min(
                [before_us, *(row.earliest_us for row in tick.touched[GAUGE.id] if row.customer == customer)]
            )
            period = window.at(begin_us, zone)
            while period.from_us <= tick.now_us:
                value = world.areas(period, {customer}, tick.now_us).get(customer, {"": Decimal(0)})[""]
                if period.to_us > tick.after_us - period.length_us:
                    finding = Level(alert).finding(
                        alert.rule.condition, period, customer, ("", value, None), tick.now_us
                    )
                    found = moved.get(finding.place) or world.states.get(finding.place)
                    move = decided(finding, found or KeptState(finding.place), tick.as_of)
                    if move is not None:
                        moved[finding.place] = move.state
                period = window.at(period.to_us, zone)
    finish(world, alerts, tick, moved)


RULES = st.fixed_dictionaries(
    {
        "condition": st.fixed_dictionaries(
            {
                "op": st.just("gte"),
                "steps": st.lists(st.integers(1, 24).map(str), min_size=1, max_size=3, unique=True),
            }
        ),
        "window": st.sampled_from(["hour", "day"]),
    }
)
OPS = st.one_of(
    st.tuples(
        st.just("hold"),
        st.tuples(st.sampled_from(CUSTOMERS), st.sampled_from([0, 0, -600, -1800]), st.integers(0, 12)),
    ),
    st.tuples(st.just("wait"), st.sampled_from([1, 7, 61, 300, 1200, 3600, 5000])),
    st.tuples(st.just("restart"), st.none()),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(RULES, min_size=1, max_size=3), st.lists(OPS, max_size=20))
def test_what_is_looked_at_when_it_gets_there_is_what_looking_always_finds(
    rules: list[dict[str, Any]], ops: list[tuple[str, Any]]
) -> None:
    with ThreadPoolExecutor(1) as pool:
        asyncio.run(compare(rules, ops, pool))


async def compare(rules: list[dict[str, Any]], ops: list[tuple[str, Any]], pool: ThreadPoolExecutor) -> None:
    world, expected = Held(), Held()
    expected.readings = world.readings
    system = system_of(world, {f"id{number}": 1 for number in range(len(rules))}, pool)
    alerts = [replace(armed(number, rule, 1, True), meter=GAUGE) for number, rule in enumerate(rules)]
    before_us = world.now_us
    asked = 0

    async def figures(
        _: Any, measured: Measured, period: Period, customers: Any, as_of_us: int, *, now_us: int
    ) -> dict[str, Scopes]:
        nonlocal asked
        asked += 1
        return world.areas(period, customers, now_us)

    async def every_figure(
        system: Any, measured: Measured, period: Period, as_of_us: int, *, now_us: int
    ) -> dict[str, Scopes]:
        return await figures(system, measured, period, None, as_of_us, now_us=now_us)

    levels = Levels(FakeCalendar(world))  # pyright: ignore[reportArgumentType]

    async def look(new: list[tuple[str, int, Decimal, str]]) -> None:
        nonlocal before_us
        world.readings.extend(new)
        tick = Tick(system, AsOf(world.now_us, 1, "0"), before_us, {GAUGE.id: touched(new)})
        levels.arm(alerts, {})
        slowly(expected, alerts, tick, before_us)
        await fast(levels, world, alerts, tick)
        before_us = world.now_us
        assert shown(world) == shown(expected)

    with (
        patch.object(levels_module, "figures", figures),
        patch.object(shared_module, "figures", figures),
        patch.object(shared_module, "every_figure", every_figure),
    ):
        await look([])
        for op, given_ in ops:
            if op == "hold":
                who, after_s, level = given_
                await look([(who, world.now_us + after_s * SECOND, Decimal(level), "")])
                world.now_us += SECOND
                await look([])
            elif op == "wait":
                world.now_us += given_ * SECOND
                await look([])
            else:
                levels = Levels(FakeCalendar(world))  # pyright: ignore[reportArgumentType]
        asked = 0
        for _ in range(10):
            world.now_us += 10_000  # nobody gets anywhere within a hundredth of a second, almost always
            await look([])
        assert asked <= 60
