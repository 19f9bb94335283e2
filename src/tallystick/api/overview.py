"""`GET /v1/usage` (all meters of a customer) and `GET /v1/meters/{key}/rate` (how fast it is used now)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
from litestar import Request, Response, get

from tallystick.api import wire
from tallystick.api.auth import caller, require
from tallystick.api.fields import Fields
from tallystick.api.formats import usage_document
from tallystick.api.openapi import (
    DECIMAL,
    PAGE,
    POSITION,
    STRING,
    TIME,
    array,
    nullable,
    objects,
    operation,
    query,
)
from tallystick.api.usage import (
    GROUP,
    PARAMETERS,
    SERVED_FROM,
    USAGE,
    check_kept,
    check_names,
    check_range,
    narrowed,
    read_request,
)
from tallystick.flows.overview import overview, rate
from tallystick.flows.position import token_of
from tallystick.flows.system import System
from tallystick.flows.usage import definition, in_questions
from tallystick.metering.meter import Meter

Connection = Request[Any, Any, Any]

METERS_MAX = 100
"""Meters that may be named in one question, and meters on a page."""
MINUTES_MAX = 60

_OVERVIEW_WITHOUT = frozenset({"order_by", "limit", "version"})
_RATE_WITHOUT = frozenset({"from", "to", "window", "timezone", "fill", "as_of"})


@get(
    "/v1/usage",
    guards=[require("usage:read")],
    opt={
        "operation": operation(
            summary="Usage of all meters",
            tag="Usage",
            description="The same question to every meter, as of the same moment: an answer of usage for each, by key. "
            f"`limit` and `cursor` page through the meters (at most {METERS_MAX} a page).",
            parameters=[
                query("meter", "Only these meters.", repeated=True),
                *(
                    parameter
                    for name, parameter in PARAMETERS.items()
                    if name not in {*_OVERVIEW_WITHOUT, "compare"}
                ),
                query(
                    "limit",
                    "How many meters.",
                    schema={"type": "integer", "minimum": 1, "maximum": METERS_MAX, "default": METERS_MAX},
                ),
                PAGE[1],
            ],
            answer=objects(
                {
                    "items": array(USAGE),
                    "next_cursor": nullable(STRING),
                    "from": TIME,
                    "to": TIME,
                    "position": POSITION,
                }
            ),
            errors=(404, 504),
        )
    },
)
async def usage_of_all(request: Connection) -> Response[bytes]:
    """A page of meters, each with its usage."""
    system, who = wire.system_of(request), caller(request)
    fields = Fields.of_query(request)
    question = read_request(fields, tenant=who.tenant, meter="", without=_OVERVIEW_WITHOUT)
    named = fields.texts("meter", items_max=METERS_MAX)
    limit = fields.integer("limit", least=1, most=METERS_MAX) or METERS_MAX
    cursor = fields.text("cursor", characters_max=wire.CURSOR_LENGTH_MAX)
    fields.close()
    check_range(
        fields,
        question,
        now_us=system.clock.now_us(),
        windows_max=system.settings.usage_windows_max,
    )
    meters, next_cursor = await in_questions(
        system, lambda: _meters(system, who.tenant, named, cursor=cursor, limit=limit)
    )
    if question.configured_at_us is not None:
        asked = [replace(question, meter=meter.key) for meter in meters]
        meters = await in_questions(system, lambda: [definition(system, one) for one in asked])
    for meter in meters:
        check_names(fields, question, meter)
        check_kept(system, fields, question, meter)
    fields.faults.raise_any()
    question = await narrowed(system, who.tenant, who.customer, question)
    told = await overview(system, meters, question)
    document = {
        "items": [usage_document(answer) for answer in told.answers],
        "next_cursor": next_cursor,
        "from": wire.time_text(told.from_us),
        "to": wire.time_text(told.to_us),
        "position": token_of(told.position),
    }
    content = await in_questions(system, lambda: msgspec.json.encode(document))
    headers = {"Tallystick-Position": token_of(told.position)}
    return Response(content, media_type="application/json", headers=headers, status_code=200)


def _meters(
    system: System, tenant: str, named: Sequence[str] | None, *, cursor: str | None, limit: int
) -> tuple[Sequence[Meter], str | None]:
    if named is not None:
        return [system.catalog.meter(tenant, key) for key in named], None
    page = system.catalog.meters(tenant, cursor=cursor, limit=limit)
    return page.items, page.next_cursor


@get(
    "/v1/meters/{key:str}/rate",
    guards=[require("usage:read")],
    opt={
        "operation": operation(
            summary="The current rate of a meter",
            tag="Usage",
            description="What was used in the last whole minutes of the clock (the present one is not over, and not in "
            "it), and that divided by their seconds and minutes, rounded half-even to 18 digits. Events that arrive late "
            "are not in it yet. Only for count, sum, register and duration: other figures do not add up over time.",
            parameters=[
                query(
                    "minutes",
                    "How many whole minutes.",
                    schema={"type": "integer", "minimum": 1, "maximum": MINUTES_MAX, "default": 1},
                ),
                *(
                    parameter
                    for name, parameter in PARAMETERS.items()
                    if name not in {*_RATE_WITHOUT, "compare"}
                ),
            ],
            answer=objects(
                {
                    "meter": STRING,
                    "unit": nullable(STRING),
                    "from": TIME,
                    "to": TIME,
                    "minutes": {"type": "integer"},
                    "rows": array(
                        objects(
                            {
                                "group": GROUP,
                                "value": DECIMAL,
                                "per_second": DECIMAL,
                                "per_minute": DECIMAL,
                            }
                        )
                    ),
                    "position": POSITION,
                    "served_from": SERVED_FROM,
                }
            ),
            errors=(504,),
        )
    },
)
async def current_rate(request: Connection) -> dict[str, Any]:
    """Per second and per minute."""
    system, who = wire.system_of(request), caller(request)
    fields = Fields.of_query(request)
    question = read_request(
        fields, tenant=who.tenant, meter=request.path_params["key"], without=_RATE_WITHOUT
    )
    minutes = fields.integer("minutes", least=1, most=MINUTES_MAX) or 1
    fields.close()
    meter = await in_questions(
        system, lambda: system.catalog.meter(who.tenant, question.meter, question.version)
    )
    check_names(fields, question, meter)
    fields.faults.raise_any()
    question = await narrowed(system, who.tenant, who.customer, question)
    found = await rate(system, question, minutes=minutes)
    answer = found.answer
    return {
        "meter": answer.meter.key,
        "unit": answer.meter.unit,
        "from": wire.time_text(answer.from_us),
        "to": wire.time_text(answer.to_us),
        "minutes": found.minutes,
        "rows": [
            {
                "group": dict(zip(answer.group_by, row.group, strict=True)),
                "value": wire.optional_decimal_text(row.value),
                "per_second": wire.decimal_text(per_second),
                "per_minute": wire.decimal_text(per_minute),
            }
            for row, per_second, per_minute in found.rows
        ],
        "position": token_of(answer.position),
        "served_from": answer.served_from,
    }


ROUTES = [usage_of_all, current_rate]
