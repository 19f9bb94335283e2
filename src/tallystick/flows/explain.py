"""Why is my usage 0? What became of the events a meter should have counted, and what to look at next."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from tallystick.errors import Invalid, NotFound
from tallystick.flows.customers import narrowed
from tallystick.flows.lookup import FILTERED, active_meters, reading_of, scan
from tallystick.flows.newest import newest
from tallystick.flows.position import token_of
from tallystick.flows.system import System
from tallystick.flows.usage import DAYS_30_US, in_store, why_not_kept
from tallystick.metering.meter import Meter
from tallystick.metering.reading import Exclusion, Reading
from tallystick.store.interface import EventSearch, StoredEvent, TypeTotals

SCAN_EVENTS_MAX = 20_000
"""Events one explanation reads; the totals are counted over all of them, whatever their number."""
SAMPLES_MAX = 5
NEARBY_EVENTS_MAX = 1000
"""Latest events that names of types are learnt from."""
SIMILAR_MAX = 3

EARLIEST_US = 0
"""No event lies before 1970 (metering/decode.py)."""
LATEST_US = 10_382_256_000_000_000
"""2299-01-01, the end of what the store's timestamps hold."""


@dataclass(frozen=True, slots=True)
class Sample:
    """An event, and what it contributes or why not."""

    event: StoredEvent
    reading: Reading | Exclusion


@dataclass(slots=True)
class Reason:
    """Events that one reason keeps from counting, and the latest few of them."""

    reason: Exclusion
    count: int = 0
    samples: list[Sample] = field(default_factory=list[Sample])


@dataclass(frozen=True, slots=True)
class Hint:
    """What to look at next, in words. `code` is stable."""

    code: str
    detail: str


@dataclass(slots=True)
class Explanation:
    """`seen`: events whose current version is of the meter's type, in the range and of the customer. Of the `scanned` latest of them (all,
    when `complete`): `matched` count, `filtered_out` the filter does not want, `invalid` cannot be read."""

    meter: Meter
    customer: str | None
    from_us: int
    to_us: int
    seen: int = 0
    scanned: int = 0
    matched: int = 0
    filtered_out: int = 0
    invalid: int = 0
    complete: bool = True
    matched_samples: list[Sample] = field(default_factory=list[Sample])
    reasons: dict[Exclusion, Reason] = field(default_factory=dict[Exclusion, Reason])
    hints: list[Hint] = field(default_factory=list[Hint])
    position: str = ""

    def take(self, event: StoredEvent) -> None:
        """Count one event."""
        self.scanned += 1
        given = reading_of(self.meter, event)
        if isinstance(given, Reading):
            self.matched += 1
            samples = self.matched_samples
        else:
            if given in FILTERED:
                self.filtered_out += 1
            else:
                self.invalid += 1
            reason = self.reasons.setdefault(given, Reason(given))
            reason.count += 1
            samples = reason.samples
        if len(samples) < SAMPLES_MAX:
            samples.append(Sample(event, given))


async def explain(
    system: System,
    tenant: str,
    key: str,
    *,
    customer: str | None,
    from_us: int | None,
    to_us: int | None,
    bound: str | None,
) -> Explanation:
    """Why a meter shows what it shows, of a customer (None: all the caller sees) in [from_us, to_us), by default the last
    30 days. Asked of what has been published.

    Raises NotFound for an unknown meter, Invalid (empty_range)."""
    moment_us = system.recorder.recorded_at_us
    position = token_of(system.recorder.position)
    end_us = system.clock.now_us() if to_us is None else to_us
    begin_us = end_us - DAYS_30_US if from_us is None else from_us
    if begin_us >= end_us:
        raise Invalid("The range [from, to) is empty: from must be earlier than to.", code="empty_range")

    def work() -> Explanation:
        meter = system.catalog.meter(tenant, key)
        customers = narrowed(system.catalog, tenant, bound, None if customer is None else (customer,))
        told = Explanation(meter, customer, begin_us, end_us, position=position)
        inquiry = _Inquiry(system, told, tenant, customers, moment_us)
        told.seen = inquiry.totals(customers, begin_us, end_us).events
        if told.seen:
            wanted = EventSearch(
                tenant,
                types=(meter.event_type,),
                customers=customers,
                from_us=begin_us,
                to_us=end_us,
                status="current",
                as_of_us=moment_us,
            )
            scan(system, wanted, inquiry.take, events_max=SCAN_EVENTS_MAX)
        told.complete = told.scanned >= told.seen
        inquiry.hint(bound=bound)
        return told

    return await in_store(system, work)


class _Inquiry:
    """Goes through what usually is the reason, nearest first. Synchronous."""

    def __init__(
        self,
        system: System,
        told: Explanation,
        tenant: str,
        customers: tuple[str, ...] | None,
        moment_us: int,
    ) -> None:
        self._system = system
        self._told = told
        self._tenant = tenant
        self._customers = customers
        self._moment_us = moment_us

    def take(self, event: StoredEvent) -> bool:
        self._told.take(event)
        return True

    def totals(self, customers: tuple[str, ...] | None, from_us: int, to_us: int) -> TypeTotals:
        return self._system.store.type_totals(
            self._tenant,
            self._told.meter.event_type,
            customers=customers,
            from_us=from_us,
            to_us=to_us,
            as_of_us=self._moment_us,
        )

    def hint(self, *, bound: str | None) -> None:
        """Note all hints that apply. To a bound caller, none that speaks of what it may not see."""
        told = self._told
        meter = told.meter
        if meter.archived_at_us is not None:
            self._note(
                "meter_archived", f"Meter {meter.key!r} is archived: it counts nothing that came later."
            )
        gone = why_not_kept(self._system, meter, told.from_us)
        if gone is not None:
            self._note("past_retention", gone)
        behind = self._system.recorder.lag().events
        if behind:
            self._note(
                "not_recorded_yet",
                f"{behind} acknowledged events are not recorded yet; ask again in a moment.",
            )
        if not told.seen:
            self._hint_unseen(bound)
        elif not told.matched:
            reasons = ", ".join(f"{reason.reason} ({reason.count})" for reason in told.reasons.values())
            scope = "All" if told.complete else f"The latest {told.scanned}"
            self._note(
                "none_matched", f"{scope} events of type {meter.event_type!r} here do not count: {reasons}."
            )
        if told.filtered_out:
            self._note(
                "filtered_out",
                f"The meter's filter does not match {told.filtered_out} of them: {meter.filter}",
            )
        if told.reasons.get(Exclusion.FILTER_ERROR):
            self._note(
                "filter_error",
                f"The filter fails for some events, often because a member is missing; `has(data.x)` asks for it: "
                f"{meter.filter}",
            )
        if told.reasons.keys() & {
            Exclusion.VALUE_MISSING,
            Exclusion.VALUE_NOT_NUMERIC,
            Exclusion.VALUE_NOT_SCALAR,
        }:
            self._note(
                "value_unreadable", f"The meter reads {meter.value} in `data`; compare with the samples."
            )
        if not told.complete:
            self._note(
                "incomplete",
                f"Only the latest {told.scanned} of {told.seen} events were read; ask for less time.",
            )
        if bound is None:
            self._hint_conflicts()

    def _hint_unseen(self, bound: str | None) -> None:
        told = self._told
        event_type = told.meter.event_type
        ever = self.totals(self._customers, EARLIEST_US, LATEST_US)
        if ever.events and ever.first_us is not None and ever.last_us is not None:
            self._note(
                "outside_range",
                f"No event of type {event_type!r} lies in this range, but {ever.events} do outside it, "
                f"from {_time(ever.first_us)} to {_time(ever.last_us)}.",
            )
        everybody = ever if self._customers is None else self.totals(None, EARLIEST_US, LATEST_US)
        if bound is not None:
            if not ever.events:
                self._note("no_events", f"No event of type {event_type!r} has been recorded for you.")
            return
        if not everybody.events:
            self._hint_type()
        elif not ever.events:
            self._note(
                "other_customers",
                f"{everybody.events} events of type {event_type!r} exist, none of them of customer {told.customer!r}.",
            )
        if told.customer is not None:
            self._hint_customer(told.customer)

    def _hint_type(self) -> None:
        event_type = self._told.meter.event_type
        lately = EventSearch(self._tenant, as_of_us=self._moment_us, limit=NEARBY_EVENTS_MAX)
        latest = newest(self._system, lately).events
        seen = {event.type for event in latest}
        near = _similar(event_type, (seen | active_meters(self._system, self._tenant).keys()) - {event_type})
        words = f" Types with a similar name: {near}." if near else ""
        if not near and seen:
            words = f" Types recorded lately: {', '.join(sorted(seen)[:10])}."
        self._note("type_unknown", f"No event of type {event_type!r} has ever been recorded.{words}")

    def _hint_customer(self, key: str) -> None:
        catalog = self._system.catalog
        try:
            catalog.customer(self._tenant, key)
        except NotFound:
            near = _similar(key, [known.key for known in catalog.customers(self._tenant, limit=1000).items])
            words = f" Customers with a similar key: {near}." if near else ""
            self._note("customer_unknown", f"There is no customer {key!r}.{words}")
        owner = catalog.resolve_subjects(self._tenant, (key,)).get(key)
        if owner is not None and owner != key:
            self._note("is_subject", f"{key!r} is a subject of customer {owner!r}: ask for that customer.")

    def _hint_conflicts(self) -> None:
        told = self._told
        wanted = EventSearch(
            self._tenant,
            types=(told.meter.event_type,),
            customers=self._customers,
            from_us=told.from_us,
            to_us=told.to_us,
            status="conflict",
            as_of_us=self._moment_us,
            limit=SAMPLES_MAX,
        )
        conflicts = newest(self._system, wanted).events
        if conflicts:
            self._note(
                "conflicts",
                f"Some events were kept as conflicts and do not count, such as {conflicts[0].id!r} of source "
                f"{conflicts[0].source!r}: their identity had been used with other content.",
            )

    def _note(self, code: str, detail: str) -> None:
        self._told.hints.append(Hint(code, detail))


def _similar(name: str, names: Iterable[str]) -> str:
    # Without regard to case: a type in the wrong case is a common slip.
    spelled = {known.casefold(): known for known in sorted(names)}
    return ", ".join(
        repr(spelled[near]) for near in difflib.get_close_matches(name.casefold(), spelled, n=SIMILAR_MAX)
    )


def _time(time_us: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
    return moment.isoformat().replace("+00:00", "Z")
