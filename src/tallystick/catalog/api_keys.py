"""API keys: what they may do, until when, and what happened to them. How secrets are kept: secret.py."""

import hmac
from collections.abc import Callable, Collection
from typing import Any

from msgspec import UNSET
from sqlalchemy import Connection, Row, bindparam, insert, null, or_, select, update

from tallystick.catalog import tables
from tallystick.catalog.cursor import checked_limit, cursor_of, number_of
from tallystick.catalog.database import Change, Database, from_json, to_json
from tallystick.catalog.interface import (
    DEFAULT_TENANT,
    SYSTEM,
    Actor,
    ApiKey,
    ApiKeyChange,
    Caller,
    NewApiKey,
    Page,
)
from tallystick.catalog.scopes import check_key, expanded, in_order
from tallystick.catalog.secret import SECRET_CHARACTERS_MAX, digest_of, new_id, new_secret
from tallystick.catalog.tokens import SECRET_MARKS, authenticate_token
from tallystick.errors import Conflict, Invalid, NotFound

_USED_PER_CALL_MAX = 10_000
_MARK = "tsk"
_TOKEN_MARKS = tuple(f"{mark}_" for mark in SECRET_MARKS.values())
_CONFIGURED_PREFIX = "configured"
"""A configured key may be short: no part of it is shown."""

_key = tables.api_keys.c
_COLUMNS = (
    _key.number,
    _key.id,
    _key.tenant,
    _key.name,
    _key.prefix,
    _key.scopes,
    _key.created_at_us,
    _key.expires_at_us,
    _key.revoked_at_us,
    _key.configured,
    _key.last_used_at_us,
    _key.previous_until_us,
)
_IN_FORCE = (
    select(
        _key.tenant,
        _key.scopes,
        _key.id,
        _key.name,
        _key.expires_at_us,
        tables.tenants.c.suspended_at_us,
    )
    .select_from(tables.api_keys.join(tables.tenants, tables.tenants.c.key == _key.tenant))
    .where(_key.revoked_at_us.is_(None), tables.tenants.c.deleted_at_us.is_(None))
)
_AUTHENTICATE = _IN_FORCE.add_columns(_key.digest, null()).where(_key.digest == bindparam("digest"))
_AUTHENTICATE_PREVIOUS = _IN_FORCE.add_columns(_key.previous_digest, _key.previous_until_us).where(
    _key.previous_digest == bindparam("digest")
)


class ApiKeys:
    """The part of the catalog that keeps API keys."""

    _database: Database

    def authenticate(self, secret: str, *, now_us: int) -> Caller | None:
        if not 1 <= len(secret) <= SECRET_CHARACTERS_MAX:
            return None
        digest = digest_of(secret)
        with self._database.reading() as connection:
            if secret.startswith(_TOKEN_MARKS):
                found = authenticate_token(connection, secret, now_us=now_us)
                # A configured key may begin like a token.
                if found is not None:
                    return found
            row = connection.execute(_AUTHENTICATE, {"digest": digest}).one_or_none()
            if row is None:
                row = connection.execute(_AUTHENTICATE_PREVIOUS, {"digest": digest}).one_or_none()
        if row is None:
            return None
        tenant, scopes, key_id, name, expires_at_us, suspended_at_us, stored_digest, previous_until_us = row
        if not hmac.compare_digest(stored_digest, digest):
            return None
        ends = [end for end in (expires_at_us, previous_until_us) if end is not None]
        ends_at_us = min(ends) if ends else None
        if ends_at_us is not None and now_us >= ends_at_us:
            return None
        return Caller(
            tenant,
            expanded(from_json(scopes)),
            key_id,
            name,
            expires_at_us=ends_at_us,
            suspended=suspended_at_us is not None,
        )

    def ensure_admin_key(self, configured: str | None, *, now_us: int) -> str | None:
        if configured:
            self._configure(configured, now_us)
            return None
        with self._database.changing(SYSTEM, now_us) as change:
            query = select(_key.scopes, _key.expires_at_us).where(
                _key.tenant == DEFAULT_TENANT, _key.revoked_at_us.is_(None)
            )
            for scopes, expires_at_us in change.connection.execute(query):
                if "admin" in from_json(scopes) and (expires_at_us is None or now_us < expires_at_us):
                    return None
            made = insert_api_key(change, DEFAULT_TENANT, name="admin", scopes=("admin",), expires_at_us=None)
        return made.secret

    def _configure(self, secret: str, now_us: int) -> None:
        if len(secret) > SECRET_CHARACTERS_MAX:
            raise Invalid(
                f"The setting admin_key has more than {SECRET_CHARACTERS_MAX} characters.",
                code="invalid_setting",
            )
        digest = digest_of(secret)
        in_force = (_key.configured.is_(True), _key.revoked_at_us.is_(None))
        with self._database.changing(SYSTEM, now_us) as change:
            found = change.connection.execute(select(_key.digest).where(*in_force)).scalars().all()
            if found == [digest]:
                return
            change.connection.execute(
                update(tables.api_keys).where(*in_force, _key.digest != digest).values(revoked_at_us=now_us)
            )
            values = {
                "tenant": DEFAULT_TENANT,
                "name": "admin_key",
                "prefix": _CONFIGURED_PREFIX,
                "scopes": to_json(["admin"]),
                "configured": True,
                "expires_at_us": None,
                "revoked_at_us": None,
            }
            # The same secret may have been configured, or made here, before.
            taken_over = change.connection.execute(
                update(tables.api_keys).where(_key.digest == digest).values(**values)
            )
            if taken_over.rowcount == 0:
                change.connection.execute(
                    insert(tables.api_keys),
                    {**values, "id": new_id("key"), "digest": digest, "created_at_us": now_us},
                )
            change.record(("keys",), DEFAULT_TENANT, "api_key.configure", "api_key/configured")

    def create_api_key(
        self,
        tenant: str,
        *,
        name: str,
        scopes: Collection[str],
        expires_at_us: int | None,
        actor: Actor,
        now_us: int,
    ) -> NewApiKey:
        check_key(name, scopes, expires_at_us, now_us)
        granted = in_order(scopes)
        with self._database.changing(actor, now_us) as change:
            return insert_api_key(change, tenant, name=name, scopes=granted, expires_at_us=expires_at_us)

    def api_keys(self, tenant: str, *, cursor: str | None = None, limit: int = 100) -> Page[ApiKey]:
        query = select(*_COLUMNS).where(_key.tenant == tenant).order_by(_key.number)
        after = number_of(cursor, "api_keys")
        if after is not None:
            query = query.where(_key.number > after)
        with self._database.reading() as connection:
            rows = connection.execute(query.limit(checked_limit(limit) + 1)).all()
        more = len(rows) > limit
        return Page(
            tuple(_api_key(row) for row in rows[:limit]),
            cursor_of("api_keys", rows[limit - 1].number) if more else None,
        )

    def api_key(self, tenant: str, key_id: str) -> ApiKey:
        with self._database.reading() as connection:
            return _get(connection, tenant, key_id)

    def change_api_key(
        self,
        tenant: str,
        key_id: str,
        change: ApiKeyChange,
        *,
        expected: Callable[[ApiKey], None] | None = None,
        actor: Actor,
        now_us: int,
    ) -> ApiKey:
        with self._database.changing(actor, now_us) as transaction:
            present = _changeable(transaction.connection, tenant, key_id, in_force=True)
            if expected is not None:
                expected(present)
            name = present.name if change.name is UNSET else change.name
            scopes = present.scopes if change.scopes is UNSET else change.scopes
            expires_at_us = present.expires_at_us if change.expires_at_us is UNSET else change.expires_at_us
            # An expiry that has passed may stay while something else changes.
            check_key(name, scopes, None if change.expires_at_us is UNSET else expires_at_us, now_us)
            values = {"name": name, "scopes": to_json(in_order(scopes)), "expires_at_us": expires_at_us}
            if values == {
                "name": present.name,
                "scopes": to_json(present.scopes),
                "expires_at_us": present.expires_at_us,
            }:
                return present
            transaction.connection.execute(update(tables.api_keys).where(_key.id == key_id).values(**values))
            changed = _get(transaction.connection, tenant, key_id)
            _record(transaction, "api_key.change", present, changed)
        return changed

    def rotate_api_key(
        self, tenant: str, key_id: str, *, overlap_us: int = 0, actor: Actor, now_us: int
    ) -> NewApiKey:
        with self._database.changing(actor, now_us) as change:
            present = _changeable(change.connection, tenant, key_id, in_force=True)
            prefix, secret = new_secret(_MARK)
            previous = _key.digest if overlap_us > 0 else null()
            change.connection.execute(
                update(tables.api_keys)
                .where(_key.id == key_id)
                .values(
                    prefix=prefix,
                    digest=digest_of(secret),
                    previous_digest=previous,
                    previous_until_us=now_us + overlap_us if overlap_us > 0 else None,
                )
            )
            rotated = _get(change.connection, tenant, key_id)
            _record(change, "api_key.rotate", present, rotated)
        return NewApiKey(rotated, secret)

    def note_used(self, key_ids: Collection[str], *, at_us: int) -> None:
        rows = [{"used_id": key_id, "at_us": at_us} for key_id in list(key_ids)[:_USED_PER_CALL_MAX]]
        if not rows:
            return
        with self._database.writing() as connection:
            # An id tells which it is; of the other table it names nothing.
            for table in (tables.api_keys, tables.tokens):
                later = or_(table.c.last_used_at_us.is_(None), table.c.last_used_at_us < bindparam("at_us"))
                connection.execute(
                    update(table)
                    .where(table.c.id == bindparam("used_id"), later)
                    .values(last_used_at_us=bindparam("at_us")),
                    rows,
                )

    def revoke_api_key(self, tenant: str, key_id: str, *, actor: Actor, now_us: int) -> ApiKey:
        with self._database.changing(actor, now_us) as change:
            present = _changeable(change.connection, tenant, key_id)
            if present.revoked_at_us is not None:
                return present
            change.connection.execute(
                update(tables.api_keys).where(_key.id == key_id).values(revoked_at_us=now_us)
            )
            revoked = _get(change.connection, tenant, key_id)
            _record(change, "api_key.revoke", present, revoked)
        return revoked


def insert_api_key(
    change: Change, tenant: str, *, name: str, scopes: tuple[str, ...], expires_at_us: int | None
) -> NewApiKey:
    """Make a key within a change: tenants are created together with their first one."""
    prefix, secret = new_secret(_MARK)
    key_id = new_id("key")
    change.connection.execute(
        insert(tables.api_keys),
        {
            "id": key_id,
            "tenant": tenant,
            "name": name,
            "prefix": prefix,
            "digest": digest_of(secret),
            "scopes": to_json(scopes),
            "configured": False,
            "created_at_us": change.now_us,
            "expires_at_us": expires_at_us,
        },
    )
    made = _get(change.connection, tenant, key_id)
    _record(change, "api_key.create", None, made)
    return NewApiKey(made, secret)


def _get(connection: Connection, tenant: str, key_id: str) -> ApiKey:
    row = connection.execute(select(*_COLUMNS).where(_key.tenant == tenant, _key.id == key_id)).one_or_none()
    if row is None:
        raise NotFound(
            f"There is no API key {key_id!r}. GET /v1/api_keys lists them.", code="api_key_not_found"
        )
    return _api_key(row)


def _changeable(connection: Connection, tenant: str, key_id: str, *, in_force: bool = False) -> ApiKey:
    found = _get(connection, tenant, key_id)
    if found.configured:
        raise Conflict(
            f"API key {key_id!r} comes from the setting admin_key. Change it there and start again.",
            code="api_key_configured",
        )
    if in_force and found.revoked_at_us is not None:
        raise Conflict(f"API key {key_id!r} is revoked. Create a new one.", code="api_key_revoked")
    return found


def _api_key(row: Row[*tuple[Any, ...]]) -> ApiKey:
    _, key_id, tenant, name, prefix, scopes, *rest = row
    created_at_us, expires_at_us, revoked_at_us, configured, last_used_at_us, previous_until_us = rest
    return ApiKey(
        id=key_id,
        tenant=tenant,
        name=name,
        prefix=prefix,
        scopes=tuple(from_json(scopes)),
        created_at_us=created_at_us,
        expires_at_us=expires_at_us,
        revoked_at_us=revoked_at_us,
        configured=configured,
        last_used_at_us=last_used_at_us,
        previous_until_us=previous_until_us,
    )


def _record(change: Change, action: str, before: ApiKey | None, after: ApiKey) -> None:
    change.record(
        ("keys",),
        after.tenant,
        action,
        f"api_key/{after.id}",
        before=None if before is None else _audited(before),
        after=_audited(after),
    )


def _audited(key: ApiKey) -> dict[str, Any]:
    return {
        "name": key.name,
        "prefix": key.prefix,
        "scopes": key.scopes,
        "expires_at_us": key.expires_at_us,
        "revoked_at_us": key.revoked_at_us,
        "previous_until_us": key.previous_until_us,
    }
