"""Sources at work beside a test: bounded waiting for what they do."""

import time
from collections.abc import Callable
from typing import Any

from tests.api.questions.live import Tenant

EVER = {"from": "2020-01-01T00:00:00Z", "to": "2040-01-01T00:00:00Z"}


def until(said: Callable[[], Any], *, seconds: float = 20) -> Any:
    """What `said` answers as soon as it is true."""
    end = time.monotonic() + seconds
    while True:
        found = said()
        if found:
            return found
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def state_of(tenant: Tenant, key: str) -> dict[str, Any]:
    return tenant.answer(f"/v1/sources/{key}")["state"]


def settled(tenant: Tenant, key: str, taken: int) -> dict[str, Any]:
    """How the source stands once it has taken so many events, and they are counted."""

    def said() -> dict[str, Any] | None:
        state = state_of(tenant, key)
        assert state["status"] != "failed", state
        return state if state["taken"] >= taken and state["lag"] == 0 else None

    return until(said)


def total(tenant: Tenant, meter: str) -> int:
    """The sum of a meter over everything, once all that is acknowledged is recorded."""
    recorder, log = tenant.live.system.recorder, tenant.live.system.log
    until(lambda: recorder.position == log.end or _reached(recorder.position, log.end))
    rows = tenant.post(f"/v1/meters/{meter}/usage", EVER).json()["rows"]
    return int(rows[0]["value"]) if rows else 0


def _reached(position: Any, end: Any) -> bool:
    return list(position) == [end] if not isinstance(end, tuple) else tuple(position) >= end
