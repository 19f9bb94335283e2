"""From the state an alert was in and the figure there is now to the state it is in, and what has happened to it.

A state is a level: how many of the steps are reached. Since steps lie in order, that says of each whether it has fired.
Deciding the same figure twice changes nothing, so whoever stops half-way may simply begin again.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum

from tallystick.alerting.rule import Condition


class TransitionKind(StrEnum):
    FIRED = "fired"
    RECOVERED = "recovered"


class Reason(StrEnum):
    """Why a state changed: the figure did, or its window is over."""

    THRESHOLD = "threshold"
    WINDOW_ENDED = "window_ended"


@dataclass(frozen=True, slots=True)
class State:
    """Of one alert, customer (and group) and window. `level`: steps that have fired; `sequence`: transitions so far;
    `closed`: the window is over and what had fired is taken back, so that only a step never reached can still fire."""

    level: int = 0
    sequence: int = 0
    closed: bool = False
    since_us: int | None = None

    @property
    def firing(self) -> bool:
        return self.level > 0 and not self.closed


@dataclass(frozen=True, slots=True)
class Moved:
    """One transition: of step number `step`, from 0, whose threshold is `threshold`; the `sequence`-th of its state."""

    kind: TransitionKind
    step: int
    threshold: Decimal
    sequence: int
    reason: Reason


def decide(
    condition: Condition, before: State, figure: Decimal | None, now_us: int, *, over: bool = False
) -> tuple[State, tuple[Moved, ...]]:
    """`figure` is what is compared with the steps; None: there is none, so that nothing is reached. `over`: the window
    has ended, and a state that begins now begins closed."""
    level = 0 if figure is None else reached(condition, figure, before.level)
    if before.closed:
        level = max(level, before.level)
    closed = before.closed or (over and not before.level and level > 0)
    kind = TransitionKind.FIRED if level > before.level else TransitionKind.RECOVERED
    steps = range(before.level, level) if level > before.level else range(before.level - 1, level - 1, -1)
    moved = tuple(
        Moved(kind, step, condition.steps[step], before.sequence + index, Reason.THRESHOLD)
        for index, step in enumerate(steps, 1)
    )
    if not moved:
        return before, ()
    return State(level, before.sequence + len(moved), closed, now_us), moved


def close(condition: Condition, before: State, now_us: int) -> tuple[State, tuple[Moved, ...]]:
    """The window is over: what has fired for it recovers, once, at its highest step."""
    if before.closed:
        return before, ()
    if not before.level:
        return replace(before, closed=True), ()
    step = before.level - 1
    moved = Moved(
        TransitionKind.RECOVERED, step, condition.steps[step], before.sequence + 1, Reason.WINDOW_ENDED
    )
    return State(before.level, before.sequence + 1, True, now_us), (moved,)


def reached(condition: Condition, figure: Decimal, level: int) -> int:
    """How many steps have fired, given that `level` of them had before."""
    margin = condition.margin
    count = 0
    for index, step in enumerate(condition.steps):
        margin_here = margin if index < level else Decimal(0)
        holds = figure <= step + margin_here if condition.falls else figure >= step - margin_here
        if not holds:
            break
        count += 1
    return count


def quiet_range(condition: Condition, level: int) -> tuple[Decimal | None, Decimal | None]:
    """Figures between which nothing changes, given the level: from the first (inclusive, None: no bound) up to the second
    (exclusive, None: no bound). Of conditions in which high figures fire."""
    least = condition.steps[level - 1] - condition.margin if level else None
    above = condition.steps[level] if level < len(condition.steps) else None
    return least, above


def transition_id(state: Sequence[str | int], step: int, sequence: int) -> str:
    """The same transition always has the same id. `state`: everything that names the state it is of."""
    text = json.dumps([*state, step, sequence])
    return f"tr_{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:24]}"
