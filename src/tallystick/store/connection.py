"""A ClickHouse engine, embedded or served, behind one client library: clients, streams, and foreign errors mapped.

Measured on chDB 26.9: a client may be used from any thread, one call at a time; two clients of one process work in
parallel, and the interpreter's lock is released meanwhile (a query of 10 ms stays under 21 ms while another client
inserts 100,000-row batches). One process can have one engine directory open.
"""

import threading
import urllib.parse
from collections.abc import Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol, cast

import clickhouse_connect
import pyarrow as pa
from clickhouse_connect.driver.binding import bind_query
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, Error

from tallystick.errors import Invalid, TallystickError, TimedOut, Unavailable

BLOCK_ROWS_MAX = 100_000

UNKNOWN_TABLE = 60
_TIMEOUT_CODES = frozenset({159, 160, 209})
_MEMORY_CODES = frozenset({241, 173})
_DISK_CODES = frozenset({243, 75})

# What the embedded engine may keep in memory between questions, and how busy it may be in the background. Its
# defaults let every cache grow to 5 GiB.
_ENGINE_OPTIONS = {
    "mark_cache_size": str(96 * 1024**2),
    "index_mark_cache_size": str(32 * 1024**2),
    "primary_index_cache_size": str(96 * 1024**2),
    "uncompressed_cache_size": "0",
    "index_uncompressed_cache_size": "0",
    "query_condition_cache_size": str(16 * 1024**2),
    "compiled_expression_cache_size": str(16 * 1024**2),
    "background_pool_size": "2",
    "background_schedule_pool_size": "2",
}

_READ_SETTINGS: dict[str, Any] = {
    "readonly": 2,  # no writes; settings of a single question may still be narrowed
    "query_plan_max_limit_for_lazy_materialization": 2000,
}

# One insert is one block, whatever its size: a block is what the deduplication token is checked for, and a block that
# were cut differently the second time would be inserted twice.
_WRITE_SETTINGS: dict[str, Any] = {
    "async_insert": 0,
    "insert_deduplicate": 1,
    "max_insert_block_size": 100_000_000,
    "min_insert_block_size_rows": 0,
    "min_insert_block_size_bytes": 0,
    "max_partitions_per_insert_block": 0,
    "mutations_sync": 2,
}


class StoreRefusal(Unavailable):
    """A part of the system is not available at the moment."""

    def __init__(self, detail: str, *, engine_code: int | None) -> None:
        super().__init__(detail, retry_after_s=2)
        self.engine_code = engine_code


class Engine(Protocol):
    """What differs between the embedded engine and a server."""

    def client(self, settings: dict[str, Any]) -> Client: ...

    def blocks(self, sql: str, parameters: Mapping[str, Any]) -> AbstractContextManager[Iterator[Any]]:
        """A result as Arrow tables or batches, in bounded memory, while the context is open."""
        ...


class EmbeddedEngine:
    """chDB in this process, its files under one directory."""

    def __init__(self, path: str) -> None:
        self._path = Path(path).resolve()

    def client(self, settings: dict[str, Any]) -> Client:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return clickhouse_connect.get_client(
            interface="chdb", path=str(self._path), settings=settings, chdb_options=dict(_ENGINE_OPTIONS)
        )

    @contextmanager
    def blocks(self, sql: str, parameters: Mapping[str, Any]) -> Generator[Iterator[Any]]:
        # The client library reads a whole Arrow answer into memory on this engine; the engine's own handle streams.
        import chdb

        bound_sql, bound = bind_query(sql, dict(parameters))
        handle: Any = chdb.connect(f"{self._path}?{urllib.parse.urlencode(_ENGINE_OPTIONS)}")
        try:
            stream = handle.send_query(
                bound_sql, "Arrow", params={k.removeprefix("param_"): v for k, v in bound.items()}
            )
            try:
                yield iter(stream.record_batch(BLOCK_ROWS_MAX))
            finally:
                stream.close()
        finally:
            handle.close()


class ServedEngine:
    """A ClickHouse server or cluster over HTTP."""

    def __init__(self, url: str) -> None:
        self._url = url

    def client(self, settings: dict[str, Any]) -> Client:
        return clickhouse_connect.get_client(
            dsn=self._url,
            settings=settings,
            autogenerate_session_id=False,
            form_encode_query_params=True,
            connect_timeout=5,
            send_receive_timeout=300,
        )

    @contextmanager
    def blocks(self, sql: str, parameters: Mapping[str, Any]) -> Generator[Iterator[Any]]:
        client = self.client(dict(_READ_SETTINGS))
        try:
            with client.query_arrow_stream(sql, parameters=dict(parameters), use_strings=False) as stream:
                yield iter(stream)
        finally:
            client.close()


def engine_of(url: str) -> Engine:
    """`chdb:///path` or `http(s)://user:password@host:port/database`; raises Invalid for anything else."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "chdb" and not parts.netloc and len(parts.path) > 1:
        # Spellings of one directory must become one: the engine compares them letter by letter.
        return EmbeddedEngine("/" + urllib.parse.unquote(parts.path).lstrip("/"))
    if parts.scheme in {"http", "https"} and parts.hostname:
        return ServedEngine(url)
    raise Invalid(
        "store_url must be chdb:///path or http(s)://user:password@host:port/database.",
        code="invalid_setting",
    )


def _mapped(error: BaseException) -> TallystickError:
    code = error.code if isinstance(error, Error) else None
    if code is None:
        code = _code_in(str(error))
    if code in _TIMEOUT_CODES:
        return TimedOut(
            "The store did not finish this question in the time allowed (setting query_time_s_max). "
            "Ask for a shorter range, larger windows or fewer groups."
        )
    if code in _MEMORY_CODES:
        return StoreRefusal(
            "The store needs more memory for this question than allowed (setting store_memory_bytes_max). "
            "Ask for a shorter range, larger windows or fewer groups.",
            engine_code=code,
        )
    if code in _DISK_CODES or (isinstance(error, OSError) and error.errno == 28):
        return StoreRefusal("The store's disk is full.", engine_code=code)
    if code is None:
        return StoreRefusal("The store cannot be reached.", engine_code=None)
    return StoreRefusal(f"The store refused the operation (engine code {code}).", engine_code=code)


def _code_in(message: str) -> int | None:
    _, found, rest = message.partition("Code: ")
    digits = rest.partition(".")[0]
    return int(digits) if found and digits.isdecimal() else None


@contextmanager
def _mapping_errors() -> Generator[None]:
    try:
        yield
    except TallystickError:
        raise
    except (ClickHouseError, OSError, RuntimeError) as error:
        raise _mapped(error) from error


class _Clients:
    """Clients of one kind, lent to one call at a time and made as they are needed, up to a number."""

    def __init__(self, engine: Engine, settings: dict[str, Any], *, clients_max: int, wait_s: float) -> None:
        self._engine = engine
        self._settings = settings
        self._free: list[Client] = []
        self._lock = threading.Lock()
        self._places = threading.BoundedSemaphore(clients_max)
        self._wait_s = wait_s
        self._closed = False

    @contextmanager
    def lend(self) -> Generator[Client]:
        if not self._places.acquire(timeout=self._wait_s):
            raise StoreRefusal("The store is busy with other questions.", engine_code=None)
        try:
            with self._lock:
                if self._closed:
                    raise StoreRefusal("The store is closed.", engine_code=None)
                client = self._free.pop() if self._free else None
            with _mapping_errors():
                client = client or self._engine.client(dict(self._settings))
                try:
                    yield client
                except BaseException as error:
                    # A client that answered with an engine's error is sound; after anything else it may not be.
                    if not (isinstance(error, Error) and error.code is not None):
                        client.close()
                        client = None
                    raise
                finally:
                    if client is not None:
                        self._give_back(client)
        finally:
            self._places.release()

    def _give_back(self, client: Client) -> None:
        with self._lock:
            if not self._closed:
                self._free.append(client)
                return
        client.close()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            free, self._free = self._free, []
        for client in free:
            client.close()


class Connection:
    """Statements to one engine, from any thread. Raises TimedOut, Unavailable."""

    def __init__(
        self, engine: Engine, *, query_time_s_max: int, query_memory_bytes_max: int, readers_max: int = 8
    ) -> None:
        self._engine = engine
        limits = {"max_execution_time": query_time_s_max, "max_memory_usage": query_memory_bytes_max}
        self._readers = _Clients(
            engine, {**limits, **_READ_SETTINGS}, clients_max=readers_max, wait_s=query_time_s_max
        )
        self._writers = _Clients(engine, dict(_WRITE_SETTINGS), clients_max=4, wait_s=query_time_s_max)

    def rows(
        self,
        sql: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        column_formats: Mapping[str, str] | None = None,
    ) -> list[tuple[Any, ...]]:
        """All rows of an answer."""
        with self._readers.lend() as client:
            formats = dict(column_formats) if column_formats else None
            answer = client.query(sql, parameters=dict(parameters or {}), column_formats=cast("Any", formats))
            return [tuple(row) for row in answer.result_rows]

    def blocks(self, sql: str, parameters: Mapping[str, Any], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """An answer in blocks of at most BLOCK_ROWS_MAX rows with this schema, in bounded memory."""
        with _mapping_errors(), self._engine.blocks(sql, parameters) as blocks:
            for block in blocks:
                batches: list[pa.RecordBatch] = block.to_batches() if isinstance(block, pa.Table) else [block]
                for batch in batches:
                    for start in range(0, batch.num_rows, BLOCK_ROWS_MAX):
                        yield _with_schema(batch.slice(start, BLOCK_ROWS_MAX), schema)

    def command(
        self,
        sql: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """A statement that changes something and answers nothing."""
        with self._writers.lend() as client:
            client.command(sql, parameters=dict(parameters or {}), settings=dict(settings or {}))

    def insert(self, table: str, rows: pa.Table, *, token: str) -> None:
        """Insert as one block; the same token and rows again change nothing."""
        if rows.num_rows == 0:
            return
        # An Arrow file holds one dictionary a column, so that chunks with dictionaries of their own must be united.
        whole = rows.unify_dictionaries().combine_chunks()
        with self._writers.lend() as client:
            client.insert_arrow(table, whole, settings={"insert_deduplication_token": token})

    def close(self) -> None:
        self._readers.close()
        self._writers.close()


def _with_schema(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    arrays = [batch.column(field.name).cast(field.type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
