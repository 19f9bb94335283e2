"""`GET /v1/customers/{key}/invoice_forecast`: what the open period will probably cost."""

import json
from collections.abc import Sequence
from typing import Any

from litestar import Request, get
from litestar.types import ControllerRouterHandler

from tallystick.api import wire
from tallystick.api.auth import caller, require
from tallystick.api.fields import Fields
from tallystick.api.forecasts import LEVEL_DEFAULT, LEVEL_LEAST, LEVEL_MOST, read_level
from tallystick.api.invoices import INVOICE, preview_document
from tallystick.api.openapi import DECIMAL, STRING, TIME, array, nullable, objects, operation, query
from tallystick.flows.billing.foresee import Ahead, Foreseen, foresee
from tallystick.flows.billing.paying import foreseen
from tallystick.flows.customers import narrowed
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions

Connection = Request[Any, Any, Any]

NOT_FORESEEN = {
    "no_history": "There is no usage to continue.",
    "not_additive": "The meter's windows do not add up.",
    "no_transactions": "The price knows each transaction, and there is none yet to go by.",
    "past_retention": "The facts of the period are deleted.",
}
_AHEAD = objects(
    {
        "meter": STRING,
        "filter": nullable(STRING),
        "from": TIME,
        "to": TIME,
        "method": STRING,
        **dict.fromkeys(("value", "low", "high"), DECIMAL),
        "reason": nullable({"type": "string", "enum": list(NOT_FORESEEN)}),
        "detail": nullable(STRING),
    }
)
_INVOICE_FORECAST = objects(
    {
        "customer": STRING,
        "subscription": STRING,
        "period": objects({"from": TIME, "to": TIME}),
        "currency": STRING,
        "approximate": {"type": "boolean", "const": True},
        "level": {"type": "integer"},
        **dict.fromkeys(("total", "low", "high", "so_far"), DECIMAL),
        "ahead": array(
            _AHEAD,
            description="What is still to come of each charge's usage; with a `reason`, nothing is foreseen of it, and what "
            "was used so far stands.",
        ),
        "invoice": {**INVOICE, "description": "The period's invoice with usage as expected."},
    }
)


def invoice_forecast_document(system: System, tenant: str, made: Foreseen, level: int) -> dict[str, Any]:
    """One period on the wire. Totals are with tax, before credits."""
    frozen = json.loads(made.expected.document)
    applied = foreseen(system, tenant, frozen, now_us=system.clock.now_us())
    return {
        **{name: frozen[name] for name in ("customer", "subscription", "period", "currency")},
        "approximate": True,
        "level": level,
        "total": frozen["total"],
        "low": json.loads(made.low.document)["total"],
        "high": json.loads(made.high.document)["total"],
        "so_far": json.loads(made.so_far.document)["total"],
        "ahead": [_ahead(one) for one in made.ahead],
        "invoice": preview_document(frozen, applied),
    }


def _ahead(one: Ahead) -> dict[str, Any]:
    return {
        "meter": one.question.meter,
        "filter": one.question.filter,
        "from": wire.time_text(one.question.from_us),
        "to": wire.time_text(one.question.to_us),
        "method": one.method,
        "value": wire.decimal_text(one.value),
        "low": wire.decimal_text(one.low),
        "high": wire.decimal_text(one.high),
        "reason": one.reason,
        "detail": None if one.reason is None else NOT_FORESEEN[one.reason],
    }


@get(
    "/v1/customers/{key:str}/invoice_forecast",
    guards=[require("billing:read")],
    opt={
        "operation": operation(
            summary="Forecast of the coming invoice",
            tag="Invoices",
            description="What the open period will probably cost when it ends: usage so far, and what is to come of each charge, "
            "rated as every invoice is. `low` to `high`: all charges at their low, and all at their high end. `so_far`: the "
            "total if nothing more were used. Totals are with tax, before credits. Of several subscriptions the oldest stands "
            "first, the others in `others`.",
            parameters=[
                query("subscription", "Of this subscription (its id or key)."),
                query(
                    "level",
                    "Percent of the interval of each charge's usage.",
                    schema={
                        "type": "integer",
                        "minimum": LEVEL_LEAST,
                        "maximum": LEVEL_MOST,
                        "default": LEVEL_DEFAULT,
                    },
                ),
            ],
            answer=objects(
                {**_INVOICE_FORECAST["properties"], "others": array(_INVOICE_FORECAST)},
                required=_INVOICE_FORECAST["required"],
            ),
        )
    },
)
async def forecast_of_invoice(request: Connection) -> dict[str, Any]:
    """Nothing is kept."""
    system, who = wire.system_of(request), caller(request)
    fields = Fields.of_query(request)
    subscription, level = fields.text("subscription"), read_level(fields)
    fields.finish()
    key: str = request.path_params["key"]
    await in_questions(system, lambda: narrowed(system.catalog, who.tenant, who.customer, (key,)))
    found = await foresee(system, who.tenant, key, subscription=subscription, level=level / 100)
    first, *others = await in_questions(
        system, lambda: [invoice_forecast_document(system, who.tenant, one, level) for one in found]
    )
    return {**first, "others": others} if others else first


ROUTES: Sequence[ControllerRouterHandler] = (forecast_of_invoice,)
