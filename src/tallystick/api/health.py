"""`GET /health/live`, `GET /health/ready`, `GET /metrics`: for machines that watch machines. No key is needed."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from litestar import Request, Response, get

from tallystick.api.ingest import Ingest
from tallystick.api.openapi import STRING, objects, operation
from tallystick.api.wire import system_of
from tallystick.errors import TallystickError
from tallystick.flows.system import System

State = Literal["ok", "degraded", "down"]

PING_S_MAX = 2.0
KEPT_S = 1.0
"""An answer is kept this long: nobody may make the parts busy by asking how they are."""
FAILURE_COUNTS_S = 10
LAG_DEGRADED_S = 10.0
METRICS_TYPE = "text/plain; version=0.0.4"  # Litestar adds the charset

_STATE = {"type": "string", "enum": ["ok", "degraded", "down"]}
_READY = objects(
    {
        "status": _STATE,
        "components": objects(
            {
                name: objects({"status": _STATE, "detail": STRING}, required=["status"])
                for name in ("log", "recorder", "store", "catalog", "alerts")
            }
        ),
        "recorder_lag": objects({"events": {"type": "integer"}, "seconds": {"type": "number"}}),
    }
)


class Readiness:
    """How the parts are, asked for at most once a second."""

    def __init__(self, system: System, ingest: Ingest) -> None:
        self._system = system
        self._ingest = ingest
        self._kept: tuple[int, dict[str, Any]] | None = None
        self._kept_at = float("-inf")
        self._lock = asyncio.Lock()
        self._running: dict[str, asyncio.Future[None]] = {}

    async def answer(self) -> tuple[int, dict[str, Any]]:
        """The status and the document. 503 only when ingest cannot be acknowledged: all else mends itself behind it."""
        async with self._lock:
            if self._kept is None or time.monotonic() - self._kept_at > KEPT_S:
                self._kept = await self._ask()
                self._kept_at = time.monotonic()
            return self._kept

    async def _ask(self) -> tuple[int, dict[str, Any]]:
        store, catalog = await asyncio.gather(
            self._ping("store", self._system.store.ping), self._ping("catalog", self._system.catalog.ping)
        )
        log, recorder = self._log(), self._recorder()
        lag = self._system.recorder.lag()
        components = {
            "log": log,
            "recorder": recorder,
            "store": store,
            "catalog": catalog,
            "alerts": self._alerts(),
        }
        states = [component["status"] for component in components.values()]
        whole: State = "down" if log["status"] == "down" else "degraded" if set(states) != {"ok"} else "ok"
        document = {
            "status": whole,
            "components": components,
            "recorder_lag": {"events": lag.events, "seconds": round(lag.seconds, 3)},
        }
        return (503 if whole == "down" else 200), document

    def _log(self) -> dict[str, str]:
        failure = self._ingest.append_failure
        if failure is None:
            return {"status": "ok"}
        age_s = (self._system.clock.now_us() - self._ingest.append_failed_at_us) / 1_000_000
        if age_s > FAILURE_COUNTS_S:
            # Whoever stays away because of the 503 would never make the attempt that shows it is over.
            return {"status": "degraded", "detail": f"The last append failed: {failure.detail}"}
        return {"status": "down", "detail": failure.detail}

    def _recorder(self) -> dict[str, str]:
        recorder = self._system.recorder
        if recorder.fault is not None:
            return {"status": "degraded", "detail": recorder.fault}
        if not recorder.recovered:
            return {
                "status": "degraded",
                "detail": "It has just started and makes ready what it keeps in memory.",
            }
        lag = recorder.lag()
        if lag.seconds > LAG_DEGRADED_S:
            return {"status": "degraded", "detail": f"{lag.events} events behind, {lag.seconds:.1f} s."}
        return {"status": "ok"}

    def _alerts(self) -> dict[str, str]:
        fault = self._system.alerts.fault
        return {"status": "ok"} if fault is None else {"status": "degraded", "detail": fault}

    async def _ping(self, name: str, ping: Callable[[], None]) -> dict[str, str]:
        # One ping a part at a time: one that hangs keeps one thread, not one a second.
        running = self._running.get(name)
        if running is None:
            running = asyncio.get_running_loop().run_in_executor(self._system.questions, ping)
            self._running[name] = running
        done, _ = await asyncio.wait((running,), timeout=PING_S_MAX)
        if not done:
            return {"status": "down", "detail": f"No answer within {PING_S_MAX:.0f} s."}
        del self._running[name]
        error = running.exception()
        if error is None:
            return {"status": "ok"}
        detail = error.detail if isinstance(error, TallystickError) else "It does not answer."
        return {"status": "down", "detail": detail}


@get(
    "/health/live",
    opt={
        "operation": operation(
            summary="Is the process alive?",
            tag="Operation",
            answer=objects({"status": {"type": "string", "const": "ok"}}),
            public=True,
        )
    },
)
async def live() -> dict[str, str]:
    return {"status": "ok"}


@get(
    "/health/ready",
    opt={
        "operation": operation(
            summary="Can events be acknowledged, and how are the parts?",
            tag="Operation",
            description="503 only when events cannot be acknowledged.",
            answer=_READY,
            answers={
                503: {
                    "description": "Events cannot be acknowledged.",
                    "content": {"application/json": {"schema": _READY}},
                }
            },
            public=True,
        )
    },
)
async def ready(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
    asking: Callable[[], Awaitable[tuple[int, dict[str, Any]]]] = request.app.state["readiness"].answer
    status, document = await asking()
    return Response(document, status_code=status)


@get(
    "/metrics",
    opt={
        "operation": operation(
            summary="Figures for Prometheus",
            tag="Operation",
            answer_types={"text/plain": {"schema": STRING}},
            public=True,
        )
    },
)
async def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
    system = system_of(request)
    if system.limits is not None and system.limits.process is not None:
        await system.limits.process.count()
    text = await asyncio.to_thread(system.metrics.exposition)
    return Response(text, media_type=METRICS_TYPE)
