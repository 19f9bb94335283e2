"""Alerts of every kind on real history: unusual windows, events of nobody, billing periods, limits of a plan, rolling limits."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.api.questions.live import NOW_US, Live, Tenant, opened
from tests.api.questions.test_alerts import alert, transitions, until, use

from tallystick.metering.instant import instant_text

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with opened(tmp_path_factory.mktemp("kinds"), unknown_subject="quarantine") as made:
        yield made


@pytest.fixture
def ours(live: Live) -> Tenant:
    tenant = live.tenant()
    tenant.meter(key="calls", event_type="call", aggregation="sum", value="$.n")
    assert tenant.post("/v1/customers", {"key": "acme"}).status_code == 201
    return tenant


def now(live: Live) -> str:
    return instant_text(live.clock.now_us())


def subscribe(tenant: Tenant, customer: str, plan: str, start: str) -> None:
    charge = {"key": "calls", "meter": "calls", "price": {"model": "per_unit", "unit_amount": "0.5"}}
    made = {"key": plan, "currency": "USD", "billing_period": "month", "charges": [charge]}
    assert tenant.post("/v1/plans", made).status_code == 201
    assert tenant.post(f"/v1/plans/{plan}/publish").status_code == 200
    made = {"customer": customer, "plan": plan, "start": start, "anchor": start}
    response = tenant.post("/v1/subscriptions", made)
    assert response.status_code == 201, response.text


def limit(tenant: Tenant, **members: Any) -> None:
    response = tenant.post("/v1/limits", {"meter": "calls", "amount": "20"} | members)
    assert response.status_code == 201, response.text


def test_a_billing_period_and_the_limit_of_a_plan(ours: Tenant) -> None:
    assert ours.post("/v1/customers", {"key": "beta"}).status_code == 201
    subscribe(ours, "acme", "pro", instant_text(NOW_US - 20 * DAY_US))
    limit(ours, key="of-plan", plan="pro", period="day")
    alert(ours, key="period", window="billing", condition={"op": "gte", "value": 10})
    alert(
        ours, key="share", window=None, condition={"op": "percent_of_limit", "value": 50, "limit": "of-plan"}
    )
    use(ours, "a", 12, at=now(ours.live))
    use(ours, "b", 50, at=now(ours.live), subject="beta")  # who subscribes to nothing has neither
    until(lambda: transitions(ours, alert="period") == [("fired", "acme", "10")], "the period")
    until(lambda: transitions(ours, alert="share") == [("fired", "acme", "50")], "the plan's limit")
    (one,) = ours.answer("/v1/transitions", params={"alert": "period"})["items"]
    assert one["window"]["from"] == instant_text(NOW_US - 20 * DAY_US)
    use(ours, "c", 1, at=now(ours.live), subject="beta")
    assert transitions(ours, customer="beta") == []


def test_a_rolling_limit(ours: Tenant) -> None:
    live = ours.live
    limit(ours, key="five", customer="*", period="rolling:PT5H")
    alert(ours, window=None, condition={"op": "percent_of_limit", "steps": [80, 100], "limit": "five"})
    use(ours, "a", 17, at=now(live))
    until(lambda: transitions(ours) == [("fired", "acme", "80")], "four fifths")
    live.clock.advance(seconds=2 * 3600)
    use(ours, "b", 5, at=now(live))
    until(lambda: transitions(ours)[1:] == [("fired", "acme", "100")], "all of it")
    live.clock.advance(seconds=3 * 3600 + 120)
    expected = [("recovered", "acme", "100"), ("recovered", "acme", "80")]
    until(lambda: transitions(ours)[2:] == expected, "it has left the window")


def test_a_limit_that_is_lowered_and_a_raise_that_ends(ours: Tenant) -> None:
    """Neither comes with an event."""
    live = ours.live
    assert ours.post("/v1/customers", {"key": "beta"}).status_code == 201
    for key, period in (("day", "day"), ("five", "rolling:PT5H")):
        limit(ours, key=key, customer="*", period=period, amount="100")
        share = {"op": "percent_of_limit", "value": 100, "limit": key}
        alert(ours, key=f"of-{key}", window=None, condition=share)
        end = instant_text(live.clock.now_us() + HOUR_US)
        made = ours.post(f"/v1/limits/{key}/raises", {"customer": "acme", "amount": "50", "until": end})
        assert made.status_code == 201, made.text
    use(ours, "a", 40, at=now(live), subject="beta")
    use(ours, "b", 120, at=now(live))
    assert transitions(ours) == []

    def made_of(key: str, customer: str, count: int) -> Callable[[], bool]:
        return lambda: len(transitions(ours, alert=f"of-{key}", customer=customer)) == count

    for key in ("day", "five"):
        response = ours.send("PATCH", f"/v1/limits/{key}", json={"amount": "40"})
        assert response.status_code == 200, response.text
        until(made_of(key, "beta", 1), "lowered")
        until(made_of(key, "acme", 1), "lowered")
        response = ours.send("PATCH", f"/v1/limits/{key}", json={"amount": "100"})
        until(made_of(key, "beta", 2), "it recovers")
        until(made_of(key, "acme", 2), "it recovers")
    live.clock.advance(seconds=3600)
    for key in ("day", "five"):
        until(made_of(key, "acme", 3), "the raise has ended")
        assert transitions(ours, alert=f"of-{key}", customer="acme")[2] == ("fired", "acme", "100")


def test_subjects_of_nobody(ours: Tenant) -> None:
    live = ours.live
    made = ours.post("/v1/customers", {"key": "known", "subjects": ["device-1"]})
    assert made.status_code == 201, made.text
    alert(
        ours,
        key="lost",
        meter=None,
        events="unknown_customer",
        window="day",
        condition={"op": "gte", "value": 2},
    )
    use(ours, "a", 1, at=now(live), subject="device-1")
    use(ours, "b", 1, at=now(live), subject="nobody")
    assert transitions(ours) == []
    use(ours, "c", 1, at=now(live), subject="nobody")
    until(lambda: transitions(ours) == [("fired", None, "2")], "two of nobody")
    (one,) = ours.answer("/v1/transitions", params={"alert": "lost"})["items"]
    assert (one["subject"], one["value"]) == ("nobody", "2")


def test_an_unusual_hour_fires_and_the_next_usual_one_recovers(ours: Tenant) -> None:
    live = ours.live
    hour_us = live.clock.now_us() // HOUR_US * HOUR_US

    def used(hour: int) -> int:
        return 100 + 10 * (hour % 24) + (hour * 7919) % 7

    history = [
        {"id": f"h{back}", "type": "call", "subject": "acme", "time": instant_text(hour_us - back * HOUR_US),
         "data": {"n": used(hour_us // HOUR_US - back)}}
        for back in range(1, 21 * 24)
    ]  # fmt: skip
    ours.record(*history)
    alert(ours, window="hour", condition={"op": "anomaly"})
    use(ours, "spike", 1000, at=now(live))
    live.clock.advance(seconds=3600 + 10)
    until(lambda: [one[0] for one in transitions(ours)] == ["fired"], "unusual")
    (one,) = ours.answer("/v1/transitions")["items"]
    assert (one["value"], one["anomaly"] is not None) == ("1000", True)
    use(ours, "usual", used(hour_us // HOUR_US + 1), at=now(live))
    live.clock.advance(seconds=3600)
    until(lambda: [one[0] for one in transitions(ours)] == ["fired", "recovered"], "usual again")
