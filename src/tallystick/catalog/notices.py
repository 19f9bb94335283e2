"""How news becomes deliveries, within the transaction that makes it true (deliveries.py)."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, select

from tallystick.catalog import channel_tables, tables
from tallystick.catalog.channels import channel_of
from tallystick.catalog.database import ENQUEUED, among, to_json
from tallystick.catalog.delivering import BODY_BYTES_MAX, Channel, Notice
from tallystick.catalog.interface import CUSTOMER_LEVELS_MAX
from tallystick.errors import TooLarge
from tallystick.metering.instant import instant_text

_table = channel_tables.deliveries
_channels = channel_tables.channels


def enqueue(connection: Connection, notice: Notice, *, now_us: int) -> tuple[str, ...]:
    """Make the deliveries of a notice, as a part of the caller's transaction (which must be one that writes): the ids of
    all of them, those that were there already among them. Nobody to tell: none.

    Raises TooLarge (notice_too_large)."""
    return enqueue_all(connection, [notice], now_us=now_us)


def enqueue_all(connection: Connection, notices: Sequence[Notice], *, now_us: int) -> tuple[str, ...]:
    """The same for many at once: channels are read once, and what is new is written with one statement. Of two notices
    with the same id, a channel is given the first."""
    made: list[str] = []
    rows: list[dict[str, Any]] = []
    recipients = _Recipients(connection, notices)
    for notice in notices:
        body: str | None = None
        for channel in recipients.of(notice):
            body = _body(notice) if body is None else body
            row = _row(notice, channel, body, now_us)
            made.append(row["id"])
            rows.append(row)
    if rows:
        _insert_new(connection, rows)
        connection.info[ENQUEUED] = True
    return tuple(made)


def _body(notice: Notice) -> str:
    body = to_json(
        {
            "id": notice.id,
            "type": notice.kind,
            "timestamp": instant_text(notice.at_us),
            "customer": notice.customer,
            "summary": notice.summary,
            "data": notice.data,
        }
    )
    if len(body.encode()) > BODY_BYTES_MAX:
        raise TooLarge(f"A notice has at most {BODY_BYTES_MAX} bytes.", code="notice_too_large")
    return body


def _row(notice: Notice, channel: Channel, body: str, now_us: int) -> dict[str, Any]:
    return {
        "tenant": notice.tenant,
        "id": delivery_id(notice, channel),
        "notice": notice.id,
        "channel_number": channel.number,
        "channel": channel.key,
        "owner": channel.customer,
        "customer": notice.customer,
        "kind": notice.kind,
        "summary": notice.summary,
        "body": body,
        "status": "pending",
        "created_at_us": now_us,
        "due_at_us": now_us,
        "attempts": 0,
        "retries": 0,
        "claim": 0,
    }


def delivery_id(notice: Notice, channel: Channel) -> str:
    """The same for the same notice and channel."""
    digest = hashlib.sha256(to_json([notice.tenant, notice.id, channel.number]).encode())
    return f"dlv_{digest.hexdigest()[:24]}"


def subscribes(channel: Channel, kind: str) -> bool:
    """Whether a channel's `events` cover a kind: `*`, the kind itself, or `invoice.*` for all that begin so."""
    return any(
        wanted in ("*", kind) or (wanted.endswith(".*") and kind.startswith(wanted[:-1]))
        for wanted in channel.setup.events
    )


class _Recipients:
    """The channels that any of some notices may go to, read once."""

    def __init__(self, connection: Connection, notices: Sequence[Notice]) -> None:
        self._connection = connection
        self._channels: dict[str, list[Channel]] = {}
        self._above: dict[tuple[str, str | None], frozenset[str]] = {}
        column = _channels.c
        by_tenant: defaultdict[str, list[Notice]] = defaultdict(list)
        for notice in notices:
            by_tenant[notice.tenant].append(notice)
        for tenant, theirs in by_tenant.items():
            wanted = among(connection, column.key, {key for one in theirs for key in one.channels})
            if not all(one.only_named for one in theirs):
                wanted = wanted | column.subscribes
            # Shared locks (PostgreSQL): a channel that is deleted meanwhile would leave a delivery that nobody ever ends.
            query = select(_channels).where(column.tenant == tenant, wanted).order_by(column.number)
            rows = connection.execute(query.with_for_update(read=True)).all()
            self._channels[tenant] = [channel for channel in map(channel_of, rows) if channel.sends]

    def of(self, notice: Notice) -> list[Channel]:
        """By number."""
        named = frozenset(notice.channels)
        return [
            channel
            for channel in self._channels[notice.tenant]
            if (channel.key in named or (not notice.only_named and subscribes(channel, notice.kind)))
            and (channel.customer is None or channel.customer in self._line_above(notice))
        ]

    def _line_above(self, notice: Notice) -> frozenset[str]:
        """The customer a notice is about, and those above it."""
        asked = notice.tenant, notice.customer
        found = self._above.get(asked)
        if found is not None:
            return found
        line: list[str] = []
        current = notice.customer
        column = tables.customers.c
        while current is not None and len(line) <= CUSTOMER_LEVELS_MAX:
            line.append(current)
            query = select(column.parent).where(column.tenant == notice.tenant, column.key == current)
            current = self._connection.execute(query).scalar_one_or_none()
        self._above[asked] = frozenset(line)
        return self._above[asked]


def _insert_new(connection: Connection, rows: list[dict[str, Any]]) -> None:
    """Those that are not there already."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as insert_of
    else:
        from sqlalchemy.dialects.sqlite import insert as insert_of
    connection.execute(insert_of(_table).on_conflict_do_nothing(), rows)
