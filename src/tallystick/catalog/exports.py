"""Continuous exports: where they go, and how far they are."""

from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from tallystick.catalog import billing_tables, export_tables, tables
from tallystick.catalog.cursor import checked_limit, cursor_of, key_of
from tallystick.catalog.database import Database
from tallystick.catalog.exporting import (
    EXPORTS_PER_TENANT_MAX,
    ExportSetup,
    ExportState,
    InvoiceChange,
    InvoicePlace,
    KeptExport,
)
from tallystick.catalog.interface import Actor, Page
from tallystick.catalog.invoice_rows import invoice_of, read_invoice
from tallystick.errors import Conflict, NotFound

_table = export_tables.exports
_column = _table.c
_invoices = billing_tables.invoices
_audit = tables.audit.c
_VOID = "invoice.void"


class Exports:
    """The part of the catalog that keeps continuous exports."""

    _database: Database

    def create_export(
        self, tenant: str, key: str, setup: ExportSetup, *, name: str, actor: Actor, now_us: int
    ) -> KeptExport:
        with self._database.changing(actor, now_us) as change:
            connection = change.connection
            if _find(connection, tenant, key) is not None:
                raise Conflict(f"There is an export {key!r} already.", code="export_exists")
            count = select(func.count()).select_from(_table).where(_column.tenant == tenant)
            if connection.execute(count).scalar_one() >= EXPORTS_PER_TENANT_MAX:
                detail = (
                    f"A tenant has at most {EXPORTS_PER_TENANT_MAX} exports. Delete one that is not used."
                )
                raise Conflict(detail, code="too_many_exports")
            connection.execute(
                insert(_table),
                {
                    "tenant": tenant,
                    "key": key,
                    "id": name,
                    **_set(setup),
                    "state": _text(ExportState()),
                    "version": 1,
                    "due_at_us": now_us,
                    "created_at_us": now_us,
                    "changed_at_us": now_us,
                },
            )
            made = _get(connection, tenant, key)
            change.record((), tenant, "export.create", f"export/{key}", after=msgspec.to_builtins(setup))
        return made

    def change_export(
        self,
        tenant: str,
        key: str,
        change: Callable[[KeptExport], ExportSetup],
        *,
        actor: Actor,
        now_us: int,
    ) -> KeptExport:
        with self._database.changing(actor, now_us) as changing:
            present = _get(changing.connection, tenant, key)
            wanted = change(present)
            if wanted == present.setup:
                return present
            changing.connection.execute(
                update(_table)
                .where(_column.tenant == tenant, _column.key == key)
                .values(**_set(wanted), due_at_us=now_us, changed_at_us=now_us, version=_column.version + 1)
            )
            made = _get(changing.connection, tenant, key)
            changing.record(
                (),
                tenant,
                "export.change",
                f"export/{key}",
                before=msgspec.to_builtins(present.setup),
                after=msgspec.to_builtins(wanted),
            )
        return made

    def delete_export(
        self,
        tenant: str,
        key: str,
        *,
        expected: Callable[[KeptExport], None] = lambda present: None,
        actor: Actor,
        now_us: int,
    ) -> None:
        with self._database.changing(actor, now_us) as change:
            present = _get(change.connection, tenant, key)
            expected(present)
            change.connection.execute(delete(_table).where(_column.tenant == tenant, _column.key == key))
            before = msgspec.to_builtins(present.setup)
            change.record((), tenant, "export.delete", f"export/{key}", before=before)

    def export(self, tenant: str, key: str) -> KeptExport:
        with self._database.reading() as connection:
            return _get(connection, tenant, key)

    def exports(self, tenant: str | None, *, cursor: str | None = None, limit: int = 100) -> Page[KeptExport]:
        query = select(_table).order_by(_column.tenant, _column.key)
        if tenant is not None:
            query = query.where(_column.tenant == tenant)
        after = key_of(cursor, "exports")
        if after is not None:
            query = query.where(_column.key > after)
        with self._database.reading() as connection:
            found = connection.execute(query.limit(checked_limit(limit) + 1)).all()
        more = len(found) > limit
        return Page(
            tuple(map(_export_of, found[:limit])),
            cursor_of("exports", found[limit - 1].key) if more and tenant is not None else None,
        )

    def hurry_export(self, tenant: str, key: str, *, now_us: int) -> KeptExport:
        with self._database.writing() as connection:
            _get(connection, tenant, key)
            connection.execute(
                update(_table)
                .where(_column.tenant == tenant, _column.key == key)
                .values(due_at_us=now_us, version=_column.version + 1)
            )
            return _get(connection, tenant, key)

    def due_exports(self, now_us: int, *, limit: int) -> list[KeptExport]:
        suspended = select(tables.tenants.c.key).where(
            tables.tenants.c.deleted_at_us.is_not(None) | tables.tenants.c.suspended_at_us.is_not(None)
        )
        query = (
            select(_table)
            .where(_column.due_at_us <= now_us, _column.paused.is_(False), _column.tenant.not_in(suspended))
            .order_by(_column.due_at_us)
            .limit(limit)
        )
        with self._database.reading() as connection:
            return [_export_of(row) for row in connection.execute(query)]

    def advance_export(self, present: KeptExport, state: ExportState, *, due_at_us: int) -> KeptExport | None:
        here = (_column.tenant == present.tenant, _column.key == present.key, _column.id == present.id)
        with self._database.writing() as connection:
            done = connection.execute(
                update(_table)
                .where(*here, _column.version == present.version)
                .values(state=_text(state), due_at_us=due_at_us, version=_column.version + 1)
            )
            return _find(connection, present.tenant, present.key) if done.rowcount else None

    def invoice_end(self, tenant: str) -> InvoicePlace:
        column = _invoices.c
        with self._database.reading() as connection:
            voided = select(func.max(_audit.number)).where(_audit.tenant == tenant, _audit.action == _VOID)
            last_void = connection.execute(voided).scalar_one()
            last = connection.execute(
                select(func.max(column.sequence)).where(column.tenant == tenant)
            ).scalar_one()
        return InvoicePlace(last or 0, last_void or 0)

    def invoice_changes(
        self, tenant: str, after: InvoicePlace, until: InvoicePlace, *, limit: int
    ) -> tuple[list[InvoiceChange], InvoicePlace]:
        """Numbers of invoices, and those of audit rows, are given one transaction at a time: neither ever appears behind a
        greater one that was read."""
        column = _invoices.c
        final = (
            select(_invoices)
            .where(
                column.tenant == tenant,
                column.sequence > after.sequence,
                column.sequence <= until.sequence,
            )
            .order_by(column.sequence)
            .limit(limit)
        )
        voided = (
            select(_audit.number, _audit.resource, _audit.at_us)
            .where(
                _audit.tenant == tenant,
                _audit.action == _VOID,
                _audit.number > after.voided,
                _audit.number <= until.voided,
            )
            .order_by(_audit.number)
            .limit(limit)
        )
        with self._database.reading() as connection:
            found = [invoice_of(row) for row in connection.execute(final)]
            if found:
                made = [InvoiceChange(one, 1, one.finalized_at_us or 0) for one in found]
                return made, InvoicePlace(found[-1].sequence or after.sequence, after.voided)
            place, made = InvoicePlace(until.sequence, after.voided), list[InvoiceChange]()
            for number, resource, at_us in connection.execute(voided).all():
                invoice = read_invoice(connection, tenant, resource.partition("/")[2])
                place = InvoicePlace(until.sequence, number)
                if invoice.sequence is not None and invoice.sequence <= until.sequence:
                    made.append(InvoiceChange(invoice, -1, at_us))
        return made, until if place.voided == after.voided else place


def _export_of(row: Row[Any]) -> KeptExport:
    return KeptExport(
        tenant=row.tenant,
        key=row.key,
        id=row.id,
        setup=msgspec.json.decode(row.content, type=ExportSetup),
        state=msgspec.json.decode(row.state, type=ExportState),
        version=row.version,
        due_at_us=row.due_at_us,
        created_at_us=row.created_at_us,
        changed_at_us=row.changed_at_us,
    )


def _set(setup: ExportSetup) -> dict[str, Any]:
    return {"content": _text(setup), "paused": setup.paused}


def _text(value: msgspec.Struct) -> str:
    return msgspec.json.encode(value).decode()


def _find(connection: Connection, tenant: str, key: str) -> KeptExport | None:
    row = connection.execute(select(_table).where(_column.tenant == tenant, _column.key == key)).one_or_none()
    return None if row is None else _export_of(row)


def _get(connection: Connection, tenant: str, key: str) -> KeptExport:
    found = _find(connection, tenant, key)
    if found is None:
        raise NotFound(f"There is no export {key!r}. GET /v1/exports lists them.", code="export_not_found")
    return found
