"""Plans and subscriptions over HTTP: drafts, versions, what may follow what, and every fault at once."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.api.questions.live import Tenant, faults

FEE: dict[str, Any] = {"key": "base", "name": "Base", "price": {"model": "flat", "amount": "31"}}
USAGE: dict[str, Any] = {
    "key": "tokens",
    "name": "Tokens",
    "meter": "tokens",
    "price": {"model": "per_unit", "unit_amount": "0.01"},
}


def prepared(tenant: Tenant) -> Tenant:
    tenant.meter(
        key="tokens", event_type="llm", aggregation="sum", value="$.n", dimensions={"model": "$.model"}
    )
    assert tenant.post("/v1/customers", {"key": "acme"}).status_code == 201
    return tenant


def plan(tenant: Tenant, key: str = "pro", **members: Any) -> dict[str, Any]:
    body = {"key": key, "currency": "USD", "billing_period": "month", "charges": [FEE, USAGE], **members}
    made = tenant.post("/v1/plans", body)
    assert made.status_code == 201, made.text
    published = tenant.post(f"/v1/plans/{key}/publish")
    assert published.status_code == 200, published.text
    return published.json()


def subscribed(tenant: Tenant, **members: Any) -> dict[str, Any]:
    body = {"customer": "acme", "plan": "pro", "start": "2026-07-01T00:00:00Z", **members}
    made = tenant.post("/v1/subscriptions", body)
    assert made.status_code == 201, made.text
    return made.json()


def test_a_plan_goes_from_draft_to_published_to_archived(tenant: Tenant) -> None:
    prepared(tenant)
    made = tenant.post("/v1/plans", {"key": "pro", "currency": "USD", "charges": [FEE]})
    assert (made.status_code, made.json()["status"], made.json()["version"]) == (201, "draft", 1)
    assert tenant.post("/v1/plans", {"key": "pro", "currency": "USD"}).json()["code"] == "plan_exists"
    assert tenant.send("PATCH", "/v1/plans/pro", json={"name": "Pro"}).json()["version"] == 1
    refused = tenant.post("/v1/subscriptions", {"customer": "acme", "plan": "pro"})
    assert (refused.status_code, refused.json()["code"]) == (409, "plan_not_published")
    assert tenant.post("/v1/plans/pro/publish").json()["status"] == "published"
    changed = tenant.send("PATCH", "/v1/plans/pro", json={"name": "Pro 2"}).json()
    assert (changed["version"], changed["status"]) == (2, "draft")
    assert [one["name"] for one in tenant.answer("/v1/plans/pro/versions")["items"]] == ["Pro", "Pro 2"]
    assert tenant.answer("/v1/plans/pro?version=1")["status"] == "published"
    assert subscribed(tenant)["version"] == 1
    assert tenant.post("/v1/plans/pro/archive?version=1").json()["status"] == "archived"
    assert tenant.post("/v1/plans/pro/publish?version=1").json()["code"] == "plan_state"
    assert [one["key"] for one in tenant.answer("/v1/plans")["items"]] == ["pro"]
    assert tenant.get("/v1/plans/none").status_code == 404


def test_a_plan_is_changed_only_as_it_was_read(tenant: Tenant) -> None:
    prepared(tenant)
    made = tenant.post("/v1/plans", {"key": "pro", "currency": "USD", "charges": [FEE]})
    read = tenant.get("/v1/plans/pro")
    assert read.headers["etag"] == made.headers["etag"]
    assert tenant.get("/v1/plans/pro", headers={"If-None-Match": read.headers["etag"]}).status_code == 304
    as_read = {"If-Match": read.headers["etag"]}
    changed = tenant.send("PATCH", "/v1/plans/pro", json={"name": "Pro"}, headers=as_read)
    assert changed.status_code == 200, changed.text
    for late in (
        tenant.send("PATCH", "/v1/plans/pro", json={"name": "Lost"}, headers=as_read),
        tenant.post("/v1/plans/pro/publish", headers=as_read),
        tenant.post("/v1/plans/pro/archive", headers=as_read),
    ):
        assert (late.status_code, late.json()["code"]) == (412, "precondition_failed")
    assert tenant.answer("/v1/plans/pro")["name"] == "Pro"
    published = tenant.post("/v1/plans/pro/publish", headers={"If-Match": changed.headers["etag"]})
    assert (published.status_code, published.json()["status"]) == (200, "published")
    assert tenant.get("/v1/plans/pro").headers["etag"] == published.headers["etag"]


def test_changes_of_a_plan_at_once_lose_nothing(tenant: Tenant) -> None:
    """Each sends a member of its own: where one change is made of a version that another has replaced, it is made again."""
    prepared(tenant)
    tenant.post("/v1/plans", {"key": "pro", "currency": "USD", "charges": [FEE]})
    changes: list[dict[str, Any]] = [{"name": "Pro"}, {"description": "For teams"}, {"trial_days": 14}]

    def change(members: dict[str, Any]) -> int:
        return tenant.send("PATCH", "/v1/plans/pro", json=members).status_code

    with ThreadPoolExecutor(len(changes)) as pool:
        assert list(pool.map(change, changes)) == [200, 200, 200]
    found = tenant.answer("/v1/plans/pro")
    assert {name: found[name] for one in changes for name in one} == {
        name: value for one in changes for name, value in one.items()
    }


def test_every_fault_of_a_plan_is_named(tenant: Tenant) -> None:
    prepared(tenant)
    refused = tenant.post(
        "/v1/plans",
        {
            "key": "pro",
            "currency": "USD",
            "charges": [
                {**USAGE, "meter": "none"},
                {**USAGE, "key": "b", "group_by": ["size"], "filter": {"size": {"eq": "1"}}},
                {**USAGE, "key": "c", "filter": {"model": {"like": "1"}}},
            ],
        },
    )
    assert refused.status_code == 422
    assert faults(refused) == [
        ("/charges/0/meter", "unknown_meter"),
        ("/charges/1/group_by", "unknown_dimension"),
        ("/charges/1/filter", "unknown_dimension"),
        ("/charges/2/filter", "invalid_filter"),
    ]


def test_a_subscription_is_changed_paused_and_cancelled(tenant: Tenant) -> None:
    prepared(tenant)
    plan(tenant)
    plan(tenant, "max")
    made = subscribed(tenant, key="main")
    assert made["status"] == "active"
    assert made["current_period"] == {"from": "2026-07-01T00:00:00Z", "to": "2026-08-01T00:00:00Z"}
    path = "/v1/subscriptions/main"
    changed = tenant.post(f"{path}/change", {"plan": "max", "effective": "period_end"})
    assert changed.status_code == 200, changed.text
    assert [(one["plan"], one["from"]) for one in changed.json()["spans"]] == [
        ("pro", "2026-07-01T00:00:00Z"),
        ("max", "2026-08-01T00:00:00Z"),
    ]
    assert (changed.json()["plan"], changed.json()["status"]) == ("pro", "active")
    assert tenant.post(f"{path}/pause", {"until": "2026-07-20T00:00:00Z"}).json()["status"] == "paused"
    assert tenant.post(f"{path}/resume").json()["status"] == "active"
    cancelled = tenant.post(f"{path}/cancel", {"effective": "period_end"}).json()
    assert (cancelled["status"], cancelled["end"]) == ("active", "2026-08-01T00:00:00Z")
    assert tenant.post(f"{path}/uncancel").json()["end"] is None
    assert tenant.post(f"{path}/cancel").json()["status"] == "ended"
    assert tenant.post("/v1/subscriptions/none/cancel").status_code == 404
    unknown = tenant.post(f"{path}/cancel", {"when": "now"})
    assert faults(unknown) == [("/when", "unknown_member")]


def test_a_token_of_a_customer_sees_its_own(tenant: Tenant) -> None:
    prepared(tenant)
    plan(tenant)
    tenant.post("/v1/customers", {"key": "other"})
    own, foreign = subscribed(tenant), subscribed(tenant, customer="other")
    token = tenant.post("/v1/portal_tokens", {"customer": "acme", "scopes": ["billing:read"]}).json()
    bound = Tenant(tenant.live, tenant.key, token["token"])
    assert [one["id"] for one in bound.answer("/v1/subscriptions")["items"]] == [own["id"]]
    assert bound.get(f"/v1/subscriptions/{foreign['id']}").status_code == 403
    assert bound.get("/v1/plans").status_code == 403


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"customer": "none", "plan": "pro"}, "customer_not_found"),
        ({"customer": "acme", "plan": "none"}, "plan_not_found"),
        ({"customer": "acme", "plan": "pro", "quantities": {"seats": "3"}}, "unknown_charge"),
        (
            {
                "customer": "acme",
                "plan": "pro",
                "start": "2026-07-02T00:00:00Z",
                "end": "2026-07-01T00:00:00Z",
            },
            "empty_range",
        ),
    ],
)
def test_what_cannot_be_subscribed(tenant: Tenant, body: dict[str, Any], code: str) -> None:
    prepared(tenant)
    plan(tenant)
    assert tenant.post("/v1/subscriptions", body).json()["code"] == code
