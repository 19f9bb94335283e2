"""`Idempotency-Key`: of the same request sent twice one runs, and both get its answer.

The primary key decides races: whoever's insert stands runs the request.
"""

from sqlalchemy import Delete, delete, insert, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from tallystick.catalog import tables
from tallystick.catalog.database import Database, from_json, to_json
from tallystick.catalog.interface import IdempotencyKey, StoredAnswer
from tallystick.errors import Conflict, Fault, Invalid

KEPT_US = 24 * 3600 * 1_000_000
RUNNING_US_MAX = 60 * 1_000_000
_FORGOTTEN_PER_CALL_MAX = 10_000
_KEY_CHARACTERS_MAX = 255
_column = tables.idempotency_keys.c


class IdempotencyKeys:
    """The part of the catalog that keeps answers for replays."""

    _database: Database

    def take_idempotent(
        self, idempotency: IdempotencyKey, request_hash: bytes, *, now_us: int
    ) -> StoredAnswer | None:
        _check(idempotency)
        values = {
            "tenant": idempotency.tenant,
            "key_id": idempotency.key_id,
            "route": idempotency.route,
            "key": idempotency.key,
            "request_hash": request_hash,
            "taken_at_us": now_us,
        }
        with self._database.writing() as connection:
            try:
                with connection.begin_nested():
                    connection.execute(insert(tables.idempotency_keys), values)
            except IntegrityError:
                pass
            else:
                return None
            present = connection.execute(
                select(
                    _column.request_hash, _column.taken_at_us, _column.status, _column.headers, _column.body
                )
                .where(*_this(idempotency))
                .with_for_update()
            ).one_or_none()
            # None: the other request released the key between our insert and our look.
            if present is None:
                raise _in_use()
            kept_us = RUNNING_US_MAX if present.status is None else KEPT_US
            if now_us - present.taken_at_us >= kept_us:
                connection.execute(_delete(idempotency))
                connection.execute(insert(tables.idempotency_keys), values)
                return None
        if present.request_hash != request_hash:
            detail = (
                "This Idempotency-Key came with another request before. Send a new key with a new request."
            )
            raise Invalid(
                detail,
                code="idempotency_key_reused",
                faults=[Fault("Idempotency-Key", "idempotency_key_reused", detail)],
            )
        if present.status is None:
            raise _in_use()
        headers = tuple((name, value) for name, value in from_json(present.headers))
        return StoredAnswer(present.status, headers, present.body)

    def finish_idempotent(self, idempotency: IdempotencyKey, answer: StoredAnswer, *, now_us: int) -> None:
        with self._database.writing() as connection:
            connection.execute(
                update(tables.idempotency_keys)
                .where(*_this(idempotency), _column.status.is_(None))
                .values(
                    status=answer.status,
                    headers=to_json(answer.headers),
                    body=answer.body,
                    taken_at_us=now_us,
                )
            )

    def release_idempotent(self, idempotency: IdempotencyKey) -> None:
        with self._database.writing() as connection:
            connection.execute(_delete(idempotency).where(_column.status.is_(None)))

    def forget_idempotent(self, *, now_us: int) -> int:
        primary_key = (_column.tenant, _column.key_id, _column.route, _column.key)
        old = (
            select(*primary_key)
            .where(_column.taken_at_us <= now_us - KEPT_US)
            .order_by(_column.taken_at_us)
            .limit(_FORGOTTEN_PER_CALL_MAX)
        )
        with self._database.writing() as connection:
            return connection.execute(
                delete(tables.idempotency_keys).where(tuple_(*primary_key).in_(old))
            ).rowcount


def _this(idempotency: IdempotencyKey):
    return (
        _column.tenant == idempotency.tenant,
        _column.key_id == idempotency.key_id,
        _column.route == idempotency.route,
        _column.key == idempotency.key,
    )


def _delete(idempotency: IdempotencyKey) -> Delete:
    return delete(tables.idempotency_keys).where(*_this(idempotency))


def _check(idempotency: IdempotencyKey) -> None:
    if not 1 <= len(idempotency.key) <= _KEY_CHARACTERS_MAX:
        detail = f"An Idempotency-Key has 1 to {_KEY_CHARACTERS_MAX} characters."
        raise Invalid(
            detail,
            code="invalid_idempotency_key",
            faults=[Fault("Idempotency-Key", "invalid_idempotency_key", detail)],
        )


def _in_use() -> Conflict:
    return Conflict(
        "The first request with this Idempotency-Key is still running. Try again shortly.",
        code="idempotency_key_in_use",
        retry_after_s=1,
    )
