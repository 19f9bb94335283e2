"""Where counters stand that are read from outside, and the events they have become until these are in the log.

A series moves and its event is written down in one transaction. So after a crash anywhere the event is there to be sent to
the log, once more if need be (its identity is fixed), and the series is not counted a second time.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from decimal import Decimal
from hashlib import sha256

from sqlalchemy import Connection, delete, insert, select, text

from tallystick.catalog.counter_tables import counter_outbox, counter_series
from tallystick.catalog.database import Database, among, from_json, to_json
from tallystick.telemetry.increment import Reached

_series = counter_series.c
_outbox = counter_outbox.c
_LOCK = 0x7A11
_KEYS_AT_ONCE = 500

Advance = Callable[[Mapping[str, Reached]], tuple[Mapping[str, Reached], Iterable[bytes]]]


class Counters:
    """The part of the catalog that keeps counters."""

    _database: Database

    def advance_counters(self, tenant: str, series: Collection[str], advance: Advance) -> list[int]:
        """Tell `advance` where these series stand, keep where it says they are now, and put the bodies it gives (NDJSON)
        into the outbox; their numbers. One caller at a time for a tenant, over all processes. `advance` may be asked again."""
        with self._database.writing() as connection:
            if connection.dialect.name == "postgresql":
                mark = int.from_bytes(sha256(tenant.encode()).digest()[:4], "big", signed=True)
                connection.execute(
                    text("SELECT pg_advisory_xact_lock(:lock, :mark)"), {"lock": _LOCK, "mark": mark}
                )
            moved, bodies = advance(_reached(connection, tenant, series))
            names = list(moved)
            for at in range(0, len(names), _KEYS_AT_ONCE):
                some = names[at : at + _KEYS_AT_ONCE]
                connection.execute(
                    delete(counter_series).where(
                        _series.tenant == tenant, among(connection, _series.series, some)
                    )
                )
                connection.execute(
                    insert(counter_series),
                    [
                        {
                            "tenant": tenant,
                            "series": name,
                            "time_ns": moved[name].time_ns,
                            "reached": to_json([str(value) for value in moved[name].values]),
                        }
                        for name in some
                    ],
                )
            return [
                connection.execute(
                    insert(counter_outbox).values(tenant=tenant, body=body).returning(_outbox.number)
                ).scalar_one()
                for body in bodies
            ]

    def counter_outbox(self, tenant: str) -> list[tuple[int, bytes]]:
        """What is not known to be in the log, oldest first."""
        query = select(_outbox.number, _outbox.body).where(_outbox.tenant == tenant).order_by(_outbox.number)
        with self._database.reading() as connection:
            return [(number, body) for number, body in connection.execute(query)]

    def clear_counter_outbox(self, tenant: str, numbers: Collection[int]) -> None:
        """These are in the log."""
        with self._database.writing() as connection:
            connection.execute(
                delete(counter_outbox).where(_outbox.tenant == tenant, _outbox.number.in_(list(numbers)))
            )


def _reached(connection: Connection, tenant: str, series: Collection[str]) -> dict[str, Reached]:
    found: dict[str, Reached] = {}
    names = list(series)
    for at in range(0, len(names), _KEYS_AT_ONCE):
        query = select(_series.series, _series.time_ns, _series.reached).where(
            _series.tenant == tenant, among(connection, _series.series, names[at : at + _KEYS_AT_ONCE])
        )
        for name, time_ns, reached in connection.execute(query):
            found[name] = Reached(time_ns, tuple(Decimal(value) for value in from_json(reached)))
    return found
