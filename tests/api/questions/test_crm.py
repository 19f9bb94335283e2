"""What a CRM is told, on the real parts: plan, usage, spend and health, and only what has changed."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from tests.api.questions.live import ADMIN_KEY, Live, Tenant, opened
from tests.flows.crm_servers import HubSpotServer, answering

from tallystick.crm.interface import Account
from tallystick.errors import Unavailable
from tallystick.flows.crm import CrmKeeper


class Told:
    """A CRM that remembers; the first time it asks to wait."""

    accounts_max = 2

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.pushed: list[int] = []
        self.waits = 1

    def push(self, accounts: Sequence[Account]) -> Mapping[str, str]:
        if self.waits:
            self.waits -= 1
            raise Unavailable("busy", retry_after_s=0)
        self.pushed.append(len(accounts))
        self.accounts |= {one.key: one for one in accounts}
        return {"refused": "no"} if "refused" in self.accounts else {}

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def hubspot() -> HubSpotServer:
    return HubSpotServer()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, hubspot: HubSpotServer) -> Iterator[Live]:
    settings = {"crm": "hubspot", "crm_token": "pat-1", "crm_every_s": 1, "crm_meters": "calls"}
    with (
        answering(hubspot) as url,
        opened(tmp_path_factory.mktemp("crm"), crm_url=url, **settings) as made,
    ):
        yield made


def test_hubspot_hears_of_it(live: Live, hubspot: HubSpotServer) -> None:
    root = Tenant(live, "default", ADMIN_KEY)
    root.meter(key="calls", event_type="call", aggregation="count")
    root.record({"id": "1", "type": "call", "subject": "acme", "time": "2026-07-10T00:00:00Z"})
    until_s = time.monotonic() + 90
    while hubspot.companies.get("acme", {}).get("tallystick_usage_calls") != "1":
        assert time.monotonic() < until_s, hubspot.companies
        time.sleep(0.1)
    assert hubspot.companies["acme"]["tallystick_health"] == "new"


def test_what_is_told(live: Live, tenant: Tenant) -> None:
    tenant.meter(key="tokens.in", event_type="call", aggregation="sum", value="$.n")
    days = {
        "grows": (40, 5, 100, 150),
        "falls": (40, 5, 100, 50),
        "steady": (40, 5, 100, 101),
        "silent": (40, 40, 7, 7),
    }
    events: list[dict[str, Any]] = []
    for customer, (first, second, before, now) in days.items():
        for number, (day, n) in enumerate(((first, before), (second, now))):
            at = f"2026-06-{45 - day:02d}T00:00:00Z" if day > 14 else "2026-07-10T00:00:00Z"
            given = {"id": f"{customer}{number}", "type": "call", "subject": customer, "time": at}
            events.append({**given, "data": {"n": n}})
    tenant.record(
        *events,
        {"id": "n", "type": "call", "subject": "new", "time": "2026-07-10T00:00:00Z", "data": {"n": 3}},
    )
    plan = {"key": "pro", "name": "Pro", "currency": "USD", "billing_period": "month",
            "charges": [{"key": "fee", "name": "Fee", "price": {"model": "flat", "amount": "9"}}]}  # fmt: skip
    assert tenant.post("/v1/plans", plan).status_code == 201
    assert tenant.post("/v1/plans/pro/publish").status_code == 200
    subscribed = tenant.post(
        "/v1/subscriptions", {"customer": "grows", "plan": "pro", "start": "2026-06-01T00:00:00Z"}
    )
    assert subscribed.status_code == 201, subscribed.text
    assert tenant.post("/v1/billing/run", {"at": "2026-07-01T02:00:00Z"}).status_code == 200

    settings = replace(live.system.settings, crm_tenant=tenant.key, crm_meters="tokens.in", crm_every_s=60)
    system = replace(live.system, settings=settings)
    told = Told()
    keeper = CrmKeeper(system, told)
    assert live.run(keeper.tell()) == 5
    facts = {key: one.facts for key, one in told.accounts.items()}
    assert {key: one["health"] for key, one in facts.items()} == {
        "grows": "growing",
        "falls": "falling",
        "steady": "steady",
        "silent": "silent",
        "new": "new",
    }
    assert facts["grows"]["usage_tokens_in"] == 150
    assert facts["grows"]["trend_percent"] == Decimal("50.0")
    assert facts["grows"]["plan"] == "pro"
    assert (facts["falls"]["plan"], facts["falls"]["spend_30d"]) == (None, 0)
    invoiced = tenant.answer("/v1/invoices?customer=grows")["items"]
    finals = [Decimal(one["total"]) for one in invoiced if one["status"] == "finalized"]
    assert facts["grows"]["spend_30d"] == sum(finals)
    assert told.pushed == [2, 2, 1]
    assert live.run(keeper.tell()) == 0
    tenant.record(
        {"id": "more", "type": "call", "subject": "new", "time": "2026-07-11T00:00:00Z", "data": {"n": 4}}
    )
    assert live.run(keeper.tell()) == 1
    assert told.accounts["new"].facts["usage_tokens_in"] == 7
