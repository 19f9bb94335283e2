"""Alerts over HTTP: set, changed, fired, recovered, muted; a customer's own; what is refused."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.api.questions.live import NOW, NOW_US, Live, Tenant, faults

from tallystick.catalog.delivering import DeliverySearch, Setup
from tallystick.catalog.interface import SYSTEM
from tallystick.metering.instant import instant_text

WAIT_S = 90


def until(ask: Callable[[], Any], what: str) -> Any:
    """What `ask` answers once it is true of it."""
    deadline = time.monotonic() + WAIT_S
    while not (found := ask()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return found


def use(
    tenant: Tenant, name: str, amount: object, *, subject: str = "acme", at: str = NOW, **data: Any
) -> None:
    event = {"id": name, "type": "call", "subject": subject, "time": at, "data": {"n": amount, **data}}
    tenant.record(event)


def transitions(tenant: Tenant, **search: str) -> list[tuple[str, str, str | None]]:
    """(kind, customer, step), oldest first."""
    items = tenant.answer("/v1/transitions", params=search)["items"]
    return [(one["kind"], one["customer"], one["step"]) for one in reversed(items)]


def alert(tenant: Tenant, **members: Any) -> dict[str, Any]:
    made = {"key": "a", "meter": "calls", "condition": {"op": "gte", "value": "10"}, "window": "day"}
    response = tenant.post("/v1/alerts", made | members)
    assert response.status_code == 201, response.text
    begun(tenant)
    return response.json()


def begun(tenant: Tenant) -> None:
    """Wait until everything set has been looked at once."""
    catalog: Any = tenant.live.system.catalog
    until(lambda: all(one.begun for one in catalog.every_alert()), "alerts are looked at")


@pytest.fixture
def ours(live: Live) -> Tenant:
    tenant = live.tenant()
    tenant.meter(
        key="calls", event_type="call", aggregation="sum", value="$.n", dimensions={"model": "$.model"}
    )
    return tenant


def test_it_fires_once_and_recovers_with_the_evidence(ours: Tenant) -> None:
    alert(ours, condition={"op": "gte", "steps": ["10", "20"]}, window="month")
    use(ours, "a", 9)
    use(ours, "b", "1.5")
    until(lambda: len(transitions(ours)) == 1, "fired")
    use(ours, "c", 30)
    until(lambda: len(transitions(ours)) == 2, "fired again")
    ours.post("/v1/events/corrections", {"retract": [{"id": "c"}], "reason": "wrong"})
    expected = [("fired", "acme", "10"), ("fired", "acme", "20"), ("recovered", "acme", "20")]
    until(lambda: transitions(ours) == expected, "recovered")
    first = ours.answer("/v1/transitions", params={"alert": "a", "kind": "fired"})["items"][-1]
    assert first["value"] == "10.5"
    assert first["threshold"] == "10"
    assert first["window"] == {"from": "2026-07-01T00:00:00Z", "to": "2026-08-01T00:00:00Z"}
    assert first["reason"] == "threshold"
    assert {"as_of", "position", "summary", "id"} <= first.keys()
    (state,) = ours.answer("/v1/alerts/a/states")["items"]
    assert (state["customer"], state["state"], state["step"], state["transitions"]) == (
        "acme",
        "firing",
        "10",
        3,
    )


def test_what_is_there_already_counts_and_customers_are_apart(ours: Tenant) -> None:
    use(ours, "a", 12)
    use(ours, "b", 7, subject="beta")
    alert(ours)
    until(lambda: transitions(ours) == [("fired", "acme", "10")], "fired for what there was")
    alert(ours, key="beta", customer="beta", condition={"op": "gte", "value": 8})
    use(ours, "c", 1, subject="beta")
    until(lambda: transitions(ours, alert="beta") == [("fired", "beta", "8")], "fired for beta")
    assert transitions(ours, customer="beta") == [("fired", "beta", "8")]


def test_a_late_event_counts_where_it_happened(ours: Tenant) -> None:
    alert(ours)
    use(ours, "a", 6)
    use(ours, "late", 11, at="2026-07-14T23:00:00Z")
    until(lambda: transitions(ours) == [("fired", "acme", "10")], "fired for yesterday")
    (one,) = ours.answer("/v1/transitions")["items"]
    assert one["window"]["from"] == "2026-07-14T00:00:00Z"
    assert ours.answer("/v1/alerts/a/states")["items"][0]["state"] == "ok"  # that day is over


def test_filters_and_groups(ours: Tenant) -> None:
    alert(ours, filter={"model": {"eq": "large"}})
    alert(ours, key="each", group_by=["model"])
    use(ours, "a", 9, model="small")
    use(ours, "b", 8, model="large")
    use(ours, "c", 4, model="large")
    until(lambda: len(transitions(ours)) == 2, "both fired")
    (one,) = ours.answer("/v1/transitions", params={"alert": "each"})["items"]
    assert (one["group"], one["value"]) == ({"model": "large"}, "12")


def test_a_rolling_rate_and_a_change(ours: Tenant) -> None:
    alert(ours, key="rate", window="rolling:PT10M", condition={"op": "rate", "value": "2", "per": "minute"})
    alert(ours, key="change", window="day", condition={"op": "percent_change", "value": "50"})
    use(ours, "a", 20, at="2026-07-14T10:00:00Z")
    use(ours, "b", 29)
    until(lambda: transitions(ours, alert="rate") == [("fired", "acme", "2")], "the rate fired")
    assert ours.answer("/v1/transitions", params={"alert": "rate"})["items"][0]["value"] == "2.9"
    assert transitions(ours, alert="change") == []
    use(ours, "c", 1)
    until(lambda: transitions(ours, alert="change") == [("fired", "acme", "50")], "the change fired")
    assert ours.answer("/v1/transitions", params={"alert": "change"})["items"][0]["percent"] == "50"


def test_muting_says_it_later_and_changing_begins_anew(ours: Tenant) -> None:
    catalog: Any = ours.live.system.catalog
    setup = Setup(type="slack", name="ops", url="https://example.com/x", enabled=True)
    catalog.create_channel(ours.key, "ops", setup, customer=None, secret=None, actor=SYSTEM, now_us=NOW_US)
    alert(ours, channels=["ops"])
    response = ours.post("/v1/alerts/a/mute", {"until": instant_text(NOW_US + 3_600_000_000)})
    assert response.json()["muted_until"] == "2026-07-15T13:00:00Z"
    use(ours, "a", 12)
    until(lambda: transitions(ours), "fired")
    assert not catalog.deliveries(ours.key, DeliverySearch()).items
    assert ours.answer("/v1/transitions")["items"][0]["muted"] is True
    assert ours.post("/v1/alerts/a/unmute").json()["muted_until"] is None
    (told,) = until(lambda: catalog.deliveries(ours.key, DeliverySearch()).items, "said")
    assert told.kind == "alert.fired"
    before = ours.get("/v1/alerts/a")
    refused = ours.send("PATCH", "/v1/alerts/a", json={"name": "x"}, headers={"if-match": '"other"'})
    assert refused.status_code == 412
    changed = ours.send(
        "PATCH",
        "/v1/alerts/a",
        json={"condition": {"op": "gte", "value": "11"}},
        headers={"if-match": before.headers["etag"]},
    )
    assert changed.json()["window"] == "day"
    until(lambda: transitions(ours) == [("fired", "acme", "10"), ("fired", "acme", "11")], "begun anew")


def test_a_customers_own(ours: Tenant) -> None:
    use(ours, "a", 12)
    use(ours, "b", 12, subject="beta")
    alert(ours)
    scopes = ["alerts:read", "alerts:write"]
    made = ours.post("/v1/portal_tokens", {"customer": "acme", "scopes": scopes}).json()
    acme = Tenant(ours.live, ours.key, made["token"])
    assert acme.answer("/v1/alerts")["items"] == []
    assert acme.get("/v1/alerts/a").status_code == 404
    own = {"key": "a", "meter": "calls", "condition": {"op": "gte", "value": "5"}, "window": "day"}
    assert acme.post("/v1/alerts", own | {"customer": "beta"}).status_code == 403
    assert acme.post("/v1/alerts", own | {"channels": ["ops"]}).json()["code"] == "unknown_channel"
    made = acme.post("/v1/alerts", own).json()
    assert (made["owner"], made["customer"]) == ("acme", "acme")
    until(lambda: transitions(acme) == [("fired", "acme", "5")], "its own fired")
    assert len(ours.answer("/v1/alerts")["items"]) == 2
    assert ours.answer("/v1/alerts/a")["owner"] is None
    assert ours.answer("/v1/alerts/a", params={"owner": "acme"})["owner"] == "acme"
    assert acme.send("DELETE", "/v1/alerts/a").status_code == 204
    assert ours.get("/v1/alerts/a").status_code == 200


def test_what_is_refused_is_told_at_once(ours: Tenant) -> None:
    response = ours.post(
        "/v1/alerts",
        {"key": "-", "meter": "none", "window": "fortnight", "condition": {"op": "gte"}, "more": 1},
    )
    assert response.status_code == 422
    assert {pointer for pointer, _ in faults(response)} == {"/key", "/window", "/condition/value", "/more"}
    response = ours.post(
        "/v1/alerts",
        {
            "key": "k",
            "meter": "none",
            "channels": ["no"],
            "condition": {"op": "percent_of_limit", "steps": [80]},
        },
    )
    found = dict(faults(response))
    assert found["/meter"] == "unknown_meter"
    assert found["/channels/0"] == "unknown_channel"
    assert found["/condition/limit"] == "unknown_limit"
    assert ours.send("PATCH", "/v1/alerts/none", json={}).status_code == 404
