"""Retention over HTTP, and what is answered about facts that are gone."""

import time

from tests.api.questions.live import Tenant, faults


def test_set_list_and_refused_questions(tenant: Tenant) -> None:
    tenant.meter(key="m", event_type="call", aggregation="count")
    for number, at in enumerate(("2026-06-01T00:00:00Z", "2026-07-01T00:00:00Z")):
        tenant.record({"id": str(number), "source": "/", "type": "call", "subject": "c", "time": at})
    assert tenant.answer("/v1/retention") == {"items": []}
    document = {"type": "call", "keep_days": 30}
    made = tenant.send("PUT", "/v1/retention", json=document)
    assert (made.status_code, made.json()) == (200, {**document, "forgotten_before": None})
    assert tenant.answer("/v1/retention") == {"items": [made.json()]}
    live = tenant.live
    for _ in range(1800):  # readings of the past may be being built
        live.run(live.running.retention.sweep())
        events = tenant.answer("/v1/events", params={"type": "call"})["items"]
        if len(events) == 1:
            break
        time.sleep(0.05)
    assert [event["id"] for event in events] == ["1"]
    assert tenant.answer("/v1/retention")["items"][0]["forgotten_before"] == "2026-06-15T00:00:00Z"
    refused = tenant.get("/v1/meters/m/usage", params={"from": "2026-06-01T00:00:00Z"})
    assert (refused.status_code, refused.json()["code"]) == (422, "past_retention")
    assert "2026-06-15T00:00:00Z" in refused.json()["detail"]
    answer = tenant.answer("/v1/meters/m/usage", params={"from": "2026-06-15T00:00:00Z"})
    assert [row["value"] for row in answer["rows"]] == ["1"]
    check_what_else_asks(tenant)
    off = tenant.send("PUT", "/v1/retention", json={"type": "call", "keep_days": None})
    assert off.json()["keep_days"] is None


def check_what_else_asks(tenant: Tenant) -> None:
    """Every question about the past that is gone is refused alike, or says what is gone."""
    tenant.meter(key="other", event_type="ping", aggregation="count")
    gone, kept = "2026-06-01T00:00:00Z", "2026-06-15T00:00:00Z"
    formula = {"meters": {"a": {"meter": "m"}, "b": {"meter": "other"}}, "formula": "a + b"}
    assert faults(tenant.post("/v1/usage/query", {**formula, "from": gone})) == [("/from", "past_retention")]
    assert tenant.post("/v1/usage/query", {**formula, "from": kept}).status_code == 200
    for path in ("/v1/usage", "/v1/meters/m/usage", "/v1/meters/m/dimensions/customer/values"):
        assert faults(tenant.get(path, params={"from": gone})) == [("from", "past_retention")], path
        assert tenant.get(path, params={"from": kept}).status_code == 200, path
    assert tenant.get("/v1/usage", params={"from": gone, "meter": "other"}).status_code == 200
    for begin, hinted in ((gone, True), (kept, False)):
        hints = tenant.answer("/v1/meters/m/explain", params={"from": begin})["hints"]
        assert ("past_retention" in {hint["code"] for hint in hints}) is hinted
    # What is compared with a window that is gone has nothing to be compared with.
    compared = {"from": kept, "window": "month", "compare": "previous"}
    rows = tenant.answer("/v1/meters/m/usage", params=compared)["rows"]
    assert [(row["window_start"], row["previous"], row["change"]) for row in rows] == [
        ("2026-07-01T00:00:00Z", None, None)
    ]
    compared["from"] = "2026-07-01T00:00:00Z"
    compared["window"] = "day"
    rows = tenant.answer("/v1/meters/m/usage", params=compared)["rows"]
    assert [(row["previous"], row["change"]) for row in rows] == [("0", "1")]


def test_refused(tenant: Tenant) -> None:
    for document, expected in (
        ({"type": "call"}, [("/keep_days", "missing")]),
        ({"keep_days": 5}, [("/type", "missing")]),
        ({"type": "call", "keep_days": 0}, [("/keep_days", "invalid_number")]),
        ({"type": "call", "keep_days": "5"}, [("/keep_days", "invalid_number")]),
        ({"type": "call", "keep_days": 5, "x": 1}, [("/x", "unknown_member")]),
    ):
        assert faults(tenant.send("PUT", "/v1/retention", json=document)) == expected
    assert tenant.with_scopes("events:write").get("/v1/retention").status_code == 403
