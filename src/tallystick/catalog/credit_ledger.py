"""Moving credits, as a part of a larger transaction. Whoever does locks the customer's row first."""

from collections.abc import Collection, Sequence
from decimal import Decimal

from sqlalchemy import Connection, select, update

from tallystick.billing import credit
from tallystick.billing.credit import Entry, Kind, Payable
from tallystick.billing.grant import CreditUnit, Grant
from tallystick.catalog import credit_tables
from tallystick.catalog.billing_events import tell_credits
from tallystick.catalog.credit_rows import (
    entries_under,
    insert_grant,
    is_due,
    lock_customer,
    read_grants,
    write_entries,
)
from tallystick.catalog.crediting import KeptGrant, Payment
from tallystick.catalog.database import among
from tallystick.catalog.top_ups import top_up_within
from tallystick.money import ZERO, exactly, minor_unit

_grants = credit_tables.credit_grants
_entries = credit_tables.credit_entries


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


def settle_customer(connection: Connection, tenant: str, customer: str, now_us: int) -> dict[str, KeptGrant]:
    """Write down what has come due of money; then, what rules of top-up add."""
    held = read_grants(connection, tenant, customer)
    settled = credit.settle([kept.holding for kept in held.values() if is_due(kept, now_us)], now_us)
    held = write_entries(
        connection, tenant, customer, held, holdings=settled.holdings, entries=settled.entries, now_us=now_us
    )
    if top_up_within(connection, tenant, customer, now_us):
        return read_grants(connection, tenant, customer)
    return held


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
    earlier = entries_under(connection, tenant, reference)
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
    write_entries(
        connection, tenant, customer, held, holdings=spent.holdings, entries=spent.entries, now_us=now_us
    )
    left = sum((holding.balance for holding in spent.holdings), ZERO)
    top_up_within(connection, tenant, customer, now_us)
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
    entries = entries_under(connection, tenant, reference)
    if any(entry.kind is Kind.GIVE_BACK for entry in entries):
        return ZERO
    held = settle_customer(connection, tenant, customer, now_us)
    back = credit.give_back([kept.holding for kept in held.values()], entries, at_us=now_us)
    write_entries(
        connection, tenant, customer, held, holdings=back.holdings, entries=back.entries, now_us=now_us
    )
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


def take_back(connection: Connection, tenant: str, grant_id: str, *, now_us: int) -> bool:
    """As `void_within`, of a grant that there need not be."""
    query = select(_grants.c.customer).where(_grants.c.tenant == tenant, _grants.c.id == grant_id)
    customer = connection.execute(query).scalar_one_or_none()
    return customer is None or void_within(connection, tenant, customer, grant_id, now_us=now_us)


def _payment(entries: Sequence[Entry]) -> Payment:
    by_payable: dict[str, Decimal] = {}
    for entry in entries:
        amount = -entry.amount if entry.kind is Kind.GIVE_BACK else entry.amount
        by_payable[entry.line or ""] = by_payable.get(entry.line or "", ZERO) + amount
    return Payment(sum(by_payable.values(), ZERO), by_payable)
