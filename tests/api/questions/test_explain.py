"""`/v1/meters/{key}/explain` and dimension values over HTTP, on the real parts."""

from typing import Any

import pytest
from tests.api.questions.live import Live, Tenant, faults

from tallystick.flows import explain

JULY = "from=2026-07-01T00:00:00Z&to=2026-08-01T00:00:00Z"


def call(number: int, subject: str = "acme", **data: Any) -> dict[str, Any]:
    time = f"2026-07-{number:02d}T00:00:00Z"
    return {"id": str(number), "type": "llm.call", "subject": subject, "time": time, "data": data}


@pytest.fixture(scope="module")
def filled(live: Live) -> Tenant:
    tenant = live.tenant()
    tenant.post("/v1/customers", {"key": "acme", "subjects": ["acme-key"]})
    tenant.post("/v1/customers", {"key": "quiet"})
    tenant.meter(
        key="n",
        event_type="llm.call",
        aggregation="sum",
        value="$.n",
        filter='data.status == "ok"',
        dimensions={"model": "$.model"},
    )
    tenant.meter(key="typo", event_type="LLM.calls", aggregation="count")
    tenant.record(
        call(1, status="ok", n=1, model="gpt-4"),
        call(2, status="ok", n=2, model="gpt-4"),
        call(3, status="ok", n=3, model="gpt-3"),
        call(4, status="ok", n=4),
        *(call(number, status="failed", n=1) for number in range(5, 12)),
        call(12, n=1),
        call(13, status="ok", n="many"),
        call(14, status="ok"),
        call(15, "beta", status="ok", n="1e999"),
    )
    return tenant


def test_what_became_of_the_events(filled: Tenant) -> None:
    told = filled.answer(f"/v1/meters/n/explain?{JULY}")
    assert (told["seen"], told["scanned"], told["complete"]) == (15, 15, True)
    assert (told["matched"], told["filtered_out"], told["invalid"]) == (4, 7, 4)
    assert {reason["reason"]: reason["count"] for reason in told["reasons"]} == {
        "filter_false": 7,
        "filter_error": 1,
        "value_not_numeric": 1,
        "value_missing": 1,
        "number_out_of_range": 1,
    }
    by_reason = {reason["reason"]: reason["samples"] for reason in told["reasons"]}
    assert [sample["id"] for sample in by_reason["filter_false"]] == ["11", "10", "9", "8", "7"]
    assert by_reason["value_not_numeric"][0]["data"] == {"status": "ok", "n": "many"}
    assert [sample["reading"]["value"] for sample in told["samples"]] == ["4", "3", "2", "1"]


def hints(tenant: Tenant, path: str) -> dict[str, str]:
    return {hint["code"]: hint["detail"] for hint in tenant.answer(path)["hints"]}


HINTS = [
    (f"n/explain?{JULY}", {"filtered_out", "filter_error", "value_unreadable"}, "$.n"),
    (f"n/explain?{JULY}&customer=beta", {"none_matched"}, "number_out_of_range (1)"),
    (f"n/explain?{JULY}&customer=quiet", {"other_customers"}, "15 events"),
    (f"n/explain?{JULY}&customer=acne", {"other_customers", "customer_unknown"}, "'acme'"),
    (
        f"n/explain?{JULY}&customer=acme-key",
        {"other_customers", "customer_unknown", "is_subject"},
        "customer 'acme'",
    ),
    (
        "n/explain?from=2026-08-01T00:00:00Z&to=2026-08-02T00:00:00Z",
        {"outside_range"},
        "from 2026-07-01T00:00:00Z to 2026-07-15T00:00:00Z",
    ),
    (f"typo/explain?{JULY}", {"type_unknown"}, "'llm.call'"),
]


@pytest.mark.parametrize(("path", "codes", "words"), HINTS)
def test_hints(filled: Tenant, path: str, codes: set[str], words: str) -> None:
    given = hints(filled, f"/v1/meters/{path}")
    assert set(given) == codes
    assert words in " ".join(given.values())


def test_conflicts_and_archiving_are_hinted_at(tenant: Tenant) -> None:
    tenant.meter(key="n", event_type="llm.call", aggregation="count")
    tenant.record(call(1, n=1))
    tenant.record(call(1, n=2))
    tenant.send("DELETE", "/v1/meters/n")
    assert set(hints(tenant, f"/v1/meters/n/explain?{JULY}")) == {"conflicts", "meter_archived"}


def test_the_current_version_is_judged(tenant: Tenant) -> None:
    tenant.meter(key="n", event_type="llm.call", aggregation="sum", value="$.n")
    tenant.record(call(1, n="many"), call(2, n=2), call(3, n="few"), call(4, n=4))
    source = {"source": "/"}
    replaced = [{**call(1, n=1), **source}, {**call(2, n="two"), **source}]
    body = {"reason": "wrong n", "replace": replaced, "retract": [{**source, "id": "3"}]}
    corrected = tenant.post("/v1/events/corrections", body)
    assert corrected.status_code == 200, corrected.text
    told = tenant.answer(f"/v1/meters/n/explain?{JULY}")
    assert (told["seen"], told["scanned"], told["matched"], told["invalid"]) == (3, 3, 2, 1)
    assert [sample["id"] for reason in told["reasons"] for sample in reason["samples"]] == ["2"]
    invalid = tenant.answer("/v1/events?status=invalid")["items"]
    assert [(event["id"], event["data"]) for event in invalid] == [("2", {"n": "two"})]


def test_a_long_scan_says_that_it_is_not_complete(filled: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain, "SCAN_EVENTS_MAX", 6)
    told = filled.answer(f"/v1/meters/n/explain?{JULY}")
    assert (told["seen"], told["scanned"], told["complete"]) == (15, 6, False)
    assert told["matched"] + told["filtered_out"] + told["invalid"] == 6
    assert "incomplete" in {hint["code"] for hint in told["hints"]}


def test_refusals(filled: Tenant) -> None:
    assert filled.get("/v1/meters/none/explain").json()["code"] == "meter_not_found"
    wrong = filled.get("/v1/meters/n/explain?from=x&limit=3&customer=a&customer=b")
    assert faults(wrong) == [
        ("customer", "repeated"),
        ("from", "invalid_time"),
        ("limit", "unknown_parameter"),
    ]
    empty = filled.get("/v1/meters/n/explain?from=2026-07-15T12:00:00Z")
    assert faults(empty) == [("from", "empty_range")]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [("gpt-4", 2), ("gpt-3", 1), (None, 1)]),
        ("&limit=1", [("gpt-4", 2)]),
        ("&prefix=gpt-3", [("gpt-3", 1)]),
        ("&prefix=%25", []),
        ("&customer=beta", []),
    ],
)
def test_dimension_values(filled: Tenant, query: str, expected: list[Any]) -> None:
    document = filled.answer(f"/v1/meters/n/dimensions/model/values?{JULY}{query}")
    assert sorted(((one["value"], one["readings"]) for one in document["items"]), key=str) == sorted(
        expected, key=str
    )
    assert (document["next_cursor"] is None) == (query != "&limit=1")


def test_dimension_values_refuse_what_is_not_declared(filled: Tenant) -> None:
    response = filled.get("/v1/meters/n/dimensions/region/values?limit=0")
    assert faults(response) == [("limit", "invalid_limit"), ("name", "unknown_dimension")]


@pytest.mark.parametrize("name", ["model", "customer"])
def test_values_are_read_page_by_page(filled: Tenant, name: str) -> None:
    path = f"/v1/meters/n/dimensions/{name}/values?{JULY}"
    whole = filled.answer(path)["items"]
    found, cursor = list[Any](), ""
    for _ in whole:
        page = filled.answer(f"{path}&limit=1{cursor}")
        found += page["items"]
        cursor = f"&cursor={page['next_cursor']}"
    assert (found, cursor) == (whole, "&cursor=None")
    assert faults(filled.get(f"{path}&cursor=WzEwMDAwMF0")) == [("cursor", "invalid_cursor")]
