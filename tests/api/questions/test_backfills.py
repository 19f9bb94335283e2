"""`/v1/backfills` over HTTP, on the real parts."""

import gzip
import json
from typing import Any

import pytest
from tests.api.questions.live import NOW, Tenant, faults

JULY = "from=2026-07-01T00:00:00Z&to=2026-07-04T00:00:00Z"


def event(number: int | str, subject: str = "acme", *, day: int = 2, **data: Any) -> dict[str, Any]:
    return {
        "id": str(number),
        "type": "llm",
        "subject": subject,
        "time": f"2026-07-0{day}T10:00:00Z",
        "data": data,
    }


@pytest.fixture
def metered(tenant: Tenant) -> Tenant:
    tenant.meter(key="n", event_type="llm", aggregation="sum", value="$.n")
    tenant.record(event(1, n=1), event(2, n=2), event(3, day=3, n=4))
    return tenant


def opened(tenant: Tenant, key: str = "b", **members: Any) -> dict[str, Any]:
    response = tenant.post("/v1/backfills", {"key": key, "reason": "lost", **members})
    assert response.status_code == 201, response.text
    return response.json()


def staged(tenant: Tenant, *events: dict[str, Any], key: str = "b") -> dict[str, Any]:
    response = tenant.post(f"/v1/backfills/{key}/events", list(events))
    assert response.status_code == 202, response.text
    # Laid aside is laid aside when it is recorded.
    tenant.answer(f"/v1/meters/n/usage?{JULY}&min_position={response.json()['position']}")
    return response.json()


def step(tenant: Tenant, name: str, key: str = "b") -> dict[str, Any]:
    response = tenant.post(f"/v1/backfills/{key}/{name}")
    assert response.status_code == 200, response.text
    return response.json()


def total(tenant: Tenant, more: str = "") -> str:
    return tenant.answer(f"/v1/meters/n/usage?{JULY}&fill=zero{more}")["rows"][0]["value"]


def code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


def test_nothing_counts_before_it_is_closed_and_then_all(metered: Tenant) -> None:
    assert opened(metered) == {
        "key": "b",
        "state": "open",
        "reason": "lost",
        "author": "admin",
        "replace": None,
        "pending": 0,
        "counts": dict.fromkeys(("recorded", "duplicates", "conflicts", "replaced", "retracted"), 0),
        "opened_at": NOW,
        "closed_at": None,
        "reverted_at": None,
    }
    answer = staged(metered, event(10, n=10), event(11, "new", n=20), {"id": "x"})
    assert (answer["accepted"], answer["rejected"]) == (2, 1)
    assert answer["results"][0]["code"] == "missing_type"
    staged(metered, event(1, n=1), event(2, n=999))
    assert total(metered) == "7"
    assert metered.get("/v1/events/lookup?id=10").status_code == 404
    assert metered.answer("/v1/backfills/b")["pending"] == 4
    closed = step(metered, "close")
    assert (closed["state"], closed["pending"]) == ("closed", 0)
    assert closed["counts"] == {"recorded": 2, "duplicates": 1, "conflicts": 1, "replaced": 0, "retracted": 0}
    assert closed["closed_at"] is not None
    assert total(metered) == "37"
    assert step(metered, "close") == closed
    assert total(metered) == "37"


def test_it_replaces_a_range_and_reverting_brings_it_back(metered: Tenant) -> None:
    replace = {
        "from": "2026-07-02T00:00:00Z",
        "to": "2026-07-03T00:00:00Z",
        "type": "llm",
        "customer": "acme",
    }
    made = opened(metered, replace=replace)
    assert made["replace"] == replace
    staged(metered, event(1, n=100), event(7, n=50))
    closed = step(metered, "close")
    assert closed["counts"]["retracted"] == 2
    assert total(metered) == "154"
    corrections = metered.answer("/v1/events/lookup?id=1")["corrections"]
    assert {(one["backfill"], one["reason"]) for one in corrections} == {("b", "lost")}
    reverted = step(metered, "revert")
    assert reverted["state"] == "reverted"
    assert reverted["reverted_at"] is not None
    assert total(metered) == "7"
    assert step(metered, "revert")["state"] == "reverted"


def test_formats_of_ingest_are_understood(metered: Tenant) -> None:
    opened(metered)
    lines = "\n".join(json.dumps(event(number, n=1)) for number in (20, 21)).encode()
    for content, headers in (
        (gzip.compress(lines), {"content-type": "application/x-ndjson", "content-encoding": "gzip"}),
        (b"id,type,subject,time,n\n22,llm,acme,2026-07-02T10:00:00Z,1\n", {"content-type": "text/csv"}),
    ):
        response = metered.send("POST", "/v1/backfills/b/events", content=content, headers=headers)
        assert response.status_code == 202, response.text
    assert step(metered, "close")["counts"]["recorded"] == 3
    assert total(metered) == "10"


def test_discarding(metered: Tenant) -> None:
    opened(metered)
    staged(metered, event(10, n=10))
    assert metered.send("DELETE", "/v1/backfills/b").status_code == 204
    assert code(metered.get("/v1/backfills/b")) == (404, "backfill_not_found")
    assert code(metered.post("/v1/backfills/b/events", [event(11, n=1)])) == (404, "backfill_not_found")
    assert opened(metered)["pending"] == 0
    assert step(metered, "close")["counts"]["recorded"] == 0
    assert total(metered) == "7"


def test_steps_out_of_order_are_refused(metered: Tenant) -> None:
    opened(metered)
    assert code(metered.post("/v1/backfills", {"key": "b", "reason": "r"})) == (409, "backfill_exists")
    assert code(metered.post("/v1/backfills/b/revert")) == (409, "backfill_not_closed")
    step(metered, "close")
    assert code(metered.post("/v1/backfills/b/events", [event(11, n=1)])) == (409, "backfill_not_open")
    assert code(metered.send("DELETE", "/v1/backfills/b")) == (409, "backfill_not_open")
    step(metered, "revert")
    assert code(metered.post("/v1/backfills/b/close")) == (409, "backfill_not_open")
    assert code(metered.post("/v1/backfills/none/close")) == (404, "backfill_not_found")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, [("/key", "missing"), ("/reason", "missing")]),
        ({"key": "a b", "reason": ""}, [("/key", "invalid_key"), ("/reason", "invalid_value")]),
        (
            {"key": "a", "reason": "r", "replace": {"type": 1, "other": 2}},
            [
                ("/replace/from", "missing"),
                ("/replace/to", "missing"),
                ("/replace/type", "invalid_value"),
                ("/replace/other", "unknown_member"),
            ],
        ),
        (
            {
                "key": "a",
                "reason": "r",
                "replace": {"from": "2026-07-01T00:00:00Z", "to": "2026-07-01T00:00:00Z"},
            },
            [("/replace/to", "empty_range")],
        ),
        (
            {"key": "a", "reason": "r", "replace": [], "x": 1},
            [("/replace", "invalid_value"), ("/x", "unknown_member")],
        ),
    ],
)
def test_all_faults_at_once(tenant: Tenant, body: Any, expected: list[Any]) -> None:
    response = tenant.post("/v1/backfills", body)
    assert response.status_code == 422
    assert faults(response) == expected


def test_events_are_judged_as_those_of_ingest(tenant: Tenant) -> None:
    opened(tenant)
    path = "/v1/backfills/b/events"
    assert code(tenant.post(path, [{"id": "1"}])) == (422, "nothing_accepted")
    assert code(tenant.send("POST", path, content=b"{")) == (400, "invalid_json")
    assert code(tenant.post(path, [])) == (422, "no_events")
    assert faults(tenant.post(f"{path}?wait=recorded", [event(1)])) == [("wait", "unknown_parameter")]


def test_the_list(tenant: Tenant) -> None:
    for key in ("a", "b", "c"):
        opened(tenant, key)
    step(tenant, "close", "b")
    first = tenant.answer("/v1/backfills?limit=2")
    assert [one["key"] for one in first["items"]] == ["c", "b"]
    rest = tenant.answer(f"/v1/backfills?limit=2&cursor={first['next_cursor']}")
    assert ([one["key"] for one in rest["items"]], rest["next_cursor"]) == (["a"], None)
    assert [one["key"] for one in tenant.answer("/v1/backfills?state=closed")["items"]] == ["b"]
    assert faults(tenant.get("/v1/backfills?state=odd")) == [("state", "invalid_value")]


def test_scopes_and_tenants(tenant: Tenant) -> None:
    opened(tenant)
    reader = tenant.with_scopes("events:read")
    assert reader.get("/v1/backfills/b").status_code == 200
    for method, path in (
        ("POST", "/v1/backfills"),
        ("POST", "/v1/backfills/b/events"),
        ("POST", "/v1/backfills/b/close"),
        ("POST", "/v1/backfills/b/revert"),
        ("DELETE", "/v1/backfills/b"),
    ):
        assert code(reader.send(method, path)) == (403, "missing_scope")
    other = tenant.live.tenant()
    assert code(other.get("/v1/backfills/b")) == (404, "backfill_not_found")
    assert code(other.post("/v1/backfills/b/close")) == (404, "backfill_not_found")
    assert other.answer("/v1/backfills")["items"] == []
