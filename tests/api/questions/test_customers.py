"""`/v1/customers`, `/v1/api_keys`, `/v1/tenants`, `/v1/audit`, and what a bound caller sees."""

import csv
import json
import time
from typing import Any
from urllib.parse import quote

import pytest
from tests.api.questions.live import ADMIN_KEY, NOW, Live, Tenant, faults

ACME = {
    "key": "acme",
    "name": "Acme Inc.",
    "subjects": ["key-1", "key-2"],
    "parent": None,
    "currency": "USD",
    "timezone": "Europe/Berlin",
    "email": "it@acme.example",
    "external_ids": {"stripe": "cus_1"},
    "traits": {"plan": "pro", "seats": 5, "score": 1.25, "tags": ["a"]},
}


def test_a_customer_comes_back(tenant: Tenant) -> None:
    created = tenant.post("/v1/customers", ACME)
    assert created.status_code == 201
    assert created.json() == ACME | {
        "created_at": NOW,
        "archived_at": None,
        "stage": "active",
        "merged_into": None,
    }
    assert tenant.answer("/v1/customers/acme") == created.json()
    assert tenant.answer("/v1/customers")["items"] == [created.json()]


@pytest.mark.parametrize(
    "key",
    [
        "a/b",
        "a%2Fb",
        "ключ",
        "a b",
        "a?b#c",
        "..",
        "100%",
        "/",
        "x" * 256,
        "é/ü/漢",
        "a\\b",
        "+",
        "a//b",
        "/a/",
    ],
)
def test_any_key_survives_the_path(tenant: Tenant, key: str) -> None:
    created = tenant.post("/v1/customers", {"key": key})
    assert created.status_code == 201, created.text
    path = f"/v1/customers/{quote(key, safe='')}"
    if key != "..":  # the client resolves it before it sends
        assert created.headers["location"] == path
        assert tenant.answer(path)["key"] == key
        assert tenant.send("PATCH", path, json={"name": "n"}).json()["name"] == "n"
        assert tenant.send("DELETE", path).status_code == 204


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({}, [("/key", "missing")]),
        ({"key": ""}, [("/key", "invalid_value")]),
        ({"key": "x" * 257}, [("/key", "invalid_value")]),
        (
            {"key": 1, "subjects": [1], "external_ids": {"a": 1}, "traits": [], "nothing": 1},
            [
                ("/key", "invalid_value"),
                ("/subjects", "invalid_value"),
                ("/external_ids/a", "invalid_value"),
                ("/traits", "invalid_value"),
                ("/nothing", "unknown_member"),
            ],
        ),
        (
            {"key": "a", "currency": "dollars", "timezone": "Mars", "email": "nobody"},
            [
                ("/currency", "invalid_currency"),
                ("/timezone", "invalid_timezone"),
                ("/email", "invalid_email"),
            ],
        ),
        (
            {"key": "a", "currency": "dollars", "traits": [], "nothing": 1},
            [("/traits", "invalid_value"), ("/nothing", "unknown_member"), ("/currency", "invalid_currency")],
        ),
        ({"key": "a", "parent": "none"}, [("/parent", "parent_not_found")]),
    ],
)
def test_all_faults_at_once(tenant: Tenant, document: Any, expected: list[tuple[str, str]]) -> None:
    response = tenant.post("/v1/customers", document)
    assert response.status_code == 422
    assert faults(response) == expected


def test_a_member_that_is_not_there_is_told_from_those_that_are(tenant: Tenant) -> None:
    tenant.post("/v1/customers", ACME)
    refused = tenant.send("PATCH", "/v1/customers/acme", json={"key": "other"})
    assert faults(refused) == [("/key", "unknown_member")]
    assert "known: reassign, name, subjects, parent, currency" in refused.json()["detail"]


def test_a_patch_sets_what_it_names(tenant: Tenant) -> None:
    tenant.post("/v1/customers", ACME)
    changed = tenant.send(
        "PATCH", "/v1/customers/acme", json={"email": None, "subjects": ["key-3"], "traits": None}
    )
    assert changed.json() == ACME | {
        "email": None,
        "subjects": ["key-3"],
        "traits": {},
        "created_at": NOW,
        "archived_at": None,
        "stage": "active",
        "merged_into": None,
    }
    refused = tenant.send("PATCH", "/v1/customers/acme", json={"name": None, "key": "b"})
    assert faults(refused) == [("/name", "invalid_value"), ("/key", "unknown_member")]


def test_a_subject_belongs_to_one(tenant: Tenant) -> None:
    tenant.post("/v1/customers", ACME)
    taken = tenant.post("/v1/customers", {"key": "beta", "subjects": ["key-1"]})
    assert (taken.status_code, taken.json()["code"]) == (409, "subject_taken")
    moved = tenant.post("/v1/customers", {"key": "beta", "subjects": ["key-1"], "reassign": True})
    assert moved.status_code == 201
    assert tenant.answer("/v1/customers/acme")["subjects"] == ["key-2"]


def test_customers_are_found_by_what_people_know_of_them(tenant: Tenant) -> None:
    for key, name in (("c-1", "Brightwater Insurance"), ("c-2", "Harbor Health"), ("bright", "Another")):
        assert tenant.post("/v1/customers", {"key": key, "name": name}).status_code == 201
    assert [one["key"] for one in tenant.answer("/v1/customers?q=BRIGHT")["items"]] == ["c-1", "bright"]
    page = tenant.answer("/v1/customers?q=bright&limit=1")
    following = tenant.answer(f"/v1/customers?q=bright&cursor={page['next_cursor']}")
    assert [one["key"] for one in page["items"] + following["items"]] == ["c-1", "bright"]
    assert tenant.answer("/v1/customers?q=%25")["items"] == []
    assert tenant.answer("/v1/customers?q=") == tenant.answer("/v1/customers")


def test_a_customer_is_merged_only_as_it_was_read(tenant: Tenant) -> None:
    for key in ("old", "new"):
        assert tenant.post("/v1/customers", {"key": key}).status_code == 201
    read = tenant.get("/v1/customers/old").headers["etag"]
    tenant.send("PATCH", "/v1/customers/old", json={"name": "Not so old"})
    refused = tenant.post("/v1/customers/old/merge", {"into": "new"}, headers={"If-Match": read})
    assert (refused.status_code, refused.json()["code"]) == (412, "precondition_failed")
    assert tenant.answer("/v1/customers/old")["merged_into"] is None
    read = tenant.get("/v1/customers/old").headers["etag"]
    merged = tenant.post("/v1/customers/old/merge", {"into": "new"}, headers={"If-Match": read})
    assert merged.status_code == 200, merged.text
    assert merged.headers["etag"] == tenant.get("/v1/customers/new").headers["etag"]


def test_history_stays_where_it_was_when_a_customer_is_merged(tenant: Tenant) -> None:
    """What was recorded for the merged one stays its own, and the other shows it with its children."""
    tenant.post("/v1/customers", {"key": "old", "subjects": ["s-old"], "external_ids": {"crm": "1"}})
    tenant.post("/v1/customers", {"key": "new"})
    tenant.meter(key="n", event_type="call", aggregation="count")

    def call(event_id: str, subject: str) -> dict[str, Any]:
        return {"id": event_id, "type": "call", "subject": subject, "time": "2026-07-01T00:00:00Z"}

    tenant.record(call("1", "s-old"), call("2", "old"), call("3", "new"))
    merged = tenant.post("/v1/customers/old/merge", {"into": "new"})
    assert merged.status_code == 200, merged.text
    assert merged.json()["subjects"] == ["old", "s-old"]
    tenant.record(call("4", "s-old"), call("5", "old"))

    def figure(parameters: str) -> str:
        return tenant.answer(f"/v1/meters/n/usage?{parameters}")["rows"][0]["value"]

    assert (figure("customer=old"), figure("customer=new")) == ("2", "3")
    assert figure("customer=new&include_children=true") == "5"
    assert tenant.answer("/v1/customers?external_id=crm:1")["items"][0]["key"] == "new"
    assert tenant.answer("/v1/customers/old")["merged_into"] == "new"
    assert tenant.post("/v1/customers/old/merge", {"into": "new"}).json()["subjects"] == ["old", "s-old"]
    refused = tenant.post("/v1/customers/new/merge", {"into": "new"})
    assert (refused.status_code, faults(refused)) == (422, [("/into", "merge_into_itself")])


def test_customers_are_listed_by_stage_and_parent(tenant: Tenant) -> None:
    tenant.post("/v1/customers", {"key": "a", "stage": "trial"})
    tenant.post("/v1/customers", {"key": "b", "parent": "a"})

    def keys(parameters: str) -> list[str]:
        return [one["key"] for one in tenant.answer(f"/v1/customers?{parameters}")["items"]]

    assert (keys("stage=trial"), keys("parent=a"), keys("stage=suspended")) == (["a"], ["b"], [])
    refused = tenant.send("PATCH", "/v1/customers/b", json={"stage": "trial"})
    assert (refused.status_code, refused.json()["code"]) == (409, "stage_not_allowed")
    assert faults(tenant.get("/v1/customers?external_id=stripe")) == [("external_id", "invalid_value")]


def test_archived_customers_leave_the_list(tenant: Tenant) -> None:
    tenant.post("/v1/customers", ACME)
    assert tenant.send("DELETE", "/v1/customers/acme").status_code == 204
    assert tenant.answer("/v1/customers")["items"] == []
    assert len(tenant.answer("/v1/customers?include_archived=true")["items"]) == 1
    assert tenant.answer("/v1/customers/acme")["archived_at"] == NOW
    assert tenant.send("DELETE", "/v1/customers/none").json()["code"] == "customer_not_found"


# -- keys -----------------------------------------------------------------------------------------------------------
def test_the_life_of_an_api_key(tenant: Tenant) -> None:
    body = {"name": "reader", "scopes": ["meters:read"], "expires_at": "2027-01-01T00:00:00Z"}
    made = tenant.post("/v1/api_keys", body, headers={"idempotency-key": "once"})
    assert made.status_code == 201
    document = made.json()
    assert (document["name"], document["scopes"], document["expires_at"]) == tuple(body.values())
    assert document["secret"].startswith(document["prefix"])
    again = tenant.post("/v1/api_keys", body, headers={"idempotency-key": "once"})
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json() == document | {"secret": None}
    listed = tenant.get("/v1/api_keys")
    assert document["secret"] not in listed.text
    assert [item["name"] for item in listed.json()["items"]] == ["admin", "reader"]
    reader = Tenant(tenant.live, tenant.key, document["secret"])
    assert reader.get("/v1/meters").status_code == 200
    rotated = tenant.post(f"/v1/api_keys/{document['id']}/rotate").json()
    assert rotated["id"] == document["id"]
    assert rotated["secret"] not in (None, document["secret"])
    newer = Tenant(tenant.live, tenant.key, rotated["secret"])
    assert newer.get("/v1/meters").status_code == 200
    assert tenant.send("DELETE", f"/v1/api_keys/{document['id']}").status_code == 204
    assert tenant.send("DELETE", "/v1/api_keys/key_none").json()["code"] == "api_key_not_found"


@pytest.mark.parametrize(
    ("document", "pointers"),
    [
        ({}, {"/name", "/scopes"}),
        ({"name": "a", "scopes": ["everything"]}, {"/scopes/0", "/scopes"}),
        ({"name": "a", "scopes": "admin", "expires_at": "soon"}, {"/expires_at"}),
        ({"name": "a", "scopes": ["admin"], "expires_at": "2020-01-01T00:00:00Z"}, {"/expires_at"}),
    ],
)
def test_a_bad_api_key_is_refused(tenant: Tenant, document: Any, pointers: set[str]) -> None:
    response = tenant.post("/v1/api_keys", document)
    assert response.status_code == 422
    given = {pointer for pointer, _ in faults(response)}
    assert given
    assert given <= pointers


def test_tenants_are_made_by_the_default_tenant_alone(live: Live, tenant: Tenant) -> None:
    root = Tenant(live, "default", ADMIN_KEY)
    made = root.post("/v1/tenants", {"key": "made-here", "name": "Made"})
    assert made.status_code == 201
    assert (made.json()["key"], made.json()["name"]) == ("made-here", "Made")
    inside = Tenant(live, "made-here", made.json()["admin_key"])
    assert inside.get("/v1/meters").status_code == 200
    assert "made-here" in {item["key"] for item in root.answer("/v1/tenants?limit=1000")["items"]}
    assert root.post("/v1/tenants", {"key": "made-here"}).json()["code"] == "tenant_exists"
    assert root.send("DELETE", "/v1/tenants/made-here").status_code == 204
    assert root.send("DELETE", "/v1/tenants/default").json()["code"] == "tenant_default"
    assert tenant.post("/v1/tenants", {"key": "other"}).json()["code"] == "other_tenant"


def test_a_suspended_tenant_is_refused_and_keeps_what_it_sent(live: Live) -> None:
    root = Tenant(live, "default", ADMIN_KEY)
    made = root.post("/v1/tenants", {"key": "held", "environment": "test"}).json()
    assert (made["environment"], made["suspended_at"]) == ("test", None)
    held = Tenant(live, "held", made["admin_key"])
    held.record({"id": "1", "type": "call", "subject": "a"})
    assert root.send("PATCH", "/v1/tenants/held", json={"suspended": True}).json()["suspended_at"] == NOW
    time.sleep(1)  # what a key may go on for, real time
    for refused in (
        held.get("/v1/meters"),
        held.post("/v1/events", {"id": "2", "type": "c", "subject": "a"}),
    ):
        assert (refused.status_code, refused.json()["code"]) == (403, "tenant_suspended")
    root.send("PATCH", "/v1/tenants/held", json={"suspended": False})
    time.sleep(1)
    assert [event["id"] for event in held.answer("/v1/events")["items"]] == ["1"]
    refused = root.send("PATCH", "/v1/tenants/default", json={"suspended": True})
    assert (refused.status_code, refused.json()["code"]) == (409, "tenant_default")
    assert held.get("/v1/tenants/held").json()["code"] == "other_tenant"


def test_every_change_is_audited(tenant: Tenant) -> None:
    tenant.post("/v1/customers", ACME)
    changed = tenant.send("PATCH", "/v1/customers/acme", json={"name": "New"})
    newest = tenant.answer("/v1/audit?limit=1")["items"][0]
    assert (newest["action"], newest["at"], newest["actor"]) == ("customer.change", NOW, "admin")
    assert newest["request_id"] == changed.headers["x-request-id"]
    assert (newest["before"]["name"], newest["after"]["name"]) == ("Acme Inc.", "New")


def test_the_audit_is_searched_and_exported(tenant: Tenant) -> None:
    tenant.post("/v1/customers", ACME)
    tenant.send("PATCH", "/v1/customers/acme", json={"name": "New"})
    tenant.post("/v1/meters", {"key": "n", "event_type": "call", "aggregation": "count"})

    def actions(parameters: str) -> list[str]:
        return [row["action"] for row in tenant.answer(f"/v1/audit?{parameters}")["items"]]

    assert actions("resource=customer/acme") == ["customer.change", "customer.create"]
    assert actions("q=ACME%20inc") == ["customer.change", "customer.create"]
    assert actions("action=meter.*&actor=admin") == ["meter.create"]
    assert actions("to=2026-07-01T00:00:00Z") == []
    refused = tenant.get("/v1/audit?from=2026-07-01T00:00:00Z&to=2026-07-01T00:00:00Z&who=me")
    assert faults(refused) == [("to", "empty_range"), ("who", "unknown_parameter")]

    lines = tenant.get("/v1/audit/export?resource=customer/*").text.splitlines()
    assert [json.loads(line)["action"] for line in lines] == ["customer.change", "customer.create"]
    exported = tenant.get("/v1/audit/export?format=csv")
    rows = list(csv.DictReader(exported.text.splitlines()))
    assert [row["action"] for row in rows][:3] == ["audit.export", "audit.export", "meter.create"]
    assert json.loads(rows[3]["after"])["name"] == "New"
    assert rows[-1]["action"] == "tenant.create"


# -- a caller bound to a customer -------------------------------------------------------------------------------------
@pytest.fixture
def bound(tenant: Tenant) -> Tenant:
    tenant.post("/v1/customers", {"key": "acme"})
    tenant.post("/v1/customers", {"key": "acme-eu", "parent": "acme"})
    tenant.meter(key="n", event_type="call", aggregation="count", dimensions={"who": "$.who"})
    tenant.record(
        *(
            {"id": who, "type": "call", "subject": who, "time": "2026-07-01T00:00:00Z", "data": {"who": who}}
            for who in ("acme", "acme-eu", "beta")
        ),
        {"id": "p", "type": "ping", "subject": "beta"},
    )
    made = tenant.post("/v1/portal_tokens", {"customer": "acme"})
    return Tenant(tenant.live, tenant.key, made.json()["token"])


def test_a_bound_caller_sees_its_customer_and_those_below_it(bound: Tenant) -> None:
    usage = bound.answer("/v1/meters/n/usage?group_by=customer")["rows"]
    assert {row["group"]["customer"]: row["value"] for row in usage} == {"acme": "1", "acme-eu": "1"}
    assert bound.answer("/v1/meters/n/usage?customer=acme-eu")["rows"][0]["value"] == "1"
    assert {item["id"] for item in bound.answer("/v1/events")["items"]} == {"acme", "acme-eu"}
    assert bound.answer("/v1/events?status=unmetered")["items"] == []
    assert bound.answer("/v1/meters/n/explain")["seen"] == 2
    values = bound.answer("/v1/meters/n/dimensions/who/values")["items"]
    assert {one["value"] for one in values} == {"acme", "acme-eu"}
    assert [item["key"] for item in bound.answer("/v1/customers")["items"]] == ["acme", "acme-eu"]
    assert bound.answer("/v1/customers/acme-eu")["key"] == "acme-eu"
    assert bound.answer("/v1/events/lookup?id=acme-eu")["customer"] == "acme-eu"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/meters/n/usage?customer=beta", 403),
        ("/v1/meters/n/usage?customer=acme&customer=nobody", 403),
        ("/v1/events?customer=beta", 403),
        ("/v1/events?customer=beta&status=retracted", 403),
        ("/v1/meters/n/explain?customer=beta", 403),
        ("/v1/meters/n/dimensions/who/values?customer=beta", 403),
        ("/v1/customers/beta", 403),
        ("/v1/customers/nobody", 403),
        ("/v1/events/lookup?id=beta", 404),
        ("/v1/api_keys", 403),
        ("/v1/audit", 403),
    ],
)
def test_a_bound_caller_learns_nothing_of_others(bound: Tenant, path: str, status: int) -> None:
    response = bound.get(path)
    assert response.status_code == status
    if status == 403 and "customer=" in path:
        assert response.json()["code"] == "other_customer"
