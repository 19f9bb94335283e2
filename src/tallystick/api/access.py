"""Who administers what: guards that are not about a scope."""

from typing import Any

from litestar import Request

from tallystick.api import wire
from tallystick.api.auth import caller
from tallystick.catalog.interface import DEFAULT_TENANT
from tallystick.errors import Forbidden
from tallystick.flows import customers
from tallystick.flows.system import System

Connection = Request[Any, Any, Any]


def administered(request: Connection) -> tuple[System, str]:
    """System and tenant of a caller who is bound to no customer. Raises Forbidden (customer_token)."""
    who = caller(request)
    customers.check_unbound(who.customer)
    return wire.system_of(request), who.tenant


def installation(request: Connection) -> System:
    """The system, for a caller of the tenant `default`. Raises Forbidden (other_tenant, customer_token)."""
    system, tenant = administered(request)
    if tenant != DEFAULT_TENANT:
        raise Forbidden(f"Only an admin of the tenant {DEFAULT_TENANT!r} may do that.", code="other_tenant")
    return system
