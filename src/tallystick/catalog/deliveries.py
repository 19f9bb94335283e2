"""Deliveries: an outbox. News is enqueued in the transaction that makes it true, and taken from here to be sent.

Taking one raises its `claim` and moves its due moment to when the taker is given up; what comes of it is written only
where the claim is still the same. So two workers cannot both send one attempt, and what a crash leaves behind is sent
again, under the same id.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    Select,
    and_,
    case,
    delete,
    func,
    insert,
    literal,
    select,
    update,
)

from tallystick.catalog import channel_tables, tables
from tallystick.catalog.channels import channel_of, disable
from tallystick.catalog.cursor import checked_limit, cursor_of, number_of
from tallystick.catalog.database import ENQUEUED, Change, Database, among, from_json, to_json
from tallystick.catalog.delivering import (
    DELETED,
    DISABLED,
    Attempt,
    Channel,
    Delivery,
    DeliverySearch,
    Finished,
    Notice,
    Taken,
    Verdict,
)
from tallystick.catalog.interface import SYSTEM, Actor, Page
from tallystick.catalog.notices import enqueue
from tallystick.errors import Conflict, NotFound

_table = channel_tables.deliveries
_column = _table.c
_channels = channel_tables.channels
_attempts = channel_tables.delivery_attempts


class Deliveries:
    """The part of the catalog that keeps deliveries."""

    _database: Database

    def enqueue(self, notice: Notice, *, now_us: int) -> tuple[str, ...]:
        with self._database.writing() as connection:
            return enqueue(connection, notice, now_us=now_us)

    def on_enqueued(self, tell: Callable[[], None]) -> None:
        """Have `tell` called, from any thread, after a transaction of this process that has enqueued something."""
        self._database.on_enqueued = tell

    def delivery(self, tenant: str, name: str, *, owners: Collection[str] | None = None) -> Delivery:
        with self._database.reading() as connection:
            return _get(connection, tenant, name, owners)

    def deliveries(
        self, tenant: str, search: DeliverySearch, *, cursor: str | None = None, limit: int = 100
    ) -> Page[Delivery]:
        query = select(_table).where(_column.tenant == tenant).order_by(_column.number.desc())
        before = number_of(cursor, "deliveries")
        if before is not None:
            query = query.where(_column.number < before)
        for column, wanted in (
            (_column.channel, search.channel),
            (_column.status, search.status),
            (_column.kind, search.kind),
            (_column.customer, search.customer),
        ):
            if wanted is not None:
                query = query.where(column == wanted)
        with self._database.reading() as connection:
            if search.owners is not None:
                query = query.where(among(connection, _column.owner, search.owners))
            found = connection.execute(query.limit(checked_limit(limit) + 1)).all()
        more = len(found) > limit
        return Page(
            tuple(map(_delivery, found[:limit])),
            cursor_of("deliveries", found[limit - 1].number) if more else None,
        )

    def delivery_attempts(self, delivery: Delivery, *, limit: int = 100) -> tuple[Attempt, ...]:
        column = _attempts.c
        query = select(_attempts).where(column.delivery_number == delivery.number)
        with self._database.reading() as connection:
            found = connection.execute(query.order_by(column.number.desc()).limit(limit)).all()
        return tuple(
            Attempt(
                attempt=row.attempt,
                at_us=row.at_us,
                duration_us=row.duration_us,
                target=row.target,
                request_headers=from_json(row.request_headers),
                status=row.status,
                answer_headers=from_json(row.answer_headers),
                answer=row.answer,
                error=row.error,
                detail=row.detail,
            )
            for row in reversed(found)
        )

    def resend_delivery(
        self,
        tenant: str,
        name: str,
        *,
        owners: Collection[str] | None = None,
        actor: Actor = SYSTEM,
        now_us: int,
    ) -> Delivery:
        with self._database.changing(actor, now_us) as change:
            connection = change.connection
            present = _get(connection, tenant, name, owners)
            query = select(_channels).where(_channels.c.number == present.channel_number)
            row = connection.execute(query).one_or_none()
            if row is None:
                raise Conflict(f"The channel {present.channel!r} is deleted.", code=DELETED)
            if not channel_of(row).sends:
                raise Conflict(
                    f"The channel {present.channel!r} is disabled. Enable it (PUT /v1/channels) first.",
                    code=DISABLED,
                )
            values = {
                "status": "pending",
                "due_at_us": now_us,
                "retries": 0,
                "claim": present.claim + 1,
                "finished_at_us": None,
            }
            connection.execute(update(_table).where(_column.number == present.number).values(**values))
            change.record(
                (), tenant, "delivery.resend", f"delivery/{name}", before={"status": present.status}
            )
            connection.info[ENQUEUED] = True
            return _get(connection, tenant, name, owners)

    # -- the worker's side --------------------------------------------------------------------------------------
    def take_deliveries(
        self,
        busy: Mapping[int, int],
        slots: Callable[[Channel], int],
        *,
        until_us: int,
        limit: int,
        now_us: int,
    ) -> Taken:
        next_due_us: int | None = None
        wanted: list[tuple[Row[Any], Channel]] = []
        with self._database.reading() as connection:
            for row in connection.execute(_CHANNELS_DUE).all():
                if row.due_at_us is None:
                    continue
                if row.due_at_us > now_us:
                    next_due_us = min(next_due_us or row.due_at_us, row.due_at_us)
                    continue
                channel = channel_of(row)
                free = min(slots(channel) - busy.get(channel.number, 0), limit - len(wanted))
                if free > 0:
                    found = connection.execute(_due_of(channel, free, now_us)).all()
                    wanted.extend((delivery, channel) for delivery in found if delivery.due_at_us <= now_us)
        taken: list[tuple[Delivery, Channel]] = []
        if wanted:
            with self._database.writing() as connection:
                for row, channel in wanted:
                    claimed = connection.execute(_take(row, until_us, now_us)).one_or_none()
                    if claimed is not None:
                        taken.append((_delivery(claimed), channel))
        return Taken(tuple(taken), next_due_us)

    def finish_delivery(self, delivery: Delivery, attempt: Attempt, verdict: Verdict, *, now_us: int) -> bool:
        return self.finish_deliveries([Finished(delivery, attempt, verdict)], now_us=now_us)[0]

    def finish_deliveries(self, finished: Sequence[Finished], *, now_us: int) -> list[bool]:
        written: dict[int, bool] = {}
        plain = [index for index, one in enumerate(finished) if one.verdict.disable is None]
        if plain:
            with self._database.writing() as connection:
                for index in plain:
                    written[index] = _finish(connection, finished[index], now_us=now_us)
        for index, one in enumerate(finished):
            if index not in written:
                with self._database.changing(SYSTEM, now_us) as change:
                    written[index] = _finish(change.connection, one, now_us=now_us, change=change)
        return [written[index] for index in range(len(finished))]

    def give_back_deliveries(self, deliveries: Sequence[Delivery], *, now_us: int) -> None:
        with self._database.writing() as connection:
            for one in deliveries:
                mine = and_(_column.claim == one.claim, _column.status == "pending")
                connection.execute(
                    update(_table).where(_column.number == one.number, mine).values(due_at_us=now_us)
                )

    def forget_deliveries(self, before_us: int, *, limit: int = 1000) -> int:
        old = (
            select(_column.number)
            .where(_column.finished_at_us < before_us, _column.status != "pending")
            .order_by(_column.finished_at_us)
            .limit(limit)
        )
        with self._database.writing() as connection:
            numbers = list(connection.execute(old).scalars())
            if numbers:
                connection.execute(delete(_attempts).where(_attempts.c.delivery_number.in_(numbers)))
                connection.execute(delete(_table).where(_column.number.in_(numbers)))
        return len(numbers)

    def delivery_backlog(self) -> int:
        channel = _channels.c
        mine = and_(_column.channel_number == channel.number, _column.status == "pending")
        query = select(func.count()).select_from(_channels.join(_table, mine))
        with self._database.reading() as connection:
            return connection.execute(query).scalar_one()


_earliest = (
    select(func.min(_column.due_at_us))
    .where(_column.channel_number == _channels.c.number, _column.status == "pending")
    .scalar_subquery()
)
_tenants = tables.tenants.c
_CHANNELS_DUE = (
    # An index look-up a channel, however much waits for it.
    select(_channels, _earliest.label("due_at_us"))
    .join(tables.tenants, and_(_tenants.key == _channels.c.tenant, _tenants.deleted_at_us.is_(None)))
    .where(_channels.c.disabled_reason.is_(None))
    .order_by(_channels.c.number)
)


def _due_of(channel: Channel, free: int, now_us: int) -> Select[Any]:
    """Which deliveries of a channel may go now. Of an ordered one: the first that is pending, and none while it is under
    way or waits for its next attempt."""
    query = select(_table).where(_column.channel_number == channel.number, _column.status == "pending")
    if channel.setup.ordered:
        return query.order_by(_column.number).limit(1)
    return query.where(_column.due_at_us <= now_us).order_by(_column.due_at_us, _column.number).limit(free)


def _take(row: Row[Any], until_us: int, now_us: int) -> Any:
    return (
        update(_table)
        .where(
            _column.number == row.number,
            _column.claim == row.claim,
            _column.status == "pending",
            _column.due_at_us <= now_us,
        )
        .values(claim=_column.claim + 1, due_at_us=until_us, attempts=_column.attempts + 1)
        .returning(_table)
    )


def _finish(connection: Connection, finished: Finished, *, now_us: int, change: Change | None = None) -> bool:
    delivery, attempt, verdict = finished.delivery, finished.attempt, finished.verdict
    pending = verdict.status == "pending"
    changed = connection.execute(
        update(_table)
        .where(_column.number == delivery.number, _column.claim == delivery.claim)
        .values(
            status=verdict.status,
            due_at_us=verdict.due_at_us if pending else _column.due_at_us,
            retries=case((literal(pending), _column.retries + 1), else_=_column.retries),
            last_status=attempt.status,
            last_error=attempt.error,
            finished_at_us=None if pending else now_us,
        )
    )
    if changed.rowcount != 1:
        return False
    connection.execute(
        insert(_attempts),
        {
            "delivery_number": delivery.number,
            "attempt": attempt.attempt,
            "at_us": attempt.at_us,
            "duration_us": attempt.duration_us,
            "target": attempt.target,
            "request_headers": to_json(attempt.request_headers),
            "status": attempt.status,
            "answer_headers": to_json(attempt.answer_headers),
            "answer": attempt.answer,
            "error": attempt.error,
            "detail": attempt.detail,
        },
    )
    if change is not None and verdict.disable is not None:
        disable(change, delivery.channel_number, verdict.disable)
    return True


def _get(connection: Connection, tenant: str, name: str, owners: Collection[str] | None) -> Delivery:
    row = connection.execute(select(_table).where(_column.tenant == tenant, _column.id == name)).one_or_none()
    if row is None or (owners is not None and row.owner not in owners):
        raise NotFound(
            f"There is no delivery {name[:80]!r}. GET /v1/deliveries lists them.", code="delivery_not_found"
        )
    return _delivery(row)


_DELIVERY_NAMES = tuple(Delivery.__dataclass_fields__)


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(**{name: getattr(row, name) for name in _DELIVERY_NAMES})
