"""`POST /v1/usage/query` over HTTP, on the real parts."""

from typing import Any

import pytest
from tests.api.questions.live import Live, Tenant, faults

RANGE = {"from": "2026-07-01T00:00:00Z", "to": "2026-07-04T00:00:00Z"}


def event(number: int, subject: str, day: int, **data: Any) -> dict[str, Any]:
    time = f"2026-07-0{day}T10:00:00Z"
    return {"id": str(number), "type": "call", "subject": subject, "time": time, "data": data}


@pytest.fixture(scope="module")
def filled(live: Live) -> Tenant:
    """
    subject  day  ok     ms
    acme     1    true   10
    acme     1    false  30
    acme     2    true   20
    beta     2    false  5
    """
    tenant = live.tenant()
    tenant.meter(key="calls", event_type="call", aggregation="count", unit="call", dimensions={"zone": "$.z"})
    tenant.meter(key="errors", event_type="call", aggregation="count", filter="data.ok == false")
    tenant.meter(key="ms", event_type="call", aggregation="sum", value="$.ms")
    tenant.meter(key="slowest", event_type="call", aggregation="max", value="$.ms")
    tenant.record(
        event(1, "acme", 1, ok=True, ms=10),
        event(2, "acme", 1, ok=False, ms=30),
        event(3, "acme", 2, ok=True, ms=20),
        event(4, "beta", 2, ok=False, ms=5),
    )
    return tenant


def asked(tenant: Tenant, **body: Any) -> dict[str, Any]:
    response = tenant.post("/v1/usage/query", {**RANGE, **body})
    assert response.status_code == 200, response.text
    return response.json()


def table(document: dict[str, Any]) -> list[tuple[str, list[str | None], dict[str, str | None], str | None]]:
    return [
        (row["window_start"][8:10], list(row["group"].values()), row["values"], row["value"])
        for row in document["rows"]
    ]


def test_the_whole_answer(filled: Tenant) -> None:
    document = asked(
        filled, meters={"e": {"meter": "errors"}, "all": {"meter": "calls"}}, formula="e / all * 100"
    )
    assert document.pop("position").startswith(("p1-", "p2-"))
    assert set(document.pop("served_from")) == {"e", "all"}
    assert document == {
        "meters": {
            "e": {"meter": "errors", "version": 1, "aggregation": "count", "unit": None},
            "all": {"meter": "calls", "version": 1, "aggregation": "count", "unit": "call"},
        },
        "formula": "e / all * 100",
        "from": RANGE["from"],
        "to": RANGE["to"],
        "window": None,
        "timezone": "UTC",
        "rows": [
            {
                "window_start": RANGE["from"],
                "window_end": RANGE["to"],
                "group": {},
                "values": {"e": "2", "all": "4"},
                "value": "50",
            }
        ],
    }


def test_rows_are_joined_by_window_and_group(filled: Tenant) -> None:
    meters = {"e": {"meter": "errors"}, "t": {"meter": "ms"}}
    joined = asked(filled, meters=meters, formula="t / e", window="day", group_by="customer")
    assert table(joined) == [
        ("01", ["acme"], {"e": "1", "t": "40"}, "40"),
        ("02", ["acme"], {"e": None, "t": "20"}, None),
        ("02", ["beta"], {"e": "1", "t": "5"}, "5"),
    ]
    filled_in = asked(filled, meters=meters, formula="e + t", window="day", group_by="customer", fill="zero")
    assert table(filled_in) == [
        ("01", ["acme"], {"e": "1", "t": "40"}, "41"),
        ("01", ["beta"], {"e": "0", "t": "0"}, "0"),
        ("02", ["acme"], {"e": "0", "t": "20"}, "20"),
        ("02", ["beta"], {"e": "1", "t": "5"}, "6"),
        ("03", ["acme"], {"e": "0", "t": "0"}, "0"),
        ("03", ["beta"], {"e": "0", "t": "0"}, "0"),
    ]


def test_only_what_adds_up_is_filled_with_zero(filled: Tenant) -> None:
    meters = {"m": {"meter": "slowest"}, "e": {"meter": "errors", "customer": "beta"}}
    document = asked(filled, meters=meters, formula="coalesce(m, 0) - e", window="day", fill="zero")
    assert table(document) == [
        ("01", [], {"m": "30", "e": "0"}, "30"),
        ("02", [], {"m": "20", "e": "1"}, "19"),
        ("03", [], {"m": None, "e": "0"}, "0"),
    ]


def test_a_meter_grouped_by_nothing_stands_beside_every_group(filled: Tenant) -> None:
    meters = {"own": {"meter": "ms"}, "all": {"meter": "ms", "group_by": []}}
    document = asked(filled, meters=meters, formula="round(own / all * 100, 1)", group_by=["customer"])
    assert table(document) == [
        ("01", ["acme"], {"own": "60", "all": "65"}, "92.3"),
        ("01", ["beta"], {"own": "5", "all": "65"}, "7.7"),
    ]


def test_a_member_of_a_meter_takes_the_place_of_the_shared_one(filled: Tenant) -> None:
    meters = {"a": {"meter": "ms"}, "b": {"meter": "ms", "customer": "beta"}}
    document = asked(filled, meters=meters, customer="acme")
    assert table(document) == [("01", [], {"a": "60", "b": "5"}, None)]
    assert document["formula"] is None


def test_both_are_asked_as_of_the_same_moment(filled: Tenant) -> None:
    as_of = filled.answer("/v1/events/lookup?id=1")["recorded_at"]
    document = asked(filled, meters={"a": {"meter": "ms"}, "b": {"meter": "calls"}}, as_of=as_of)
    assert table(document) == [("01", [], {"a": "65", "b": "4"}, None)]
    early = asked(filled, meters={"a": {"meter": "ms"}}, as_of="2020-01-01T00:00:00Z")
    assert early["rows"] == []


def test_a_portal_token_sees_its_customer(filled: Tenant) -> None:
    meters = {"own": {"meter": "ms"}, "all": {"meter": "ms", "group_by": []}}
    made = filled.post("/v1/portal_tokens", {"customer": "beta"})
    if made.status_code == 404:
        pytest.skip("this build has no portal tokens")
    portal = Tenant(filled.live, filled.key, made.json()["token"])
    document = asked(portal, meters=meters, group_by=["customer"])
    assert table(document) == [("01", ["beta"], {"own": "5", "all": "5"}, None)]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, [("/meters", "invalid_value")]),
        ({"meters": {}}, [("/meters", "invalid_value")]),
        ({"meters": {f"a{n}": {"meter": "ms"} for n in range(21)}}, [("/meters", "invalid_value")]),
        (
            {"meters": {"min": {"meter": "ms"}, "a-b": {"meter": "ms"}, "c": 5, "d": {}}, "colour": 1},
            [
                ("/meters/min", "invalid_alias"),
                ("/meters/a-b", "invalid_alias"),
                ("/meters/c", "invalid_value"),
                ("/meters/d/meter", "missing"),
                ("/colour", "unknown_member"),
            ],
        ),
        (
            {
                "meters": {"a": {"meter": "ms", "limit": 5, "group_by": "zone"}},
                "order_by": "value",
                "formula": "a +",
            },
            [
                ("/meters/a/limit", "unknown_member"),
                ("/formula", "invalid_formula"),
                ("/order_by", "unknown_member"),
                ("/meters/a/group_by", "unknown_dimension"),
            ],
        ),
        (
            {"meters": {"a": {"meter": "ms"}, "b": {"meter": "calls"}}, "group_by": "zone"},
            [("/group_by", "unknown_dimension")],
        ),
        (
            {"meters": {"a": {"meter": "ms"}, "b": {"meter": "ms", "window": "day"}}},
            [("/meters/b/window", "not_aligned")],
        ),
        (
            {
                "meters": {
                    "a": {"meter": "ms", "group_by": "customer"},
                    "b": {"meter": "ms", "group_by": "subject"},
                }
            },
            [("/meters/b/group_by", "not_aligned")],
        ),
        ({"meters": {"a": {"meter": "ms"}}, "timezone": "Mars"}, [("/timezone", "unknown_timezone")]),
        (
            {"meters": {"a": {"meter": "ms"}}, "from": "2020-01-01T00:00:00Z", "window": "minute"},
            [("/window", "too_many_windows")],
        ),
        ({"meters": {"a": {"meter": "ms"}}, "formula": 5}, [("/formula", "invalid_formula")]),
    ],
)
def test_refusals(filled: Tenant, body: Any, expected: list[Any]) -> None:
    response = filled.post("/v1/usage/query", {**RANGE, **body})
    assert response.status_code == 422, response.text
    assert faults(response) == expected


def test_a_formula_is_refused_with_its_column(filled: Tenant) -> None:
    response = filled.post("/v1/usage/query", {"meters": {"a": {"meter": "ms"}}, "formula": "a * (b + 1)"})
    assert response.json()["errors"] == [
        {
            "pointer": "/formula",
            "code": "invalid_formula",
            "detail": "formula, column 6: there is no meter 'b'; known: a.",
        }
    ]


def test_a_figure_out_of_range_is_said(filled: Tenant) -> None:
    formula = " * ".join(["a * 10000000000000000000"] * 3)
    response = filled.post("/v1/usage/query", {**RANGE, "meters": {"a": {"meter": "ms"}}, "formula": formula})
    assert faults(response) == [("/formula", "number_out_of_range")]


def test_an_unknown_meter(filled: Tenant) -> None:
    response = filled.post("/v1/usage/query", {"meters": {"a": {"meter": "none"}}})
    assert (response.status_code, response.json()["code"]) == (404, "meter_not_found")
