"""Leases: who may do what only one may do.

A lease has an owner, an epoch and an end by the database's clock. The epoch grows whenever the lease changes hands (and
when it is given back), and is the fencing token: whatever its owner writes down here is written *where the epoch is still
this one*, so that an owner which was frozen and wakes after its lease went to another can change nothing.

The owner is a process, by a name no other process ever has.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Table,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from tallystick.catalog import cluster_tables
from tallystick.catalog.database import Database

K = TypeVar("K", int, str)


class LeaseLostError(Exception):
    """The lease belongs to another epoch now: whoever meets this stops, and writes nothing more."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has a lease. `is_free`: nobody, or its time is over."""

    owner: str
    epoch: int
    is_free: bool


class LeaseTable(Generic[K]):
    """The leases of one table, by its key. All calls are synchronous, one short transaction each, from any thread.
    Every call may raise errors.Unavailable; whether it was carried out is then not known, and asking again tells."""

    def __init__(self, database: Database, table: Table, key: Column[K]) -> None:
        self._database = database
        self._table = table
        self._key = key

    def acquire(self, key: K, owner: str, *, ttl_us: int) -> int | None:
        """The new epoch; None: another owner has it. Its present owner gets a new epoch too, which shuts out whatever
        it does under the one before."""
        with self._database.single() as connection:
            return self._take(connection, key, owner, ttl_us)

    def _take(self, connection: Connection, key: K, owner: str, ttl_us: int) -> int | None:
        column = self._table.c
        now = database_now_us(connection)
        return connection.execute(
            update(self._table)
            .where(self._key == key, (column.until_us <= now) | (column.owner == owner))
            .values(epoch=column.epoch + 1, owner=owner, until_us=now + ttl_us)
            .returning(column.epoch)
        ).scalar_one_or_none()

    def renew(self, owner: str, *, ttl_us: int) -> dict[K, int]:
        """Renew all leases of this owner, in one statement: those it has, with their epochs. One whose time was over
        and that nobody has taken is renewed as well."""
        column = self._table.c
        with self._database.single() as connection:
            rows = connection.execute(
                update(self._table)
                .where(column.owner == owner)
                .values(until_us=database_now_us(connection) + ttl_us)
                .returning(self._key, column.epoch)
            )
            return {key: epoch for key, epoch in rows}  # noqa: C416 - a Row is no tuple of two to type checkers

    def release(self, key: K, epoch: int) -> bool:
        """Give it back, for anybody to take at once. False: it was not ours any more."""
        column = self._table.c
        return self._fenced(key, epoch, {"epoch": column.epoch + 1, "owner": "", "until_us": 0})

    def load(self, key: K, epoch: int) -> bytes | None:
        """What was last saved, under whatever epoch; None: nothing ever was. Raises LeaseLostError."""
        column = self._table.c
        with self._database.reading() as connection:
            row = connection.execute(
                select(column.state).where(self._key == key, column.epoch == epoch)
            ).one_or_none()
        if row is None:
            raise _lost(key, epoch)
        return None if row.state is None else bytes(row.state)

    def save(self, key: K, epoch: int, state: bytes) -> None:
        """Replace the state. Durable when it returns. Raises LeaseLostError: nothing was written."""
        if not self._fenced(key, epoch, {"state": state}):
            raise _lost(key, epoch)

    def holders(self) -> Mapping[K, Holder]:
        """All leases there are."""
        column = self._table.c
        with self._database.reading() as connection:
            is_free = column.until_us <= database_now_us(connection)
            rows = connection.execute(select(self._key, column.owner, column.epoch, is_free))
            return {key: Holder(owner, epoch, bool(free)) for key, owner, epoch, free in rows}

    def _fenced(self, key: K, epoch: int, values: Mapping[str, Any]) -> bool:
        """Change the row where it still has this epoch."""
        with self._database.single() as connection:
            changed = connection.execute(
                update(self._table).where(self._key == key, self._table.c.epoch == epoch).values(**values)
            )
            return changed.rowcount == 1


class Leases(LeaseTable[str]):
    """Leases by name: jobs, and nodes. One comes into being when it is first acquired."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, cluster_tables.leases, cluster_tables.leases.c.name)

    def acquire(self, key: str, owner: str, *, ttl_us: int) -> int | None:
        epoch = super().acquire(key, owner, ttl_us=ttl_us)
        if epoch is not None or key in self.holders():
            return epoch
        first = {"name": key, "epoch": 0, "owner": "", "until_us": 0}
        try:
            with self._database.writing() as connection:
                connection.execute(insert(cluster_tables.leases), first)
        except IntegrityError:
            pass  # another process was the first; the next statement says who has it
        return super().acquire(key, owner, ttl_us=ttl_us)

    def peek(self, key: str) -> bytes | None:
        """What was last saved under a name, whoever has it; None: nothing ever was."""
        column = cluster_tables.leases.c
        with self._database.reading() as connection:
            state = connection.execute(select(column.state).where(column.name == key)).scalar_one_or_none()
            return None if state is None else bytes(state)

    def forget(self, prefix: str, *, older_than_us: int) -> int:
        """Delete leases of this prefix whose time has been over for so long: of nodes that will not come back. How many
        they were. Only for leases whose epochs fence nothing."""
        column = cluster_tables.leases.c
        with self._database.writing() as connection:
            gone = connection.execute(
                cluster_tables.leases.delete().where(
                    column.name.startswith(prefix, autoescape=True),
                    column.until_us < database_now_us(connection) - older_than_us,
                )
            )
            return gone.rowcount


class LeaseCheckpoint:
    """What a job writes down (log/checkpoint.Checkpoint), under the epoch of its lease."""

    def __init__(
        self, leases: Leases, name: str, epoch: int, *, check: Callable[[], None] = lambda: None
    ) -> None:
        """`check` is called before every write: see flows/lease.Held."""
        self._leases = leases
        self._name = name
        self._epoch = epoch
        self._check = check

    def load(self) -> bytes | None:
        return self._leases.load(self._name, self._epoch)

    def save(self, state: bytes) -> None:
        """Raises LeaseLostError, and Unavailable: then it may or may not be written, and saving again settles it."""
        self._check()
        self._leases.save(self._name, self._epoch, state)

    def close(self) -> None:
        """Nothing is held open."""


def database_now_us(connection: Connection) -> ColumnElement[int]:
    """The database's own clock, at the statement: the only one by which leases end. (In SQLite, where all processes
    share a machine, that machine's.)"""
    if connection.dialect.name == "postgresql":
        return literal_column("(extract(epoch FROM clock_timestamp()) * 1000000)::bigint", BigInteger)
    return literal_column("tallystick_now_us()", BigInteger)


def _lost(key: object, epoch: int) -> LeaseLostError:
    return LeaseLostError(f"The lease {key!r} is no longer held in epoch {epoch}.")
