"""Usage for invoices: one question a meter and period, for all customers and charges together.

Everything is asked as of one settled moment, so that the same questions have the same answers ever after: that moment is
not later than the last one the recorder has published, and nothing that is recorded afterwards gets an earlier one.
"""

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from tallystick.billing.due import Question
from tallystick.errors import Invalid
from tallystick.flows.billing.family import Family, by_meter, families, told_apart
from tallystick.flows.billing.selection import filters_of
from tallystick.flows.lookup import reading_of
from tallystick.flows.newest import newest
from tallystick.flows.position import token_of
from tallystick.flows.record import Recorder
from tallystick.flows.system import System
from tallystick.flows.usage import (
    UsageRequest,
    check_kept,
    in_questions,
    in_store,
    moment,
    usage,
    wait_for_position,
)
from tallystick.metering.meter import Aggregation, Meter
from tallystick.metering.position import Vector
from tallystick.metering.query import UsageRow
from tallystick.metering.reading import Reading
from tallystick.rating.model import Usage
from tallystick.store.interface import EventSearch, StoredEvent

CUSTOMERS_AT_ONCE = 2_000
"""Customers named in one question: rows of an answer are bounded, and so is a list of names."""
QUESTIONS_AT_ONCE = 4
TRANSACTIONS_MAX = 1_000_000
_PAGE_EVENTS = 10_000
_ADDED_UP = (Aggregation.SUM, Aggregation.COUNT)


@dataclass(frozen=True, slots=True)
class Settled:
    """A moment as of which questions are asked, and the position that was recorded then."""

    as_of_us: int
    position: str


async def settle(system: System) -> Settled:
    """A moment behind which nothing can be recorded any more. Raises TimedOut where the recorder is far behind.

    What is acknowledged now is waited for: a batch under way may have an earlier moment than now. What is recorded after
    that has a later one than the last published, and not an earlier one than now."""
    now_us = system.clock.now_us()
    await wait_for_position(system, system.acknowledged)
    recorded_at_us = system.recorder.recorded_at_us
    if isinstance(system.recorder, Recorder):
        # One recorder, by this very clock. (With several, only what they have published is sure.)
        recorded_at_us = max(recorded_at_us, now_us - 1)
    return Settled(recorded_at_us, token_of(system.recorder.position))


@dataclass(slots=True)
class Wanted:
    """What is to be asked: each question, with the version of its meter, about some customers."""

    by_question: dict[tuple[Question, int], set[str]] = field(
        default_factory=dict[tuple[Question, int], set[str]]
    )

    def add(self, question: Question, version: int, customers: Collection[str]) -> None:
        self.by_question.setdefault((question, version), set()).update(customers)


Answers = Mapping[tuple[Question, int], Mapping[str, Sequence[Usage]] | Invalid]
"""By question and customer; Invalid where there is no answer (its facts are deleted)."""


async def gather(system: System, tenant: str, wanted: Wanted, as_of_us: int | None) -> Answers:
    """Ask everything. Raises what `usage` does, except for what is past retention: that is an answer."""
    limit = asyncio.Semaphore(QUESTIONS_AT_ONCE)
    asked = by_meter(wanted.by_question)
    meters = await in_questions(
        system, lambda: {place: system.catalog.meter(tenant, *place) for place in asked}
    )
    made: dict[tuple[Question, int], dict[str, list[Usage]] | Invalid] = {}

    async def one(family: Family, meter: Meter) -> None:
        places = [(question, family.version) for question, _ in family.members]
        customers = sorted(set[str]().union(*(wanted.by_question[place] for place in places)))
        async with limit:
            try:
                found = await _ask(system, tenant, family, meter, customers, as_of_us=as_of_us)
            except Invalid as error:
                if error.code == "past_retention":
                    made.update(dict.fromkeys(places, error))
                    return
                if error.code != "too_many_rows" or len(places) == 1:
                    raise
            else:
                made.update({place: found[place[0]] for place in places})
                return
        await asyncio.gather(*(one(alone, meter) for alone in family.alone()))

    await asyncio.gather(
        *(
            one(family, meters[place])
            for place, questions in asked.items()
            for family in families(questions, meters[place])
        )
    )
    return made


async def _ask(
    system: System,
    tenant: str,
    family: Family,
    meter: Meter,
    customers: Sequence[str],
    *,
    as_of_us: int | None,
) -> dict[Question, dict[str, list[Usage]]]:
    question = family.question
    if question.one_by_one and meter.aggregation in _ADDED_UP and meter.of is None:
        return {question: await _transactions(system, meter, question, customers, as_of_us)}
    rows: list[UsageRow] = []
    size = CUSTOMERS_AT_ONCE
    place = 0
    while place < len(customers):
        part = tuple(customers[place : place + size])
        request = UsageRequest(
            tenant=tenant,
            meter=question.meter,
            from_us=question.from_us,
            to_us=question.to_us,
            window=question.window,
            timezone=question.timezone,
            customers=part,
            group_by=family.group_by,
            filters=family.filters,
            as_of_us=as_of_us,
            version=family.version,
        )
        try:
            answer = await usage(system, request)
        except Invalid as error:
            if error.code == "too_many_rows" and size > 1:
                size = max(1, size // 4)
                continue
            raise
        rows += answer.rows
        place += len(part)
    return await in_questions(system, lambda: told_apart(family, rows, meter))


# -- one by one -----------------------------------------------------------------------------------------------------
async def _transactions(
    system: System, meter: Meter, question: Question, customers: Sequence[str], as_of_us: int | None
) -> dict[str, list[Usage]]:
    """Each customer's transactions in the order they happened, by the dimensions that are asked for."""

    def read() -> dict[str, list[Usage]]:
        found: dict[tuple[str, tuple[str | None, ...]], list[tuple[int, int, Decimal]]] = {}
        every = contributions(system, meter, question, customers, as_of_us)
        for count, (event, reading) in enumerate(every):
            if count >= TRANSACTIONS_MAX:
                raise Invalid(
                    f"A price per transaction is computed for at most {TRANSACTIONS_MAX} of them at a time.",
                    code="too_many_rows",
                )
            group = tuple(named(meter, name, event, reading) for name in question.dimensions)
            found.setdefault((event.customer, group), []).append(
                (event.time_us, event.position, reading.value)
            )
        made: dict[str, list[Usage]] = {}
        for (customer, group), values in sorted(found.items(), key=lambda item: repr(item[0])):
            one = Usage.of_transactions(value for _, _, value in sorted(values))
            dimensions = tuple(zip(question.dimensions, group, strict=True))
            made.setdefault(customer, []).append(replace(one, dimensions=dimensions, at_us=question.from_us))
        return made

    return await in_store(system, read)


def contributions(
    system: System,
    meter: Meter,
    question: Question,
    customers: Sequence[str],
    as_of_us: int | None,
    *,
    keep: Callable[[StoredEvent, Reading], bool] = lambda event, reading: True,
) -> Iterator[tuple[StoredEvent, Reading]]:
    """The events that a question counts, newest first, each with what it contributes. Synchronous.

    Raises Invalid (past_retention)."""
    check_kept(system, meter, question.from_us)
    filters = filters_of(question.filter)
    wanted = EventSearch(
        tenant=meter.tenant,
        types=(meter.event_type,),
        customers=tuple(customers),
        from_us=question.from_us,
        to_us=question.to_us,
        status="current",
        as_of_us=moment(system, meter, as_of_us),
        limit=_PAGE_EVENTS,
    )
    before: Vector | None = None
    while True:
        page = newest(system, wanted, before)
        for event in page.events:
            reading = reading_of(meter, event)
            if (
                isinstance(reading, Reading)
                and all(one.accepts(named(meter, one.name, event, reading)) for one in filters)
                and keep(event, reading)
            ):
                yield event, reading
        if not page.more:
            return
        before = page.behind(len(page.events))


def named(meter: Meter, name: str, event: StoredEvent, reading: Reading) -> str | None:
    """A dimension of one event. Raises Invalid where a new version of the meter has dropped it."""
    if name == "customer":
        return event.customer
    if name == "subject":
        return event.subject
    for declared, value in zip(meter.dimensions, reading.dimensions, strict=True):
        if declared.name == name:
            return value
    raise Invalid(f"The meter {meter.key!r} has no dimension {name!r} any more.", code="unknown_dimension")
