"""`GET` and `POST /v1/meters/{key}/usage`: how much of it was used.

Both read the same members (api/fields.py) and go the same way from there (flows/usage.py).
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Protocol, cast

from litestar import Request, Response, get, post
from litestar.response import Stream

from tallystick.api import wire
from tallystick.api.auth import caller, require
from tallystick.api.fields import TEXT_CHARACTERS_MAX, Fields
from tallystick.api.formats import (
    ARROW,
    CHANGE_COLUMNS,
    CSV,
    JSON,
    PARQUET,
    chosen,
    usage_columns,
    usage_csv,
    usage_json,
)
from tallystick.api.openapi import (
    DECIMAL,
    POSITION,
    STRING,
    TIME,
    array,
    nullable,
    objects,
    operation,
    query,
)
from tallystick.api.streaming import in_threads, streamed
from tallystick.errors import Invalid
from tallystick.flows import customers
from tallystick.flows.overview import Change, compared
from tallystick.flows.position import position_of, token_of
from tallystick.flows.system import System
from tallystick.flows.totals import usage_with_totals
from tallystick.flows.usage import DAYS_30_US, UsageRequest, definition, in_questions, usage, why_not_kept
from tallystick.metering.meter import Meter
from tallystick.metering.number import number_text
from tallystick.metering.position import Vector
from tallystick.metering.query import Filter, Operator, Window
from tallystick.metering.window import edges, zone_of

GROUPS_MAX = 10_000
FILTERS_MAX = 50
OPERANDS_MAX = 1000
GROUP_BY_MAX = 18

_FILTER_PARAMETER = re.compile(r"filter\[([^\[\]]{1,128})\](?:\[([^\[\]]{1,20})\])?\Z")
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?\Z", re.ASCII)
_LISTS = (Operator.IN, Operator.NOT_IN)
_NUMERIC = (Operator.GT, Operator.GTE, Operator.LT, Operator.LTE)
_FILLS = ("none", "zero")
_ORDERS = ("value", "-value")
_COMPARED = ("previous",)
_EMPTY = "The range [from, to) is empty: from must be earlier than to (which is now where it is absent)."

Connection = Request[Any, Any, Any]


def read_request(
    fields: Fields, *, tenant: str, meter: str, without: frozenset[str] = frozenset()
) -> UsageRequest:
    """The question in the members of a request. Faults are left in `fields`: the members concerned are then absent.

    `without`: members that mean nothing here; they are not read, so that `fields.close` refuses them."""
    members = {attribute: read(fields) for name, (attribute, read) in MEMBERS.items() if name not in without}
    return UsageRequest(tenant=tenant, meter=meter, configured_at_us=members.get("as_of_us"), **members)


def _position(fields: Fields) -> Vector | None:
    token = fields.text("min_position")
    if token is None:
        return None
    return fields.faults.attempt(lambda: position_of(token, pointer=fields.pointer("min_position")), None)


# -- filters ---------------------------------------------------------------------------------------------------------
def _filters(fields: Fields) -> tuple[Filter, ...]:
    filters = _body_filters(fields) if fields.in_body else _query_filters(fields)
    if len(filters) > FILTERS_MAX:
        fields.fault("filter", "too_many", f"filter may have at most {FILTERS_MAX} conditions.")
        return ()
    return tuple(filters)


def _query_filters(fields: Fields) -> list[Filter]:
    """`filter[model]=a,b` (any of these) and `filter[model][gte]=5`. A value with a comma needs an operator of one
    operand, such as `filter[model][eq]=a,b`, or a POST."""
    filters: list[Filter] = []
    for parameter in list(fields.names()):
        match = _FILTER_PARAMETER.match(parameter)
        if match is None:
            continue
        name, spelled = match[1], match[2] or "in"
        operands: list[str] = fields.take(parameter)
        if spelled in _LISTS:
            operands = [part for operand in operands for part in operand.split(",")]
        filters.extend(_filter(fields, name, spelled, operands, ("filter", name, *match.groups()[1:2])))
    return filters


def _body_filters(fields: Fields) -> list[Filter]:
    """`{"model": {"in": ["a", "b"]}, "latency": {"gte": "5"}}`; all conditions must hold."""
    raw = fields.take("filter")
    if raw is None:
        return []
    if not isinstance(raw, dict):
        fields.fault("filter", "invalid_value", 'filter must be an object such as {"model": {"in": ["a"]}}.')
        return []
    filters: list[Filter] = []
    for name, conditions in cast("dict[str, Any]", raw).items():
        if not isinstance(conditions, dict) or not conditions:
            detail = f'filter: {name[:60]!r} needs an object of operators such as {{"in": ["a"]}}.'
            fields.fault("filter", "invalid_value", detail, name)
            continue
        for spelled, operand in cast("dict[str, Any]", conditions).items():
            listed = operand if isinstance(operand, list) and spelled in _LISTS else [operand]
            filters.extend(
                _filter(fields, name, spelled, cast("list[Any]", listed), ("filter", name, spelled))
            )
    return filters


def _filter(
    fields: Fields, name: str, spelled: str, raw: list[Any], place: tuple[str | None, ...]
) -> list[Filter]:
    """One condition; [] with a fault noted where it is wrong."""
    at = [step for step in place[1:] if step is not None]

    def refuse(code: str, detail: str) -> list[Filter]:
        fields.fault("filter", code, f"{fields.pointer('filter', *at)}: {detail}", *at)
        return []

    try:
        operator = Operator(spelled)
    except ValueError:
        return refuse("unknown_operator", f"no operator {spelled[:40]!r}; known: {', '.join(Operator)}.")
    operands = [_operand(value) for value in raw]
    known = [operand for operand in operands if operand is not None]
    if len(known) < len(operands) or any(len(operand) > TEXT_CHARACTERS_MAX for operand in known):
        return refuse("invalid_value", f"operands are strings of at most {TEXT_CHARACTERS_MAX} characters.")
    if operator in _LISTS:
        if not 0 < len(known) <= OPERANDS_MAX:
            return refuse("invalid_value", f"{operator} takes 1 to {OPERANDS_MAX} operands.")
        return [Filter(name, operator, tuple(dict.fromkeys(known)))]
    if len(known) != 1:
        return refuse("invalid_value", f"{operator} takes one operand.")
    if operator is Operator.EXISTS and known[0] not in ("true", "false"):
        return refuse("invalid_value", "exists takes true or false.")
    if operator in _NUMERIC and not _NUMBER.match(known[0]):
        return refuse("invalid_value", f"{operator} takes a number such as 12.5.")
    return [Filter(name, operator, tuple(known))]


def _operand(value: Any) -> str | None:
    """The text a dimension is compared with: a number as a dimension spells it."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | Decimal):
        return number_text(str(value))
    return None


MEMBERS: Mapping[str, tuple[str, Callable[[Fields], Any]]] = {
    "from": ("from_us", lambda fields: fields.time_us("from")),
    "to": ("to_us", lambda fields: fields.time_us("to")),
    "window": ("window", lambda fields: fields.choice("window", tuple(Window))),
    "timezone": ("timezone", lambda fields: fields.text("timezone", characters_max=64) or "UTC"),
    "customer": ("customers", lambda fields: fields.texts("customer")),
    "include_children": ("include_children", lambda fields: fields.boolean("include_children")),
    "group_by": (
        "group_by",
        lambda fields: fields.texts("group_by", commas=True, items_max=GROUP_BY_MAX) or (),
    ),
    "filter": ("filters", _filters),
    "order_by": ("order_by", lambda fields: fields.choice("order_by", _ORDERS)),
    "limit": ("limit", lambda fields: fields.integer("limit", least=1, most=GROUPS_MAX)),
    "fill": ("fill", lambda fields: fields.choice("fill", _FILLS) or "none"),
    "as_of": ("as_of_us", lambda fields: fields.time_us("as_of")),
    "min_position": ("min_position", _position),
    "version": ("version", lambda fields: fields.integer("version", least=1, most=1_000_000_000)),
}
"""Member of a request → attribute of a UsageRequest, and how it is read."""


# -- what only the meter can tell -------------------------------------------------------------------------------------
class Place(Protocol):
    """Where faults of a question are noted, under the member's name."""

    def fault(self, name: str, code: str, detail: str, *steps: str) -> None: ...


def check_against(
    fields: Place, question: UsageRequest, meter: Meter, *, now_us: int, windows_max: int
) -> None:
    """Note what is wrong with a question to this meter, each fault at the place the client wrote it.

    flows/usage.py refuses the same; it does not know how a request was spelled."""
    check_names(fields, question, meter)
    check_range(fields, question, now_us=now_us, windows_max=windows_max)


def check_kept(system: System, fields: Place, question: UsageRequest, meter: Meter) -> None:
    """That retention has deleted no event of its range."""
    from_us = question.from_us
    if from_us is None:
        from_us = (system.clock.now_us() if question.to_us is None else question.to_us) - DAYS_30_US
    detail = why_not_kept(system, meter, from_us)
    if detail is not None:
        fields.fault("from", "past_retention", detail)


def check_names(fields: Place, question: UsageRequest, meter: Meter) -> None:
    """The dimensions it names."""
    names = ("customer", "subject", *(dimension.name for dimension in meter.dimensions))
    for name in question.group_by:
        if name not in names:
            fields.fault("group_by", "unknown_dimension", _unknown_dimension(meter, name, names))
    for name in dict.fromkeys(condition.name for condition in question.filters):
        if name not in names:
            fields.fault("filter", "unknown_dimension", _unknown_dimension(meter, name, names), name)


def check_range(fields: Place, question: UsageRequest, *, now_us: int, windows_max: int) -> None:
    """Its range, its zone and the number of its windows."""
    to_us = now_us if question.to_us is None else question.to_us
    from_us = to_us - DAYS_30_US if question.from_us is None else question.from_us
    # The end is named where it was given; where it is now, only the beginning can be wrong.
    end = "from" if question.to_us is None else "to"
    try:
        zone_of(question.timezone)
    except Invalid as error:
        fields.fault("timezone", error.code, error.detail)
        if from_us >= to_us:
            fields.fault(end, "empty_range", _EMPTY)
        return
    window = None if question.window is None else Window(question.window)
    try:
        edges(from_us, to_us, window, question.timezone, windows_max=windows_max)
    except Invalid as error:
        name = end if error.code == "empty_range" else error.faults[0].pointer if error.faults else "window"
        setting = " (Setting usage_windows_max.)" if error.code == "too_many_windows" else ""
        fields.fault(name, error.code, _EMPTY if error.code == "empty_range" else error.detail + setting)


def _unknown_dimension(meter: Meter, name: str, names: tuple[str, ...]) -> str:
    return f"Meter {meter.key!r} has no dimension {name[:60]!r}; known: {', '.join(names)}."


async def narrowed(system: System, tenant: str, bound: str | None, question: UsageRequest) -> UsageRequest:
    """The question, cut down to the customers the caller sees."""
    if bound is None:
        return question
    seen = await in_questions(
        system, lambda: customers.narrowed(system.catalog, tenant, bound, question.customers)
    )
    return dataclasses.replace(question, customers=seen)


# -- routes ----------------------------------------------------------------------------------------------------------
async def _answer(request: Connection, fields: Fields) -> Response[Any]:
    who = caller(request)
    system = wire.system_of(request)
    kind = chosen(request.headers.get("accept"), (JSON, CSV, PARQUET, ARROW))
    question = read_request(fields, tenant=who.tenant, meter=request.path_params["key"])
    compares = fields.choice("compare", _COMPARED) is not None
    sums_up = fields.boolean("totals")
    if sums_up and compares:
        fields.fault("totals", "invalid_value", "totals cannot be asked for together with compare.")
    if sums_up and kind != JSON:
        fields.fault("totals", "invalid_value", "totals are in JSON alone; ask for a file without them.")
    fields.close()
    meter = await in_questions(system, lambda: definition(system, question))
    check_against(
        fields, question, meter, now_us=system.clock.now_us(), windows_max=system.settings.usage_windows_max
    )
    check_kept(system, fields, question, meter)
    fields.faults.raise_any()
    question = await narrowed(system, who.tenant, who.customer, question)
    changes: list[Change] | None = None
    if compares:
        both = await compared(system, question)
        answer, changes = both.answer, both.changes
    elif sums_up:
        answer, totals = await usage_with_totals(system, question)
        written = await in_questions(system, lambda: usage_json(answer, None, totals))
        headers = {"Tallystick-Position": token_of(answer.position), "Vary": "Accept"}
        return Response(content=written, media_type=JSON, headers=headers, status_code=200)
    else:
        try:
            answer = await usage(system, question)
        except Invalid as error:
            if kind == JSON or error.code != "too_many_rows":
                raise
            # Too large to hold, not too large to send: the many smaller ones are spared being counted first.
            return await streamed(system, question, kind)
    headers = {"Tallystick-Position": token_of(answer.position), "Vary": "Accept"}
    if kind in (PARQUET, ARROW):
        pieces = in_threads(system, usage_columns(answer, kind, changes))
        return Stream(pieces, media_type=kind, headers=headers, status_code=200)
    written = await in_questions(system, lambda: (usage_json if kind == JSON else usage_csv)(answer, changes))
    media_type = kind if kind == JSON else f"{CSV}; header=present"  # Litestar adds the charset
    return Response(content=written, media_type=media_type, headers=headers, status_code=200)


GROUP = {"type": "object", "additionalProperties": nullable(STRING)}
SERVED_FROM = {"type": "string", "enum": ["rollups", "readings", "events"]}
_ROW = objects(
    {
        "window_start": TIME,
        "window_end": TIME,
        "group": GROUP,
        "value": nullable(DECIMAL),
        "previous_start": TIME,
        "previous_end": TIME,
        "previous": nullable(DECIMAL),
        "change": nullable(DECIMAL),
        "change_percent": nullable(DECIMAL),
    },
    required=("window_start", "window_end", "group", "value"),
    description=f"With `compare=previous` also {', '.join(CHANGE_COLUMNS)}.",
)
USAGE = objects(
    {
        "meter": STRING,
        "version": {"type": "integer"},
        "aggregation": STRING,
        "unit": nullable(STRING),
        "from": TIME,
        "to": TIME,
        "window": nullable({"type": "string", "enum": [*Window]}),
        "timezone": STRING,
        "rows": array(_ROW),
        "position": POSITION,
        "served_from": SERVED_FROM,
        "totals": array(objects({"group": GROUP, "value": nullable(DECIMAL)})),
    },
    required=(
        "meter",
        "version",
        "aggregation",
        "unit",
        "from",
        "to",
        "window",
        "timezone",
        "rows",
        "position",
        "served_from",
    ),
)
_TOTALS = "Also `totals`: each group's value over the whole range, as of the same moment. In JSON alone, without `compare`."
_INTEGER = {"type": "integer", "minimum": 1}
_DESCRIPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "from": ("Begin of the range, inclusive. Default: 30 days before `to`.", TIME),
    "to": ("End of the range, exclusive. Default: now.", TIME),
    "window": (
        "Calendar windows; absent: one total.",
        {"type": "string", "enum": [*Window]},
    ),
    "timezone": ("IANA zone of the windows; days of a clock change have 23 or 25 hours.", STRING),
    "include_children": ("Whether a customer covers those below it.", {"type": "boolean"}),
    "order_by": (
        "By the groups' value over the whole range.",
        {"type": "string", "enum": [*_ORDERS]},
    ),
    "limit": ("Keep the first groups, each with all its windows.", {**_INTEGER, "maximum": GROUPS_MAX}),
    "fill": (
        "`zero`: also windows without usage, for groups that have any row.",
        {"type": "string", "enum": [*_FILLS]},
    ),
    "as_of": ("System time: answer as it was known then, by the definition of that time.", TIME),
    "min_position": ("Wait until this position is recorded: read your own writes.", STRING),
    "version": ("An older version of the meter.", _INTEGER),
    "compare": (
        "`previous`: beside each row that of the window before (the whole calendar window); without windows, of the "
        "range of the same length before. `change_percent` is null where `previous` is 0 or null.",
        {"type": "string", "enum": [*_COMPARED]},
    ),
}
PARAMETERS: Mapping[str, dict[str, Any]] = {
    **{name: query(name, text, schema=schema) for name, (text, schema) in _DESCRIPTIONS.items()},
    "customer": query("customer", "Only these customers.", repeated=True),
    "group_by": query(
        "group_by", "`customer`, `subject` or dimensions; also as a comma list.", repeated=True
    ),
    "filter": {
        "name": "filter",
        "in": "query",
        "style": "deepObject",
        "explode": True,
        "description": "`filter[model]=a,b` (any of these), `filter[latency][gte]=5` (an operator).",
        "schema": {"type": "object", "additionalProperties": True},
    },
}
_OPERAND = {"type": ["string", "number", "boolean"]}
BODY_PROPERTIES: Mapping[str, dict[str, Any]] = {
    **{name: {**schema, "description": text} for name, (text, schema) in _DESCRIPTIONS.items()},
    "customer": {"anyOf": [STRING, array(STRING)]},
    "group_by": {"anyOf": [STRING, array(STRING)]},
    "filter": {
        "type": "object",
        "additionalProperties": objects(
            {str(operator): array(_OPERAND) if operator in _LISTS else _OPERAND for operator in Operator},
            required=(),
            additionalProperties=False,
            minProperties=1,
        ),
    },
}
_BODY = objects(
    {**BODY_PROPERTIES, "totals": {"type": "boolean", "description": _TOTALS}},
    required=(),
    additionalProperties=False,
)
_FILES = {
    CSV: {
        "schema": {
            "type": "string",
            "description": "RFC 4180: window_start, window_end, the groups, value. Cells are not escaped for "
            "spreadsheets that evaluate formulas.",
        }
    },
    **{
        kind: {
            "schema": {
                "type": "string",
                "format": "binary",
                "description": "The columns of the CSV: times in UTC to the microsecond, figures as decimal(38, 18), as "
                "decimal(76, 18) or as strings, whichever all of a column fit first.",
            }
        }
        for kind in (PARQUET, ARROW)
    },
}


@get(
    "/v1/meters/{key:str}/usage",
    guards=[require("usage:read")],
    opt={
        "operation": operation(
            summary="Usage of a meter",
            tag="Usage",
            parameters=[*PARAMETERS.values(), query("totals", _TOTALS, schema={"type": "boolean"})],
            answer=USAGE,
            answer_types=_FILES,
            errors=(406, 504),
        )
    },
)
async def get_usage(request: Connection) -> Response[Any]:
    """Usage, asked in the query string."""
    return await _answer(request, Fields.of_query(request))


@post(
    "/v1/meters/{key:str}/usage",
    guards=[require("usage:read")],
    status_code=200,
    opt={
        "operation": operation(
            summary="Usage of a meter, asked with a body",
            tag="Usage",
            body=_BODY,
            body_example={"window": "day", "group_by": ["model"], "filter": {"region": {"in": ["eu", "us"]}}},
            answer=USAGE,
            answer_types=_FILES,
            errors=(406, 504),
        )
    },
)
async def post_usage(request: Connection) -> Response[Any]:
    """Usage, asked in a JSON body."""
    return await _answer(request, await Fields.of_body(request))


ROUTES = [get_usage, post_usage]
