"""Grants of credits and their ledger. Whoever moves credits of a customer locks the customer's row first."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from tallystick.billing import credit
from tallystick.billing.credit import Account, Entry, Holding, Kind, Payable
from tallystick.billing.grant import CreditUnit, Grant, Source, read_grant
from tallystick.billing.top_up import TopUp, read_top_up
from tallystick.catalog import credit_tables, tables
from tallystick.catalog.billing_events import tell_credits
from tallystick.catalog.crediting import GRANTS_PER_CUSTOMER_MAX, KeptEntry, KeptGrant, Payment
from tallystick.catalog.cursor import checked_limit, cursor_of, number_of
from tallystick.catalog.database import Database, among, from_json, to_json
from tallystick.catalog.interface import Actor, Page
from tallystick.catalog.secret import new_id
from tallystick.errors import Conflict, NotFound
from tallystick.money import ZERO, exactly, minor_unit, plain

_grants = credit_tables.credit_grants
_entries = credit_tables.credit_entries
_rules = credit_tables.credit_top_ups


class Credits:
    """The part of the catalog that keeps credits."""

    _database: Database

    # -- grants -------------------------------------------------------------------------------------------------
    def grant_credits(self, tenant: str, grant: Grant, *, actor: Actor, now_us: int) -> KeptGrant:
        with self._database.changing(actor, now_us) as change:
            connection = change.connection
            lock_customer(connection, tenant, grant.customer)
            held = connection.execute(
                select(func.count())
                .select_from(_grants)
                .where(*_of(tenant, grant.customer), _grants.c.ended.is_(False))
            ).scalar_one()
            if held >= GRANTS_PER_CUSTOMER_MAX:
                raise Conflict(
                    f"A customer may have at most {GRANTS_PER_CUSTOMER_MAX} grants that have not ended.",
                    code="too_many_grants",
                )
            insert_grant(connection, tenant, grant, topped_up=False)
            change.record((), tenant, "credits.grant", f"credits/{grant.id}", after=grant.to_wire())
            settled = settle_customer(connection, tenant, grant.customer, now_us)
            return settled[grant.id]

    def void_credits(self, tenant: str, grant_id: str, *, actor: Actor, now_us: int) -> KeptGrant:
        with self._database.changing(actor, now_us) as change:
            connection = change.connection
            customer = _customer_of(connection, tenant, grant_id)
            lock_customer(connection, tenant, customer)
            kept = settle_customer(connection, tenant, customer, now_us)[grant_id]
            if kept.holding.ended or kept.grant.voided_us is not None:
                return kept
            connection.execute(
                update(_grants)
                .where(_grants.c.tenant == tenant, _grants.c.id == grant_id)
                .values(voided_us=now_us)
            )
            change.record(
                (),
                tenant,
                "credits.void",
                f"credits/{grant_id}",
                before={"balance": plain(kept.holding.balance)},
                after={"balance": "0"},
            )
            return settle_customer(connection, tenant, customer, now_us)[grant_id]

    def credit_grant(self, tenant: str, grant_id: str, *, now_us: int) -> KeptGrant:
        with self._database.reading() as connection:
            customer = _customer_of(connection, tenant, grant_id)
        return next(
            kept for kept in self.credit_grants(tenant, customer, now_us=now_us) if kept.grant.id == grant_id
        )

    def credit_grants(self, tenant: str, customer: str, *, now_us: int) -> tuple[KeptGrant, ...]:
        with self._database.reading() as connection:
            found = _read(connection, tenant, customer)
        if not any(_is_due(kept, now_us) for kept in found.values()):
            return tuple(found.values())
        with self._database.writing() as connection:
            lock_customer(connection, tenant, customer)
            return tuple(settle_customer(connection, tenant, customer, now_us).values())

    def customers_with_credits(self, tenant: str, customers: Collection[str], unit: CreditUnit) -> set[str]:
        with self._database.reading() as connection:
            return holders(connection, tenant, customers, unit)

    def credit_ledger(
        self,
        tenant: str,
        customer: str,
        *,
        unit: CreditUnit | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[KeptEntry]:
        column = _entries.c
        query = (
            select(_entries)
            .where(column.tenant == tenant, column.customer == customer)
            .order_by(column.number.desc())
        )
        if unit is not None:
            query = query.where(column.unit == unit.text())
        before = number_of(cursor, "credits")
        if before is not None:
            query = query.where(column.number < before)
        with self._database.reading() as connection:
            found = connection.execute(query.limit(checked_limit(limit) + 1)).all()
        more = len(found) > limit
        return Page(
            tuple(map(_kept_entry, found[:limit])),
            cursor_of("credits", found[limit - 1].number) if more else None,
        )

    # -- paying -------------------------------------------------------------------------------------------------
    @exactly
    def pay_with_credits(
        self,
        tenant: str,
        customer: str,
        currency: str,
        payables: Sequence[Payable],
        *,
        reference: str,
        now_us: int,
    ) -> Payment:
        with self._database.writing() as connection:
            return pay_within(
                connection, tenant, customer, currency, payables, reference=reference, now_us=now_us
            )

    @exactly
    def credits_paid(self, tenant: str, references: Collection[str]) -> dict[str, Decimal]:
        with self._database.reading() as connection:
            return paid_under(connection, tenant, references)

    @exactly
    def return_credits(self, tenant: str, reference: str, *, now_us: int) -> Decimal:
        with self._database.writing() as connection:
            return return_within(connection, tenant, reference, now_us=now_us)

    # -- automatic top-up ---------------------------------------------------------------------------------------
    def set_top_up(self, tenant: str, customer: str, rule: TopUp, *, actor: Actor, now_us: int) -> None:
        with self._database.changing(actor, now_us) as change:
            connection = change.connection
            lock_customer(connection, tenant, customer)
            content = to_json(rule.to_wire())
            here = _rule(tenant, customer, rule.unit)
            before = connection.execute(select(_rules.c.content).where(*here)).scalar_one_or_none()
            if before != content:
                connection.execute(delete(_rules).where(*here))
                connection.execute(
                    insert(_rules),
                    {"tenant": tenant, "customer": customer, "unit": rule.unit.text(), "content": content},
                )
                change.record(
                    (),
                    tenant,
                    "credits.top_up",
                    f"customer/{customer}",
                    before=None if before is None else from_json(before),
                    after=rule.to_wire(),
                )
            settle_customer(connection, tenant, customer, now_us)

    def delete_top_up(
        self, tenant: str, customer: str, unit: CreditUnit, *, actor: Actor, now_us: int
    ) -> None:
        with self._database.changing(actor, now_us) as change:
            here = _rule(tenant, customer, unit)
            before = change.connection.execute(select(_rules.c.content).where(*here)).scalar_one_or_none()
            if before is None:
                return
            change.connection.execute(delete(_rules).where(*here))
            change.record((), tenant, "credits.top_up", f"customer/{customer}", before=from_json(before))

    def top_ups(self, tenant: str, customer: str) -> tuple[TopUp, ...]:
        with self._database.reading() as connection:
            return _read_rules(connection, tenant, customer)


# -- within a transaction -------------------------------------------------------------------------------------------
def holders(connection: Connection, tenant: str, customers: Collection[str], unit: CreditUnit) -> set[str]:
    """Which of them have a grant in this unit that has not ended."""
    query = (
        select(_grants.c.customer)
        .where(
            _grants.c.tenant == tenant,
            _grants.c.unit == unit.text(),
            _grants.c.ended.is_(False),
            among(connection, _grants.c.customer, customers),
        )
        .distinct()
    )
    return set(connection.execute(query).scalars())


@exactly
def pay_within(
    connection: Connection,
    tenant: str,
    customer: str,
    currency: str,
    payables: Sequence[Payable],
    *,
    reference: str,
    now_us: int,
) -> Payment:
    """`CreditCatalog.pay_with_credits`, as a part of a larger transaction."""
    unit = CreditUnit(currency=currency)
    lock_customer(connection, tenant, customer)
    earlier = _under(connection, tenant, reference)
    if earlier:
        return _payment(earlier)
    held = settle_customer(connection, tenant, customer, now_us)
    spent = credit.spend(
        [kept.holding for kept in held.values() if kept.grant.unit == unit],
        payables,
        at_us=now_us,
        reference=reference,
        quantum=minor_unit(currency),
    )
    _write(connection, tenant, customer, held, holdings=spent.holdings, entries=spent.entries, now_us=now_us)
    left = sum((holding.balance for holding in spent.holdings), ZERO)
    _top_up(connection, tenant, customer, now_us)
    if spent.entries and not left:
        tell_credits(
            connection,
            tenant,
            customer,
            "depleted",
            place=reference,
            currency=currency,
            amount=left,
            now_us=now_us,
        )
    return _payment(spent.entries)


@exactly
def return_within(connection: Connection, tenant: str, reference: str, *, now_us: int) -> Decimal:
    """`CreditCatalog.return_credits`, as a part of a larger transaction."""
    customer = connection.execute(
        select(_entries.c.customer)
        .where(_entries.c.tenant == tenant, _entries.c.reference == reference)
        .limit(1)
    ).scalar_one_or_none()
    if customer is None:
        return ZERO
    lock_customer(connection, tenant, customer)
    entries = _under(connection, tenant, reference)
    if any(entry.kind is Kind.GIVE_BACK for entry in entries):
        return ZERO
    held = settle_customer(connection, tenant, customer, now_us)
    back = credit.give_back([kept.holding for kept in held.values()], entries, at_us=now_us)
    _write(connection, tenant, customer, held, holdings=back.holdings, entries=back.entries, now_us=now_us)
    return sum((entry.amount for entry in entries), ZERO)


@exactly
def paid_under(connection: Connection, tenant: str, references: Collection[str]) -> dict[str, Decimal]:
    """`CreditCatalog.credits_paid`, as a part of a larger transaction."""
    made: dict[str, Decimal] = {}
    query = select(_entries.c.reference, _entries.c.kind, _entries.c.amount).where(
        _entries.c.tenant == tenant,
        _entries.c.kind.in_((Kind.CONSUME.value, Kind.GIVE_BACK.value)),
        among(connection, _entries.c.reference, references),
    )
    for row in connection.execute(query):
        amount = Decimal(row.amount) * (1 if row.kind == Kind.CONSUME.value else -1)
        made[row.reference] = made.get(row.reference, ZERO) + amount
    return {reference: amount for reference, amount in made.items() if amount}


def grant_within(connection: Connection, tenant: str, grant: Grant, *, now_us: int) -> KeptGrant:
    """A grant that something else gave, in the transaction of that."""
    lock_customer(connection, tenant, grant.customer)
    insert_grant(connection, tenant, grant, topped_up=False)
    return settle_customer(connection, tenant, grant.customer, now_us)[grant.id]


def void_within(connection: Connection, tenant: str, customer: str, grant_id: str, *, now_us: int) -> bool:
    """Take a grant back that nothing was spent of; False where something was, and nothing is changed."""
    lock_customer(connection, tenant, customer)
    kept = settle_customer(connection, tenant, customer, now_us)[grant_id]
    if kept.holding.ended or kept.holding.balance != kept.granted:
        return False
    connection.execute(
        update(_grants).where(_grants.c.tenant == tenant, _grants.c.id == grant_id).values(voided_us=now_us)
    )
    settle_customer(connection, tenant, customer, now_us)
    return True


def _of(tenant: str, customer: str):
    return (_grants.c.tenant == tenant, _grants.c.customer == customer)


def _rule(tenant: str, customer: str, unit: CreditUnit):
    return (_rules.c.tenant == tenant, _rules.c.customer == customer, _rules.c.unit == unit.text())


def lock_customer(connection: Connection, tenant: str, customer: str) -> None:
    """One at a time a customer. (SQLite has one writer anyway.) Raises NotFound (customer_not_found)."""
    column = tables.customers.c
    found = connection.execute(
        select(column.key).where(column.tenant == tenant, column.key == customer).with_for_update()
    ).one_or_none()
    if found is None:
        raise NotFound(f"There is no customer {customer!r}.", code="customer_not_found")


def _customer_of(connection: Connection, tenant: str, grant_id: str) -> str:
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


def _read(connection: Connection, tenant: str, customer: str) -> dict[str, KeptGrant]:
    query = select(_grants).where(*_of(tenant, customer)).order_by(_grants.c.number)
    return {row.id: _kept(row) for row in connection.execute(query)}


def _is_due(kept: KeptGrant, now_us: int) -> bool:
    next_us = kept.holding.next_us
    return kept.grant.unit.currency is not None and next_us is not None and next_us <= now_us


def settle_customer(connection: Connection, tenant: str, customer: str, now_us: int) -> dict[str, KeptGrant]:
    """Write down what has come due of money; then, what rules of top-up add."""
    held = _read(connection, tenant, customer)
    settled = credit.settle([kept.holding for kept in held.values() if _is_due(kept, now_us)], now_us)
    held = _write(
        connection, tenant, customer, held, holdings=settled.holdings, entries=settled.entries, now_us=now_us
    )
    if _top_up(connection, tenant, customer, now_us):
        return _read(connection, tenant, customer)
    return held


@exactly
def _write(
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


@exactly
def _top_up(connection: Connection, tenant: str, customer: str, now_us: int) -> bool:
    """What the customer's rules add now; whether they added anything."""
    rules = _read_rules(connection, tenant, customer)
    added_any = False
    for rule in rules:
        held = [kept for kept in _read(connection, tenant, customer).values() if kept.grant.unit == rule.unit]
        period = rule.period_at(now_us)
        available = sum((kept.holding.balance for kept in held), ZERO)
        added = sum(
            (kept.grant.amount for kept in held if kept.topped_up and kept.grant.created_us in period), ZERO
        )
        amount = rule.due(available, added)
        if not amount:
            continue
        grant = Grant(
            id=new_id("credit"),
            customer=customer,
            unit=rule.unit,
            amount=amount,
            effective_us=now_us,
            created_us=now_us,
            expires_us=rule.expiry(now_us),
            priority=rule.priority,
            source=Source.PREPAID,
            name="Automatic top-up",
        )
        insert_grant(connection, tenant, grant, topped_up=True)
        assert rule.unit.currency is not None  # only money is topped up by itself
        tell_credits(
            connection,
            tenant,
            customer,
            "top_up",
            place=grant.id,
            currency=rule.unit.currency,
            amount=amount,
            now_us=now_us,
        )
        begun = _read(connection, tenant, customer)
        settled = credit.settle([begun[grant.id].holding], now_us)
        _write(
            connection,
            tenant,
            customer,
            begun,
            holdings=settled.holdings,
            entries=settled.entries,
            now_us=now_us,
        )
        added_any = True
    return added_any


def _read_rules(connection: Connection, tenant: str, customer: str) -> tuple[TopUp, ...]:
    query = (
        select(_rules.c.content)
        .where(_rules.c.tenant == tenant, _rules.c.customer == customer)
        .order_by(_rules.c.unit)
    )
    return tuple(read_top_up(from_json(content)) for content in connection.execute(query).scalars())


def _under(connection: Connection, tenant: str, reference: str) -> list[Entry]:
    query = (
        select(_entries)
        .where(_entries.c.tenant == tenant, _entries.c.reference == reference)
        .order_by(_entries.c.number)
    )
    return [_kept_entry(row).entry for row in connection.execute(query)]


def _payment(entries: Sequence[Entry]) -> Payment:
    by_payable: dict[str, Decimal] = {}
    for entry in entries:
        amount = -entry.amount if entry.kind is Kind.GIVE_BACK else entry.amount
        by_payable[entry.line or ""] = by_payable.get(entry.line or "", ZERO) + amount
    return Payment(sum(by_payable.values(), ZERO), by_payable)


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


def _kept_entry(row: Row[Any]) -> KeptEntry:
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
