"""Tenants: whose configuration and whose events these are."""

import re

from sqlalchemy import Connection, insert, select, update

from tallystick.catalog import tables
from tallystick.catalog.api_keys import insert_api_key
from tallystick.catalog.cursor import checked_limit, cursor_of, key_of
from tallystick.catalog.database import Database
from tallystick.catalog.interface import DEFAULT_TENANT, Actor, NewApiKey, Page, Tenant
from tallystick.errors import Conflict, Fault, Invalid, NotFound

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}\Z")
_NAME_CHARACTERS_MAX = 256
_column = tables.tenants.c


class Tenants:
    """The part of the catalog that keeps tenants."""

    _database: Database

    def create_tenant(self, key: str, name: str, *, actor: Actor, now_us: int) -> tuple[Tenant, NewApiKey]:
        _check(key, name)
        with self._database.changing(actor, now_us) as change:
            known = change.connection.execute(select(_column.key).where(_column.key == key)).one_or_none()
            if known is not None:
                raise Conflict(
                    f"There is, or was, a tenant {key!r}. Choose another key.", code="tenant_exists"
                )
            change.connection.execute(
                insert(tables.tenants), {"key": key, "name": name, "created_at_us": now_us}
            )
            change.record(("keys",), key, "tenant.create", f"tenant/{key}", after={"name": name})
            admin_key = insert_api_key(change, key, name="admin", scopes=("admin",), expires_at_us=None)
        return Tenant(key, name, now_us), admin_key

    def tenants(self, *, cursor: str | None = None, limit: int = 100) -> Page[Tenant]:
        query = (
            select(_column.key, _column.name, _column.created_at_us)
            .where(_column.deleted_at_us.is_(None))
            .order_by(_column.key)
            .limit(checked_limit(limit) + 1)
        )
        after = key_of(cursor, "tenants")
        if after is not None:
            query = query.where(_column.key > after)
        with self._database.reading() as connection:
            found = [Tenant(*row) for row in connection.execute(query)]
        more = len(found) > limit
        return Page(tuple(found[:limit]), cursor_of("tenants", found[limit - 1].key) if more else None)

    def delete_tenant(self, key: str, *, actor: Actor, now_us: int) -> None:
        if key == DEFAULT_TENANT:
            raise Conflict("The tenant 'default' cannot be deleted.", code="tenant_default")
        with self._database.changing(actor, now_us) as change:
            name = _name(change.connection, key)
            change.connection.execute(
                update(tables.tenants).where(_column.key == key).values(deleted_at_us=now_us)
            )
            change.record(("keys", "meters"), key, "tenant.delete", f"tenant/{key}", before={"name": name})


def _name(connection: Connection, key: str) -> str:
    query = select(_column.name).where(_column.key == key, _column.deleted_at_us.is_(None))
    name = connection.execute(query).scalar_one_or_none()
    if name is None:
        raise NotFound(f"There is no tenant {key!r}.", code="tenant_not_found")
    return name


def _check(key: str, name: str) -> None:
    faults: list[Fault] = []
    if not _KEY.match(key):
        faults.append(
            Fault(
                "/key",
                "invalid_key",
                "A tenant's key begins with a letter or digit and has at most 128 letters, digits and _ . : -",
            )
        )
    if not 1 <= len(name) <= _NAME_CHARACTERS_MAX:
        faults.append(Fault("/name", "invalid_name", f"A name has 1 to {_NAME_CHARACTERS_MAX} characters."))
    if faults:
        raise Invalid(" ".join(fault.detail for fault in faults), faults=faults)
