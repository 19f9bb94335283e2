"""Automatic top-ups: what rules add, and the purchases that have to be paid for it.

A purchase reserves the names of its invoice and of its grant when it is ordered, so that whatever is repeated after a
crash makes no second of either. Its states: ordered → billed (its invoice is final, and is collected) → granted; or
cancelled. Where credits are given at once, the grant is made when it is ordered, and the purchase is only to be billed.
"""

from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from tallystick.billing import credit
from tallystick.billing.grant import CreditUnit, Grant, Source
from tallystick.billing.period import add_length, parse_length
from tallystick.billing.top_up import TopUp, kept_top_up
from tallystick.catalog import billing_tables, credit_tables
from tallystick.catalog.billing_events import tell_credits
from tallystick.catalog.credit_rows import insert_grant, lock_customer, read_grants, write_entries
from tallystick.catalog.crediting import KeptPurchase
from tallystick.catalog.database import from_json
from tallystick.catalog.secret import new_id
from tallystick.money import ZERO, exactly, plain

_rules = credit_tables.credit_top_ups
_table = credit_tables.credit_purchases
_column = _table.c


def rule_place(tenant: str, customer: str, unit: CreditUnit):
    return (_rules.c.tenant == tenant, _rules.c.customer == customer, _rules.c.unit == unit.text())


def read_rules(connection: Connection, tenant: str, customer: str) -> tuple[TopUp, ...]:
    query = (
        select(_rules.c.content)
        .where(_rules.c.tenant == tenant, _rules.c.customer == customer)
        .order_by(_rules.c.unit)
    )
    return tuple(kept_top_up(from_json(content)) for content in connection.execute(query).scalars())


@exactly
def top_up_within(connection: Connection, tenant: str, customer: str, now_us: int) -> bool:
    """What the customer's rules add or order now; whether there are more grants than before."""
    added_any = False
    for rule in read_rules(connection, tenant, customer):
        held = [
            kept
            for kept in read_grants(connection, tenant, customer).values()
            if kept.grant.unit == rule.unit
        ]
        period = rule.period_at(now_us)
        bought = [
            one for one in _purchases(connection, tenant, customer, rule.unit) if one.state != "cancelled"
        ]
        coming = sum((one.amount for one in bought if not one.granted), ZERO)
        available = sum((kept.holding.balance for kept in held), ZERO) + coming
        # A purchase counts in the period it was ordered in, whenever it is paid.
        names = {one.grant for one in bought}
        added = sum(
            (
                kept.grant.amount
                for kept in held
                if kept.topped_up and kept.grant.id not in names and kept.grant.created_us in period
            ),
            sum((one.amount for one in bought if one.ordered_at_us in period), ZERO),
        )
        amount = rule.due(available, added)
        if not amount:
            continue
        grant = _grant(
            new_id("credit"),
            customer,
            rule.unit,
            amount,
            now_us=now_us,
            priority=rule.priority,
            expires_after=None if rule.expires_after is None else rule.expires_after.text(),
        )
        if rule.collected:
            at_once = rule.grant == "at_once"
            _order(connection, tenant, rule, grant, granted=at_once, now_us=now_us)
            if not at_once:
                continue
        _give(connection, tenant, grant, now_us=now_us)
        added_any = True
    return added_any


def _grant(
    name: str,
    customer: str,
    unit: CreditUnit,
    amount: Decimal,
    *,
    now_us: int,
    priority: int,
    expires_after: str | None,
) -> Grant:
    lasts = None if expires_after is None else parse_length(expires_after)
    return Grant(
        id=name,
        customer=customer,
        unit=unit,
        amount=amount,
        effective_us=now_us,
        created_us=now_us,
        expires_us=None if lasts is None else add_length(now_us, lasts, "UTC"),
        priority=priority,
        source=Source.PREPAID,
        name="Automatic top-up",
    )


def _give(connection: Connection, tenant: str, grant: Grant, *, now_us: int) -> None:
    """The customer is locked."""
    insert_grant(connection, tenant, grant, topped_up=True)
    assert grant.unit.currency is not None  # only money is topped up by itself
    tell_credits(
        connection,
        tenant,
        grant.customer,
        "top_up",
        place=grant.id,
        currency=grant.unit.currency,
        amount=grant.amount,
        now_us=now_us,
    )
    begun = read_grants(connection, tenant, grant.customer)
    settled = credit.settle([begun[grant.id].holding], now_us)
    write_entries(
        connection,
        tenant,
        grant.customer,
        begun,
        holdings=settled.holdings,
        entries=settled.entries,
        now_us=now_us,
    )


# -- purchases ------------------------------------------------------------------------------------------------------
def _order(
    connection: Connection, tenant: str, rule: TopUp, grant: Grant, *, granted: bool, now_us: int
) -> None:
    connection.execute(
        insert(_table),
        {
            "tenant": tenant,
            "id": new_id("inv"),
            "customer": grant.customer,
            "unit": grant.unit.text(),
            "amount": plain(grant.amount),
            "grant": grant.id,
            "priority": grant.priority,
            "expires_after": None if rule.expires_after is None else rule.expires_after.text(),
            "state": "ordered",
            "granted": granted,
            "ordered_at_us": now_us,
        },
    )


def _purchases(connection: Connection, tenant: str, customer: str, unit: CreditUnit) -> list[KeptPurchase]:
    query = select(_table).where(
        _column.tenant == tenant, _column.customer == customer, _column.unit == unit.text()
    )
    return [purchase_of(row) for row in connection.execute(query)]


def ordered_purchases(connection: Connection, tenant: str | None, *, limit: int) -> tuple[KeptPurchase, ...]:
    query = select(_table).where(_column.state == "ordered").order_by(_column.number).limit(limit)
    if tenant is not None:
        query = query.where(_column.tenant == tenant)
    return tuple(map(purchase_of, connection.execute(query)))


def read_purchase(connection: Connection, tenant: str, invoice: str) -> KeptPurchase | None:
    """By its invoice."""
    query = select(_table).where(_column.tenant == tenant, _column.id == invoice)
    row = connection.execute(query).one_or_none()
    return None if row is None else purchase_of(row)


def bill_purchase(connection: Connection, tenant: str, invoice: str) -> bool:
    """In the transaction that finalizes its invoice; False where it is not to be billed any more."""
    here = (_column.tenant == tenant, _column.id == invoice, _column.state == "ordered")
    return connection.execute(update(_table).where(*here).values(state="billed")).rowcount == 1


def grant_purchase(connection: Connection, tenant: str, present: KeptPurchase, *, now_us: int) -> None:
    """It is paid: give its credits, once, in the transaction that says so. The customer is locked. One that was cancelled
    has been paid for nevertheless, and gives them too."""
    if present.granted:
        return
    here = (_column.tenant == tenant, _column.id == present.invoice)
    connection.execute(update(_table).where(*here).values(state="billed", granted=True))
    grant = _grant(
        present.grant,
        present.customer,
        present.unit,
        present.amount,
        now_us=now_us,
        priority=present.priority,
        expires_after=present.expires_after,
    )
    _give(connection, tenant, grant, now_us=now_us)


def cancel_purchase(connection: Connection, tenant: str, customer: str, invoice: str) -> KeptPurchase:
    """Its invoice becomes void."""
    lock_customer(connection, tenant, customer)
    present = read_purchase(connection, tenant, invoice)
    assert present is not None  # its invoice was made from it
    connection.execute(
        update(_table).where(_column.tenant == tenant, _column.id == invoice).values(state="cancelled")
    )
    return present


def cancel_orders(connection: Connection, tenant: str, customer: str, unit: CreditUnit) -> None:
    """The rule is gone: what is not billed yet never will be, and what was refused is not tried again by itself."""
    mine = (_column.tenant == tenant, _column.customer == customer, _column.unit == unit.text())
    waiting = (*mine, _column.granted.is_(False))
    connection.execute(update(_table).where(*waiting, _column.state == "ordered").values(state="cancelled"))
    payment = billing_tables.payments.c
    billed = select(_column.id).where(*waiting, _column.state == "billed")
    connection.execute(
        update(billing_tables.payments)
        .where(payment.tenant == tenant, payment.status == "failed", payment.invoice.in_(billed))
        .values(next_us=None)
    )


def purchase_of(row: Row[Any]) -> KeptPurchase:
    return KeptPurchase(
        tenant=row.tenant,
        invoice=row.id,
        customer=row.customer,
        unit=CreditUnit.of_text(row.unit),
        amount=Decimal(row.amount),
        grant=row.grant,
        priority=row.priority,
        expires_after=row.expires_after,
        state=row.state,
        granted=row.granted,
        ordered_at_us=row.ordered_at_us,
    )
