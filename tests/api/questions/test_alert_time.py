"""Alerts that time decides, money, events of nobody, previews; and a keeper that fails."""

from typing import Any

import pytest
from tests.api.questions.live import NOW_US, Live, Tenant
from tests.api.questions.test_alerts import alert, begun, transitions, until, use

from tallystick.catalog.relational import RelationalCatalog
from tallystick.metering.instant import instant_text

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US


@pytest.fixture
def ours(live: Live) -> Tenant:
    tenant = live.tenant()
    tenant.meter(
        key="calls", event_type="call", aggregation="sum", value="$.n", dimensions={"model": "$.model"}
    )
    return tenant


def now(live: Live) -> str:
    return instant_text(live.clock.now_us())


def test_silence_is_noticed_and_ends(ours: Tenant) -> None:
    live = ours.live
    alert(ours, window=None, condition={"op": "silence", "for": "PT1H"})
    use(ours, "a", 1, at=now(live))
    catalog: Any = live.system.catalog
    (kept,) = catalog.alerts(ours.key).items
    until(lambda: catalog.alert_states(kept).items, "it listens")
    live.clock.advance(seconds=3599)
    use(ours, "b", 1, subject="beta", at=now(live))
    assert transitions(ours) == []
    live.clock.advance(seconds=120)
    until(lambda: transitions(ours) == [("fired", "acme", "3600")], "silent")
    use(ours, "c", 1, at=now(live))
    until(lambda: transitions(ours)[1:] == [("recovered", "acme", "3600")], "heard again")


def test_a_window_ends_and_low_ones_are_judged_then(ours: Tenant) -> None:
    live = ours.live
    alert(ours, key="high", window="hour", condition={"op": "gte", "value": 5})
    alert(ours, key="low", window="hour", condition={"op": "lte", "value": 2})
    use(ours, "a", 6, at=now(live))
    until(lambda: transitions(ours, alert="high") == [("fired", "acme", "5")], "fired")
    live.clock.advance(seconds=3700)
    until(lambda: len(transitions(ours, alert="high")) == 2, "the window is over")
    (last, _) = ours.answer("/v1/transitions", params={"alert": "high"})["items"]
    assert (last["kind"], last["reason"]) == ("recovered", "window_ended")
    use(ours, "b", 1, at=now(live))
    assert transitions(ours, alert="low") == []
    live.clock.advance(seconds=3700)
    until(lambda: transitions(ours, alert="low") == [("fired", "acme", "2")], "low")
    use(ours, "late", 4, at=instant_text(live.clock.now_us() - 3700 * 1_000_000))
    until(lambda: transitions(ours, alert="low")[1:] == [("recovered", "acme", "2")], "it was late")
    live.clock.advance(seconds=3 * 3600)  # three windows without anything, of which two follow use
    until(lambda: len(transitions(ours, alert="low")) == 3, "low again")


def test_credits_and_costs(ours: Tenant) -> None:
    live = ours.live
    assert ours.post("/v1/customers", {"key": "acme", "currency": "USD"}).status_code == 201
    grant = {"customer": "acme", "amount": "8", "meter": "calls"}
    assert ours.post("/v1/credits", grant).status_code == 201
    charge = {"key": "calls", "meter": "calls", "price": {"model": "per_unit", "unit_amount": "0.5"}}
    plan = {"key": "pro", "currency": "USD", "billing_period": "month", "charges": [charge]}
    assert ours.post("/v1/plans", plan).status_code == 201
    assert ours.post("/v1/plans/pro/publish").status_code == 200
    begin = instant_text(NOW_US - 20 * DAY_US)
    made = ours.post("/v1/subscriptions", {"customer": "acme", "plan": "pro", "start": begin})
    assert made.status_code == 201, made.text
    alert(
        ours,
        key="left",
        meter=None,
        credits={"meter": "calls"},
        window=None,
        condition={"op": "lte", "value": 3},
    )
    alert(ours, key="bill", meter=None, cost=True, window=None, condition={"op": "gte", "value": "3"})
    alert(ours, key="today", meter=None, cost=True, window="day", condition={"op": "gte", "value": "3"})
    use(ours, "old", 1, at=instant_text(live.clock.now_us() - 26 * HOUR_US))
    live.clock.advance(seconds=9)
    use(ours, "a", 5, at=instant_text(live.clock.now_us() - 1_000_000))
    live.clock.advance(seconds=6)  # a customer's money is asked for every few seconds at most
    until(lambda: transitions(ours, alert="left") == [("fired", "acme", "3")], "little is left")
    until(lambda: transitions(ours, alert="bill") == [("fired", "acme", "3")], "the bill")
    (one,) = ours.answer("/v1/transitions", params={"alert": "bill"})["items"]
    assert (one["value"], one["currency"]) == ("3", "USD")
    assert transitions(ours, alert="today") == []
    live.clock.advance(seconds=10)
    use(ours, "b", 1, at=instant_text(live.clock.now_us() - 1_000_000))
    live.clock.advance(seconds=6)
    until(lambda: transitions(ours, alert="today") == [("fired", "acme", "3")], "today alone")
    for key in ("bill", "left"):
        found = ours.post(f"/v1/alerts/{key}/preview", {}).json()
        assert found["fired"] == 1, found


def test_a_share_of_a_limit(ours: Tenant) -> None:
    assert ours.post("/v1/customers", {"key": "acme"}).status_code == 201
    limit = {"key": "cap", "customer": "acme", "meter": "calls", "amount": "20", "period": "day"}
    made = ours.post("/v1/limits", limit)
    assert made.status_code == 201, made.text
    alert(ours, window=None, condition={"op": "percent_of_limit", "steps": [50, 100]})
    use(ours, "a", 9, at=now(ours.live))
    use(ours, "b", 9, subject="beta", at=now(ours.live))
    assert transitions(ours) == []
    use(ours, "c", 2, at=now(ours.live))
    until(lambda: transitions(ours) == [("fired", "acme", "50")], "half of it")
    (one,) = ours.answer("/v1/transitions")["items"]
    assert (one["percent"], one["limit"], one["threshold"], one["value"]) == ("55", "cap", "10", "11")


def test_events_of_no_meter(ours: Tenant) -> None:
    condition = {"op": "gte", "value": 2}
    alert(ours, meter=None, events="unmetered_type", window="day", condition=condition)
    for name in ("a", "b"):
        ours.record({"id": name, "type": "new", "subject": "acme", "time": now(ours.live)})
    until(lambda: transitions(ours) == [("fired", None, "2")], "fired")
    (one,) = ours.answer("/v1/transitions")["items"]
    assert (one["type"], one["value"]) == ("new", "2")
    ours.live.clock.advance(seconds=1)
    assert ours.post("/v1/alerts/a/preview", {}).json()["fired"] == 1


def test_a_preview_says_what_would_have_been(ours: Tenant) -> None:
    base_us = ours.live.clock.now_us() // DAY_US * DAY_US
    for day in range(1, 11):
        at = instant_text(base_us - day * DAY_US + 5 * HOUR_US)
        use(ours, f"d{day}", 20 if day in (3, 7) else 3, at=at)
    rule = {"meter": "calls", "window": "day", "condition": {"op": "gte", "steps": [10, 15]}}
    found = ours.post("/v1/alerts/preview", rule).json()
    assert (found["fired"], found["recovered"], found["customers"]) == (4, 2, 1)
    assert [one["step"] for one in found["transitions"]] == ["10", "15", "15"] * 2
    assert found["transitions"][0]["at"] == instant_text(base_us - 7 * DAY_US + 6 * HOUR_US - 1)
    assert found["transitions"][2]["reason"] == "window_ended"
    assert ours.answer("/v1/transitions")["items"] == []
    for condition, window, fired in (
        ({"op": "gte", "value": 23}, "rolling:P2D", 2),
        ({"op": "percent_change", "value": 100}, "day", 2),
        ({"op": "percent_change", "value": 50, "direction": "down"}, "day", 2),
        ({"op": "lte", "value": 3}, "day", 3),
        ({"op": "silence", "for": "PT20H"}, None, 10),
        ({"op": "rate", "value": 10, "per": "hour"}, "rolling:PT1H", 2),
        ({"op": "anomaly"}, "day", 0),
    ):
        answer = ours.post("/v1/alerts/preview", {"meter": "calls", "window": window, "condition": condition})
        assert answer.status_code == 200, answer.text
        assert answer.json()["fired"] == fired, condition
    turned = {"from": "2026-07-01T00:00:00Z", "to": "2026-06-01T00:00:00Z"}
    assert ours.post("/v1/alerts/preview", rule | turned).status_code == 422


def test_an_average_rises_when_what_was_low_leaves_the_window_and_the_clock_is_put_back(ours: Tenant) -> None:
    live = ours.live
    ours.meter(key="mean", event_type="m", aggregation="average", value="$.n")
    condition = {"op": "gte", "value": 8}
    alert(ours, key="mean", meter="mean", window="rolling:PT1H", condition=condition)
    alert(ours, key="calls", window="rolling:PT1H", condition={"op": "gte", "value": 5})
    ours.record({"id": "low", "type": "m", "subject": "acme", "time": now(live), "data": {"n": 2}})
    live.clock.advance(seconds=1800)
    ours.record({"id": "high", "type": "m", "subject": "acme", "time": now(live), "data": {"n": 9}})
    assert transitions(ours) == []
    live.clock.advance(seconds=1801)
    until(lambda: transitions(ours, alert="mean") == [("fired", "acme", "8")], "the low one has left")
    at_us = live.clock.now_us()
    live.clock.advance(seconds=90 * 86_400)
    until(lambda: len(transitions(ours, alert="mean")) == 2, "all has")
    live.clock.move_to(at_us)
    use(ours, "c", 5, at=now(live))
    until(lambda: transitions(ours, alert="calls") == [("fired", "acme", "5")], "fired")
    live.clock.advance(seconds=3700)
    until(lambda: len(transitions(ours, alert="calls")) == 2, "it does not wait for ninety days")


def test_a_keeper_that_fails_leaves_the_rest_alone_and_catches_up(
    ours: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = ours.live
    alert(ours)
    status = live.system.alerts

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("broken on purpose")

    before = status.failures
    with monkeypatch.context() as broken:
        broken.setattr(RelationalCatalog, "advance_alerts", fail)
        use(ours, "a", 11, at=now(live))
        until(lambda: status.failures >= before + 2, "it fails in a loop")
        use(ours, "b", 2, at=now(live))
        live.clock.advance(seconds=1)
        assert ours.answer("/v1/meters/calls/usage?customer=acme")["rows"][0]["value"] == "13"
        assert "broken on purpose" in (status.fault or "")
        assert "tallystick_alerts_failing 1.0" in live.send("GET", "/metrics").text
        ready = until(
            lambda: (found := live.send("GET", "/health/ready").json())["status"] == "degraded" and found,
            "health says so",
        )
        assert ready["components"]["alerts"]["status"] == "degraded"
        assert ours.get("/v1/alerts").status_code == 200
    until(lambda: transitions(ours) == [("fired", "acme", "10")], "it caught up")
    until(lambda: status.fault is None, "and is well")
    begun(ours)
