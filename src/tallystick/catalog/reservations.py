"""The ledger of reservations: a file of its own for one process, the catalog's database for a cluster."""

import itertools
from collections.abc import Callable, Collection, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec
from msgspec.structs import replace
from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from tallystick.catalog import cluster_tables, limit_tables
from tallystick.catalog.cursor import checked_limit, cursor_of, number_of
from tallystick.catalog.database import Database, Limits, among
from tallystick.catalog.interface import Page
from tallystick.catalog.leases import LeaseLostError
from tallystick.limits.reservation import Reservation

_table = limit_tables.reservations
_column = _table.c
_FORGET_ROWS = 10_000
_ROWS_A_STATEMENT = 1_000
_WRITTEN = ("id", "tenant", "customer", "state", "is_open", "closed_us", "body")
_CHANGED = ("state", "is_open", "closed_us", "body")
_LIMITS = Limits(connections_max=4, connect_s_max=2, statement_s_max=5, idle_s_max=2)


def _decimal_text(value: Any) -> str:
    if isinstance(value, Decimal):
        return str(value)
    raise NotImplementedError


_encoder = msgspec.msgpack.Encoder(enc_hook=_decimal_text, decimal_format="string")
_decoder = msgspec.msgpack.Decoder(Reservation)


@lru_cache(64)
def _upsert(rows: int) -> str:
    """For SQLite: so many rows by one statement, values bound."""
    row = f"({', '.join('?' * len(_WRITTEN))})"
    changed = ", ".join(f"{name} = excluded.{name}" for name in _CHANGED)
    return (
        f"INSERT INTO {_table.name} ({', '.join(_WRITTEN)}) VALUES {', '.join([row] * rows)} "  # noqa: S608 (own names)
        f"ON CONFLICT (id) DO UPDATE SET {changed}"
    )


class RelationalLedger:
    """See catalog.limiting.Ledger. `url`: a SQLite file of its own, or the catalog's database.

    With a `lease`, every write checks within its own transaction that the lease still has that epoch, and holds it there
    until it has committed: whoever takes over afterwards reads all of it, and nothing comes later."""

    def __init__(
        self,
        url: str,
        *,
        lease: tuple[str, int] | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """`check` is called before every write: see flows/lease.Held."""
        self._database = Database(url, _LIMITS)
        self._lease = lease
        self._check = check
        dialect = postgresql if self._database.dialect == "postgresql" else sqlite
        new = dialect.insert(_table)
        changed = {name: new.excluded[name] for name in _CHANGED}
        self._put = new.on_conflict_do_update(index_elements=["id"], set_=changed)

    def prepare(self) -> None:
        """Make the table in a file of its own."""
        with self._database.writing() as connection:
            _table.create(connection, checkfirst=True)

    def write(self, states: Sequence[Reservation]) -> None:
        self._check()
        rows = [
            (
                one.id,
                one.tenant,
                one.customer,
                one.state.value,
                one.is_open,
                one.closed_us,
                _encoder.encode(one),
            )
            for one in states
        ]
        with self._database.writing() as connection:
            if self._lease is not None:
                self._hold_lease(connection, *self._lease)
            if self._database.dialect == "postgresql":
                connection.execute(self._put, [dict(zip(_WRITTEN, row, strict=True)) for row in rows])
                return
            # Many rows a statement: each statement lets go of the interpreter, and beside a busy event loop takes a
            # millisecond to get it back.
            for start in range(0, len(rows), _ROWS_A_STATEMENT):
                some = rows[start : start + _ROWS_A_STATEMENT]
                connection.exec_driver_sql(_upsert(len(some)), tuple(itertools.chain.from_iterable(some)))

    def _hold_lease(self, connection: Connection, name: str, epoch: int) -> None:
        lease = cluster_tables.leases.c
        found = connection.execute(
            select(lease.epoch).where(lease.name == name).with_for_update(read=True)
        ).scalar_one_or_none()
        if found != epoch:
            raise LeaseLostError(f"The lease {name!r} is no longer held in epoch {epoch}.")

    def flush(self) -> None:
        """Every write is in the file already."""

    def load_open(self) -> list[Reservation]:
        query = select(_column.body).where(_column.is_open.is_(True)).order_by(_column.number)
        with self._database.reading() as connection:
            return [_decoder.decode(row.body) for row in connection.execute(query)]

    def find(self, reservations: Collection[str]) -> dict[str, Reservation]:
        wanted = list(reservations)
        made: dict[str, Reservation] = {}
        with self._database.reading() as connection:
            for start in range(0, len(wanted), 500):
                query = select(_column.body).where(_column.id.in_(wanted[start : start + 500]))
                for row in connection.execute(query):
                    one = _decoder.decode(row.body)
                    made[one.id] = one
        return made

    def page(
        self,
        tenant: str,
        *,
        customers: Collection[str] | None = None,
        state: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[Reservation]:
        query = select(_column.number, _column.body).where(_column.tenant == tenant).order_by(_column.number)
        after = number_of(cursor, "reservations")
        if after is not None:
            query = query.where(_column.number > after)
        if state is not None:
            query = query.where(_column.state == state)
        with self._database.reading() as connection:
            if customers is not None:
                query = query.where(among(connection, _column.customer, list(customers)))
            found = connection.execute(query.limit(checked_limit(limit) + 1)).all()
        more = len(found) > limit
        return Page(
            tuple(_decoder.decode(row.body) for row in found[:limit]),
            cursor_of("reservations", found[limit - 1].number) if more else None,
        )

    def forget(self, *, closed_before_us: int) -> int:
        self._check()
        old = (
            select(_column.number)
            .where(_column.closed_us < closed_before_us, _column.is_open.is_(False))
            .limit(_FORGET_ROWS)
        )
        with self._database.writing() as connection:
            if self._lease is not None:
                self._hold_lease(connection, *self._lease)
            return connection.execute(delete(_table).where(_column.number.in_(old))).rowcount

    def after(self, number: int, limit: int) -> tuple[int, list[Reservation]]:
        """The next ones in the order they were made, and the number to go on from."""
        query = select(_column.number, _column.body).where(_column.number > number)
        with self._database.reading() as connection:
            found = connection.execute(query.order_by(_column.number).limit(limit)).all()
        return (found[-1].number if found else number), [_decoder.decode(row.body) for row in found]

    def close(self) -> None:
        self._database.close()


def copy_ledger(source_url: str, target_url: str) -> int:
    """Every reservation of one ledger into another, where those of the same ids are replaced; how many. For an installation
    that moves: nothing may be under way, and everything that is in its log has to be recorded.

    So what is settled and in the log counts by now. Its position goes: over there it has another. What is settled and not in
    the log yet is appended by whoever opens the ledger there, as after a crash."""
    source, target = RelationalLedger(source_url), RelationalLedger(target_url)
    try:
        number = copied = 0
        while True:
            number, found = source.after(number, _ROWS_A_STATEMENT)
            if not found:
                return copied
            target.write([replace(one, positions=(), counted=one.counted or one.is_placed) for one in found])
            copied += len(found)
    finally:
        source.close()
        target.close()
