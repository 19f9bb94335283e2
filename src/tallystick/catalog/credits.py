"""The part of the catalog that keeps grants of credits, their ledger, and rules of automatic top-up."""

from collections.abc import Collection, Sequence
from decimal import Decimal

from sqlalchemy import delete, func, insert, select, update

from tallystick.billing.credit import Payable
from tallystick.billing.grant import CreditUnit, Grant
from tallystick.billing.top_up import TopUp
from tallystick.catalog import credit_tables
from tallystick.catalog.credit_ledger import holders, paid_under, pay_within, return_within, settle_customer
from tallystick.catalog.credit_rows import (
    customer_of,
    entry_of,
    insert_grant,
    is_due,
    lock_customer,
    read_grants,
)
from tallystick.catalog.crediting import (
    GRANTS_PER_CUSTOMER_MAX,
    KeptEntry,
    KeptGrant,
    KeptPurchase,
    Payment,
)
from tallystick.catalog.cursor import checked_limit, cursor_of, number_of
from tallystick.catalog.database import Database, from_json, to_json
from tallystick.catalog.interface import Actor, Page
from tallystick.catalog.top_ups import cancel_orders, ordered_purchases, read_purchase, read_rules, rule_place
from tallystick.errors import Conflict
from tallystick.money import exactly, plain

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
                .where(
                    _grants.c.tenant == tenant,
                    _grants.c.customer == grant.customer,
                    _grants.c.ended.is_(False),
                )
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
            customer = customer_of(connection, tenant, grant_id)
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
            customer = customer_of(connection, tenant, grant_id)
        return next(
            kept for kept in self.credit_grants(tenant, customer, now_us=now_us) if kept.grant.id == grant_id
        )

    def credit_grants(self, tenant: str, customer: str, *, now_us: int) -> tuple[KeptGrant, ...]:
        with self._database.reading() as connection:
            found = read_grants(connection, tenant, customer)
        if not any(is_due(kept, now_us) for kept in found.values()):
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
            tuple(map(entry_of, found[:limit])),
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
            content = to_json(rule.kept())
            here = rule_place(tenant, customer, rule.unit)
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
            here = rule_place(tenant, customer, unit)
            before = change.connection.execute(select(_rules.c.content).where(*here)).scalar_one_or_none()
            if before is None:
                return
            change.connection.execute(delete(_rules).where(*here))
            cancel_orders(change.connection, tenant, customer, unit)
            change.record((), tenant, "credits.top_up", f"customer/{customer}", before=from_json(before))

    def top_ups(self, tenant: str, customer: str) -> tuple[TopUp, ...]:
        with self._database.reading() as connection:
            return read_rules(connection, tenant, customer)

    def purchases_to_bill(self, tenant: str | None, *, limit: int) -> tuple[KeptPurchase, ...]:
        with self._database.reading() as connection:
            return ordered_purchases(connection, tenant, limit=limit)

    def purchase(self, tenant: str, invoice: str) -> KeptPurchase | None:
        with self._database.reading() as connection:
            return read_purchase(connection, tenant, invoice)
