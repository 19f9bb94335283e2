"""The figures that alerts watch, asked for many customers at once, all as of one moment."""

import hashlib
import json
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial

from tallystick.billing.kept import canonical
from tallystick.billing.period import Period
from tallystick.catalog.interface import Customer, Page
from tallystick.errors import Invalid
from tallystick.flows.billing.selection import filters_of
from tallystick.flows.system import System
from tallystick.flows.usage import UsageAnswer, UsageRequest, in_questions, usage, usage_of
from tallystick.metering.meter import ZEROES, Aggregation, Meter
from tallystick.money import ZERO

CUSTOMERS_AT_ONCE = 2_000
SCOPE_BYTES_MAX = 500

Scopes = dict[str, Decimal | None]
"""A customer's figures by group; "" where the alert has none."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What of a meter: all of it, or a part, or each part. `of_events`: how many events there were, instead of the figure."""

    meter: Meter
    filter: str | None = None
    group_by: tuple[str, ...] = ()
    of_events: bool = False

    @property
    def nothing(self) -> Scopes:
        """The figures of who has used nothing."""
        return {} if self.group_by else {"": self.zero}

    @property
    def zero(self) -> Decimal | None:
        """The figure of no readings."""
        return ZERO if self.meter.aggregation in ZEROES else None


async def figures(
    system: System,
    measured: Measured,
    period: Period,
    customers: Collection[str] | None,
    as_of_us: int,
    *,
    now_us: int,
) -> dict[str, Scopes]:
    """Of these customers (None: of all who have any), by customer. Those without readings are absent. `as_of_us`: what was
    recorded by then counts; `now_us`: levels hold up to then, which may be long after anything was recorded."""
    made: dict[str, Scopes] = {}
    if customers is None:
        found = await every_figure(system, measured, period, as_of_us, now_us=now_us)
        if found is not None:
            return found
        async for part in _every_customer(system, measured.meter.tenant):
            made |= await _ask(system, measured, period, part, (as_of_us, now_us))
        return made
    named = sorted(customers)
    for start in range(0, len(named), CUSTOMERS_AT_ONCE):
        part = tuple(named[start : start + CUSTOMERS_AT_ONCE])
        made |= await _ask(system, measured, period, part, (as_of_us, now_us))
    return made


async def every_figure(
    system: System, measured: Measured, period: Period, as_of_us: int, *, now_us: int
) -> dict[str, Scopes] | None:
    """Of all customers who have any, in one answer; None: they are too many for one."""
    try:
        return await _ask(system, measured, period, None, (as_of_us, now_us))
    except Invalid as error:
        if error.code != "too_many_rows":
            raise
        return None


async def _ask(
    system: System,
    measured: Measured,
    period: Period,
    customers: tuple[str, ...] | None,
    moments_us: tuple[int, int],
) -> dict[str, Scopes]:
    """`moments_us`: `as_of_us` and `now_us` as above."""
    answer = await _usage(
        system,
        measured,
        UsageRequest(
            tenant=measured.meter.tenant,
            meter=measured.meter.key,
            version=measured.meter.version,
            from_us=period.from_us,
            to_us=period.to_us,
            edges_us=(period.from_us, period.to_us),
            customers=customers,
            group_by=("customer", *measured.group_by),
            filters=filters_of(measured.filter),
            as_of_us=moments_us[0],
            now_us=moments_us[1],
        ),
    )
    made: dict[str, Scopes] = {}
    for row in answer.rows:
        customer, *values = row.group
        made.setdefault(customer or "", {})[scope_of(measured.group_by, values)] = row.value
    return made


async def parted(
    system: System,
    meter: Meter,
    columns: tuple[str, ...],
    period: Period,
    customers: Collection[str] | None,
    *,
    as_of_us: int,
    now_us: int,
) -> list[tuple[str, tuple[str | None, ...], Decimal | None]] | None:
    """A meter's figures by customer and columns; None: they are too many for one answer."""
    named = None if customers is None else sorted(customers)
    parts = (
        [None]
        if named is None
        else [
            tuple(named[start : start + CUSTOMERS_AT_ONCE])
            for start in range(0, len(named), CUSTOMERS_AT_ONCE)
        ]
    )
    made: list[tuple[str, tuple[str | None, ...], Decimal | None]] = []
    for part in parts:
        request = UsageRequest(
            tenant=meter.tenant,
            meter=meter.key,
            version=meter.version,
            from_us=period.from_us,
            to_us=period.to_us,
            edges_us=(period.from_us, period.to_us),
            customers=part,
            group_by=("customer", *columns),
            as_of_us=as_of_us,
            now_us=now_us,
        )
        try:
            answer = await usage(system, request)
        except Invalid as error:
            if error.code != "too_many_rows":
                raise
            return None
        made += [(row.group[0] or "", row.group[1:], row.value) for row in answer.rows]
    return made


async def _usage(system: System, measured: Measured, request: UsageRequest) -> UsageAnswer:
    if not measured.of_events:
        return await usage(system, request)
    return await usage_of(system, request, replace(measured.meter, aggregation=Aggregation.COUNT, of=None))


async def series(
    system: System,
    measured: Measured,
    borders_us: Sequence[int],
    customers: Collection[str],
    as_of_us: int,
    *,
    now_us: int,
) -> dict[tuple[str, str], dict[int, Decimal | None]]:
    """By customer and group: the figure of each window between the borders, by its begin. What has nothing is absent."""
    made: dict[tuple[str, str], dict[int, Decimal | None]] = {}
    # A question names so many customers that its answer has room for all of their windows.
    size = max(1, system.settings.usage_rows_max // (2 * max(len(borders_us), 1)))
    named = sorted(customers)
    for start in range(0, len(named), size):
        answer = await _usage(
            system,
            measured,
            UsageRequest(
                tenant=measured.meter.tenant,
                meter=measured.meter.key,
                version=measured.meter.version,
                from_us=borders_us[0],
                to_us=borders_us[-1],
                edges_us=tuple(borders_us),
                customers=tuple(named[start : start + size]),
                group_by=("customer", *measured.group_by),
                filters=filters_of(measured.filter),
                as_of_us=as_of_us,
                now_us=now_us,
            ),
        )
        for row in answer.rows:
            customer, *values = row.group
            place = customer or "", scope_of(measured.group_by, values)
            made.setdefault(place, {})[row.window_start_us] = row.value
    return made


def scope_of(names: Sequence[str], values: Iterable[str | None]) -> str:
    """A group as the text that names its state. One too long to name stands for itself by its beginning and a digest."""
    if not names:
        return ""
    text = canonical(dict(zip(names, values, strict=True)))
    if len(text.encode()) <= SCOPE_BYTES_MAX:
        return text
    return "#" + hashlib.sha256(text.encode()).hexdigest()


def group_of(scope: str) -> dict[str, str | None] | None:
    """What `scope_of` was given; None where there is no group, or it was too long."""
    return json.loads(scope) if scope.startswith("{") else None


async def _every_customer(system: System, tenant: str) -> AsyncIterator[tuple[str, ...]]:
    cursor: str | None = None
    while True:
        page = await in_questions(system, partial(_customers, system, tenant, cursor))
        if page.items:
            yield tuple(one.key for one in page.items)
        cursor = page.next_cursor
        if cursor is None:
            return


def _customers(system: System, tenant: str, cursor: str | None) -> Page[Customer]:
    return system.catalog.customers(tenant, archived=True, cursor=cursor, limit=1000)
