"""The look-ups of many thresholds at once, beside deciding each alert for each figure."""

from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.alerting.rule import parse_rule
from tallystick.billing.kept import canonical
from tallystick.billing.period import Period
from tallystick.catalog.alerting import KeptAlert, KeptState, StatePlace
from tallystick.flows.alerts.figures import Measured
from tallystick.flows.alerts.finding import Armed, AsOf, decided
from tallystick.flows.alerts.limits import WatchedLimit
from tallystick.flows.alerts.watched import Known, Level, Watch, Watched
from tallystick.metering.meter import Aggregation, Meter

METER = Meter(1, "t", "calls", 1, "Calls", "call", Aggregation.SUM, "$.n")
PERIOD = Period(1_000_000_000, 2_000_000_000)
AS_OF = AsOf(1_500_000_000, 1_500_000_000, "0")
STEPS = st.lists(st.integers(-5, 12).map(str), min_size=1, max_size=3, unique=True)
CONDITIONS: st.SearchStrategy[Any] = st.one_of(
    st.fixed_dictionaries({"op": st.just("gte"), "steps": STEPS, "hysteresis": st.integers(0, 4)}),
    st.fixed_dictionaries(
        {
            "op": st.just("percent_of_limit"),
            "steps": st.lists(st.integers(10, 120).map(str), min_size=1, max_size=2, unique=True),
        }
    ),
    st.fixed_dictionaries(
        {"op": st.just("percent_change"), "value": st.integers(1, 200), "direction": st.just("up")}
    ),
)
RULES = st.lists(st.tuples(CONDITIONS, st.sampled_from(["*", "one", "two"])), min_size=1, max_size=8)
FIGURES = st.lists(
    st.tuples(st.sampled_from(["one", "two"]), st.one_of(st.none(), st.integers(-8, 15).map(Decimal))),
    max_size=25,
)


def level(number: int, condition: dict[str, object], customer: str) -> Level:
    limited = condition["op"] == "percent_of_limit"
    window = {} if limited else {"window": "day"}
    rule = parse_rule(
        {"key": f"a{number}", "meter": "calls", "customer": customer, "condition": condition, **window}
    )
    kept = KeptAlert(
        id=f"id{number}", tenant="t", owner=None, key=rule.key, customer=customer, content=canonical(rule.to_wire()),
        edition=1, begun=True, judged_us=None, muted_until_us=None, created_at_us=0, changed_at_us=0,
    )  # fmt: skip
    day = parse_rule(
        {"key": "x", "meter": "calls", "window": "day", "condition": {"op": "gte", "value": 1}}
    ).window
    assert day is not None
    limit = WatchedLimit("limit", Decimal(10), day, "*", None, "calls", None, {"two": Decimal(3)})
    return Level(Armed(kept, rule, METER), limit if limited else None)


@settings(max_examples=200, deadline=None)
@given(RULES, FIGURES, st.lists(st.booleans(), min_size=25, max_size=25), st.sets(st.integers(0, 24)))
def test_it_finds_what_deciding_everything_would_move(
    rules: list[tuple[dict[str, object], str]],
    figures: list[tuple[str, Decimal | None]],
    closes: list[bool],
    forgets: set[int],
) -> None:
    levels = [level(number, *rule) for number, rule in enumerate(rules)]
    window = levels[0].limit.window if levels[0].limit is not None else levels[0].alert.rule.window
    assert window is not None
    watched = Watched(Watch(Measured(METER), window, None), levels)
    states: dict[StatePlace, KeptState] = {}
    known = Known(PERIOD, 0)
    known.read(())
    for step, (customer, value) in enumerate(figures):
        if step in forgets:  # as after a crash
            known = Known(PERIOD, 0)
            known.read(state for state in states.values() if state.level)
        figure = "", value, Decimal(4)
        expected: dict[StatePlace, KeptState] = {}
        for one in levels:
            condition = one.condition(customer, figure[2])
            if condition is None or not one.alert.concerns(customer):
                continue
            finding = one.finding(condition, PERIOD, customer, figure, AS_OF.now_us)
            move = decided(finding, states.get(finding.place, KeptState(finding.place)), AS_OF)
            if move is not None:
                expected[finding.place] = move.state
        found = list(watched.changes(known, customer, figure, AS_OF.now_us, {}))
        got: dict[StatePlace, KeptState] = {}
        for finding in found:
            before = states.get(finding.place, KeptState(finding.place))
            move = decided(finding, before, AS_OF)
            if move is not None:
                got[finding.place] = move.state
            watched.settled(known, "", finding, before if move is None else move.state)
        assert got == expected
        assert len(found) == len(expected)  # nothing is found that does not move
        states |= got
