"""`POST /v1/usage/query`: several meters side by side, and a formula over them."""

import dataclasses
from decimal import Decimal
from typing import Any, cast

import msgspec
from litestar import Request, Response, post

from tallystick.api import wire
from tallystick.api.auth import caller, require
from tallystick.api.fields import Fields
from tallystick.api.openapi import (
    DECIMAL,
    POSITION,
    STRING,
    TIME,
    array,
    nullable,
    objects,
    operation,
)
from tallystick.api.usage import (
    BODY_PROPERTIES,
    GROUP,
    MEMBERS,
    SERVED_FROM,
    check_kept,
    check_names,
    check_range,
    narrowed,
    read_request,
)
from tallystick.flows.formula import METERS_MAX, FormulaAnswer, check_aligned, formula_usage
from tallystick.flows.position import token_of
from tallystick.flows.usage import UsageRequest, definition, in_questions
from tallystick.metering.formula import (
    ALIAS_PATTERN,
    FORMULA_CHARACTERS_MAX,
    Formula,
    FormulaError,
    is_alias,
    parse_formula,
)

Connection = Request[Any, Any, Any]

# Each meter would keep other groups.
_NOT_HERE = frozenset({"order_by", "limit"})


def formula_json(answer: FormulaAnswer, formula: Formula | None) -> bytes:
    """The answer on the wire."""
    first = next(iter(answer.answers.values()))
    return msgspec.json.encode(
        {
            "meters": {
                alias: {
                    "meter": one.meter.key,
                    "version": one.meter.version,
                    "aggregation": str(one.meter.aggregation),
                    "unit": one.meter.unit,
                }
                for alias, one in answer.answers.items()
            },
            "formula": None if formula is None else formula.text,
            "from": wire.time_text(first.from_us),
            "to": wire.time_text(first.to_us),
            "window": first.window,
            "timezone": first.timezone,
            "rows": [
                {
                    "window_start": wire.time_text(row.window_start_us),
                    "window_end": wire.time_text(row.window_end_us),
                    "group": dict(zip(answer.group_by, row.group, strict=True)),
                    "values": {alias: _text(value) for alias, value in row.values.items()},
                    "value": _text(row.value),
                }
                for row in answer.rows
            ],
            "position": token_of(answer.position),
            "served_from": {alias: one.served_from for alias, one in answer.answers.items()},
        }
    )


def _text(value: Decimal | None) -> str | None:
    return wire.optional_decimal_text(value)


class _Places:
    """Notes a fault of one meter's question where the client wrote the member: with the meter, or beside them all."""

    def __init__(self, own: Fields, shared: Fields) -> None:
        self._own, self._shared = own, shared

    def fault(self, name: str, code: str, detail: str, *steps: str) -> None:
        place = self._own if name in self._own.names() else self._shared
        place.fault(name, code, detail, *steps)


def _questions(fields: Fields, tenant: str) -> tuple[dict[str, UsageRequest], dict[str, _Places]]:
    """The questions by alias. A member that a meter does not have is that beside `meters`."""
    shared = read_request(fields, tenant=tenant, meter="", without=_NOT_HERE | {"version"})
    raw = fields.take("meters")
    if not isinstance(raw, dict) or not 0 < len(cast("dict[str, Any]", raw)) <= METERS_MAX:
        fields.fault(
            "meters", "invalid_value", f"meters must be an object of 1 to {METERS_MAX} meters by their alias."
        )
        return {}, {}
    questions: dict[str, UsageRequest] = {}
    places: dict[str, _Places] = {}
    for alias, members in cast("dict[str, Any]", raw).items():
        if not is_alias(alias):
            detail = f"meters: {alias[:64]!r} is no name for a formula: {ALIAS_PATTERN}, and no function."
            fields.fault("meters", "invalid_alias", detail, alias[:64])
        if not isinstance(members, dict):
            detail = f'meters: {alias[:64]!r} must be an object such as {{"meter": "tokens"}}.'
            fields.fault("meters", "invalid_value", detail, alias[:64])
            continue
        own = fields.within(cast("dict[str, Any]", members), "meters", alias[:64])
        meter = own.required_text("meter")
        asked = read_request(own, tenant=tenant, meter=meter, without=_NOT_HERE)
        own.close()
        said = {
            attribute: getattr(asked, attribute)
            for name, (attribute, _) in MEMBERS.items()
            if name in own.names() and name not in _NOT_HERE
        }
        questions[alias] = dataclasses.replace(shared, meter=meter, **said)
        places[alias] = _Places(own, fields)
    return questions, places


def _formula(fields: Fields, aliases: tuple[str, ...]) -> Formula | None:
    text = fields.take("formula")
    if text is None:
        return None
    if not isinstance(text, str):
        fields.fault("formula", "invalid_formula", "formula must be a string such as a / b * 100.")
        return None
    try:
        return parse_formula(text, aliases)
    except FormulaError as error:
        fields.fault("formula", "invalid_formula", f"formula, {error.detail}")
        return None


@post(
    "/v1/usage/query",
    guards=[require("usage:read")],
    status_code=200,
    opt={
        "operation": operation(
            summary="Usage of several meters, and a formula over it",
            tag="Usage",
            description="Every parameter of usage but `order_by` and `limit` may stand beside `meters`, for all, or with a "
            "meter, for this one; the range, the window, the zone and `as_of` must be the same for all. Rows are joined by "
            "window and group; a meter grouped by nothing stands beside every group. All are asked as of the same moment. "
            "A figure that a meter lacks is null, or 0 with `fill=zero` where figures add up. See docs/howto/formulas.md.",
            body=objects(
                {
                    **{
                        name: schema
                        for name, schema in BODY_PROPERTIES.items()
                        if name not in {*_NOT_HERE, "version", "compare"}
                    },
                    "meters": {
                        "type": "object",
                        "minProperties": 1,
                        "maxProperties": METERS_MAX,
                        "propertyNames": {"pattern": ALIAS_PATTERN},
                        "additionalProperties": objects(
                            {
                                **{
                                    name: schema
                                    for name, schema in BODY_PROPERTIES.items()
                                    if name not in {*_NOT_HERE, "compare"}
                                },
                                "meter": STRING,
                            },
                            required=("meter",),
                            additionalProperties=False,
                        ),
                    },
                    "formula": nullable(
                        {
                            "type": "string",
                            "maxLength": FORMULA_CHARACTERS_MAX,
                            "description": "+ - * / and parentheses over numbers, aliases and min, max, abs, round, "
                            "coalesce. Exact to 36 digits after the point; a quotient is rounded half-even to 18, and null "
                            "where the divisor is 0.",
                        }
                    ),
                },
                required=("meters",),
                additionalProperties=False,
            ),
            body_example={
                "meters": {"errors": {"meter": "errors"}, "all": {"meter": "requests"}},
                "formula": "errors / all * 100",
                "window": "day",
                "group_by": ["customer"],
            },
            answer=objects(
                {
                    "meters": {
                        "type": "object",
                        "additionalProperties": objects(
                            {
                                "meter": STRING,
                                "version": {"type": "integer"},
                                "aggregation": STRING,
                                "unit": nullable(STRING),
                            }
                        ),
                    },
                    "formula": nullable(STRING),
                    "from": TIME,
                    "to": TIME,
                    "window": nullable(STRING),
                    "timezone": STRING,
                    "rows": array(
                        objects(
                            {
                                "window_start": TIME,
                                "window_end": TIME,
                                "group": GROUP,
                                "values": {"type": "object", "additionalProperties": nullable(DECIMAL)},
                                "value": nullable(DECIMAL),
                            }
                        )
                    ),
                    "position": POSITION,
                    "served_from": {"type": "object", "additionalProperties": SERVED_FROM},
                }
            ),
            errors=(404, 504),
        )
    },
)
async def query_usage(request: Connection) -> Response[bytes]:
    """Several meters, one formula."""
    system, who = wire.system_of(request), caller(request)
    fields = await Fields.of_body(request)
    questions, places = _questions(fields, who.tenant)
    formula = _formula(fields, tuple(questions))
    fields.close()
    if questions:
        fields.faults.attempt(lambda: check_aligned(questions), None)
        check_range(
            next(iter(places.values())),
            next(iter(questions.values())),
            now_us=system.clock.now_us(),
            windows_max=system.settings.usage_windows_max,
        )
    for alias, question in questions.items():
        if question.meter:
            meter = await in_questions(system, lambda q=question: definition(system, q))
            check_names(places[alias], question, meter)
            check_kept(system, places[alias], question, meter)
    fields.faults.raise_any()
    asked = {
        alias: await narrowed(system, who.tenant, who.customer, question)
        for alias, question in questions.items()
    }
    answer = await formula_usage(system, asked, formula)
    content = await in_questions(system, lambda: formula_json(answer, formula))
    headers = {"Tallystick-Position": token_of(answer.position)}
    return Response(content, media_type="application/json", headers=headers, status_code=200)


ROUTES = [query_usage]
