"""Invoices: made in grace, frozen with a number when they are finalized; and what was billed late."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, insert, select, update

from tallystick.catalog import billing_tables, tables
from tallystick.catalog.billing import (
    Closing,
    InvoiceSearch,
    KeptInvoice,
    LateLine,
)
from tallystick.catalog.billing_events import tell_invoice
from tallystick.catalog.credit_ledger import return_within, take_back
from tallystick.catalog.credit_notes import issued
from tallystick.catalog.cursor import checked_limit, cursor_of, number_of
from tallystick.catalog.database import Database, among, from_json
from tallystick.catalog.finishing import Finished, balance_grant, settle_kept
from tallystick.catalog.interface import SYSTEM, Actor, Page
from tallystick.catalog.invoice_rows import invoice_of, invoice_values, read_invoice
from tallystick.catalog.items import bill_items
from tallystick.catalog.payments import end_payment
from tallystick.catalog.top_ups import bill_purchase, cancel_purchase
from tallystick.errors import Conflict, NotFound

_table = billing_tables.invoices
_column = _table.c
_late = billing_tables.late_lines
_counters = billing_tables.invoice_counters
_terms = billing_tables.billing_terms
_ANY = InvoiceSearch()


class Invoices:
    """The part of the catalog that keeps invoices and terms."""

    _database: Database

    def keep_invoices(
        self, closings: Sequence[Closing], *, actor: Actor = SYSTEM, now_us: int
    ) -> tuple[KeptInvoice, ...]:
        with self._database.changing(actor, now_us) as change:
            kept = [one for some in _apart(closings) for one in _keep(change.connection, some)]
            settle_kept(change, kept)
            finalized: dict[str, list[KeptInvoice]] = {}
            for one in kept:
                if one.finalized:
                    finalized.setdefault(one.invoice.tenant, []).append(one.invoice)
            for tenant, ones in finalized.items():
                change.record(
                    (),
                    tenant,
                    "invoice.finalize",
                    f"invoice/{ones[0].id}" if len(ones) == 1 else "invoices",
                    after={"sequences": [ones[0].sequence, ones[-1].sequence], "count": len(ones)},
                )
        return tuple(one.invoice for one in kept)

    def void_invoice(self, tenant: str, name: str, *, actor: Actor, now_us: int) -> KeptInvoice:
        with self._database.changing(actor, now_us) as change:
            present = read_invoice(change.connection, tenant, name)
            if present.status == "void":
                return present
            if issued(change.connection, tenant, [name]):
                detail = "Make the credit notes of the invoice void before it."
                raise Conflict(detail, code="invoice_has_credit_notes")
            _take_back(change.connection, present, now_us)
            change.connection.execute(
                update(_table)
                .where(_column.tenant == tenant, _column.id == name)
                .values(status="void", voided_at_us=now_us)
            )
            return_within(change.connection, tenant, name, now_us=now_us)
            end_payment(change.connection, tenant, name, now_us)
            change.record((), tenant, "invoice.void", f"invoice/{name}", before={"status": present.status})
            made = replace(present, status="void", voided_at_us=now_us)
            tell_invoice(change.connection, made, "voided", now_us=now_us)
        return made

    def invoice(self, tenant: str, name: str) -> KeptInvoice:
        with self._database.reading() as connection:
            return read_invoice(connection, tenant, name)

    def invoices(
        self,
        tenant: str,
        search: InvoiceSearch = _ANY,
        *,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[KeptInvoice]:
        query = select(_table).where(_column.tenant == tenant).order_by(_column.number.desc())
        before = number_of(cursor, "invoices")
        if before is not None:
            query = query.where(_column.number < before)
        if search.subscription is not None:
            query = query.where(_column.subscription == search.subscription)
        if search.status is not None:
            query = query.where(_column.status == search.status)
        if search.kind is not None:
            query = query.where(_column.kind == search.kind)
        with self._database.reading() as connection:
            if search.customers is not None:
                query = query.where(among(connection, _column.customer, search.customers))
            found = connection.execute(query.limit(checked_limit(limit) + 1)).all()
        more = len(found) > limit
        return Page(
            tuple(map(invoice_of, found[:limit])),
            cursor_of("invoices", found[limit - 1].number) if more else None,
        )

    def invoices_in_grace(
        self, tenant: str | None, until_us: int, *, excluded: Collection[str] = (), limit: int
    ) -> tuple[KeptInvoice, ...]:
        query = select(_table).where(_column.status == "grace", _column.grace_until_us <= until_us)
        if tenant is not None:
            query = query.where(_column.tenant == tenant)
        if excluded:
            query = query.where(_column.id.not_in(list(excluded)))
        with self._database.reading() as connection:
            ordered = query.order_by(_column.grace_until_us, _column.number).limit(limit)
            return tuple(map(invoice_of, connection.execute(ordered)))

    def finalized_invoices(
        self, tenant: str, subscriptions: Collection[str]
    ) -> dict[str, tuple[KeptInvoice, ...]]:
        made: dict[str, list[KeptInvoice]] = {}
        with self._database.reading() as connection:
            query = (
                select(_table)
                .where(
                    _column.tenant == tenant,
                    _column.status == "finalized",
                    _column.kind == "period",
                    among(connection, _column.subscription, subscriptions),
                )
                .order_by(_column.sequence)
            )
            for invoice in map(invoice_of, connection.execute(query)):
                made.setdefault(invoice.subscription, []).append(invoice)
        return {subscription: tuple(ones) for subscription, ones in made.items()}

    def parts_of(self, tenant: str, subscriptions: Collection[str]) -> dict[str, tuple[KeptInvoice, ...]]:
        made: dict[str, list[KeptInvoice]] = {}
        with self._database.reading() as connection:
            query = select(_table).where(
                _column.tenant == tenant,
                _column.status == "finalized",
                _column.kind == "threshold",
                among(connection, _column.subscription, subscriptions),
            )
            for invoice in map(invoice_of, connection.execute(query.order_by(_column.boundary_us))):
                made.setdefault(invoice.subscription, []).append(invoice)
        return {subscription: tuple(ones) for subscription, ones in made.items()}

    def late_lines(
        self, tenant: str, subscriptions: Collection[str] | None = None, *, limit: int = 100_000
    ) -> tuple[LateLine, ...]:
        billed_by = and_(_late.c.tenant == _column.tenant, _late.c.invoice == _column.id)
        query = (
            select(_late)
            .join(_table, billed_by)
            .where(_late.c.tenant == tenant, _column.status == "finalized")
            .order_by(_late.c.number)
        )
        with self._database.reading() as connection:
            if subscriptions is not None:
                query = query.where(among(connection, _late.c.subscription, subscriptions))
            return tuple(
                LateLine(
                    row.tenant,
                    row.subscription,
                    row.invoice,
                    row.line,
                    row.of_invoice,
                    row.of_line,
                    row.amount,
                )
                for row in connection.execute(query.limit(limit))
            )

    # -- terms --------------------------------------------------------------------------------------------------
    def billing_terms(self, tenant: str, customers: Collection[str]) -> dict[str, str]:
        with self._database.reading() as connection:
            query = select(_terms).where(
                _terms.c.tenant == tenant, among(connection, _terms.c.customer, customers)
            )
            return {row.customer: row.content for row in connection.execute(query)}

    def set_billing_terms(
        self, tenant: str, customer: str, content: str, *, actor: Actor, now_us: int
    ) -> None:
        with self._database.changing(actor, now_us) as change:
            known = select(tables.customers.c.key).where(
                tables.customers.c.tenant == tenant, tables.customers.c.key == customer
            )
            if change.connection.execute(known).one_or_none() is None:
                raise NotFound(f"There is no customer {customer!r}.", code="customer_not_found")
            here = (_terms.c.tenant == tenant, _terms.c.customer == customer)
            present = change.connection.execute(select(_terms.c.content).where(*here)).scalar_one_or_none()
            if present == content:
                return
            change.connection.execute(delete(_terms).where(*here))
            change.connection.execute(
                insert(_terms), {"tenant": tenant, "customer": customer, "content": content}
            )
            change.record(
                (),
                tenant,
                "billing_terms.change",
                f"customer/{customer}",
                before=None if present is None else from_json(present),
                after=from_json(content),
            )


def _take_back(connection: Connection, invoice: KeptInvoice, now_us: int) -> None:
    """The credits that an invoice gave. Raises Conflict (invoice_credits_spent)."""
    given: list[str] = []
    if invoice.kind == "top_up":
        purchase = cancel_purchase(connection, invoice.tenant, invoice.customer, invoice.id)
        given += [purchase.grant] if purchase.granted else []
    elif invoice.status == "finalized":
        given.append(balance_grant(invoice.id))
    for grant in given:
        if not take_back(connection, invoice.tenant, grant, now_us=now_us):
            detail = "Some of the credits that the invoice gave are spent or gone already."
            raise Conflict(detail, code="invoice_credits_spent")


def _apart(closings: Sequence[Closing]) -> Iterator[list[Closing]]:
    """Runs in which each subscription stands once: within one, nothing depends on what comes before it."""
    some: list[Closing] = []
    named: set[tuple[str, str]] = set()
    for closing in closings:
        own = (closing.invoice.tenant, closing.invoice.subscription)
        if own in named:
            yield some
            some, named = [], set()
        some.append(closing)
        named.add(own)
    if some:
        yield some


def _keep(connection: Connection, closings: Sequence[Closing]) -> list[Finished]:
    """Those that could be kept, in order: with a few statements for all, because a run has thousands."""
    subscribed: dict[tuple[str, str], Any] = {}
    presents: dict[tuple[str, str, int], KeptInvoice] = {}
    for tenant in {closing.invoice.tenant for closing in closings}:
        ours = [closing.invoice for closing in closings if closing.invoice.tenant == tenant]
        names = {one.subscription for one in ours}
        own = billing_tables.subscriptions.c
        known = select(own.id, own.content, own.closed_us, own.progressive).where(
            own.tenant == tenant, among(connection, own.id, names)
        )
        for row in connection.execute(known):
            subscribed[tenant, row.id] = row
        boundaries = {one.boundary_us for one in ours}
        there = select(_table).where(
            _column.tenant == tenant,
            among(connection, _column.subscription, names),
            _column.boundary_us.between(min(boundaries), max(boundaries)),
        )
        for row in connection.execute(there):
            presents[tenant, row.subscription, row.boundary_us] = invoice_of(row)
    wanted = [
        one
        for one in closings
        if _is_still_true(connection, one, subscribed) and _has_items(connection, one, presents)
    ]
    made: list[Finished] = []
    new: list[dict[str, Any]] = []
    late: list[dict[str, Any]] = []
    numbers = _numbers(connection, wanted, presents)
    for closing in wanted:
        one = closing.invoice
        present = presents.get(_place(one))
        if present is not None and present.status != "grace":
            made.append(Finished(closing, present))
            continue
        if present is not None:
            one = replace(one, id=present.id, created_at_us=present.created_at_us)
        finalized = one.status == "finalized"
        if finalized:
            one = replace(one, sequence=next(numbers[one.tenant]))
            late += [_late_values(one, line) for line in closing.late]
        made.append(Finished(closing, one, present is None, finalized))
        if present is None:
            new.append(invoice_values(one))
        else:
            here = (_column.tenant == one.tenant, _column.id == one.id)
            connection.execute(update(_table).where(*here).values(invoice_values(one)))
    if new:
        connection.execute(insert(_table), new)
    if late:
        connection.execute(insert(_late), late)
    closed = [_closed_values(closing) for closing in wanted if closing.closed_us is not None]
    if closed:
        connection.execute(_CLOSED, closed)
    return made


def _is_still_true(
    connection: Connection, closing: Closing, subscribed: Mapping[tuple[str, str], Any]
) -> bool:
    """Whether the subscription, and what was billed within its period, are as the invoice was made from."""
    wanted = closing.invoice
    if wanted.kind == "top_up":
        return bill_purchase(connection, wanted.tenant, wanted.id)
    if closing.content is None:
        return True
    row = subscribed[wanted.tenant, wanted.subscription]
    if row.content != closing.content:
        return False
    if not (row.progressive or closing.parts) or wanted.kind not in ("period", "threshold"):
        return True
    if wanted.kind == "threshold" and row.closed_us is not None and row.closed_us > wanted.from_us:
        return False
    within = select(_column.id).where(
        _column.tenant == wanted.tenant,
        _column.subscription == wanted.subscription,
        _column.kind == "threshold",
        _column.status == "finalized",
        _column.boundary_us > wanted.from_us,
    )
    if wanted.kind == "period":
        within = within.where(_column.boundary_us <= wanted.to_us)
    return set(connection.execute(within).scalars()) == set(closing.parts)


def _has_items(
    connection: Connection, closing: Closing, presents: Mapping[tuple[str, str, int], KeptInvoice]
) -> bool:
    """Whether the items are still there to be billed; they are then on it."""
    one = closing.invoice
    present = presents.get(_place(one))
    if not closing.items or one.status != "finalized" or (present is not None and present.status != "grace"):
        return True
    return bill_items(connection, one.tenant, closing.items, one.id if present is None else present.id)


def _place(one: KeptInvoice) -> tuple[str, str, int]:
    return one.tenant, one.subscription, one.boundary_us


def _late_values(invoice: KeptInvoice, late: LateLine) -> dict[str, Any]:
    return {
        "tenant": invoice.tenant,
        "subscription": invoice.subscription,
        "invoice": invoice.id,
        "line": late.line,
        "of_invoice": late.of_invoice,
        "of_line": late.of_line,
        "amount": late.amount,
    }


_subscription = billing_tables.subscriptions.c
_CLOSED = (
    update(billing_tables.subscriptions)
    .where(
        _subscription.tenant == bindparam("of_tenant"),
        _subscription.id == bindparam("of_subscription"),
        (_subscription.closed_us.is_(None)) | (_subscription.closed_us < bindparam("at_us")),
    )
    .values(closed_us=bindparam("at_us"), due_us=bindparam("next_us"))
)


def _closed_values(closing: Closing) -> dict[str, Any]:
    return {
        "of_tenant": closing.invoice.tenant,
        "of_subscription": closing.invoice.subscription,
        "at_us": closing.closed_us,
        "next_us": closing.due_us,
    }


def _numbers(
    connection: Connection, closings: Sequence[Closing], presents: Mapping[tuple[str, str, int], KeptInvoice]
) -> dict[str, Iterator[int]]:
    """As many new numbers of each tenant as are finalized here. Within the transaction that finalizes: a number that is
    given away is used, so there are no gaps."""
    counts: Counter[str] = Counter()
    for closing in closings:
        present = presents.get(_place(closing.invoice))
        if closing.invoice.status == "finalized" and (present is None or present.status == "grace"):
            counts[closing.invoice.tenant] += 1
    return {tenant: iter(_next_sequences(connection, tenant, count)) for tenant, count in counts.items()}


def _next_sequences(connection: Connection, tenant: str, count: int) -> range:
    here = _counters.c.tenant == tenant
    last = connection.execute(select(_counters.c.last).where(here).with_for_update()).scalar_one_or_none()
    if last is None:
        connection.execute(insert(_counters), {"tenant": tenant, "last": count})
        return range(1, count + 1)
    connection.execute(update(_counters).where(here).values(last=last + count))
    return range(last + 1, last + count + 1)
