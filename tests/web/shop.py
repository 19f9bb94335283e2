"""A tenant that sells: plans, three months of usage, invoices, limits, credits, alerts and a channel."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script>"
PORTAL = [
    "events:read",
    "usage:read",
    "meters:read",
    "customers:read",
    "limits:check",
    "alerts:read",
    "alerts:write",
    "billing:read",
]
PLAN: dict[str, Any] = {
    "key": "pro",
    "name": "Pro",
    "currency": "USD",
    "billing_period": "month",
    "invoice_grace": "P40D",
    "charges": [
        {"key": "base", "name": "Base fee", "timing": "advance", "price": {"model": "flat", "amount": "49"}},
        {
            "key": "tokens",
            "name": "Tokens",
            "meter": "tokens",
            "group_by": ["model"],
            "price": {
                "model": "graduated",
                "tiers": [
                    {"up_to": "1000", "unit_amount": "0.0123"},
                    {"up_to": None, "unit_amount": "0.00987654321"},
                ],
            },
        },
    ],
}


def months_ago(count: int) -> datetime:
    now = datetime.now(UTC)
    months = now.year * 12 + now.month - 1 - count
    return datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC)


def usage(since: datetime) -> list[dict[str, Any]]:
    """One call every five hours, of three customers in turn, until now."""
    hours = int((datetime.now(UTC) - since).total_seconds() // 3600)
    return [
        {
            "id": f"call-{hour}",
            "source": "gateway",
            "type": "llm.completion",
            "subject": ("acme", "beta", "acme-eu")[hour // 5 % 3],
            "time": (since + timedelta(hours=hour, minutes=1)).isoformat(),
            "data": {
                "model": ("large", "small")[hour // 5 % 2],
                "tokens": f"{10 + hour % 90}.000000000000000001",
                "note": MARKUP,
            },
        }
        for hour in range(0, hours, 5)
    ]


def opened(client: httpx.Client, webhook: str) -> None:
    """Fill the tenant that `client` has the key of."""

    def make(path: str, document: Any = None) -> Any:
        answer = client.post(path, json=document)
        assert answer.status_code in (200, 201, 202), f"{path}: {answer.text}"
        return answer.json()

    start = months_ago(2)
    make(
        "/v1/meters",
        {
            "key": "tokens",
            "name": "Tokens",
            "event_type": "llm.completion",
            "aggregation": "sum",
            "value": "$.tokens",
            "dimensions": {"model": "$.model"},
            "unit": "token",
        },
    )
    make(
        "/v1/meters",
        {"key": "calls", "name": "Calls", "event_type": "llm.completion", "aggregation": "count"},
    )
    make("/v1/customers", {"key": "acme", "name": f"Acme {MARKUP}", "timezone": "Europe/Berlin"})
    make("/v1/customers", {"key": "acme-eu", "name": "Acme Europe", "parent": "acme"})
    make("/v1/customers", {"key": "beta", "name": "Betamax Rivals"})
    make("/v1/plans", PLAN)
    make("/v1/plans/pro/publish")
    for customer in ("acme", "beta"):
        make("/v1/subscriptions", {"customer": customer, "plan": "pro", "start": start.isoformat()})
    make("/v1/credits", {"customer": "acme", "amount": "12.50", "currency": "USD", "name": f"Hello {MARKUP}"})
    make("/v1/credits", {"customer": "beta", "amount": "987.65", "currency": "USD"})
    make(
        "/v1/limits",
        {"key": "acme-tokens", "customer": "acme", "meter": "tokens", "amount": "2500.5", "period": "month"},
    )
    make(
        "/v1/limits",
        {"key": "beta-tokens", "customer": "beta", "meter": "tokens", "amount": "7777", "period": "month"},
    )
    make("/v1/channels", {"key": "ops", "name": "Ops", "type": "webhook", "url": webhook})
    make(
        "/v1/alerts",
        {
            "key": "much",
            "name": f"Much {MARKUP}",
            "meter": "tokens",
            "customer": "*",
            "window": "month",
            "condition": {"op": "gte", "steps": ["100.5", "1000"]},
            "channels": ["ops"],
        },
    )
    events = usage(start)
    answer = client.post("/v1/events?wait=recorded", json=events)
    assert answer.status_code == 200, answer.text
    assert answer.json()["recorded"] == len(events)
    report = make("/v1/billing/run", {"at": datetime.now(UTC).isoformat()})
    assert report["failed"] == [], report


def token(client: httpx.Client, customer: str, scopes: list[str] = PORTAL) -> str:
    answer = client.post("/v1/portal_tokens", json={"customer": customer, "scopes": scopes})
    assert answer.status_code == 201, answer.text
    return answer.json()["token"]
