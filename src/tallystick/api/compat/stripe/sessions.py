"""`POST /v2/billing/meter_event_session`: a token of a quarter of an hour that may send events, and nothing else."""

from typing import Any

from litestar import Request, post

from tallystick.api.auth import actor_of, caller, require
from tallystick.api.compat.stripe.shape import BASE, live_mode, operation_of
from tallystick.api.openapi import STRING, TIME, objects
from tallystick.api.wire import system_of
from tallystick.catalog.interface import NewToken
from tallystick.flows.customers import check_unbound
from tallystick.flows.usage import in_questions
from tallystick.metering.instant import instant_text

Connection = Request[Any, Any, Any]

LIFE_S = 15 * 60


@post(
    f"{BASE}/v2/billing/meter_event_session",
    guards=[require("events:write")],
    status_code=200,
    opt={
        "operation": operation_of(
            summary="Begin a session for the stream of meter events (Stripe)",
            description="The token ends with the session, and with the key that made it.",
            answer=objects(
                {
                    "id": STRING,
                    "object": STRING,
                    "authentication_token": STRING,
                    "created": TIME,
                    "expires_at": TIME,
                    "livemode": {"type": "boolean"},
                }
            ),
        )
    },
)
async def create_session(request: Connection) -> dict[str, Any]:
    """The secret is shown here only."""
    system, who = system_of(request), caller(request)
    check_unbound(who.customer)
    actor, now_us = actor_of(request), system.clock.now_us()
    ends_at_us = now_us + LIFE_S * 1_000_000
    if who.expires_at_us is not None:
        ends_at_us = min(ends_at_us, who.expires_at_us)

    def create() -> tuple[NewToken, bool]:
        made = system.catalog.create_token(
            who.tenant,
            kind="session",
            name="stripe meter event session",
            customer=None,
            scopes=["events:write"],
            issued_by=who.key_id,
            expires_at_us=ends_at_us,
            actor=actor,
            now_us=now_us,
        )
        return made, live_mode(system, who.tenant)

    made, livemode = await in_questions(system, create)
    return {
        "id": made.token.id,
        "object": "v2.billing.meter_event_session",
        "authentication_token": made.secret,
        "created": instant_text(now_us),
        "expires_at": instant_text(ends_at_us),
        "livemode": livemode,
    }


ROUTES = [create_session]
