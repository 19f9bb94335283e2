"""Events of subjects that belong to nobody (setting `unknown_subject = quarantine`): kept, listed, released, counted."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.api.questions.live import Live, Tenant, opened

TIME = "2026-07-01T00:00:00Z"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with opened(tmp_path_factory.mktemp("quarantine"), unknown_subject="quarantine") as made:
        yield made


def call(event_id: str, subject: str, amount: int = 1) -> dict[str, Any]:
    return {"id": event_id, "type": "call", "subject": subject, "time": TIME, "data": {"n": amount}}


def figure(tenant: Tenant, parameters: str = "") -> str | None:
    rows = tenant.answer(f"/v1/meters/n/usage?{parameters}")["rows"]
    return rows[0]["value"] if rows else None


def waiting(tenant: Tenant) -> list[str]:
    return [event["id"] for event in tenant.answer("/v1/events?status=quarantined")["items"]]


@pytest.fixture
def filled(tenant: Tenant) -> Tenant:
    tenant.post("/v1/customers", {"key": "acme", "subjects": ["known"]})
    tenant.meter(key="n", event_type="call", aggregation="sum", value="$.n")
    told = tenant.record(
        call("1", "known", 1), call("2", "who", 10), call("3", "else", 100), call("4", "who", 1000)
    )
    assert (told["recorded"], told["quarantined"], told["duplicates"]) == (1, 3, 0)
    assert [one["status"] for one in told["results"]] == ["quarantined"] * 3
    return tenant


def test_it_does_not_count_before_its_subject_belongs_to_somebody(filled: Tenant) -> None:
    assert figure(filled) == "1"
    assert waiting(filled) == ["4", "3", "2"]
    assert filled.answer("/v1/customers")["items"][0]["key"] == "acme"
    assert len(filled.answer("/v1/customers")["items"]) == 1
    known = filled.answer("/v1/events/lookup?id=2")
    assert (known["customer"], known["readings"]) == (
        "",
        [{"meter": "n", "version": 1, "excluded": "quarantined"}],
    )
    explained = filled.answer("/v1/meters/n/explain")
    assert (explained["matched"], explained["invalid"], explained["filtered_out"]) == (1, 0, 3)
    assert filled.answer("/v1/events?status=invalid")["items"] == []
    assert filled.record(call("2", "who", 10))["duplicates"] == 1


def test_released_it_counts_from_then_on(filled: Tenant) -> None:
    before = filled.answer("/v1/events/lookup?id=4")["recorded_at"]
    assert filled.send("PATCH", "/v1/customers/acme", json={"subjects": ["known", "who"]}).status_code == 200
    assert figure(filled, "customer=acme") == "1011"
    assert waiting(filled) == ["3"]
    known = filled.answer("/v1/events/lookup?id=2")
    assert known["customer"] == "acme"
    assert [one["value"] for one in known["readings"]] == ["10"]
    assert "quarantine" in known["corrections"][0]["reason"]
    assert known["as_sent"]["customer"] == ""
    assert figure(filled, f"as_of={before}") == "1"  # history: then it did not count
    assert filled.post("/v1/customers", {"key": "else"}).status_code == 201  # named like the subject
    assert figure(filled) == "1111"
    assert waiting(filled) == []
    assert filled.record(call("5", "who", 5))["recorded"] == 1
    assert figure(filled, "customer=acme") == "1016"


def test_what_is_retracted_in_quarantine_is_not_released(filled: Tenant) -> None:
    taken = filled.post("/v1/events/corrections", {"reason": "r", "retract": [{"id": "2"}]})
    assert taken.json()["results"][0]["status"] == "retracted"
    assert waiting(filled) == ["4", "3"]
    filled.post("/v1/customers", {"key": "late", "subjects": ["who"]})
    assert figure(filled, "customer=late") == "1000"


def test_readings_built_anew_say_the_same(filled: Tenant) -> None:
    filled.post("/v1/customers", {"key": "late", "subjects": ["who"]})
    filled.meter(key="again", event_type="call", aggregation="sum", value="$.n", dimensions={"n": "$.n"})
    rows = filled.answer("/v1/meters/again/usage?group_by=customer")["rows"]
    assert {row["group"]["customer"]: row["value"] for row in rows} == {"acme": "1", "late": "1010"}
    assert filled.live.system.store.quarantined(as_of_us=2**62 // 1000, limit=10)
