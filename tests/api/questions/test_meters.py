"""`/v1/meters` over HTTP, on the real catalog."""

from typing import Any

import pytest
from tests.api.questions.live import NOW, Live, Tenant, faults

FULL = {
    "key": "tokens",
    "name": "LLM tokens",
    "event_type": "llm.completion",
    "aggregation": "sum",
    "value": "$.tokens",
    "dimensions": {"model": "$.model", "region": "$.region"},
    "filter": 'data.status == "ok"',
    "unit": "token",
    "description": "All of them.",
}


def test_a_meter_is_answered_with_every_member(tenant: Tenant) -> None:
    response = tenant.post("/v1/meters", FULL)
    assert response.status_code == 201
    unsaid = {"pair_by": None, "timeout": None, "of": None}
    assert response.json() == FULL | unsaid | {"version": 1, "created_at": NOW, "archived_at": None}
    assert response.headers["location"] == "/v1/meters/tokens"
    read = tenant.get("/v1/meters/tokens")
    assert read.json() == response.json()
    assert read.headers["etag"] == response.headers["etag"]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({}, {"/key", "/event_type", "/aggregation"}),
        (
            {"key": "a b", "event_type": "", "aggregation": "median", "value": "tokens", "colour": 1},
            {"/key", "/event_type", "/aggregation", "/value", "/colour"},
        ),
        ({"key": "a", "event_type": "t", "aggregation": "sum"}, {"/value"}),
        ({"key": "a", "event_type": "t", "aggregation": "count", "filter": "data.x ==="}, {"/filter"}),
        ([], {""}),
    ],
)
def test_all_faults_of_a_definition_at_once(tenant: Tenant, document: Any, expected: set[str]) -> None:
    response = tenant.post("/v1/meters", document)
    assert response.status_code == 422
    assert {pointer for pointer, _ in faults(response)} == expected


def test_a_body_that_is_no_json(tenant: Tenant) -> None:
    assert tenant.send("POST", "/v1/meters", content=b"{").status_code == 400


def test_a_key_is_used_once(tenant: Tenant) -> None:
    tenant.meter(**FULL)
    response = tenant.post("/v1/meters", FULL)
    assert (response.status_code, response.json()["code"]) == (409, "meter_exists")


def test_patch_merges_and_makes_versions(tenant: Tenant) -> None:
    tenant.meter(**FULL)
    renamed = tenant.send("PATCH", "/v1/meters/tokens", json={"name": "Tokens", "unit": None}).json()
    assert (renamed["name"], renamed["unit"], renamed["version"]) == ("Tokens", None, 1)
    changed = tenant.send(
        "PATCH", "/v1/meters/tokens", json={"dimensions": {"team": "$.team"}, "filter": None}
    ).json()
    assert (changed["dimensions"], changed["filter"], changed["version"]) == ({"team": "$.team"}, None, 2)
    assert changed["value"] == FULL["value"]
    versions = tenant.answer("/v1/meters/tokens/versions")
    assert [item["version"] for item in versions["items"]] == [1, 2]
    assert tenant.answer("/v1/meters/tokens?version=1")["filter"] == FULL["filter"]
    assert tenant.get("/v1/meters/tokens?version=3").json()["code"] == "meter_version_not_found"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"aggregation": "count"}, {"/value"}),
        ({"value": None}, {"/value"}),
        ({"key": "other"}, {"/key"}),
        ({"dimensions": {"customer": "$.c"}, "version": 7}, {"/dimensions/customer", "/version"}),
    ],
)
def test_a_patch_is_checked_as_a_whole(tenant: Tenant, change: dict[str, Any], expected: set[str]) -> None:
    tenant.meter(**FULL)
    response = tenant.send("PATCH", "/v1/meters/tokens", json=change)
    assert response.status_code == 422
    assert {pointer for pointer, _ in faults(response)} == expected
    assert tenant.answer("/v1/meters/tokens")["version"] == 1


def test_archiving_keeps_it_readable(tenant: Tenant) -> None:
    tenant.meter(**FULL)
    assert tenant.send("DELETE", "/v1/meters/tokens").status_code == 204
    assert tenant.send("DELETE", "/v1/meters/tokens").status_code == 204
    assert tenant.answer("/v1/meters/tokens")["archived_at"] == NOW
    assert tenant.answer("/v1/meters")["items"] == []
    assert len(tenant.answer("/v1/meters?include_archived=true")["items"]) == 1
    assert tenant.send("DELETE", "/v1/meters/other").json()["code"] == "meter_not_found"


def test_preconditions(tenant: Tenant) -> None:
    tenant.meter(**FULL)
    etag = tenant.get("/v1/meters/tokens").headers["etag"]
    assert tenant.get("/v1/meters/tokens", headers={"if-none-match": etag}).status_code == 304
    change = {"name": "New"}
    stale = tenant.send("PATCH", "/v1/meters/tokens", json=change, headers={"if-match": '"other"'})
    assert (stale.status_code, stale.json()["code"]) == (412, "precondition_failed")
    fresh = tenant.send("PATCH", "/v1/meters/tokens", json=change, headers={"if-match": etag})
    assert fresh.status_code == 200
    assert fresh.headers["etag"] != etag
    assert tenant.send("DELETE", "/v1/meters/tokens", headers={"if-match": etag}).status_code == 412


def test_lists_go_on_with_a_cursor(tenant: Tenant) -> None:
    for number in range(5):
        tenant.meter(key=f"m{number}", event_type="t", aggregation="count")
    keys: list[str] = []
    cursor = ""
    for _ in range(3):
        page = tenant.answer(f"/v1/meters?limit=2{cursor}")
        keys += [item["key"] for item in page["items"]]
        cursor = f"&cursor={page['next_cursor']}"
    assert page["next_cursor"] is None
    assert keys == ["m0", "m1", "m2", "m3", "m4"]
    for bad in ("limit=0", "limit=1001", "cursor=nonsense", "offset=3"):
        assert tenant.get(f"/v1/meters?{bad}").status_code == 422


def test_percent_encoded_keys(tenant: Tenant) -> None:
    tenant.meter(key="a.b:c-d_e", event_type="t", aggregation="count")
    assert tenant.answer("/v1/meters/a%2Eb%3Ac-d_e")["key"] == "a.b:c-d_e"
    response = tenant.get("/v1/meters/a%2Fusage")
    assert (response.status_code, response.json()["code"]) == (404, "meter_not_found")


def test_another_tenant_has_no_such_meter(live: Live, tenant: Tenant) -> None:
    tenant.meter(**FULL)
    assert live.tenant().get("/v1/meters/tokens").status_code == 404


ROUTES = [
    ("POST", "/v1/meters", "meters:write"),
    ("GET", "/v1/meters", "meters:read"),
    ("GET", "/v1/meters/m", "meters:read"),
    ("GET", "/v1/meters/m/versions", "meters:read"),
    ("PATCH", "/v1/meters/m", "meters:write"),
    ("DELETE", "/v1/meters/m", "meters:write"),
    ("GET", "/v1/meters/m/usage", "usage:read"),
    ("POST", "/v1/meters/m/usage", "usage:read"),
    ("GET", "/v1/meters/m/explain", "events:read"),
    ("GET", "/v1/meters/m/dimensions/d/values", "usage:read"),
    ("GET", "/v1/events", "events:read"),
    ("GET", "/v1/events/lookup", "events:read"),
    ("POST", "/v1/customers", "customers:write"),
    ("GET", "/v1/customers", "customers:read"),
    ("GET", "/v1/customers/c", "customers:read"),
    ("PATCH", "/v1/customers/c", "customers:write"),
    ("DELETE", "/v1/customers/c", "customers:write"),
    ("POST", "/v1/api_keys", "admin"),
    ("GET", "/v1/api_keys", "admin"),
    ("POST", "/v1/api_keys/k/rotate", "admin"),
    ("DELETE", "/v1/api_keys/k", "admin"),
    ("POST", "/v1/tenants", "admin"),
    ("GET", "/v1/tenants", "admin"),
    ("DELETE", "/v1/tenants/t", "admin"),
    ("GET", "/v1/audit", "admin"),
]


def test_every_route_asks_for_its_scope_before_it_looks_at_anything(live: Live, tenant: Tenant) -> None:
    """A key with every scope but the needed one is refused, one with that scope alone gets further."""
    scopes = {scope for _, _, scope in ROUTES}
    without = {scope: tenant.with_scopes(*(scopes - {scope, "admin"})) for scope in scopes}
    with_only = {scope: tenant.with_scopes(scope) for scope in scopes}
    for method, path, scope in ROUTES:
        refused = without[scope].send(method, path, content=b"not json")
        assert (refused.status_code, refused.json()["code"]) == (403, "missing_scope"), path
        further = with_only[scope].send(method, path, content=b"not json")
        assert further.status_code not in (401, 500), path
        assert further.status_code != 403 or further.json()["code"] == "other_tenant", path
        assert live.send(method, path).status_code == 401, path


@pytest.mark.parametrize(
    "members",
    [
        {"aggregation": "p95", "value": "$.ms"},
        {"aggregation": "sum", "value": {"cel": "ceil(data.ms / 1000.0)"}},
        {"aggregation": "time_weighted", "value": "$.seats", "timeout": "PT1H"},
        {"aggregation": "duration", "value": "$.state", "pair_by": "$.session", "timeout": "P1D"},
        {"aggregation": "register", "value": "$.kwh"},
        {"aggregation": "sum", "value": "$.n", "of": {"aggregation": "max", "window": "day"}},
    ],
)
def test_every_aggregation_is_carried(tenant: Tenant, members: dict[str, Any]) -> None:
    made = tenant.meter(key="m", event_type="t", **members)
    assert made | members == made
    assert tenant.answer("/v1/meters/m") == made
    renamed = tenant.send("PATCH", "/v1/meters/m", json={"name": "M"}).json()
    assert renamed == made | {"name": "M"}
    assert renamed["version"] == 1
    filtered = tenant.send("PATCH", "/v1/meters/m", json={"filter": "data.ok"}).json()
    assert filtered == renamed | {"filter": "data.ok", "version": 2, "created_at": filtered["created_at"]}
    assert tenant.answer("/v1/meters/m/versions")["items"][0]["version"] == 1


def test_a_member_can_be_taken_away(tenant: Tenant) -> None:
    tenant.meter(key="m", event_type="t", aggregation="time_weighted", value="$.n", timeout="PT1H")
    changed = tenant.send("PATCH", "/v1/meters/m", json={"timeout": None}).json()
    assert (changed["timeout"], changed["version"]) == (None, 2)
    refused = tenant.send("PATCH", "/v1/meters/m", json={"aggregation": "sum", "pair_by": "$.x"})
    assert refused.status_code == 422
    assert [pointer for pointer, _ in faults(refused)] == ["/pair_by"]
