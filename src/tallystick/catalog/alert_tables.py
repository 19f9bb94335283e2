"""The tables of alerts. A part of tables.metadata; nothing of metering reads them."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
)

from tallystick.catalog.tables import UserText, metadata, row_number

alerts = Table(
    "alerts",
    metadata,
    row_number(),
    Column("tenant", UserText, ForeignKey("tenants.key"), nullable=False),
    Column("owner", UserText, nullable=False),
    Column("key", UserText, nullable=False),
    Column("id", Text, nullable=False),
    Column("customer", UserText, nullable=False),
    Column("content", UserText, nullable=False),
    Column("edition", Integer, nullable=False),
    Column("begun_edition", Integer, nullable=False),
    Column("judged_us", BigInteger),
    Column("muted_until_us", BigInteger),
    Column("created_at_us", BigInteger, nullable=False),
    Column("changed_at_us", BigInteger, nullable=False),
    UniqueConstraint("tenant", "owner", "key"),
    UniqueConstraint("id"),
    sqlite_autoincrement=True,
)
"""`owner`: the customer whose alert it is, empty for the tenant's own. `content`: the rule as JSON. `edition` grows when
what decides is changed, and its states then begin anew; `begun_edition`: the edition that was looked at as a whole once.
`judged_us`: up to where windows that are judged at their end have been."""

alert_states = Table(
    "alert_states",
    metadata,
    row_number(),
    Column("alert", Text, nullable=False),
    Column("edition", Integer, nullable=False),
    Column("window_start_us", BigInteger, nullable=False),
    Column("customer", UserText, nullable=False),
    Column("scope", UserText, nullable=False),
    Column("window_end_us", BigInteger),
    Column("level", Integer, nullable=False),
    Column("said_level", Integer, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("closed", Boolean, nullable=False),
    Column("value", Text),
    Column("since_us", BigInteger),
    Column("changed_at_us", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
    UniqueConstraint("alert", "edition", "window_start_us", "customer", "scope"),
    Index(None, "alert", "number"),
    Index(None, "alert", "closed", "level"),
    sqlite_autoincrement=True,
)
"""One row a customer (and group: `scope`) and window, 0 where one state goes on for ever. Moved where `version` is still
the one that was read. `said_level`: what channels have been told."""

alert_transitions = Table(
    "alert_transitions",
    metadata,
    row_number(),
    Column("id", Text, nullable=False),
    Column("tenant", UserText, nullable=False),
    Column("owner", UserText, nullable=False),
    Column("alert", UserText, nullable=False),
    Column("alert_id", Text, nullable=False),
    Column("customer", UserText, nullable=False),
    Column("scope", UserText, nullable=False),
    Column("window_start_us", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("step", Integer, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("muted", Boolean, nullable=False),
    Column("content", UserText, nullable=False),
    UniqueConstraint("id"),
    Index(None, "tenant", "number"),
    Index(None, "tenant", "at_us"),
    Index(None, "tenant", "alert", "number"),
    Index(None, "tenant", "customer", "number"),
    Index(None, "alert_id", "number"),
    sqlite_autoincrement=True,
)
"""What has happened, with its evidence (`content`, JSON). Rows are only added, and stay when the alert is deleted."""

alert_progress = Table(
    "alert_progress",
    metadata,
    Column("one", Integer, primary_key=True),
    Column("moment_us", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
)
"""One row: up to which moment everything recorded has been looked at. Whoever moves it, or any state, names the version
it has read, so that of two who think the work theirs one is turned away."""
