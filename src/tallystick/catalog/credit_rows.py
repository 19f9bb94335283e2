"""Grants of credits and the entries of their ledger, as rows."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from tallystick.billing import credit
from tallystick.billing.credit import Account, Entry, Holding, Kind
from tallystick.billing.grant import CreditUnit, Grant, read_grant
from tallystick.catalog import credit_tables, tables
from tallystick.catalog.crediting import KeptEntry, KeptGrant
from tallystick.catalog.database import from_json, to_json
from tallystick.errors import NotFound
from tallystick.money import ZERO, exactly, plain

_grants = credit_tables.credit_grants
_entries = credit_tables.credit_entries


def lock_customer(connection: Connection, tenant: str, customer: str) -> None:
    """One at a time a customer. (SQLite has one writer anyway.) Raises NotFound (customer_not_found)."""
    column = tables.customers.c
    found = connection.execute(
        select(column.key).where(column.tenant == tenant, column.key == customer).with_for_update()
    ).one_or_none()
    if found is None:
        raise NotFound(f"There is no customer {customer!r}.", code="customer_not_found")


def customer_of(connection: Connection, tenant: str, grant_id: str) -> str:
    query = select(_grants.c.customer).where(_grants.c.tenant == tenant, _grants.c.id == grant_id)
    found = connection.execute(query).scalar_one_or_none()
    if found is None:
        raise NotFound(f"There is no grant {grant_id!r}.", code="grant_not_found")
    return found


def insert_grant(connection: Connection, tenant: str, grant: Grant, *, topped_up: bool) -> None:
    connection.execute(
        insert(_grants),
        {
            "tenant": tenant,
            "id": grant.id,
            "customer": grant.customer,
            "unit": grant.unit.text(),
            "terms": to_json(grant.to_wire()),
            "topped_up": topped_up,
            "created_at_us": grant.created_us,
            "ended": False,
            "granted": "0",
            "consumed": "0",
            "expired": "0",
            "voided": "0",
        },
    )


def read_grants(connection: Connection, tenant: str, customer: str) -> dict[str, KeptGrant]:
    query = (
        select(_grants)
        .where(_grants.c.tenant == tenant, _grants.c.customer == customer)
        .order_by(_grants.c.number)
    )
    return {row.id: _kept(row) for row in connection.execute(query)}


def is_due(kept: KeptGrant, now_us: int) -> bool:
    next_us = kept.holding.next_us
    return kept.grant.unit.currency is not None and next_us is not None and next_us <= now_us


@exactly
def write_entries(
    connection: Connection,
    tenant: str,
    customer: str,
    held: dict[str, KeptGrant],
    *,
    holdings: Iterable[Holding],
    entries: Sequence[Entry],
    now_us: int,
) -> dict[str, KeptGrant]:
    """Keep holdings and the entries that made them so; all grants as they are then."""
    if entries:
        connection.execute(
            insert(_entries),
            [
                {
                    "tenant": tenant,
                    "customer": customer,
                    "unit": held[entry.grant].grant.unit.text(),
                    "grant": entry.grant,
                    "kind": entry.kind.value,
                    "at_us": entry.at_us,
                    "recorded_at_us": now_us,
                    "amount": plain(entry.amount),
                    "source": entry.source.value,
                    "target": entry.target.value,
                    "reference": entry.reference,
                    "line": entry.line,
                }
                for entry in entries
            ],
        )
    moved = credit.accounts(entries)
    made = dict(held)
    for holding in holdings:
        was = held[holding.grant.id]
        now = replace(
            was,
            holding=holding,
            granted=was.granted - moved.get((Account.GRANTED, holding.grant.id), ZERO),
            consumed=was.consumed + moved.get((Account.CONSUMED, holding.grant.id), ZERO),
            expired=was.expired + moved.get((Account.EXPIRED, holding.grant.id), ZERO),
            voided=was.voided + moved.get((Account.VOIDED, holding.grant.id), ZERO),
        )
        if now == was:
            continue
        made[holding.grant.id] = now
        connection.execute(
            update(_grants)
            .where(_grants.c.tenant == tenant, _grants.c.id == holding.grant.id)
            .values(
                settled_us=holding.settled_us,
                ended=holding.ended,
                granted=plain(now.granted),
                consumed=plain(now.consumed),
                expired=plain(now.expired),
                voided=plain(now.voided),
            )
        )
    return made


def entries_under(connection: Connection, tenant: str, reference: str) -> list[Entry]:
    query = (
        select(_entries)
        .where(_entries.c.tenant == tenant, _entries.c.reference == reference)
        .order_by(_entries.c.number)
    )
    return [entry_of(row).entry for row in connection.execute(query)]


def _kept(row: Row[Any]) -> KeptGrant:
    grant = read_grant(from_json(row.terms), grant_id=row.id, created_us=row.created_at_us)
    granted, consumed, expired, voided = map(Decimal, (row.granted, row.consumed, row.expired, row.voided))
    return KeptGrant(
        Holding(
            replace(grant, voided_us=row.voided_us),
            exactly(lambda: granted - consumed - expired - voided)(),
            row.settled_us,
            row.ended,
        ),
        granted,
        consumed,
        expired,
        voided,
        row.topped_up,
    )


def entry_of(row: Row[Any]) -> KeptEntry:
    entry = Entry(
        row.grant,
        Kind(row.kind),
        row.at_us,
        Decimal(row.amount),
        Account(row.source),
        Account(row.target),
        row.reference,
        row.line,
    )
    return KeptEntry(row.number, CreditUnit.of_text(row.unit), entry, row.recorded_at_us)
