"""Amberflo's requests, byte for byte as its clients send them, and what is counted."""

import gzip
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.api.questions.live import NOW_US, Live, Tenant, opened

NOW_MS = NOW_US // 1000
NOW_S = NOW_US // 1_000_000
DAY = NOW_S - NOW_S % 86_400


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with opened(tmp_path_factory.mktemp("amberflo")) as running:
        yield running


@pytest.fixture
def tenant(live: Live) -> Tenant:
    made = live.tenant()
    define(made, "api_calls", dimensions=["region"])
    return made


def ask(tenant: Tenant, method: str, path: str, **options: Any) -> httpx.Response:
    """As its clients do: the key in X-API-KEY."""
    headers = {"x-api-key": tenant.secret, **options.pop("headers", {})}
    return tenant.live.send(method, f"/amberflo{path}", headers=headers, **options)


def define(tenant: Tenant, name: str, kind: str = "sum_of_all_usage", **members: Any) -> dict[str, Any]:
    body = {"label": name, "meterApiName": name, "meterType": kind, **members}
    answer = ask(tenant, "POST", "/meters", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def record(number: int, value: Any = 1, **members: Any) -> dict[str, Any]:
    return {
        "uniqueId": f"u{number}",
        "meterApiName": "api_calls",
        "meterValue": value,
        "customerId": "acme",
        "meterTimeInMillis": NOW_MS - number * 1000,
        **members,
    }


def send(tenant: Tenant, records: Any, path: str = "/ingest/", **options: Any) -> httpx.Response:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    return ask(
        tenant, "POST", path, content=gzip.compress(json.dumps(records).encode()), headers=headers, **options
    )


def usage(tenant: Tenant, meter: str = "api_calls", path: str = "/usage/", **members: Any) -> dict[str, Any]:
    body = {
        "meterApiName": meter,
        "aggregation": "SUM",
        "timeGroupingInterval": "DAY",
        "timeRange": {"startTimeInSeconds": NOW_S - 3600},
        **members,
    }
    answer = ask(tenant, "POST", path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def totals(report: dict[str, Any]) -> dict[str, Any]:
    return {
        "/".join(str(value) for value in one["group"]["groupInfo"].values()): one["groupValue"]
        for one in report["clientMeters"]
    }


def test_records_are_counted_once(tenant: Tenant) -> None:
    records = [record(number, 0.1, dimensions={"region": "eu"}) for number in range(50)]
    first = send(tenant, records)
    assert (first.status_code, first.text) == (200, "50 records were ingested")
    assert first.headers["content-type"].startswith("text/plain")
    assert send(tenant, records[0]).text == "1 records were ingested"
    assert send(tenant, records + records[:10], "/ingest").status_code == 200
    # The TypeScript client's form: no gzip, an array, no slash.
    assert ask(tenant, "POST", "/ingest", json=records[:3]).status_code == 200
    report = usage(tenant)
    assert totals(report) == {"": 5}
    assert report["metadata"]["meterApiName"] == "api_calls"
    assert report["secondsSinceEpochIntervals"] == [DAY]
    assert report["clientMeters"][0]["values"] == [
        {"value": 5, "secondsSinceEpochUtc": DAY, "percentageFromPrevious": 0}
    ]


def test_a_record_that_differs_in_anything_counts(tenant: Tenant) -> None:
    define(tenant, "tokens", dimensions=["type"])
    one = record(1)
    assert send(tenant, [
        one,
        {**one, "meterValue": 2},
        {**one, "meterTimeInMillis": NOW_MS - 7},
        {**one, "dimensions": {"region": "eu"}},
        {**one, "customerId": "beta"},
        {**one, "meterApiName": "tokens", "dimensions": {"type": "in"}},
        {**one, "meterApiName": "tokens", "dimensions": {"type": "out"}},
        {**one, "meterValue": 1.0, "dimensions": {}},  # the first one again
    ]).status_code == 200  # fmt: skip
    assert totals(usage(tenant, groupBy=["customerId"])) == {"acme": 5, "beta": 1}
    assert totals(usage(tenant, "tokens", groupBy=["type"])) == {"in": 1, "out": 1}


def test_forms_of_a_body(tenant: Tenant) -> None:
    lines = "\n".join(json.dumps(record(number)) for number in range(3))
    answer = ask(tenant, "POST", "/ingest", content=lines)
    assert answer.text == "3 records were ingested"
    csv = f"uniqueId,meterApiName,meterValue,customerId,meterTimeInMillis,region\nc1,api_calls,4,acme,{NOW_MS},eu\n"
    assert ask(tenant, "POST", "/ingest", content=csv).text == "1 records were ingested"
    multi = {"customerId": "acme", "meterTimeInMillis": NOW_MS, "values": {"api_calls": 10, "other": 1}}
    assert send(tenant, multi, params={"schemaDetection": "AUTO"}).text == "1 records were ingested"
    assert totals(usage(tenant)) == {"": 17}
    assert totals(usage(tenant, filter={"region": ["eu"]})) == {"": 4}


def test_a_batch_with_wrong_records_keeps_the_right_ones(tenant: Tenant) -> None:
    wrong = [
        {**record(1), "customerId": None},
        {**record(2), "meterValue": "many"},
        {**record(3), "meterTimeInMillis": "soon"},
        {**record(4), "dimensions": {"a": []}},
        "no record",
        {**record(5), "meterTimeInMillis": NOW_MS + 10 * 3_600_000},
    ]
    answer = send(tenant, [*wrong, record(6)])
    assert answer.status_code == 400
    assert list(answer.json()) == ["message"]
    assert answer.json()["message"].startswith(
        "6 of 7 records were refused, 1 records were ingested: record 0: "
    )
    assert totals(usage(tenant)) == {"": 1}
    assert send(tenant, []).status_code == 400
    assert ask(tenant, "POST", "/ingest", content=b"{").status_code == 400
    assert ask(tenant, "POST", "/ingest", content=b"nothing").status_code == 400


def test_a_record_is_cancelled_by_itself(tenant: Tenant) -> None:
    one, other = record(1, 5, dimensions={"region": "eu"}), record(2, 3)
    send(tenant, [one, other])
    again = {**one, "dimensions": {"region": "eu", "aflo.cancel_previous_resource_event": "true"}}
    assert send(tenant, again).text == "1 records were ingested"
    assert totals(usage(tenant)) == {"": 3}


def test_what_litellm_sends(tenant: Tenant) -> None:
    """Its callback's events: no customer, one id for several meters and types, to the endpoint's root."""
    define(tenant, "llm_text_tokens", dimensions=["business_unit_id", "model", "type"])
    shared = {"business_unit_id": "team-1", "model": "gpt-4o", "team": None, "gateway": "litellm"}
    base = {"uniqueId": "chatcmpl-1", "meterTimeInMillis": NOW_MS}
    unit = {"type": "business_unit", "id": "team-1", "name": None}
    tokens = {**base, "meterApiName": "llm_text_tokens"}
    events = [
        {"meterApiName": "aflo.object_metadata", "meterValue": 1, "meterTimeInMillis": NOW_MS, "dimensions": unit},
        {**base, "meterApiName": "llm_api_call", "meterValue": 1, "dimensions": {**shared, "error_code": "n"}},
        {**tokens, "meterValue": 12, "dimensions": {**shared, "type": "in"}},
        {**tokens, "meterValue": 12, "dimensions": {**shared, "type": "out"}},
    ]  # fmt: skip
    for _ in range(2):
        answer = ask(tenant, "POST", "", content=gzip.compress(json.dumps(events).encode()),
                     headers={"content-encoding": "gzip", "content-type": "application/octet-stream"})  # fmt: skip
        assert answer.text == "4 records were ingested", answer.text
    grouped = usage(tenant, "llm_text_tokens", groupBy=["business_unit_id", "type"])
    assert totals(grouped) == {"team-1/in": 12, "team-1/out": 12}


def test_questions(tenant: Tenant) -> None:
    rows = [("acme", "eu", 5), ("acme", "us", 2), ("beta", "eu", 1)]
    for number, (customer, region, value) in enumerate(rows):
        send(tenant, record(number, value, customerId=customer, dimensions={"region": region, "plan": "pro"}))
    assert totals(usage(tenant, groupBy=["region"], aggregation="sum")) == {"eu": 6, "us": 2}
    assert totals(usage(tenant, groupBy=["customerId"], aggregation="MAX")) == {"acme": 5, "beta": 1}
    assert totals(usage(tenant, aggregation="count")) == {"": 3}
    assert totals(usage(tenant, aggregation="MIN", filter={"customerId": ["acme"]})) == {"": 2}
    # A dimension that the meter does not declare.
    assert totals(usage(tenant, groupBy=["plan"])) == {"pro": 8}
    assert totals(usage(tenant, filter={"plan": ["none"]})) == {"": 0}
    top = usage(tenant, groupBy=["customerId"], take={"limit": 1, "isAscending": False})
    assert totals(top) == {"acme": 7}
    hours = usage(tenant, timeGroupingInterval="hour",
                  timeRange={"startTimeInSeconds": NOW_S - 7200, "endTimeInSeconds": NOW_S + 1})  # fmt: skip
    assert len(hours["secondsSinceEpochIntervals"]) == 3
    assert [one["value"] for one in hours["clientMeters"][0]["values"]] == [0, 3, 5]
    sparse = usage(tenant, path="/usage/sparse", timeRange={"startTimeInSeconds": NOW_S - 90 * 86_400})
    assert len(sparse["clientMeters"][0]["values"]) == 1
    batch = ask(tenant, "POST", "/usage/batch", json=[
        {"meterApiName": "api_calls", "timeRange": {"startTimeInSeconds": NOW_S - 9}}] * 2)  # fmt: skip
    assert [totals(one) for one in batch.json()] == [{"": 8}] * 2
    every = ask(
        tenant,
        "GET",
        f"/usage/all?startTimeInSeconds={NOW_S - 9}&timeGroupingInterval=DAY&groupBy=customerId",
    )
    assert [totals(one) for one in every.json()] == [{"acme": 7, "beta": 1}]
    one = ask(
        tenant, "GET", f"/usage/all?startTimeInSeconds={NOW_S - 9}&timeGroupingInterval=DAY&customerId=beta"
    )
    assert [totals(report) for report in one.json()] == [{"": 1}]


def test_wrong_questions(tenant: Tenant) -> None:
    good = {"meterApiName": "api_calls", "timeRange": {"startTimeInSeconds": NOW_S}}
    for wrong in (
        {**good, "aggregation": "median"},
        {**good, "timeGroupingInterval": "minute"},
        {**good, "timeRange": None},
        {**good, "timeRange": {"startTimeInSeconds": -1}},
        {**good, "filter": []},
        {**good, "rescaleFunction": "x"},
        [],
    ):
        answer = ask(tenant, "POST", "/usage", json=wrong)
        assert answer.status_code == 400, wrong
        assert list(answer.json()) == ["message"]
    assert ask(tenant, "POST", "/usage", json={**good, "meterApiName": "none"}).status_code == 404
    assert ask(tenant, "POST", "/usage", json=good, headers={"x-api-key": "wrong"}).status_code == 401
    assert ask(tenant, "GET", "/nothing").status_code == 404


def test_meters(tenant: Tenant) -> None:
    (listed,) = ask(tenant, "GET", "/meters").json()
    assert listed["meterApiName"] == "api_calls"
    assert (listed["meterType"], listed["dimensions"]) == ("sum_of_all_usage", ["region"])
    again = {"label": "x", "meterApiName": "api_calls", "meterType": "sum_of_all_usage"}
    answer = ask(tenant, "POST", "/meters", json=again)
    assert (answer.status_code, answer.json()) == (
        400, {"message": "Meter already exists with meterApiName: api_calls"})  # fmt: skip
    assert ask(tenant, "GET", "/meters?meterApiName=none").json() == []
    assert ask(tenant, "GET", f"/meters/{listed['id']}").json() == listed
    assert ask(tenant, "GET", "/meters/none").status_code == 404
    assert ask(tenant, "DELETE", f"/meters/{listed['id']}").json()["message"].startswith("'lockingStatus'")
    changed = ask(
        tenant, "PUT", "/meters", json={**listed, "label": "Calls", "dimensions": ["region", "subject"]}
    )
    assert (changed.json()["label"], changed.json()["dimensions"]) == ("Calls", ["region", "subject"])
    send(tenant, record(1, dimensions={"subject": "team"}))
    assert totals(usage(tenant, groupBy=["subject"])) == {"team": 1}
    gone = ask(tenant, "PUT", "/meters", json={**listed, "lockingStatus": "deprecated"})
    assert gone.json()["lockingStatus"] == "deprecated"
    assert ask(tenant, "DELETE", f"/meters/{listed['id']}").status_code == 200
    assert ask(tenant, "GET", "/meters").json() == []
    for wrong in ({"label": "x"}, {**again, "meterType": "gauge"}, {**again, "meterType": "active_users"}):
        assert ask(tenant, "POST", "/meters", json=wrong).status_code == 400


def test_other_types_of_meter(tenant: Tenant) -> None:
    define(tenant, "users", "active_users", aggregationDimensions=["user"])
    two = define(tenant, "seats", "active_users", aggregationDimensions=["user", "team"])
    assert two["aggregationDimensions"] == ["user", "team"]
    define(tenant, "sessions", "event_duration", aggregationDimensions=["session"])
    for number, (user, team) in enumerate([("ann", "a"), ("ann", "b"), ("bob", "a"), ("ann", "a")]):
        for meter in ("users", "seats"):
            send(tenant, record(number, meterApiName=meter, dimensions={"user": user, "team": team}))
    pair = {"meterApiName": "sessions", "dimensions": {"session": "s1"}}
    send(tenant, [record(90, 1, **pair), record(30, 0, **pair)])
    assert totals(usage(tenant, "users")) == {"": 2}
    assert totals(usage(tenant, "seats")) == {"": 3}
    assert totals(usage(tenant, "sessions")) == {"": 60}
    assert totals(usage(tenant, "users", groupBy=["team"])) == {"a": 2, "b": 1}


def test_customers(tenant: Tenant) -> None:
    assert ask(tenant, "GET", "/customers/?customerId=acme").json() == {}
    body = {"customerId": "acme", "customerName": "Acme", "customerEmail": "a@acme.example",
            "enabled": True, "traits": {"stripeId": "cus_1"}}  # fmt: skip
    made = ask(tenant, "POST", "/customers/", json=body).json()
    assert made["customerId"] == "acme"
    assert {name: made[name] for name in body} == body
    assert ask(tenant, "POST", "/customers/", json=body).status_code == 400
    replaced = ask(
        tenant, "PUT", "/customers/", json={"customerId": "acme", "customerName": "A", "test": True}
    ).json()
    assert (replaced["customerName"], replaced["traits"], replaced["test"]) == ("A", {}, True)
    assert ask(tenant, "GET", "/customers/?customerId=acme").json() == replaced
    send(tenant, record(1, customerId="new"))
    usage(tenant)
    assert {one["customerId"] for one in ask(tenant, "GET", "/customers/").json()} == {"acme", "new"}
    filled = ask(tenant, "POST", "/customers", json={"customerId": "new", "customerName": "New"})
    assert filled.json()["customerName"] == "New"
    stage = ask(tenant, "PUT", "/customers/stage", json={"customerId": "new", "lifecycleStage": "offboarded"})
    assert stage.json()["lifecycleStage"] == "offboarded"
    assert ask(tenant, "DELETE", "/customers/new").json()["enabled"] is False
    assert ask(tenant, "GET", "/customers/?customerId=new").json() == {}
    assert ask(tenant, "POST", "/customers", json={}).status_code == 400
    assert ask(tenant, "PUT", "/customers", json={"customerId": "none"}).status_code == 404


def test_tenants_and_tokens_see_their_own(live: Live, tenant: Tenant) -> None:
    send(tenant, [record(1, 5), record(2, 3, customerId="beta")])
    usage(tenant)
    other = live.tenant()
    assert ask(other, "GET", "/meters").json() == []
    define(other, "api_calls")
    assert totals(usage(other)) == {"": 0}
    made = tenant.post("/v1/portal_tokens", {"customer": "acme", "scopes": ["usage:read", "customers:read"]})
    token = Tenant(live, tenant.key, made.json()["token"])
    assert totals(usage(token)) == {"": 5}
    assert totals(usage(token, aggregation="COUNT")) == {"": 1}
    answer = ask(token, "POST", "/usage", json={"meterApiName": "api_calls", "filter": {"customerId": ["beta"]},
                                                "timeRange": {"startTimeInSeconds": NOW_S}})  # fmt: skip
    assert answer.status_code == 403
    assert ask(token, "GET", "/customers").status_code == 403
