"""Lago's API, as its Python and JavaScript clients, its agent SDK and LiteLLM use it: `/lago/api/v1/…`.

Source: lago-python-client 1.55.0, lago-javascript-client 1.53.0, lago-agent-sdk 0.3.1, and lago-api at 1b1c24a (read for
facts). Ids (UUIDs) are made from keys, so that they stay.
"""

from tallystick.api.compat.lago import customers, events, metrics, plans, subscriptions, usage
from tallystick.api.compat.lago.shape import error_of
from tallystick.api.compat.vendor import Vendor

VENDOR = Vendor(
    name="lago",
    routes=(*events.ROUTES, *metrics.ROUTES, *customers.ROUTES),
    billing_routes=(*plans.ROUTES, *subscriptions.ROUTES, *usage.ROUTES),
    error_of=error_of,
)
