"""The tables of counters that are read from outside. A part of tables.metadata."""

from sqlalchemy import BigInteger, Column, ForeignKey, LargeBinary, PrimaryKeyConstraint, Table, Text

from tallystick.catalog.tables import UserText, metadata, row_number

counter_series = Table(
    "counter_series",
    metadata,
    Column("tenant", UserText, ForeignKey("tenants.key"), nullable=False),
    Column("series", Text, nullable=False),
    Column("time_ns", BigInteger, nullable=False),
    Column("reached", Text, nullable=False),
    PrimaryKeyConstraint("tenant", "series"),
)
"""`reached`: the last values of the series as JSON (telemetry/increment.py)."""

counter_outbox = Table(
    "counter_outbox",
    metadata,
    row_number(),
    Column("tenant", UserText, ForeignKey("tenants.key"), nullable=False, index=True),
    Column("body", LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)
"""Events that series have moved for, until they are in the log."""
