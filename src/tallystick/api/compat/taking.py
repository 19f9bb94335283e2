"""Events on their way in from a vendor's route, and questions that see them at once."""

from collections.abc import Mapping
from typing import Any

from litestar import Request

from tallystick.api.auth import Authenticator, caller
from tallystick.api.ingest import ClientGoneError, Ingest
from tallystick.errors import BadRequest
from tallystick.flows import customers
from tallystick.flows.recording import Outcome
from tallystick.flows.system import System
from tallystick.metering.decode import Decoded
from tallystick.metering.position import Positions

Connection = Request[Any, Any, Any]


def ingest_of(request: Connection) -> Ingest:
    """The way in. Refuses a customer's token, and a tenant that sends more than it may."""
    who = caller(request)
    customers.check_unbound(who.customer)
    authenticator: Authenticator = request.app.state["authenticator"]
    if authenticator.rates.limits_events:
        authenticator.rates.check_events(who.tenant)
    return request.app.state["ingest"]


async def body_of(request: Connection) -> bytes:
    """The body of a request that sends events, unpacked. Raises what the ingest route raises."""
    try:
        return await ingest_of(request).body(dict(request.scope["headers"]), request.receive)
    except ClientGoneError:
        raise BadRequest("The body ended before it was complete; nothing was stored.") from None


async def judged(
    request: Connection,
    body: bytes,
    *,
    content_type: str = "application/json",
    ce_headers: Mapping[str, str] | None = None,
) -> Decoded:
    """The events of a body in one of our own forms (metering/decode.py), each judged; nothing is stored yet."""
    return await ingest_of(request).judged(
        body, content_type=content_type, ce_headers=ce_headers or {}, tenant=caller(request).tenant
    )


async def stored(request: Connection, decoded: Decoded) -> Positions:
    """Make the accepted events durable."""
    authenticator: Authenticator = request.app.state["authenticator"]
    if authenticator.rates.limits_events:
        authenticator.rates.took_events(caller(request).tenant, len(decoded.events))
    return await ingest_of(request).stored(decoded, tenant=caller(request).tenant)


async def outcome_of(system: System, positions: Positions) -> Outcome | None:
    """Which of them were not new; None when the recorder does not get there in time."""
    return await system.recorder.outcome(positions, system.settings.wait_s_max)


async def caught_up(system: System) -> None:
    """Wait until what was acknowledged before now counts, so that a client that reads right after it wrote sees what it
    wrote, as it did at its vendor. When the recorder is far behind, the answer is of what is recorded."""
    vector = system.acknowledged
    if vector and any(vector):
        await system.recorder.wait_for(vector, system.settings.wait_s_max)
