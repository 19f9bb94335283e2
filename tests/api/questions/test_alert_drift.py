"""Alerts on figures that go on while nothing is recorded: levels that hold, starts that time out."""

from typing import Any

import pytest
from tests.api.questions.live import NOW_US, Live, Tenant
from tests.api.questions.test_alerts import alert, transitions, until

from tallystick.catalog.delivering import DeliverySearch, Setup
from tallystick.catalog.interface import SYSTEM
from tallystick.metering.instant import instant_text

HOUR_S = 3600


@pytest.fixture
def ours(live: Live) -> Tenant:
    tenant = live.tenant()
    gauges(tenant)
    return tenant


def gauges(tenant: Tenant) -> None:
    tenant.meter(key="machines", event_type="level", aggregation="time_weighted", value="$.n")
    tenant.meter(
        key="open", event_type="open", aggregation="duration", value="$.s", pair_by="$.p", timeout="PT2H"
    )


def hold(tenant: Tenant, name: str, level: int, *, subject: str = "acme", ago_s: int = 0) -> None:
    at = instant_text(tenant.live.clock.now_us() - ago_s * 1_000_000)
    tenant.record({"id": name, "type": "level", "subject": subject, "time": at, "data": {"n": level}})


def looked(live: Live) -> None:
    """Wait until there was a whole look at the present moment."""
    status: Any = live.system.alerts
    before = status.looks
    until(lambda: status.looks >= before + 2, "looked")


def at_times(tenant: Tenant, **search: str) -> list[tuple[str, str, str]]:
    """(kind, step, time), oldest first."""
    items = tenant.answer("/v1/transitions", params=search)["items"]
    return [(one["kind"], one["step"], one["at"]) for one in reversed(items)]


def test_a_level_that_holds_crosses_its_steps_while_nothing_comes(ours: Tenant) -> None:
    live = ours.live
    catalog: Any = live.system.catalog
    setup = Setup(type="slack", name="ops", url="https://example.com/x", enabled=True)
    catalog.create_channel(ours.key, "ops", setup, customer=None, secret=None, actor=SYSTEM, now_us=NOW_US)
    begin_us = live.clock.now_us()
    alert(ours, meter="machines", condition={"op": "gte", "steps": [4, 8]}, channels=["ops"])
    hold(ours, "a", 8)
    hold(ours, "b", 1, subject="beta")
    looked(live)
    live.clock.move_to(begin_us + 1795 * 1_000_000)
    looked(live)
    assert transitions(ours) == []
    live.clock.move_to(begin_us + 1800 * 1_000_000)
    until(lambda: transitions(ours) == [("fired", "acme", "4")], "half an hour of eight")
    live.clock.move_to(begin_us + 3600 * 1_000_000)
    until(lambda: transitions(ours)[1:] == [("fired", "acme", "8")], "an hour of eight")
    looked(live)
    items = ours.answer("/v1/transitions")["items"]
    assert [one["value"] for one in reversed(items)] == ["4", "8"]
    usage = ours.answer("/v1/meters/machines/usage", params={
        "customer": "acme", "as_of": items[1]["as_of"], "from": items[1]["window"]["from"],
        "to": items[1]["window"]["to"],
    })  # fmt: skip
    assert usage["rows"][0]["value"] == "4"  # asked as the evidence says, the figure is the same
    deliveries = catalog.deliveries(ours.key, DeliverySearch()).items
    assert len({one.id for one in deliveries}) == len(deliveries) == 2


def test_a_level_is_carried_into_windows_in_which_nothing_comes(ours: Tenant) -> None:
    live = ours.live
    alert(ours, meter="machines", window="hour", condition={"op": "gte", "value": 6})
    hold(ours, "a", 4)
    live.clock.advance(seconds=60)
    hold(ours, "b", 8)
    fired = 0
    for _ in range(3):
        hour_us = (live.clock.now_us() // (HOUR_S * 1_000_000) + 1) * HOUR_S * 1_000_000
        live.clock.move_to(hour_us + 2_700_000_000 - 1_000_000)
        looked(live)
        assert len([one for one in transitions(ours) if one[0] == "fired"]) == fired + (fired == 0)
        fired = len([one for one in transitions(ours) if one[0] == "fired"])
        live.clock.move_to(hour_us + 2_700_000_000)
        fired += 1
        until(
            lambda: len([one for one in transitions(ours) if one[0] == "fired"]) == fired,  # noqa: B023
            "in each hour",
        )


def test_a_share_of_a_limit_and_a_rate_and_a_low_figure(ours: Tenant) -> None:
    live = ours.live
    assert ours.post("/v1/customers", {"key": "acme"}).status_code == 201
    limit = {"key": "cap", "customer": "acme", "meter": "machines", "amount": "20", "period": "day"}
    assert ours.post("/v1/limits", limit).status_code == 201
    alert(ours, key="share", meter="machines", window=None, condition={"op": "percent_of_limit", "value": 50})
    rate = {"op": "rate", "value": 6, "per": "hour"}
    alert(ours, key="rate", meter="machines", window="rolling:PT1H", condition=rate)
    alert(ours, key="low", meter="machines", window="hour", condition={"op": "lte", "value": 7})
    alert(ours, key="quiet", meter="machines", window=None, condition={"op": "silence", "for": "PT2H"})
    day_us = 86_400_000_000
    live.clock.move_to((live.clock.now_us() // day_us + 1) * day_us + HOUR_S * 1_000_000)
    hold(ours, "a", 8)
    looked(live)
    live.clock.advance(seconds=2700)
    until(lambda: transitions(ours, alert="rate") == [("fired", "acme", "6")], "six an hour")
    live.clock.advance(seconds=1799)
    looked(live)
    assert transitions(ours, alert="share") == []
    live.clock.advance(seconds=1)
    until(lambda: transitions(ours, alert="share") == [("fired", "acme", "50")], "ten of twenty")
    live.clock.advance(seconds=2700 + 60)
    until(lambda: transitions(ours, alert="quiet") == [("fired", "acme", "7200")], "no event")
    assert transitions(ours, alert="low") == []  # eight in each whole hour since


def test_a_start_is_closed_by_its_timeout(ours: Tenant) -> None:
    live = ours.live
    alert(ours, meter="open", window="month", condition={"op": "gte", "value": 7200})
    at = instant_text(live.clock.now_us())
    ours.record({"id": "o", "type": "open", "subject": "acme", "time": at, "data": {"s": "start", "p": 1}})
    live.clock.advance(seconds=7190)
    looked(live)
    assert transitions(ours) == []
    live.clock.advance(seconds=10)
    until(lambda: transitions(ours) == [("fired", "acme", "7200")], "closed")


def test_late_levels_change_what_follows(ours: Tenant) -> None:
    live = ours.live
    alert(ours, meter="machines", window="hour", condition={"op": "gte", "value": 6})
    live.clock.move_to((live.clock.now_us() // (HOUR_S * 1_000_000) + 1) * HOUR_S * 1_000_000 + 2_760_000_000)
    hold(ours, "late", 8, ago_s=6000)
    # Of this hour, too, though nothing was recorded that happened in it.
    until(lambda: [one[0] for one in transitions(ours)].count("fired") == 2, "both hours")


def test_a_preview_of_stretches_whose_figures_do_not_add_up(ours: Tenant) -> None:
    """Averages of three hours are no averages of their last hour."""
    live = ours.live
    ours.meter(key="mean", event_type="m", aggregation="average", value="$.n")
    begin_us = live.clock.now_us() // (HOUR_S * 1_000_000) * HOUR_S * 1_000_000 - 9 * HOUR_S * 1_000_000
    ours.record(*(
        {"id": f"m{hour}", "type": "m", "subject": "acme", "time": instant_text(begin_us + hour * HOUR_S * 1_000_000),
         "data": {"n": n}}
        for hour, n in enumerate([3, 3, 9, 3, 9, 9])
    ))  # fmt: skip
    rule = {"meter": "mean", "window": "rolling:PT3H", "condition": {"op": "gte", "value": 7}}
    rule |= {"from": instant_text(begin_us), "to": instant_text(live.clock.now_us())}
    found = ours.post("/v1/alerts/preview", rule).json()
    # (9 + 3 + 9) / 3 is the first that reaches it; the nine before stood beside threes.
    first = found["transitions"][0]
    assert (first["kind"], first["value"]) == ("fired", "7"), found
    assert found["fired"] == 1
    # And what a level has used by each hour.
    hold(ours, "p", 2, ago_s=5 * HOUR_S)
    rule = {"meter": "machines", "window": "rolling:PT3H", "condition": {"op": "gte", "value": 6}}
    found = ours.post("/v1/alerts/preview", rule).json()
    assert found["fired"] == 1, found
