"""`/api/v1/meters/{idOrSlug}/query`, and the subjects and group-by values of a meter.

The range is half-open; a window without usage has no row, and one that the range cuts is named by its own bounds all
the same, as ClickHouse's tumbleStart and tumbleEnd do it there; a subject asked for is also grouped by. Where OpenMeter is asked
without a range it answers all there is, so the extent of what there is is looked up first. Figures are exact decimals,
written as JSON numbers.
"""

import csv
import io
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, cast
from zoneinfo import ZoneInfo

import msgspec
from litestar import Request, Response, get, post

from tallystick.api import usage as ours
from tallystick.api import wire
from tallystick.api.auth import caller, require
from tallystick.api.compat import taking
from tallystick.api.compat.openmeter.conditions import Accepts, of_text
from tallystick.api.compat.openmeter.customers import customers_of, id_of
from tallystick.api.compat.openmeter.meters import meter_of
from tallystick.api.compat.openmeter.shape import BASE, object_in, operation_of, time_text
from tallystick.api.fields import Fields
from tallystick.api.formats import CSV, JSON, chosen
from tallystick.api.openapi import STRING, TIME, array, nullable, objects, query
from tallystick.catalog.interface import Customer
from tallystick.flows.system import System
from tallystick.flows.usage import UsageRequest, usage
from tallystick.metering.meter import Aggregation, Meter
from tallystick.metering.query import Filter, Operator, UsageRow, Window
from tallystick.metering.window import edges, zone_of

Connection = Request[Any, Any, Any]

WINDOWS = {"MINUTE": "minute", "HOUR": "hour", "DAY": "day", "MONTH": "month"}
CUSTOMERS_MAX = 100
DAY_US = 86_400_000_000
_ZOOM = ("year", "month", "day", "hour", "minute")
_SPANS_US = {"minute": 60_000_000, "hour": 3_600_000_000, "day": DAY_US, "month": 31 * DAY_US}
"""No window is longer, but for the hours that clocks are put back."""
_CLOCKS_US = 4 * 3_600_000_000


@dataclass(frozen=True, slots=True)
class Asked:
    """A question in OpenMeter's words. `group_by` without subject and customer_id."""

    from_us: int | None
    to_us: int | None
    window: str | None
    zone: str
    subjects: tuple[str, ...]
    customers: tuple[str, ...]
    by_subject: bool
    by_customer: bool
    group_by: tuple[str, ...]
    filters: tuple[Filter, ...]
    conditions: tuple[tuple[str, Accepts[str]], ...] = ()
    """Of names of the meter, by their values, where no filter of ours says the same; a missing one is ""."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of an answer."""

    row: UsageRow
    subject: str | None
    customer: str | None
    groups: tuple[str, ...]


def _asked(fields: Fields) -> Asked:
    fields.know("clientId")
    subjects = fields.texts("subject") or ()
    customers = fields.texts("filterCustomerId", items_max=CUSTOMERS_MAX) or ()
    groups = fields.texts("groupBy") or ()
    if "customer_id" in groups and not customers:
        fields.fault("groupBy", "invalid_group_by", "groupBy customer_id needs filterCustomerId.")
    zone = fields.text("windowTimeZone", characters_max=64) or "UTC"
    fields.faults.attempt(lambda: zone_of(zone), None)
    simple, advanced = _filters(fields)
    asked = Asked(
        from_us=fields.time_us("from"),
        to_us=fields.time_us("to"),
        window=fields.choice("windowSize", tuple(WINDOWS)),
        zone=zone,
        subjects=subjects,
        customers=customers,
        by_subject=bool(subjects) or "subject" in groups,
        by_customer=bool(customers),
        group_by=tuple(name for name in groups if name not in ("subject", "customer_id")),
        filters=simple,
        conditions=advanced,
    )
    if asked.from_us is not None and asked.to_us is not None and asked.from_us >= asked.to_us:
        fields.fault("from", "empty_range", "from must be before to.")
    return asked


def _filters(fields: Fields) -> tuple[tuple[Filter, ...], tuple[tuple[str, Accepts[str]], ...]]:
    simple: dict[str, list[str]] = {}
    found: Any
    if fields.in_body:
        found = fields.take("filterGroupBy")
    else:
        found = {} if "filterGroupBy" not in fields.names() else object_in(fields, "filterGroupBy")
        for parameter in list(fields.names()):
            if parameter.startswith("filterGroupBy[") and parameter.endswith("]"):
                name = parameter[len("filterGroupBy[") : -1]
                simple.setdefault(name, []).extend(cast("list[str]", fields.take(parameter)))
    if not isinstance(found, dict | None):
        fields.fault("filterGroupBy", "invalid_value", "filterGroupBy must be an object.")
        found = None
    for name, values in cast("dict[str, object]", found or {}).items():
        listed: list[Any] = cast("list[Any]", values) if isinstance(values, list) else [values]
        simple.setdefault(name, []).extend(map(str, listed))
    filters = [_in(name, tuple(dict.fromkeys(values))) for name, values in simple.items()]
    advanced = (
        fields.take("advancedMeterGroupByFilters")
        if fields.in_body
        else object_in(fields, "advancedMeterGroupByFilters")
    )
    judged: list[tuple[str, Accepts[str]]] = []
    if advanced is not None and simple:
        fields.fault(
            "advancedMeterGroupByFilters", "both_filters", "Only one of the two kinds of filter can be given."
        )
    elif advanced is not None and isinstance(advanced, dict):
        given = cast("dict[str, Any]", advanced)
        judged = [
            (name, of_text(fields, "advancedMeterGroupByFilters", name, condition))
            for name, condition in given.items()
        ]
    elif advanced is not None:
        fields.fault(
            "advancedMeterGroupByFilters", "invalid_value", "advancedMeterGroupByFilters must be an object."
        )
    if len(filters) + len(judged) > ours.FILTERS_MAX:
        fields.fault("filterGroupBy", "too_many", f"At most {ours.FILTERS_MAX} filters.")
    return tuple(filters), tuple(judged)


def _in(name: str, values: tuple[str, ...]) -> Filter:
    # OpenMeter reads a property that is missing as the empty text.
    if values == ("",):
        return Filter(name, Operator.EXISTS, ("false",))
    return Filter(name, Operator.IN, values)


async def _rows(request: Connection, system: System, meter: Meter, asked: Asked) -> list[Row]:
    """Everything that was asked for, by window."""
    who = caller(request)
    await taking.caught_up(system)
    people: list[Customer | None] = [None]
    if asked.customers:
        people = list(await customers_of(system, who.tenant, asked.customers))
    rows: list[Row] = []
    for person in people:
        question = _question(who.tenant, meter, asked, person)
        question = await ours.narrowed(system, who.tenant, who.customer, question)
        question = await _met(system, meter, question, asked)
        if question.from_us is None or question.to_us is None:
            extent = await _extent(system, meter, question)
            if extent is None:
                rows += _nothing(meter, asked, question)
                continue
            from_us, to_us = extent
            question = replace(
                question,
                from_us=from_us if question.from_us is None else question.from_us,
                to_us=to_us if question.to_us is None else question.to_us,
            )
        found = (await usage(system, question)).rows
        if not found:
            rows += _nothing(meter, asked, question)
        rows += [_row(_whole(row, question), asked, person) for row in found]
    rows.sort(key=lambda one: one.row.window_start_us)
    return rows


def _question(tenant: str, meter: Meter, asked: Asked, person: Customer | None) -> UsageRequest:
    filters = list(asked.filters)
    if asked.subjects:
        filters.append(Filter("subject", Operator.IN, asked.subjects))
    if person is not None:
        filters.append(Filter("subject", Operator.IN, (*person.subjects, person.key)))
    return UsageRequest(
        tenant=tenant,
        meter=meter.key,
        from_us=asked.from_us,
        to_us=asked.to_us,
        window=None if asked.window is None else WINDOWS[asked.window],
        timezone=asked.zone,
        group_by=(*(("subject",) if asked.by_subject else ()), *asked.group_by),
        filters=tuple(filters),
    )


async def _met(system: System, meter: Meter, question: UsageRequest, asked: Asked) -> UsageRequest:
    """The question, with conditions on names as the values that meet them, of those there are."""
    for name, accepts in asked.conditions:
        plain = replace(question, window=None, timezone="UTC", group_by=(name,))
        from_us, to_us = _furthest(system, meter, question)
        plain = replace(plain, from_us=from_us, to_us=to_us)
        values = {row.group[0] or "" for row in (await usage(system, plain)).rows}
        if accepts(""):
            # This lets what has no such property pass.
            met = Filter(name, Operator.NOT_IN, tuple(sorted(filter(lambda one: not accepts(one), values))))
        else:
            met = Filter(name, Operator.IN, tuple(sorted(filter(accepts, values))))
        if met.operands or met.operator is Operator.IN:
            question = replace(question, filters=(*question.filters, met))
    return question


def _whole(row: UsageRow, question: UsageRequest) -> UsageRow:
    """A row under the bounds of its window, where the range has cut it."""
    if question.window is None:
        return row
    start_us, end_us = row.window_start_us, row.window_end_us
    if start_us != question.from_us and end_us != question.to_us:
        return row
    margin_us = _SPANS_US[question.window] + _CLOCKS_US
    borders = edges(
        start_us - margin_us,
        end_us + margin_us,
        Window(question.window),
        question.timezone,
        windows_max=10_000,
    )[1:-1]
    before = max(border for border in borders if border <= start_us)
    after = min(border for border in borders if border >= end_us)
    return replace(row, window_start_us=before, window_end_us=after)


def _row(row: UsageRow, asked: Asked, person: Customer | None) -> Row:
    group = list(row.group)
    subject = group.pop(0) if asked.by_subject else None
    groups = tuple(value or "" for value in group)
    return Row(row, subject, None if person is None else id_of(person), groups)


def _nothing(meter: Meter, asked: Asked, question: UsageRequest) -> list[Row]:
    """A count of nothing is a row of 0 where one total is asked for; the others have none."""
    if asked.window is not None or question.group_by or asked.by_customer:
        return []
    if meter.aggregation not in (Aggregation.COUNT, Aggregation.UNIQUE_COUNT):
        return []
    start_us = asked.from_us or 0
    end_us = asked.to_us if asked.to_us is not None else start_us
    return [Row(UsageRow(start_us, end_us, (), Decimal(0)), None, None, ())]


def _furthest(system: System, meter: Meter, question: UsageRequest) -> tuple[int, int]:
    """The range of a question; where it has no end, as far as there can be events."""
    kept_us = system.recorder.forgotten_before(meter.tenant, meter.event_type) or 0
    ahead_us = system.clock.now_us() + system.settings.future_tolerance_s * 1_000_000 + DAY_US
    return (
        kept_us if question.from_us is None else question.from_us,
        ahead_us if question.to_us is None else question.to_us,
    )


async def _extent(system: System, meter: Meter, question: UsageRequest) -> tuple[int, int] | None:
    """The whole minutes from the first usage of a question to the last; None: there is none."""
    first = last = _furthest(system, meter, question)
    if first[0] >= first[1]:
        return None
    plain = replace(question, group_by=(), timezone="UTC")
    for window in _ZOOM:
        found = (await usage(system, replace(plain, from_us=first[0], to_us=first[1], window=window))).rows
        if not found:
            return None
        ends = found
        if last != first:
            ends = (await usage(system, replace(plain, from_us=last[0], to_us=last[1], window=window))).rows
        first = (found[0].window_start_us, found[0].window_end_us)
        last = (ends[-1].window_start_us, ends[-1].window_end_us)
    return first[0], last[1]


_RESULT = objects(
    {
        "from": TIME,
        "to": TIME,
        "windowSize": {"type": "string", "enum": list(WINDOWS)},
        "data": array(
            objects(
                {
                    "value": {"type": "number"},
                    "windowStart": TIME,
                    "windowEnd": TIME,
                    "subject": nullable(STRING),
                    "customerId": nullable(STRING),
                    "groupBy": {"type": "object", "additionalProperties": nullable(STRING)},
                }
            )
        ),
    },
    required=("data",),
)
_CSV = {CSV: {"schema": STRING}}


async def _answer(request: Connection, fields: Fields) -> Response[bytes]:
    system, who = wire.system_of(request), caller(request)
    kind = chosen(request.headers.get("accept"), (JSON, CSV))
    asked = _asked(fields)
    fields.finish()
    meter = await meter_of(system, who.tenant, request.path_params["id_or_slug"])
    rows = await _rows(request, system, meter, asked)
    zone = zone_of(asked.zone)
    if kind == CSV:
        body, media_type = _csv(rows, asked, zone), CSV
        headers = {"Content-Disposition": f'attachment; filename="{meter.key}.csv"'}
    else:
        body, media_type = msgspec.json.encode(_document(rows, asked, zone)), JSON
        headers = {}
    return Response(body, media_type=media_type, status_code=200, headers=headers)


def _document(rows: list[Row], asked: Asked, zone: ZoneInfo) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if asked.from_us is not None:
        made["from"] = time_text(asked.from_us)
    if asked.to_us is not None:
        made["to"] = time_text(asked.to_us)
    if asked.window is not None:
        made["windowSize"] = asked.window
    made["data"] = [
        {
            "value": msgspec.Raw(_figure(one.row).encode()),
            "windowStart": time_text(one.row.window_start_us, zone),
            "windowEnd": time_text(one.row.window_end_us, zone),
            "subject": one.subject,
            "customerId": one.customer,
            "groupBy": dict(zip(asked.group_by, one.groups, strict=False)),
        }
        for one in rows
    ]
    return made


def _csv(rows: list[Row], asked: Asked, zone: ZoneInfo) -> bytes:
    written = io.StringIO()
    table = csv.writer(written, lineterminator="\n")
    head = ["window_start", "window_end", *(["subject"] if asked.by_subject else [])]
    table.writerow([*head, *(["customer_id"] if asked.by_customer else []), *asked.group_by, "value"])
    for one in rows:
        cells: list[str] = [time_text(one.row.window_start_us, zone), time_text(one.row.window_end_us, zone)]
        cells += [one.subject or ""] if asked.by_subject else []
        cells += [one.customer or ""] if asked.by_customer else []
        table.writerow([*cells, *one.groups, _figure(one.row)])
    return written.getvalue().encode()


def _figure(row: UsageRow) -> str:
    return "0" if row.value is None else wire.decimal_text(row.value)


_PARAMETERS = [
    query("from", "Inclusive. Absent: from the first usage on.", schema=TIME),
    query("to", "Exclusive. Absent: to the last usage.", schema=TIME),
    query("windowSize", "Absent: one total.", schema={"type": "string", "enum": list(WINDOWS)}),
    query("windowTimeZone", "IANA zone of the windows, UTC by default."),
    query("subject", "Of these subjects, and by subject.", repeated=True),
    query("filterCustomerId", "Of these customers, by id or key, and by customer.", repeated=True),
    query("filterGroupBy", "As `filterGroupBy[model]=a`, or an object in JSON."),
    query("advancedMeterGroupByFilters", 'JSON: `{"model":{"$in":["a"]}}`.'),
    query("groupBy", "`subject`, `customer_id` or names of the meter.", repeated=True),
    query("clientId", "Ignored."),
]


@get(
    f"{BASE}/v1/meters/{{id_or_slug:str}}/query",
    guards=[require("usage:read")],
    opt={
        "operation": operation_of(
            summary="Query a meter (OpenMeter)",
            parameters=_PARAMETERS,
            answer=_RESULT,
            answer_types=_CSV,
            errors=(406,),
        )
    },
)
async def query_meter(request: Connection) -> Response[bytes]:
    """JSON, or CSV where `Accept` asks for it."""
    return await _answer(request, Fields.of_query(request))


@post(
    f"{BASE}/v1/meters/{{id_or_slug:str}}/query",
    guards=[require("usage:read")],
    status_code=200,
    opt={
        "operation": operation_of(
            summary="Query a meter with a body (OpenMeter)",
            body=objects(
                {
                    "from": nullable(TIME),
                    "to": nullable(TIME),
                    "windowSize": nullable({"type": "string", "enum": list(WINDOWS)}),
                    "windowTimeZone": nullable(STRING),
                    "subject": nullable(array(STRING)),
                    "filterCustomerId": nullable(array(STRING)),
                    "filterGroupBy": nullable({"type": "object", "additionalProperties": array(STRING)}),
                    "advancedMeterGroupByFilters": nullable({"type": "object"}),
                    "groupBy": nullable(array(STRING)),
                    "clientId": nullable(STRING),
                },
                required=(),
            ),
            body_example={"windowSize": "DAY", "groupBy": ["model"]},
            answer=_RESULT,
            answer_types=_CSV,
            errors=(406,),
        )
    },
)
async def post_query(request: Connection) -> Response[bytes]:
    """As `query_meter`."""
    return await _answer(request, await Fields.of_body(request, nulls=False))


async def _values(request: Connection, name: str) -> list[str]:
    """The values usage has for a group, within `from` and `to`."""
    system, who = wire.system_of(request), caller(request)
    fields = Fields.of_query(request)
    from_us, to_us = fields.time_us("from"), fields.time_us("to")
    fields.finish()
    meter = await meter_of(system, who.tenant, request.path_params["id_or_slug"])
    by_subject = name == "subject"
    groups = () if by_subject else (name,)
    asked = Asked(from_us, to_us, None, "UTC", (), (), by_subject, False, groups, ())
    rows = await _rows(request, system, meter, asked)
    values = {one.subject if by_subject else one.groups[0] if one.groups else None for one in rows}
    return sorted(value for value in values if value)


_RANGE = [query("from", "Inclusive.", schema=TIME), query("to", "Exclusive.", schema=TIME)]


@get(
    f"{BASE}/v1/meters/{{id_or_slug:str}}/subjects",
    guards=[require("usage:read")],
    opt={
        "operation": operation_of(
            summary="Subjects of a meter (OpenMeter)", parameters=_RANGE, answer=array(STRING)
        )
    },
)
async def meter_subjects(request: Connection) -> list[str]:
    """Those with usage."""
    return await _values(request, "subject")


@get(
    f"{BASE}/v1/meters/{{id_or_slug:str}}/group-by/{{group:str}}/values",
    guards=[require("usage:read")],
    opt={
        "operation": operation_of(
            summary="Values of a meter's group (OpenMeter)", parameters=_RANGE, answer=array(STRING)
        )
    },
)
async def group_values(request: Connection) -> list[str]:
    """Those with usage."""
    return await _values(request, request.path_params["group"])


ROUTES = [query_meter, post_query, meter_subjects, group_values]
