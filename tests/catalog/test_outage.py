"""PostgreSQL stopped, killed and frozen under load; and what one process changes, told to another."""

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from tests.patience import patience

from tallystick.catalog.cached import OUTAGE_S_MAX, CachedCatalog
from tallystick.catalog.interface import Caller
from tallystick.catalog.relational import RelationalCatalog
from tallystick.catalog.watch import Watch
from tallystick.errors import NotFound, Unavailable

from .contract import ANN, NOW_US, T, definition, new
from .postgres_server import PostgresServer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    running = PostgresServer()
    try:
        running.start()
        with psycopg.connect(f"postgresql://{running.address}postgres", autocommit=True) as connection:
            connection.execute("CREATE DATABASE catalog")
        first = RelationalCatalog(f"postgresql://{running.address}catalog")
        first.migrate()
        first.close()
        yield running
    finally:
        running.remove()


@pytest.fixture
def url(server: PostgresServer) -> str:
    return f"postgresql://{server.address}catalog"


class Time:
    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_s


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def catalog(url: str, clock: Time) -> Iterator[CachedCatalog]:
    opened = CachedCatalog(url, elapsed_s=clock)
    opened.watch()
    yield opened
    opened.close()


@pytest.fixture
def other(url: str) -> Iterator[CachedCatalog]:
    opened = CachedCatalog(url)
    opened.watch()
    yield opened
    opened.close()


def until(is_so: Callable[[], bool], *, timeout_s: float) -> float:
    """Seconds it took."""
    began_s = time.monotonic()
    while not is_so():
        assert time.monotonic() - began_s < timeout_s * patience()
        time.sleep(0.005)
    return time.monotonic() - began_s


def watch_of(catalog: CachedCatalog) -> Watch:
    assert catalog._watch is not None
    return catalog._watch


def answers(catalog: CachedCatalog) -> bool:
    with contextlib.suppress(Unavailable):
        catalog.ping()
        return True
    return False


def test_a_change_is_known_elsewhere_at_once_and_here_before_that(
    catalog: CachedCatalog, other: CachedCatalog
) -> None:
    catalog.create_meter(T, definition("told", name="0"), actor=ANN, now_us=NOW_US)
    until(lambda: other.meter(T, "told").name == "0" if _knows(other, "told") else False, timeout_s=1)
    took_s: list[float] = []
    for n in range(1, 20):
        catalog.change_meter(T, "told", definition("told", name=str(n)), actor=ANN, now_us=NOW_US)
        assert catalog.meter(T, "told").name == str(n)
        took_s.append(until(lambda n=n: other.meter(T, "told").name == str(n), timeout_s=1))
    assert sorted(took_s)[len(took_s) // 2] < 0.2 * patience()


def _knows(catalog: CachedCatalog, key: str) -> bool:
    with contextlib.suppress(NotFound):
        return bool(catalog.meter(T, key))
    return False


_OTHER_PROCESS = """
import sys
from tallystick.catalog.cached import CachedCatalog
from tallystick.catalog.interface import Actor
catalog = CachedCatalog(sys.argv[1])
for line in sys.stdin:
    catalog.revoke_api_key("default", line.strip(), actor=Actor("elsewhere"), now_us=1_760_000_000_000_000)
    print("revoked", flush=True)
catalog.close()
"""


def test_a_key_revoked_by_another_process_is_known_within_a_second(catalog: CachedCatalog, url: str) -> None:
    made = [
        catalog.create_api_key(
            T, name=f"k{n}", scopes=["usage:read"], expires_at_us=None, actor=ANN, now_us=NOW_US
        )
        for n in range(5)
    ]
    with subprocess.Popen(
        [sys.executable, "-c", _OTHER_PROCESS, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for key in made:
            assert catalog.authenticate(key.secret, now_us=NOW_US) is not None
            before = catalog.revision("keys")
            process.stdin.write(f"{key.key.id}\n")
            process.stdin.flush()
            assert process.stdout.readline() == "revoked\n"
            watch = watch_of(catalog)
            until(lambda watch=watch, before=before: (watch.revision("keys") or 0) > before, timeout_s=1)
            assert catalog.authenticate(key.secret, now_us=NOW_US) is None
        process.stdin.close()
        assert process.wait(60) == 0


class Load:
    """Threads that read what is kept, read what is not, and write, all the time; with what they met."""

    def __init__(self, catalog: CachedCatalog) -> None:
        self._catalog = catalog
        self._ended = threading.Event()
        self._threads = ThreadPoolExecutor(6)
        self.kept_failures: list[BaseException] = []
        self.slowest_kept_s = 0.0
        self.written: list[str] = []
        self.refused: list[Unavailable] = []
        self.unexpected: list[BaseException] = []
        self._work = [self._threads.submit(self._read_kept) for _ in range(2)]
        self._work += [self._threads.submit(self._write, n) for n in range(2)]

    def end(self) -> None:
        self._ended.set()
        for work in self._work:
            work.result(30)
        self._threads.shutdown()

    def _read_kept(self) -> None:
        while not self._ended.wait(0.002):
            began_s = time.monotonic()
            try:
                assert self._catalog.meter(T, "kept").key == "kept"
                assert any(meter.key == "kept" for meter in self._catalog.active_meters())
                assert self._catalog.customer(T, "acme").key == "acme"
            except BaseException as error:
                self.kept_failures.append(error)
            self.slowest_kept_s = max(self.slowest_kept_s, time.monotonic() - began_s)

    def _write(self, thread: int) -> None:
        number = 0
        while not self._ended.wait(0.01):
            number += 1
            key = f"{time.time_ns()}-{thread}-{number}"
            try:
                self._catalog.create_customer(T, key, new(), actor=ANN, now_us=NOW_US)
            except Unavailable as error:
                self.refused.append(error)
            except BaseException as error:
                self.unexpected.append(error)
            else:
                self.written.append(key)


@pytest.fixture
def load(catalog: CachedCatalog) -> Iterator[Load]:
    for make in (
        lambda: catalog.create_meter(T, definition("kept"), actor=ANN, now_us=NOW_US),
        lambda: catalog.create_customer(T, "acme", new(), actor=ANN, now_us=NOW_US),
    ):
        with contextlib.suppress(Exception):
            make()
    catalog.meter(T, "kept")
    catalog.active_meters()
    catalog.customer(T, "acme")
    running = Load(catalog)
    yield running
    running.end()


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_stopped_and_started_under_load(
    server: PostgresServer, catalog: CachedCatalog, load: Load, mode: str, clock: Time
) -> None:
    until(lambda: len(load.written) > 5, timeout_s=10)
    server.stop(mode)
    try:
        until(lambda: len(load.refused) > 20 and watch_of(catalog).revision("all") is None, timeout_s=10)
        with pytest.raises(Unavailable) as error:
            catalog.customer(T, "never asked for")
        assert error.value.retry_after_s
        clock.ahead_s += OUTAGE_S_MAX + 1
        with pytest.raises(Unavailable):
            catalog.meter(T, "kept")
        clock.ahead_s -= OUTAGE_S_MAX + 1
        reads_failed_by_age = len(load.kept_failures)
    finally:
        server.start()
    until(lambda: answers(catalog), timeout_s=10)
    written = len(load.written)
    until(lambda: len(load.written) > written + 5, timeout_s=10)
    load.end()
    assert len(load.kept_failures) == reads_failed_by_age
    assert all(isinstance(error, Unavailable) for error in load.kept_failures)
    assert load.unexpected == []
    missing = [key for key in load.written if catalog.customer(T, key).key != key]
    assert missing == []


def test_frozen_it_makes_nobody_wait_for_what_is_kept(
    server: PostgresServer, catalog: CachedCatalog, load: Load
) -> None:
    until(lambda: len(load.written) > 5, timeout_s=10)
    server.freeze()
    try:
        until(lambda: watch_of(catalog).is_hanging, timeout_s=6)
        began_s = time.monotonic()
        for call in (lambda: catalog.customer(T, "never asked for"), catalog.ping):
            with pytest.raises(Unavailable):
                call()
        assert time.monotonic() - began_s < 0.5 * patience()
        assert catalog.meter(T, "kept").key == "kept"
    finally:
        server.thaw()
    until(lambda: answers(catalog), timeout_s=10)
    load.end()
    assert load.kept_failures == []
    assert load.unexpected == []
    # One that asked just before it was clear that nobody answers waits for as long as a statement may take.
    assert load.slowest_kept_s < 13 * patience()


def test_cut_off_listeners_listen_again(catalog: CachedCatalog, other: CachedCatalog, url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    catalog.create_customer(T, f"after-{time.time_ns()}", new(), actor=ANN, now_us=NOW_US)
    revision = catalog.revision("subjects")
    watch = watch_of(other)
    until(lambda: watch.revision("subjects") == revision, timeout_s=2)


def test_who_may_do_what_is_never_older_than_asked(catalog: CachedCatalog) -> None:
    made = catalog.create_api_key(
        T, name="k", scopes=["usage:read"], expires_at_us=None, actor=ANN, now_us=NOW_US
    )
    found: Any = catalog.authenticate(made.secret, now_us=NOW_US)
    assert isinstance(found, Caller)
    catalog.revoke_api_key(T, made.key.id, actor=ANN, now_us=NOW_US)
    assert catalog.authenticate(made.secret, now_us=NOW_US) is None
