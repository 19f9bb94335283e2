"""A usage question, from its parameters to its rows.

Every question is asked as of a moment the recorder has published, so it never sees half a batch. It is answered from
readings while these are complete, and from the events otherwise: the number of readings is compared, after the answer,
with the number there must be, and an answer that lacked some is thrown away.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeVar

from tallystick.errors import Fault, Invalid, TimedOut, Unavailable
from tallystick.flows.derive import dimension_values_from_events, usage_from_events
from tallystick.flows.system import System
from tallystick.metering.meter import Meter
from tallystick.metering.position import Vector
from tallystick.metering.query import Filter, UsageQuery, UsageRow, Window
from tallystick.metering.window import edges
from tallystick.store.interface import DerivedMissing

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAYS_30_US = 30 * 86_400 * 1_000_000
GROUPS_BESIDE_DIMENSIONS = ("customer", "subject")

ServedFrom = Literal["rollups", "readings", "events"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class UsageRequest:
    """A question as it was asked. `customers` None: all of the tenant; `window` None: one total."""

    tenant: str
    meter: str
    from_us: int | None = None
    to_us: int | None = None
    window: str | None = None
    timezone: str = "UTC"
    customers: tuple[str, ...] | None = None
    include_children: bool = False
    group_by: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()
    order_by: str | None = None
    limit: int | None = None
    fill: str = "none"
    as_of_us: int | None = None
    min_position: Vector | None = None
    version: int | None = None
    now_us: int | None = None
    """Levels hold and starts time out up to this moment; None: the present one, or `as_of_us` where that is earlier."""
    configured_at_us: int | None = None
    """The meter as it was defined, and the customers below others as they were, at this moment; None: at present."""
    edges_us: tuple[int, ...] | None = None
    """Windows of the caller's own, from `from_us` to `to_us`, instead of `window`."""


@dataclass(frozen=True, slots=True)
class UsageAnswer:
    """Rows, and what is needed to read them. `position`: everything up to it is counted."""

    meter: Meter
    from_us: int
    to_us: int
    window: str | None
    timezone: str
    group_by: tuple[str, ...]
    rows: list[UsageRow]
    position: Vector
    served_from: ServedFrom


async def usage(system: System, request: UsageRequest) -> UsageAnswer:
    """Answer a question.

    Raises NotFound for an unknown meter, Invalid with all faults of the question at once, TimedOut when `min_position`
    is not recorded in time, Unavailable when the store is.
    """
    meter, query, position = await prepared(system, request)
    with system.metrics.query_timed() as answered:
        rows, served_from = await from_readings_or_events(
            system,
            query,
            lambda: _from_rollups_or_readings(system, query),
            lambda: usage_from_events(system.store, query, rows_max=system.settings.usage_rows_max),
        )
        answered(served_from)
    check_kept(system, meter, query.from_us)  # they may have begun to go while it was answered
    return UsageAnswer(
        meter=meter,
        from_us=query.from_us,
        to_us=query.to_us,
        window=request.window,
        timezone=request.timezone,
        group_by=request.group_by,
        rows=rows,
        position=position,
        served_from=served_from,
    )


async def usage_of(system: System, request: UsageRequest, meter: Meter) -> UsageAnswer:
    """As `usage`, by a definition that nobody has made: a meter of the catalog with another aggregation or further
    dimensions. Read from the events, so slower. `request.meter` is not looked at."""
    await wait_for_position(system, request.min_position)
    await store_ready(system)
    position = system.recorder.position
    query = _query(system, meter, request)
    check_kept(system, meter, query.from_us)
    with system.metrics.query_timed() as answered:
        rows = await in_questions(
            system, lambda: usage_from_events(system.store, query, rows_max=system.settings.usage_rows_max)
        )
        answered("events")
    check_kept(system, meter, query.from_us)
    return UsageAnswer(
        meter=meter,
        from_us=query.from_us,
        to_us=query.to_us,
        window=request.window,
        timezone=request.timezone,
        group_by=request.group_by,
        rows=rows,
        position=position,
        served_from="events",
    )


async def prepared(system: System, request: UsageRequest) -> tuple[Meter, UsageQuery, Vector]:
    """The question as the store understands it, as of a moment, and the position it counts up to. Raises as `usage`."""
    await wait_for_position(system, request.min_position)
    await wait_until_settled(system, request.as_of_us)
    meter = await in_questions(system, lambda: definition(system, request))
    position = system.recorder.position
    query = _query(system, meter, request)
    if request.customers is not None and request.include_children:
        named = request.customers
        children = await in_questions(
            system,
            lambda: system.catalog.children(request.tenant, named, at_us=request.configured_at_us),
        )
        query = replace(query, customers=tuple(sorted({*named, *children})))
    check_kept(system, meter, query.from_us)
    return meter, query, position


def definition(system: System, request: UsageRequest) -> Meter:
    """The version asked for. Named by nothing, it is the newest; as of an earlier moment, the one in force then, so that
    what was answered then is answered again (of a time before the meter, its first). Synchronous. Raises NotFound."""
    newest = system.catalog.meter(request.tenant, request.meter, request.version)
    at_us = request.configured_at_us
    if request.version is not None or at_us is None or newest.created_at_us <= at_us:
        return newest
    versions = system.catalog.meter_versions(request.tenant, request.meter)
    return next((one for one in reversed(versions) if one.created_at_us <= at_us), versions[0])


async def dimension_values(
    system: System,
    meter: Meter,
    name: str,
    *,
    customers: tuple[str, ...] | None,
    from_us: int,
    to_us: int,
    prefix: str,
    limit: int,
) -> list[tuple[str | None, int]]:
    """Values of a declared dimension with their number of readings, most frequent first."""
    slot = meter.slot(name)
    if slot is None:
        raise _unknown_dimension("name", name, meter)
    query = UsageQuery(
        meter=meter,
        from_us=from_us,
        to_us=to_us,
        edges_us=(from_us, to_us),
        customers=customers,
        as_of_us=moment(system, meter, None),
    )

    def ask(readings: str) -> list[tuple[str | None, int]]:
        return system.store.dimension_values(
            meter,
            slot,
            customers=customers,
            from_us=from_us,
            to_us=to_us,
            as_of_us=query.as_of_us,
            prefix=prefix,
            limit=limit,
            readings=readings,
        )

    check_kept(system, meter, from_us)
    values, _ = await from_readings_or_events(
        system,
        query,
        lambda: (ask("readings"), "readings"),
        lambda: dimension_values_from_events(system.store, query, ask),
    )
    check_kept(system, meter, from_us)
    return values


def check_kept(system: System, meter: Meter, from_us: int) -> None:
    """Raise Invalid (past_retention) for a range whose events retention has deleted: a figure would be too small."""
    detail = why_not_kept(system, meter, from_us)
    if detail is not None:
        raise Invalid(detail, code="past_retention", faults=[Fault("from", "past_retention", detail)])


def why_not_kept(system: System, meter: Meter, from_us: int) -> str | None:
    """In words, that events this meter counts from here on are deleted; None: they are all there."""
    limit_us = system.recorder.forgotten_before(meter.tenant, meter.event_type)
    if limit_us is None or from_us >= limit_us:
        return None
    limit = (_EPOCH + timedelta(microseconds=limit_us)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"Events of the type {meter.event_type!r} from before {limit} are deleted (retention). Ask from {limit} on."


async def wait_for_position(system: System, position: Vector | None) -> None:
    """Read your own writes. Raises TimedOut when the position is not recorded within `wait_s_max`."""
    if position is None:
        return
    if not await system.recorder.wait_for(position, system.settings.wait_s_max):
        raise TimedOut(
            f"The position asked for was not recorded within {system.settings.wait_s_max} s; "
            f"the recorder is {system.recorder.lag().events} events behind. Ask again later.",
            code="position_not_recorded",
            retry_after_s=1,
        )


async def wait_until_settled(system: System, as_of_us: int | None) -> None:
    """As of a moment just past, a batch under way may still count: what is acknowledged is waited for, so that the same
    question gives the same answer later. A recorder that is far behind is not waited for longer than `wait_s_max`."""
    if as_of_us is None or not system.recorder.recorded_at_us < as_of_us <= system.clock.now_us():
        return
    await system.recorder.wait_for(system.acknowledged, system.settings.wait_s_max)


async def at_one_moment(system: System, request: UsageRequest) -> tuple[UsageRequest, Vector]:
    """The question with its range and its moment written out, so that several questions made of it see the same; and the
    position that they are answered at. Raises TimedOut."""
    await wait_for_position(system, request.min_position)
    await wait_until_settled(system, request.as_of_us)
    position, moment_us = system.recorder.position, system.recorder.recorded_at_us
    return frozen(request, moment_us, system.clock.now_us()), position


def frozen(request: UsageRequest, moment_us: int, now_us: int) -> UsageRequest:
    """The question as of a published moment. Nothing may have been recorded since long before `now_us`; levels hold and
    starts time out all the same."""
    to_us = now_us if request.to_us is None else request.to_us
    return replace(
        request,
        to_us=to_us,
        from_us=to_us - DAYS_30_US if request.from_us is None else request.from_us,
        as_of_us=moment_us if request.as_of_us is None else min(request.as_of_us, moment_us),
        now_us=_until(request, now_us),
        min_position=None,
    )


async def in_questions(system: System, work: Callable[[], T]) -> T:
    """Run a synchronous call to the catalog in a thread for questions. What asks the store: `in_store`."""
    return await asyncio.get_running_loop().run_in_executor(system.questions, work)


async def in_store(system: System, work: Callable[[], T]) -> T:
    """As `in_questions`, for calls to the store. Raises Unavailable."""
    await store_ready(system)
    return await in_questions(system, work)


async def store_ready(system: System) -> None:
    """Wait until the store has the tables that questions ask, which in a new store's first moments it has not. Raises
    Unavailable when that takes longer than a request may wait."""
    if not await system.recorder.wait_until_migrated(system.settings.wait_s_max):
        raise Unavailable("The store is not ready yet.", retry_after_s=1)


def moment(system: System, meter: Meter, as_of_us: int | None) -> int:
    """The moment to ask as of: never one the recorder has not published, nor one after the meter's archiving."""
    moments = [system.recorder.recorded_at_us]
    if as_of_us is not None:
        moments.append(as_of_us)
    if meter.archived_at_us is not None:
        moments.append(meter.archived_at_us)
    return min(moments)


async def from_readings_or_events(
    system: System, query: UsageQuery, readings: Callable[[], tuple[T, ServedFrom]], events: Callable[[], T]
) -> tuple[T, ServedFrom]:
    """The answer from readings (or roll-ups of them) when they are complete before and after it was made; otherwise
    from events."""
    recorder = system.recorder
    assert query.as_of_us is not None
    await store_ready(system)
    if recorder.readings_complete(query.meter, query.as_of_us):
        generation, expected = recorder.generation, recorder.readings_expected

        def answer_and_count() -> tuple[tuple[T, ServedFrom] | None, int]:
            try:
                return readings(), system.store.count_readings()
            except DerivedMissing:
                return None, -1

        answer, held = await in_questions(system, answer_and_count)
        if answer is not None and held >= expected and recorder.generation == generation:
            return answer
        if recorder.generation == generation:
            recorder.want_rebuild()
    return await in_questions(system, events), "events"


def _from_rollups_or_readings(system: System, query: UsageQuery) -> tuple[list[UsageRow], ServedFrom]:
    rows_max = system.settings.usage_rows_max
    rows = system.rollups.usage(query, rows_max=rows_max)
    if rows is not None:
        return rows, "rollups"
    return system.store.usage(query, rows_max=rows_max), "readings"


def _query(system: System, meter: Meter, request: UsageRequest) -> UsageQuery:
    settings = system.settings
    faults: list[Fault] = []
    now_us = system.clock.now_us()
    to_us = now_us if request.to_us is None else request.to_us
    from_us = to_us - DAYS_30_US if request.from_us is None else request.from_us
    window = None
    if request.window is not None:
        try:
            window = Window(request.window)
        except ValueError:
            allowed = ", ".join(Window)
            faults.append(
                Fault(
                    "window", "unknown_window", f"There is no window {request.window!r}; there are {allowed}."
                )
            )
    bounds: tuple[int, ...] = (from_us, to_us)
    inner: tuple[int, ...] | None = None
    if to_us <= from_us:
        faults.append(Fault("to", "empty_range", "`to` must be later than `from`."))
    else:
        try:
            bounds = request.edges_us or edges(
                from_us, to_us, window, request.timezone, windows_max=settings.usage_windows_max
            )
            if meter.of is not None:
                inner = edges(
                    from_us, to_us, meter.of.window, request.timezone, windows_max=settings.usage_windows_max
                )
        except Invalid as error:
            faults += error.faults or (Fault("window", error.code, error.detail),)
    named = {*GROUPS_BESIDE_DIMENSIONS, *(dimension.name for dimension in meter.dimensions)}
    for name in request.group_by:
        if name not in named:
            faults += _unknown_dimension("group_by", name, meter).faults
    if len(set(request.group_by)) != len(request.group_by):
        faults.append(Fault("group_by", "repeated_dimension", "A dimension is named twice in `group_by`."))
    for condition in request.filters:
        if condition.name not in named:
            faults += _unknown_dimension(f"filter/{condition.name}", condition.name, meter).faults
    if request.order_by not in (None, "value", "-value"):
        faults.append(Fault("order_by", "invalid_order_by", "`order_by` is `value` or `-value`."))
    if request.fill not in ("none", "zero"):
        faults.append(Fault("fill", "invalid_fill", "`fill` is `none` or `zero`."))
    if faults:
        raise Invalid(" ".join(fault.detail for fault in faults), code=faults[0].code, faults=faults)
    return UsageQuery(
        meter=meter,
        from_us=from_us,
        to_us=to_us,
        edges_us=bounds,
        customers=request.customers,
        group_by=request.group_by,
        filters=request.filters,
        # A limit alone keeps the greatest.
        descending=None
        if request.order_by is None and request.limit is None
        else request.order_by != "value",
        limit=request.limit,
        fill_zero=request.fill == "zero",
        as_of_us=moment(system, meter, request.as_of_us),
        now_us=_until(request, now_us),
        inner_edges_us=inner,
    )


def _until(request: UsageRequest, now_us: int) -> int:
    """What has not happened yet is not used yet. Asked as of a moment, that moment was now."""
    if request.now_us is not None:
        return request.now_us
    return now_us if request.as_of_us is None else min(now_us, request.as_of_us)


def _unknown_dimension(pointer: str, name: str, meter: Meter) -> Invalid:
    declared = ", ".join([*GROUPS_BESIDE_DIMENSIONS, *(dimension.name for dimension in meter.dimensions)])
    detail = f"Meter {meter.key!r} has no dimension {name!r}; it has {declared}."
    return Invalid(detail, code="unknown_dimension", faults=[Fault(pointer, "unknown_dimension", detail)])
