"""Collecting what is due: a row for each invoice, moved from state to state by compare and set."""

from collections.abc import Collection
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from tallystick.catalog import billing_tables
from tallystick.catalog.billing_events import tell_credits, tell_payment
from tallystick.catalog.charging import KeptPayment
from tallystick.catalog.credit_rows import lock_customer
from tallystick.catalog.database import Database, among
from tallystick.catalog.interface import Actor
from tallystick.catalog.top_ups import grant_purchase, read_purchase

_table = billing_tables.payments
_column = _table.c


class Payments:
    """The part of the catalog that keeps payments."""

    _database: Database

    def due_payments(self, now_us: int, *, limit: int) -> tuple[KeptPayment, ...]:
        query = select(_table).where(_column.next_us <= now_us).order_by(_column.next_us).limit(limit)
        with self._database.reading() as connection:
            return tuple(map(_payment, connection.execute(query)))

    def advance_payment(self, present: KeptPayment, made: KeptPayment, *, actor: Actor, now_us: int) -> bool:
        with self._database.changing(actor, now_us) as change:
            moved = made.status != present.status
            if moved and made.status == "paid":
                # Before its row: whoever makes an invoice void locks in this order.
                lock_customer(change.connection, made.tenant, made.customer)
            done = change.connection.execute(
                update(_table)
                .where(
                    _column.tenant == present.tenant,
                    _column.invoice == present.invoice,
                    _column.status == present.status,
                    _column.attempts == present.attempts,
                    _column.next_us.is_(None)
                    if present.next_us is None
                    else _column.next_us == present.next_us,
                )
                .values(asdict(made) | {"changed_at_us": now_us})
            )
            if done.rowcount != 1:
                return False
            if moved:
                change.record(
                    (),
                    made.tenant,
                    f"payment.{made.status}",
                    f"invoice/{made.invoice}",
                    before={"status": present.status},
                    after={"status": made.status, "detail": made.detail},
                )
                tell_payment(change.connection, made, now_us=now_us)
                _top_up(change.connection, made, now_us)
        return True

    def payment(self, tenant: str, invoice: str) -> KeptPayment | None:
        return self.payments_of(tenant, [invoice]).get(invoice)

    def payments_of(self, tenant: str, invoices: Collection[str]) -> dict[str, KeptPayment]:
        with self._database.reading() as connection:
            query = select(_table).where(
                _column.tenant == tenant, among(connection, _column.invoice, invoices)
            )
            return {row.invoice: _payment(row) for row in connection.execute(query)}


def _top_up(connection: Connection, payment: KeptPayment, now_us: int) -> None:
    """Credits that the payment is for are given with it, or news is that they are not."""
    if payment.status not in ("paid", "failed"):
        return
    purchase = read_purchase(connection, payment.tenant, payment.invoice)
    if purchase is None:
        return
    if payment.status == "paid":
        grant_purchase(connection, payment.tenant, purchase, now_us=now_us)
        return
    tell_credits(
        connection,
        payment.tenant,
        payment.customer,
        "top_up_failed",
        place=f"{payment.invoice}/{payment.attempts}",
        currency=payment.currency,
        amount=purchase.amount,
        now_us=now_us,
        more={"invoice": payment.invoice, "detail": payment.detail},
    )


def begin_payment(connection: Connection, payment: KeptPayment) -> None:
    """Within the transaction that finalizes its invoice."""
    connection.execute(insert(_table), asdict(payment))


def end_payment(connection: Connection, tenant: str, invoice: str, now_us: int) -> None:
    """Within the transaction that makes its invoice void. One that was sent is to be taken back over there."""
    here = (_column.tenant == tenant, _column.invoice == invoice)
    for status, next_us in (("pending", None), ("failed", None), ("sent", now_us)):
        connection.execute(
            update(_table)
            .where(*here, _column.status == status)
            .values(status="void", next_us=next_us, changed_at_us=now_us)
        )


def _payment(row: Row[Any]) -> KeptPayment:
    return KeptPayment(
        row.tenant,
        row.invoice,
        row.customer,
        row.status,
        row.amount,
        row.currency,
        row.attempts,
        row.next_us,
        row.created_at_us,
        row.changed_at_us,
        row.external_id,
        row.url,
        row.detail,
    )
