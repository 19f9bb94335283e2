"""`/v1/api_keys` and `/v1/portal_tokens`: who may do what, for how long, and how it ends."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.api.questions.live import ADMIN_KEY, NOW, Live, Tenant, faults

HOUR = "2026-07-15T13:00:00Z"


@pytest.fixture(scope="module")
def later() -> Iterator[Any]:
    """`later()`: a second has passed, for whoever keeps keys. Time does not go back between the tests."""
    real = time.monotonic
    passed_s = 0.0

    with pytest.MonkeyPatch.context() as patch:

        def pass_one() -> None:
            nonlocal passed_s
            passed_s += 1
            patch.setattr(time, "monotonic", lambda: real() + passed_s)

        yield pass_one


def using(tenant: Tenant, secret: str) -> Tenant:
    return Tenant(tenant.live, tenant.key, secret)


def key(tenant: Tenant, *scopes: str, **members: Any) -> dict[str, Any]:
    made = tenant.post("/v1/api_keys", {"name": "k", "scopes": list(scopes), **members})
    assert made.status_code == 201, made.text
    return made.json()


def portal(tenant: Tenant, customer: str = "acme", **members: Any) -> dict[str, Any]:
    made = tenant.post("/v1/portal_tokens", {"customer": customer, **members})
    assert made.status_code == 201, made.text
    return made.json()


# -- keys -----------------------------------------------------------------------------------------------------------
def test_what_is_answered_holds_at_once_where_it_was_asked(live: Live, tenant: Tenant) -> None:
    made = key(tenant, "usage:read", "customers:write", "meters:read")
    old = using(tenant, made["secret"])
    tenant.post("/v1/customers", {"key": "acme"})
    token = old.post("/v1/portal_tokens", {"customer": "acme", "scopes": ["usage:read"]}).json()
    bound = using(tenant, token["token"])
    for who in (old, bound):
        assert who.post("/v1/usage/query", {}).status_code == 422  # looked up, and kept
    assert tenant.send("DELETE", f"/v1/portal_tokens/{token['id']}").status_code == 204
    assert bound.post("/v1/usage/query", {}).status_code == 401

    path = f"/v1/api_keys/{made['id']}"
    assert tenant.send("PATCH", path, json={"scopes": ["usage:read"]}).status_code == 200
    assert old.get("/v1/meters").status_code == 403
    new = using(tenant, tenant.post(f"{path}/rotate").json()["secret"])
    assert (old.get("/v1/meters").status_code, new.get("/v1/meters").status_code) == (401, 403)
    assert tenant.send("DELETE", path).status_code == 204
    assert new.get("/v1/meters").status_code == 401

    owner = Tenant(live, "default", ADMIN_KEY)
    guest = using(owner, owner.post("/v1/tenants", {"key": "short-lived"}).json()["admin_key"])
    assert guest.get("/v1/meters").status_code == 200
    assert owner.send("PATCH", "/v1/tenants/short-lived", json={"suspended": True}).status_code == 200
    assert guest.get("/v1/meters").json()["code"] == "tenant_suspended"
    assert owner.send("DELETE", "/v1/tenants/short-lived").status_code == 204
    assert guest.get("/v1/meters").status_code == 401


def test_a_key_is_read_and_changed_under_its_etag(tenant: Tenant, later: Any) -> None:
    made = tenant.post("/v1/api_keys", {"name": "k", "scopes": ["usage:read"], "expires_at": HOUR})
    path, secret = made.headers["location"], made.json()["secret"]
    read = tenant.get(path)
    assert read.json() == {name: value for name, value in made.json().items() if name != "secret"}
    assert read.headers["etag"] == made.headers["etag"]
    assert tenant.get(path, headers={"if-none-match": read.headers["etag"]}).status_code == 304
    assert using(tenant, secret).get("/v1/meters").status_code == 403

    change = {"scopes": ["meters:*"], "expires_at": None}
    stale = tenant.send("PATCH", path, json=change, headers={"if-match": '"else"'})
    assert (stale.status_code, stale.json()["code"]) == (412, "precondition_failed")
    changed = tenant.send("PATCH", path, json=change, headers={"if-match": read.headers["etag"]})
    assert (changed.status_code, changed.json()["scopes"]) == (200, ["meters:*"])
    assert changed.json()["expires_at"] is None
    assert changed.headers["etag"] != read.headers["etag"]
    later()
    assert using(tenant, secret).get("/v1/meters").status_code == 200
    wrong = tenant.send("PATCH", path, json={"name": None, "scopes": ["x"], "colour": 1})
    assert wrong.status_code == 422
    assert {pointer for pointer, _ in faults(wrong)} == {"/name", "/colour"}


def test_rotation_with_an_overlap(tenant: Tenant, later: Any) -> None:
    made = key(tenant, "meters:read")
    old = using(tenant, made["secret"])
    rotated = tenant.post(f"/v1/api_keys/{made['id']}/rotate", {"overlap_seconds": 3600})
    assert rotated.status_code == 201
    assert rotated.json()["previous_secret_until"] == HOUR
    later()
    assert old.get("/v1/meters").status_code == 200
    assert using(tenant, rotated.json()["secret"]).get("/v1/meters").status_code == 200
    again = tenant.send("POST", f"/v1/api_keys/{made['id']}/rotate")
    assert again.json()["previous_secret_until"] is None
    later()
    assert old.get("/v1/meters").status_code == 401
    assert using(tenant, rotated.json()["secret"]).get("/v1/meters").status_code == 401
    for wrong in ({"overlap_seconds": -1}, {"overlap_seconds": 700_000}, {"soon": True}):
        assert tenant.post(f"/v1/api_keys/{made['id']}/rotate", wrong).status_code == 422


def test_last_use_is_shown_and_written_later(live: Live, tenant: Tenant) -> None:
    made = key(tenant, "meters:read")
    assert made["last_used_at"] is None
    using(tenant, made["secret"]).get("/v1/meters")
    assert tenant.answer(f"/v1/api_keys/{made['id']}")["last_used_at"] is None
    live.run(live.framework.state["authenticator"].note_used())
    assert tenant.answer(f"/v1/api_keys/{made['id']}")["last_used_at"] == NOW
    tenant.post("/v1/customers", {"key": "acme"})
    token = tenant.post("/v1/portal_tokens", {"customer": "acme"}).json()
    assert token["last_used_at"] is None
    using(tenant, token["token"]).get("/v1/customers/acme")
    live.run(live.framework.state["authenticator"].note_used())
    assert [one["last_used_at"] for one in tenant.answer("/v1/portal_tokens")["items"]] == [NOW]


# -- portal tokens ---------------------------------------------------------------------------------------------------
def test_a_token_is_made_listed_and_revoked(tenant: Tenant, later: Any) -> None:
    tenant.post("/v1/customers", {"key": "acme"})
    made = portal(tenant)
    assert made["token"].startswith("tpt_")
    assert made["expires_at"] == HOUR
    assert made["scopes"] == ["events:read", "usage:read", "meters:read", "customers:read"]
    shown = {name: value for name, value in made.items() if name != "token"}
    assert tenant.answer("/v1/portal_tokens")["items"] == [shown]
    assert tenant.answer("/v1/portal_tokens?customer=other")["items"] == []
    own = using(tenant, made["token"])
    assert own.get("/v1/customers/acme").status_code == 200
    assert own.post("/v1/portal_tokens", {"customer": "acme"}).status_code == 403
    assert tenant.send("DELETE", f"/v1/portal_tokens/{made['id']}").status_code == 204
    assert tenant.send("DELETE", f"/v1/portal_tokens/{made['id']}").status_code == 204
    later()
    assert own.get("/v1/customers/acme").status_code == 401
    assert tenant.send("DELETE", "/v1/portal_tokens/tok_none").json()["code"] == "token_not_found"


def test_a_token_ends(live: Live, tenant: Tenant) -> None:
    tenant.post("/v1/customers", {"key": "acme"})
    own = using(tenant, portal(tenant, ttl_seconds=60)["token"])
    assert own.get("/v1/customers/acme").status_code == 200
    live.clock.advance(seconds=60)
    try:
        assert own.get("/v1/customers/acme").status_code == 401
    finally:
        live.clock.advance(seconds=-60)


def test_a_token_is_never_worth_more_than_its_key(tenant: Tenant, later: Any) -> None:
    tenant.post("/v1/customers", {"key": "acme"})
    made = key(tenant, "customers:*", "usage:read", expires_at="2026-07-15T12:10:00Z")
    seller = using(tenant, made["secret"])
    token = portal(seller)
    assert token["scopes"] == ["usage:read", "customers:read"]
    assert token["expires_at"] == "2026-07-15T12:10:00Z"
    refused = seller.post(
        "/v1/portal_tokens", {"customer": "acme", "scopes": ["usage:read", "events:read", "billing:read"]}
    )
    assert (refused.status_code, refused.json()["code"]) == (403, "scope_not_granted")
    assert faults(refused) == [("/scopes/1", "scope_not_granted"), ("/scopes/2", "scope_not_granted")]
    assert using(tenant, token["token"]).get("/v1/customers/acme").status_code == 200
    tenant.send("DELETE", f"/v1/api_keys/{made['id']}")
    later()
    assert using(tenant, token["token"]).get("/v1/customers/acme").status_code == 401


def test_all_that_is_wrong_with_a_token_is_said_at_once(tenant: Tenant) -> None:
    refused = tenant.post("/v1/portal_tokens", {"ttl_seconds": 0, "scopes": ["admin", "usage:read"], "x": 1})
    assert set(faults(refused)) == {
        ("/customer", "missing"),
        ("/ttl_seconds", "invalid_number"),
        ("/scopes/0", "unknown_scope"),
        ("/x", "unknown_member"),
    }
    missing = tenant.post("/v1/portal_tokens", {"customer": "nobody"})
    assert (missing.status_code, missing.json()["code"]) == (404, "customer_not_found")


def test_all_that_is_wrong_with_a_key_is_said_at_once(tenant: Tenant) -> None:
    refused = tenant.post(
        "/v1/api_keys", {"name": "k", "scopes": ["usage:read", "all"], "expires_at": "soon", "x": 1}
    )
    assert faults(refused) == [
        ("/expires_at", "invalid_time"),
        ("/x", "unknown_member"),
        ("/scopes/1", "unknown_scope"),
    ]
    assert faults(tenant.post("/v1/api_keys", {"x": 1})) == [
        ("/name", "missing"),
        ("/scopes", "missing"),
        ("/x", "unknown_member"),
    ]


def test_the_audit_spells_moments_as_everything_else_does(tenant: Tenant) -> None:
    made = key(tenant, "usage:read", expires_at=HOUR)
    (row,) = tenant.answer(f"/v1/audit?resource=api_key/{made['id']}")["items"]
    assert row["after"]["expires_at"] == HOUR
    assert row["after"]["revoked_at"] is None
    assert not any(name.endswith("_us") for name in row["after"])


def test_a_repeated_request_does_not_show_the_secret(tenant: Tenant) -> None:
    tenant.post("/v1/customers", {"key": "acme"})
    headers = {"idempotency-key": "once"}
    first = tenant.post("/v1/portal_tokens", {"customer": "acme"}, headers=headers)
    second = tenant.post("/v1/portal_tokens", {"customer": "acme"}, headers=headers)
    assert second.headers["idempotent-replayed"] == "true"
    assert second.json() == {**first.json(), "token": None}
