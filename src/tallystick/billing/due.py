"""What is due for a billing period: each charge for as long as it held, and the usage questions it needs answered.

A charge holds while its plan version, its phase and its add-on are in force, the subscription is not paused and no trial
covers it. Each such stretch is an item of its own: its usage is rated by itself, its fee and its limits shrink with it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise

from tallystick.billing.charge import Charge, Timing
from tallystick.billing.kept import canonical
from tallystick.billing.period import Period
from tallystick.billing.plan import Covers, Plan
from tallystick.billing.proration import Change, ProrateBy, Share, levels, share
from tallystick.billing.subscription import Stretch, Subscription, phase_stretches
from tallystick.billing.timeline import Plans, Turn
from tallystick.money import ZERO
from tallystick.rating.rate import Level

_WINDOWS = {60: "hour", 15: "15m", 5: "5m", 1: "minute"}


@dataclass(frozen=True, slots=True)
class Question:
    """Usage that is asked for once for all customers it concerns. `dimensions` in order."""

    meter: str
    filter: str | None
    dimensions: tuple[str, ...]
    from_us: int
    to_us: int
    window: str | None = None
    timezone: str = "UTC"
    one_by_one: bool = False
    """The price must know each transaction, not only their sum."""


@dataclass(frozen=True, slots=True)
class Item:
    """A charge over a stretch of time. `levels` are of a charge without a meter."""

    plan: str
    version: int
    phase: int
    add_on: str | None
    charge: Charge
    whole: Period
    part: Period
    share: Share
    levels: tuple[Level, ...] = ()
    id: str = field(init=False)
    """The same for the same charge and beginning, whatever its end is: a change of plan later shortens the line."""

    def __post_init__(self) -> None:
        place = [self.plan, self.version, self.phase, self.add_on, self.charge.key]
        text = canonical([*place, self.charge.timing.value, self.whole.from_us, self.part.from_us])
        object.__setattr__(self, "id", hashlib.sha256(text.encode()).hexdigest()[:16])

    def questions(self, until_us: int | None = None) -> tuple[Question, ...]:
        """Usage up to a moment (None: all of the stretch), cut where the price changes."""
        if self.charge.meter is None:
            return ()
        part = self.part.cut(None, until_us)
        if part is None:
            return ()
        needs = self.charge.price.needs()
        cuts = sorted(cut for cut in needs.split_us if part.from_us < cut < part.to_us)
        borders = [part.from_us, *cuts, part.to_us]
        dimensions = tuple(sorted({*self.charge.group_by, *needs.dimensions}))
        return tuple(
            Question(
                self.charge.meter,
                self.charge.filter,
                dimensions,
                begin,
                end,
                None if needs.window_minutes is None else _WINDOWS[needs.window_minutes],
                needs.timezone or "UTC",
                needs.transactions or needs.transaction_count,
            )
            for begin, end in pairwise(borders)
        )


@dataclass(frozen=True, slots=True)
class PlanShare:
    """How much of a billing period a plan version held: for its commitment and its minimum."""

    plan: str
    version: int
    shares: tuple[Share, ...]


def items_of(
    subscription: Subscription, plans: Plans, timezone: str, turn: Turn, timing: Timing
) -> tuple[Item, ...]:
    """The charges of a billing period that are billed in arrears (for it) or in advance (of it)."""
    made: list[Item] = []
    for stretch, plan, trial_end_us in _stretches(subscription, plans, timezone, turn):
        span = subscription.span_at(stretch.period.from_us)
        assert span is not None  # a stretch lies within its span
        for phase in phase_stretches(plan, span, stretch, timezone):
            if plan.phases and plan.phases[phase.phase].free:
                continue
            offered = [(None, charge) for charge in plan.charges_in(phase.phase)]
            offered += [(add_on, charge) for add_on in plan.add_ons for charge in add_on.charges]
            for add_on, charge in offered:
                if charge.timing is not timing:
                    continue
                free_until_us = (
                    trial_end_us if charge.meter is None or plan.trial_covers is Covers.ALL else None
                )
                parts = [phase.period.cut(free_until_us, None)]
                if add_on is not None and charge.meter is not None:
                    instances = subscription.instances_of(add_on.key)
                    parts = _while_positive(instances, parts[0])
                for part in parts:
                    if part is None:
                        continue
                    ends = phase.ends and part.to_us == phase.period.to_us
                    by = plan.proration if charge.prorate else ProrateBy.NONE
                    counts: tuple[Change, ...] = ()
                    if charge.meter is None:
                        counts = subscription.quantities_of(charge.key, charge.quantity)
                        if add_on is not None:
                            counts = _times(subscription.instances_of(add_on.key), charge.quantity)
                            if not any(one.quantity for one in counts if one.at_us < part.to_us):
                                continue
                    made.append(
                        Item(
                            plan.key,
                            stretch.version,
                            phase.phase,
                            None if add_on is None else add_on.key,
                            charge,
                            turn.whole,
                            part,
                            share(turn.whole, part, by=by, timezone=timezone, ends=ends),
                            levels(turn.whole, part, counts, by=by, timezone=timezone, ends=ends)
                            if counts
                            else (),
                        )
                    )
    return tuple(made)


def plan_shares(subscription: Subscription, plans: Plans, timezone: str, turn: Turn) -> tuple[PlanShare, ...]:
    """For each plan version of a billing period, how long it held. A trial that covers everything does not count."""
    made: dict[tuple[str, int], list[Share]] = {}
    for stretch, plan, trial_end_us in _stretches(subscription, plans, timezone, turn):
        part = stretch.period.cut(trial_end_us if plan.trial_covers is Covers.ALL else None, None)
        if part is not None:
            own = share(turn.whole, part, by=plan.proration, timezone=timezone, ends=stretch.ends)
            made.setdefault((stretch.plan, stretch.version), []).append(own)
    return tuple(PlanShare(key, version, tuple(shares)) for (key, version), shares in made.items())


def _stretches(
    subscription: Subscription, plans: Plans, timezone: str, turn: Turn
) -> list[tuple[Stretch, Plan, int]]:
    first = subscription.spans[0]
    trial_end_us = subscription.trial_end(plans[first.plan, first.version], timezone)
    goes_on = subscription.span_at(turn.part.to_us) is not None and not subscription.paused_at(
        turn.part.to_us
    )
    made: list[tuple[Stretch, Plan, int]] = []
    for stretch in subscription.stretches(turn.part):
        if goes_on and stretch.period.to_us == turn.part.to_us:
            # A plan with periods of another length takes over: the day is that one's.
            stretch = Stretch(stretch.plan, stretch.version, stretch.period, ends=False)  # noqa: PLW2901
        made.append((stretch, plans[stretch.plan, stretch.version], trial_end_us))
    return made


def _while_positive(changes: Sequence[Change], part: Period | None) -> list[Period | None]:
    """The runs of a part in which there is at least one."""
    if part is None:
        return []
    made: list[Period | None] = []
    begin_us: int | None = None
    for change in changes:
        if change.quantity > 0 and begin_us is None:
            begin_us = change.at_us
        elif change.quantity <= 0 and begin_us is not None:
            made.append(part.cut(begin_us, change.at_us))
            begin_us = None
    if begin_us is not None:
        made.append(part.cut(begin_us, None))
    return made


def _times(changes: Sequence[Change], factor: Decimal) -> tuple[Change, ...]:
    return tuple(Change(one.at_us, one.quantity * factor if one.quantity else ZERO) for one in changes)
