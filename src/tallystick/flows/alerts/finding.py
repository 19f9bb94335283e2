"""What was found about one alert and one customer, and what it makes of the state: moves, with their evidence."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from tallystick.alerting.evaluate import Moved, State, TransitionKind, close, decide, transition_id
from tallystick.alerting.rule import Condition, Operation, Rule, SubjectKind
from tallystick.billing.period import Period
from tallystick.catalog.alerting import KeptAlert, KeptState, Move, NewTransition, StatePlace
from tallystick.metering.instant import instant_text
from tallystick.metering.meter import Meter
from tallystick.money import plain


@dataclass(frozen=True, slots=True)
class Armed:
    """An alert that is watched: as it is kept, as it is read, and the newest version of its meter."""

    kept: KeptAlert
    rule: Rule
    meter: Meter | None = None

    def place(self, customer: str, *, window_start_us: int = 0, scope: str = "") -> StatePlace:
        return StatePlace(self.kept.id, self.kept.edition, window_start_us, customer, scope)

    def concerns(self, customer: str) -> bool:
        return self.rule.customer in ("*", customer)


@dataclass(frozen=True, slots=True)
class Finding:
    """A figure as of a moment. `condition` in the figure's own unit: a percentage of a limit is given as so many units
    here. `window` None: it has none. `over`: the window has ended. `keep`: write the state even where nothing happened."""

    alert: Armed
    place: StatePlace
    condition: Condition
    figure: Decimal | None
    window: Period | None = None
    over: bool = False
    keep: bool = False
    evidence: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class AsOf:
    """When something was decided: by the clock, and by what was recorded then."""

    now_us: int
    moment_us: int
    position: str


def decided(finding: Finding, before: KeptState, as_of: AsOf) -> Move | None:
    """What is to be written; None: nothing has changed."""
    state, moved = decide(finding.condition, _state(before), finding.figure, as_of.now_us, over=finding.over)
    return _moved(finding, before, state, moved, as_of)


def ended(finding: Finding, before: KeptState, as_of: AsOf) -> Move | None:
    """The same for a window that is over."""
    state, moved = close(finding.condition, _state(before), as_of.now_us)
    return _moved(finding, before, state, moved, as_of)


def _state(kept: KeptState) -> State:
    return State(kept.level, kept.sequence, kept.closed, kept.since_us)


def _moved(
    finding: Finding, before: KeptState, state: State, moved: Iterable[Moved], as_of: AsOf
) -> Move | None:
    transitions = tuple(_transition(finding, before, one, as_of) for one in moved)
    if not transitions and not (finding.keep and not before.version) and state.closed == before.closed:
        return None
    window = finding.window if finding.place.window_start_us else None
    return Move(
        replace(
            before,
            window_end_us=before.window_end_us if window is None else window.to_us,
            level=state.level,
            sequence=state.sequence,
            closed=state.closed,
            value=_value(finding),
            since_us=state.since_us,
        ),
        transitions,
    )


def _value(finding: Finding) -> str | None:
    shown = finding.evidence.get("value")
    if shown is not None:
        return str(shown)
    return None if finding.figure is None else plain(finding.figure)


def _transition(finding: Finding, before: KeptState, moved: Moved, as_of: AsOf) -> NewTransition:
    alert, rule, place = finding.alert.kept, finding.alert.rule, finding.place
    identity = (
        alert.tenant,
        place.alert,
        place.edition,
        place.customer,
        place.scope,
        place.window_start_us,
    )
    steps = rule.condition.steps
    step = steps[moved.step] if moved.step < len(steps) else moved.threshold
    content: dict[str, Any] = {
        "name": rule.name,
        **rule.subject.to_wire(),
        "op": str(rule.condition.operation),
        "reason": str(moved.reason),
        "value": _value(finding),
        "threshold": plain(moved.threshold),
        "step": plain(step),
        "window": None
        if finding.window is None
        else {"from": instant_text(finding.window.from_us), "to": instant_text(finding.window.to_us)},
        "group": None,
        # Asked as of then, levels hold up to then.
        "as_of": instant_text(as_of.now_us if _goes_on(finding.alert) else as_of.moment_us),
        "position": as_of.position,
        **finding.evidence,
    }
    return NewTransition(
        id=transition_id(identity, moved.step, moved.sequence),
        kind=str(moved.kind),
        step=moved.step,
        at_us=as_of.now_us,
        summary=_summary(rule, place.customer, moved, content),
        content=content,
    )


def _goes_on(alert: Armed) -> bool:
    return alert.meter is not None and alert.meter.goes_on


def _summary(rule: Rule, customer: str, moved: Moved, content: Mapping[str, Any]) -> str:
    """One sentence for people."""
    what = {
        SubjectKind.METER: f"{rule.subject.meter}",
        SubjectKind.COST: "cost",
        SubjectKind.CREDITS: "credit balance",
        SubjectKind.EVENTS: f"events ({rule.subject.fault})",
    }[rule.subject.kind]
    whose = f" of {customer}" if customer else ""
    if moved.kind is TransitionKind.RECOVERED:
        why = " (the window is over)" if str(moved.reason) == "window_ended" else ""
        return f"{rule.name}: {what}{whose} has recovered{why}: {content['value']} (step {content['step']})."
    operation = rule.condition.operation
    if operation is Operation.SILENCE:
        return f"{rule.name}: no {what}{whose} for {content['value']} s."
    if operation is Operation.ANOMALY:
        return f"{rule.name}: {what}{whose} is unusual: {content['value']}."
    if operation in (Operation.PERCENT_OF_LIMIT, Operation.PERCENT_CHANGE):
        share = content.get("percent", "?")
        of = "of its limit" if operation is Operation.PERCENT_OF_LIMIT else "against the window before"
        return f"{rule.name}: {what}{whose} is {content['value']}, {share} % {of}."
    sign = "≤" if rule.condition.falls else "≥"
    return f"{rule.name}: {what}{whose} is {content['value']} ({sign} {content['threshold']})."
