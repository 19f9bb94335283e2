"""What HubSpot and Salesforce are told: refusals, limits, tokens that end."""

from decimal import Decimal
from typing import Any

import pytest
from tests.flows.crm_servers import HubSpotServer, SalesforceServer, answering

from tallystick.config import Settings
from tallystick.crm.hubspot import HubSpot
from tallystick.crm.interface import Account
from tallystick.crm.salesforce import Salesforce, field_of
from tallystick.errors import Invalid, Unavailable
from tallystick.wiring import _crm


def account(key: str, **facts: Any) -> Account:
    return Account(key, key.title(), {"plan": "pro", "usage_tokens": Decimal("12.5"), **facts})


def test_hubspot() -> None:
    server = HubSpotServer()
    with answering(server) as url:
        hubspot = HubSpot("pat-1", url=url)
        assert hubspot.push([account("acme"), account("beta", plan=None)]) == {}
        assert server.companies["acme"] == {
            "name": "Acme",
            "tallystick_customer": "acme",
            "tallystick_plan": "pro",
            "tallystick_usage_tokens": "12.5",
        }
        assert server.companies["beta"]["tallystick_plan"] == ""
        many = [account(f"c{number}") for number in range(8)]
        wrong = [account("w", usage_tokens=Decimal("NaN"))]
        assert hubspot.push([*many, *wrong]) == {"w": "NaN was not a valid number."}
        assert {f"c{number}" for number in range(8)} <= server.companies.keys()
        server.busy = 1
        with pytest.raises(Unavailable) as limited:
            hubspot.push(many)
        assert limited.value.retry_after_s == 3
        with pytest.raises(Invalid) as refused:
            HubSpot("pat-2", url=url).push(many)
        assert refused.value.code == "crm_refused"
        hubspot.close()
    with pytest.raises(Unavailable):
        HubSpot("pat-1", url=url).push(many)


def test_salesforce() -> None:
    server = SalesforceServer()
    with answering(server) as url:
        server.url = url
        salesforce = Salesforce(url, "id", "secret")
        for _ in range(3):  # longer than a token lasts
            assert salesforce.push([account("acme")]) == {}
        assert server.token == 2
        assert server.accounts["acme"]["Tallystick_Usage_Tokens__c"] == 12.5
        assert server.accounts["acme"]["Tallystick_Plan__c"] == "pro"
        nameless = Account("none", "", {})
        assert salesforce.push([nameless, account("beta")]) == {"none": "Required fields are missing: [Name]"}
        assert "beta" in server.accounts
        server.over = True
        with pytest.raises(Unavailable) as limited:
            salesforce.push([account("acme")])
        assert limited.value.retry_after_s == 900
        with pytest.raises(Invalid):
            Salesforce(url, "id", "wrong").push([account("acme")])
        salesforce.close()
    assert field_of("spend_30d") == "Tallystick_Spend_30d__c"


def test_settings_that_lack_something() -> None:
    assert _crm(Settings()) is None
    for lacking in (Settings(crm="hubspot"), Settings(crm="salesforce", crm_url="https://a.example")):
        with pytest.raises(Invalid, match="needs crm_"):
            _crm(lacking)
