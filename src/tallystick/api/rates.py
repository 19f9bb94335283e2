"""How much a key, a tenant and an address may ask for. Counted by each server for itself (api/buckets.py): of several, each
allows its part.

Off unless a setting says otherwise, but for addresses that send key after key that is none.
"""

import math
from collections.abc import Callable

from tallystick.api.buckets import Buckets
from tallystick.catalog.interface import Caller
from tallystick.config import Settings
from tallystick.errors import TooManyRequests

BURST_S = 2.0
"""A bucket holds what comes in this time: a client that was quiet may catch up."""


class Rates:
    """The buckets of one server. One event loop uses an instance."""

    def __init__(self, settings: Settings, *, monotonic_s: Callable[[], float] | None = None) -> None:
        def buckets(rate_per_s: float, burst_s: float = BURST_S) -> Buckets | None:
            if not rate_per_s:
                return None
            return Buckets(rate_per_s, max(1.0, rate_per_s * burst_s), monotonic_s=monotonic_s)

        part = max(settings.api_servers, 1)
        self._of_key = buckets(settings.key_requests_per_s_max / part)
        self._of_tenant = buckets(settings.tenant_requests_per_s_max / part)
        self._events = buckets(settings.tenant_events_per_s_max / part)
        self._failed = buckets(settings.failed_keys_per_minute_max / 60, 60.0)
        self.limits_requests = self._of_key is not None or self._of_tenant is not None
        self.limits_events = self._events is not None

    def check_request(self, who: Caller) -> None:
        """One request more. Raises TooManyRequests, and then it does not count."""
        if self._of_key is not None:
            _check(self._of_key.wait_s((who.tenant, who.key_id)), "this key", "key_requests_per_s_max")
        if self._of_tenant is not None:
            _check(self._of_tenant.wait_s(who.tenant), "this tenant", "tenant_requests_per_s_max")
            self._of_tenant.take(who.tenant)
        if self._of_key is not None:
            self._of_key.take((who.tenant, who.key_id))

    def check_events(self, tenant: str) -> None:
        """Raise TooManyRequests while the tenant has had more events than it may."""
        if self._events is not None:
            _check(self._events.wait_s(tenant), "this tenant's events", "tenant_events_per_s_max")

    def took_events(self, tenant: str, count: int) -> None:
        """So many events came; how many are in a request is only known once it has been read."""
        if self._events is not None:
            self._events.take(tenant, count)

    def check_address(self, address: str) -> None:
        """Raise TooManyRequests for an address that has sent too many keys that are none. For keys that are not kept:
        whoever shares the address with a guesser and has a key that is in use goes on."""
        if self._failed is not None:
            _check(self._failed.wait_s(address), "keys that are none", "failed_keys_per_minute_max")

    def failed(self, address: str) -> None:
        """A key from there was none."""
        if self._failed is not None:
            self._failed.take(address)


def _check(wait_s: float, of_what: str, setting: str) -> None:
    if wait_s > 0:
        raise TooManyRequests(
            f"Too much of {of_what} (setting {setting}). Try again after the time in Retry-After.",
            code="rate_limited",
            retry_after_s=math.ceil(wait_s),
        )
