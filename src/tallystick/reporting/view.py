"""A view: a question that was saved, with everything that the explorer's address says of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, cast

from tallystick.document import Document, NotDecimal, decimal_of
from tallystick.errors import Invalid
from tallystick.metering.formula import FORMULA_CHARACTERS_MAX, FormulaError, parse_formula
from tallystick.metering.instant import instant_text, instant_us
from tallystick.metering.query import Filter, Operator, Window
from tallystick.metering.window import zone_of
from tallystick.reporting.ranges import RANGES, bounds_of, window_for

NAME_CHARACTERS_MAX = 256
DESCRIPTION_CHARACTERS_MAX = 4096
GROUP_BY_MAX = 18
CUSTOMERS_MAX = 100
CONDITIONS_MAX = 50
OPERANDS_MAX = 100
TOP_DEFAULT = 8
TOP_MAX = 100
ALIASES = ("a", "b", "c", "d")
"""Letters of a formula; `a` is the view's meter."""
Visibility = Literal["shared", "private"]
VISIBILITIES: tuple[Visibility, ...] = ("shared", "private")
_LISTS = (Operator.IN, Operator.NOT_IN)
_NUMERIC = (Operator.GT, Operator.GTE, Operator.LT, Operator.LTE)
_TIME_LEAST, _TIME_END = datetime(1900, 1, 1, tzinfo=UTC), datetime(2299, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. Either `range` is named, or [from_us, to_us) is given. `window` None: what suits the range. Groups beyond
    `top` are left out. With `formula` it is over several meters, and neither grouped nor filtered."""

    meter: str
    range: str | None
    from_us: int | None
    to_us: int | None
    timezone: str
    window: Window | None
    customers: tuple[str, ...]
    group_by: tuple[str, ...]
    filters: tuple[Filter, ...]
    compares: bool
    top: int
    chart: str
    formula: str | None
    meters: Mapping[str, str]
    """Of the formula's other letters."""

    def bounds(self, now_us: int) -> tuple[int, int]:
        """[from, to) at a moment."""
        if self.from_us is not None and self.to_us is not None:
            return self.from_us, self.to_us
        return bounds_of(self.range or "30d", self.timezone, now_us)

    def window_of(self, from_us: int, to_us: int) -> Window:
        if self.window is not None:
            return self.window
        return window_for(from_us, to_us) if self.range is None else RANGES[self.range]

    def aliases(self) -> dict[str, str]:
        """Meters by their letter."""
        return {"a": self.meter, **self.meters}

    def to_wire(self) -> dict[str, Any]:
        conditions: dict[str, dict[str, Any]] = {}
        for one in self.filters:
            operand = list(one.operands) if one.operator in _LISTS else one.operands[0]
            conditions.setdefault(one.name, {})[one.operator.value] = operand
        return {
            "meter": self.meter,
            "range": self.range,
            "from": None if self.from_us is None else instant_text(self.from_us),
            "to": None if self.to_us is None else instant_text(self.to_us),
            "timezone": self.timezone,
            "window": None if self.window is None else self.window.value,
            "customer": list(self.customers),
            "group_by": list(self.group_by),
            "filter": conditions,
            "compare": "previous" if self.compares else None,
            "top": self.top,
            "chart": self.chart,
            "formula": self.formula,
            "meters": dict(self.meters),
        }

    def address(self) -> list[tuple[str, str]]:
        """Parameters of the explorer's page that show it."""
        made = [("meter", self.meter)]
        if self.from_us is not None and self.to_us is not None:
            made += [("from", instant_text(self.from_us)), ("to", instant_text(self.to_us))]
        else:
            made.append(("range", self.range or "30d"))
        made.append(("zone", self.timezone))
        if self.window is not None:
            made.append(("window", self.window.value))
        made += [("customer", one) for one in self.customers]
        if self.group_by:
            made += [("group", ",".join(self.group_by)), ("top", str(self.top))]
        for one in self.filters:
            plain = one.operator is Operator.IN
            name = f"filter[{one.name}]" if plain else f"filter[{one.name}][{one.operator.value}]"
            made.append((name, ",".join(one.operands)))
        if self.compares:
            made.append(("compare", "previous"))
        if self.chart != "bars":
            made.append(("chart", self.chart))
        if self.formula is not None:
            made += [("formula", self.formula), *self.meters.items()]
        return made


@dataclass(frozen=True, slots=True)
class View:
    """As a person sets it. `private`: for its owner, and for who administers the tenant."""

    key: str
    name: str
    description: str | None
    visibility: Visibility
    question: Question

    def to_wire(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "name": self.name,
            "description": self.description,
            "visibility": self.visibility,
            "question": self.question.to_wire(),
        }


def read_view(raw: object) -> View:
    """Raises Invalid with every fault."""
    document = Document(raw)
    key = document.key("key") or ""
    name = document.text("name", characters_max=NAME_CHARACTERS_MAX) or key
    description = document.text("description", characters_max=DESCRIPTION_CHARACTERS_MAX)
    visibility = cast("Visibility | None", document.choice("visibility", VISIBILITIES)) or "private"
    given = document.take("question")
    if given is None:
        document.fault("missing", "is required.", "question")
    inner = document.below({} if given is None else given, "question")
    question = _question(inner, required=given is not None)
    inner.close()
    document.finish()
    return View(key, name, description, visibility, question)


def _question(document: Document, *, required: bool) -> Question:
    meter = (document.key("meter", required=required)) or ""
    named = document.choice("range", tuple(RANGES))
    from_us, to_us = _time_us(document, "from"), _time_us(document, "to")
    if (document.has("from") or document.has("to")) and named is not None:
        document.fault("invalid_value", "stands instead of `from` and `to`, not beside them.", "range")
    elif document.has("from") != document.has("to"):
        absent = "to" if document.has("from") else "from"
        document.fault("missing", "is required: `from` and `to` go together.", absent)
    elif from_us is not None and to_us is not None and from_us >= to_us:
        document.fault("empty_range", "must be later than `from`.", "to")
    timezone = document.text("timezone", characters_max=64) or "UTC"
    try:
        zone_of(timezone)
    except Invalid as error:
        document.fault(error.code, f"is no zone: {error.detail}", "timezone")
    window = document.choice("window", tuple(Window))
    compare = document.choice("compare", ("previous",))
    formula = document.text("formula", characters_max=FORMULA_CHARACTERS_MAX)
    question = Question(
        meter=meter,
        range=named if document.has("from") or document.has("to") else named or "30d",
        from_us=from_us,
        to_us=to_us,
        timezone=timezone,
        window=None if window is None else Window(window),
        customers=document.texts("customer", items_max=CUSTOMERS_MAX),
        group_by=document.texts("group_by", items_max=GROUP_BY_MAX),
        filters=_filters(document),
        compares=compare is not None,
        top=document.integer("top", least=1, most=TOP_MAX) or TOP_DEFAULT,
        chart=document.choice("chart", ("bars", "lines")) or "bars",
        formula=formula,
        meters=_meters(document),
    )
    _check_formula(document, question)
    return question


def _check_formula(document: Document, question: Question) -> None:
    if question.formula is None:
        if question.meters:
            document.fault("invalid_value", "means nothing without a formula.", "meters")
        return
    try:
        parse_formula(question.formula, tuple(question.aliases()))
    except FormulaError as error:
        document.fault("invalid_formula", f"cannot be read: {error.detail}", "formula")
    for name, given in (
        ("group_by", question.group_by),
        ("filter", question.filters),
        ("compare", question.compares),
    ):
        if given:
            document.fault("invalid_value", "does not go with a formula.", name)


def _time_us(document: Document, name: str) -> int | None:
    text = document.text(name, characters_max=64)
    if text is None:
        return None
    try:
        found = instant_us(text)
    except ValueError:
        found = None
    least, end = (round(one.timestamp()) * 1_000_000 for one in (_TIME_LEAST, _TIME_END))
    if found is None or not least <= found < end:
        document.fault("invalid_time", "must be an RFC 3339 time of the years 1900 to 2298.", name)
        return None
    return found


def _meters(document: Document) -> dict[str, str]:
    raw = document.take("meters")
    if raw is None:
        return {}
    inner = document.below(raw, "meters")
    made = {alias: key for alias in ALIASES[1:] if (key := inner.key(alias, required=False))}
    inner.close()
    return made


def _filters(document: Document) -> tuple[Filter, ...]:
    raw = document.take("filter")
    if raw is None:
        return ()
    if not isinstance(raw, Mapping):
        document.fault("invalid_type", 'must be an object such as {"model": {"in": ["large"]}}.', "filter")
        return ()
    made: list[Filter] = []
    for name, conditions in cast("Mapping[str, Any]", raw).items():
        if not isinstance(conditions, Mapping) or not conditions or not 0 < len(name) <= 128:
            document.fault(
                "invalid_value",
                'needs an object of operators such as {"in": ["large"]}.',
                "filter",
                name[:80],
            )
            continue
        for spelled, operand in cast("Mapping[str, Any]", conditions).items():
            found = _condition(document, name, str(spelled), operand)
            if found is not None:
                made.append(found)
    if len(made) > CONDITIONS_MAX:
        document.fault("too_many", f"may have at most {CONDITIONS_MAX} conditions.", "filter")
    return tuple(made)


def _condition(document: Document, name: str, spelled: str, raw: object) -> Filter | None:
    def refuse(code: str, detail: str) -> None:
        document.fault(code, detail, "filter", name[:80], spelled[:40])

    try:
        operator = Operator(spelled)
    except ValueError:
        return refuse("unknown_operator", f"is no operator; known: {', '.join(Operator)}.")
    given: list[Any] = cast("list[Any]", raw) if isinstance(raw, list) and operator in _LISTS else [raw]
    if not all(isinstance(one, str) and len(one) <= 1024 for one in given):
        return refuse("invalid_value", "takes strings of at most 1024 characters.")
    operands = tuple(dict.fromkeys(cast("list[str]", given)))
    if not 0 < len(operands) <= (OPERANDS_MAX if operator in _LISTS else 1):
        takes = f"takes 1 to {OPERANDS_MAX} operands." if operator in _LISTS else "takes one operand."
        return refuse("invalid_value", takes)
    if operator in _LISTS and any("," in one or not one for one in operands):
        return refuse("invalid_value", "cannot have empty values or commas in an address; ask with eq.")
    if operator is Operator.EXISTS and operands[0] not in ("true", "false"):
        return refuse("invalid_value", "takes true or false.")
    if operator in _NUMERIC and not _is_number(operands[0]):
        return refuse("invalid_value", "takes a number such as 12.5.")
    return Filter(name, operator, operands)


def _is_number(text: str) -> bool:
    try:
        decimal_of(text)
    except NotDecimal:
        return False
    return True
