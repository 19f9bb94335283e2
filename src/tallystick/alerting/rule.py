"""What an alert is: whose figure it watches, over what time, and when it fires.

| subject | figure |
|---|---|
| `"meter": key` | usage of the window, also of a part of it (`filter`) or of each part (`group_by`) |
| `"cost": true` | what the usage (and fees) of the window will cost, as the invoice preview has it |
| `"credits": true`, a currency, or `{"meter": key}` | what is left of the customer's credits |
| `"events": "unknown_customer"` or `"unmetered_type"` | events of the window that count for nobody, or for no meter |

| condition | fires when the figure |
|---|---|
| gte, lte | has reached the value, or is not above it |
| percent_of_limit | is that percentage of the customer's limit |
| percent_change | differs that many percent from the window before (`direction`: up, down, either) |
| rate | divided by the length of the rolling window is at least the value, `per` second, minute or hour |
| silence | has had no event for as long as `for` says |
| anomaly | is unusual for the customer at that hour of the week |

Instead of `value` there may be `steps` (50, 80, 100): each fires by itself. What has fired recovers when the figure falls
below its step (rises above it, for lte) by more than `hysteresis`; `recover` says the same as a figure, where there is
one value.
"""

import json
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, cast

from tallystick.alerting.window import ROLLING_US_MIN, WINDOW_SENTENCE, AlertWindow, WindowKind, parse_window
from tallystick.billing.grant import CreditUnit
from tallystick.billing.kept import canonical
from tallystick.billing.period import parse_duration_us
from tallystick.document import Document
from tallystick.errors import Invalid
from tallystick.metering.window import zone_of
from tallystick.money import ZERO, plain

STEPS_MAX = 20
CHANNELS_MAX = 20
GROUP_BY_MAX = 4
CUSTOMER_CHARACTERS_MAX = 256
ANY = "*"
SILENCE_US_MIN = 1_000_000
SILENCE_US_MAX = 92 * 86_400_000_000
SENSITIVITIES = ("low", "medium", "high")
PER_US = {"second": 1_000_000, "minute": 60_000_000, "hour": 3_600_000_000}


class SubjectKind(StrEnum):
    METER = "meter"
    COST = "cost"
    CREDITS = "credits"
    EVENTS = "events"


class EventFault(StrEnum):
    """What can be wrong with a recorded event, so that it does not count."""

    UNKNOWN_CUSTOMER = "unknown_customer"
    UNMETERED_TYPE = "unmetered_type"


class Operation(StrEnum):
    GTE = "gte"
    LTE = "lte"
    PERCENT_OF_LIMIT = "percent_of_limit"
    PERCENT_CHANGE = "percent_change"
    RATE = "rate"
    SILENCE = "silence"
    ANOMALY = "anomaly"


class Direction(StrEnum):
    UP = "up"
    DOWN = "down"
    EITHER = "either"


ALLOWED: dict[SubjectKind, tuple[Operation, ...]] = {
    SubjectKind.METER: tuple(Operation),
    SubjectKind.COST: (Operation.GTE, Operation.PERCENT_OF_LIMIT, Operation.PERCENT_CHANGE),
    SubjectKind.CREDITS: (Operation.LTE, Operation.GTE),
    SubjectKind.EVENTS: (Operation.GTE,),
}


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose figure. `meter`: of METER; `unit`: of CREDITS, None for money of any currency; `fault`: of EVENTS."""

    kind: SubjectKind
    meter: str | None = None
    unit: CreditUnit | None = None
    fault: EventFault | None = None

    def to_wire(self) -> dict[str, Any]:
        if self.kind is SubjectKind.METER:
            return {"meter": self.meter}
        if self.kind is SubjectKind.EVENTS:
            return {"events": str(self.fault)}
        if self.kind is SubjectKind.COST or self.unit is None:
            return {str(self.kind): True}
        unit = self.unit
        return {"credits": unit.currency if unit.meter is None else {"meter": unit.meter}}


@dataclass(frozen=True, slots=True)
class Condition:
    """`steps` in the order in which they are reached: ascending, for lte descending. Of silence: seconds. `margin` is never
    negative: how far beyond its step the figure must go back."""

    operation: Operation
    steps: tuple[Decimal, ...]
    margin: Decimal = ZERO
    limit: str | None = None
    direction: Direction = Direction.UP
    per: str = "minute"
    sensitivity: str = "medium"

    @property
    def falls(self) -> bool:
        """Whether it is low figures that fire."""
        return self.operation is Operation.LTE

    def to_wire(self) -> dict[str, Any]:
        made: dict[str, Any] = {"op": str(self.operation)}
        if self.operation is Operation.SILENCE:
            made["for"] = _duration_text(self.steps[0])
            return made
        if self.operation is Operation.ANOMALY:
            return {**made, "sensitivity": self.sensitivity, "direction": str(self.direction)}
        if len(self.steps) == 1:
            made["value"] = plain(self.steps[0])
        else:
            made["steps"] = [plain(step) for step in self.steps]
        if self.margin:
            made["hysteresis"] = plain(self.margin)
        if self.operation is Operation.PERCENT_OF_LIMIT and self.limit is not None:
            made["limit"] = self.limit
        if self.operation is Operation.PERCENT_CHANGE:
            made["direction"] = str(self.direction)
        if self.operation is Operation.RATE:
            made["per"] = self.per
        return made


@dataclass(frozen=True, slots=True)
class Rule:
    """A valid alert. `customer` is a key, or `*` for each. `filter` is canonical JSON as charges have it. `window` None:
    there is none (credits), or it is the limit's (percent_of_limit). `timezone` None: the customer's."""

    key: str
    name: str
    subject: Subject
    condition: Condition
    customer: str = ANY
    description: str | None = None
    filter: str | None = None
    group_by: tuple[str, ...] = ()
    window: AlertWindow | None = None
    timezone: str | None = None
    channels: tuple[str, ...] = ()
    enabled: bool = True

    @property
    def judged_at_end(self) -> bool:
        """Whether a calendar window can only be judged when it is over: before, every figure is still low."""
        if self.window is None or self.window.kind is not WindowKind.CALENDAR:
            return False
        return self.condition.operation in (Operation.LTE, Operation.ANOMALY) or (
            self.condition.operation is Operation.PERCENT_CHANGE
            and self.condition.direction is not Direction.UP
        )

    @property
    def of_windows(self) -> bool:
        """Whether each window has a state of its own; otherwise one state goes on for ever."""
        if self.window is None:
            return self.condition.operation is Operation.PERCENT_OF_LIMIT
        return self.window.kind is not WindowKind.ROLLING and not self.judged_at_end

    def decided_by(self) -> tuple[Any, ...]:
        """Everything that bears on whether it fires: where this changes, its states begin anew."""
        window = None if self.window is None else self.window.text
        return (
            self.subject,
            self.condition,
            self.customer,
            self.filter,
            self.group_by,
            window,
            self.timezone,
            self.enabled,
        )

    def to_wire(self) -> dict[str, Any]:
        made: dict[str, Any] = {
            "key": self.key,
            "name": self.name,
            "description": self.description,
            "meter": None,
            "cost": None,
            "credits": None,
            "events": None,
            **self.subject.to_wire(),
            "customer": self.customer,
            "filter": None if self.filter is None else json.loads(self.filter),
            "group_by": list(self.group_by),
            "window": None if self.window is None else self.window.text,
            "timezone": self.timezone,
            "condition": self.condition.to_wire(),
            "channels": list(self.channels),
            "enabled": self.enabled,
        }
        return made


MEMBERS = (
    "key",
    "name",
    "description",
    "meter",
    "cost",
    "credits",
    "events",
    "customer",
    "filter",
    "group_by",
    "window",
    "timezone",
    "condition",
    "channels",
    "enabled",
)


def parse_rule(raw: object) -> Rule:
    """An alert as API.md has it. Raises Invalid with every fault."""
    document = Document(raw)
    key = document.key("key") or ""
    if key == "preview":
        document.fault("invalid_key", "must not be preview: that is a route.", "key")
    name = document.text("name", characters_max=256)
    description = document.text("description")
    subject = _subject(document)
    customer = document.text("customer", characters_max=CUSTOMER_CHARACTERS_MAX) or ANY
    window = _window(document, subject)
    condition, window = _condition(document, subject, window)
    timezone = document.text("timezone", characters_max=64)
    if timezone is not None:
        try:
            zone_of(timezone)
        except Invalid as error:
            document.fault(error.code, "is no IANA time zone such as Europe/Berlin.", "timezone")
    filter_text = _filter(document, subject)
    group_by = document.texts("group_by", items_max=GROUP_BY_MAX)
    if group_by and subject.kind is not SubjectKind.METER:
        document.fault("invalid_value", "goes with a meter only.", "group_by")
    channels = document.texts("channels", items_max=CHANNELS_MAX)
    enabled = document.boolean("enabled")
    if subject.kind is SubjectKind.EVENTS and customer != ANY:
        document.fault(
            "invalid_value", "must be left out: these events belong to no customer's figure.", "customer"
        )
    document.finish()
    return Rule(
        key=key,
        name=name or key,
        description=description,
        subject=subject,
        condition=condition,
        customer=customer,
        filter=filter_text,
        group_by=group_by,
        window=window,
        timezone=timezone,
        channels=channels,
        enabled=enabled is not False,
    )


def _subject(document: Document) -> Subject:
    given = [name for name in SubjectKind if document.has(name)]
    meter = document.key("meter", required=False)
    cost, credit, events = (document.take(name) for name in ("cost", "credits", "events"))
    if len(given) != 1:
        document.fault(
            "missing" if not given else "invalid_value",
            "exactly one of meter, cost, credits and events must be given.",
            "meter",
        )
        return Subject(SubjectKind.METER, meter=meter)
    if events is not None:
        fault = document.choice("events", tuple(EventFault))
        return Subject(SubjectKind.EVENTS, fault=None if fault is None else EventFault(fault))
    if cost is not None:
        if cost is not True:
            document.fault("invalid_value", "must be true.", "cost")
        return Subject(SubjectKind.COST)
    if credit is not None:
        return Subject(SubjectKind.CREDITS, unit=_unit(document, credit))
    return Subject(SubjectKind.METER, meter=meter)


def _unit(document: Document, raw: Any) -> CreditUnit | None:
    if raw is True:
        return None
    if isinstance(raw, str):
        if len(raw) == 3 and raw.isascii() and raw.isalpha() and raw.isupper():
            return CreditUnit(currency=raw)
    elif isinstance(raw, dict):
        below = document.below(raw, "credits")
        meter = below.key("meter")
        below.close()
        return None if meter is None else CreditUnit(meter=meter)
    document.fault("invalid_value", 'must be true, a currency such as "USD", or {"meter": key}.', "credits")
    return None


def _window(document: Document, subject: Subject) -> AlertWindow | None:
    text = document.text("window", characters_max=40)
    if text is None:
        return None
    # Of silence the window says the same as `for`, which may be shorter than a window of use.
    window = parse_window(text, least_us=SILENCE_US_MIN if _is_silence(document) else ROLLING_US_MIN)
    if window is None:
        document.fault("invalid_window", WINDOW_SENTENCE, "window")
    elif subject.kind is SubjectKind.CREDITS:
        document.fault("invalid_window", "must be left out: a balance has no window.", "window")
    elif subject.kind is SubjectKind.EVENTS and window.kind is WindowKind.BILLING:
        document.fault("invalid_window", "cannot be billing: these events are billed to nobody.", "window")
    return window


def _is_silence(document: Document) -> bool:
    raw = document.take("condition")
    return isinstance(raw, dict) and cast("dict[str, Any]", raw).get("op") == Operation.SILENCE


def _filter(document: Document, subject: Subject) -> str | None:
    raw = document.take("filter")
    if raw is None:
        return None
    if not isinstance(raw, dict):
        document.fault("invalid_type", "must be an object.", "filter")
        return None
    if subject.kind is not SubjectKind.METER:
        document.fault("invalid_value", "goes with a meter only.", "filter")
        return None
    return _plain_json(raw) if raw else None


def _plain_json(raw: Any) -> str:
    def text(value: Any) -> Any:
        if isinstance(value, Decimal):
            return plain(value)
        if isinstance(value, dict):
            return {str(name): text(one) for name, one in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        return [text(one) for one in value] if isinstance(value, list) else value  # pyright: ignore[reportUnknownVariableType]

    return canonical(text(raw))


_OPERATION_DEFAULT = {"op": "gte", "value": "1"}


def _condition(
    document: Document, subject: Subject, window: AlertWindow | None
) -> tuple[Condition, AlertWindow | None]:
    raw = document.take("condition")
    if raw is None and subject.kind is SubjectKind.EVENTS:
        raw = _OPERATION_DEFAULT
    if raw is None:
        document.fault("missing", "is required.", "condition")
        return Condition(Operation.GTE, (Decimal(1),)), window
    below = document.below(raw, "condition")
    chosen = below.choice("op", tuple(Operation))
    if chosen is None:
        if not below.has("op"):
            below.fault("missing", "is required.", "op")
        return Condition(Operation.GTE, (Decimal(1),)), window
    operation = Operation(chosen)
    if operation not in ALLOWED[subject.kind]:
        allowed = ", ".join(ALLOWED[subject.kind])
        below.fault("invalid_value", f"must be one of {allowed} for {subject.kind}.", "op")
    if operation is Operation.SILENCE:
        condition = _silence(below, window)
    elif operation is Operation.ANOMALY:
        sensitivity = below.choice("sensitivity", SENSITIVITIES)
        condition = Condition(
            operation,
            (Decimal(1),),
            sensitivity=sensitivity or "medium",
            direction=Direction(below.choice("direction", tuple(Direction)) or Direction.EITHER),
        )
    else:
        condition = _stepped(below, operation)
    below.close()
    return condition, _window_for(document, subject, operation, condition, window)


def _silence(below: Document, window: AlertWindow | None) -> Condition:
    text = below.text("for", characters_max=40)
    length_us = (
        parse_duration_us(text) if text is not None else window.length_us if window is not None else None
    )
    if text is None and length_us is None:
        below.fault("missing", "is required: a duration such as PT1H.", "for")
    elif length_us is None or not SILENCE_US_MIN <= length_us <= SILENCE_US_MAX:
        below.fault("invalid_period", "must be an ISO 8601 duration from PT1S to P92D.", "for")
        length_us = None
    return Condition(Operation.SILENCE, (Decimal((length_us or 1_000_000) // 1_000_000),))


def _stepped(below: Document, operation: Operation) -> Condition:
    signed = None if operation in (Operation.GTE, Operation.LTE) else ZERO
    raw: list[tuple[Any, tuple[str | int, ...]]] = [
        (item, ("steps", index)) for index, item in enumerate(below.list_of("steps", items_max=STEPS_MAX))
    ]
    value = below.take("value")
    if (value is None) == (not raw):
        code = "missing" if value is None else "invalid_value"
        below.fault(code, "is needed, or `steps` instead: one of the two.", "value")
    if value is not None and not raw:
        raw = [(value, ("value",))]
    found = [below.decimal_at(item, *steps, least=signed) for item, steps in raw]
    steps = sorted({step for step in found if step is not None}, reverse=operation is Operation.LTE)
    if len(steps) < len([step for step in found if step is not None]):
        below.fault("repeated", "names a step twice.", "steps")
    margin = below.decimal("hysteresis")
    recover = below.decimal("recover", least=None)
    if recover is not None and steps:
        distance = recover - steps[0] if operation is Operation.LTE else steps[0] - recover
        if margin is not None or len(steps) > 1:
            below.fault("invalid_value", "goes with one `value`, and without `hysteresis`.", "recover")
        elif distance < 0:
            side = "below" if operation is Operation.LTE else "above"
            below.fault("invalid_value", f"must not lie {side} the value.", "recover")
        else:
            margin = distance
    limit = below.key("limit", required=False) if operation is Operation.PERCENT_OF_LIMIT else None
    direction = below.choice("direction", tuple(Direction)) if operation is Operation.PERCENT_CHANGE else None
    per = below.choice("per", tuple(PER_US)) if operation is Operation.RATE else None
    return Condition(
        operation,
        tuple(steps) or (Decimal(1),),
        margin=margin or ZERO,
        limit=limit,
        direction=Direction(direction or Direction.UP),
        per=per or "minute",
    )


def _window_for(
    document: Document,
    subject: Subject,
    operation: Operation,
    condition: Condition,
    window: AlertWindow | None,
) -> AlertWindow | None:
    """The window that goes with the condition: the one given, or the usual one."""
    if subject.kind is SubjectKind.CREDITS:
        return None
    if operation is Operation.SILENCE:
        length_us = int(condition.steps[0]) * 1_000_000
        if window is not None and window.length_us != length_us:
            document.fault(
                "invalid_window", "must be left out, or be rolling and as long as `for`.", "window"
            )
        return AlertWindow(WindowKind.ROLLING, f"rolling:{_duration_text(condition.steps[0])}", length_us)
    if operation is Operation.PERCENT_OF_LIMIT:
        return window
    if operation is Operation.RATE:
        made = window or parse_window("rolling:PT5M")
        if made is not None and made.kind is not WindowKind.ROLLING:
            document.fault("invalid_window", "must be rolling for a rate, such as rolling:PT5M.", "window")
        return made
    if operation is Operation.ANOMALY:
        made = window or parse_window("hour")
        if made is not None and made.text not in ("hour", "day"):
            document.fault("invalid_window", "must be hour or day for an anomaly.", "window")
        return made
    if subject.kind is SubjectKind.COST and window is not None and window.kind is WindowKind.ROLLING:
        document.fault("invalid_window", "of a cost must be billing or a calendar window.", "window")
    if operation is Operation.PERCENT_CHANGE and window is not None and window.kind is WindowKind.BILLING:
        document.fault("invalid_window", "must not be billing: periods need not be of one length.", "window")
    if window is not None:
        return window
    usual = {SubjectKind.COST: "billing", SubjectKind.EVENTS: "day"}.get(subject.kind, "month")
    if subject.kind is SubjectKind.COST and operation is Operation.PERCENT_CHANGE:
        usual = "month"
    return parse_window(usual)


def _duration_text(seconds: Decimal) -> str:
    """ISO 8601 in the largest units that are whole."""
    left = int(seconds)
    text = ""
    for letter, length in (("H", 3600), ("M", 60), ("S", 1)):
        count, left = divmod(left, length)
        if count:
            text += f"{count}{letter}"
    return f"PT{text}"
