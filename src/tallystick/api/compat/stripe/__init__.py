"""Stripe's billing meters, as its own libraries use them: `/stripe/v1/…` and `/stripe/v2/…`.

Source: docs.stripe.com/api (version 2026-10-28.endive) and the library stripe 16.1.0 for Python. A meter's `event_name` is
our type of event (and the meter's key, where it can be one), an event's `identifier` our id, a `cus_…` the customer of
that key, or the one that has it as its external id `stripe`.
"""

from tallystick.api.compat.stripe import adjustments, customers, meter_events, meters, sessions, summaries
from tallystick.api.compat.stripe.shape import error_of, secret_of
from tallystick.api.compat.vendor import Vendor

VENDOR = Vendor(
    name="stripe",
    routes=(
        *meters.ROUTES,
        *summaries.ROUTES,
        *meter_events.ROUTES,
        *sessions.ROUTES,
        *adjustments.ROUTES,
        *customers.ROUTES,
    ),
    error_of=error_of,
    secret_of=secret_of,
)
