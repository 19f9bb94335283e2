"""A whole system (log, recorder, store, catalog) in process, for tests that ask it over HTTP without a socket.

One for all tests of a module, because chDB opens one directory a process; each test gets a tenant of its own.
"""

import asyncio
import itertools
import os
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx

from tallystick.api.app import create_app
from tallystick.catalog.interface import SYSTEM
from tallystick.clock import ManualClock
from tallystick.config import Settings
from tallystick.wiring import Running, start

T = TypeVar("T")

NOW = "2026-07-15T12:00:00Z"
NOW_US = 1_784_116_800_000_000
ADMIN_KEY = "tests-admin-key-0123456789abcdef"
WAIT_S = 60
"""For what is to come about: on a busy machine it comes late."""
PARTITIONS = int(os.environ.get("TALLYSTICK_TEST_PARTITIONS", "1"))
"""More than one: recorders as in a cluster, all of them in this process."""


class Live:
    """The system on a loop in a thread of its own, so that tests read top to bottom."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.clock = ManualClock(NOW_US)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="live")
        self._thread.start()
        self._numbers = itertools.count(1)
        self.running: Running = self.run(
            start(
                Settings(
                    data_dir=str(directory),
                    admin_key=ADMIN_KEY,
                    **({"partitions": PARTITIONS, "wait_s_max": WAIT_S} | settings),
                ),
                clock=self.clock,
                lease_s=0.1,
            )
        )
        self.system = self.running.system
        self.app: Any = create_app(self.system)
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=self.app), base_url="http://test", timeout=30
        )

    @property
    def framework(self) -> Any:
        """The framework's application, behind everything that is around it."""
        found = self.app
        while hasattr(found, "_inner"):
            found = found._inner
        return found

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(2 * WAIT_S)

    def stop(self) -> None:
        self.run(self._client.aclose())
        self.run(self.running.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self.run(self._client.request(method, path, **options))

    def tenant(self) -> "Tenant":
        key = f"t{next(self._numbers)}"
        _, made = self.system.catalog.create_tenant(key, key, actor=SYSTEM, now_us=NOW_US)
        return Tenant(self, key, made.secret)


class Tenant:
    """A client with one key."""

    def __init__(self, live: Live, key: str, secret: str) -> None:
        self.live = live
        self.key = key
        self.secret = secret

    def with_scopes(self, *scopes: str) -> "Tenant":
        made = self.live.system.catalog.create_api_key(
            self.key, name="some", scopes=scopes, expires_at_us=None, actor=SYSTEM, now_us=NOW_US
        )
        return Tenant(self.live, self.key, made.secret)

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.secret}", **options.pop("headers", {})}
        return self.live.send(method, path, headers=headers, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.send("GET", path, **options)

    def post(self, path: str, document: Any = None, **options: Any) -> httpx.Response:
        return self.send("POST", path, json=document, **options)

    def answer(self, path: str, **options: Any) -> Any:
        """The document of a GET that must succeed."""
        response = self.get(path, **options)
        assert response.status_code == 200, response.text
        return response.json()

    def record(self, *events: dict[str, Any]) -> dict[str, Any]:
        """Send events and wait until they count."""
        response = self.post("/v1/events?wait=recorded", list(events))
        assert response.status_code == 200, response.text
        return response.json()

    def meter(self, **members: Any) -> dict[str, Any]:
        response = self.post("/v1/meters", members)
        assert response.status_code == 201, response.text
        return response.json()


@contextmanager
def opened(directory: Path, **settings: Any) -> Iterator[Live]:
    live = Live(directory, **settings)
    try:
        yield live
    finally:
        live.stop()


def faults(response: httpx.Response) -> list[tuple[str, str]]:
    """(pointer, code) of every fault of a refused request."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    return [(fault["pointer"], fault["code"]) for fault in response.json()["errors"]]
