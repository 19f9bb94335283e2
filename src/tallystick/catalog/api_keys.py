"""API keys: random secrets, kept as SHA-256 digests.

A plain digest is enough because a secret has 256 random bits: there is nothing to guess that a slow hash would have to
slow down, and one look-up by digest answers in microseconds. The look-up gives nothing away by its timing: whoever
varies a secret does not know what its digest varies to.
"""

import hashlib
import hmac
import secrets
from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from tallystick.catalog import tables
from tallystick.catalog.cursor import checked_limit, cursor_of, number_of
from tallystick.catalog.database import Change, Database, from_json, to_json
from tallystick.catalog.interface import (
    DEFAULT_TENANT,
    SCOPES,
    SYSTEM,
    Actor,
    ApiKey,
    Caller,
    NewApiKey,
    Page,
)
from tallystick.errors import Conflict, Fault, Invalid, NotFound

_NAME_CHARACTERS_MAX = 256
_SECRET_CHARACTERS_MAX = 1_024
_SECRET_BYTES = 32
_PREFIX_BYTES = 4
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
)
_AUTHENTICATE = (
    select(_key.tenant, _key.scopes, _key.id, _key.name, _key.expires_at_us, _key.digest)
    .select_from(tables.api_keys.join(tables.tenants, tables.tenants.c.key == _key.tenant))
    .where(
        _key.digest == bindparam("digest"),
        _key.revoked_at_us.is_(None),
        tables.tenants.c.deleted_at_us.is_(None),
    )
)


class ApiKeys:
    """The part of the catalog that keeps API keys."""

    _database: Database

    def authenticate(self, secret: str, *, now_us: int) -> Caller | None:
        if not 1 <= len(secret) <= _SECRET_CHARACTERS_MAX:
            return None
        digest = _digest(secret)
        with self._database.reading() as connection:
            row = connection.execute(_AUTHENTICATE, {"digest": digest}).one_or_none()
        if row is None:
            return None
        tenant, scopes, key_id, name, expires_at_us, stored_digest = row
        if not hmac.compare_digest(stored_digest, digest):
            return None
        if expires_at_us is not None and now_us >= expires_at_us:
            return None
        return Caller(tenant, frozenset(from_json(scopes)), key_id, name, expires_at_us=expires_at_us)

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
        if len(secret) > _SECRET_CHARACTERS_MAX:
            raise Invalid(
                f"The setting admin_key has more than {_SECRET_CHARACTERS_MAX} characters.",
                code="invalid_setting",
            )
        digest = _digest(secret)
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
                    {**values, "id": _new_id(), "digest": digest, "created_at_us": now_us},
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
        _check(name, scopes, expires_at_us, now_us)
        granted = tuple(scope for scope in SCOPES if scope in scopes)
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

    def rotate_api_key(self, tenant: str, key_id: str, *, actor: Actor, now_us: int) -> NewApiKey:
        with self._database.changing(actor, now_us) as change:
            present = _changeable(change.connection, tenant, key_id)
            if present.revoked_at_us is not None:
                raise Conflict(f"API key {key_id!r} is revoked. Create a new one.", code="api_key_revoked")
            prefix, secret = _new_secret()
            change.connection.execute(
                update(tables.api_keys).where(_key.id == key_id).values(prefix=prefix, digest=_digest(secret))
            )
            rotated = _get(change.connection, tenant, key_id)
            _record(change, "api_key.rotate", present, rotated)
        return NewApiKey(rotated, secret)

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
    prefix, secret = _new_secret()
    key_id = _new_id()
    change.connection.execute(
        insert(tables.api_keys),
        {
            "id": key_id,
            "tenant": tenant,
            "name": name,
            "prefix": prefix,
            "digest": _digest(secret),
            "scopes": to_json(scopes),
            "configured": False,
            "created_at_us": change.now_us,
            "expires_at_us": expires_at_us,
        },
    )
    made = _get(change.connection, tenant, key_id)
    _record(change, "api_key.create", None, made)
    return NewApiKey(made, secret)


def _new_id() -> str:
    return f"key_{secrets.token_hex(10)}"


def _new_secret() -> tuple[str, str]:
    """(prefix, secret): `tsk_<8 hex digits>` and that with `_<43 characters>` behind."""
    prefix = f"tsk_{secrets.token_hex(_PREFIX_BYTES)}"
    return prefix, f"{prefix}_{secrets.token_urlsafe(_SECRET_BYTES)}"


def _digest(secret: str) -> bytes:
    # A header can carry what no key has; a lone surrogate must find nothing rather than raise.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _get(connection: Connection, tenant: str, key_id: str) -> ApiKey:
    row = connection.execute(select(*_COLUMNS).where(_key.tenant == tenant, _key.id == key_id)).one_or_none()
    if row is None:
        raise NotFound(
            f"There is no API key {key_id!r}. GET /v1/api_keys lists them.", code="api_key_not_found"
        )
    return _api_key(row)


def _changeable(connection: Connection, tenant: str, key_id: str) -> ApiKey:
    found = _get(connection, tenant, key_id)
    if found.configured:
        raise Conflict(
            f"API key {key_id!r} comes from the setting admin_key. Change it there and start again.",
            code="api_key_configured",
        )
    return found


def _api_key(row: Row[*tuple[Any, ...]]) -> ApiKey:
    _, key_id, tenant, name, prefix, scopes, created_at_us, expires_at_us, revoked_at_us, configured = row
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
    }


def _check(name: str, scopes: Collection[str], expires_at_us: int | None, now_us: int) -> None:
    faults: list[Fault] = []
    if not 1 <= len(name) <= _NAME_CHARACTERS_MAX:
        faults.append(Fault("/name", "invalid_name", f"A name has 1 to {_NAME_CHARACTERS_MAX} characters."))
    if not scopes:
        faults.append(Fault("/scopes", "missing_scopes", "A key needs at least one scope."))
    for index, scope in enumerate(scopes):
        if scope not in SCOPES:
            known = ", ".join(SCOPES)
            faults.append(
                Fault(f"/scopes/{index}", "unknown_scope", f"There is no scope {scope[:40]!r}, but {known}.")
            )
        if len(faults) >= len(SCOPES):
            break
    if expires_at_us is not None and expires_at_us <= now_us:
        faults.append(Fault("/expires_at", "expires_in_past", "expires_at must lie in the future."))
    if faults:
        raise Invalid(" ".join(fault.detail for fault in faults), faults=faults)
