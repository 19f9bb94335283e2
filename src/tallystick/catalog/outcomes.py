"""What became of the rows of corrections, for whoever asked for them, on whatever node: kept for an hour."""

from collections.abc import Mapping, Sequence

from msgspec import json
from sqlalchemy import delete, insert, or_, select

from tallystick.catalog import cluster_tables
from tallystick.catalog.database import Database
from tallystick.metering.position import partition_of

KEPT_US = 3600 * 1_000_000
_column = cluster_tables.outcomes.c


class Outcomes:
    """Synchronous, one short transaction a call; may raise Unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, statuses: Mapping[int, str], *, now_us: int) -> None:
        """The statuses of one batch, by position; all of one partition. The same batch again replaces them."""
        if not statuses:
            return
        first, last = min(statuses), max(statuses)
        body = json.encode([list(statuses), list(statuses.values())])
        with self._database.writing() as connection:
            gone = or_(_column.first == first, _column.made_at_us < now_us - KEPT_US)
            connection.execute(delete(cluster_tables.outcomes).where(gone))
            row = {"first": first, "last": last, "body": body, "made_at_us": now_us}
            connection.execute(insert(cluster_tables.outcomes), row)

    def find(self, positions: Sequence[int]) -> dict[int, str]:
        """The statuses at these positions; those that are not known, or not any more, are absent."""
        bounds: dict[int, tuple[int, int]] = {}
        for position in positions:
            partition = partition_of(position)
            low, high = bounds.get(partition, (position, position))
            bounds[partition] = (min(low, position), max(high, position))
        if not bounds:
            return {}
        touched = or_(*((_column.first <= high) & (_column.last >= low) for low, high in bounds.values()))
        found: dict[int, str] = {}
        with self._database.reading() as connection:
            for body in connection.execute(select(_column.body).where(touched)).scalars():
                at, statuses = json.decode(body, type=tuple[list[int], list[str]])
                found.update(zip(at, statuses, strict=True))
        return {position: found[position] for position in positions if position in found}
