"""`GET /v1/limits/{key}/forecast`: when a customer will probably have reached a limit."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from litestar import Request, Response, get
from litestar.types import ControllerRouterHandler

from tallystick.api import wire
from tallystick.api.auth import caller, require
from tallystick.api.fields import Fields
from tallystick.api.forecasts import (
    LEVEL_DEFAULT,
    LEVEL_LEAST,
    LEVEL_MOST,
    METER_FORECAST,
    forecast_document,
    reach_document,
    read_level,
)
from tallystick.api.forward import at_owner
from tallystick.api.openapi import KEY, TIME, objects, operation, query
from tallystick.catalog.alerting import AlertCatalog
from tallystick.errors import Fault, Invalid, NotFound, Unavailable
from tallystick.flows.customers import narrowed
from tallystick.flows.forecast import ForecastRequest, Reach, forecast, reach
from tallystick.flows.limits.asked import AskedGate
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions
from tallystick.limits.limit import conditions_of
from tallystick.limits.standing import Standing

Connection = Request[Any, Any, Any]

_HOUR_US = 3_600_000_000
_ANSWER = objects(
    {
        "limit": KEY,
        "period": objects({"from": TIME, "to": TIME}),
        "reset_at": TIME,
        **METER_FORECAST["properties"],
    },
    required=("limit", "period", "reach", *METER_FORECAST["required"]),
)


@get(
    "/v1/limits/{key:str}/forecast",
    guards=[require("limits:check")],
    opt={
        "operation": operation(
            summary="When a limit will be reached",
            tag="Limits",
            description="The usage that a limit counts, continued to the end of its present period. `reach` says when it comes "
            "to what the customer may use (raises and carry-over included; what reservations hold is not counted): `at` "
            "probably, `earliest` and `latest` by the interval of `level`; null where the period ends before. Limits of a "
            "meter by day, week, month or billing period; of money see the forecast of the invoice.",
            parameters=[
                query("customer", "Whose. A customer's own token needs to name nobody.", example="acme"),
                query(
                    "level",
                    "Percent of what comes that `low` to `high` holds.",
                    schema={
                        "type": "integer",
                        "minimum": LEVEL_LEAST,
                        "maximum": LEVEL_MOST,
                        "default": LEVEL_DEFAULT,
                    },
                ),
            ],
            answer=_ANSWER,
            errors=(404, 504),
        )
    },
)
async def forecast_of_limit(request: Connection) -> Response[Any]:
    """Of one customer, in the present period."""
    system, who = wire.system_of(request), caller(request)
    fields = Fields.of_query(request)
    customer, level = fields.text("customer") or who.customer, read_level(fields)
    if customer is None:
        fields.fault("customer", "missing", "customer is required: a limit is reached by each by itself.")
    fields.finish()
    assert customer is not None
    key: str = request.path_params["key"]
    await in_questions(system, lambda: narrowed(system.catalog, who.tenant, who.customer, (customer,)))

    async def local(gate: AskedGate) -> Response[Any]:
        standings = await gate.standings(who.tenant, customer)
        standing = next((one for one in standings if one.limit.key == key), None)
        if standing is None:
            detail = f"There is no limit {key[:80]!r} that concerns the customer {customer[:80]!r} now."
            raise NotFound(detail, code="limit_not_found")
        return Response(await _foreseen(system, who.tenant, customer, standing, level))

    return await at_owner(request, local)


async def _foreseen(
    system: System, tenant: str, customer: str, standing: Standing, level: int
) -> dict[str, Any]:
    limit, window = standing.limit, standing.window
    if limit.meter is None or limit.period.kind == "rolling":
        detail = (
            "A limit of money has no forecast of its own: ask for the invoice's."
            if limit.meter is None
            else "What a rolling limit counts leaves it again: there is no moment it adds up to."
        )
        raise Invalid(detail, code="not_additive", faults=[Fault("key", "not_additive", detail)])
    if not standing.known:
        raise Unavailable("The usage of the customer cannot be known now. Try again.", retry_after_s=2)
    zones = await in_questions(
        system, lambda: cast("AlertCatalog", system.catalog).customer_zones(tenant, [customer])
    )
    wanted = ForecastRequest(
        tenant=tenant,
        meter=limit.meter,
        horizon_us=max(window.to_us - system.clock.now_us(), _HOUR_US),
        timezone=zones.get(customer, "UTC"),
        customers=(customer,),
        filters=conditions_of(limit.filter),
        level=level / 100,
    )
    made = await forecast(system, wanted)
    found = await reach(system, wanted, made, standing.amount, window.from_us)
    return {
        "limit": limit.key,
        "period": {"from": wire.time_text(window.from_us), "to": wire.time_text(window.to_us)},
        "reset_at": wire.time_text(standing.reset_us),
        **forecast_document(made, (customer,), level),
        "reach": reach_document(_within(found, window.to_us)),
    }


def _within(found: Reach, end_us: int) -> Reach:
    """What lies beyond the period's end is not reached: counting begins anew there."""

    def before(at_us: int | None) -> int | None:
        return None if at_us is None or at_us >= end_us else at_us

    return replace(
        found,
        at_us=before(found.at_us),
        earliest_us=before(found.earliest_us),
        latest_us=before(found.latest_us),
    )


ROUTES: Sequence[ControllerRouterHandler] = (forecast_of_limit,)
