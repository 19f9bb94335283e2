"""OpenMeter's API, as its Python and JavaScript clients and LiteLLM use it: `/openmeter/api/v1/…`.

Source: the clients 1.0.0b236 (Python) and 1.0.0-beta.232 (JavaScript), and openmeterio/openmeter at 7e57a394. A meter's
slug is our key, an event is ours as it is; ids (ULIDs) are made from keys, so that they stay.
"""

from tallystick.api.compat.openmeter import customers, events, listed, meters, query, subjects
from tallystick.api.compat.openmeter.shape import error_of
from tallystick.api.compat.vendor import Vendor

VENDOR = Vendor(
    name="openmeter",
    routes=(
        *events.ROUTES,
        *listed.ROUTES,
        *meters.ROUTES,
        *query.ROUTES,
        *customers.ROUTES,
        *subjects.ROUTES,
    ),
    error_of=error_of,
)
