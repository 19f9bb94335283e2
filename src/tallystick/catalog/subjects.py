"""Subjects: which customer each one belongs to.

What holds at every commit: a customer's key, as a subject, has a row with an owner (itself, or whoever declares it);
so a subject without an owner is one that no customer is named after, and resolving reads one table.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from tallystick.catalog import tables
from tallystick.catalog.database import CREATE_UNKNOWN, Change, Database, among
from tallystick.catalog.interface import SYSTEM, Actor, SubjectChanges
from tallystick.errors import Conflict, Fault

_SUBJECTS_PER_SELECT_MAX = 5_000
_ROWS_PER_INSERT_MAX = 20_000
_FAULTS_MAX = 100
_EXAMPLES_MAX = 10

_column = tables.subjects.c


class Subjects:
    """The part of the catalog that resolves subjects."""

    _database: Database

    def resolve_subjects(self, tenant: str, subjects: Collection[str]) -> dict[str, str]:
        with self._database.reading() as connection:
            return {
                row.subject: row.customer
                for row in rows_of(connection, tenant, subjects)
                if row.customer is not None
            }

    def create_unknown(
        self, tenant: str, subjects: Collection[str], *, actor: Actor = SYSTEM, now_us: int
    ) -> dict[str, str]:
        owners = self.resolve_subjects(tenant, subjects)
        # The order they came in, so that customers are numbered the same way when this is repeated elsewhere.
        unknown = [subject for subject in dict.fromkeys(subjects) if subject not in owners]
        if not unknown:
            return owners
        with self._database.changing(actor, now_us) as change:
            known = {row.subject: row.customer for row in rows_of(change.connection, tenant, unknown)}
            owners.update({subject: owner for subject, owner in known.items() if owner is not None})
            unknown = [subject for subject in unknown if subject not in owners]
            if not unknown:
                return owners
            _insert_customers(change, tenant, unknown)
            given_up = [subject for subject in unknown if subject in known]
            _assign(change, tenant, [(subject, subject) for subject in given_up], declared=True)
            fresh = [subject for subject in unknown if subject not in known]
            _insert(change, tenant, [(subject, subject) for subject in fresh], declared=True)
            change.record(
                ("subjects",),
                tenant,
                CREATE_UNKNOWN,
                "customers",
                after={"customers": len(unknown), "examples": unknown[:_EXAMPLES_MAX]},
            )
        owners.update(zip(unknown, unknown, strict=True))
        return owners

    def subject_map(self, tenant: str) -> dict[str, str]:
        query = select(_column.subject, _column.customer).where(
            _column.tenant == tenant, _column.customer.is_not(None)
        )
        with self._database.reading() as connection:
            return {row.subject: row.customer for row in connection.execute(query)}

    def subject_changes(self, since_revision: int, *, limit: int = 1_000_000) -> SubjectChanges:
        topic = tables.revisions.c
        query = select(_column.tenant, _column.subject, _column.customer, _column.revision).where(
            _column.revision > since_revision
        )
        with self._database.reading() as connection:
            # The revision first: what commits between the two reads on PostgreSQL is then asked for once more.
            revision = connection.execute(
                select(topic.revision).where(topic.topic == "subjects")
            ).scalar_one()
            if revision <= since_revision:
                return SubjectChanges(since_revision, {}, complete=True)
            rows: Sequence[Row[*tuple[Any, ...]]] = connection.execute(
                query.order_by(_column.revision).limit(limit + 1)
            ).all()
            complete = len(rows) <= limit
            if not complete:
                # Whole revisions only, so that the last one can be the place to go on from; one that is larger than
                # the limit alone is answered whole.
                border = rows[limit].revision
                rows = [row for row in rows if row.revision < border]
                if not rows:
                    whole = query.where(_column.revision == border)
                    rows = connection.execute(whole).all()
                revision = rows[-1].revision
        owners = {(tenant, subject): customer for tenant, subject, customer, _ in rows}
        return SubjectChanges(revision, owners, complete)


def rows_of(
    connection: Connection, tenant: str, subjects: Collection[str]
) -> Iterator[Row[*tuple[Any, ...]]]:
    """subject, customer, declared of those that have a row, given up ones (customer None) too."""
    query = select(_column.subject, _column.customer, _column.declared)
    asked = list(subjects)
    for start in range(0, len(asked), _SUBJECTS_PER_SELECT_MAX):
        some = asked[start : start + _SUBJECTS_PER_SELECT_MAX]
        yield from connection.execute(
            query.where(_column.tenant == tenant, among(connection, _column.subject, some))
        )


def declared_by(connection: Connection, tenant: str, customers: Collection[str]) -> dict[str, list[str]]:
    """Customer → its declared subjects, sorted; customers without any are absent."""
    found: dict[str, list[str]] = {}
    query = (
        select(_column.customer, _column.subject)
        .where(
            _column.tenant == tenant,
            among(connection, _column.customer, customers),
            _column.declared.is_(True),
        )
        .order_by(_column.subject)
    )
    for customer, subject in connection.execute(query):
        found.setdefault(customer, []).append(subject)
    return found


def own_key(change: Change, tenant: str, customer: str) -> None:
    """Give a new customer the subject named like its key, unless somebody declares it."""
    present = next(rows_of(change.connection, tenant, [customer]), None)
    if present is None:
        _insert(change, tenant, [(customer, customer)], declared=False)
    elif present.customer is None:
        _assign(change, tenant, [(customer, customer)], declared=False)


def declare(change: Change, tenant: str, customer: str, subjects: Collection[str], *, reassign: bool) -> None:
    """Make exactly these the declared subjects of a customer that exists.

    Raises Conflict (subject_taken) with a fault for each that belongs to another customer, unless `reassign`."""
    wanted = set(subjects)
    present = set(declared_by(change.connection, tenant, [customer]).get(customer, ()))
    added = sorted(wanted - present)
    rows = {row.subject: row for row in rows_of(change.connection, tenant, added)}
    taken = {
        subject: row.customer
        for subject, row in rows.items()
        if row.customer is not None and row.customer != customer
    }
    if taken and not reassign:
        raise _subject_taken(list(subjects), taken)
    own = [subject for subject, row in rows.items() if row.customer == customer]
    _mark(change, tenant, own, declared=True)
    moved = [(subject, customer) for subject, row in rows.items() if row.customer != customer]
    _assign(change, tenant, moved, declared=True)
    _insert(change, tenant, [(subject, customer) for subject in added if subject not in rows], declared=True)
    _give_up(change, tenant, customer, sorted(present - wanted))


def hand_over(change: Change, tenant: str, customer: str, to: str) -> None:
    """Every subject of a customer belongs to another from now on, declared; its own key too."""
    query = select(_column.subject).where(_column.tenant == tenant, _column.customer == customer)
    subjects = list(change.connection.execute(query).scalars())
    _assign(change, tenant, [(subject, to) for subject in subjects], declared=True)


def _give_up(change: Change, tenant: str, customer: str, subjects: list[str]) -> None:
    """A subject nobody declares any more belongs to the customer of that name, or to nobody."""
    _mark(change, tenant, [subject for subject in subjects if subject == customer], declared=False)
    others = [subject for subject in subjects if subject != customer]
    named = _customers_named(change.connection, tenant, others)
    owners = [(subject, subject if subject in named else None) for subject in others]
    _assign(change, tenant, owners, declared=False)


def _customers_named(connection: Connection, tenant: str, keys: list[str]) -> set[str]:
    column = tables.customers.c
    found: set[str] = set()
    for start in range(0, len(keys), _SUBJECTS_PER_SELECT_MAX):
        some = keys[start : start + _SUBJECTS_PER_SELECT_MAX]
        query = select(column.key).where(column.tenant == tenant, among(connection, column.key, some))
        found.update(connection.execute(query).scalars())
    return found


def _insert_customers(change: Change, tenant: str, keys: list[str]) -> None:
    for start in range(0, len(keys), _ROWS_PER_INSERT_MAX):
        change.connection.execute(
            insert(tables.customers),
            [
                {
                    "tenant": tenant,
                    "key": key,
                    "name": key,
                    "timezone": "UTC",
                    "external_ids": "{}",
                    "traits": "{}",
                    "created_at_us": change.now_us,
                }
                for key in keys[start : start + _ROWS_PER_INSERT_MAX]
            ],
        )


def _insert(change: Change, tenant: str, owners: list[tuple[str, str]], *, declared: bool) -> None:
    for start in range(0, len(owners), _ROWS_PER_INSERT_MAX):
        change.connection.execute(
            insert(tables.subjects),
            [
                {
                    "tenant": tenant,
                    "subject": subject,
                    "customer": customer,
                    "declared": declared,
                    "revision": change.revision,
                }
                for subject, customer in owners[start : start + _ROWS_PER_INSERT_MAX]
            ],
        )


def _assign(change: Change, tenant: str, owners: Sequence[tuple[str, str | None]], *, declared: bool) -> None:
    """Change the owner of rows there are; (subject, owner)."""
    if owners:
        change.connection.execute(
            update(tables.subjects)
            .where(_column.tenant == tenant, _column.subject == bindparam("of_subject"))
            .values(customer=bindparam("to_customer"), declared=declared, revision=change.revision),
            [{"of_subject": subject, "to_customer": customer} for subject, customer in owners],
        )


def _mark(change: Change, tenant: str, subjects: list[str], *, declared: bool) -> None:
    """Its owner stays the same, so this is no change to whoever resolves, and the row keeps its revision."""
    if subjects:
        change.connection.execute(
            update(tables.subjects)
            .where(_column.tenant == tenant, _column.subject == bindparam("of_subject"))
            .values(declared=declared),
            [{"of_subject": subject} for subject in subjects],
        )


def _subject_taken(subjects: list[str], taken: dict[str, str]) -> Conflict:
    faults = [
        Fault(
            f"/subjects/{index}",
            "subject_taken",
            f"Subject {subject!r} belongs to customer {taken[subject]!r}.",
        )
        for index, subject in enumerate(subjects)
        if subject in taken
    ]
    return Conflict(
        f'{faults[0].detail} Send "reassign": true to move it from now on.',
        code="subject_taken",
        faults=faults[:_FAULTS_MAX],
    )
