"""Whether the NATS servers sync every write before they acknowledge it (`sync_interval: always`).

By default they sync every two minutes: when all machines lose power at once, what was acknowledged is lost. A client
cannot see the setting; the monitoring port can.
"""

import asyncio
import json
import urllib.request
from typing import Any

from tallystick.errors import Invalid
from tallystick.log.nats_stream import unavailable

_MONITOR_S = 5.0


async def check_sync(monitors: tuple[str, ...]) -> None:
    """Ask the monitoring of each server, `http://host:8222`. Raises Invalid for a server that does not sync,
    Unavailable for one that does not answer."""
    for monitor in monitors:
        try:
            answer = await asyncio.to_thread(_jetstream_of, monitor)
        except (OSError, ValueError) as error:
            raise unavailable(f"the monitoring of NATS at {monitor} does not answer: {error}") from error
        config = answer.get("config") or {}
        if not config.get("sync_always"):
            raise Invalid(
                f"The NATS server at {monitor} does not sync every write: put `sync_interval: always` into the "
                "jetstream part of its configuration and restart it.",
                code="invalid_setting",
            )


def _jetstream_of(monitor: str) -> dict[str, Any]:
    if not monitor.startswith(("http://", "https://")):
        raise ValueError("it must begin with http:// or https://")
    with urllib.request.urlopen(f"{monitor.rstrip('/')}/jsz", timeout=_MONITOR_S) as answer:  # noqa: S310
        return json.loads(answer.read())
