"""`/v1/events` and `/v1/events/lookup` over HTTP, on the real parts."""

from typing import Any
from urllib.parse import quote

import pytest
from tests.api.questions.live import NOW, Live, Tenant, faults

from tallystick.flows import lookup


def call(number: int, **members: Any) -> dict[str, Any]:
    time = f"2026-07-{number:02d}T00:00:00Z"
    return {
        "id": f"e{number}",
        "type": "call",
        "subject": "acme",
        "time": time,
        "data": {"n": number},
    } | members


@pytest.fixture(scope="module")
def filled(live: Live) -> Tenant:
    tenant = live.tenant()
    tenant.post("/v1/customers", {"key": "acme", "subjects": ["acme-key"]})
    tenant.meter(
        key="n",
        event_type="call",
        aggregation="sum",
        value="$.n",
        filter="!has(data.skip)",
        dimensions={"model": "$.model"},
    )
    tenant.meter(key="who", event_type="call", aggregation="unique_count", value="$.user")
    tenant.record(call(1, data={"n": 1, "user": "u"}))
    tenant.record(
        call(2, data={"n": "1.50", "user": "u", "model": 7.0}, subject="acme-key", traceparent="00-1")
    )
    tenant.record(
        call(3, data={"user": "u"}),
        call(4, data={"n": 1, "user": "u", "skip": True}),
        call(5, type="ping", subject="beta", source="https://a.example/b?c=d&e"),
        call(6, type="ping", subject="beta", data=None),
    )
    tenant.record(call(1, data={"user": "u", "n": 1}, time="2026-07-09T00:00:00Z"), call(2, data={"n": 3}))
    return tenant


def found(tenant: Tenant, query: str) -> list[str]:
    return [item["id"] for item in tenant.answer(f"/v1/events?{query}")["items"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["e6", "e5", "e4", "e3", "e2", "e1"]),
        ("status=recorded&limit=2", ["e6", "e5"]),
        ("id=e3", ["e3"]),
        ("source=https://a.example/b?c=d%26e", ["e5"]),
        ("type=ping", ["e6", "e5"]),
        ("type=ping&type=call&subject=acme-key", ["e2"]),
        ("customer=acme", ["e4", "e3", "e2", "e1"]),
        ("customer=acme&customer=beta&from=2026-07-04T00:00:00Z&to=2026-07-06T00:00:00Z", ["e5", "e4"]),
        ("status=conflict", ["e2"]),
        ("status=unmetered", ["e6", "e5"]),
        ("status=unmetered&type=call", []),
        ("status=unmetered&type=ping&id=e5", ["e5"]),
        ("status=invalid", ["e3"]),
        ("status=invalid&type=ping", []),
        ("status=invalid&customer=beta", []),
        ("status=retracted", []),
        ("customer=nobody", []),
    ],
)
def test_search(filled: Tenant, query: str, expected: list[str]) -> None:
    assert found(filled, query) == expected


def test_an_invalid_event_says_for_which_meter(filled: Tenant) -> None:
    (item,) = filled.answer("/v1/events?status=invalid")["items"]
    assert item["excluded"] == [{"meter": "n", "excluded": "value_missing"}]
    assert item["status"] == "invalid"


def test_an_event_comes_back_as_it_was_sent(filled: Tenant) -> None:
    response = filled.get("/v1/events?id=e2")
    assert '"data":{"n":"1.50","user":"u","model":7.0}' in response.text.replace(", ", ",").replace(": ", ":")
    (item,) = response.json()["items"]
    assert item | {"position": None} == {
        "id": "e2",
        "source": "/",
        "type": "call",
        "subject": "acme-key",
        "time": "2026-07-02T00:00:00Z",
        "time_source": "event",
        "data": {"n": "1.50", "user": "u", "model": 7.0},
        "extensions": {"traceparent": "00-1"},
        "customer": "acme",
        "received_at": NOW,
        "recorded_at": item["recorded_at"],
        "position": None,
        "status": "recorded",
    }


@pytest.mark.parametrize("status", ["recorded", "unmetered", "invalid"])
def test_pages_neither_repeat_nor_skip(live: Live, status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "SCAN_EVENTS_MAX", 10)
    monkeypatch.setattr(lookup, "SCAN_PAGE_EVENTS", 4)
    tenant = live.tenant()
    tenant.meter(key="n", event_type="call", aggregation="sum", value="$.n")
    good = [call(1, id=f"good{number}") for number in range(25)]
    bad = [call(1, id=f"bad{number}", data={}) for number in range(7)]
    other = [call(1, id=f"other{number}", type="ping") for number in range(9)]
    tenant.record(*bad[:3], *good[:20], *other[:5], *bad[3:], *good[20:], *other[5:])
    expected = {
        "recorded": {one["id"] for one in (*good, *bad, *other)},
        "unmetered": {one["id"] for one in other},
        "invalid": {one["id"] for one in bad},
    }[status]
    seen: list[str] = []
    cursor = ""
    for _ in range(40):
        page = tenant.answer(f"/v1/events?status={status}&limit=3{cursor}")
        assert len(page["items"]) <= 3
        seen += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert page["next_cursor"] is None
    assert len(seen) == len(expected)
    assert set(seen) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("status=lost", [("status", "invalid_value")]),
        ("from=x&to=y", [("from", "invalid_time"), ("to", "invalid_time")]),
        ("from=2026-07-02T00:00:00Z&to=2026-07-02T00:00:00Z", [("to", "empty_range")]),
        ("limit=1001&cursor=abc", [("limit", "invalid_limit"), ("cursor", "invalid_cursor")]),
        ("id=a&id=b&kind=c", [("id", "repeated"), ("kind", "unknown_parameter")]),
    ],
)
def test_a_bad_search_is_refused(filled: Tenant, query: str, expected: list[tuple[str, str]]) -> None:
    response = filled.get(f"/v1/events?{query}")
    assert response.status_code == 422
    assert faults(response) == expected


def test_lookup_knows_what_an_event_gave(filled: Tenant) -> None:
    known = filled.answer("/v1/events/lookup?id=e2")
    assert known["customer"] == "acme"
    assert known["corrections"] == []
    assert known["readings"] == [
        {"meter": "n", "version": 1, "value": "1.5", "dimensions": {"model": "7"}},
        {"meter": "who", "version": 1, "value": "u", "dimensions": {}},
    ]
    assert known["duplicates"]["count"] == 0
    assert known["conflict_count"] == 1
    assert [conflict["data"] for conflict in known["conflicts"]] == [{"n": 3}]


def test_lookup_knows_duplicates_whatever_their_time(filled: Tenant) -> None:
    known = filled.answer("/v1/events/lookup?source=/&id=e1")
    assert known["time"] == "2026-07-01T00:00:00Z"
    assert known["duplicates"]["count"] == 1
    assert known["duplicates"]["latest"][0]["received_at"] == NOW
    assert known["conflicts"] == []


@pytest.mark.parametrize(
    ("event_id", "excluded"),
    [("e3", {"n": "value_missing"}), ("e4", {"n": "filter_false"})],
)
def test_lookup_says_why_not(filled: Tenant, event_id: str, excluded: dict[str, str]) -> None:
    readings = filled.answer(f"/v1/events/lookup?id={event_id}")["readings"]
    assert {one["meter"]: one["excluded"] for one in readings if "excluded" in one} == excluded


def test_lookup_by_an_odd_source(filled: Tenant) -> None:
    source = quote("https://a.example/b?c=d&e", safe="")
    assert filled.answer(f"/v1/events/lookup?id=e5&source={source}")["type"] == "ping"


def test_lookup_refusals(live: Live, filled: Tenant) -> None:
    assert filled.get("/v1/events/lookup?id=e9").json()["code"] == "event_not_found"
    assert filled.get("/v1/events/lookup?id=e1&source=other").status_code == 404
    assert live.tenant().get("/v1/events/lookup?id=e1").status_code == 404
    assert faults(filled.get("/v1/events/lookup?source=/")) == [("id", "missing")]


def test_a_name_that_is_a_long_number_is_shown_as_sent(tenant: Tenant) -> None:
    long = "0.0000000000000000015"
    tenant.meter(
        key="long", event_type="long", aggregation="unique_count", value="$.v", dimensions={"d": "$.v"}
    )
    body = f'{{"id":"n","type":"long","subject":"s","data":{{"v":{long}}}}}'.encode()
    tenant.send(
        "POST", "/v1/events?wait=recorded", content=body, headers={"content-type": "application/json"}
    )
    (reading,) = tenant.answer("/v1/events/lookup?id=n")["readings"]
    assert (reading["value"], reading["dimensions"]) == (long, {"d": long})
