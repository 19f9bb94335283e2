"""A restart lies over the moment at which a level that holds crosses a step."""

from pathlib import Path

from tests.api.questions.live import Tenant, opened
from tests.api.questions.test_alert_drift import HOUR_S, gauges, hold, looked
from tests.api.questions.test_alerts import alert, transitions, until


def test_a_restart_lies_over_the_moment(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as live:
        tenant = live.tenant()
        gauges(tenant)
        alert(tenant, key="day", meter="machines", condition={"op": "gte", "value": 4})
        alert(tenant, key="hour", meter="machines", window="hour", condition={"op": "gte", "value": 8})
        hold(tenant, "a", 8)
        looked(live)
        secret, key, stopped_us = tenant.secret, tenant.key, live.clock.now_us()
    with opened(tmp_path / "data") as live:
        live.clock.move_to(stopped_us + 2 * HOUR_S * 1_000_000 + 60_000_000)
        tenant = Tenant(live, key, secret)
        until(lambda: transitions(tenant, alert="day") == [("fired", "acme", "4")], "found when it is back")
        until(lambda: len(transitions(tenant, alert="hour")) >= 2, "each hour that is over")
        looked(live)
        found = tenant.answer("/v1/transitions", params={"alert": "hour"})["items"]
        assert [(one["kind"], one["window"]["from"]) for one in reversed(found)] == [
            ("fired", "2026-07-15T12:00:00Z"),
            ("fired", "2026-07-15T13:00:00Z"),
        ]
    with opened(tmp_path / "data") as live:
        live.clock.move_to(stopped_us + 2 * HOUR_S * 1_000_000 + 60_000_000)
        looked(live)
        assert len(Tenant(live, key, secret).answer("/v1/transitions")["items"]) == 3
