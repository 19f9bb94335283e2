"""Channels: where news goes."""

from collections.abc import Callable, Collection
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from tallystick.catalog import channel_tables, tables
from tallystick.catalog.cursor import checked_limit, cursor_of, key_of
from tallystick.catalog.database import Change, Database, among
from tallystick.catalog.delivering import (
    CHANNELS_PER_CUSTOMER_MAX,
    CHANNELS_PER_TENANT_MAX,
    DELETED,
    DISABLED,
    Channel,
    Setup,
)
from tallystick.catalog.interface import Actor, Page
from tallystick.errors import Conflict, NotFound

_table = channel_tables.channels
_column = _table.c
_deliveries = channel_tables.deliveries
_feeds = channel_tables.channel_feeds


class Channels:
    """The part of the catalog that keeps channels."""

    _database: Database

    def create_channel(
        self,
        tenant: str,
        key: str,
        setup: Setup,
        *,
        customer: str | None,
        secret: str | None,
        recorded_us: int | None = None,
        actor: Actor,
        now_us: int,
    ) -> Channel:
        with self._database.changing(actor, now_us) as change:
            connection = change.connection
            if _find(connection, tenant, key) is not None:
                raise Conflict(f"There is a channel {key!r} already.", code="channel_exists")
            count = select(func.count()).select_from(_table).where(_column.tenant == tenant)
            if connection.execute(count).scalar_one() >= CHANNELS_PER_TENANT_MAX:
                raise Conflict(
                    f"A tenant has at most {CHANNELS_PER_TENANT_MAX} channels. Delete one that is not used.",
                    code="too_many_channels",
                )
            if customer is not None:
                _check_customer(connection, tenant, customer)
                owned = connection.execute(count.where(_column.customer == customer)).scalar_one()
                if owned >= CHANNELS_PER_CUSTOMER_MAX:
                    raise Conflict(
                        f"A customer has at most {CHANNELS_PER_CUSTOMER_MAX} channels. Delete one that is not used.",
                        code="too_many_channels",
                    )
            connection.execute(
                insert(_table),
                {
                    "tenant": tenant,
                    "key": key,
                    "customer": customer,
                    **_set(setup),
                    "secret": secret,
                    "created_at_us": now_us,
                    "changed_at_us": now_us,
                },
            )
            made = _get(connection, tenant, key)
            _follow(connection, made, now_us if recorded_us is None else recorded_us)
            change.record((), tenant, "channel.create", f"channel/{key}", after=audited(made))
        return made

    def change_channel(
        self,
        tenant: str,
        key: str,
        setup: Setup,
        *,
        expected: Callable[[Channel], None] = lambda present: None,
        secret: str | None = None,
        overlap_us: int = 0,
        recorded_us: int | None = None,
        actor: Actor,
        now_us: int,
    ) -> Channel:
        with self._database.changing(actor, now_us) as change:
            present = _get(change.connection, tenant, key)
            expected(present)
            if secret is None and present.setup == setup and present.disabled_reason is None:
                return present
            values: dict[str, Any] = {**_set(setup), "disabled_reason": None, "changed_at_us": now_us}
            if secret is not None:
                values["secret"] = secret
                values["previous_secret"] = present.secret if overlap_us else None
                values["previous_until_us"] = now_us + overlap_us if overlap_us else None
            where = _column.number == present.number
            change.connection.execute(update(_table).where(where).values(**values))
            if not setup.enabled:
                end_pending(change.connection, present.number, DISABLED, now_us)
            made = _get(change.connection, tenant, key)
            _follow(change.connection, made, now_us if recorded_us is None else recorded_us)
            rotated = {} if secret is None else {"secret": "changed"}
            change.record(
                (),
                tenant,
                "channel.change" if secret is None else "channel.rotate",
                f"channel/{key}",
                before=audited(present),
                after={**audited(made), **rotated},
            )
        return made

    def delete_channel(
        self,
        tenant: str,
        key: str,
        *,
        expected: Callable[[Channel], None] = lambda present: None,
        actor: Actor,
        now_us: int,
    ) -> None:
        with self._database.changing(actor, now_us) as change:
            present = _get(change.connection, tenant, key)
            expected(present)
            change.connection.execute(delete(_table).where(_column.number == present.number))
            _end_feed(change.connection, present.number)
            end_pending(change.connection, present.number, DELETED, now_us)
            change.record((), tenant, "channel.delete", f"channel/{key}", before=audited(present))

    def channel(self, tenant: str, key: str) -> Channel:
        with self._database.reading() as connection:
            return _get(connection, tenant, key)

    def channels(
        self,
        tenant: str,
        *,
        customers: Collection[str] | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[Channel]:
        query = select(_table).where(_column.tenant == tenant).order_by(_column.key)
        after = key_of(cursor, "channels")
        if after is not None:
            query = query.where(_column.key > after)
        with self._database.reading() as connection:
            if customers is not None:
                query = query.where(among(connection, _column.customer, customers))
            found = connection.execute(query.limit(checked_limit(limit) + 1)).all()
        more = len(found) > limit
        return Page(
            tuple(map(channel_of, found[:limit])),
            cursor_of("channels", found[limit - 1].key) if more else None,
        )


def disable(change: Change, number: int, reason: str) -> None:
    """Send nothing more to it, until a person sets it again."""
    row = change.connection.execute(select(_table).where(_column.number == number)).one_or_none()
    end_pending(change.connection, number, DISABLED, change.now_us)
    if row is None or row.disabled_reason == reason:
        return
    change.connection.execute(
        update(_table)
        .where(_column.number == number)
        .values(disabled_reason=reason, changed_at_us=change.now_us)
    )
    change.record((), row.tenant, "channel.disable", f"channel/{row.key}", after={"disabled_reason": reason})


def end_pending(connection: Connection, number: int, reason: str, now_us: int) -> None:
    """What is pending for a channel is not sent any more."""
    column = _deliveries.c
    connection.execute(
        update(_deliveries)
        .where(column.channel_number == number, column.status == "pending")
        .values(status="dead", last_error=reason, finished_at_us=now_us, claim=column.claim + 1)
    )


def channel_of(row: Row[Any]) -> Channel:
    return Channel(
        number=row.number,
        tenant=row.tenant,
        key=row.key,
        customer=row.customer,
        setup=msgspec.json.decode(row.content, type=Setup),
        secret=row.secret,
        previous_secret=row.previous_secret,
        previous_until_us=row.previous_until_us,
        disabled_reason=row.disabled_reason,
        created_at_us=row.created_at_us,
        changed_at_us=row.changed_at_us,
    )


def audited(channel: Channel) -> dict[str, Any]:
    """A channel without what must not be read in the audit: the URL of a Slack hook is its secret."""
    document: dict[str, Any] = msgspec.to_builtins(channel.setup)
    if channel.setup.type == "slack":
        document.pop("url")
    return {**document, "customer": channel.customer, "disabled_reason": channel.disabled_reason}


def _set(setup: Setup) -> dict[str, Any]:
    return {"content": msgspec.json.encode(setup).decode(), "subscribes": bool(setup.events)}


def _follow(connection: Connection, channel: Channel, recorded_us: int) -> None:
    """Begin to tell it of events, where it wants to be told and is not yet; or end it."""
    if not (channel.setup.wants_events and channel.setup.enabled):
        _end_feed(connection, channel.number)
        return
    column = _feeds.c
    known = select(column.version).where(column.channel_number == channel.number)
    if connection.execute(known).one_or_none() is None:
        row = {"channel_number": channel.number, "moment_us": recorded_us, "version": 1}
        connection.execute(insert(_feeds), row)


def _end_feed(connection: Connection, number: int) -> None:
    connection.execute(delete(_feeds).where(_feeds.c.channel_number == number))


def _find(connection: Connection, tenant: str, key: str) -> Channel | None:
    row = connection.execute(select(_table).where(_column.tenant == tenant, _column.key == key)).one_or_none()
    return None if row is None else channel_of(row)


def _get(connection: Connection, tenant: str, key: str) -> Channel:
    found = _find(connection, tenant, key)
    if found is None:
        raise NotFound(f"There is no channel {key!r}. GET /v1/channels lists them.", code="channel_not_found")
    return found


def _check_customer(connection: Connection, tenant: str, customer: str) -> None:
    column = tables.customers.c
    query = select(column.number).where(column.tenant == tenant, column.key == customer)
    if connection.execute(query).one_or_none() is None:
        raise NotFound(f"There is no customer {customer!r}.", code="customer_not_found")
