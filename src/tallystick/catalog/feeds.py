"""How far channels are that are told of every event. A place moves in the transaction that enqueues what lies before it."""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import and_, func, select, update

from tallystick.catalog import channel_tables, tables
from tallystick.catalog.channels import channel_of
from tallystick.catalog.database import Database
from tallystick.catalog.delivering import Feed, FeedMovedError, Notice
from tallystick.catalog.notices import enqueue_all

_table = channel_tables.channel_feeds
_column = _table.c
_channels = channel_tables.channels
_deliveries = channel_tables.deliveries


class Feeds:
    """The part of the catalog that keeps these places."""

    _database: Database

    def feeds(self) -> tuple[Feed, ...]:
        tenants = tables.tenants.c
        query = (
            select(_channels, _column.moment_us, _column.position, _column.version)
            .join(_table, _column.channel_number == _channels.c.number)
            .join(tables.tenants, and_(tenants.key == _channels.c.tenant, tenants.deleted_at_us.is_(None)))
            .where(_channels.c.disabled_reason.is_(None))
            .order_by(_channels.c.number)
        )
        with self._database.reading() as connection:
            return tuple(
                Feed(
                    channel_of(row),
                    row.moment_us,
                    None if row.position is None else int(row.position),
                    row.version,
                )
                for row in connection.execute(query)
            )

    def pending_of(self, channel_number: int) -> int:
        column = _deliveries.c
        query = (
            select(func.count())
            .select_from(_deliveries)
            .where(column.channel_number == channel_number, column.status == "pending")
        )
        with self._database.reading() as connection:
            return connection.execute(query).scalar_one()

    def advance_feed(
        self, feed: Feed, moment_us: int, position: int | None, notices: Sequence[Notice], *, now_us: int
    ) -> Feed:
        with self._database.writing() as connection:
            moved = connection.execute(
                update(_table)
                .where(_column.channel_number == feed.channel.number, _column.version == feed.version)
                .values(
                    moment_us=moment_us,
                    position=None if position is None else str(position),
                    version=feed.version + 1,
                )
            )
            if moved.rowcount != 1:
                raise FeedMovedError(feed.channel.key)
            if notices:
                enqueue_all(connection, notices, now_us=now_us)
        return replace(feed, moment_us=moment_us, position=position, version=feed.version + 1)
