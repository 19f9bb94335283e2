"""The tables by which processes agree: leases, partitions, barriers. A part of tables.metadata; a test holds them and the
migrations together."""

from typing import Any

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, LargeBinary, Table, Text, UniqueConstraint

from tallystick.catalog.tables import metadata


def _lease() -> tuple[Column[Any], ...]:
    """`epoch` grows whenever the owner changes and is the fencing token; `owner` is empty while nobody has it;
    `until_us` is by the database's clock; `state` is what the owner wrote down, by the epoch it had."""
    return (
        Column("epoch", BigInteger, nullable=False),
        Column("owner", Text, nullable=False),
        Column("until_us", BigInteger, nullable=False),
        Column("state", LargeBinary),
    )


leases = Table("leases", metadata, Column("name", Text, primary_key=True), *_lease())
"""Jobs that run once wherever they run, and the nodes that are there (`node/…`)."""

partitions = Table(
    "partitions",
    metadata,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    *_lease(),
    Column("version", BigInteger, nullable=False),
    Column("published_us", BigInteger, nullable=False),
    Column("recorded", BigInteger, nullable=False),
    Column("events", BigInteger, nullable=False),
    Column("duplicates", BigInteger, nullable=False),
    Column("conflicts", BigInteger, nullable=False),
)
"""One row a partition, made once. `version` counts the saves; what follows repeats members of `state`, so that everybody
can read them without it."""

barriers = Table(
    "barriers",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("name", Text, nullable=False),
    Column("ends", Text, nullable=False),
    Column("plan", LargeBinary, nullable=False),
    Column("moment_us", BigInteger),
    Column("gathered", Integer, nullable=False),
    UniqueConstraint("name"),
    sqlite_autoincrement=True,
)
"""An action that all partitions carry out at one moment. `ends` is a JSON array: how far each records before."""

barrier_arrivals = Table(
    "barrier_arrivals",
    metadata,
    Column(
        "barrier",
        BigInteger().with_variant(Integer, "sqlite"),
        ForeignKey("barriers.number", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("partition", Integer, primary_key=True),
    Column("floor_us", BigInteger, nullable=False),
    Column("outcome", LargeBinary),
)
"""`floor_us`: the earliest moment the partition can take; `outcome` is null until it has done its share."""

outcomes = Table(
    "outcomes",
    metadata,
    Column("first", BigInteger, primary_key=True, autoincrement=False),
    Column("last", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("made_at_us", BigInteger, nullable=False),
)
"""What became of the rows of a correction: positions `first` to `last`, as JSON: positions, and a status for each."""
