"""`GET /v1/meters/{key}/forecast`, on a customer whose days are known."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from tests.api.questions.live import Live, Tenant, faults

NOW = datetime(2026, 7, 15, 12, tzinfo=UTC)
BY_HOUR = [2, 1, 1, 1, 2, 3, 5, 8, 12, 15, 16, 15, 14, 15, 16, 15, 13, 11, 9, 7, 6, 5, 4, 3]


def shown(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture(scope="module")
def tenant(live: Live) -> Tenant:
    made = live.tenant()
    for customer in ("acme", "beta", "new"):
        made.post("/v1/customers", {"key": customer})
    made.meter(
        key="tokens",
        event_type="use",
        aggregation="sum",
        value="$.n",
        unit="token",
        dimensions={"model": "$.m"},
    )
    made.meter(key="peak", event_type="use", aggregation="max", value="$.n")
    events: list[dict[str, Any]] = []
    for hour in range(28 * 24):
        at = NOW - timedelta(hours=28 * 24 - hour)
        wobble = (hour * 7919) % 5 - 2
        events.append(
            {
                "id": f"a{hour}",
                "type": "use",
                "subject": "acme",
                "time": shown(at),
                "data": {"n": BY_HOUR[at.hour] * 100 + wobble, "m": "x"},
            }
        )
    events.append(
        {
            "id": "n1",
            "type": "use",
            "subject": "new",
            "time": shown(NOW - timedelta(hours=30)),
            "data": {"n": "2.5"},
        }
    )
    made.record(*events)
    return made


def test_hours_follow_the_day(tenant: Tenant) -> None:
    answer = tenant.answer("/v1/meters/tokens/forecast?customer=acme&horizon=P2D")
    assert (answer["meter"], answer["customer"], answer["window"], answer["unit"]) == (
        "tokens",
        "acme",
        "hour",
        "token",
    )
    assert answer["approximate"] is True
    assert answer["history"]["windows"] == 28 * 24
    assert answer["history"]["to"] == answer["rows"][0]["from"] == shown(NOW)
    assert answer["method"] in ("combined", "ets", "ets_asinh", "seasonal_median", "seasonal_naive")
    assert len(answer["rows"]) == 48
    for row in answer["rows"]:
        hour = datetime.fromisoformat(row["from"]).hour
        assert abs(Decimal(row["value"]) - BY_HOUR[hour] * 100) < 30, row
        low, high = Decimal(row["low"]), Decimal(row["high"])
        assert 0 <= Decimal(row["low_95"]) <= low <= Decimal(row["value"]) <= high <= Decimal(row["high_95"])
    total = answer["total"]
    assert Decimal(total["value"]) == sum(Decimal(row["value"]) for row in answer["rows"])
    # The sum's interval is its own: errors of windows do not all go one way.
    width = Decimal(total["high"]) - Decimal(total["low"])
    assert width < sum(Decimal(row["high"]) - Decimal(row["low"]) for row in answer["rows"])
    assert 0.6 <= float(answer["backtest"]["coverage"]) <= 1
    assert float(answer["backtest"]["naive_error"]) > 0


def test_days_are_the_default_of_a_month(tenant: Tenant) -> None:
    answer = tenant.answer("/v1/meters/tokens/forecast?customer=acme&timezone=Europe/Berlin")
    assert answer["window"] == "day"
    assert len(answer["rows"]) == 30
    assert answer["rows"][0]["from"] == "2026-07-14T22:00:00Z"
    assert answer["rows"][0]["to"] == "2026-07-15T22:00:00Z"
    day = sum(BY_HOUR) * 100
    for row in answer["rows"]:
        assert abs(Decimal(row["value"]) - day) < day // 20


def test_the_open_day_is_no_less_than_it_has(tenant: Tenant) -> None:
    tenant.record(
        {"id": "b1", "type": "use", "subject": "beta", "time": "2026-07-15T01:00:00Z", "data": {"n": 5000}},
        *(
            {
                "id": f"bd{day}",
                "type": "use",
                "subject": "beta",
                "time": shown(NOW - timedelta(days=day)),
                "data": {"n": 10 + day % 3},
            }
            for day in range(1, 20)
        ),
    )
    answer = tenant.answer("/v1/meters/tokens/forecast?customer=beta&horizon=P3D&window=day")
    first = answer["rows"][0]
    assert Decimal(first["low_95"]) >= 5000
    assert Decimal(answer["total"]["low_95"]) >= 5000


def test_short_and_empty_histories_say_so(tenant: Tenant) -> None:
    empty = tenant.answer("/v1/meters/tokens/forecast?customer=nobody")
    assert (empty["method"], empty["reason"], empty["rows"], empty["total"], empty["backtest"]) == (
        "none",
        "no_history",
        [],
        None,
        None,
    )
    assert empty["history"]["windows"] == 0
    short = tenant.answer("/v1/meters/tokens/forecast?customer=new&horizon=P1D")
    assert (short["method"], short["reason"]) == ("mean", "short_history")
    assert short["detail"]
    assert len(short["rows"]) == 24


def test_what_does_not_add_up_has_no_total(tenant: Tenant) -> None:
    answer = tenant.answer("/v1/meters/peak/forecast?customer=acme&horizon=P1D")
    assert answer["total"] is None
    assert len(answer["rows"]) == 24
    refused = tenant.get("/v1/meters/peak/forecast?customer=acme&reach=5")
    assert refused.status_code == 422
    assert faults(refused) == [("reach", "not_additive")]


def test_when_an_amount_is_reached(tenant: Tenant) -> None:
    day = sum(BY_HOUR) * 100
    path = "/v1/meters/tokens/forecast?customer=acme&horizon=P7D"
    found = tenant.answer(f"{path}&reach={3 * day}")["reach"]
    assert found["used"] == "0"
    at = datetime.fromisoformat(found["at"])
    assert abs(at - (NOW + timedelta(days=3))) < timedelta(hours=3)
    assert found["earliest"] <= found["at"] <= found["latest"]
    since = tenant.answer(f"{path}&reach={3 * day}&since=2026-07-14T12:00:00Z")["reach"]
    assert abs(Decimal(since["used"]) - day) < 100
    assert abs(datetime.fromisoformat(since["at"]) - (NOW + timedelta(days=2))) < timedelta(hours=3)
    gone = tenant.answer(f"{path}&reach=10&since=2026-07-14T12:00:00Z")["reach"]
    assert gone["at"] == gone["earliest"] == gone["latest"] == shown(NOW)
    never = tenant.answer(f"{path}&reach={300 * day}")["reach"]
    assert never["at"] is None


def test_what_is_asked_wrongly_is_refused_at_once(tenant: Tenant) -> None:
    refused = tenant.get(
        "/v1/meters/tokens/forecast?horizon=tomorrow&level=100&window=week&timezone=Mars&reach=-1&group_by=model&since=2027-01-01T00:00:00Z"
    )
    assert refused.status_code == 422
    assert {pointer for pointer, _ in faults(refused)} == {
        "horizon",
        "level",
        "window",
        "timezone",
        "reach",
        "group_by",
        "since",
    }
    long = tenant.get("/v1/meters/tokens/forecast?horizon=P365D&window=hour")
    assert faults(long) == [("horizon", "too_many_windows")]
    assert tenant.get("/v1/meters/none/forecast").status_code == 404


def test_a_filter_narrows_and_a_token_sees_its_own(tenant: Tenant, live: Live) -> None:
    none = tenant.answer("/v1/meters/tokens/forecast?customer=acme&filter[model]=y")
    assert none["method"] == "none"
    made = tenant.post("/v1/portal_tokens", {"customer": "new", "scopes": ["usage:read"]})
    portal = Tenant(live, tenant.key, made.json()["token"])
    assert portal.get("/v1/meters/tokens/forecast?customer=acme").status_code == 403
    own = portal.answer("/v1/meters/tokens/forecast?horizon=P1D")
    assert own["method"] == "mean"
    assert max(Decimal(row["value"]) for row in own["rows"]) < 3


def test_when_a_limit_is_reached(tenant: Tenant) -> None:
    month = "from=2026-07-01T00:00:00Z&to=2026-08-01T00:00:00Z"
    rows = tenant.answer(f"/v1/meters/tokens/usage?customer=acme&{month}")["rows"]
    used = Decimal(rows[0]["value"])
    for key, amount in (("soon", used + 15_000), ("never", used * 10), ("over", 1)):
        limit = {"key": key, "customer": "acme", "meter": "tokens", "amount": str(amount), "period": "month"}
        assert tenant.post("/v1/limits", limit).status_code == 201
    answer = tenant.answer("/v1/limits/soon/forecast?customer=acme")
    assert (answer["limit"], answer["customer"], answer["meter"]) == ("soon", "acme", "tokens")
    assert answer["period"] == {"from": "2026-07-01T00:00:00Z", "to": "2026-08-01T00:00:00Z"}
    assert Decimal(answer["reach"]["used"]) == used
    # A day comes to 22,600: the limit is reached within the next.
    assert shown(NOW) < answer["reach"]["earliest"] <= answer["reach"]["at"] <= "2026-07-16T12:00:00Z"
    assert tenant.answer("/v1/limits/never/forecast?customer=acme")["reach"]["at"] is None
    assert tenant.answer("/v1/limits/over/forecast?customer=acme")["reach"]["at"] == shown(NOW)


def test_limits_without_a_forecast(tenant: Tenant) -> None:
    rolling = {"key": "r", "customer": "*", "meter": "tokens", "amount": 9, "period": "rolling:PT5H"}
    assert tenant.post("/v1/limits", rolling).status_code == 201
    assert faults(tenant.get("/v1/limits/r/forecast")) == [("customer", "missing")]
    assert faults(tenant.get("/v1/limits/r/forecast?customer=acme")) == [("key", "not_additive")]
    only = {"key": "only", "customer": "beta", "meter": "tokens", "amount": 9, "period": "day"}
    assert tenant.post("/v1/limits", only).status_code == 201
    response = tenant.get("/v1/limits/only/forecast?customer=acme")
    assert (response.status_code, response.json()["code"]) == (404, "limit_not_found")
