"""`/usage`: how much of it was used, in whole intervals of UTC.

Amberflo asks for an aggregation and for any dimension at each question. What the meter does not say itself is read from
its events (flows/usage.usage_of).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

import msgspec
from litestar import Request, Response, get, post

from tallystick.api import wire
from tallystick.api.auth import caller, require
from tallystick.api.compat import taking
from tallystick.api.compat.amberflo.meters import all_meters
from tallystick.api.compat.amberflo.shape import (
    BASE,
    VALUE_PATH,
    declared_name,
    encoded,
    is_of_records,
    operation_of,
    path_of,
)
from tallystick.api.fields import Fields
from tallystick.api.openapi import STRING, array, objects, query
from tallystick.flows import customers
from tallystick.flows.system import System
from tallystick.flows.usage import UsageRequest, in_questions, usage, usage_of
from tallystick.metering.meter import SERIES, Aggregation, Dimension, Meter
from tallystick.metering.query import Filter, Operator, UsageRow

Connection = Request[Any, Any, Any]

QUESTIONS_MAX = 100
GROUPS_MAX = 10_000
CUSTOMER = "customerId"
AGGREGATIONS = ("sum", "count", "min", "max")
INTERVALS = ("hour", "day", "week", "month")
_SECONDS_END = 10_382_256_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ADDED_UP = (Aggregation.SUM, Aggregation.COUNT)
_ZERO = Decimal(0)
_PERCENT_PLACES = Decimal("0.0001")


@dataclass(frozen=True, slots=True)
class Question:
    """One of Amberflo's questions. `start_us`, `end_us`: widened to whole intervals."""

    meter: str
    aggregation: str
    interval: str
    start_us: int
    end_us: int
    group_by: tuple[str, ...] = ()
    conditions: tuple[tuple[str, tuple[str, ...]], ...] = ()
    limit: int | None = None
    ascending: bool = False


# -- reading it ------------------------------------------------------------------------------------------------------
def question_of(fields: Fields, now_us: int) -> Question:
    """A question of a body. Faults are left in `fields`."""
    meter = fields.required_text("meterApiName")
    aggregation = _word(fields, "aggregation", AGGREGATIONS) or "sum"
    interval = _word(fields, "timeGroupingInterval", INTERVALS) or "day"
    for name in ("rescaleFunction", "valuesTimeGroupingInterval"):
        if fields.take(name) is not None:
            fields.fault(name, "invalid_value", f"{name} is not supported here.")
    raw: Any = fields.take("timeRange")
    if not isinstance(raw, dict):
        fields.fault("timeRange", "missing", "timeRange must be an object with startTimeInSeconds.")
        raw = {"startTimeInSeconds": 0}
    start_us, end_us = _range(fields.within(cast("dict[str, Any]", raw), "timeRange"), interval, now_us)
    taken: Any = fields.take("take")
    limit, ascending = None, False
    if isinstance(taken, dict):
        take = fields.within(cast("dict[str, Any]", taken), "take")
        limit = take.integer("limit", least=1, most=GROUPS_MAX)
        ascending = take.boolean("isAscending")
    elif taken is not None:
        fields.fault("take", "invalid_value", "take must be an object with limit and isAscending.")
    return Question(
        meter=meter,
        aggregation=aggregation,
        interval=interval,
        start_us=start_us,
        end_us=end_us,
        group_by=fields.texts("groupBy") or (),
        conditions=_conditions(fields),
        limit=limit,
        ascending=ascending,
    )


def _word(fields: Fields, name: str, words: Sequence[str]) -> str | None:
    """A word in any case: the Python client writes them large, the TypeScript client small."""
    given = fields.text(name)
    if given is not None and given.lower() not in words:
        fields.fault(name, "invalid_value", f"{name} must be one of {', '.join(words)}.")
        return None
    return None if given is None else given.lower()


def _range(fields: Fields, interval: str, now_us: int) -> tuple[int, int]:
    start_s = fields.integer("startTimeInSeconds", least=0, most=_SECONDS_END)
    end_s = fields.integer("endTimeInSeconds", least=0, most=_SECONDS_END)
    if start_s is None:
        if fields.take("startTimeInSeconds") is None:
            fields.fault("startTimeInSeconds", "missing", "startTimeInSeconds is required.")
        start_s = 0
    start_us = start_s * 1_000_000
    end_us = now_us if end_s is None else end_s * 1_000_000
    if end_us < start_us:
        fields.fault("endTimeInSeconds", "empty_range", "endTimeInSeconds must not be before the start.")
    return widened(start_us, end_us, interval)


def widened(start_us: int, end_us: int, interval: str) -> tuple[int, int]:
    """The whole intervals of UTC that a range touches; at least one."""
    start = _floor(_EPOCH + timedelta(microseconds=start_us), interval)
    end_at = _EPOCH + timedelta(microseconds=max(end_us, start_us + 1))
    end = _floor(end_at, interval)
    if end < end_at:
        end = _next(end, interval)
    return (start - _EPOCH) // timedelta(microseconds=1), (end - _EPOCH) // timedelta(microseconds=1)


def _floor(at: datetime, interval: str) -> datetime:
    if interval == "hour":
        return at.replace(minute=0, second=0, microsecond=0)
    day = at.replace(hour=0, minute=0, second=0, microsecond=0)
    if interval == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if interval == "month" else day


def _next(at: datetime, interval: str) -> datetime:
    if interval == "month":
        return (at + timedelta(days=32)).replace(day=1)
    return at + {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7)}[interval]


def starts_of(question: Question) -> list[int]:
    """Where each interval begins, in seconds."""
    found: list[int] = []
    at = _EPOCH + timedelta(microseconds=question.start_us)
    end = _EPOCH + timedelta(microseconds=question.end_us)
    while at < end:
        found.append(int(at.timestamp()))
        at = _next(at, question.interval)
    return found


def _conditions(fields: Fields) -> tuple[tuple[str, tuple[str, ...]], ...]:
    raw: Any = fields.take("filter")
    if raw is None:
        return ()
    if not isinstance(raw, dict):
        fields.fault("filter", "invalid_value", "filter must be an object of lists.")
        return ()
    within = fields.within(cast("dict[str, Any]", raw), "filter")
    return tuple((name, within.texts(name) or ()) for name in list(within.names()))


# -- answering it ----------------------------------------------------------------------------------------------------
async def answered(
    system: System, tenant: str, bound: str | None, question: Question, *, sparse: bool
) -> Any:
    """Intervals and groups. Raises what `usage` raises."""
    meter = await in_questions(system, lambda: system.catalog.meter(tenant, question.meter))
    asked_of = [value for name, values in question.conditions if name == CUSTOMER for value in values]
    seen = await in_questions(
        system, lambda: customers.narrowed(system.catalog, tenant, bound, asked_of or None)
    )
    aggregation = _aggregation(meter, question)
    names = {*question.group_by, *(name for name, _ in question.conditions)} - {CUSTOMER}
    slots = {name: _slot(meter, name) for name in names}
    computed = _with(meter, aggregation, slots)
    ours = {CUSTOMER: "customer", **{name: slot.name for name, slot in slots.items()}}
    asked = UsageRequest(
        tenant=tenant,
        meter=meter.key,
        from_us=question.start_us,
        to_us=question.end_us,
        window=question.interval,
        customers=seen,
        group_by=tuple(ours[name] for name in question.group_by),
        filters=tuple(
            Filter(ours[name], Operator.IN, values)
            for name, values in question.conditions
            if name != CUSTOMER and values
        ),
        order_by=None if question.limit is None else "value" if question.ascending else "-value",
        limit=question.limit,
        fill="none" if sparse else "zero",
    )
    rows = await _rows(system, asked, meter, computed)
    totals = None
    if aggregation not in _ADDED_UP:
        totals = await _rows(system, replace(asked, window=None), meter, computed)
    return _report(question, aggregation, rows, totals)


async def _rows(system: System, asked: UsageRequest, meter: Meter, computed: Meter) -> list[UsageRow]:
    answer = await usage(system, asked) if computed is meter else await usage_of(system, asked, computed)
    return answer.rows


def _aggregation(meter: Meter, question: Question) -> Aggregation:
    """What is asked for, of this meter. Distinct values, durations and levels have one meaning alone, which is what
    `sum` asks for. Raises Invalid."""
    wanted = Aggregation(question.aggregation)
    present = meter.aggregation
    own = present in SERIES or present is Aggregation.UNIQUE_COUNT or meter.of is not None
    if wanted is present:
        return present
    if wanted is Aggregation.SUM and (own or present is Aggregation.COUNT):
        return present
    if meter.of is None and (wanted is Aggregation.COUNT or not (own or present is Aggregation.COUNT)):
        return wanted
    detail = f"A meter of this type has no {question.aggregation}: {meter.key} is {present}."
    raise wire.invalid("/aggregation", "invalid_value", detail)


def _slot(meter: Meter, name: str) -> Dimension:
    """The dimension that a question means. Amberflo knows one as soon as a record has it. Raises Invalid."""
    for declared in meter.dimensions:
        if declared.name in (name, declared_name(name)):
            return declared
    if not is_of_records(meter):
        detail = f"The meter {meter.key} has no dimension {name[:60]!r}."
        raise wire.invalid("/groupBy", "unknown_dimension", detail)
    return Dimension(declared_name(name), path_of(name))


def _with(meter: Meter, aggregation: Aggregation, slots: dict[str, Dimension]) -> Meter:
    """The meter itself where it says all that is asked for."""
    if aggregation is meter.aggregation and all(slot in meter.dimensions for slot in slots.values()):
        return meter
    if aggregation is Aggregation.COUNT and meter.aggregation is not Aggregation.COUNT:
        meter = replace(meter, value=None, value_cel=None, pair_by=None, timeout_us=None)
    elif meter.aggregation is Aggregation.COUNT and aggregation is not Aggregation.COUNT:
        meter = replace(meter, value=VALUE_PATH)
    return replace(meter, aggregation=aggregation, dimensions=tuple(slots.values()))


def _report(
    question: Question, aggregation: Aggregation, rows: list[UsageRow], totals: list[UsageRow] | None
) -> dict[str, Any]:
    series: dict[tuple[str | None, ...], list[UsageRow]] = {}
    for row in rows:
        series.setdefault(row.group, []).append(row)
    if totals is None:
        whole = {group: sum((row.value or _ZERO for row in found), _ZERO) for group, found in series.items()}
    else:
        whole = {row.group: row.value or _ZERO for row in totals}
    groups = list(series)
    if question.limit is not None:
        groups.sort(key=lambda group: whole.get(group, _ZERO), reverse=not question.ascending)
    return {
        "secondsSinceEpochIntervals": starts_of(question),
        "clientMeters": [
            {
                "group": {"groupInfo": dict(zip(question.group_by, group, strict=True))},
                "groupValue": number(whole.get(group, _ZERO)),
                "values": _values(series[group]),
            }
            for group in groups
        ],
    }


def _values(rows: list[UsageRow]) -> list[dict[str, Any]]:
    values: list[dict[str, Any]] = []
    before = _ZERO
    for row in rows:
        value = row.value or _ZERO
        change = (value - before) / before * 100 if before else _ZERO
        values.append(
            {
                "value": number(value),
                "secondsSinceEpochUtc": row.window_start_us // 1_000_000,
                "percentageFromPrevious": number(change.quantize(_PERCENT_PLACES) if change else _ZERO),
            }
        )
        before = value
    return values


def number(value: Decimal) -> msgspec.Raw:
    """A JSON number with every digit of the decimal."""
    return msgspec.Raw(wire.decimal_text(value).encode())


# -- the routes ------------------------------------------------------------------------------------------------------
_QUESTION = objects(
    {
        "meterApiName": STRING,
        "aggregation": {"type": "string", "description": "sum, count, min or max, in any case."},
        "timeGroupingInterval": {"type": "string", "description": "hour, day, week or month, in any case."},
        "timeRange": objects(
            {"startTimeInSeconds": {"type": "integer"}, "endTimeInSeconds": {"type": "integer"}},
            required=("startTimeInSeconds",),
        ),
        "groupBy": array(STRING),
        "filter": {"type": "object", "additionalProperties": array(STRING)},
        "take": objects({"limit": {"type": "integer"}, "isAscending": {"type": "boolean"}}, required=()),
    },
    required=("meterApiName", "timeRange"),
)
_EXAMPLE = {
    "meterApiName": "api_calls",
    "aggregation": "SUM",
    "timeGroupingInterval": "DAY",
    "timeRange": {"startTimeInSeconds": 1_784_073_600},
    "groupBy": ["customerId"],
}
_NUMBER = {"type": "number"}
_REPORT = objects(
    {
        "metadata": {"type": "object", "description": "The question."},
        "secondsSinceEpochIntervals": array({"type": "integer"}),
        "clientMeters": array(
            objects(
                {
                    "group": objects({"groupInfo": {"type": "object"}}),
                    "groupValue": _NUMBER,
                    "values": array(
                        objects(
                            {
                                "value": _NUMBER,
                                "secondsSinceEpochUtc": {"type": "integer"},
                                "percentageFromPrevious": _NUMBER,
                            }
                        )
                    ),
                }
            )
        ),
    }
)


async def _one(request: Connection, raw: Any, *, sparse: bool) -> dict[str, Any]:
    system, who = wire.system_of(request), caller(request)
    if not isinstance(raw, dict):
        raise wire.invalid("", "not_an_object", "A question must be a JSON object.")
    document = cast("dict[str, Any]", raw)
    fields = Fields(document, body=True)
    question = question_of(fields, system.clock.now_us())
    fields.faults.raise_any()
    report = await answered(system, who.tenant, who.customer, question, sparse=sparse)
    return {"metadata": _echo(document), **report}


def _echo(value: Any) -> Any:
    """What was sent, its numbers as they were."""
    if isinstance(value, Decimal):
        return msgspec.Raw(str(value).encode())
    if isinstance(value, dict):
        return {name: _echo(inner) for name, inner in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_echo(inner) for inner in cast("list[Any]", value)]
    return value


async def _many(request: Connection, *, sparse: bool) -> Response[bytes]:
    raw = await wire.json_body(request)
    if not isinstance(raw, list):
        raise wire.invalid("", "invalid_body", "The body must be an array of questions.")
    questions = cast("list[Any]", raw)
    if len(questions) > QUESTIONS_MAX:
        raise wire.invalid("", "too_many", f"At most {QUESTIONS_MAX} questions are answered at once.")
    await taking.caught_up(wire.system_of(request))
    return _response([await _one(request, one, sparse=sparse) for one in questions])


def _response(document: Any) -> Response[bytes]:
    return Response(encoded(document), media_type="application/json", status_code=200)


@post(
    f"{BASE}/usage",
    guards=[require("usage:read")],
    status_code=200,
    opt={
        "operation": operation_of(
            summary="Usage of a meter (Amberflo)", body=_QUESTION, body_example=_EXAMPLE, answer=_REPORT
        )
    },
)
async def ask(request: Connection) -> Response[bytes]:
    """Every interval of the range, filled with 0."""
    raw = await wire.json_body(request)
    await taking.caught_up(wire.system_of(request))
    return _response(await _one(request, raw, sparse=False))


@post(
    f"{BASE}/usage/sparse",
    guards=[require("usage:read")],
    status_code=200,
    opt={
        "operation": operation_of(
            summary="Usage of a meter, no empty intervals (Amberflo)",
            body=_QUESTION,
            body_example=_EXAMPLE,
            answer=_REPORT,
        )
    },
)
async def ask_sparse(request: Connection) -> Response[bytes]:
    """Only intervals that have usage."""
    raw = await wire.json_body(request)
    await taking.caught_up(wire.system_of(request))
    return _response(await _one(request, raw, sparse=True))


@post(
    f"{BASE}/usage/batch",
    guards=[require("usage:read")],
    status_code=200,
    opt={
        "operation": operation_of(
            summary="Several usage questions (Amberflo)",
            body=array(_QUESTION),
            body_example=[_EXAMPLE],
            answer=array(_REPORT),
        )
    },
)
async def ask_batch(request: Connection) -> Response[bytes]:
    """Answers in the order of the questions."""
    return await _many(request, sparse=False)


@post(
    f"{BASE}/usage/sparse/batch",
    guards=[require("usage:read")],
    status_code=200,
    opt={
        "operation": operation_of(
            summary="Several usage questions, no empty intervals (Amberflo)",
            body=array(_QUESTION),
            body_example=[_EXAMPLE],
            answer=array(_REPORT),
        )
    },
)
async def ask_sparse_batch(request: Connection) -> Response[bytes]:
    """Answers in the order of the questions."""
    return await _many(request, sparse=True)


@get(
    f"{BASE}/usage/all",
    guards=[require("usage:read")],
    opt={
        "operation": operation_of(
            summary="Usage of all meters (Amberflo)",
            parameters=[
                query("startTimeInSeconds", "From.", schema={"type": "integer"}),
                query("endTimeInSeconds", "To; now where it is absent.", schema={"type": "integer"}),
                query("timeGroupingInterval", "hour, day, week or month, in any case."),
                query("groupBy", "`customerId`."),
                query("customerId", "Of this customer."),
            ],
            answer=array(_REPORT),
        )
    },
)
async def ask_all(request: Connection) -> Response[bytes]:
    """One report for each active meter."""
    system, who = wire.system_of(request), caller(request)
    fields = Fields.of_query(request)
    interval = _word(fields, "timeGroupingInterval", INTERVALS) or "day"
    start_us, end_us = _range(fields, interval, system.clock.now_us())
    grouped = fields.choice("groupBy", (CUSTOMER,))
    customer = fields.text("customerId") or fields.text("CustomerId")
    fields.faults.raise_any()
    await taking.caught_up(system)
    reports: list[dict[str, Any]] = []
    for meter in await in_questions(system, lambda: all_meters(system, who.tenant)):
        question = Question(
            meter=meter.key,
            aggregation="sum",
            interval=interval,
            start_us=start_us,
            end_us=end_us,
            group_by=(CUSTOMER,) if grouped else (),
            conditions=((CUSTOMER, (customer,)),) if customer else (),
        )
        own = _own(question, meter)
        report = await answered(system, who.tenant, who.customer, own, sparse=False)
        metadata: dict[str, Any] = {
            "meterApiName": meter.key,
            "aggregation": own.aggregation,
            "timeGroupingInterval": interval,
            "timeRange": {
                "startTimeInSeconds": start_us // 1_000_000,
                "endTimeInSeconds": end_us // 1_000_000,
            },
            "groupBy": [*own.group_by],
            "filter": {CUSTOMER: [customer]} if customer else {},
        }
        reports.append({"metadata": metadata, **report})
    return _response(reports)


def _own(question: Question, meter: Meter) -> Question:
    """The question by the meter's own aggregation, where Amberflo has a word for it."""
    if meter.aggregation in (Aggregation.MIN, Aggregation.MAX):
        return replace(question, aggregation=meter.aggregation.value)
    return question


ROUTES = [ask, ask_sparse, ask_batch, ask_sparse_batch, ask_all]
