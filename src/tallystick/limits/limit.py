"""A limit: how much of a meter, or of money, a customer may use within a period, and what happens beyond it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, cast

from msgspec import Struct

from tallystick.billing.period import NAMES, Cadence, Length, parse_duration_us
from tallystick.document import Document
from tallystick.metering.query import Filter, Operator
from tallystick.money import plain

EVERY = "*"
"""As the customer of a limit: each customer by itself."""
FILTER_CHARACTERS_MAX = 4096
CONDITIONS_MAX = 20
OPERANDS_MAX = 100
ROLLING_US_MIN = 60 * 1_000_000
ROLLING_US_MAX = 92 * 86_400 * 1_000_000
_MINUTE_US = 60 * 1_000_000
_HOUR_US = 3600 * 1_000_000
_DAY_US = 24 * _HOUR_US
_AHEAD_US = 2 * _HOUR_US
"""Events may be dated an hour ahead; a rolling window takes them in as well."""
_CALENDAR = ("day", "week", "month")
_PERIOD_SENTENCE = (
    "must be day, week, month, billing, or rolling: with a duration of whole minutes (rolling:PT5H), "
    "beyond a day of whole hours (rolling:P7D), of at most 92 days."
)
_OPERATORS = (Operator.EQ, Operator.NE, Operator.IN, Operator.NOT_IN, Operator.PREFIX, Operator.EXISTS)


class Enforce(StrEnum):
    """Whether what goes beyond is refused, or only told."""

    HARD = "hard"
    SOFT = "soft"


class Fail(StrEnum):
    """What holds while usage cannot be known."""

    OPEN = "open"
    CLOSED = "closed"


class Window(Struct, frozen=True):
    """What a limit counts now: event time [from_us, to_us). `bucket_us` of a rolling one: it goes on by so much."""

    from_us: int
    to_us: int
    bucket_us: int | None = None

    def __contains__(self, time_us: int) -> bool:
        return self.from_us <= time_us < self.to_us


_LAST_MAX = 10_000
_last_windows: dict[tuple[str, str], Window] = {}
"""The window asked for last, by kind and zone: nearly every use lies in the same."""


@dataclass(frozen=True, slots=True)
class LimitPeriod:
    """`kind`: day, week, month (of the customer's zone), billing, or rolling with its length."""

    kind: str
    rolling_us: int = 0

    @classmethod
    def parse(cls, text: str) -> "LimitPeriod | None":
        """None: it is none."""
        if text in (*_CALENDAR, "billing"):
            return cls(text)
        kind, _, duration = text.partition(":")
        length_us = parse_duration_us(duration) if kind == "rolling" else None
        if length_us is None or not ROLLING_US_MIN <= length_us <= ROLLING_US_MAX:
            return None
        made = cls("rolling", length_us)
        return made if length_us % made.bucket_us == 0 else None

    @property
    def bucket_us(self) -> int:
        """A rolling window goes on by whole minutes, one longer than a day by whole hours."""
        return _MINUTE_US if self.rolling_us <= _DAY_US else _HOUR_US

    def text(self) -> str:
        if self.kind != "rolling":
            return self.kind
        days, rest = divmod(self.rolling_us, _DAY_US)
        hours, rest = divmod(rest, _HOUR_US)
        minutes = rest // _MINUTE_US
        time = (f"{hours}H" if hours else "") + (f"{minutes}M" if minutes else "")
        return "rolling:P" + (f"{days}D" if days else "") + (f"T{time}" if time else "")

    def window(self, at_us: int, timezone: str, billing: tuple[int, int] | None) -> Window:
        """The window that holds a moment. `billing`: the open period of the customer's subscription; without one, a
        limit by billing period goes by the month of the customer's zone."""
        if self.kind == "rolling":
            step = self.bucket_us
            begin = (at_us - self.rolling_us) // step * step
            # To a round hour, so that the question stays the same while the window moves on.
            return Window(begin, at_us // _HOUR_US * _HOUR_US + _AHEAD_US, step)
        if self.kind == "billing" and billing is not None:
            return Window(*billing)
        last = _last_windows.get((self.kind, timezone))
        if last is not None and at_us in last:
            return last
        found = Cadence(self._length, timezone).period_at(at_us)
        if len(_last_windows) > _LAST_MAX:
            _last_windows.clear()
        made = _last_windows[self.kind, timezone] = Window(found.from_us, found.to_us)
        return made

    def before(self, window: Window, timezone: str) -> Window:
        """The window before a calendar one."""
        found = Cadence(self._length, timezone).period_at(window.from_us - 1)
        return Window(found.from_us, found.to_us)

    @property
    def _length(self) -> Length:
        return NAMES["month" if self.kind == "billing" else self.kind]


@dataclass(frozen=True, slots=True)
class Limit:
    """`customer` is a key or EVERY, or None where `plan` says whom it concerns. Of `meter`, or of `cost`: the money that
    the customer's usage comes to. `filter` (canonical JSON text) narrows it to some dimensions. `carry_over`: what was
    left of the period before is added, at most so much (None: nothing)."""

    key: str
    amount: Decimal
    period: LimitPeriod
    customer: str | None = None
    plan: str | None = None
    meter: str | None = None
    cost: bool = False
    filter: str | None = None
    enforce: Enforce = Enforce.HARD
    fail: Fail = Fail.CLOSED
    carry_over: Decimal | None = None
    name: str | None = None

    def to_wire(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "name": self.name,
            "customer": self.customer,
            "plan": self.plan,
            "meter": self.meter,
            "cost": self.cost,
            "filter": None if self.filter is None else json.loads(self.filter),
            "amount": plain(self.amount),
            "period": self.period.text(),
            "enforce": self.enforce.value,
            "fail": self.fail.value,
            "carry_over": None if self.carry_over is None else plain(self.carry_over),
        }


def read_limit(raw: object) -> Limit:
    """Raises Invalid with every fault."""
    document = Document(raw)
    key = document.key("key") or ""
    name = document.text("name", characters_max=256)
    customer, plan = document.text("customer", characters_max=256), document.key("plan", required=False)
    if document.has("customer") and document.has("plan"):
        document.fault(
            "contradiction", "cannot stand beside plan: a limit concerns one or the other.", "customer"
        )
    elif not (document.has("customer") or document.has("plan")):
        document.fault(
            "missing", 'is required, or plan: whom it concerns ("*" is each customer).', "customer"
        )
    meter, cost = document.key("meter", required=False), bool(document.boolean("cost"))
    if cost and document.has("meter"):
        document.fault(
            "contradiction", "cannot stand beside cost: true, which is all of a customer's usage.", "meter"
        )
    elif not cost and not document.has("meter"):
        document.fault("missing", "is required, or cost: true.", "meter")
    amount = document.required_decimal("amount")
    spelled = document.required_text("period", characters_max=40)
    period = LimitPeriod.parse(spelled) if spelled else LimitPeriod("month")
    if period is None:
        document.fault("invalid_period", _PERIOD_SENTENCE, "period")
        period = LimitPeriod("month")
    enforce = Enforce(document.choice("enforce", tuple(Enforce)) or Enforce.HARD)
    fail = Fail(document.choice("fail", tuple(Fail)) or Fail.CLOSED)
    spelled_filter = _read_filter(document)
    if cost and spelled_filter is not None:
        document.fault("contradiction", "cannot stand beside cost: true.", "filter")
    carry_over = document.decimal("carry_over")
    if carry_over is not None and (cost or period.kind not in _CALENDAR):
        document.fault(
            "carry_over_not_allowed", "is for limits of a meter by day, week or month.", "carry_over"
        )
    document.finish()
    return Limit(
        key, amount, period, customer, plan, meter, cost, spelled_filter, enforce, fail, carry_over, name
    )


def _read_filter(document: Document) -> str | None:
    raw = document.take("filter")
    if raw is None:
        return None
    if not isinstance(raw, dict) or not raw or len(cast("dict[str, Any]", raw)) > CONDITIONS_MAX:
        document.fault("invalid_filter", 'must be an object such as {"model": {"in": ["large"]}}.', "filter")
        return None
    made: dict[str, dict[str, Any]] = {}
    for name, given in cast("dict[str, Any]", raw).items():
        conditions = cast("dict[str, Any]", given) if isinstance(given, dict) else {"eq": given}
        made[name] = {}
        for operator, operand in conditions.items():
            if operator not in _OPERATORS or not _is_operand(operator, operand):
                known = ", ".join(_OPERATORS)
                document.fault(
                    "invalid_filter", f"needs one of {known}, with a string (in: strings).", "filter", name
                )
                continue
            made[name][str(operator)] = operand
    text = json.dumps(made, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    if len(text) > FILTER_CHARACTERS_MAX:
        document.fault("too_large", f"may have at most {FILTER_CHARACTERS_MAX} characters.", "filter")
        return None
    return text


def _is_operand(operator: str, operand: Any) -> bool:
    if operator == Operator.EXISTS:
        return isinstance(operand, bool)
    if operator in (Operator.IN, Operator.NOT_IN):
        if not isinstance(operand, list):
            return False
        listed = cast("list[Any]", operand)
        return 0 < len(listed) <= OPERANDS_MAX and all(isinstance(one, str) for one in listed)
    return isinstance(operand, str)


def conditions_of(text: str | None) -> tuple[Filter, ...]:
    """The filter of a limit, as a usage question takes it: all must hold."""
    if text is None:
        return ()
    made: list[Filter] = []
    for name, conditions in cast("dict[str, dict[str, Any]]", json.loads(text)).items():
        for operator, operand in conditions.items():
            if isinstance(operand, bool):
                operands: tuple[str, ...] = ("true" if operand else "false",)
            else:
                operands = tuple(cast("list[str]", operand)) if isinstance(operand, list) else (operand,)
            made.append(Filter(name, Operator(operator), operands))
    return tuple(made)


def accepts(conditions: tuple[Filter, ...], customer: str, dimensions: Mapping[str, str | None]) -> bool:
    """Whether a limit with these conditions concerns a use with these dimensions."""
    return all(
        one.accepts(customer if one.name == "customer" else dimensions.get(one.name)) for one in conditions
    )
