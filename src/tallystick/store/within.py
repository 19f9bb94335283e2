"""The rows of one partition, as conditions on positions; and what keeps a recorder that lost its partition from writing.

What a position is: metering/position.py.
"""

# ruff: noqa: S608 (identifiers come from fixed lists, values are whole numbers of this room)

from dataclasses import dataclass

import pyarrow as pa

from tallystick.metering.position import LOCAL_BITS, RESTORED_STEP, base_of
from tallystick.store.connection import Connection
from tallystick.store.interface import FencedOff

_RESTORED_TABLES = frozenset({"corrections", "readings"})
_NO_PARTITION = 255
"""Under which a store that is not bound to a partition keeps its salts on a cluster."""


@dataclass(frozen=True, slots=True)
class Within:
    """The positions of one partition."""

    partition: int

    @property
    def first(self) -> int:
        return base_of(self.partition)

    @property
    def last(self) -> int:
        return self.first + (1 << LOCAL_BITS) - 1

    def of(self, table: str) -> str:
        """Which rows of a table are the partition's."""
        own = f"BETWEEN {self.first:d} AND {self.last:d}"
        if table not in _RESTORED_TABLES:
            return f"position {own}"
        # In two halves, so that indexes by position serve.
        step = RESTORED_STEP
        return f"(position {own} OR (position >= {step:d} AND bitAnd(position, {step - 1:d}) {own}))"


class Writer:
    """How rows go in for one writer: under which tokens, and whether it still may. `within` None: the only writer there
    is."""

    def __init__(self, connection: Connection, within: Within | None, epoch: int) -> None:
        self._connection = connection
        self._within = within
        self._epoch = epoch
        self._salted = within is not None or bool(connection.layout.cluster)
        self._partition = _NO_PARTITION if within is None else within.partition
        self._salts: dict[str, int] | None = None

    def take_over(self) -> None:
        """Refuse all that writers of earlier epochs do from now on. Raises FencedOff when there is a later one."""
        self._salts = None
        rows = pa.table(
            {
                "partition": pa.array([self._partition], pa.uint32()),
                "epoch": pa.array([self._epoch], pa.uint64()),
            }
        )
        self._connection.insert("fences", rows, token=f"{self._partition}:{self._epoch}")
        self.check()

    def check(self) -> None:
        """Raises FencedOff when a later epoch has taken the partition over."""
        if self._within is None:
            return
        if self._connection.rows(f"SELECT {self._latest}")[0][0] > self._epoch:
            raise FencedOff

    def insert(self, table: str, rows: pa.Table, *, token: str) -> None:
        """See Connection.insert."""
        if not self._salted:
            self._connection.insert(table, rows, token=token)
            return
        condition = ""
        if self._within is not None:
            if self._connection.embedded:  # all writers are in this process
                self.check()
            else:
                condition = f"throwIf({self._latest} > {self._epoch:d}, 'A later epoch writes.') = 0"
        salt = self._salt(table)
        own = f"{self._partition}:{token}:{salt}" if salt else f"{self._partition}:{token}"
        self._connection.insert(table, rows, token=own, condition=condition)

    def deletion(self, condition: str) -> str:
        """A deletion's condition that finds nothing once a later epoch has taken over."""
        if self._within is None:
            return condition
        self.check()
        if self._connection.embedded:
            return condition
        return f"({condition}) AND {self._latest} <= {self._epoch:d}"

    def forget_tokens(self, table: str) -> None:
        """The engine remembers tokens of rows it has deleted; without forgetting them, the same rows inserted again
        would be dropped as repeats. (TRUNCATE forgets them itself.)"""
        if not self._salted:
            for window in (0, 1000):
                self._connection.command(
                    f"ALTER TABLE {table} MODIFY SETTING non_replicated_deduplication_window = {window:d}"
                )
            return
        # Others write beside this one, and servers of a cluster do not forget on demand: the tokens change instead.
        salt = self._salt(table) + 1
        rows = pa.table(
            {
                "partition": pa.array([self._partition], pa.uint32()),
                "table": [table],
                "salt": pa.array([salt], pa.uint64()),
            }
        )
        self._connection.insert("token_salts", rows, token=f"{self._partition}:{table}:{salt}")
        self._salts = {**(self._salts or {}), table: salt}

    def _salt(self, table: str) -> int:
        if self._salts is None:
            rows = self._connection.rows(
                "SELECT table, max(salt) FROM token_salts WHERE partition = {partition:UInt32} GROUP BY table",
                {"partition": self._partition},
            )
            self._salts = {row[0]: row[1] for row in rows}
        return self._salts.get(table, 0)

    @property
    def _latest(self) -> str:
        return f"ifNull((SELECT max(epoch) FROM fences WHERE partition = {self._partition:d}), 0)"
