"""Barriers: actions that all partitions carry out at one and the same moment.

    open      by the recorder of partition 0, with the position up to which each partition records before
    arrive    each recorder that has recorded so far, and pauses; the last to arrive fixes the moment
    finish    each recorder, once its share is in the store at exactly that moment
    outcomes  what partition 0 gathers when all have finished; then `close`

Every step may be repeated, by the same recorder or by the one that has taken over: repeating changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select, update

from tallystick.catalog import cluster_tables
from tallystick.catalog.database import Database, from_json, to_json
from tallystick.catalog.partitions import hold_epoch
from tallystick.errors import NotFound

_barrier = cluster_tables.barriers.c
_arrival = cluster_tables.barrier_arrivals.c


@dataclass(frozen=True, slots=True)
class Barrier:
    """One barrier. `ends[p]`: how far partition p records before it; `plan`: what is to be done, as the opener wrote it;
    `moment_us`: None until all have arrived; `finished`: partitions that have done their share."""

    number: int
    name: str
    ends: tuple[int, ...]
    plan: bytes
    moment_us: int | None
    arrived: frozenset[int]
    finished: frozenset[int]

    @property
    def is_done(self) -> bool:
        return len(self.finished) == len(self.ends)


class Barriers:
    """All calls are synchronous, one short transaction each, and may raise Unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def open(self, name: str, ends: Sequence[int], plan: bytes, *, epoch: int) -> Barrier:
        """Open one under a name of its own (its place in the log of partition 0), or answer the one of that name, also
        one that is closed. `epoch` is partition 0's. Raises LeaseLostError."""
        with self._database.writing() as connection:
            hold_epoch(connection, 0, epoch)
            found = _find(connection, name)
            if found is None:
                values = {"name": name, "ends": to_json(list(ends)), "plan": plan, "gathered": 0}
                connection.execute(insert(cluster_tables.barriers), values)
                found = _find(connection, name)
            assert found is not None
            return found

    def waiting(self) -> list[Barrier]:
        """Those that are not closed, in the order they were opened: the first one is to be dealt with first."""
        with self._database.reading() as connection:
            names = connection.execute(
                select(_barrier.name).where(_barrier.gathered == 0).order_by(_barrier.number)
            ).scalars()
            found = [_find(connection, name) for name in names.all()]
            return [barrier for barrier in found if barrier is not None]

    def find(self, name: str) -> Barrier | None:
        with self._database.reading() as connection:
            return _find(connection, name)

    def arrive(self, barrier: Barrier, partition: int, *, epoch: int, floor_us: int) -> Barrier:
        """This partition has recorded up to its end and records nothing more before its share is done. `floor_us`: the
        earliest moment it can take, later than all it has published. With the last one the moment is fixed: the greatest
        of these. Raises LeaseLostError."""
        with self._database.writing() as connection:
            # First, so that of two that arrive at once the second sees the first.
            connection.execute(
                select(_barrier.number).where(_barrier.number == barrier.number).with_for_update()
            )
            hold_epoch(connection, partition, epoch)
            present = _get(connection, barrier.name)
            if present.moment_us is None:
                this = (_arrival.barrier == barrier.number, _arrival.partition == partition)
                moved = connection.execute(
                    update(cluster_tables.barrier_arrivals).where(*this).values(floor_us=floor_us)
                )
                if moved.rowcount == 0:
                    connection.execute(
                        insert(cluster_tables.barrier_arrivals),
                        {"barrier": barrier.number, "partition": partition, "floor_us": floor_us},
                    )
                arrived, moment_us = connection.execute(
                    select(func.count(), func.max(_arrival.floor_us)).where(
                        _arrival.barrier == barrier.number
                    )
                ).one()
                if arrived == len(present.ends):
                    connection.execute(
                        update(cluster_tables.barriers)
                        .where(_barrier.number == barrier.number, _barrier.moment_us.is_(None))
                        .values(moment_us=moment_us)
                    )
            return _get(connection, barrier.name)

    def finish(self, barrier: Barrier, partition: int, *, epoch: int, outcome: bytes) -> Barrier:
        """This partition's share is in the store at the barrier's moment. The first outcome stands.
        Raises LeaseLostError."""
        with self._database.writing() as connection:
            hold_epoch(connection, partition, epoch)
            connection.execute(
                update(cluster_tables.barrier_arrivals)
                .where(
                    _arrival.barrier == barrier.number,
                    _arrival.partition == partition,
                    _arrival.outcome.is_(None),
                )
                .values(outcome=outcome)
            )
            return _get(connection, barrier.name)

    def outcomes(self, barrier: Barrier) -> dict[int, bytes]:
        """Outcomes by partition, of those that have finished."""
        with self._database.reading() as connection:
            rows = connection.execute(
                select(_arrival.partition, _arrival.outcome).where(
                    _arrival.barrier == barrier.number, _arrival.outcome.is_not(None)
                )
            )
            return {partition: bytes(outcome) for partition, outcome in rows}

    def close(self, barrier: Barrier, *, epoch: int) -> None:
        """Partition 0 has gathered the outcome. It stays to be found by its name. Idempotent. Raises LeaseLostError."""
        with self._database.writing() as connection:
            hold_epoch(connection, 0, epoch)
            connection.execute(
                update(cluster_tables.barriers).where(_barrier.number == barrier.number).values(gathered=1)
            )

    def forget(self, *, keep: int = 1_000) -> int:
        """Delete closed ones but the last `keep`; how many."""
        with self._database.writing() as connection:
            newest = connection.execute(select(func.max(_barrier.number))).scalar_one() or 0
            gone = connection.execute(
                delete(cluster_tables.barriers).where(
                    _barrier.gathered == 1, _barrier.number <= newest - keep
                )
            )
            return gone.rowcount


def _find(connection: Connection, name: str) -> Barrier | None:
    row = connection.execute(select(cluster_tables.barriers).where(_barrier.name == name)).one_or_none()
    if row is None:
        return None
    arrivals = connection.execute(
        select(_arrival.partition, _arrival.outcome.is_not(None)).where(_arrival.barrier == row.number)
    ).all()
    return Barrier(
        number=row.number,
        name=row.name,
        ends=tuple(from_json(row.ends)),
        plan=bytes(row.plan),
        moment_us=row.moment_us,
        arrived=frozenset(partition for partition, _ in arrivals),
        finished=frozenset(partition for partition, has_finished in arrivals if has_finished),
    )


def _get(connection: Connection, name: str) -> Barrier:
    found = _find(connection, name)
    if found is None:
        raise NotFound(f"There is no barrier {name!r}.")
    return found
