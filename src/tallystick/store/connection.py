"""Statements to a ClickHouse engine, embedded or served: clients, repetitions, and foreign errors mapped.

Measured on chDB 26.9: a client may be used from any thread, one call at a time; two clients of one process work in
parallel, and the interpreter's lock is released meanwhile (a query of 10 ms stays under 21 ms while another client
inserts 100,000-row batches). One process can have one engine directory open.
"""

# ruff: noqa: S608 (names come from this room)

import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import pyarrow as pa
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, Error

from tallystick.errors import TallystickError, TimedOut, Unavailable
from tallystick.store import layout as layouts
from tallystick.store.engine import BLOCK_ROWS_MAX, READ_SETTINGS, Engine, as_file
from tallystick.store.interface import FencedOff
from tallystick.store.layout import Layout, Storage

UNKNOWN_TABLE = 60
_TIMEOUT_CODES = frozenset({159, 160, 209})
_MEMORY_CODES = frozenset({241, 173})
_DISK_CODES = frozenset({243, 75})
_FENCED_CODE = 395  # throwIf
# A replica that has not caught up, or an insert that waits for the one before it: over in a moment, or on another server.
_PASSING_CODES = frozenset({242, 286, 289})
_PAUSES_S = (0.05, 0.1, 0.2, 0.4, 0.8)
T = TypeVar("T")

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

    def __init__(self, detail: str, *, engine_code: int | None, unanswered: bool = False) -> None:
        super().__init__(detail, retry_after_s=2)
        self.engine_code = engine_code
        self.unanswered = unanswered  # by the server that was asked; another one may


def _mapped(error: BaseException) -> Exception:
    code = error.code if isinstance(error, Error) else None
    if code is None:
        code = _code_in(str(error))
    if code == _FENCED_CODE:
        return FencedOff()
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
        return StoreRefusal("The store cannot be reached.", engine_code=None, unanswered=True)
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
                        self._engine.failed(client)
                        client.close()
                        client = None
                        self._drop_free()
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

    def _drop_free(self) -> None:
        """Clients that wait to be lent go to the same server as one that has failed."""
        with self._lock:
            free, self._free = self._free, []
        for client in free:
            client.close()

    def close(self) -> None:
        with self._lock:
            self._closed = True
        self._drop_free()


class Connection:
    """Statements to one engine, from any thread. Raises TimedOut, Unavailable.

    Questions and inserts are put again, to another server where there are several, when a server does not answer: an
    insert bears a token, so that a second one changes nothing.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        query_time_s_max: int,
        query_memory_bytes_max: int,
        readers_max: int = 8,
        storage: Storage | None = None,
    ) -> None:
        self._engine = engine
        self.embedded = engine.embedded
        self.layout = Layout(engine.cluster, engine.database, storage or Storage())
        limits = {"max_execution_time": query_time_s_max, "max_memory_usage": query_memory_bytes_max}
        of_cluster = (layouts.READ_SETTINGS, layouts.WRITE_SETTINGS) if engine.cluster else ({}, {})
        self._read_settings = {**limits, **READ_SETTINGS, **of_cluster[0]}
        self._readers = _Clients(
            engine, self._read_settings, clients_max=readers_max, wait_s=query_time_s_max
        )
        self._writers = _Clients(
            engine, {**_WRITE_SETTINGS, **of_cluster[1]}, clients_max=4, wait_s=query_time_s_max
        )

    def rows(
        self,
        sql: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        column_formats: Mapping[str, str] | None = None,
    ) -> list[tuple[Any, ...]]:
        """All rows of an answer."""

        def ask() -> list[tuple[Any, ...]]:
            with self._readers.lend() as client:
                formats = dict(column_formats) if column_formats else None
                answer = client.query(
                    sql, parameters=dict(parameters or {}), column_formats=cast("Any", formats)
                )
                return [tuple(row) for row in answer.result_rows]

        return self._again(ask)

    @property
    def database(self) -> str:
        """The database all statements are about."""
        return self._engine.database

    def blocks(self, sql: str, parameters: Mapping[str, Any], schema: pa.Schema) -> Generator[pa.RecordBatch]:
        """An answer in blocks of at most BLOCK_ROWS_MAX rows with this schema, in bounded memory. Not asked again when it
        breaks off in the middle."""
        settings = {name: value for name, value in self._read_settings.items() if not name.startswith("max_")}
        with _mapping_errors(), self._engine.blocks(sql, parameters, settings) as blocks:
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
        """A statement that changes something and answers nothing; on a cluster, what does the same there."""
        for statement in self.layout.statements(sql):
            with self._writers.lend() as client:
                client.command(statement, parameters=dict(parameters or {}), settings=dict(settings or {}))

    def insert(self, table: str, rows: pa.Table, *, token: str, condition: str = "") -> None:
        """Insert as one block; the same token and rows again change nothing. `condition` (of servers only) is checked
        by the server as it begins."""
        if rows.num_rows == 0:
            return
        # An Arrow file holds one dictionary a column, so that chunks with dictionaries of their own must be united.
        whole = rows.unify_dictionaries().combine_chunks()
        settings = {"insert_deduplication_token": token}

        def put() -> None:
            with self._writers.lend() as client:
                if not condition:
                    client.insert_arrow(table, whole, settings=settings)
                    return
                names = ", ".join(whole.schema.names)
                source = f"input('{_structure(whole.schema)}')"
                client.raw_insert(
                    f"{table} ({names}) SELECT {names} FROM {source} WHERE {condition}",
                    insert_block=as_file(whole),
                    fmt="Arrow",
                    settings=settings,
                )

        self._again(put)

    def _again(self, attempt: Callable[[], T]) -> T:
        servers_left = self._engine.hosts if not self.embedded else 0
        for pause_s in _PAUSES_S:
            try:
                return attempt()
            except StoreRefusal as refusal:
                if refusal.engine_code is None and refusal.unanswered and servers_left:
                    servers_left -= 1
                    continue
                if refusal.engine_code not in _PASSING_CODES:
                    raise
            time.sleep(pause_s)
        return attempt()

    def close(self) -> None:
        self._readers.close()
        self._writers.close()


def _structure(schema: pa.Schema) -> str:
    """Columns and their types, as `input` wants them told."""
    return ", ".join(f"{field.name} {_engine_type(field)}" for field in schema)


def _engine_type(field: pa.Field) -> str:
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        name = "String"
    elif pa.types.is_fixed_size_binary(kind):
        name = f"FixedString({kind.byte_width})"
    elif pa.types.is_timestamp(kind):
        name = "DateTime64(6, \\'UTC\\')"
    elif pa.types.is_decimal(kind):
        name = f"Decimal({kind.precision}, {kind.scale})"
    elif pa.types.is_boolean(kind):
        name = "Bool"
    else:
        name = {"uint": "UInt", "int": "Int"}[str(kind).rstrip("0123456789")] + str(kind.bit_width)
    return f"Nullable({name})" if field.nullable else name


def _with_schema(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    arrays = [batch.column(field.name).cast(field.type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
