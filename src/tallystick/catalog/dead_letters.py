"""Dead letters: what sources could not take, until somebody mends or discards it."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from tallystick.catalog import source_tables
from tallystick.catalog.cursor import checked_limit, cursor_of, number_of
from tallystick.catalog.database import Database
from tallystick.catalog.interface import Actor, Page
from tallystick.catalog.sources import ERROR_CHARACTERS_MAX, add_to_state, check_lease
from tallystick.catalog.sourcing import RAW_BYTES_MAX, DeadLetter, LetterSearch, NewLetter
from tallystick.errors import Conflict, NotFound

_table = source_tables.dead_letters
_column = _table.c
_AT_ONCE = 500
OVERDRAFT = 10
"""How many times as many letters as may be open are kept in all."""


class DeadLetters:
    """The part of the catalog that keeps dead letters."""

    _database: Database

    def put_dead_letters(
        self,
        number: int,
        lease: tuple[str, int],
        letters: Sequence[NewLetter],
        *,
        open_max: int,
        now_us: int,
    ) -> int:
        by_digest = {letter.digest: letter for letter in letters}
        with self._database.writing() as connection:
            check_lease(connection, lease)
            known: set[str] = set()
            digests = list(by_digest)
            for at in range(0, len(digests), _AT_ONCE):
                asked = _column.digest.in_(digests[at : at + _AT_ONCE])
                query = select(_column.digest).where(_column.source_number == number, asked)
                known.update(connection.execute(query).scalars())
            fresh = [digest for digest in digests if digest not in known]
            if not fresh:
                return 0
            open_now = connection.execute(_count(number, "open")).scalar_one()
            if open_now + len(fresh) > open_max:
                raise Conflict(
                    f"{open_now} dead letters of this source are open, and it may have {open_max}: retry or discard some.",
                    code="dead_letters_full",
                )
            of_source = source_tables.sources.c
            tenant, key = connection.execute(
                select(of_source.tenant, of_source.key).where(of_source.number == number)
            ).one()
            connection.execute(
                insert(_table),
                [
                    {
                        "tenant": tenant,
                        "source_number": number,
                        "source": key,
                        "digest": digest,
                        "place": by_digest[digest].place,
                        "form": by_digest[digest].form,
                        "raw": by_digest[digest].raw[:RAW_BYTES_MAX],
                        "truncated": len(by_digest[digest].raw) > RAW_BYTES_MAX,
                        "edited": False,
                        "code": by_digest[digest].code,
                        "detail": by_digest[digest].detail[:ERROR_CHARACTERS_MAX],
                        "identity": by_digest[digest].identity,
                        "status": "open",
                        "attempts": 0,
                        "created_at_us": now_us,
                        "changed_at_us": now_us,
                    }
                    for digest in fresh
                ],
            )
            add_to_state(connection, number, {}, 0, len(fresh), now_us)
            _forget_oldest(connection, number, keep=OVERDRAFT * open_max)
        return len(fresh)

    def dead_letters(
        self, tenant: str, search: LetterSearch, *, cursor: str | None = None, limit: int = 100
    ) -> Page[DeadLetter]:
        query = select(_table).where(_column.tenant == tenant).order_by(_column.number)
        if search.source is not None:
            query = query.where(_column.source == search.source)
        if search.status is not None:
            query = query.where(_column.status == search.status)
        if search.code is not None:
            query = query.where(_column.code == search.code)
        after = number_of(cursor, "dead_letters")
        if after is not None:
            query = query.where(_column.number > after)
        with self._database.reading() as connection:
            found = connection.execute(query.limit(checked_limit(limit) + 1)).all()
        more = len(found) > limit
        return Page(
            tuple(map(_letter, found[:limit])),
            cursor_of("dead_letters", found[limit - 1].number) if more else None,
        )

    def dead_letter(self, tenant: str, number: int) -> DeadLetter:
        with self._database.reading() as connection:
            return _get(connection, tenant, number)

    def edit_dead_letter(
        self,
        tenant: str,
        number: int,
        raw: bytes,
        *,
        expected: Callable[[DeadLetter], None] = lambda present: None,
        actor: Actor,
        now_us: int,
    ) -> DeadLetter:
        with self._database.changing(actor, now_us) as change:
            present = _get(change.connection, tenant, number)
            expected(present)
            if present.status != "open":
                raise Conflict(
                    f"The dead letter {number} is {present.status}: nothing of it can be changed.",
                    code="dead_letter_closed",
                )
            if raw == present.raw and not present.truncated:
                return present
            change.connection.execute(
                update(_table)
                .where(_column.number == number)
                .values(raw=raw, edited=True, truncated=False, changed_at_us=now_us)
            )
            change.record(
                (),
                tenant,
                "dead_letter.edit",
                f"dead_letter/{number}",
                before={"raw": present.raw[:1000].decode(errors="replace")},
                after={"raw": raw[:1000].decode(errors="replace")},
            )
            return _get(change.connection, tenant, number)

    def note_retried(
        self,
        tenant: str,
        number: int,
        *,
        event: tuple[str, str] | None,
        code: str = "",
        detail: str = "",
        now_us: int,
    ) -> DeadLetter:
        values: dict[str, Any] = {"attempts": _column.attempts + 1, "changed_at_us": now_us}
        if event is None:
            values |= {"code": code, "detail": detail[:ERROR_CHARACTERS_MAX]}
        else:
            values |= {"status": "retried", "event_source": event[0], "event_id": event[1]}
        with self._database.writing() as connection:
            where = (_column.tenant == tenant, _column.number == number)
            connection.execute(update(_table).where(*where, _column.status == "open").values(**values))
            return _get(connection, tenant, number)

    def discard_dead_letters(
        self, tenant: str, numbers: Collection[int], *, actor: Actor, now_us: int
    ) -> int:
        with self._database.changing(actor, now_us) as change:
            closed = 0
            listed = sorted(numbers)
            for at in range(0, len(listed), _AT_ONCE):
                closed += change.connection.execute(
                    update(_table)
                    .where(
                        _column.tenant == tenant,
                        _column.number.in_(listed[at : at + _AT_ONCE]),
                        _column.status == "open",
                    )
                    .values(status="discarded", changed_at_us=now_us)
                ).rowcount
            if closed:
                after = {"discarded": closed, "first": listed[:10]}
                change.record((), tenant, "dead_letters.discard", "dead_letters", after=after)
        return closed

    def close_letters_of(self, number: int, lease: tuple[str, int], place: str) -> list[tuple[str, str, str]]:
        where = (
            _column.source_number == number,
            _column.place.startswith(f"{place}#", autoescape=True),
        )
        with self._database.writing() as connection:
            check_lease(connection, lease)
            connection.execute(delete(_table).where(*where, _column.status == "open"))
            query = select(_column.digest, _column.event_source, _column.event_id).where(
                *where, _column.status == "retried"
            )
            return [(row.digest, row.event_source, row.event_id) for row in connection.execute(query)]

    def open_letters(self, numbers: Collection[int]) -> dict[int, int]:
        query = (
            select(_column.source_number, func.count())
            .where(_column.source_number.in_(list(numbers)), _column.status == "open")
            .group_by(_column.source_number)
        )
        with self._database.reading() as connection:
            return {number: count for number, count in connection.execute(query)}  # noqa: C416


def _count(number: int, status: str) -> Any:
    where = (_column.source_number == number, _column.status == status)
    return select(func.count()).select_from(_table).where(*where)


def _forget_oldest(connection: Connection, number: int, *, keep: int) -> None:
    """Let go of closed ones when there are too many."""
    where = (_column.source_number == number, _column.status != "open")
    bound = connection.execute(
        select(_column.number).where(*where).order_by(_column.number.desc()).offset(keep).limit(1)
    ).scalar_one_or_none()
    if bound is not None:
        connection.execute(delete(_table).where(*where, _column.number <= bound))


def _get(connection: Connection, tenant: str, number: int) -> DeadLetter:
    where = (_column.tenant == tenant, _column.number == number)
    row = connection.execute(select(_table).where(*where)).one_or_none()
    if row is None:
        raise NotFound(
            f"There is no dead letter {number}. GET /v1/dead_letters lists them.",
            code="dead_letter_not_found",
        )
    return _letter(row)


def _letter(row: Row[Any]) -> DeadLetter:
    return DeadLetter(
        number=row.number,
        tenant=row.tenant,
        source_number=row.source_number,
        source=row.source,
        place=row.place,
        form=row.form,
        raw=bytes(row.raw),
        truncated=row.truncated,
        edited=row.edited,
        code=row.code,
        detail=row.detail,
        identity=row.identity,
        status=row.status,
        attempts=row.attempts,
        created_at_us=row.created_at_us,
        changed_at_us=row.changed_at_us,
        event_source=row.event_source,
        event_id=row.event_id,
    )
