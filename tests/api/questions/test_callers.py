"""Every route, asked by every kind of caller.

One line a route in ROUTES, and a route without a line fails the test. A line reads

    Route("GET /v1/customers/{key}", "customers:read", 200, other=404, portal=200, elsewhere=403, at="/v1/customers/acme")

- the method and the path as the OpenAPI document has them; the scope it needs
- `ok`: what a key of this tenant with that scope is answered, and so is an admin key. Bodies are `{}` unless `body` says
  otherwise, so a route that changes something usually answers 422, which shows that access was granted
- `other`: what the admin key of another tenant is answered (default: as `ok`)
- `portal`: what a token of the customer `acme` is answered, with every scope a token can have (default: 403)
- `elsewhere`: what a token of the customer `beta` is answered, which asks for the same things (default: as `portal`)
- `root`: what the admin of the tenant `default` is answered, for routes that are his alone (default: not asked)
- `at`: the path to ask for; needed where the path has a parameter

Refused without a line of their own: no key, a wrong one, an expired one (401), and keys of every other scope (403).
The fixture `world` (world.py) holds what there is: a meter `calls`, the customers `acme` (with one event) and `beta`.
"""

from dataclasses import dataclass
from typing import Any

import pytest
from tests.api.questions.live import Tenant
from tests.api.questions.world import SECRET, World


@dataclass(frozen=True)
class Route:
    name: str
    scope: str
    ok: int
    other: int | None = None
    portal: int = 403
    elsewhere: int | None = None
    root: int | None = None
    at: str | None = None
    body: Any = None

    def ask(self, tenant: Tenant, path: str) -> Any:
        method = self.name.split(" ")[0]
        if method in ("GET", "DELETE"):
            return tenant.send(method, path)
        return tenant.send(method, path, json={} if self.body is None else self.body)

    @property
    def path(self) -> str:
        return self.at or self.name.split(" ")[1]


ACME = "/v1/customers/acme"
NONE = "/v1/backfills/none"
CALLS = "/v1/meters/calls"
OM = "/openmeter/api/v1"
LAGO = "/lago/api/v1"
OURS = {"portal": 200, "elsewhere": 403}
"""A question about acme: its own token may ask it, another customer's may not."""
CUT = {"portal": 200}
"""A question about everybody: every token is answered, for what it sees."""

OURS_ALONE = ("/v1/", "/openmeter/", "/prometheus/")
"""Paths whose errors are problem documents; other vendors' have their own (api/compat)."""

ANY = "any"
"""Every valid key may ask, whatever its scopes."""

STRIPE_CALLS = "mtr_mnqwy3dt"
"""The id of the meter `calls`."""

AMBERFLO = {
    "meterApiName": "calls",
    "timeGroupingInterval": "MONTH",
    "timeRange": {"startTimeInSeconds": 1_767_225_600},
    "filter": {"customerId": ["acme"]},
}

ROUTES = [
    Route("GET /v1/admin/backups", "admin", 403, root=404),
    Route("POST /v1/admin/backups", "admin", 403, root=422),
    Route("GET /v1/admin/doctor", "admin", 403, root=200),
    Route("GET /v1/admin/move", "admin", 403, root=404),
    Route("POST /v1/admin/move", "admin", 403, root=422),
    Route("GET /v1/admin/rebuild", "admin", 403, root=200),
    Route("POST /v1/admin/rebuild", "admin", 403, root=422),
    Route("GET /v1/alerts", "alerts:read", 200, **CUT),
    Route("POST /v1/alerts", "alerts:write", 422, portal=422),
    Route("GET /v1/alerts/{key}", "alerts:read", 404, portal=404, at="/v1/alerts/none"),
    Route("PATCH /v1/alerts/{key}", "alerts:write", 404, portal=404, at="/v1/alerts/none"),
    Route("PUT /v1/alerts/{key}", "alerts:write", 404, portal=404, at="/v1/alerts/none"),
    Route("DELETE /v1/alerts/{key}", "alerts:write", 404, portal=404, at="/v1/alerts/none"),
    Route("POST /v1/alerts/{key}/mute", "alerts:write", 422, portal=422, at="/v1/alerts/none/mute"),
    Route("POST /v1/alerts/preview", "alerts:read", 422, portal=422),
    Route("POST /v1/alerts/{key}/preview", "alerts:read", 404, portal=404, at="/v1/alerts/none/preview"),
    Route("GET /v1/alerts/{key}/states", "alerts:read", 404, portal=404, at="/v1/alerts/none/states"),
    Route("POST /v1/alerts/{key}/unmute", "alerts:write", 404, portal=404, at="/v1/alerts/none/unmute"),
    Route("GET /v1/api_keys", "admin", 200),
    Route("POST /v1/api_keys", "admin", 422),
    Route("GET /v1/api_keys/{id}", "admin", 404, at="/v1/api_keys/none"),
    Route("PATCH /v1/api_keys/{id}", "admin", 404, at="/v1/api_keys/none"),
    Route("DELETE /v1/api_keys/{id}", "admin", 404, at="/v1/api_keys/none"),
    Route("POST /v1/api_keys/{id}/rotate", "admin", 404, at="/v1/api_keys/none/rotate"),
    Route("GET /v1/audit", "admin", 200),
    Route("GET /v1/audit/export", "admin", 200),
    Route("GET /v1/backfills", "events:read", 200),
    Route("POST /v1/backfills", "events:write", 422),
    Route("GET /v1/backfills/{key}", "events:read", 404, at=NONE),
    Route("DELETE /v1/backfills/{key}", "events:write", 404, at=NONE),
    Route("POST /v1/backfills/{key}/close", "events:write", 404, at=f"{NONE}/close"),
    Route("POST /v1/backfills/{key}/events", "events:write", 404, at=f"{NONE}/events"),
    Route("POST /v1/backfills/{key}/revert", "events:write", 404, at=f"{NONE}/revert"),
    Route("GET /v1/billing/export", "billing:read", 200, at="/v1/billing/export?format=focus"),
    Route("GET /v1/sources", "events:read", 200),
    Route("POST /v1/sources", "admin", 403, root=422),
    Route("GET /v1/sources/{key}", "events:read", 404, at="/v1/sources/none"),
    Route("PUT /v1/sources/{key}", "admin", 404, at="/v1/sources/none"),
    Route("DELETE /v1/sources/{key}", "admin", 404, at="/v1/sources/none"),
    Route("POST /v1/sources/{key}/pause", "admin", 404, at="/v1/sources/none/pause"),
    Route("POST /v1/sources/{key}/resume", "admin", 404, at="/v1/sources/none/resume"),
    Route("GET /v1/dead_letters", "events:read", 200),
    Route("POST /v1/dead_letters/retry", "events:write", 200),
    Route("POST /v1/dead_letters/discard", "events:write", 200),
    Route("GET /v1/dead_letters/{id}", "events:read", 404, at="/v1/dead_letters/1"),
    Route("PUT /v1/dead_letters/{id}", "events:write", 422, at="/v1/dead_letters/1"),
    Route("DELETE /v1/dead_letters/{id}", "events:write", 404, at="/v1/dead_letters/1"),
    Route("POST /v1/dead_letters/{id}/retry", "events:write", 404, at="/v1/dead_letters/1/retry"),
    Route("GET /v1/channels", "alerts:read", 200, **CUT),
    Route("POST /v1/channels", "alerts:write", 422, portal=422),
    Route("GET /v1/channels/{key}", "alerts:read", 404, portal=404, at="/v1/channels/none"),
    Route("PUT /v1/channels/{key}", "alerts:write", 404, portal=404, at="/v1/channels/none"),
    Route("DELETE /v1/channels/{key}", "alerts:write", 404, portal=404, at="/v1/channels/none"),
    Route("POST /v1/channels/{key}/rotate", "alerts:write", 404, portal=404, at="/v1/channels/none/rotate"),
    Route("POST /v1/channels/{key}/test", "alerts:write", 404, portal=404, at="/v1/channels/none/test"),
    Route("POST /v1/credits", "billing:write", 422),
    Route("GET /v1/credits/{id}", "billing:read", 404, portal=404, at="/v1/credits/none"),
    Route("POST /v1/credits/{id}/void", "billing:write", 404, at="/v1/credits/none/void"),
    Route("GET /v1/customers", "customers:read", 200, **CUT),
    Route("POST /v1/customers", "customers:write", 422),
    Route("GET /v1/customers/{key}", "customers:read", 200, other=404, **OURS, at=ACME),
    Route("PATCH /v1/customers/{key}", "customers:write", 200, other=404, at=ACME),
    Route("DELETE /v1/customers/{key}", "customers:write", 404, at="/v1/customers/none"),
    Route("GET /v1/customers/{key}/credits", "billing:read", 200, other=404, **OURS, at=f"{ACME}/credits"),
    Route("PUT /v1/customers/{key}/credits/top_up", "billing:write", 422, at=f"{ACME}/credits/top_up"),
    Route("DELETE /v1/customers/{key}/credits/top_up", "billing:write", 204, at=f"{ACME}/credits/top_up?currency=USD"),
    Route("POST /v1/customers/{key}/merge", "customers:write", 422, at=f"{ACME}/merge"),
    Route("GET /v1/deliveries", "alerts:read", 200, **CUT),
    Route("GET /v1/deliveries/{id}", "alerts:read", 404, portal=404, at="/v1/deliveries/none"),
    Route("POST /v1/deliveries/{id}/resend", "alerts:write", 404, portal=404, at="/v1/deliveries/none/resend"),
    Route("GET /v1/events", "events:read", 200, **OURS, at="/v1/events?customer=acme"),
    Route("POST /v1/events", "events:write", 422),
    Route("POST /v1/events/corrections", "events:write", 422),
    Route("GET /v1/events/lookup", "events:read", 200, other=404, portal=200, elsewhere=404, at="/v1/events/lookup?id=e1"),
    Route("GET /v1/export/events", "events:read", 200, **OURS, at="/v1/export/events?customer=acme"),
    Route("GET /v1/export/events/parts", "events:read", 200, **CUT),
    Route("GET /v1/exports", "admin", 200),
    Route("POST /v1/exports", "admin", 422),
    Route("GET /v1/exports/{key}", "admin", 404, at="/v1/exports/none"),
    Route("PATCH /v1/exports/{key}", "admin", 404, at="/v1/exports/none"),
    Route("DELETE /v1/exports/{key}", "admin", 404, at="/v1/exports/none"),
    Route("POST /v1/exports/{key}/run", "admin", 404, at="/v1/exports/none/run"),
    Route("GET /v1/export/readings", "usage:read", 200, other=404, **CUT, at="/v1/export/readings?meter=calls"),
    Route("GET /v1/export/readings/parts", "usage:read", 200, other=404, **CUT, at="/v1/export/readings/parts?meter=calls"),
    Route("POST /v1/correction_preview", "events:read", 422),
    Route("POST /v1/meter_preview", "events:read", 422),
    Route("GET /v1/me", ANY, 200, portal=200),
    Route("GET /v1/meters", "meters:read", 200, **CUT),
    Route("POST /v1/meters", "meters:write", 422),
    Route("GET /v1/meters/{key}", "meters:read", 200, other=404, **CUT, at=CALLS),
    Route("PATCH /v1/meters/{key}", "meters:write", 200, other=404, at=CALLS),
    Route("DELETE /v1/meters/{key}", "meters:write", 404, at="/v1/meters/none"),
    Route("GET /v1/meters/{key}/dimensions/{name}/values", "usage:read", 200, other=404, **OURS,
          at=f"{CALLS}/dimensions/who/values?customer=acme"),
    Route("GET /v1/meters/{key}/explain", "events:read", 200, other=404, **OURS, at=f"{CALLS}/explain?customer=acme"),
    Route("GET /v1/meters/{key}/forecast", "usage:read", 200, other=404, **OURS, at=f"{CALLS}/forecast?customer=acme"),
    Route("GET /v1/meters/{key}/rate", "usage:read", 200, other=404, **OURS, at=f"{CALLS}/rate?customer=acme"),
    Route("GET /v1/meters/{key}/usage", "usage:read", 200, other=404, **OURS, at=f"{CALLS}/usage?customer=acme"),
    Route("POST /v1/meters/{key}/usage", "usage:read", 200, other=404, **OURS, at=f"{CALLS}/usage", body={"customer": ["acme"]}),
    Route("GET /v1/meters/{key}/versions", "meters:read", 200, other=404, **CUT, at=f"{CALLS}/versions"),
    Route("GET /v1/portal_tokens", "customers:read", 200),
    Route("POST /v1/portal_tokens", "customers:write", 422),
    Route("DELETE /v1/portal_tokens/{id}", "customers:write", 404, at="/v1/portal_tokens/none"),
    Route("GET /v1/billing/late", "billing:read", 200),
    Route("POST /v1/billing/run", "billing:write", 200),
    Route("GET /v1/customers/{key}/billing", "billing:read", 200, other=404, elsewhere=403, at=f"{ACME}/billing"),
    Route("PUT /v1/customers/{key}/billing", "billing:write", 200, other=404, at=f"{ACME}/billing"),
    Route("GET /v1/customers/{key}/invoice_forecast", "billing:read", 404, portal=404, elsewhere=403,
          at=f"{ACME}/invoice_forecast"),
    Route("POST /v1/customers/{key}/invoices/preview", "billing:read", 404, portal=404, elsewhere=403,
          at=f"{ACME}/invoices/preview"),
    Route("GET /v1/invoices", "billing:read", 200, **CUT),
    Route("GET /v1/invoices/{id}", "billing:read", 404, portal=404, at="/v1/invoices/none"),
    Route("POST /v1/invoices/{id}/finalize", "billing:write", 404, at="/v1/invoices/none/finalize"),
    Route("POST /v1/invoices/{id}/void", "billing:write", 404, at="/v1/invoices/none/void"),
    Route("GET /v1/invoices/{id}/verify", "billing:read", 404, portal=404, at="/v1/invoices/none/verify"),
    Route("GET /v1/invoices/{id}/lines/{line}/explain", "billing:read", 404, portal=404, at="/v1/invoices/none/lines/x/explain"),
    Route("POST /v1/invoices", "billing:write", 422),
    Route("POST /v1/invoices/{id}/pay", "billing:write", 404, at="/v1/invoices/none/pay"),
    Route("POST /v1/invoices/{id}/credit_notes", "billing:write", 422, at="/v1/invoices/none/credit_notes"),
    Route("GET /v1/credit_notes", "billing:read", 200, **CUT),
    Route("GET /v1/credit_notes/{id}", "billing:read", 404, portal=404, at="/v1/credit_notes/none"),
    Route("GET /v1/credit_notes/{id}/verify", "billing:read", 404, portal=404, at="/v1/credit_notes/none/verify"),
    Route("POST /v1/credit_notes/{id}/void", "billing:write", 404, at="/v1/credit_notes/none/void"),
    Route("POST /v1/customers/{key}/items", "billing:write", 422, at=f"{ACME}/items"),
    Route("GET /v1/customers/{key}/items", "billing:read", 200, other=404, **OURS, at=f"{ACME}/items"),
    Route("DELETE /v1/customers/{key}/items/{id}", "billing:write", 404, at=f"{ACME}/items/none"),
    Route("GET /v1/plans", "billing:read", 200),
    Route("POST /v1/plans", "billing:write", 422),
    Route("GET /v1/plans/{key}", "billing:read", 404, at="/v1/plans/none"),
    Route("PATCH /v1/plans/{key}", "billing:write", 404, at="/v1/plans/none"),
    Route("POST /v1/plans/{key}/archive", "billing:write", 404, at="/v1/plans/none/archive"),
    Route("POST /v1/plans/{key}/publish", "billing:write", 404, at="/v1/plans/none/publish"),
    Route("GET /v1/plans/{key}/versions", "billing:read", 404, at="/v1/plans/none/versions"),
    Route("GET /v1/transitions", "alerts:read", 200, **CUT),
    Route("GET /v1/stream", "events:read", 422, portal=422, at="/v1/stream?kind=none"),
    Route("GET /v1/subscriptions", "billing:read", 200, **CUT),
    Route("POST /v1/subscriptions", "billing:write", 422),
    Route("GET /v1/subscriptions/{id}", "billing:read", 404, portal=404, at="/v1/subscriptions/none"),
    Route("POST /v1/subscriptions/{id}/change", "billing:write", 422, at="/v1/subscriptions/none/change"),
    Route("POST /v1/subscriptions/{id}/cancel", "billing:write", 404, at="/v1/subscriptions/none/cancel"),
    Route("POST /v1/subscriptions/{id}/uncancel", "billing:write", 404, at="/v1/subscriptions/none/uncancel"),
    Route("POST /v1/subscriptions/{id}/pause", "billing:write", 404, at="/v1/subscriptions/none/pause"),
    Route("POST /v1/subscriptions/{id}/resume", "billing:write", 404, at="/v1/subscriptions/none/resume"),
    Route("POST /v1/subscriptions/{id}/quantities", "billing:write", 422, at="/v1/subscriptions/none/quantities"),
    Route("POST /v1/subscriptions/{id}/add_ons", "billing:write", 422, at="/v1/subscriptions/none/add_ons"),
    Route("POST /v1/pricing/backtest", "billing:read", 422),
    Route("POST /v1/prices/evaluate", "billing:read", 422, portal=422),
    Route("POST /v1/check", "limits:check", 422, portal=422),
    Route("POST /v1/check/batch", "limits:check", 422, portal=422),
    Route("GET /v1/customers/{key}/limits", "limits:check", 200, other=404, **OURS, at=f"{ACME}/limits"),
    Route("GET /v1/limits", "limits:check", 200, **CUT),
    Route("POST /v1/limits", "limits:write", 422),
    Route("GET /v1/limits/{key}", "limits:check", 404, at="/v1/limits/none"),
    Route("PATCH /v1/limits/{key}", "limits:write", 404, at="/v1/limits/none"),
    Route("DELETE /v1/limits/{key}", "limits:write", 404, at="/v1/limits/none"),
    Route("GET /v1/limits/{key}/forecast", "limits:check", 404, portal=404, elsewhere=403,
          at="/v1/limits/none/forecast?customer=acme"),
    Route("GET /v1/limits/{key}/raises", "limits:check", 404, at="/v1/limits/none/raises"),
    Route("POST /v1/limits/{key}/raises", "limits:write", 422, at="/v1/limits/none/raises"),
    Route("GET /v1/reservations", "limits:check", 200, **OURS, at="/v1/reservations?customer=acme"),
    Route("POST /v1/reservations", "limits:check", 422),
    Route("POST /v1/reservations/batch", "limits:check", 422),
    Route("GET /v1/reservations/{id}", "limits:check", 404, portal=404, at="/v1/reservations/none"),
    Route("POST /v1/reservations/{id}/settle", "limits:check", 404, at="/v1/reservations/none/settle"),
    Route("POST /v1/reservations/{id}/release", "limits:check", 404, at="/v1/reservations/none/release"),
    Route("GET /v1/retention", "admin", 200),
    Route("PUT /v1/retention", "admin", 422),
    Route("GET /v1/tenants", "admin", 403, root=200),
    Route("POST /v1/tenants", "admin", 403, root=422),
    Route("GET /v1/tenants/{key}", "admin", 403, root=404, at="/v1/tenants/none"),
    Route("PATCH /v1/tenants/{key}", "admin", 403, root=404, at="/v1/tenants/none"),
    Route("DELETE /v1/tenants/{key}", "admin", 403, root=404, at="/v1/tenants/none"),
    Route("GET /v1/usage", "usage:read", 200, **OURS, at="/v1/usage?customer=acme"),
    Route("POST /v1/usage/query", "usage:read", 422, portal=422),
    Route("GET /v1/views", "usage:read", 200),
    Route("POST /v1/views", "usage:read", 422),
    Route("GET /v1/views/{key}", "usage:read", 404, at="/v1/views/none"),
    Route("PUT /v1/views/{key}", "usage:read", 404, at="/v1/views/none"),
    Route("DELETE /v1/views/{key}", "usage:read", 404, at="/v1/views/none"),
    Route("GET /v1/reports", "alerts:read", 200),
    Route("POST /v1/reports", "alerts:write", 422),
    Route("GET /v1/reports/{key}", "alerts:read", 404, at="/v1/reports/none"),
    Route("PUT /v1/reports/{key}", "alerts:write", 404, at="/v1/reports/none"),
    Route("DELETE /v1/reports/{key}", "alerts:write", 404, at="/v1/reports/none"),
    Route("POST /v1/reports/{key}/run", "alerts:write", 404, at="/v1/reports/none/run"),
    Route("GET /v1/reports/{key}/runs", "alerts:read", 404, at="/v1/reports/none/runs"),
    Route("GET /v1/reports/{key}/runs/{id}/file", "usage:read", 404, at="/v1/reports/none/runs/none/file"),
    Route("POST /otlp/v1/logs", "events:write", 200),
    Route("POST /otlp/v1/metrics", "events:write", 200),
    Route("POST /prometheus/api/v1/write", "events:write", 400),
    Route("POST /openmeter/api/v1/events", "events:write", 400),
    Route("GET /openmeter/api/v1/events", "events:read", 200, **CUT),
    Route("GET /lago/api/v1/events", "events:read", 200, **CUT),
    Route("POST /lago/api/v1/events", "events:write", 400),
    Route("POST /lago/api/v1/events/batch", "events:write", 400),
    Route("GET /lago/api/v1/events/{transaction_id}", "events:read", 404, portal=404, at=f"{LAGO}/events/none"),
    Route("GET /lago/api/v1/billable_metrics", "meters:read", 200, **CUT),
    Route("POST /lago/api/v1/billable_metrics", "meters:write", 400),
    Route("GET /lago/api/v1/billable_metrics/{code}", "meters:read", 200, other=404, **CUT, at=f"{LAGO}/billable_metrics/calls"),
    Route("PUT /lago/api/v1/billable_metrics/{code}", "meters:write", 400, at=f"{LAGO}/billable_metrics/none"),
    Route("DELETE /lago/api/v1/billable_metrics/{code}", "meters:write", 404, at=f"{LAGO}/billable_metrics/none"),
    Route("GET /lago/api/v1/customers", "customers:read", 200, **CUT),
    Route("POST /lago/api/v1/customers", "customers:write", 400),
    Route("GET /lago/api/v1/customers/{external_id}", "customers:read", 200, other=404, **OURS, at=f"{LAGO}/customers/acme"),
    Route("DELETE /lago/api/v1/customers/{external_id}", "customers:write", 404, at=f"{LAGO}/customers/none"),
    Route("GET /lago/api/v1/customers/{external_id}/current_usage", "usage:read", 405, other=404, portal=405, elsewhere=403, at=f"{LAGO}/customers/acme/current_usage"),
    Route("GET /lago/api/v1/customers/{external_id}/past_usage", "usage:read", 405, other=404, portal=405, elsewhere=403, at=f"{LAGO}/customers/acme/past_usage"),
    Route("GET /lago/api/v1/plans", "billing:read", 200),
    Route("POST /lago/api/v1/plans", "billing:write", 400),
    Route("GET /lago/api/v1/plans/{code}", "billing:read", 404, at=f"{LAGO}/plans/none"),
    Route("DELETE /lago/api/v1/plans/{code}", "billing:write", 404, at=f"{LAGO}/plans/none"),
    Route("GET /lago/api/v1/subscriptions", "billing:read", 200, **CUT),
    Route("POST /lago/api/v1/subscriptions", "billing:write", 400),
    Route("GET /lago/api/v1/subscriptions/{external_id}", "billing:read", 404, portal=404, at=f"{LAGO}/subscriptions/none"),
    Route("DELETE /lago/api/v1/subscriptions/{external_id}", "billing:write", 404, at=f"{LAGO}/subscriptions/none"),
    Route("GET /openmeter/api/v2/events", "events:read", 200, **CUT),
    Route("GET /openmeter/api/v1/customers", "customers:read", 200, **CUT),
    Route("POST /openmeter/api/v1/customers", "customers:write", 400),
    Route("GET /openmeter/api/v1/customers/{id_or_key}", "customers:read", 200, other=404, **OURS, at=f"{OM}/customers/acme"),
    Route("PUT /openmeter/api/v1/customers/{id_or_key}", "customers:write", 400, at=f"{OM}/customers/acme"),
    Route("DELETE /openmeter/api/v1/customers/{id_or_key}", "customers:write", 404, at=f"{OM}/customers/none"),
    Route("GET /openmeter/api/v1/meters", "meters:read", 200, **CUT),
    Route("POST /openmeter/api/v1/meters", "meters:write", 400),
    Route("GET /openmeter/api/v1/meters/{id_or_slug}", "meters:read", 200, other=404, **CUT, at=f"{OM}/meters/calls"),
    Route("PUT /openmeter/api/v1/meters/{id_or_slug}", "meters:write", 404, at=f"{OM}/meters/none"),
    Route("DELETE /openmeter/api/v1/meters/{id_or_slug}", "meters:write", 404, at=f"{OM}/meters/none"),
    Route("GET /openmeter/api/v1/meters/{id_or_slug}/query", "usage:read", 200, other=404, **CUT, at=f"{OM}/meters/calls/query"),
    Route("POST /openmeter/api/v1/meters/{id_or_slug}/query", "usage:read", 200, other=404, **CUT, at=f"{OM}/meters/calls/query"),
    Route("GET /openmeter/api/v1/meters/{id_or_slug}/subjects", "usage:read", 200, other=404, **CUT,
          at=f"{OM}/meters/calls/subjects"),
    Route("GET /openmeter/api/v1/meters/{id_or_slug}/group-by/{group}/values", "usage:read", 200, other=404, portal=200,
          at=f"{OM}/meters/calls/group-by/who/values"),
    Route("GET /openmeter/api/v1/subjects", "customers:read", 200),
    Route("POST /openmeter/api/v1/subjects", "customers:write", 400),
    Route("GET /openmeter/api/v1/subjects/{id_or_key}", "customers:read", 404, at=f"{OM}/subjects/none"),
    Route("DELETE /openmeter/api/v1/subjects/{id_or_key}", "customers:write", 404, at=f"{OM}/subjects/none"),
    Route("POST /amberflo", "events:write", 400),
    Route("POST /amberflo/ingest", "events:write", 400),
    Route("GET /amberflo/meters", "meters:read", 200, **CUT),
    Route("POST /amberflo/meters", "meters:write", 400),
    Route("PUT /amberflo/meters", "meters:write", 400),
    Route("GET /amberflo/meters/{id}", "meters:read", 404, portal=404, at="/amberflo/meters/none"),
    Route("DELETE /amberflo/meters/{id}", "meters:write", 404, at="/amberflo/meters/none"),
    Route("GET /amberflo/customers", "customers:read", 200),
    Route("POST /amberflo/customers", "customers:write", 400),
    Route("PUT /amberflo/customers", "customers:write", 400),
    Route("PUT /amberflo/customers/stage", "customers:write", 400),
    Route("GET /amberflo/customers/{id}", "customers:read", 404, at="/amberflo/customers/none"),
    Route("DELETE /amberflo/customers/{id}", "customers:write", 404, at="/amberflo/customers/none"),
    Route("POST /amberflo/usage", "usage:read", 200, other=404, **OURS, at="/amberflo/usage", body=AMBERFLO),
    Route("POST /amberflo/usage/sparse", "usage:read", 200, other=404, **OURS, body=AMBERFLO),
    Route("POST /amberflo/usage/batch", "usage:read", 200, other=404, **OURS, body=[AMBERFLO]),
    Route("POST /amberflo/usage/sparse/batch", "usage:read", 200, other=404, **OURS, body=[AMBERFLO]),
    Route("GET /amberflo/usage/all", "usage:read", 200, **OURS,
          at="/amberflo/usage/all?startTimeInSeconds=0&timeGroupingInterval=MONTH&customerId=acme"),
    Route("POST /stripe/v1/billing/meters", "meters:write", 400),
    Route("GET /stripe/v1/billing/meters", "meters:read", 200, **CUT),
    Route("GET /stripe/v1/billing/meters/{id}", "meters:read", 404, portal=404, at="/stripe/v1/billing/meters/none"),
    Route("POST /stripe/v1/billing/meters/{id}", "meters:write", 400, at="/stripe/v1/billing/meters/none"),
    Route("POST /stripe/v1/billing/meters/{id}/deactivate", "meters:write", 404, at="/stripe/v1/billing/meters/none/deactivate"),
    Route("POST /stripe/v1/billing/meters/{id}/reactivate", "meters:write", 404, at="/stripe/v1/billing/meters/none/reactivate"),
    Route("GET /stripe/v1/billing/meters/{id}/event_summaries", "usage:read", 200, other=404, **OURS,
          at=f"/stripe/v1/billing/meters/{STRIPE_CALLS}/event_summaries?customer=acme&start_time=60&end_time=120"),
    Route("POST /stripe/v1/billing/meter_events", "events:write", 400),
    Route("POST /stripe/v2/billing/meter_events", "events:write", 400),
    Route("POST /stripe/v2/billing/meter_event_stream", "events:write", 400),
    Route("POST /stripe/v2/billing/meter_event_session", "events:write", 200),
    Route("POST /stripe/v1/billing/meter_event_adjustments", "events:write", 400),
    Route("POST /stripe/v2/billing/meter_event_adjustments", "events:write", 400),
    Route("GET /stripe/v1/customers", "customers:read", 200),
    Route("GET /stripe/v1/customers/search", "customers:read", 400),
    Route("POST /stripe/v1/customers", "customers:write", 400),
    Route("GET /stripe/v1/customers/{id}", "customers:read", 404, at="/stripe/v1/customers/none"),
    Route("POST /stripe/v1/customers/{id}", "customers:write", 404, at="/stripe/v1/customers/none"),
    Route("DELETE /stripe/v1/customers/{id}", "customers:write", 404, at="/stripe/v1/customers/none"),
]  # fmt: skip
PUBLIC = {"GET /docs", "GET /health/live", "GET /health/ready", "GET /metrics", "GET /openapi.json"}
"""Routes that need no key."""


def test_every_route_has_a_line(world: World) -> None:
    paths = world.live.send("GET", "/openapi.json").json()["paths"]
    there_are = {f"{method.upper()} {path}" for path, item in paths.items() for method in item}
    listed = [route.name for route in ROUTES]
    assert len(listed) == len(set(listed))
    assert there_are - PUBLIC - set(listed) == set(), "add a line to ROUTES for each of these"
    assert set(listed) - there_are == set(), "there are no such routes"


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_who_may(world: World, route: Route) -> None:
    answers: dict[str, tuple[int, int]] = {}

    def expect(who: str, caller: Tenant, status: int, *, sees: bool = True) -> None:
        answer = route.ask(caller, route.path)
        answers[who] = (answer.status_code, status)
        assert sees or SECRET not in answer.text, who
        if answer.status_code >= 400:
            wanted = "application/problem+json" if route.path.startswith(OURS_ALONE) else "application/json"
            assert answer.headers["content-type"] == wanted, who
        assert answer.headers["x-request-id"], who

    bare = world.live.send(route.name.split(" ")[0], route.path)
    answers["no key"] = (bare.status_code, 401)
    for who, caller in world.refused.items():
        expect(who, caller, 401, sees=False)
    for scope, caller in world.scoped.items():
        granted = scope in (route.scope, "admin") or route.scope == ANY
        expect(scope, caller, route.ok if granted else 403, sees=granted)
    expect("other tenant", world.other, route.ok if route.other is None else route.other, sees=False)
    expect("its customer's token", world.portal, route.portal)
    elsewhere = route.portal if route.elsewhere is None else route.elsewhere
    expect("another customer's token", world.elsewhere, elsewhere, sees=False)
    if route.root is not None:
        expect("root", world.root, route.root, sees=False)
    assert {who: got for who, (got, _) in answers.items()} == {
        who: wanted for who, (_, wanted) in answers.items()
    }
