"""The connection: SQLite or PostgreSQL, transactions, and which foreign error becomes which of ours."""

import sqlite3
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import msgspec
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    create_engine,
    event,
    func,
    insert,
    inspect,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
)
from sqlalchemy.exc import (
    TimeoutError as PoolTimeoutError,
)

from tallystick.catalog import tables
from tallystick.catalog.interface import Actor, Topic
from tallystick.catalog.watch import CHANNEL
from tallystick.errors import Invalid, StorageFull, TallystickError, Unavailable

_BUSY_TIMEOUT_MS = 5_000
_POOL_TIMEOUT_S = 5
_PASSING_STATES = frozenset({"25P03", "25006"})
"""What the driver counts as errors of ours, and is none: a transaction given up because the process stood still, and a
server that only reads, as one does that is about to take over."""
ENQUEUED = "tallystick_enqueued"
"""Noted of a connection in whose transaction deliveries were enqueued (catalog/deliveries.py)."""
_MIGRATION_LOCK = 0x7A11_571C
"""PostgreSQL's advisory lock that servers take to migrate one after the other."""
_MIGRATIONS = Path(__file__).parent / "migrations"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server may take before it counts as not answering (PostgreSQL). `idle_s_max`: how long a process may keep a
    transaction open without a word, for one that is frozen must not keep its locks."""

    connections_max: int = 24
    connect_s_max: int = 5
    statement_s_max: int = 10
    idle_s_max: int = 10


CREATE_UNKNOWN = "customer.create_unknown"
"""The action of making customers of events whose subjects belong to nobody."""


@dataclass(slots=True)
class Change:
    """One transaction that changes configuration. `revision` is the one it will have, if it records anything."""

    connection: Connection
    actor: Actor
    now_us: int
    revision: int
    _topics: set[str] = field(default_factory=set[str])

    def record(
        self,
        topics: tuple[Topic, ...],
        tenant: str,
        action: str,
        resource: str,
        *,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the audit row, and let the revisions of these topics grow when the transaction ends."""
        self._topics.update(("all", *topics) if action == CREATE_UNKNOWN else ("all", "present", *topics))
        self.connection.execute(
            insert(tables.audit),
            {
                "at_us": self.now_us,
                "tenant": tenant,
                "actor": self.actor.name,
                "key_id": self.actor.key_id,
                "action": action,
                "resource": resource,
                "before": None if before is None else to_json(before),
                "after": None if after is None else to_json(after),
                "request_id": self.actor.request_id,
                "address": self.actor.address,
            },
        )

    def finish(self) -> dict[str, int]:
        """Let the revisions grow; which have."""
        if self._topics:
            self.connection.execute(
                update(tables.revisions)
                .where(tables.revisions.c.topic.in_(sorted(self._topics)))
                .values(revision=self.revision)
            )
            if self.connection.dialect.name == "postgresql":
                # Sent when the transaction commits. Changes are one at a time already, so this holds nobody up.
                self.connection.execute(
                    text("SELECT pg_notify(:channel, :revision)"),
                    {"channel": CHANNEL, "revision": str(self.revision)},
                )
        return dict.fromkeys(self._topics, self.revision)


class Database:
    """An engine and its kinds of transactions: `reading` (SQLite: one snapshot; PostgreSQL: one a statement), `changing` (one
    at a time), `writing` and `single`."""

    def __init__(self, url: str, limits: Limits = Limits()) -> None:
        parsed = _parse(url)
        self.is_hanging: Callable[[], bool] = lambda: False
        """Whether the server is known to keep those waiting who ask it: then nobody is sent to wait."""
        self.on_changed: Callable[[Mapping[str, int]], None] = lambda revisions: None
        """Told the revisions of a change by this process, once it is committed."""
        self.on_enqueued: Callable[[], None] = lambda: None
        """Told when a transaction of this process that enqueued deliveries is committed (catalog/deliveries.py)."""
        self.dialect = parsed.get_backend_name()
        if self.dialect == "sqlite":
            if parsed.database:
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            self._engine = create_engine(
                parsed,
                pool_size=16,
                max_overflow=48,
                pool_timeout=_POOL_TIMEOUT_S,
                connect_args={"timeout": _BUSY_TIMEOUT_MS / 1000, "check_same_thread": False},
            )
            event.listen(self._engine, "connect", _prepare_sqlite)
            event.listen(self._engine, "begin", _begin_sqlite)
        else:
            from tallystick.catalog import postgres  # its driver is optional

            kept = max(1, limits.connections_max // 3)
            self._engine = create_engine(
                parsed,
                pool_size=kept,
                max_overflow=limits.connections_max - kept,
                pool_timeout=_POOL_TIMEOUT_S,
                pool_pre_ping=True,
                connect_args=postgres.options(limits),
            )
            event.listen(self._engine, "do_connect", postgres.connect)
        self._changing = self._engine.execution_options(tallystick_changes=True)
        self._single, self._reading = self._changing, self._engine
        if self.dialect == "postgresql":
            # Two round trips less a transaction; and nothing stays locked by a process that is frozen in the midst of it.
            self._single = self._reading = self._engine.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def reading(self) -> Generator[Connection]:
        with self._mapped_errors(), self._reading.connect() as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Generator[Connection]:
        """As `reading`, and one moment for all that is read, also on PostgreSQL."""
        engine = self._engine
        if self.dialect == "postgresql":
            engine = engine.execution_options(isolation_level="REPEATABLE READ")
        with self._mapped_errors(), engine.begin() as connection:
            yield connection

    @contextmanager
    def single(self) -> Generator[Connection]:
        """For one statement that writes, which is a transaction of its own."""
        with self._mapped_errors(), self._single.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Generator[Connection]:
        """A transaction that is no change of configuration: no revision, no audit row, no lock on PostgreSQL."""
        with self._mapped_errors(), self._changing.begin() as connection:
            noted = connection.info  # now: a connection that breaks meanwhile has none
            yield connection
            enqueued = noted.pop(ENQUEUED, False)
        if enqueued:
            self.on_enqueued()

    @contextmanager
    def changing(self, actor: Actor, now_us: int) -> Generator[Change]:
        """One change at a time, over all processes: what it reads stays true until it commits, and revisions become
        visible in their order (a reader that has seen revision n will never find a row of n or below appear later).

        SQLite: BEGIN IMMEDIATE. PostgreSQL: a lock on the row "all" of revisions."""
        with self._mapped_errors(), self._changing.begin() as connection:
            row = tables.revisions.c
            current = connection.execute(
                select(row.revision).where(row.topic == "all").with_for_update()
            ).scalar_one()
            change = Change(connection, actor, now_us, current + 1)
            noted = connection.info
            yield change
            changed = change.finish()
            enqueued = noted.pop(ENQUEUED, False)
        if enqueued:
            self.on_enqueued()
        if changed:
            self.on_changed(changed)

    @contextmanager
    def _mapped_errors(self) -> Generator[None]:
        """Operational errors of the driver become Unavailable, a full disk StorageFull; never a word of SQL."""
        if self.is_hanging():
            raise _not_answering()
        try:
            yield
        except TallystickError:
            raise
        except (OperationalError, InterfaceError, PoolTimeoutError) as error:
            raise _ours(error) from error
        except DatabaseError as error:
            # SQLite's "file is not a database" and "malformed" come as the bare class.
            passing = getattr(error.orig, "sqlstate", None) in _PASSING_STATES
            if type(error) is DatabaseError or passing or _lacks_table(error):
                raise _ours(error) from error
            raise

    def listener(self) -> Any:
        """A connection of its own to listen with (PostgreSQL), which commits every statement by itself."""
        from tallystick.catalog import postgres

        _, parameters = self._engine.dialect.create_connect_args(self._engine.url)
        made = postgres.connect(
            None, None, (), {**parameters, **postgres.options(Limits(connect_s_max=2, statement_s_max=1))}
        )
        made.autocommit = True
        return made

    def migrate(self, revision: str = "head") -> None:
        """Bring the tables up to a revision."""
        with self._mapped_errors(), self._changing.begin() as connection:
            if self.dialect == "postgresql":
                # A migration may take longer than any question, and so may waiting for another server's.
                for limit in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
                    connection.execute(text(f"SET LOCAL {limit} = 0"))
                cast("Any", connection.connection.driver_connection).answer_s_max = None
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            if revision != "head" or _revision(connection) != newest_revision():
                _upgrade(connection, revision)

    def ping(self) -> None:
        with self.reading() as connection:
            connection.execute(select(1))

    def close(self) -> None:
        self._engine.dispose()


def newest_revision() -> str:
    """Of the tables, as the files say it: their names begin with it."""
    return max(path.name[1:5] for path in (_MIGRATIONS / "versions").glob("v[0-9][0-9][0-9][0-9]_*.py"))


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _upgrade(connection: Connection, revision: str) -> None:
    # Loaded where there is something to do: with all migrations it takes longer than any other part of the start.
    from alembic import command
    from alembic.config import Config

    config = Config()
    # Config reads values through configparser, to which a % in a path would be the start of a variable.
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def among(connection: Connection, column: ColumnElement[str], values: Iterable[str]) -> ColumnElement[bool]:
    """Whether a text column is one of many values.

    A plain IN is a trap on PostgreSQL: before a table filled at one go has been analysed, the planner expects few rows
    of a tenant, walks all of them by another index and compares each with the whole list (measured: 13 s for 5,000
    values in 100,000 rows). A join, as which it plans this one, is linear whatever it chooses."""
    listed = list(values)
    if connection.dialect.name != "postgresql":
        return column.in_(listed)
    return column.in_(select(func.unnest(literal(listed, ARRAY(column.type)))))


def to_json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def from_json(value: str) -> Any:
    return msgspec.json.decode(value)


def _parse(url: str) -> URL:
    remedy = "Set it to sqlite:///path or postgresql+psycopg://user:password@host:port/database."
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise Invalid(
            f"The setting catalog_url is not a database URL. {remedy}", code="invalid_setting"
        ) from error
    try:
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.get_backend_name() not in ("sqlite", "postgresql"):
            raise Invalid(
                f"The catalog cannot be at {parsed.drivername}://. {remedy}", code="invalid_setting"
            )
        parsed.get_dialect().import_dbapi()
    except NoSuchModuleError as error:
        raise Invalid(
            f"The catalog cannot be at {parsed.drivername}://. {remedy}", code="invalid_setting"
        ) from error
    except ImportError as error:
        raise Invalid(
            f"{parsed.drivername}:// needs a driver that is not installed: pip install 'tallystick[postgres]'.",
            code="invalid_setting",
        ) from error
    return parsed


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # The driver's own idea of when to begin a transaction would begin writes as reads, which two racing writers
    # cannot both turn into writes; _begin_sqlite says it instead.
    connection.isolation_level = None
    connection.create_function("tallystick_now_us", 0, lambda: time.time_ns() // 1000)
    for pragma in (
        f"busy_timeout = {_BUSY_TIMEOUT_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    changes = connection.get_execution_options().get("tallystick_changes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if changes else "BEGIN")


_UNDEFINED_TABLE = "42P01"


def _lacks_table(error: Exception) -> bool:
    """Whether a table is gone: of PostgreSQL a state, of SQLite a message, which has no code of its own."""
    cause = getattr(error, "orig", None)
    if isinstance(cause, sqlite3.OperationalError):
        return str(cause).startswith("no such table")
    return getattr(cause, "sqlstate", None) == _UNDEFINED_TABLE


def _ours(error: Exception) -> TallystickError:
    cause = getattr(error, "orig", None)
    if _lacks_table(error):
        return Unavailable(
            "A table that this needs is missing in the catalog's database. Everything that does not need it goes on; bring "
            "it back from a backup.",
            code="table_missing",
            retry_after_s=30,
        )
    full = getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    if full or getattr(cause, "sqlstate", None) == "53100":
        return StorageFull("The disk of the catalog is full; nothing was changed. Make room and try again.")
    return _not_answering()


def _not_answering() -> Unavailable:
    return Unavailable("The catalog's database does not answer. Try again shortly.", retry_after_s=2)
