"""What a change would do, asked before it is made; and whose key asks."""

from typing import Any

import pytest
from tests.api.questions.live import Live, Tenant, faults

METER = {
    "key": "n",
    "event_type": "call",
    "aggregation": "sum",
    "value": "$.n",
    "dimensions": {"model": "$.model"},
}


def call(number: int, **data: Any) -> dict[str, Any]:
    return {
        "id": f"c{number}",
        "type": "call",
        "subject": "acme",
        "time": f"2026-07-{number:02d}T00:00:00Z",
        "data": data,
    }


@pytest.fixture(scope="module")
def filled(live: Live) -> Tenant:
    tenant = live.tenant()
    tenant.record(call(1, n="0.1234567890123456789", model="a"), call(2, n=2), call(3, n="many"), call(4))
    return tenant


def test_a_definition_is_tried_on_the_latest_events_and_kept_nowhere(filled: Tenant) -> None:
    told = filled.post("/v1/meter_preview", METER).json()
    assert (told["scanned"], told["matched"]) == (4, 2)
    assert {one["reason"]: one["count"] for one in told["reasons"]} == {
        "value_not_numeric": 1,
        "value_missing": 1,
    }
    # Newest first, read as a meter would read them: 18 digits after the point.
    assert [one["id"] for one in told["items"]] == ["c4", "c3", "c2", "c1"]
    assert told["items"][3]["reading"]["value"] == "0.123456789012345679"
    assert told["items"][3]["reading"]["dimensions"] == {"model": "a"}
    assert filled.get("/v1/meters/n").status_code == 404


def test_a_definition_that_cannot_be_is_refused_as_when_it_is_created(filled: Tenant) -> None:
    wrong = METER | {"value": "tokens", "aggregation": "most"}
    tried, made = filled.post("/v1/meter_preview", wrong), filled.post("/v1/meters", wrong)
    assert tried.status_code == made.status_code == 422
    assert faults(tried) == faults(made)
    assert len(filled.post("/v1/meter_preview?limit=1", METER).json()["items"]) == 1
    assert filled.post("/v1/meter_preview?limit=201", METER).status_code == 422


def test_a_correction_is_shown_and_nothing_changes(live: Live) -> None:
    tenant = live.tenant()
    tenant.meter(**METER)
    tenant.record(call(1, n=5, model="a"), call(2, n=7))
    asked = {
        "retract": [{"id": "c1"}, {"id": "nowhere"}],
        "replace": [call(2, n="7.5", model="b"), {"id": "c1", "type": "call"}],
    }
    told = tenant.post("/v1/correction_preview", asked).json()
    shown = [(one["action"], one["id"], one["found"]) for one in told["items"]]
    assert shown == [("retract", "c1", True), ("retract", "nowhere", False), ("replace", "c2", True)]
    first, missing, replaced = told["items"]
    assert ([one["value"] for one in first["before"]], first["after"]) == (["5"], [])
    assert (missing["before"], missing["after"]) == ([], [])
    assert [one["value"] for one in replaced["before"] + replaced["after"]] == ["7", "7.5"]
    assert [(one["index"], one["code"]) for one in told["rejected"]] == [(1, "missing_subject")]
    assert tenant.answer("/v1/events/lookup?id=c1")["corrections"] == []

    # What was shown is what then is.
    tenant.post("/v1/events/corrections", {"reason": "tests", "replace": asked["replace"][:1]})
    after = tenant.answer("/v1/events/lookup?id=c2")["readings"]
    assert [one["value"] for one in after] == ["7.5"]


def test_a_retracted_event_counts_for_nothing_before_and_for_something_after(live: Live) -> None:
    tenant = live.tenant()
    tenant.meter(**METER)
    tenant.record(call(1, n=5))
    tenant.post("/v1/events/corrections", {"reason": "tests", "retract": [{"id": "c1"}]})
    told = tenant.post("/v1/correction_preview", {"replace": [call(1, n=6)]}).json()["items"][0]
    assert (told["before"], [one["value"] for one in told["after"]]) == ([], ["6"])


def test_previews_see_their_own_tenant_alone(live: Live, filled: Tenant) -> None:
    other = live.tenant()
    assert other.post("/v1/meter_preview", METER).json()["scanned"] == 0
    told = other.post("/v1/correction_preview", {"retract": [{"id": "c1"}]}).json()
    assert told["items"][0]["found"] is False


def test_at_most_a_hundred_corrections_are_previewed(filled: Tenant) -> None:
    asked = {"retract": [{"id": str(number)} for number in range(101)]}
    assert filled.post("/v1/correction_preview", asked).status_code == 413


def test_whose_key_it_is(live: Live) -> None:
    tenant = live.tenant()
    assert tenant.answer("/v1/me")["scopes"] == ["admin"]
    reader = tenant.with_scopes("usage:read", "meters:read")
    told = reader.answer("/v1/me")
    assert told == {
        "tenant": tenant.key,
        "name": "some",
        "customer": None,
        "scopes": ["usage:read", "meters:read"],
        "expires_at": None,
    }
    tenant.post("/v1/customers", {"key": "acme"})
    token = tenant.post("/v1/portal_tokens", {"customer": "acme"}).json()
    theirs = Tenant(live, tenant.key, token["token"]).answer("/v1/me")
    assert (theirs["customer"], theirs["expires_at"]) == ("acme", token["expires_at"])
    assert set(theirs["scopes"]) == set(token["scopes"])
