"""Amberflo's API, as its Python and TypeScript clients and LiteLLM's callback use it: `/amberflo/…`.

Source: amberflo-metering-python 3.3.1, amberflo's metering-typescript 2.6.0, its LiteLLM callback, docs.amberflo.io. A
`meterApiName` is our key, a `customerId` our customer; a record is an event with an identity of its own (records.py).
"""

from tallystick.api.compat.amberflo import customers, ingest, meters, usage
from tallystick.api.compat.amberflo.shape import error_of, secret_of
from tallystick.api.compat.vendor import Vendor

VENDOR = Vendor(
    name="amberflo",
    routes=(*ingest.ROUTES, *meters.ROUTES, *customers.ROUTES, *usage.ROUTES),
    error_of=error_of,
    secret_of=secret_of,
)
