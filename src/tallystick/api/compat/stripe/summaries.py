"""`GET /v1/billing/meters/{id}/event_summaries`: a customer's usage, newest window first."""

from decimal import Decimal
from typing import Any

import msgspec
from litestar import Request, Response, get
from xxhash import xxh3_128_hexdigest

from tallystick.api import wire
from tallystick.api.auth import caller, require
from tallystick.api.compat import taking
from tallystick.api.compat.stripe.meter_events import customer_of
from tallystick.api.compat.stripe.meters import PATH, meter_with
from tallystick.api.compat.stripe.parameters import SECONDS_END, Parameters
from tallystick.api.compat.stripe.shape import (
    LIST_PARAMETERS,
    listing_of,
    live_mode,
    operation_of,
    paged,
    read_page,
    seconds,
)
from tallystick.api.openapi import STRING, objects, query
from tallystick.errors import NotFound
from tallystick.flows import customers
from tallystick.flows.usage import UsageRequest, in_questions, usage
from tallystick.metering.meter import Meter

Connection = Request[Any, Any, Any]

_ALIGNED_S = {None: 60, "hour": 3600, "day": 86_400}
_INTEGER = {"type": "integer"}
_SUMMARY = objects(
    {
        "id": STRING,
        "object": STRING,
        "aggregated_value": {"type": "number"},
        "start_time": _INTEGER,
        "end_time": _INTEGER,
        "livemode": {"type": "boolean"},
        "meter": STRING,
    }
)


@get(
    f"{PATH}/{{id:str}}/event_summaries",
    guards=[require("usage:read")],
    opt={
        "operation": operation_of(
            summary="A customer's usage (Stripe)",
            description="One summary of the range, or one for each window that has events.",
            parameters=[
                query("customer", "The customer's id."),
                query("start_time", "Unix time, inclusive, of a whole minute (hour, day).", schema=_INTEGER),
                query("end_time", "Unix time, exclusive, of a whole minute (hour, day).", schema=_INTEGER),
                query("value_grouping_window", "`hour` or `day`, of UTC."),
                *LIST_PARAMETERS,
            ],
            answer=listing_of(_SUMMARY),
        )
    },
)
async def list_summaries(request: Connection) -> Response[bytes]:
    """What was acknowledged before counts."""
    system, who = wire.system_of(request), caller(request)
    parameters = Parameters.of_query(request)
    page = read_page(parameters)
    customer = parameters.text("customer", required=True, characters_max=256) or ""
    window = parameters.choice("value_grouping_window", tuple(name for name in _ALIGNED_S if name))
    start_s = parameters.integer("start_time", least=0, most=SECONDS_END - 1, required=True)
    end_s = parameters.integer("end_time", least=0, most=SECONDS_END - 1, required=True)
    for name, at_s in (("start_time", start_s), ("end_time", end_s)):
        if at_s is not None and at_s % _ALIGNED_S[window]:
            unit = window or "minute"
            parameters.fault(name, "invalid_value", f"{name} must be aligned with {unit} boundaries.")
    if start_s is not None and end_s is not None and end_s <= start_s:
        parameters.fault("end_time", "empty_range", "end_time must be later than start_time.")
    parameters.finish()
    assert start_s is not None
    assert end_s is not None
    await taking.caught_up(system)
    meter_id: str = request.path_params["id"]

    def read() -> tuple[Meter, str, bool]:
        meter = meter_with(system, who.tenant, meter_id)
        key = customer_of(system.catalog, who.tenant, customer)
        customers.narrowed(system.catalog, who.tenant, who.customer, (key,))
        try:
            system.catalog.customer(who.tenant, key)
        except NotFound:
            raise wire.invalid("customer", "not_found", f"No such customer: '{customer}'") from None
        return meter, key, live_mode(system, who.tenant)

    meter, key, livemode = await in_questions(system, read)
    answer = await usage(
        system,
        UsageRequest(
            tenant=who.tenant,
            meter=meter.key,
            from_us=start_s * 1_000_000,
            to_us=end_s * 1_000_000,
            window=window,
            customers=(key,),
        ),
    )

    def summary(start_us: int, end_us: int, value: Decimal | None) -> dict[str, Any]:
        text = f"{meter.key}\0{key}\0{start_us}\0{end_us}"
        return {
            "id": f"mtrusg_{xxh3_128_hexdigest(text.encode())}",
            "object": "billing.meter_event_summary",
            "aggregated_value": msgspec.Raw(wire.decimal_text(value or Decimal(0)).encode()),
            "start_time": seconds(start_us),
            "end_time": seconds(end_us),
            "livemode": livemode,
            "meter": meter_id,
        }

    found = [summary(row.window_start_us, row.window_end_us, row.value) for row in reversed(answer.rows)]
    if window is None and not found:
        found = [summary(answer.from_us, answer.to_us, None)]
    url = f"/v1/billing/meters/{meter_id}/event_summaries"
    listed = paged(found, page, url, id_of=lambda one: one["id"])
    return Response(msgspec.json.encode(listed), media_type="application/json", status_code=200)


ROUTES = [list_summaries]
