"""Looks that do little, beside deciding every alert for every customer from all readings each time: over random histories with
late and taken-back usage, changes of alerts and zones, restarts, and answers that are too large."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tallystick.alerting.rule import parse_rule
from tallystick.alerting.window import AlertWindow
from tallystick.billing.kept import canonical
from tallystick.billing.period import Period
from tallystick.catalog.alerting import KeptAlert, KeptState, StatePlace
from tallystick.flows.alerts import levels as levels_module
from tallystick.flows.alerts import shared as shared_module
from tallystick.flows.alerts.figures import Measured, Scopes, scope_of
from tallystick.flows.alerts.finding import Armed, AsOf, Finding, decided, ended
from tallystick.flows.alerts.levels import Levels
from tallystick.flows.alerts.limits import WatchedLimit
from tallystick.flows.alerts.parts import Row
from tallystick.flows.alerts.tick import SETTLE_US, Tick
from tallystick.flows.alerts.watched import Level
from tallystick.flows.billing.selection import filters_of
from tallystick.flows.fresh import Part
from tallystick.metering.meter import Aggregation, Dimension, Meter
from tallystick.store.interface import TouchedUsage

SECOND, HOUR = 1_000_000, 3_600_000_000
BEGIN = 1_784_116_800 * SECOND  # 2026-07-15T12:00:00Z
METER = Meter(1, "t", "calls", 1, "Calls", "call", Aggregation.SUM, "$.n", (Dimension("model", "$.model"),))
GREATEST = replace(METER, id=2, key="greatest", aggregation=Aggregation.MAX)
CUSTOMERS = ("one", "two", "three")
ZONES = ("UTC", "Asia/Kolkata")
NEVER_US = 50 * SECOND  # longer than a zone may be out of date


@dataclass
class World:
    """All readings, what each customer's zone is, and what time it is."""

    now_us: int = BEGIN
    readings: list[tuple[str, int, Decimal, str]] = field(default_factory=list[Any])
    zones: dict[str, str] = field(default_factory=lambda: {"one": "UTC", "two": "UTC", "three": ZONES[1]})
    is_narrow: bool = False
    """Whether an answer has no room for everybody."""
    is_followed: bool = True
    """Whether what is recorded is in memory by its parts."""
    states: dict[StatePlace, KeptState] = field(default_factory=dict[StatePlace, KeptState])

    def figures(
        self, measured: Measured, period: Period, customers: Collection[str] | None
    ) -> dict[str, Scopes]:
        made: defaultdict[str, Scopes] = defaultdict(dict)
        conditions = filters_of(measured.filter)
        for customer, time_us, value, model in self.readings:
            if time_us in period and (customers is None or customer in customers):
                if not all(one.accepts(model) for one in conditions):
                    continue
                scope = scope_of(measured.group_by, [model] if measured.group_by else [])
                before = made[customer].get(scope)
                if measured.meter.aggregation is Aggregation.MAX:
                    made[customer][scope] = value if before is None else max(before, value)
                else:
                    made[customer][scope] = (before or Decimal(0)) + value
        return dict(made)

    def parted(self, meter: Meter, columns: tuple[str, ...], period: Period, customers: Any) -> list[Row]:
        """By the model, as it is the only column."""
        found = self.figures(Measured(meter, None, columns), period, customers)
        return [
            (customer, tuple(json.loads(scope).values()) if scope else (), value)
            for customer, scopes in found.items()
            for scope, value in scopes.items()
        ]


class FakeCalendar:
    """Windows by the zones of a world."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def periods(
        self, tenant: str, customers: Collection[str], window: AlertWindow, timezone: str | None, at_us: int
    ) -> dict[str, Period]:
        return {one: window.at(at_us, timezone or self.world.zones[one]) for one in customers}

    def zone_kept(self, tenant: str, customer: str) -> str:
        return self.world.zones[customer]

    async def on_plan(self, tenant: str, plan: str, customers: Collection[str]) -> set[str]:
        return set()


def armed(number: int, raw: dict[str, Any], edition: int, begun: bool) -> Armed:
    meter = GREATEST if raw.get("meter") == "greatest" else METER
    rule = parse_rule({"key": f"a{number}", "meter": "calls", **raw})
    kept = KeptAlert(
        id=f"id{number}", tenant="t", owner=None, key=rule.key, customer=rule.customer,
        content=canonical(rule.to_wire()), edition=edition, begun=begun, judged_us=None, muted_until_us=None,
        created_at_us=0, changed_at_us=0,
    )  # fmt: skip
    return Armed(kept, rule, meter)


DAY = parse_rule(
    {"key": "x", "meter": "calls", "window": "day", "condition": {"op": "gte", "value": 1}}
).window
assert DAY is not None
LIMIT = WatchedLimit("limit", Decimal(20), DAY, "*", None, "calls", None, {"two": Decimal(5)})


def slowly(world: World, alerts: list[Armed], tick: Tick, everybody: bool) -> None:
    """Every alert, customer, window and group, from all readings."""
    moved: dict[StatePlace, KeptState] = {}
    for alert in alerts:
        limit = LIMIT if alert.rule.condition.operation == "percent_of_limit" else None
        level, window = Level(alert, limit), LIMIT.window if limit is not None else alert.rule.window
        assert window is not None
        assert alert.meter is not None
        measured = Measured(alert.meter, alert.rule.filter, alert.rule.group_by)
        for customer in CUSTOMERS:
            if not alert.concerns(customer):
                continue
            zone = alert.rule.timezone or world.zones[customer]
            periods = windows_of(tick, window, zone, customer)
            if everybody:
                periods.add(window.at(tick.now_us, zone))
            for period in periods:
                earlier = world.figures(measured, window.before(period, zone), {customer})
                now = world.figures(measured, period, {customer}).get(customer, {})
                for scope, value in {**measured.nothing, **now}.items():
                    figure = scope, value, earlier.get(customer, {}).get(scope)
                    condition = level.condition(customer, figure[2])
                    if condition is None:
                        continue
                    finding = level.finding(condition, period, customer, figure, tick.now_us)
                    move = decided(
                        finding, world.states.get(finding.place, KeptState(finding.place)), tick.as_of
                    )
                    if move is not None:
                        moved[finding.place] = move.state
    finish(world, alerts, tick, moved)


def windows_of(tick: Tick, window: AlertWindow, zone: str, customer: str) -> set[Period]:
    """Those touched, if they are not over for longer than themselves."""
    made: set[Period] = set()
    for row in tick.touched.get(METER.id, ()):
        at = window.at(row.earliest_us, zone)
        while row.customer == customer and at.from_us <= row.latest_us:
            if at.to_us > tick.after_us - at.length_us:
                made.add(at)
            at = window.at(at.to_us, zone)
    return made


def finish(world: World, alerts: list[Armed], tick: Tick, moved: dict[StatePlace, KeptState]) -> None:
    """What is over recovers, as the keeper has it; then it is all written down."""
    by_id = {one.kept.id: one for one in alerts}
    for place, state in world.states.items():
        end_us = state.window_end_us
        if place in moved or place.alert not in by_id or not state.firing:
            continue
        if end_us is not None and end_us + SETTLE_US <= tick.now_us:
            condition = by_id[place.alert].rule.condition
            finding = Finding(
                by_id[place.alert], place, condition, None, Period(place.window_start_us, end_us)
            )
            move = ended(finding, state, tick.as_of)
            if move is not None:
                moved[place] = move.state
    world.states |= {place: replace(state, version=state.version + 1) for place, state in moved.items()}


async def fast(levels: Levels, world: World, alerts: list[Armed], tick: Tick) -> None:
    results: list[tuple[Finding, KeptState]] = []
    moved: dict[StatePlace, KeptState] = {}
    for finding in await levels.look(tick):
        before = world.states.get(finding.place, KeptState(finding.place))
        move = decided(finding, before, tick.as_of)
        if move is not None:
            assert finding.place not in moved
            moved[finding.place] = move.state
        results.append((finding, before if move is None else move.state))
    finish(world, alerts, tick, moved)
    levels.settled([(one, world.states.get(one.place, state)) for one, state in results])


def system_of(world: World, editions: dict[str, int], pool: ThreadPoolExecutor) -> Any:
    def fired(alerts: Collection[str], window_start_us: int) -> list[KeptState]:
        return [
            state
            for place, state in world.states.items()
            if place.alert in alerts
            and editions.get(place.alert) == place.edition
            and place.window_start_us == window_start_us
            and state.level
        ]

    return SimpleNamespace(questions=pool, catalog=SimpleNamespace(fired_states=fired))


STEPS = st.lists(st.integers(1, 30).map(str), min_size=1, max_size=2, unique=True)
WINDOWS = st.sampled_from(["hour", "day"])
RULES = st.one_of(
    st.fixed_dictionaries(
        {
            "condition": st.fixed_dictionaries(
                {"op": st.just("gte"), "steps": STEPS, "hysteresis": st.integers(0, 3)}
            ),
            "window": WINDOWS,
            "customer": st.sampled_from(["*", "*", "one"]),
            "timezone": st.sampled_from([None, None, "Asia/Kolkata"]),
            "group_by": st.sampled_from([[], [], [], ["model"]]),
            "filter": st.sampled_from([None, None, {"model": {"eq": "a"}}, {"model": {"ne": "a"}}]),
            "meter": st.sampled_from(["calls", "calls", "greatest"]),
        }
    ),
    st.fixed_dictionaries(
        {
            "condition": st.fixed_dictionaries(
                {"op": st.just("percent_change"), "value": st.integers(10, 200), "direction": st.just("up")}
            ),
            "window": WINDOWS,
        }
    ),
    st.fixed_dictionaries(
        {
            "condition": st.fixed_dictionaries(
                {"op": st.just("percent_of_limit"), "steps": st.just(["50", "100"])}
            )
        }
    ),
)
READING = st.tuples(
    st.sampled_from(CUSTOMERS),
    st.sampled_from([0, 0, 0, 0, 1, -1800, -3600, 1800, 3600]),  # seconds from now
    st.integers(-6, 12).map(Decimal),
    st.sampled_from(["a", "b"]),
)
OPS = st.one_of(
    st.tuples(st.just("use"), st.lists(READING, min_size=1, max_size=4)),
    st.tuples(st.just("use"), st.lists(READING, min_size=1, max_size=4)),
    st.tuples(st.just("wait"), st.sampled_from([1, 30, 400, 1500, 3600])),
    st.tuples(st.just("restart"), st.none()),
    st.tuples(st.just("unsure"), st.none()),
    st.tuples(st.just("edit"), st.integers(0, 4)),
    st.tuples(st.just("move"), st.sampled_from(CUSTOMERS)),
    st.tuples(st.just("narrow"), st.none()),
    st.tuples(st.just("follow"), st.none()),
    st.tuples(st.just("take back"), st.integers(0, 20)),
)


def over_22(window: str) -> list[dict[str, Any]]:
    return [{"condition": {"op": "gte", "value": 22}, "window": window}]


def use(customer: str, amount: int, after_s: int = 0) -> tuple[str, Any]:
    return "use", [(customer, after_s, Decimal(amount), "a")]


CHANGE = [
    {"condition": {"op": "percent_change", "value": 50, "direction": "up"}, "window": "hour"},
    {"condition": {"op": "gte", "value": 500}, "window": "day"},
]


# Who comes from another zone has used something, though the windows there know nothing of it.
@example(over_22("day"), [use("three", 1), use("one", 20), ("move", "one"), use("one", 5)])
# What is for the next hour is not for this one, little as it is.
@example(over_22("hour"), [use("one", 1), use("one", 15, 3600), use("one", 10)])
# What comes late for the window before changes by how much this one is above it; and there may be nothing to compare with.
@example(CHANGE, [use("one", 10, -3600), use("one", 12), use("one", 4, -3600), use("one", 4), use("one", 6)])
@example(CHANGE, [use("one", 9), use("one", -9, -3600), use("one", 4, -3600), use("one", 9), use("one", 1)])
@settings(max_examples=100, deadline=None)
@given(st.lists(RULES, min_size=1, max_size=5), st.lists(OPS, max_size=25))
def test_little_work_decides_what_all_of_it_does(
    rules: list[dict[str, Any]], ops: list[tuple[str, Any]]
) -> None:
    with ThreadPoolExecutor(1) as pool:
        asyncio.run(compare(rules, ops, pool))


def test_a_comparison_with_the_window_before_has_a_leeway_until_that_changes() -> None:
    async def go(pool: ThreadPoolExecutor) -> None:
        world = World()

        async def figures(
            _: Any,
            measured: Measured,
            period: Period,
            customers: Collection[str] | None,
            as_of_us: int,
            *,
            now_us: int,
        ) -> dict[str, Scopes]:
            return world.figures(measured, period, customers)

        async def every_figure(
            _: Any, measured: Measured, period: Period, as_of_us: int, *, now_us: int
        ) -> dict[str, Scopes] | None:
            return world.figures(measured, period, None)

        levels = Levels(FakeCalendar(world))  # pyright: ignore[reportArgumentType]
        alerts = [armed(0, CHANGE[0], 1, True)]
        levels.arm(alerts, {})
        decided_on: list[int] = []

        async def look(amount: int, after_s: int = 0) -> None:
            new = [("one", world.now_us + after_s * SECOND, Decimal(amount), "a")]
            world.readings.extend(new)
            tick = Tick(
                system_of(world, {"id0": 1}, pool), AsOf(world.now_us, 1, "0"), world.now_us,
                {METER.id: touched(new)}, frozenset(),
            )  # fmt: skip
            with patch.object(levels, "_check", wraps=levels._check) as check:  # pyright: ignore[reportPrivateUsage]
                await fast(levels, world, alerts, tick)
            decided_on.append(check.await_count)

        with (
            patch.object(levels_module, "figures", figures),
            patch.object(shared_module, "figures", figures),
            patch.object(shared_module, "every_figure", every_figure),
        ):
            await look(100, -3600)
            for _ in range(5):
                await look(20)
            assert decided_on[2:] == [0, 0, 0, 0]  # up to 150 nothing changes, and nobody looks
            assert not any(state.level for state in world.states.values())
            await look(-80, -3600)
            await look(1)
            assert decided_on[-1] == 1
            assert [state.level for state in world.states.values()] == [1]

    with ThreadPoolExecutor(1) as pool:
        asyncio.run(go(pool))


async def compare(rules: list[dict[str, Any]], ops: list[tuple[str, Any]], pool: ThreadPoolExecutor) -> None:
    world = World()
    editions = {f"id{number}": 1 for number in range(len(rules))}
    expected = replace(world, states={})
    expected.readings, expected.zones = world.readings, world.zones  # one world, two books
    system: Any = system_of(world, editions, pool)
    moment_us = 1

    async def figures(
        _: Any,
        measured: Measured,
        period: Period,
        customers: Collection[str] | None,
        as_of_us: int,
        *,
        now_us: int,
    ) -> dict[str, Scopes]:
        return world.figures(measured, period, customers)

    async def every_figure(
        _: Any, measured: Measured, period: Period, as_of_us: int, *, now_us: int
    ) -> dict[str, Scopes] | None:
        return None if world.is_narrow else world.figures(measured, period, None)

    async def take_back(index: int) -> None:
        """A correction: what it touched is known, by how much only as a sum, and not by parts."""
        if index < len(world.readings):
            customer, time_us, value, model = world.readings.pop(index)
            await look([], taken=[(customer, time_us, -value, model)])

    def alerts(begun: bool) -> list[Armed]:
        return [armed(number, rule, editions[f"id{number}"], begun) for number, rule in enumerate(rules)]

    levels = Levels(FakeCalendar(world))  # pyright: ignore[reportArgumentType]

    async def look(
        new: list[tuple[str, int, Decimal, str]],
        *,
        begun: bool = True,
        unsure: bool = False,
        taken: list[tuple[str, int, Decimal, str]] | None = None,
    ) -> None:
        nonlocal moment_us
        after_us, moment_us = moment_us, moment_us + 1
        world.readings.extend(new)
        as_of = AsOf(world.now_us, moment_us, "0")
        tick = Tick(
            system,
            as_of,
            world.now_us,
            {one: touched(taken or new, one) for one in (METER.id, GREATEST.id)},
            frozenset({METER.id, GREATEST.id}) if unsure else frozenset(),
            parts_of(levels.shared.splits, new) if world.is_followed and taken is None else {},
        )
        del after_us
        levels.arm(alerts(begun), {"t": (LIMIT,)})
        slowly(expected, alerts(begun), tick, everybody=unsure or not begun)
        await fast(levels, world, alerts(begun), tick)
        assert shown(world) == shown(expected)

    async def parted(
        _: Any, meter: Meter, columns: tuple[str, ...], period: Period, customers: Any, **__: Any
    ) -> list[Row] | None:
        return None if world.is_narrow else world.parted(meter, columns, period, customers)

    with (
        patch.object(levels_module, "figures", figures),
        patch.object(shared_module, "figures", figures),
        patch.object(shared_module, "every_figure", every_figure),
        patch.object(shared_module, "parted", parted),
    ):
        await look([], begun=False)
        for op, given_ in ops:
            if op == "use":
                await look([(who, world.now_us + at * SECOND, n, model) for who, at, n, model in given_])
            elif op == "wait":
                world.now_us += given_ * SECOND
                await look([])
            elif op == "restart":
                levels = Levels(FakeCalendar(world))  # pyright: ignore[reportArgumentType]
            elif op == "unsure":
                await look([], unsure=True)
            elif op == "follow":
                world.is_followed = not world.is_followed
            elif op == "take back":
                await take_back(given_)
            elif op == "narrow":
                world.is_narrow = not world.is_narrow
            elif op == "move":
                world.zones[given_] = ZONES[1 - ZONES.index(world.zones[given_])]
                world.now_us += NEVER_US
            elif given_ < len(rules):
                editions[f"id{given_}"] += 1
                await look([], begun=False)


def parts_of(splits: Any, new: list[tuple[str, int, Decimal, str]]) -> dict[int, list[Part]]:
    made: dict[int, list[Part]] = {}
    for meter, columns in splits:
        assert columns in ((), ("d0",))
        made[meter] = [
            Part(customer, (model,) if columns else (), time_us, time_us, value, value)
            for customer, time_us, value, model in new
        ]
    return made


def touched(new: list[tuple[str, int, Decimal, str]], meter: int = METER.id) -> list[TouchedUsage]:
    by_customer: defaultdict[str, list[tuple[str, int, Decimal, str]]] = defaultdict(list)
    for one in new:
        by_customer[one[0]].append(one)
    return [
        TouchedUsage(
            "t", meter, customer, min(r[1] for r in rows), max(r[1] for r in rows), len(rows),
            sum((r[2] for r in rows), Decimal(0)),
        )
        for customer, rows in by_customer.items()
    ]  # fmt: skip


def shown(world: World) -> dict[StatePlace, tuple[int, int, bool]]:
    return {place: (one.level, one.sequence, one.closed) for place, one in world.states.items()}
