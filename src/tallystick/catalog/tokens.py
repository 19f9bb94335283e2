"""Tokens: short-lived secrets of a customer (portal) or of a person who has logged in (session).

Kept like API keys (api_keys.py), as digests of random secrets. A token is never worth more than the key that made it: it
ends with that key's revocation. Making one is no change of the keys in force, so what is cached of those stays good.
"""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, insert, or_, select, update

from tallystick.catalog import tables
from tallystick.catalog.cursor import checked_limit, cursor_of, number_of
from tallystick.catalog.database import Change, Database, from_json, to_json
from tallystick.catalog.interface import Actor, Caller, NewToken, Page, Token, TokenKind
from tallystick.catalog.scopes import SCOPES, expanded, in_order
from tallystick.catalog.secret import digest_of, new_id, new_secret
from tallystick.errors import Fault, Invalid, NotFound

SECRET_MARKS: dict[TokenKind, str] = {"portal": "tpt", "session": "tss"}
_FORGOTTEN_AFTER_US = 24 * 3600 * 1_000_000
_FORGOTTEN_PER_CALL_MAX = 100

_token = tables.tokens.c
_key = tables.api_keys.c
_COLUMNS = (
    _token.number,
    _token.id,
    _token.tenant,
    _token.kind,
    _token.name,
    _token.customer,
    _token.scopes,
    _token.issued_by,
    _token.created_at_us,
    _token.expires_at_us,
    _token.revoked_at_us,
    _token.last_used_at_us,
)
_AUTHENTICATE = (
    select(
        _token.tenant,
        _token.scopes,
        _token.id,
        _token.name,
        _token.customer,
        _token.expires_at_us,
        tables.tenants.c.suspended_at_us,
    )
    .select_from(
        tables.tokens.join(tables.tenants, tables.tenants.c.key == _token.tenant).outerjoin(
            tables.api_keys, _key.id == _token.issued_by
        )
    )
    .where(
        _token.digest == bindparam("digest"),
        _token.expires_at_us > bindparam("now_us"),
        _token.revoked_at_us.is_(None),
        tables.tenants.c.deleted_at_us.is_(None),
        or_(_token.issued_by.is_(None), _key.revoked_at_us.is_(None)),
    )
)


class Tokens:
    """The part of the catalog that keeps tokens."""

    _database: Database

    def create_token(
        self,
        tenant: str,
        *,
        kind: TokenKind,
        name: str,
        customer: str | None,
        scopes: Collection[str],
        issued_by: str | None,
        expires_at_us: int,
        actor: Actor,
        now_us: int,
    ) -> NewToken:
        _check(scopes, expires_at_us, now_us)
        _, secret = new_secret(SECRET_MARKS[kind])
        token_id = new_id("tok")
        with self._database.changing(actor, now_us) as change:
            _check_tenant(change.connection, tenant)
            if customer is not None:
                _check_customer(change.connection, tenant, customer)
            _forget(change.connection, now_us)
            change.connection.execute(
                insert(tables.tokens),
                {
                    "id": token_id,
                    "tenant": tenant,
                    "kind": kind,
                    "name": name,
                    "customer": customer,
                    "digest": digest_of(secret),
                    "scopes": to_json(in_order(scopes)),
                    "issued_by": issued_by,
                    "created_at_us": now_us,
                    "expires_at_us": expires_at_us,
                },
            )
            made = _get(change.connection, tenant, token_id)
            _record(change, "create", None, made, ends=False)
        return NewToken(made, secret)

    def tokens(
        self,
        tenant: str,
        *,
        kind: TokenKind,
        customer: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
        now_us: int,
    ) -> Page[Token]:
        query = (
            select(*_COLUMNS)
            .where(_token.tenant == tenant, _token.kind == kind, _token.expires_at_us > now_us)
            .order_by(_token.number)
        )
        if customer is not None:
            query = query.where(_token.customer == customer)
        after = number_of(cursor, "tokens")
        if after is not None:
            query = query.where(_token.number > after)
        with self._database.reading() as connection:
            rows = connection.execute(query.limit(checked_limit(limit) + 1)).all()
        more = len(rows) > limit
        return Page(
            tuple(_made(row) for row in rows[:limit]),
            cursor_of("tokens", rows[limit - 1].number) if more else None,
        )

    def revoke_token(
        self, tenant: str, token_id: str, *, kind: TokenKind, actor: Actor, now_us: int
    ) -> Token:
        with self._database.changing(actor, now_us) as change:
            present = _get(change.connection, tenant, token_id, kind)
            if present.revoked_at_us is not None:
                return present
            change.connection.execute(
                update(tables.tokens).where(_token.id == token_id).values(revoked_at_us=now_us)
            )
            revoked = _get(change.connection, tenant, token_id)
            _record(change, "revoke", present, revoked, ends=True)
        return revoked


def authenticate_token(connection: Connection, secret: str, *, now_us: int) -> Caller | None:
    """Whom a token stands for; None: it is unknown, revoked or expired, or what it hangs on is."""
    row = connection.execute(_AUTHENTICATE, {"digest": digest_of(secret), "now_us": now_us}).one_or_none()
    if row is None:
        return None
    tenant, scopes, token_id, name, customer, expires_at_us, suspended_at_us = row
    return Caller(
        tenant,
        expanded(from_json(scopes)),
        token_id,
        name,
        customer,
        expires_at_us,
        suspended=suspended_at_us is not None,
    )


def _check_tenant(connection: Connection, tenant: str) -> None:
    column = tables.tenants.c
    query = select(column.key).where(column.key == tenant, column.deleted_at_us.is_(None))
    if connection.execute(query).one_or_none() is None:
        raise NotFound(f"There is no tenant {tenant[:80]!r}.", code="tenant_not_found")


def _check_customer(connection: Connection, tenant: str, customer: str) -> None:
    column = tables.customers.c
    query = select(column.key).where(column.tenant == tenant, column.key == customer)
    if connection.execute(query).one_or_none() is None:
        raise NotFound(f"There is no customer {customer[:80]!r}.", code="customer_not_found")


def _forget(connection: Connection, now_us: int) -> None:
    """Tokens that ended a day ago or more, some at a time: the table does not grow with the years."""
    old = (
        select(_token.number)
        .where(_token.expires_at_us <= now_us - _FORGOTTEN_AFTER_US)
        .order_by(_token.expires_at_us)
        .limit(_FORGOTTEN_PER_CALL_MAX)
    )
    connection.execute(delete(tables.tokens).where(_token.number.in_(old)))


def _get(connection: Connection, tenant: str, token_id: str, kind: TokenKind | None = None) -> Token:
    query = select(*_COLUMNS).where(_token.tenant == tenant, _token.id == token_id)
    row = connection.execute(query).one_or_none()
    if row is None or (kind is not None and row.kind != kind):
        raise NotFound(f"There is no token {token_id[:80]!r}.", code="token_not_found")
    return _made(row)


def _made(row: Row[*tuple[Any, ...]]) -> Token:
    _, token_id, tenant, kind, name, customer, scopes, issued_by, *times = row
    created_at_us, expires_at_us, revoked_at_us, last_used_at_us = times
    return Token(
        id=token_id,
        tenant=tenant,
        kind=kind,
        name=name,
        customer=customer,
        scopes=tuple(from_json(scopes)),
        issued_by=issued_by,
        created_at_us=created_at_us,
        expires_at_us=expires_at_us,
        revoked_at_us=revoked_at_us,
        last_used_at_us=last_used_at_us,
    )


def _record(change: Change, action: str, before: Token | None, after: Token, *, ends: bool) -> None:
    change.record(
        ("keys",) if ends else (),
        after.tenant,
        f"{after.kind}_token.{action}",
        f"{after.kind}_token/{after.id}",
        before=None if before is None else _audited(before),
        after=_audited(after),
    )


def _audited(token: Token) -> dict[str, Any]:
    return {
        "name": token.name,
        "customer": token.customer,
        "scopes": token.scopes,
        "issued_by": token.issued_by,
        "expires_at_us": token.expires_at_us,
        "revoked_at_us": token.revoked_at_us,
    }


def _check(scopes: Collection[str], expires_at_us: int, now_us: int) -> None:
    faults: list[Fault] = []
    if not scopes:
        faults.append(Fault("/scopes", "missing_scopes", "A token needs at least one scope."))
    unknown = sorted(set(scopes) - set(SCOPES))
    faults.extend(
        Fault("/scopes", "unknown_scope", f"There is no scope {scope[:40]!r}.") for scope in unknown[:20]
    )
    if expires_at_us <= now_us:
        faults.append(Fault("/ttl_seconds", "expires_in_past", "A token must end in the future."))
    if faults:
        raise Invalid(" ".join(fault.detail for fault in faults), faults=faults)
