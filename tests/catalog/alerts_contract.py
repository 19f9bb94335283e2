"""Alerts in a catalog: states move by compare-and-set, a step is one transaction with what channels are told of it."""

import json
from dataclasses import replace
from typing import Any

import pytest

from tallystick.catalog.alerting import (
    Advance,
    AlertDraft,
    AlertsMovedError,
    KeptAlert,
    KeptState,
    Move,
    NewTransition,
    StatePlace,
    TransitionSearch,
)
from tallystick.catalog.delivering import DeliverySearch, Setup
from tallystick.catalog.interface import Catalog
from tallystick.errors import Conflict, NotFound

from .contract import ANN, NOW_US, T, new

RULE = json.dumps({"key": "a", "channels": ["hook"]})


def fired(name: str = "tr_1", kind: str = "fired") -> NewTransition:
    return NewTransition(name, kind, 0, NOW_US, f"It has {kind}.", {"value": "7"})


def state_of(alert: KeptAlert, **members: Any) -> KeptState:
    return KeptState(StatePlace(alert.id, alert.edition, 0, "acme"), level=1, sequence=1, **members)


class AlertsContract:
    @pytest.fixture
    def alerts(self, catalog: Catalog) -> Any:
        made: Any = catalog
        catalog.create_customer(T, "acme", new(), actor=ANN, now_us=NOW_US)
        setup = Setup(type="slack", name="hook", url="https://example.com/x")
        made.create_channel(T, "hook", setup, customer=None, secret=None, actor=ANN, now_us=NOW_US)
        return made

    @pytest.fixture
    def alert(self, alerts: Any) -> KeptAlert:
        return alerts.create_alert(T, None, "a", AlertDraft("*", RULE), actor=ANN, now_us=NOW_US)

    def test_keys_are_an_owners_own(self, alerts: Any, alert: KeptAlert) -> None:
        own = alerts.create_alert(T, "acme", "a", AlertDraft("acme", RULE), actor=ANN, now_us=NOW_US)
        assert alerts.alerts(T).items == (alert,)
        assert alerts.alerts(T, owner="acme").items == (own,)
        assert alerts.alerts(T, every=True).items == (alert, own)
        with pytest.raises(Conflict, match="already"):
            alerts.create_alert(T, None, "a", AlertDraft("*", RULE), actor=ANN, now_us=NOW_US)
        alerts.delete_alert(T, None, "a", actor=ANN, now_us=NOW_US)
        with pytest.raises(NotFound):
            alerts.alert(T, None, "a")
        assert alerts.alert(T, "acme", "a") == own

    def test_a_step_moves_states_and_tells_channels_in_one_transaction(
        self, alerts: Any, alert: KeptAlert
    ) -> None:
        move = Move(state_of(alert), (fired(),))
        step = Advance([move], begun=[(alert.id, 1)], judged=[(alert.id, 5)], moment_us=NOW_US)
        assert alerts.advance_alerts(0, step, now_us=NOW_US) == 1
        (kept,) = alerts.alert_states(alert).items
        assert (kept.level, kept.said_level, kept.version) == (1, 1, 1)
        assert alerts.states_at([kept.place]) == {kept.place: kept}
        assert alerts.open_states([alert.id]) == (kept,)
        assert alerts.alert_progress().moment_us == NOW_US
        (again,) = alerts.every_alert()
        assert (again.begun, again.judged_us) == (True, 5)
        (told,) = alerts.deliveries(T, DeliverySearch()).items
        assert (told.channel, told.kind, told.notice) == ("hook", "alert.fired", "tr_1")
        assert json.loads(told.body)["data"]["value"] == "7"
        # Neither the version of the work nor that of a state can be used twice, and nothing of a refused step remains.
        for version, state in (
            (0, replace(kept, level=0)),
            (1, state_of(alert)),
            (1, replace(kept, version=7)),
        ):
            with pytest.raises(AlertsMovedError):
                alerts.advance_alerts(
                    version, Advance([Move(state, (fired("tr_2"),))], moment_us=NOW_US + 1), now_us=NOW_US
                )
        with pytest.raises(AlertsMovedError):
            alerts.advance_alerts(1, Advance([Move(kept, (fired(),))]), now_us=NOW_US)
        assert [one.id for one in alerts.transitions(T, TransitionSearch()).items] == ["tr_1"]
        assert alerts.alert_progress().moment_us == NOW_US

    def test_a_muted_alert_is_said_when_it_is_not_muted_any_more(self, alerts: Any, alert: KeptAlert) -> None:
        alerts.mute_alert(T, None, "a", NOW_US + 10, actor=ANN, now_us=NOW_US)
        alerts.advance_alerts(0, Advance([Move(state_of(alert), (fired(),))]), now_us=NOW_US)
        assert alerts.deliveries(T, DeliverySearch()).items == ()
        (row,) = alerts.transitions(T, TransitionSearch(customer="acme")).items
        assert row.muted
        unsaid = alerts.unsaid_states([alert.id])
        assert alerts.say_again(1, unsaid, now_us=NOW_US) == 2  # still muted
        assert alerts.deliveries(T, DeliverySearch()).items == ()
        alerts.say_again(2, unsaid, now_us=NOW_US + 10)
        assert [one.notice for one in alerts.deliveries(T, DeliverySearch()).items] == ["tr_1"]
        assert alerts.unsaid_states([alert.id]) == ()

    def test_a_changed_rule_begins_anew(self, alerts: Any, alert: KeptAlert) -> None:
        alerts.advance_alerts(0, Advance([Move(state_of(alert), (fired(),))]), now_us=NOW_US)
        changed = AlertDraft("acme", RULE.replace("hook", "other"), decides=True)
        made = alerts.change_alert(T, None, "a", lambda present: changed, actor=ANN, now_us=NOW_US)
        assert (made.edition, made.begun) == (2, False)
        assert alerts.alert_states(made).items == ()
        late = Advance([Move(state_of(alert), (fired("tr_late"),))])
        alerts.advance_alerts(1, late, now_us=NOW_US)  # decided for the rule there was: left out
        assert alerts.alert_states(made).items == ()
        assert [one.id for one in alerts.transitions_after(T, 0, limit=10)] == ["tr_1"]
