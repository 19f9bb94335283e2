"""The whole catalog out of one database into another, in one transaction: for an installation that moves."""

from sqlalchemy import Connection, Table, func, insert, select, text

from tallystick.catalog import cluster_tables, tables
from tallystick.catalog.database import Database
from tallystick.errors import Conflict

_OF_PROCESSES = frozenset(
    {
        cluster_tables.leases.name,
        cluster_tables.partitions.name,
        cluster_tables.barriers.name,
        cluster_tables.barrier_arrivals.name,
        cluster_tables.outcomes.name,
    }
)
_ROWS = 1_000


def copy_catalog(source_url: str, target_url: str) -> dict[str, int]:
    """Replace everything in the target's tables by what is in the source's; rows by table. Both are migrated first.

    What processes agree upon among themselves (leases, partitions, barriers, outcomes) stays the target's own. Repeating is safe.
    Raises Conflict (move_target_taken) where the target has an audit of its own."""
    source, target = Database(source_url), Database(target_url)
    try:
        source.migrate()
        target.migrate()
        moved = [table for table in tables.metadata.sorted_tables if table.name not in _OF_PROCESSES]
        rows: dict[str, int] = {}
        with source.snapshot() as reading, target.writing() as writing:
            # The audit is append-only, over there too: what an earlier attempt has brought stays.
            present = _audited(reading, writing)
            for table in reversed(moved):
                if table is not tables.audit:
                    writing.execute(table.delete())
            for table in moved:
                rows[table.name] = 0
                wanted = select(table)
                if table is tables.audit:
                    wanted = wanted.where(table.c.number > present).order_by(table.c.number)
                found = reading.execution_options(stream_results=True).execute(wanted).mappings()
                for some in found.partitions(_ROWS):
                    writing.execute(insert(table), [dict(row) for row in some])
                    rows[table.name] += len(some)
                if writing.dialect.name == "postgresql":
                    _go_on_counting(writing, table)
        return rows
    finally:
        source.close()
        target.close()


def _audited(reading: Connection, writing: Connection) -> int:
    """The number of the last audit row over there, which must be one from here."""
    audit = tables.audit
    last = select(audit).order_by(audit.c.number.desc()).limit(1)
    there = writing.execute(last).mappings().one_or_none()
    if there is None:
        return 0
    here = reading.execute(select(audit).where(audit.c.number == there["number"])).mappings().one_or_none()
    if here is None or dict(here) != dict(there):
        raise Conflict(
            "The catalog to move to has an audit of its own: it was in use. Move into an empty database.",
            code="move_target_taken",
        )
    return there["number"]


def _go_on_counting(connection: Connection, table: Table) -> None:
    """The next number a table gives is behind those it has now."""
    column = table.autoincrement_column
    if column is None:
        return
    sequence = connection.execute(
        select(func.pg_get_serial_sequence(table.name, column.name))
    ).scalar_one_or_none()
    if sequence is not None:
        highest = select(func.coalesce(func.max(column), 0) + 1).scalar_subquery()
        connection.execute(
            select(func.setval(text(":sequence").bindparams(sequence=sequence), highest, False))
        )
