"""Deciding against a slow and obvious model: each step by itself is a switch."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.alerting.evaluate import (
    State,
    TransitionKind,
    close,
    decide,
    quiet_range,
    transition_id,
)
from tallystick.alerting.rule import Condition, Operation, parse_rule
from tallystick.errors import Invalid

D = Decimal
numbers = st.integers(-200, 200).map(lambda n: D(n) / 2)


def condition_of(steps: set[Decimal], margin: int, *, falls: bool) -> Condition:
    operation = Operation.LTE if falls else Operation.GTE
    return Condition(operation, tuple(sorted(steps, reverse=falls)), margin=D(margin))


conditions = st.builds(
    condition_of, st.sets(numbers, min_size=1, max_size=4), st.integers(0, 10), falls=st.booleans()
)


class Switches:
    """The model: a switch a step."""

    def __init__(self, condition: Condition) -> None:
        self.condition = condition
        self.on = [False] * len(condition.steps)

    def see(self, figure: Decimal) -> list[tuple[str, int]]:
        said: list[tuple[str, int]] = []
        for index, step in enumerate(self.condition.steps):
            low, margin = self.condition.falls, self.condition.margin
            if not self.on[index] and (figure <= step if low else figure >= step):
                self.on[index] = True
                said.append(("fired", index))
            elif self.on[index] and (figure > step + margin if low else figure < step - margin):
                self.on[index] = False
                said.append(("recovered", index))
        return said


@given(conditions, st.lists(numbers, max_size=30))
def test_it_decides_as_switches_do(condition: Condition, figures: list[Decimal]) -> None:
    model, state = Switches(condition), State()
    sequence = 0
    for at_us, figure in enumerate(figures):
        if not condition.falls:
            least, above = quiet_range(condition, state.level)
            quiet = (least is None or figure >= least) and (above is None or figure < above)
            assert quiet == (decide(condition, state, figure, at_us)[1] == ())
        state, moved = decide(condition, state, figure, at_us)
        assert sorted((str(one.kind), one.step) for one in moved) == sorted(model.see(figure))
        assert [one.sequence for one in moved] == list(range(sequence + 1, sequence + 1 + len(moved)))
        sequence = state.sequence
        assert decide(condition, state, figure, at_us + 1) == (state, ())  # again: nothing


def test_a_window_that_is_over_is_said_once() -> None:
    condition = Condition(Operation.GTE, (D(5), D(10)))
    state, _ = decide(condition, State(), D(7), 1)
    state, moved = close(condition, state, 2)
    assert [(one.kind, one.step, str(one.reason)) for one in moved] == [
        (TransitionKind.RECOVERED, 0, "window_ended")
    ]
    assert close(condition, state, 3) == (state, ())
    assert decide(condition, state, D(0), 4) == (state, ())
    state, moved = decide(
        condition, state, D(12), 5
    )  # late: the step never reached still fires, the other not again
    assert [(one.kind, one.step) for one in moved] == [(TransitionKind.FIRED, 1)]
    late, moved = decide(condition, State(), D(6), 6, over=True)
    assert (late.closed, len(moved)) == (True, 1)


def test_ids_follow_from_the_state() -> None:
    names = {
        transition_id(state, step, sequence)
        for state in (("t", "a", "b"), ("t", "a\x1f", "b"), ("t", "a", "\x1fb"), ("t", "ab", ""))
        for step in (0, 1)
        for sequence in (1, 2)
    }
    assert len(names) == 16
    assert transition_id(("t", "a"), 0, 1) == transition_id(("t", "a"), 0, 1)


@pytest.mark.parametrize(
    ("members", "pointers"),
    [
        ({}, {"/key", "/meter", "/condition"}),
        ({"key": "k", "meter": "m", "cost": True, "condition": {"op": "gte", "value": 1}}, {"/meter"}),
        (
            {"key": "k", "credits": 7, "condition": {"op": "gte", "value": 1}, "window": "day"},
            {"/credits", "/window"},
        ),
        (
            {"key": "k", "meter": "m", "condition": {"op": "gte", "value": 1, "steps": [1]}},
            {"/condition/value"},
        ),
        (
            {"key": "k", "meter": "m", "condition": {"op": "gte", "value": 5, "recover": 6}},
            {"/condition/recover"},
        ),
        ({"key": "k", "meter": "m", "condition": {"op": "silence"}}, {"/condition/for"}),
        ({"key": "k", "meter": "m", "window": "day", "condition": {"op": "rate", "value": 1}}, {"/window"}),
        ({"key": "k", "events": "unmetered_type", "customer": "acme"}, {"/customer"}),
        ({"key": "preview", "cost": True, "condition": {"op": "lte", "value": 1}}, {"/key", "/condition/op"}),
    ],
)
def test_what_is_wrong_is_told_with_its_place(members: dict[str, object], pointers: set[str]) -> None:
    with pytest.raises(Invalid) as refused:
        parse_rule(members)
    assert {fault.pointer for fault in refused.value.faults} == pointers


@pytest.mark.parametrize(
    "members",
    [
        {"meter": "m", "condition": {"op": "gte", "steps": ["1", "2.5"], "hysteresis": "0.5"}},
        {"meter": "m", "condition": {"op": "lte", "value": 3, "recover": 5}, "window": "rolling:PT5H"},
        {"meter": "m", "condition": {"op": "silence", "for": "PT90M"}},
        {"meter": "m", "condition": {"op": "anomaly"}, "filter": {"a": {"in": ["b"]}}, "group_by": ["c"]},
        {"cost": True, "condition": {"op": "percent_of_limit", "steps": [50, 80, 100]}},
        {"credits": "USD", "condition": {"op": "lte", "value": 10}},
        {"credits": {"meter": "m"}, "condition": {"op": "lte", "value": 10}},
        {"events": "unknown_customer", "window": "rolling:PT1H"},
        {
            "meter": "m",
            "condition": {"op": "percent_change", "value": 50, "direction": "either"},
            "window": "week",
        },
    ],
)
def test_what_is_kept_is_read_as_it_was(members: dict[str, object]) -> None:
    rule = parse_rule({"key": "k", **members})
    assert parse_rule(rule.to_wire()) == rule


@pytest.mark.parametrize("condition", [
    {"op": "silence", "for": "PT5S"},
    {"op": "silence", "for": "PT1H"},
    {"op": "gte", "steps": [1, 2], "hysteresis": "0.5"},
    {"op": "rate", "value": 1, "per": "second"},
    {"op": "percent_change", "value": 5, "direction": "either"},
    {"op": "anomaly", "sensitivity": "low", "direction": "up"},
    {"op": "percent_of_limit", "value": 5, "limit": "cap"},
])  # fmt: skip
def test_a_rule_is_read_as_it_was_written(condition: dict[str, Any]) -> None:
    rule = parse_rule({"key": "a", "meter": "calls", "condition": condition})
    assert parse_rule(rule.to_wire()) == rule
