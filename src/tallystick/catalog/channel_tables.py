"""The tables of channels and deliveries: where news goes, and what was sent or waits to be. A part of tables.metadata."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
)

from tallystick.catalog.tables import UserText, metadata, row_number

channels = Table(
    "channels",
    metadata,
    row_number(),
    Column("tenant", UserText, ForeignKey("tenants.key"), nullable=False),
    Column("key", UserText, nullable=False),
    Column("customer", UserText),
    Column("content", UserText, nullable=False),
    Column("subscribes", Boolean, nullable=False),
    Column("secret", Text),
    Column("previous_secret", Text),
    Column("previous_until_us", BigInteger),
    Column("disabled_reason", Text),
    Column("created_at_us", BigInteger, nullable=False),
    Column("changed_at_us", BigInteger, nullable=False),
    UniqueConstraint("tenant", "key"),
    ForeignKeyConstraint(["tenant", "customer"], ["customers.tenant", "customers.key"]),
    Index(None, "tenant", "customer"),
    sqlite_autoincrement=True,
)
"""`content`: what a person set, as JSON (catalog/channels.Setup). `customer`: whose it is; null: the tenant's.
`subscribes`: to any kind of news. `secret`: as flows/channels seals it, never shown. `number` tells a channel from a later one of the same key."""

deliveries = Table(
    "deliveries",
    metadata,
    row_number(),
    Column("tenant", UserText, ForeignKey("tenants.key"), nullable=False),
    Column("id", Text, nullable=False),
    Column("notice", UserText, nullable=False),
    Column("channel_number", BigInteger, nullable=False),
    Column("channel", UserText, nullable=False),
    Column("owner", UserText),
    Column("customer", UserText),
    Column("kind", Text, nullable=False),
    Column("summary", UserText, nullable=False),
    Column("body", UserText, nullable=False),
    Column("status", Text, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("due_at_us", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("retries", Integer, nullable=False),
    Column("claim", BigInteger, nullable=False),
    Column("last_status", Integer),
    Column("last_error", Text),
    Column("finished_at_us", BigInteger),
    UniqueConstraint("tenant", "id"),
    Index(None, "tenant", "number"),
    Index(None, "tenant", "channel_number", "number"),
    Index(None, "channel_number", "status", "due_at_us"),
    Index(None, "channel_number", "status", "number"),
    Index(None, "finished_at_us"),
    sqlite_autoincrement=True,
)
"""`notice`: the id its maker gave, the same over all channels. `owner`: whose channel it was made for; `customer`: whom it
is about. `attempts`: how often it was taken to be sent, ever; `retries`: how far along the schedule it is. `claim` is the
fence: what was learned under an earlier one is not written any more. Taking one moves `due_at_us` to when it is given up."""

channel_feeds = Table(
    "channel_feeds",
    metadata,
    Column("channel_number", BigInteger, primary_key=True, autoincrement=False),
    Column("moment_us", BigInteger, nullable=False),
    Column("position", Text),
    Column("version", BigInteger, nullable=False),
)
"""How far each channel that subscribes to recorded events is: all up to this moment of recording and position (as digits;
null: of the whole moment) are enqueued or not wanted. Moved where `version` is still the one that was read."""

delivery_attempts = Table(
    "delivery_attempts",
    metadata,
    row_number(),
    Column("delivery_number", BigInteger, ForeignKey("deliveries.number"), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("duration_us", BigInteger, nullable=False),
    Column("target", UserText, nullable=False),
    Column("request_headers", UserText, nullable=False),
    Column("status", Integer),
    Column("answer_headers", UserText, nullable=False),
    Column("answer", UserText, nullable=False),
    Column("error", Text),
    Column("detail", UserText),
    Index(None, "delivery_number", "attempt"),
    sqlite_autoincrement=True,
)
"""What was sent (its body is the delivery's) and what came back, cut off where it is long."""
