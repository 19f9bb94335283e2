"""`/v1/meters/{key}/usage` over HTTP, on the real parts."""

import csv
import io
from typing import Any

import pytest
from tests.api.questions.live import Live, Tenant, faults

JULY = "from=2026-07-01T00:00:00Z&to=2026-07-04T00:00:00Z"


def event(number: int, subject: str, time: str, **data: Any) -> dict[str, Any]:
    return {"id": str(number), "type": "llm", "subject": subject, "time": time, "data": data}


@pytest.fixture(scope="module")
def filled(live: Live) -> Tenant:
    """
    subject  day  model  tokens
    acme     1    a      1.5
    acme     2    a      2
    acme-eu  2    b      "0.25"   (child of acme)
    beta     2    -      4
    beta     3    a      x        (not counted)
    """
    tenant = live.tenant()
    tenant.post("/v1/customers", {"key": "acme"})
    tenant.post("/v1/customers", {"key": "acme-eu", "parent": "acme"})
    tenant.meter(
        key="tokens",
        event_type="llm",
        aggregation="sum",
        value="$.tokens",
        dimensions={"model": "$.model"},
        unit="token",
    )
    tenant.meter(key="peak", event_type="llm", aggregation="max", value="$.tokens")
    tenant.record(
        event(1, "acme", "2026-07-01T10:00:00Z", model="a", tokens=1.5),
        event(2, "acme", "2026-07-02T10:00:00Z", model="a", tokens=2),
        event(3, "acme-eu", "2026-07-02T11:00:00Z", model="b", tokens="0.25"),
        event(4, "beta", "2026-07-02T12:00:00Z", tokens=4),
        event(5, "beta", "2026-07-03T12:00:00Z", model="a", tokens="x"),
    )
    return tenant


def rows(document: dict[str, Any]) -> list[tuple[str, tuple[str | None, ...], str | None]]:
    return [
        (row["window_start"][:10], tuple(row["group"].values()), row["value"]) for row in document["rows"]
    ]


def test_one_total(filled: Tenant) -> None:
    document = filled.answer(f"/v1/meters/tokens/usage?{JULY}")
    position = document.pop("position")
    assert position.startswith(("p1-", "p2-"))
    assert document == {
        "meter": "tokens",
        "version": 1,
        "aggregation": "sum",
        "unit": "token",
        "from": "2026-07-01T00:00:00Z",
        "to": "2026-07-04T00:00:00Z",
        "window": None,
        "timezone": "UTC",
        "rows": [
            {
                "window_start": "2026-07-01T00:00:00Z",
                "window_end": "2026-07-04T00:00:00Z",
                "group": {},
                "value": "7.75",
            }
        ],
        "served_from": document["served_from"],
    }


ANSWERS = [
    ("window=day", [("2026-07-01", (), "1.5"), ("2026-07-02", (), "6.25")]),
    (
        "window=day&fill=zero",
        [("2026-07-01", (), "1.5"), ("2026-07-02", (), "6.25"), ("2026-07-03", (), "0")],
    ),
    (
        "group_by=model",
        [("2026-07-01", (None,), "4"), ("2026-07-01", ("a",), "3.5"), ("2026-07-01", ("b",), "0.25")],
    ),
    (
        "group_by=customer,model&order_by=-value&limit=2",
        [("2026-07-01", ("beta", None), "4"), ("2026-07-01", ("acme", "a"), "3.5")],
    ),
    ("customer=acme", [("2026-07-01", (), "3.5")]),
    ("customer=acme&customer=beta", [("2026-07-01", (), "7.5")]),
    ("customer=acme&include_children=true", [("2026-07-01", (), "3.75")]),
    ("filter[model]=a,b", [("2026-07-01", (), "3.75")]),
    ("filter[model][ne]=a", [("2026-07-01", (), "4.25")]),
    ("filter[model][exists]=false", [("2026-07-01", (), "4")]),
    ("filter[customer]=nobody", []),
]


@pytest.mark.parametrize(("parameters", "expected"), ANSWERS)
def test_questions(filled: Tenant, parameters: str, expected: list[Any]) -> None:
    path = f"/v1/meters/tokens/usage?{JULY}&{parameters}"
    document = filled.answer(path)
    assert rows(document) == expected
    table = filled.get(path, headers={"accept": "text/csv"})
    assert table.headers["content-type"] == "text/csv; header=present; charset=utf-8"
    assert table.headers["tallystick-position"] == document["position"]
    read = list(csv.reader(io.StringIO(table.text, newline="")))
    groups = list(document["rows"][0]["group"]) if document["rows"] else []
    assert read[0] == ["window_start", "window_end", *groups, "value"]
    assert read[1:] == [
        [
            row["window_start"],
            row["window_end"],
            *(value or "" for value in row["group"].values()),
            row["value"],
        ]
        for row in document["rows"]
    ]


@pytest.mark.parametrize("meter", ["tokens", "peak"])
@pytest.mark.parametrize(
    "more",
    [
        "",
        "&fill=zero",
        "&group_by=customer",
        "&group_by=customer&limit=1",
        "&group_by=customer,subject&order_by=value",
        "&group_by=customer&order_by=-value&limit=2&fill=zero",
        "&customer=nobody",
        "&customer=nobody&fill=zero",
        "&as_of=2026-07-01T00:00:00Z",
    ],
)
def test_totals_are_what_is_answered_without_windows(filled: Tenant, meter: str, more: str) -> None:
    """Sums are added up from the windows, of the others it is asked: both must be the same, in the same order."""
    whole = filled.answer(f"/v1/meters/{meter}/usage?{JULY}{more}")
    expected = [{"group": row["group"], "value": row["value"]} for row in whole["rows"]]
    windows = filled.answer(f"/v1/meters/{meter}/usage?{JULY}{more}&window=day&totals=true")
    assert windows.pop("totals") == expected
    plain = filled.answer(f"/v1/meters/{meter}/usage?{JULY}{more}&window=day")
    assert windows["rows"] == plain["rows"]
    assert set(windows) == set(plain)
    asked = {"window": "day", "totals": True, "from": "2026-07-01T00:00:00Z", "to": "2026-07-04T00:00:00Z"}
    posted = filled.post(f"/v1/meters/{meter}/usage", asked)
    assert posted.status_code == 200, posted.text
    assert "totals" in posted.json()


def test_totals_of_a_group_without_a_dimension_come_first(filled: Tenant) -> None:
    windows = filled.answer(f"/v1/meters/tokens/usage?{JULY}&window=day&group_by=model&totals=true")
    assert windows["totals"] == [
        {"group": {"model": None}, "value": "4"},
        {"group": {"model": "a"}, "value": "3.5"},
        {"group": {"model": "b"}, "value": "0.25"},
    ]
    refused = filled.get(f"/v1/meters/tokens/usage?{JULY}&totals=true&compare=previous")
    assert faults(refused) == [("totals", "invalid_value")]
    refused = filled.get(f"/v1/meters/tokens/usage?{JULY}&totals=true", headers={"accept": "text/csv"})
    assert faults(refused) == [("totals", "invalid_value")]


def test_post_is_the_same_question(filled: Tenant) -> None:
    body = {
        "from": "2026-07-01T00:00:00Z",
        "to": "2026-07-04T00:00:00Z",
        "window": "day",
        "group_by": ["customer"],
        "filter": {"model": {"in": ["a", "b"]}},
    }
    posted = filled.post("/v1/meters/tokens/usage", body)
    assert posted.status_code == 200
    query = f"/v1/meters/tokens/usage?{JULY}&window=day&group_by=customer&filter[model]=a,b"
    # Roll-ups may have come up in between.
    assert posted.json() | {"served_from": "any"} == filled.answer(query) | {"served_from": "any"}


def test_no_data_is_no_rows_and_null_where_there_is_no_zero(filled: Tenant) -> None:
    august = "from=2026-08-01T00:00:00Z&to=2026-08-02T00:00:00Z"
    assert filled.answer(f"/v1/meters/peak/usage?{august}")["rows"] == []
    days = filled.answer(f"/v1/meters/peak/usage?{JULY}&window=day&fill=zero")
    assert [row["value"] for row in days["rows"]] == ["1.5", "4", None]


def test_default_range_is_the_last_thirty_days(filled: Tenant) -> None:
    document = filled.answer("/v1/meters/tokens/usage")
    assert (document["from"], document["to"]) == ("2026-06-15T12:00:00Z", "2026-07-15T12:00:00Z")


def test_refusals(filled: Tenant) -> None:
    unknown = filled.get("/v1/meters/nothing/usage?window=x")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "meter_not_found")
    html = filled.get("/v1/meters/tokens/usage", headers={"accept": "text/html"})
    assert (html.status_code, html.json()["code"]) == (406, "not_acceptable")
    wrong = filled.get("/v1/meters/tokens/usage?window=x&group_by=region&timezone=Mars&to=never&what=1")
    assert wrong.status_code == 422
    assert faults(wrong) == [
        ("to", "invalid_time"),
        ("window", "invalid_value"),
        ("what", "unknown_parameter"),
        ("group_by", "unknown_dimension"),
        ("timezone", "unknown_timezone"),
    ]
    posted = filled.post("/v1/meters/tokens/usage?window=day", {"group_by": ["region"]})
    assert faults(posted) == [("window", "unknown_parameter"), ("/group_by", "unknown_dimension")]


def test_reading_ones_own_writes(tenant: Tenant) -> None:
    tenant.meter(key="calls", event_type="call", aggregation="count")
    sent = tenant.post("/v1/events", [{"id": "1", "type": "call", "subject": "s"}]).json()
    document = tenant.answer(
        f"/v1/meters/calls/usage?to=2026-07-16T00:00:00Z&min_position={sent['position']}"
    )
    assert [row["value"] for row in document["rows"]] == ["1"]


def test_older_versions_stay_readable(tenant: Tenant) -> None:
    tenant.meter(key="calls", event_type="call", aggregation="sum", value="$.n")
    tenant.record(
        {"id": "1", "type": "call", "subject": "s", "time": "2026-07-02T00:00:00Z", "data": {"n": 5, "m": 7}}
    )
    tenant.send("PATCH", "/v1/meters/calls", json={"value": "$.m"})
    newest = tenant.answer(f"/v1/meters/calls/usage?{JULY}")
    older = tenant.answer(f"/v1/meters/calls/usage?{JULY}&version=1")
    assert [(document["version"], document["rows"][0]["value"]) for document in (newest, older)] == [
        (2, "7"),
        (1, "5"),
    ]


def test_two_subjects_of_one_customer_in_one_batch(tenant: Tenant) -> None:
    tenant.post("/v1/customers", {"key": "acme", "subjects": ["key-1", "key-2"]})
    tenant.meter(key="calls", event_type="call", aggregation="count")
    tenant.record(
        *(
            {"id": subject, "type": "call", "subject": subject, "time": "2026-07-02T00:00:00Z"}
            for subject in ("key-1", "key-2")
        )
    )
    document = tenant.answer(f"/v1/meters/calls/usage?{JULY}&group_by=customer")
    assert rows(document) == [("2026-07-01", ("acme",), "2")]
