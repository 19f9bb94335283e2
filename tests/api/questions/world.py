"""A tenant with something in it, and everybody who may ask about it. The fixture `world` of conftest.py."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.api.questions.live import ADMIN_KEY, Live, Tenant, opened

from tallystick.catalog.scopes import PORTAL_SCOPES, SCOPES

SECRET = "known-to-acme-alone"
"""Stands in what there is of acme; nobody else may ever read it."""


@dataclass
class World:
    """Everybody who may ask."""

    live: Live
    admin: Tenant
    other: Tenant
    root: Tenant
    portal: Tenant
    elsewhere: Tenant
    refused: dict[str, Tenant]
    scoped: dict[str, Tenant]


def entered(directory: Path) -> Iterator[World]:
    """The world in a directory of its own, until the generator is closed."""
    # Every route is asked with wrong keys, far more often than one address may.
    with opened(directory, failed_keys_per_minute_max=0) as live:
        admin = live.tenant()
        admin.post("/v1/customers", {"key": "acme", "name": SECRET})
        admin.post("/v1/customers", {"key": "beta"})
        admin.meter(key="calls", event_type="call", aggregation="count", dimensions={"who": "$.who"})
        admin.record({"id": "e1", "type": "call", "subject": "acme", "data": {"who": SECRET}})
        expiring = admin.post(
            "/v1/api_keys", {"name": "k", "scopes": ["admin"], "expires_at": "2026-07-15T12:00:01Z"}
        )

        def token(customer: str) -> Tenant:
            made = admin.post("/v1/portal_tokens", {"customer": customer, "scopes": list(PORTAL_SCOPES)})
            return Tenant(live, admin.key, made.json()["token"])

        portal, elsewhere = token("acme"), token("beta")
        live.clock.advance(seconds=2)
        yield World(
            live=live,
            admin=admin,
            other=live.tenant(),
            root=Tenant(live, "default", ADMIN_KEY),
            portal=portal,
            elsewhere=elsewhere,
            refused={
                "a wrong key": Tenant(live, admin.key, "tsk_00000000_wrong"),
                "an expired key": Tenant(live, admin.key, expiring.json()["secret"]),
                "half a key": Tenant(live, admin.key, admin.secret[:-1]),
            },
            scoped={scope: admin.with_scopes(scope) for scope in SCOPES},
        )
