"""The two engines behind one client library: chDB in this process, and ClickHouse servers over HTTP."""

import threading
import urllib.parse
from collections.abc import Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import clickhouse_connect
import pyarrow as pa
from clickhouse_connect.driver.binding import bind_query
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import Error

from tallystick.errors import Invalid
from tallystick.store.layout import is_safe_name

BLOCK_ROWS_MAX = 100_000

READ_SETTINGS: dict[str, Any] = {
    "readonly": 2,  # no writes; settings of a single question may still be narrowed
    "query_plan_max_limit_for_lazy_materialization": 2000,
}

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

_CONNECT_S = 5
_ANSWER_S = 300


class Engine(Protocol):
    """What differs between the embedded engine and a server."""

    embedded: bool
    cluster: str
    """The cluster's name; "" for one server."""
    database: str
    hosts: int
    """How many servers it may be reached at."""

    def client(self, settings: dict[str, Any]) -> Client: ...

    def failed(self, client: Client) -> None:
        """This client's server did not answer: the next client goes to another one."""
        ...

    def blocks(
        self, sql: str, parameters: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> AbstractContextManager[Iterator[Any]]:
        """A result as Arrow tables or batches, in bounded memory, while the context is open."""
        ...


class EmbeddedEngine:
    """chDB in this process, its files under one directory."""

    embedded = True
    cluster = ""
    database = "default"
    hosts = 1

    def __init__(self, path: str) -> None:
        self._path = Path(path).resolve()

    def client(self, settings: dict[str, Any]) -> Client:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return clickhouse_connect.get_client(
            interface="chdb", path=str(self._path), settings=settings, chdb_options=dict(_ENGINE_OPTIONS)
        )

    def failed(self, client: Client) -> None:
        pass

    @contextmanager
    def blocks(
        self, sql: str, parameters: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> Generator[Iterator[Any]]:
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


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server, or several of one cluster, can be reached. `options` are the client library's own: `verify`,
    `ca_cert`, `client_cert`, `client_cert_key`, `connect_timeout`, `send_receive_timeout` (seconds), `compress` …"""

    interface: str
    hosts: tuple[tuple[str, int], ...]
    user: str
    password: str
    database: str
    cluster: str
    options: Mapping[str, str] = field(default_factory=dict[str, str])


class ServedEngine:
    """A ClickHouse server or cluster over HTTP. A server that does not answer is left for the next one."""

    embedded = False

    def __init__(self, address: Address) -> None:
        self._address = address
        self.cluster = address.cluster
        self.database = address.database
        self.hosts = len(address.hosts)
        self._at = 0
        self._places: WeakKeyDictionary[Client, int] = WeakKeyDictionary()
        self._lock = threading.Lock()
        self._streaming: Client | None = None

    def client(self, settings: dict[str, Any]) -> Client:
        address = self._address
        at = self._at
        host, port = address.hosts[at]
        options: dict[str, Any] = {"connect_timeout": _CONNECT_S, "send_receive_timeout": _ANSWER_S}
        options |= address.options
        try:
            client = clickhouse_connect.get_client(
                interface=address.interface,
                host=host,
                port=port,
                username=address.user,
                password=address.password,
                database=address.database,
                settings=settings,
                autogenerate_session_id=False,
                form_encode_query_params=True,
                **options,
            )
        except Exception:
            self._leave(at)
            raise
        with self._lock:
            self._places[client] = at
        return client

    def failed(self, client: Client) -> None:
        with self._lock:
            at = self._places.get(client)
        if at is not None:
            self._leave(at)

    def _leave(self, at: int) -> None:
        with self._lock:
            if at == self._at:  # of many that fail at once, one leads away
                self._at = (at + 1) % self.hosts
                self._streaming = None

    @contextmanager
    def blocks(
        self, sql: str, parameters: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> Generator[Iterator[Any]]:
        with self._stream(sql, parameters, settings) as stream:
            yield iter(stream)

    def _stream(self, sql: str, parameters: Mapping[str, Any], settings: Mapping[str, Any]) -> Any:
        for left in reversed(range(self.hosts + 1)):
            client = self._streaming  # without a session, a client may be used by many threads at once
            try:
                if client is None:
                    client = self.client(dict(settings))
                    with self._lock:
                        self._streaming = client
                return client.query_arrow_stream(sql, parameters=dict(parameters), use_strings=False)
            except Error as error:
                if error.code is not None or not left:
                    raise
                if client is not None:
                    self.failed(client)
        raise AssertionError


def engine_of(url: str) -> Engine:
    """`chdb:///path` or `http(s)://user:password@host:port[,host:port…]/database[?cluster=name]`; raises Invalid for
    anything else."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "chdb" and not parts.netloc and len(parts.path) > 1:
        # Spellings of one directory must become one: the engine compares them letter by letter.
        return EmbeddedEngine("/" + urllib.parse.unquote(parts.path).lstrip("/"))
    if parts.scheme in {"http", "https"} and (address := _address(parts)):
        return ServedEngine(address)
    raise Invalid(
        "store_url must be chdb:///path or http(s)://user:password@host:port/database, with ?cluster=name for a "
        "cluster and host:port,host:port for several of its servers. A database must be named for a cluster.",
        code="invalid_setting",
    )


def _address(parts: urllib.parse.SplitResult) -> Address | None:
    who, _, places = parts.netloc.rpartition("@")
    user, _, password = who.partition(":")
    hosts: list[tuple[str, int]] = []
    for place in places.split(","):
        try:
            one = urllib.parse.urlsplit(f"//{place}")
            port = one.port
        except ValueError:
            return None
        if not one.hostname:
            return None
        hosts.append((one.hostname, port or (8443 if parts.scheme == "https" else 8123)))
    options = dict(urllib.parse.parse_qsl(parts.query))
    cluster = options.pop("cluster", "")
    database = urllib.parse.unquote(parts.path.strip("/"))
    if cluster and not (is_safe_name(cluster) and is_safe_name(database)):
        return None
    return Address(
        interface=parts.scheme,
        hosts=tuple(hosts),
        user=urllib.parse.unquote(user) or "default",
        password=urllib.parse.unquote(password),
        database=database or "default",
        cluster=cluster,
        options=options,
    )


def as_file(rows: pa.Table) -> bytes:
    """Rows as an Arrow file."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, rows.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write_table(rows, max_chunksize=max(rows.num_rows, 1))
    return sink.getvalue().to_pybytes()
