"""The same rows in other stores: a bare chDB insert, SQLite and PostgreSQL, each set up as its users would for speed
with the same promise (synced, counted once). Rows are prepared before the clock starts, and no HTTP is in their way.

`python -m bench.peers --directory DIR --rows N --batch B --seconds S` measures the bare insert, in a process of its
own because an engine directory belongs to one process.
"""

import argparse
import contextlib
import json
import os
import pwd
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import psycopg
import pyarrow as pa

from bench.dataset import (
    CUSTOMERS,
    EVENT_TYPE,
    KIND_DATA,
    KIND_MODEL,
    KIND_TOKENS,
    MODELS,
    SOURCE,
    TENANT,
    Answer,
    Dataset,
    Rows,
)
from bench.machine import bytes_under
from bench.questions import Question

INGEST_BATCH = 1000
BULK_BATCH = 100_000


@dataclass(frozen=True, slots=True)
class Loaded:
    """How a dataset got in: the measured rate in batches of 1,000, and how much came by larger batches afterwards."""

    events_per_s: float
    measured_events: int
    way: str
    bytes_per_event: float


class Peer(ABC):
    """A store that takes rows and answers the questions."""

    name: str

    @abstractmethod
    def load(self, dataset: Dataset, *, seconds: float, seconds_max: float) -> Loaded:
        """Measure ingest in batches of 1,000 for about so long, then load the rest quickly; RuntimeError past the
        time allowed or when the rows are not all there once."""

    @abstractmethod
    def make_cold(self) -> None:
        """Start anew with the data's files out of the page cache, as far as that goes."""

    @abstractmethod
    def ask(self, question: Question) -> Answer: ...


# -- SQLite ---------------------------------------------------------------------------------------------------------

_SQLITE_TABLE = """
CREATE TABLE events (
    tenant TEXT NOT NULL, source TEXT NOT NULL, id TEXT NOT NULL, type TEXT NOT NULL, subject TEXT NOT NULL,
    customer TEXT NOT NULL, time INTEGER NOT NULL, data TEXT NOT NULL, model TEXT, tokens INTEGER,
    UNIQUE (tenant, source, id)
);
CREATE INDEX events_of_customer ON events (customer, time, model, tokens);
"""
_SQLITE_INSERT = f"INSERT OR IGNORE INTO events VALUES ({', '.join('?' * 10)})"


class SqlitePeer(Peer):
    """WAL, synchronous=FULL, one transaction a batch, INSERT OR IGNORE on the unique key, one covering index."""

    name = "SQLite"

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        self._directory = directory
        self._connection = self._connect()
        self._connection.executescript(_SQLITE_TABLE)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._directory / "events.sqlite", isolation_level=None)
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "cache_size = -524288",
            "temp_store = MEMORY",
        ):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    def load(self, dataset: Dataset, *, seconds: float, seconds_max: float) -> Loaded:
        until = time.perf_counter() + seconds_max
        spent_s, done = 0.0, 0
        while done < dataset.events and spent_s < seconds:
            rows = dataset.rows(done, 50_000)
            batches = [_tuples(part) for part in _parts(rows, INGEST_BATCH)]
            started = time.perf_counter()
            for batch in batches:
                self._insert(batch)
            spent_s += time.perf_counter() - started
            done += len(rows)
        events_per_s, measured = done / spent_s, done
        self._insert(_tuples(dataset.rows(0, min(INGEST_BATCH, dataset.events))))  # all of them repeats
        for rows in dataset.blocks(BULK_BATCH, first=done):
            _in_time(until, self.name)
            self._insert(_tuples(rows))
        _check_count(
            self.name, self._connection.execute("SELECT count(*) FROM events").fetchone()[0], dataset
        )
        self._connection.execute("ANALYZE")
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return Loaded(events_per_s, measured, "one connection", bytes_under(self._directory) / dataset.events)

    def _insert(self, rows: list[tuple[Any, ...]]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(_SQLITE_INSERT, rows)
        self._connection.execute("COMMIT")

    def make_cold(self) -> None:
        from bench.machine import forget_cached

        self._connection.close()
        forget_cached(self._directory)
        self._connection = self._connect()

    def ask(self, question: Question) -> Answer:
        found = self._connection.execute(question.sqlite(), question.bound).fetchall()
        return [tuple(row) for row in found]

    def close(self) -> None:
        self._connection.close()


@contextlib.contextmanager
def sqlite_peer(directory: Path) -> Generator[SqlitePeer]:
    peer = SqlitePeer(directory)
    try:
        yield peer
    finally:
        peer.close()


# -- PostgreSQL -----------------------------------------------------------------------------------------------------

_POSTGRES_TABLE = """
CREATE TABLE events (
    tenant text NOT NULL, source text NOT NULL, id text NOT NULL, type text NOT NULL, subject text NOT NULL,
    customer text NOT NULL, time timestamptz NOT NULL, data json NOT NULL, model text, tokens numeric,
    PRIMARY KEY (tenant, source, id)
);
CREATE INDEX events_of_customer ON events (customer, time) INCLUDE (model, tokens);
CREATE INDEX events_by_time ON events USING brin (time);
"""
_COLUMNS = "tenant, source, id, type, subject, customer, time, data, model, tokens"
_IGNORE = "ON CONFLICT (tenant, source, id) DO NOTHING"
_WAYS = tuple((way, connections) for way in ("copy", "values") for connections in (1, 4))
_WAY_TEXT = {
    "copy": "COPY into a temporary table, then INSERT … SELECT … ON CONFLICT DO NOTHING",
    "values": "multi-row INSERT … ON CONFLICT DO NOTHING",
}


class PostgresPeer(Peer):
    """A private server with default durability (fsync, synchronous_commit, full_page_writes on) and memory settings
    fit for the machine; values that the questions need are columns, the event itself is kept as json."""

    name = "PostgreSQL"

    def __init__(self, url: str, data: Path, restart: "Restarter") -> None:
        self._url = url
        self._data = data
        self._restart = restart
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(_POSTGRES_TABLE)  # pyright: ignore[reportArgumentType]
        self._asking: psycopg.Connection | None = None

    def load(self, dataset: Dataset, *, seconds: float, seconds_max: float) -> Loaded:
        until = time.perf_counter() + seconds_max
        with contextlib.ExitStack() as stack:
            connections = [stack.enter_context(psycopg.connect(self._url)) for _ in range(4)]
            for connection in connections:
                connection.execute(
                    f"CREATE TEMPORARY TABLE batch ON COMMIT DELETE ROWS AS SELECT {_COLUMNS} FROM events LIMIT 0"  # pyright: ignore[reportArgumentType]
                )
                connection.commit()
            done = 0
            trial_rows = min(20_000, max(dataset.events // 20, INGEST_BATCH))
            rates: dict[tuple[str, int], float] = {}
            for way, count in _WAYS:  # its fastest way here, found on rows of the dataset
                rows = dataset.rows(done, trial_rows)
                rates[way, count] = len(rows) / self._timed(connections[:count], rows, way)
                done += len(rows)
            best = max(rates, key=lambda key: rates[key])
            spent_s, begun = 0.0, done
            while done < dataset.events and spent_s < seconds:
                rows = dataset.rows(done, 100_000)
                spent_s += self._timed(connections[: best[1]], rows, best[0])
                done += len(rows)
                _in_time(until, self.name)
            events_per_s = (done - begun) / spent_s if spent_s else rates[best]
            measured = done - begun
            self._timed(connections[:1], dataset.rows(0, INGEST_BATCH), best[0])  # all of them repeats
            for rows in dataset.blocks(4 * BULK_BATCH, first=done):
                _in_time(until, self.name)
                self._timed(connections, rows, "copy", batch=BULK_BATCH)
        with psycopg.connect(self._url, autocommit=True) as connection:
            found = connection.execute("SELECT count(*) FROM events").fetchone()
            assert found is not None
            _check_count(self.name, found[0], dataset)
            connection.execute("VACUUM ANALYZE events")
            connection.execute("CHECKPOINT")
            size = connection.execute("SELECT pg_total_relation_size('events')").fetchone()
            assert size is not None
        way = f"{_WAY_TEXT[best[0]]}, {best[1]} connection{'s' if best[1] > 1 else ''}"
        return Loaded(events_per_s, measured, way, size[0] / dataset.events)

    def _timed(
        self, connections: Sequence[psycopg.Connection], rows: Rows, way: str, *, batch: int = INGEST_BATCH
    ) -> float:
        """Seconds to insert the rows in batches, one synced transaction each, shared among the connections."""
        encode = _copy_text if way == "copy" else _values_text
        bodies = [encode(part) for part in _parts(rows, batch)]
        queue = iter(bodies)
        lock = threading.Lock()
        failed: list[BaseException] = []

        def work(connection: psycopg.Connection) -> None:
            try:
                while not failed:
                    with lock:
                        body = next(queue, None)
                    if body is None:
                        return
                    with connection.transaction(), connection.cursor() as cursor:
                        if way == "copy":
                            with cursor.copy("COPY batch FROM STDIN") as copy:
                                copy.write(body)
                            cursor.execute(f"INSERT INTO events SELECT * FROM batch {_IGNORE}")  # pyright: ignore[reportArgumentType]
                        else:
                            cursor.execute(body)
            except BaseException as error:
                failed.append(error)

        started = time.perf_counter()
        threads = [
            threading.Thread(target=work, args=(connection,), daemon=True) for connection in connections
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took_s = time.perf_counter() - started
        if failed:
            raise failed[0]
        return took_s

    def make_cold(self) -> None:
        self.close()
        self._restart()
        self._asking = psycopg.connect(self._url, autocommit=True)
        self._asking.execute("SET statement_timeout = '300s'")

    def ask(self, question: Question) -> Answer:
        assert self._asking is not None
        found = self._asking.execute(question.postgres(), question.bound).fetchall()  # pyright: ignore[reportArgumentType]
        return [tuple(_whole(value) for value in row) for row in found]

    def close(self) -> None:
        if self._asking is not None:
            self._asking.close()


def _whole(value: Any) -> int | str:
    if isinstance(value, str):
        return value
    if value != int(value):
        raise RuntimeError(f"{value} is not whole")
    return int(value)


class Restarter:
    """Starts and stops the private server."""

    def __init__(self, binaries: Path, directory: Path, port: int) -> None:
        memory = psutil.virtual_memory().total
        settings = {
            "port": port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "shared_buffers": f"{min(memory // 4, 8 * 1024**3) // 1024**2}MB",
            "effective_cache_size": f"{memory // 2 // 1024**2}MB",
            "work_mem": "64MB",
            "maintenance_work_mem": "512MB",
            "max_wal_size": "8GB",
            "random_page_cost": "1.1",
        }
        self._binaries = binaries
        self._directory = directory
        self._options = " ".join(f"-c {name}={value or repr('')}" for name, value in settings.items())
        self._run(
            "initdb", "-D", self.data, "-U", "bench", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"
        )
        self.text = ", ".join(
            f"{name} {settings[name]}" for name in ("shared_buffers", "work_mem", "max_wal_size")
        )

    @property
    def data(self) -> Path:
        return self._directory / "data"

    def start(self) -> None:
        log = self._directory / "postgres.log"
        self._run("pg_ctl", "-D", self.data, "-l", log, "-w", "-t", "60", "-o", self._options, "start")

    def stop(self, mode: str) -> None:
        self._run("pg_ctl", "-D", self.data, "-w", "-t", "120", "-m", mode, "stop")

    def __call__(self) -> None:
        """Again, with nothing in memory."""
        from bench.machine import forget_cached

        self.stop("fast")
        forget_cached(self.data)
        self.start()

    def _run(self, program: str, *arguments: str | Path) -> None:
        command = [str(self._binaries / program), *map(str, arguments)]
        if os.geteuid() == 0:  # it refuses to run as root
            command = ["runuser", "-u", "postgres", "--", *command]
        # To a file: a pipe would stay open in the server that pg_ctl leaves behind, and be waited for.
        with (self._directory / "commands.log").open("ab") as log:
            done = subprocess.run(
                command,
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                timeout=200,
                check=False,
            )
        if done.returncode:
            words = (self._directory / "commands.log").read_text(errors="replace")[-600:]
            raise RuntimeError(f"{program} failed with {done.returncode}: {words}")


def postgres_binaries() -> Path:
    """Where Debian's package (or another on the path) has its server programs; RuntimeError where there are none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    elsewhere = shutil.which("initdb")
    if elsewhere is None:
        raise RuntimeError("no PostgreSQL server is installed (Debian: apt-get install postgresql)")
    return Path(elsewhere).resolve().parent


def postgres_version() -> str:
    done = subprocess.run(
        [postgres_binaries() / "postgres", "--version"], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@contextlib.contextmanager
def postgres_peer(directory: Path) -> Generator[tuple[PostgresPeer, str]]:
    """A private server on loopback under `directory`, run by an unprivileged user, and its settings in words."""
    binaries = postgres_binaries()
    directory.mkdir(parents=True)
    elsewhere: Path | None = None
    if os.geteuid() == 0:
        owner = pwd.getpwnam("postgres")
        if not all(parent.stat().st_mode & 0o001 for parent in directory.absolute().parents):
            directory = elsewhere = Path(tempfile.mkdtemp(prefix="tallystick-bench-"))
        os.chown(directory, owner.pw_uid, owner.pw_gid)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    try:
        server = Restarter(binaries, directory, port)
        server.start()
        try:
            peer = PostgresPeer(f"postgresql://bench@127.0.0.1:{port}/postgres", server.data, server)
            try:
                yield peer, server.text
            finally:
                peer.close()
        finally:
            server.stop("immediate")
    finally:
        if elsewhere is not None:
            shutil.rmtree(elsewhere, ignore_errors=True)


# -- rows in their forms --------------------------------------------------------------------------------------------


def _parts(rows: Rows, size: int) -> list[Rows]:
    return [
        Rows(rows.id[at : at + size], rows.customer[at : at + size], rows.time_us[at : at + size], rows.kind[at : at + size])
        for at in range(0, len(rows), size)
    ]  # fmt: skip


def _tuples(rows: Rows) -> list[tuple[Any, ...]]:
    tokens, model = KIND_TOKENS[rows.kind].tolist(), KIND_MODEL[rows.kind].tolist()
    return [
        (TENANT, SOURCE, event_id, EVENT_TYPE, CUSTOMERS[c], CUSTOMERS[c], time_us, KIND_DATA[kind], MODELS[m], value)
        for event_id, c, time_us, kind, m, value in zip(
            rows.id, rows.customer.tolist(), rows.time_us.tolist(), rows.kind.tolist(), model, tokens, strict=True
        )
    ]  # fmt: skip


def _iso(time_us: int) -> str:
    return (
        datetime.fromtimestamp(time_us // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        + f".{time_us % 1_000_000:06d}+00"
    )


def _copy_text(rows: Rows) -> bytes:
    return "".join(
        f"{t}\t{s}\t{i}\t{k}\t{u}\t{c}\t{_iso(at)}\t{data}\t{m}\t{v}\n"
        for t, s, i, k, u, c, at, data, m, v in _tuples(rows)
    ).encode()


def _values_text(rows: Rows) -> bytes:
    # Literals are safe: no value of the dataset holds a quote.
    values = ",".join(
        f"('{t}','{s}','{i}','{k}','{u}','{c}','{_iso(at)}','{data}','{m}',{v})"
        for t, s, i, k, u, c, at, data, m, v in _tuples(rows)
    )
    return f"INSERT INTO events ({_COLUMNS}) VALUES {values} {_IGNORE}".encode()


def _in_time(until: float, name: str) -> None:
    if time.perf_counter() > until:
        raise RuntimeError(f"{name} did not take the dataset in the time allowed")


def _check_count(name: str, found: int, dataset: Dataset) -> None:
    if found != dataset.events:
        raise RuntimeError(f"{name} holds {found} rows instead of {dataset.events}")


# -- the bare engine ------------------------------------------------------------------------------------------------


def recorded_tables(dataset: Dataset, batch: int) -> list[pa.Table]:
    """The dataset as the recorder hands it to the store."""
    from tallystick.log.block import batch_of
    from tallystick.metering.event import TIMESTAMP

    tables: list[pa.Table] = []
    first = 1
    for rows in dataset.blocks(batch):
        columns = rows.event_columns(received_at_us=1_790_000_000_000_000)
        table = pa.Table.from_batches([batch_of([columns])])
        position = np.arange(first, first + len(rows), dtype=np.uint64)
        moment = pa.array(np.full(len(rows), 1_790_000_000_000_000 + first)).cast(TIMESTAMP)
        tables.append(
            table.append_column("customer", pa.array(columns.subject).dictionary_encode())
            .append_column("position", pa.array(position))
            .append_column("recorded_at", moment)
        )
        first += len(rows)
    return tables


def measure_bare(directory: Path, dataset: Dataset, *, batch: int, seconds: float) -> float:
    """Events a second of inserting the dataset's facts, again and again, into the store's own table, synced."""
    from tallystick.store.clickhouse import ClickHouseStore

    tables = recorded_tables(dataset, batch)
    store = ClickHouseStore(f"chdb:///{directory.absolute()}")
    try:
        store.migrate()
        done, number = 0, 0
        started = time.perf_counter()
        while (spent_s := time.perf_counter() - started) < seconds:
            table = tables[number % len(tables)]
            store.insert_events(table, token=f"bare-{number}")
            done += table.num_rows
            number += 1
        held = store.counts()["events"]
        if held != done:
            raise RuntimeError(f"{held} of {done} rows are there")
        return done / spent_s
    finally:
        store.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=BULK_BATCH)
    parser.add_argument("--seconds", type=float, default=10.0)
    given = parser.parse_args()
    found = measure_bare(given.directory, Dataset(given.rows), batch=given.batch, seconds=given.seconds)
    print(json.dumps({"events_per_s": found}))


if __name__ == "__main__":
    main()
