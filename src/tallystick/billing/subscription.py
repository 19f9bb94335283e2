"""A subscription: which plan version a customer has when, and every change to it, each a new value of the whole.

Nothing is overwritten: a change of plan closes one span and opens the next, a pause is a stretch of time, a number of seats
holds from a moment on. So what was in force at any moment can be asked for ever, and an old invoice made again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum

from tallystick.billing.period import Cadence, Length, Period, add_days, add_length
from tallystick.billing.plan import TRIAL_DAYS_MAX, Plan, read_metadata
from tallystick.billing.proration import Change
from tallystick.billing.threshold import Thresholds, read_thresholds
from tallystick.document import Document
from tallystick.errors import Conflict, Fault, Invalid
from tallystick.metering.instant import instant_us

CUSTOMER_CHARACTERS_MAX = 256
QUANTITIES_MAX = 200
SPANS_MAX = 1000
VERSION_MAX = 10**9
TIME_LEAST_US = -2_208_988_800_000_000
TIME_END_US = 10_382_256_000_000_000


class State(StrEnum):
    """Of a subscription at a moment."""

    SCHEDULED = "scheduled"
    TRIALING = "trialing"
    ACTIVE = "active"
    PAUSED = "paused"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Span:
    """One plan version holds in [from_us, to_us); None: no end is known."""

    plan: str
    version: int
    from_us: int
    to_us: int | None = None


@dataclass(frozen=True, slots=True)
class Quantity:
    """From `at_us` on, `quantity` of a charge (seats), or of an add-on."""

    key: str
    at_us: int
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a period in which one plan version held without a break."""

    plan: str
    version: int
    period: Period
    ends: bool
    """Nothing follows at its end: for proration by day, its last day counts."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """`spans` in order of time, one after the other without gaps; `pauses` likewise, the last one perhaps open.

    `anchor_us` None: periods by the calendar. `start_us` is the beginning of the first span, `end_us` the end of the last.
    """

    id: str
    customer: str
    spans: tuple[Span, ...]
    anchor_us: int | None = None
    trial_days: int | None = None
    """None: the plan's."""
    pauses: tuple[tuple[int, int | None], ...] = ()
    quantities: tuple[Quantity, ...] = ()
    add_ons: tuple[Quantity, ...] = ()
    thresholds: Thresholds | None = None
    """None: the plan's."""
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def start_us(self) -> int:
        return self.spans[0].from_us

    @property
    def end_us(self) -> int | None:
        return self.spans[-1].to_us

    def span_at(self, at_us: int) -> Span | None:
        """The plan version in force; None before the start and after the end. A pause does not matter here."""
        for span in self.spans:
            if span.from_us <= at_us and (span.to_us is None or at_us < span.to_us):
                return span
        return None

    def paused_at(self, at_us: int) -> bool:
        return any(begin <= at_us and (end is None or at_us < end) for begin, end in self.pauses)

    def state_at(self, at_us: int, *, trial_end_us: int) -> State:
        """`trial_end_us`: see `trial_end`."""
        if at_us < self.start_us:
            return State.SCHEDULED
        if self.span_at(at_us) is None:
            return State.ENDED
        if self.paused_at(at_us):
            return State.PAUSED
        return State.TRIALING if at_us < trial_end_us else State.ACTIVE

    def trial_end(self, plan: Plan, timezone: str) -> int:
        """When the trial of this subscription ends; its start where there is none. A later plan has no trial of its own."""
        days = plan.trial_days if self.trial_days is None else self.trial_days
        return add_days(self.start_us, days, timezone)

    def stretches(self, period: Period) -> tuple[Stretch, ...]:
        """What of a period is to be billed, by plan version: its spans less its pauses, in order of time."""
        made: list[Stretch] = []
        for span in self.spans:
            part = period.cut(span.from_us, span.to_us)
            while part is not None:
                rest: Period | None = None
                stop: int | None = part.to_us
                for begin, end in self.pauses:
                    if begin <= part.from_us and (end is None or part.from_us < end):
                        # It begins within a pause: go on after it.
                        part = None if end is None else part.cut(end, None)
                        stop = None
                        break
                    if part.from_us < begin < part.to_us:
                        stop = begin
                        rest = part.cut(begin, None)
                        break
                if part is None or stop is None:
                    continue
                made.append(Stretch(span.plan, span.version, Period(part.from_us, stop), ends=False))
                part = rest
        return tuple(
            replace(one, ends=index + 1 == len(made) or made[index + 1].period.from_us != one.period.to_us)
            for index, one in enumerate(made)
        )

    def quantities_of(self, key: str, otherwise: Decimal) -> tuple[Change, ...]:
        """The changes of a charge's quantity in order of time, `otherwise` (the plan's) from the start on."""
        return _changes(self.quantities, key, self.start_us, otherwise)

    def instances_of(self, add_on: str) -> tuple[Change, ...]:
        """How many of an add-on, in order of time, none from the start on."""
        return _changes(self.add_ons, add_on, self.start_us, Decimal(0))

    # -- changes: each answers the subscription as it is then --------------------------------------------------------
    def changed(self, plan: str, version: int, at_us: int) -> "Subscription":
        """Another plan or version from a moment on; what was arranged for later than that is dropped.

        Raises Conflict (subscription_ended, subscription_not_started, too_many_changes)."""
        current = self._changeable_at(at_us)
        if (current.plan, current.version) == (plan, version):
            return replace(self, spans=(*self._spans_before(current), replace(current, to_us=self.end_us)))
        kept = self._spans_before(current)
        end_us = self.end_us
        if len(self.spans) >= SPANS_MAX:
            raise Conflict(f"A subscription changes at most {SPANS_MAX} times.", code="too_many_changes")
        if current.from_us == at_us:
            return replace(self, spans=(*kept, Span(plan, version, at_us, end_us)))
        closed = replace(current, to_us=at_us)
        return replace(self, spans=(*kept, closed, Span(plan, version, at_us, end_us)))

    def cancelled(self, at_us: int) -> "Subscription":
        """Ends at a moment; one not after the start is as if it had never been (nothing is due).

        Raises Conflict (subscription_ended) when it has ended before."""
        if self.end_us is not None and at_us > self.end_us:
            raise Conflict("The subscription ends before that.", code="subscription_ended")
        at_us = max(at_us, self.start_us)
        kept = [span for span in self.spans if span.from_us < at_us] or [self.spans[0]]
        kept[-1] = replace(kept[-1], to_us=at_us)
        return replace(self, spans=tuple(kept))

    def resumed_end(self) -> "Subscription":
        """Takes back a cancellation that lies ahead. The caller checks that it does."""
        return replace(self, spans=(*self.spans[:-1], replace(self.spans[-1], to_us=None)))

    def paused(self, at_us: int, until_us: int | None = None) -> "Subscription":
        """Nothing is due and no period's fee grows from a moment on, until `until_us` or `resumed`.

        Raises Conflict (subscription_paused, subscription_ended, subscription_not_started), Invalid (empty_range)."""
        self._changeable_at(at_us)
        if until_us is not None and until_us <= at_us:
            raise _invalid("/until", "empty_range", "until must lie after the moment it is paused at.")
        for _, end in self.pauses:
            if end is None or end > at_us:
                raise Conflict(
                    "The subscription is paused at that moment already, or will be later.",
                    code="subscription_paused",
                )
        return replace(self, pauses=(*self.pauses, (at_us, until_us)))

    def resumed(self, at_us: int) -> "Subscription":
        """Ends the pause. Raises Conflict (subscription_not_paused)."""
        if not self.pauses or not self.paused_at(at_us):
            raise Conflict("The subscription is not paused at that moment.", code="subscription_not_paused")
        begin, _ = self.pauses[-1]
        kept = self.pauses[:-1]
        return replace(self, pauses=kept if begin == at_us else (*kept, (begin, at_us)))

    def with_quantity(self, key: str, quantity: Decimal, at_us: int) -> "Subscription":
        """Another number of seats of a charge from a moment on; later arrangements for it are dropped."""
        self._changeable_at(at_us)
        return replace(self, quantities=_with(self.quantities, Quantity(key, at_us, quantity)))

    def with_add_on(self, key: str, instances: Decimal, at_us: int) -> "Subscription":
        """So many of an add-on from a moment on; 0 takes it off."""
        self._changeable_at(at_us)
        return replace(self, add_ons=_with(self.add_ons, Quantity(key, at_us, instances)))

    def _changeable_at(self, at_us: int) -> Span:
        if at_us < self.start_us:
            raise Conflict("The subscription begins later than that.", code="subscription_not_started")
        found = self.span_at(at_us)
        if found is None:
            raise Conflict("The subscription has ended by then.", code="subscription_ended")
        return found

    def _spans_before(self, current: Span) -> tuple[Span, ...]:
        return self.spans[: self.spans.index(current)]


def _changes(kept: tuple[Quantity, ...], key: str, start_us: int, otherwise: Decimal) -> tuple[Change, ...]:
    own = sorted((one for one in kept if one.key == key), key=lambda one: one.at_us)
    return (Change(start_us, otherwise), *(Change(one.at_us, one.quantity) for one in own))


def _with(kept: tuple[Quantity, ...], new: Quantity) -> tuple[Quantity, ...]:
    if sum(one.key == new.key for one in kept) >= SPANS_MAX:
        raise Conflict(f"A quantity changes at most {SPANS_MAX} times.", code="too_many_changes")
    return (*(one for one in kept if one.key != new.key or one.at_us < new.at_us), new)


# -- phases ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class PhaseStretch:
    """A part of a stretch in which one phase of the plan held."""

    phase: int
    period: Period
    ends: bool


def phase_stretches(plan: Plan, span: Span, stretch: Stretch, timezone: str) -> tuple[PhaseStretch, ...]:
    """A stretch cut where the plan's phases change; they are counted from the beginning of the span, pauses included."""
    if not plan.phases:
        return (PhaseStretch(0, stretch.period, stretch.ends),)
    made: list[PhaseStretch] = []
    begin = span.from_us
    for index, phase in enumerate(plan.phases):
        end = None if phase.length is None else add_length(begin, phase.length, timezone)
        part = stretch.period.cut(begin, end)
        if part is not None:
            made.append(PhaseStretch(index, part, stretch.ends and part.to_us == stretch.period.to_us))
        if end is None or end >= stretch.period.to_us:
            break
        begin = end
    return tuple(made)


# -- reading --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class SubscriptionRequest:
    """What a person says of a new subscription. None: the plan's newest published version; now; no end; the calendar."""

    customer: str
    plan: str
    version: int | None
    start_us: int | None
    end_us: int | None
    anchor_us: int | None
    trial_days: int | None
    quantities: tuple[tuple[str, Decimal], ...] = ()
    key: str | None = None
    thresholds: Thresholds | None = None
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])


def parse_subscription(raw: object) -> SubscriptionRequest:
    """Read `{"customer", "plan", "version", "start", "end", "anchor", "trial_days", "quantities"}`.

    Raises Invalid with every fault: missing, invalid_key, invalid_time, invalid_number, empty_range, unknown_member."""
    document = Document(raw)
    start_us, end_us = read_time_us(document, "start"), read_time_us(document, "end")
    if start_us is not None and end_us is not None and end_us <= start_us:
        document.fault("empty_range", "must lie after start.", "end")
    thresholds = read_thresholds(document)
    made = SubscriptionRequest(
        customer=document.required_text("customer", characters_max=CUSTOMER_CHARACTERS_MAX),
        plan=document.key("plan") or "",
        version=document.integer("version", least=1, most=VERSION_MAX),
        start_us=start_us,
        end_us=end_us,
        anchor_us=read_time_us(document, "anchor"),
        trial_days=document.integer("trial_days", least=0, most=TRIAL_DAYS_MAX),
        quantities=read_quantities(document, "quantities"),
        key=document.key("key", required=False),
        thresholds=thresholds if document.has("thresholds") else None,
        metadata=read_metadata(document),
    )
    document.finish()
    return made


def read_quantities(document: Document, name: str) -> tuple[tuple[str, Decimal], ...]:
    """An object of decimals by the keys of charges."""
    raw = document.take(name)
    if raw is None:
        return ()
    if not isinstance(raw, dict) or len(raw) > QUANTITIES_MAX:  # pyright: ignore[reportUnknownArgumentType]
        document.fault("invalid_type", f"must be an object of at most {QUANTITIES_MAX} decimals.", name)
        return ()
    inner = document.below(raw, name)  # pyright: ignore[reportUnknownArgumentType]
    found = [(key, inner.decimal(key)) for key in map(str, raw)]  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    return tuple((key, quantity) for key, quantity in found if quantity is not None)


def read_time_us(document: Document, name: str) -> int | None:
    """An RFC 3339 time of the years 1900 to 2298. Fault: invalid_time."""
    text = document.text(name, characters_max=64)
    if text is None:
        return None
    try:
        moment = instant_us(text)
    except ValueError as error:
        document.fault("invalid_time", f"is no time: {error}", name)
        return None
    if not TIME_LEAST_US <= moment < TIME_END_US:
        document.fault("invalid_time", "must lie in the years 1900 to 2298.", name)
        return None
    return moment


def read_effective_us(
    document: Document, *, now_us: int, cadence: Cadence, name: str = "effective", otherwise: str = "now"
) -> int:
    """`now`, `period_end` (of the period that holds `now_us`) or a time. Fault: invalid_time."""
    raw = document.take(name) or otherwise
    if raw == "now":
        return now_us
    if raw == "period_end":
        return cadence.period_at(now_us).to_us
    return read_time_us(document, name) or now_us


def cadence_of(subscription: Subscription, length: Length, timezone: str) -> Cadence:
    """The periods of a subscription under a plan with this billing period."""
    return Cadence(length, timezone, subscription.anchor_us)


def _invalid(pointer: str, code: str, detail: str) -> Invalid:
    return Invalid(detail, code=code, faults=[Fault(pointer, code, detail)])
