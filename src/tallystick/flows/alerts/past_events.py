"""Events that counted for nobody, or for no meter, as they were recorded: hour by hour."""

from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING

from tallystick.billing.period import Period
from tallystick.flows.alerts.finding import Armed, AsOf
from tallystick.flows.alerts.unread import count_finding, counted
from tallystick.flows.recent import unread_between

if TYPE_CHECKING:
    from tallystick.flows.alerts.preview import Replay
from tallystick.flows.system import System

_HOUR_US = 3_600_000_000


async def past_events(system: System, alert: Armed, replay: "Replay", as_of: Callable[[int], AsOf]) -> None:
    """Of calendar windows the counts go on within the window; a rolling one is told to the hour."""
    window = alert.rule.window
    assert window is not None  # the rule sees to it
    zone = alert.rule.timezone or "UTC"
    replay.grain_us = _HOUR_US
    reach_us = window.length_us or 0
    present: Period | None = None
    by_hour: dict[int, dict[str, int]] = {}
    at_us = (replay.from_us - reach_us) // _HOUR_US * _HOUR_US
    if not reach_us:
        at_us = window.at(replay.from_us, zone).from_us
    counts: defaultdict[str, int] = defaultdict(int)
    while at_us < replay.to_us:
        until_us = min(at_us + _HOUR_US, replay.to_us)
        if not reach_us:
            period = window.at(at_us, zone)
            until_us = min(until_us, period.to_us)
            if period != present:
                if present is not None:
                    for name in counts:
                        replay.close(count_finding(alert, name, counts[name], present), as_of(at_us))
                counts.clear()
            present = period
        found = counted(alert, await unread_between(system, at_us - 1, until_us - 1))
        by_hour[at_us] = found
        for name, events in found.items():
            counts[name] += events
        touched = set(found)
        if reach_us:
            present = Period(until_us - reach_us, until_us)
            for begin_us in [one for one in by_hour if one < present.from_us]:
                for name, events in by_hour.pop(begin_us).items():
                    counts[name] -= events
                    touched.add(name)
        assert present is not None  # set above either way
        for name in sorted(touched):
            replay.decide(count_finding(alert, name, counts[name], present), as_of(until_us - 1))
        at_us = until_us
