"""All meters of a customer, change to the window before, the current rate, new windows, customers as values."""

import csv
import io
from typing import Any

import pytest
from tests.api.questions.live import Live, Tenant, faults

JULY = "from=2026-07-01T00:00:00Z&to=2026-07-04T00:00:00Z"


def event(number: int, time: str, subject: str = "acme", **data: Any) -> dict[str, Any]:
    return {"id": str(number), "type": "t", "subject": subject, "time": time, "data": data}


@pytest.fixture(scope="module")
def filled(live: Live) -> Tenant:
    """`n` of acme: 10 on 30 June, 20 on 1 July, 5 on 2 July, 6 at 11:58:30 and 3 at 11:59:10 on 15 July (now is 12:00);
    of beta: 8 on 2 July."""
    tenant = live.tenant()
    tenant.meter(
        key="n", event_type="t", aggregation="sum", value="$.n", unit="u", dimensions={"value": "$.v"}
    )
    tenant.meter(key="peak", event_type="t", aggregation="max", value="$.n")
    tenant.meter(key="other", event_type="other", aggregation="count")
    tenant.record(
        event(1, "2026-06-30T10:00:00Z", n=10),
        event(2, "2026-07-01T10:00:00Z", n=20, v="x"),
        event(3, "2026-07-02T10:00:00Z", n=5),
        event(4, "2026-07-02T11:00:00Z", "beta", n=8),
        event(5, "2026-07-15T11:58:30Z", n=6),
        event(6, "2026-07-15T11:59:10Z", n=3),
    )
    return tenant


# -- all meters ------------------------------------------------------------------------------------------------------
def test_all_meters_of_a_customer(filled: Tenant) -> None:
    document = filled.answer(f"/v1/usage?customer=acme&{JULY}")
    assert [(one["meter"], [row["value"] for row in one["rows"]]) for one in document["items"]] == [
        ("n", ["25"]),
        ("other", []),
        ("peak", ["20"]),
    ]
    assert document["next_cursor"] is None
    assert (document["from"], document["to"]) == ("2026-07-01T00:00:00Z", "2026-07-04T00:00:00Z")
    assert {one["position"] for one in document["items"]} == {document["position"]}
    assert document["items"][0]["unit"] == "u"


def test_the_meters_named(filled: Tenant) -> None:
    document = filled.answer(f"/v1/usage?meter=peak&meter=n&window=day&group_by=customer&{JULY}")
    assert [
        (
            one["meter"],
            [(row["window_start"][8:10], row["group"]["customer"], row["value"]) for row in one["rows"]],
        )
        for one in document["items"]
    ] == [
        ("peak", [("01", "acme", "20"), ("02", "acme", "5"), ("02", "beta", "8")]),
        ("n", [("01", "acme", "20"), ("02", "acme", "5"), ("02", "beta", "8")]),
    ]


def test_meters_are_paged(filled: Tenant) -> None:
    first = filled.answer(f"/v1/usage?limit=2&{JULY}")
    rest = filled.answer(f"/v1/usage?limit=2&{JULY}&cursor={first['next_cursor']}")
    assert [one["meter"] for one in first["items"] + rest["items"]] == ["n", "other", "peak"]


def test_refusals_of_the_overview(filled: Tenant) -> None:
    assert filled.get("/v1/usage?meter=none").json()["code"] == "meter_not_found"
    response = filled.get("/v1/usage?group_by=value&order_by=value&limit=101&window=eon")
    assert faults(response) == [
        ("window", "invalid_value"),
        ("limit", "invalid_limit"),
        ("order_by", "unknown_parameter"),
        ("group_by", "unknown_dimension"),
        ("group_by", "unknown_dimension"),
    ]


# -- change ----------------------------------------------------------------------------------------------------------
def changes(document: dict[str, Any]) -> list[tuple[str | None, ...]]:
    names = ("window_start", "value", "previous_start", "previous", "change", "change_percent")
    return [
        tuple(row[name][:10] if name.endswith("start") else row[name] for name in names)
        for row in document["rows"]
    ]


def test_each_window_beside_the_one_before(filled: Tenant) -> None:
    path = f"/v1/meters/n/usage?compare=previous&window=day&customer=acme&{JULY}"
    assert changes(filled.answer(path + "&fill=zero")) == [
        ("2026-07-01", "20", "2026-06-30", "10", "10", "100"),
        ("2026-07-02", "5", "2026-07-01", "20", "-15", "-75"),
        ("2026-07-03", "0", "2026-07-02", "5", "-5", "-100"),
    ]
    assert len(filled.answer(path)["rows"]) == 2


def test_a_range_beside_the_range_before(filled: Tenant) -> None:
    path = "/v1/meters/n/usage?compare=previous&from=2026-07-01T00:00:00Z&to=2026-07-02T00:00:00Z"
    assert changes(filled.answer(path)) == [("2026-07-01", "20", "2026-06-30", "10", "10", "100")]
    grouped = "/v1/meters/n/usage?compare=previous&group_by=customer&from=2026-07-02T00:00:00Z&to=2026-07-03T00:00:00Z"
    assert changes(filled.answer(grouped)) == [
        ("2026-07-02", "5", "2026-07-01", "20", "-15", "-75"),
        ("2026-07-02", "8", "2026-07-01", "0", "8", None),
    ]
    assert changes(filled.answer(grouped + "&order_by=-value&limit=1")) == [
        ("2026-07-02", "8", "2026-07-01", "0", "8", None)
    ]


def test_a_window_cut_by_the_range_is_beside_a_whole_one(filled: Tenant) -> None:
    path = (
        "/v1/meters/n/usage?compare=previous&window=month&from=2026-07-02T00:00:00Z&to=2026-07-16T00:00:00Z"
    )
    row = filled.answer(path)["rows"][0]
    assert (row["value"], row["previous"]) == ("22", "10")
    assert (row["previous_start"], row["previous_end"]) == ("2026-06-01T00:00:00Z", "2026-07-01T00:00:00Z")


def test_what_has_no_zero_has_no_change_from_nothing(filled: Tenant) -> None:
    path = (
        "/v1/meters/peak/usage?compare=previous&window=day&from=2026-06-30T00:00:00Z&to=2026-07-02T00:00:00Z"
    )
    assert changes(filled.answer(path)) == [
        ("2026-06-30", "10", "2026-06-29", None, None, None),
        ("2026-07-01", "20", "2026-06-30", "10", "10", "100"),
    ]


def test_change_in_csv_and_in_a_body(filled: Tenant) -> None:
    path = f"/v1/meters/n/usage?compare=previous&window=day&customer=acme&{JULY}"
    read = list(csv.reader(io.StringIO(filled.get(path, headers={"accept": "text/csv"}).text, newline="")))
    assert read[0][3:] == ["previous_start", "previous_end", "previous", "change", "change_percent"]
    assert read[1][2:] == ["20", "2026-06-30T00:00:00Z", "2026-07-01T00:00:00Z", "10", "10", "100"]
    body = {"compare": "previous", "window": "day", "customer": "acme"}
    body |= {"from": "2026-07-01T00:00:00Z", "to": "2026-07-04T00:00:00Z"}
    assert filled.post("/v1/meters/n/usage", body).json()["rows"] == filled.answer(path)["rows"]
    assert faults(filled.get("/v1/meters/n/usage?compare=next")) == [("compare", "invalid_value")]


# -- rate ------------------------------------------------------------------------------------------------------------
def test_the_current_rate(filled: Tenant) -> None:
    document = filled.answer("/v1/meters/n/rate?customer=acme")
    document.pop("position")
    document.pop("served_from")
    assert document == {
        "meter": "n",
        "unit": "u",
        "from": "2026-07-15T11:59:00Z",
        "to": "2026-07-15T12:00:00Z",
        "minutes": 1,
        "rows": [{"group": {}, "value": "3", "per_second": "0.05", "per_minute": "3"}],
    }
    longer = filled.answer("/v1/meters/n/rate?minutes=7&group_by=customer")
    assert longer["rows"] == [
        {
            "group": {"customer": "acme"},
            "value": "9",
            "per_second": "0.021428571428571429",
            "per_minute": "1.285714285714285714",
        }
    ]
    assert filled.answer("/v1/meters/n/rate?customer=beta")["rows"][0]["per_second"] == "0"


def test_who_has_no_rate(filled: Tenant) -> None:
    assert faults(filled.get("/v1/meters/peak/rate")) == [("key", "rate_not_defined")]
    assert faults(filled.get("/v1/meters/n/rate?minutes=61&window=day")) == [
        ("minutes", "invalid_number"),
        ("window", "unknown_parameter"),
    ]


# -- windows ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("window", "zone", "starts"),
    [
        ("5m", "UTC", ["06-30T10:00", "07-01T10:00", "07-02T10:00", "07-02T11:00", "07-15T11:55"]),
        (
            "15m",
            "Asia/Kathmandu",
            ["06-30T10:00", "07-01T10:00", "07-02T10:00", "07-02T11:00", "07-15T11:45"],
        ),
        ("week", "UTC", ["06-29T00:00", "07-13T00:00"]),
        ("quarter", "UTC", ["06-01T00:00", "07-01T00:00"]),
        ("quarter", "Europe/Berlin", ["06-01T00:00", "06-30T22:00"]),
        ("year", "UTC", ["06-01T00:00"]),
    ],
)
def test_windows(filled: Tenant, window: str, zone: str, starts: list[str]) -> None:
    path = f"/v1/meters/n/usage?from=2026-06-01T00:00:00Z&to=2026-07-16T00:00:00Z&window={window}&timezone={zone}"
    found = filled.answer(path)["rows"]
    assert [row["window_start"][5:16] for row in found] == starts
    assert sum(int(row["value"]) for row in found) == 52


def test_bounds_name_their_setting(filled: Tenant) -> None:
    response = filled.get("/v1/meters/n/usage?from=2000-01-01T00:00:00Z&window=5m")
    assert faults(response) == [("window", "too_many_windows")]
    assert "usage_windows_max" in response.json()["detail"]
    assert faults(filled.get("/v1/meters/n/usage?limit=10001")) == [("limit", "invalid_limit")]


# -- customers and subjects as values --------------------------------------------------------------------------------
def test_customers_and_subjects_are_values(filled: Tenant) -> None:
    for name in ("customer", "subject"):
        document = filled.answer(f"/v1/meters/n/dimensions/{name}/values")
        assert document["items"] == [{"value": "acme", "readings": 5}, {"value": "beta", "readings": 1}]
        assert filled.answer(f"/v1/meters/n/dimensions/{name}/values?prefix=b")["items"] == [
            {"value": "beta", "readings": 1}
        ]
        empty = filled.answer(f"/v1/meters/n/dimensions/{name}/values?prefix=")
        assert empty["items"] == document["items"]
        assert len(filled.answer(f"/v1/meters/peak/dimensions/{name}/values?limit=1")["items"]) == 1
    assert filled.answer("/v1/meters/n/dimensions/customer/values?customer=beta")["items"] == [
        {"value": "beta", "readings": 1}
    ]
