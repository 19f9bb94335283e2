"""Lago's requests where its clients do not show what happens: refusals, periods, who sees what."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.api.questions.live import NOW_US, Live, Tenant, opened

BASE = "/lago/api/v1"
NOW = NOW_US // 1_000_000
EARLIER = NOW - 3600
JUNE = 1_782_000_000  # 2026-06-21
TAKEN = {"transaction_id": ["value_already_exist"]}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with opened(tmp_path_factory.mktemp("lago")) as running:
        yield running


@pytest.fixture
def tenant(live: Live) -> Tenant:
    made = live.tenant()
    metric(made, "tokens", "sum_agg", field_name="total")
    return made


def metric(tenant: Tenant, code: str, aggregation: str, **members: Any) -> dict[str, Any]:
    body = {"name": code, "code": code, "aggregation_type": aggregation, **members}
    answer = tenant.post(f"{BASE}/billable_metrics", {"billable_metric": body})
    assert answer.status_code == 200, answer.text
    return answer.json()["billable_metric"]


def plan(tenant: Tenant, code: str, model: str, properties: dict[str, Any], **members: Any) -> Any:
    metric_id = tenant.answer(f"{BASE}/billable_metrics/tokens")["billable_metric"]["lago_id"]
    charge = {"billable_metric_id": metric_id, "charge_model": model, "properties": properties}
    body = {"name": code, "code": code, "interval": "monthly", "amount_cents": 0, "amount_currency": "USD"}
    return tenant.post(f"{BASE}/plans", {"plan": {**body, "charges": [charge], **members}})


def subscribe(tenant: Tenant, code: str, external_id: str, customer: str = "acme") -> dict[str, Any]:
    body = {
        "external_customer_id": customer,
        "plan_code": code,
        "external_id": external_id,
        "subscription_at": "2026-05-01T00:00:00Z",
    }
    answer = tenant.post(f"{BASE}/subscriptions", {"subscription": body})
    assert answer.status_code == 200, answer.text
    return answer.json()["subscription"]


def event(number: int, subscription: str = "sub", **members: Any) -> dict[str, Any]:
    return {
        "transaction_id": f"t{number}",
        "external_subscription_id": subscription,
        "code": "tokens",
        "timestamp": EARLIER,
        "properties": {"total": number},
        **members,
    }


def send(tenant: Tenant, *events: dict[str, Any]) -> None:
    for one in events:
        answer = tenant.post(f"{BASE}/events", {"event": one})
        assert answer.status_code == 200, answer.text


def usage(tenant: Tenant, subscription: str, customer: str = "acme") -> list[tuple[str, int, int]]:
    path = f"{BASE}/customers/{customer}/current_usage?external_subscription_id={subscription}"
    charges = tenant.answer(path)["customer_usage"]["charges_usage"]
    return [(one["units"], one["events_count"], one["amount_cents"]) for one in charges]


@pytest.mark.parametrize(
    ("members", "details"),
    [
        ({"transaction_id": None}, {"transaction_id": ["value_is_mandatory"]}),
        ({"code": ""}, {"code": ["value_is_mandatory"]}),
        ({"timestamp": "2026-07-01T00:00:00Z"}, {"timestamp": ["invalid_format"]}),
        ({"timestamp": -5}, {"timestamp": ["invalid_format"]}),
        ({"timestamp": NOW + 90_000}, {"timestamp": ["value_is_invalid"]}),
        ({"properties": []}, {"properties": ["value_is_invalid"]}),
        ({"precise_total_amount_cents": "x"}, {"precise_total_amount_cents": ["value_is_invalid"]}),
    ],
)
def test_a_bad_event_is_422(tenant: Tenant, members: dict[str, Any], details: dict[str, Any]) -> None:
    answer = tenant.post(f"{BASE}/events", {"event": event(1, **members)})
    assert answer.json() == {
        "status": 422,
        "error": "Unprocessable Entity",
        "code": "validation_errors",
        "error_details": details,
    }
    batch = tenant.post(f"{BASE}/events/batch", {"events": [event(2), event(1, **members)]})
    assert (batch.status_code, batch.json()["error_details"]) == (422, {"1": details})
    assert tenant.answer(f"{BASE}/events")["meta"]["total_count"] == 0


def test_a_body_without_its_root_is_400(tenant: Tenant) -> None:
    for path in ("events", "events/batch", "customers", "billable_metrics"):
        answer = tenant.post(f"{BASE}/{path}", {"other": {}})
        assert answer.status_code == 400, path
        assert answer.json()["error"].startswith("BadRequest: param is missing"), path
    assert tenant.send("POST", f"{BASE}/events", content=b"{").status_code == 400


def test_nulls_and_texts_are_read(tenant: Tenant) -> None:
    sent = {**event(1, timestamp=f"{EARLIER}.125"), "precise_total_amount_cents": None}
    answer = tenant.post(f"{BASE}/events", {"event": sent}).json()["event"]
    assert answer["timestamp"] == "2026-07-15T11:00:00.125Z"
    assert answer["properties"] == {"total": 1}
    send(tenant, {**event(2), "timestamp": None, "properties": None})
    found = tenant.answer(f"{BASE}/events/t2")["event"]
    assert (found["properties"], found["timestamp"]) == ({}, "2026-07-15T12:00:00.000Z")
    assert tenant.get(f"{BASE}/events/none").json() == {
        "status": 404,
        "error": "Not Found",
        "code": "event_not_found",
    }


def test_a_repeat_with_other_content_counts_once(tenant: Tenant) -> None:
    send(tenant, event(5))
    for again in (event(5), event(5, properties={"total": 9}), event(5, timestamp=EARLIER - 60)):
        answer = tenant.post(f"{BASE}/events", {"event": again})
        assert (answer.status_code, answer.json()["error_details"]) == (422, TAKEN)
    send(tenant, event(5, "another"))
    (row,) = tenant.answer("/v1/meters/tokens/usage")["rows"]
    assert row["value"] == "10"


def test_a_batch_is_all_or_nothing(tenant: Tenant) -> None:
    send(tenant, event(1))
    answer = tenant.post(f"{BASE}/events/batch", {"events": [event(0), event(1), event(2)]})
    assert (answer.status_code, answer.json()["error_details"]) == (422, {"1": TAKEN})
    assert tenant.answer(f"{BASE}/events")["meta"]["total_count"] == 1
    whole = tenant.post(f"{BASE}/events/batch", {"events": [event(0), event(2)]})
    assert whole.status_code == 200
    assert [one["transaction_id"] for one in whole.json()["events"]] == ["t0", "t2"]


@pytest.mark.parametrize(
    ("model", "properties", "cents"),
    [
        ("standard", {"amount": "0.5"}, 5250),
        ("package", {"amount": "3", "package_size": 50, "free_units": 10}, 600),
        ("percentage", {"rate": "10", "fixed_amount": "1"}, 1350),
        (
            "volume",
            {
                "volume_ranges": [
                    {"from_value": 0, "to_value": 100, "per_unit_amount": "2", "flat_amount": "0"},
                    {"from_value": 101, "to_value": None, "per_unit_amount": "1", "flat_amount": "7"},
                ]
            },
            11200,
        ),
        (
            "graduated_percentage",
            {
                "graduated_percentage_ranges": [
                    {"from_value": 0, "to_value": 100, "rate": "10", "flat_amount": "1"},
                    {"from_value": 101, "to_value": None, "rate": "20", "flat_amount": "0"},
                ]
            },
            1200,
        ),
    ],
)
def test_charge_models(tenant: Tenant, model: str, properties: dict[str, Any], cents: int) -> None:
    made = plan(tenant, "p", model, properties)
    assert made.status_code == 200, made.text
    (charge,) = made.json()["plan"]["charges"]
    assert (charge["charge_model"], charge["properties"]) == (model, properties)
    subscribe(tenant, "p", "sub")
    send(tenant, event(30), event(40), event(35))
    assert usage(tenant, "sub") == [("105.0", 3, cents)]


def test_each_subscription_has_its_own_usage(tenant: Tenant) -> None:
    send(tenant, event(1, "one"))  # before there is a subscription
    plan(tenant, "p", "standard", {"amount": "1"})
    tenant.post(f"{BASE}/customers", {"customer": {"external_id": "acme", "currency": "USD"}})
    subscribe(tenant, "p", "one")
    subscribe(tenant, "p", "two")
    subscribe(tenant, "p", "same", customer="same")
    send(tenant, event(2, "one"), event(5, "two"), event(7, "same"))
    assert usage(tenant, "one") == [("3.0", 2, 300)]
    assert usage(tenant, "two") == [("5.0", 1, 500)]
    assert usage(tenant, "same", "same") == [("7.0", 1, 700)]
    of_both = tenant.answer("/v1/meters/tokens/usage?customer=acme&include_children=true")
    assert of_both["rows"][0]["value"] == "8"
    listed = tenant.answer(f"{BASE}/subscriptions?external_customer_id=acme")
    assert sorted(one["external_id"] for one in listed["subscriptions"]) == ["one", "two"]
    other = tenant.get(f"{BASE}/customers/same/current_usage?external_subscription_id=one")
    assert (other.status_code, other.json()["code"]) == (405, "no_active_subscription")


def test_a_subscription_without_a_beginning_has_its_first_day_whole(tenant: Tenant) -> None:
    plan(tenant, "p", "standard", {"amount": "1"})
    body = {"external_customer_id": "acme", "plan_code": "p", "external_id": "sub"}
    made = tenant.post(f"{BASE}/subscriptions", {"subscription": body}).json()["subscription"]
    assert made["subscription_at"] == "2026-07-15T00:00:00Z"
    send(tenant, event(3), event(4, timestamp=NOW - 90_000))
    assert usage(tenant, "sub") == [("3.0", 1, 300)]
    dated = {**body, "external_id": "dated", "subscription_at": "2026-07-01"}
    made = tenant.post(f"{BASE}/subscriptions", {"subscription": dated}).json()["subscription"]
    assert made["started_at"] == "2026-07-01T00:00:00Z"


def test_past_usage_and_an_end(tenant: Tenant) -> None:
    plan(tenant, "p", "standard", {"amount": "1"})
    subscribe(tenant, "p", "sub")
    send(tenant, event(3, timestamp=JUNE), event(4))
    periods = tenant.answer(f"{BASE}/customers/acme/past_usage?external_subscription_id=sub")
    assert [
        (one["from_datetime"], one["to_datetime"], one["amount_cents"]) for one in periods["usage_periods"]
    ] == [
        ("2026-06-01T00:00:00Z", "2026-06-30T23:59:59Z", 300),
        ("2026-05-01T00:00:00Z", "2026-05-31T23:59:59Z", 0),
    ]
    ended = tenant.send("DELETE", f"{BASE}/subscriptions/sub").json()["subscription"]
    assert ended["status"] == "terminated"
    answer = tenant.get(f"{BASE}/customers/acme/current_usage?external_subscription_id=sub")
    assert answer.status_code == 405


def test_what_would_be_billed_otherwise_is_refused(tenant: Tenant) -> None:
    for members in (
        {"aggregation_type": "weighted_sum_agg", "field_name": "v"},
        {"aggregation_type": "sum_agg"},
        {"aggregation_type": "sum_agg", "field_name": "v", "recurring": True},
        {"aggregation_type": "sum_agg", "field_name": "v", "rounding_function": "ceil"},
        {"aggregation_type": "count_agg", "expression": "1 + 1"},
        {"aggregation_type": "count_agg", "code": "has space"},
    ):
        body = {"name": "x", "code": "x", **members}
        assert tenant.post(f"{BASE}/billable_metrics", {"billable_metric": body}).status_code == 422, members
    assert plan(tenant, "p", "dynamic", {}).status_code == 422
    assert plan(tenant, "p", "standard", {"amount": "x"}).status_code == 422
    assert plan(tenant, "p", "standard", {"amount": "1"}, minimum_commitment={"a": 1}).status_code == 422
    assert plan(tenant, "p", "standard", {"amount": "1"}).status_code == 200
    again = plan(tenant, "p", "standard", {"amount": "1"})
    assert again.json()["error_details"] == {"code": ["value_already_exist"]}


def test_metrics_go_round(tenant: Tenant) -> None:
    made = metric(
        tenant,
        "calls",
        "unique_count_agg",
        field_name="user id",
        filters=[{"key": "region", "values": ["b", "a"]}],
    )
    assert made["filters"] == [{"key": "region", "values": ["a", "b"]}]
    assert (made["field_name"], made["aggregation_type"]) == ("user id", "unique_count_agg")
    changed = tenant.send(
        "PUT", f"{BASE}/billable_metrics/calls", json={"billable_metric": {"name": "Calls"}}
    ).json()["billable_metric"]
    assert (changed["name"], changed["filters"]) == ("Calls", made["filters"])
    assert (
        tenant.send("DELETE", f"{BASE}/billable_metrics/calls").json()["billable_metric"]["code"] == "calls"
    )
    assert tenant.get(f"{BASE}/billable_metrics/calls").json()["code"] == "billable_metric_not_found"


def test_a_customers_token_sees_its_own(tenant: Tenant) -> None:
    plan(tenant, "p", "standard", {"amount": "1"})
    subscribe(tenant, "p", "one")
    subscribe(tenant, "p", "two", customer="beta")
    send(tenant, event(1, "one"), event(2, "two"))
    made = tenant.post("/v1/portal_tokens", {"customer": "acme", "scopes": ["usage:read", "events:read"]})
    portal = Tenant(tenant.live, tenant.key, made.json()["token"])
    assert usage(portal, "one") == [("1.0", 1, 100)]
    assert portal.get(f"{BASE}/customers/beta/current_usage").status_code == 403
    crossed = portal.get(f"{BASE}/customers/acme/current_usage?external_subscription_id=two")
    assert crossed.status_code == 405
    listed = portal.answer(f"{BASE}/events")["events"]
    assert [one["external_subscription_id"] for one in listed] == ["one"]


def test_usage_of_one_group(tenant: Tenant) -> None:
    metric(tenant, "models", "sum_agg", field_name="total", filters=[{"key": "model", "values": ["a", "b"]}])
    both = [
        tenant.answer(f"{BASE}/billable_metrics/{code}")["billable_metric"] for code in ("tokens", "models")
    ]
    charges = [
        {"billable_metric_id": both[0]["lago_id"], "charge_model": "standard", "properties": {"amount": "1"}},
        {
            "billable_metric_id": both[1]["lago_id"],
            "charge_model": "standard",
            "properties": {"amount": "2", "pricing_group_keys": ["model"]},
        },
    ]
    assert plan(tenant, "two", "standard", {"amount": "1"}, charges=charges).status_code == 200
    subscribe(tenant, "two", "sub")
    for number, model in enumerate(("a", "b", "a"), 1):
        send(tenant, event(number, code="models", properties={"total": number, "model": model}))
    path = f"{BASE}/customers/acme/current_usage?external_subscription_id=sub"
    for spelled in ("group[model]=a", "filter_by_group=%7B%22model%22%3A%22a%22%7D"):
        found = tenant.answer(f"{path}&{spelled}")["customer_usage"]
        (one,) = found["charges_usage"]
        assert (one["units"], one["events_count"], one["amount_cents"]) == ("4.0", 2, 800)
        assert [(group["grouped_by"], group["units"]) for group in one["grouped_usage"]] == [
            ({"model": "a"}, "4.0")
        ]
        assert found["amount_cents"] == 800
    whole = tenant.answer(f"{path}&filter_by_charge_code=models")["customer_usage"]
    assert [one["units"] for one in whole["charges_usage"]] == ["6.0"]
    assert tenant.get(f"{path}&filter_by_group=a").status_code == 422


@pytest.mark.parametrize(
    ("members", "details"),
    [
        ({"external_id": ""}, {"external_id": ["value_is_mandatory"]}),
        ({"external_id": "a", "currency": "XXZ"}, {"currency": ["value_is_invalid"]}),
        ({"external_id": "a", "timezone": "Mars"}, {"timezone": ["value_is_invalid"]}),
    ],
)
def test_a_bad_customer_is_422(tenant: Tenant, members: dict[str, Any], details: dict[str, Any]) -> None:
    answer = tenant.post(f"{BASE}/customers", {"customer": members})
    assert (answer.status_code, answer.json()["error_details"]) == (422, details)


def test_lists_are_narrowed(tenant: Tenant) -> None:
    assert plan(tenant, "late", "standard", {"amount": "1"}).status_code == 200
    subscribe(tenant, "late", "sub")  # from 2026-05-01 on
    send(tenant, event(1, timestamp=1_777_500_000), event(2), event(3, "other"))
    path = f"{BASE}/events?external_subscription_id=sub"

    def listed(query: str, who: Tenant = tenant) -> list[str]:
        return [one["transaction_id"] for one in who.answer(f"{path}{query}")["events"]]

    assert listed("") == listed("&timestamp_from_started_at=false") == ["t2", "t1"]
    assert listed("&timestamp_from_started_at=true") == ["t2"]
    assert listed("&timestamp_from_started_at=true&timestamp_from=2026-07-20T00:00:00Z") == []
    unknown = tenant.get(f"{BASE}/events?external_subscription_id=none&timestamp_from_started_at=true")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "subscription_not_found")
    made = tenant.post("/v1/portal_tokens", {"customer": "other", "scopes": ["events:read"]})
    portal = Tenant(tenant.live, tenant.key, made.json()["token"])
    for name in ("sub", "none"):
        query = f"external_subscription_id={name}&timestamp_from_started_at=true"
        assert portal.get(f"{BASE}/events?{query}").status_code == 403
    for person in (
        {"external_id": "a1", "name": "Anna", "currency": "EUR"},
        {"external_id": "b1", "name": "Bert"},
    ):
        tenant.post(f"{BASE}/customers", {"customer": person})

    def people(query: str) -> list[str]:
        return [one["external_id"] for one in tenant.answer(f"{BASE}/customers?{query}")["customers"]]

    assert people("search_term=ANN") == people("currencies[]=EUR") == ["a1"]
    assert people("search_term=1") == ["a1", "b1"]
