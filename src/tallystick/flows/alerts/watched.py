"""What one question watches: its alerts in the order of their thresholds, and what is known of each customer's figures.

Of a figure only the alerts whose threshold lies below it are looked at, and those that have fired. Which have is read
once a window, so that a look makes findings of what changes and of nothing else.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Context, Decimal
from typing import Any

from tallystick.alerting.evaluate import quiet_range, reached
from tallystick.alerting.rule import ANY, Condition, Operation
from tallystick.alerting.window import AlertWindow
from tallystick.billing.kept import canonical
from tallystick.billing.period import Period
from tallystick.catalog.alerting import KeptState
from tallystick.flows.alerts.figures import Measured, Scopes, group_of
from tallystick.flows.alerts.finding import Armed, Finding
from tallystick.flows.alerts.limits import WatchedLimit
from tallystick.flows.alerts.tick import named_customers
from tallystick.metering.meter import SERIES, Aggregation
from tallystick.money import exactly, plain, product, quotient

_LEAST = Decimal("1e-18")
_SHOWN = Context(prec=120)
Quiet = tuple[Decimal | None, Decimal | None]
"""Figures between which nothing changes: from the first up to, not including, the second. None: no bound."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What one question is about."""

    measured: Measured
    window: AlertWindow
    timezone: str | None

    @property
    def adds_up(self) -> bool:
        """Whether what was recorded since can be added to what was known."""
        meter = self.measured.meter
        return (
            meter.aggregation in (Aggregation.SUM, Aggregation.COUNT)
            and meter.of is None
            and self.measured.filter is None
            and not self.measured.group_by
        )


@dataclass(frozen=True, slots=True)
class Level:
    """An alert, and the limit it looks at."""

    alert: Armed
    limit: WatchedLimit | None = None

    def scope(self, scope: str) -> str:
        """The scope of the state, given that of the figure: an alert on every limit has a state of each."""
        if self.limit is None or self.alert.rule.condition.limit is not None:
            return scope
        return canonical({"limit": self.limit.key, **(group_of(scope) or {})})

    def condition(self, customer: str, base: Decimal | None) -> Condition | None:
        """In the figure's own unit; None: it cannot be compared with the window before."""
        condition = self.alert.rule.condition
        if self.limit is not None:
            return of_amount(condition, self.limit.amount_for(customer))
        if condition.operation is Operation.PERCENT_CHANGE:
            return _above(condition, base) if base else None
        return condition

    def finding(
        self, condition: Condition, period: Period, customer: str, figure: "Figure", now_us: int
    ) -> Finding:
        """`condition`: as above."""
        scope, value, base = figure
        evidence: dict[str, Any] = {
            "value": None if value is None else plain(value),
            "group": group_of(scope),
        }
        if self.limit is not None:
            amount = self.limit.amount_for(customer)
            evidence |= {
                "limit": self.limit.key,
                "limit_amount": plain(amount),
                "percent": percent(value, amount),
            }
        elif base and condition.operation is Operation.PERCENT_CHANGE:
            evidence |= {"previous": plain(base), "percent": change(value, base)}
        return Finding(
            alert=self.alert,
            place=self.alert.place(customer, window_start_us=period.from_us, scope=self.scope(scope)),
            condition=condition,
            figure=value,
            window=period,
            over=period.to_us <= now_us,
            evidence=evidence,
        )


Figure = tuple[str, Decimal | None, Decimal | None]
"""A group, its figure, and that of the window before."""


@dataclass(slots=True)
class Known:
    """Of one window, as of the last look. `whole`: who is not in it had nothing when it was asked for; `asked_whole`: that
    was tried (there may be too many). `quiet`: by customer and scope, as long as the window before has the figure in `bases`
    (None where it is compared with nothing). `fired`: by customer and the state's scope, of each alert that is at a level above 0 that level, and whether the state is closed; None: not
    read yet."""

    period: Period
    asked_us: int
    by_customer: dict[str, Scopes] = field(default_factory=dict[str, Scopes])
    whole: bool = False
    asked_whole: bool = False
    quiet: dict[tuple[str, str], Quiet] = field(default_factory=dict[tuple[str, str], Quiet])
    bases: dict[tuple[str, str], Decimal] = field(default_factory=dict[tuple[str, str], Decimal])
    fired: dict[tuple[str, str], dict[str, tuple[int, bool]]] | None = None

    def read(self, states: Iterable[KeptState]) -> None:
        """These are all above level 0."""
        self.fired = {}
        for state in states:
            self.note(state)

    def note(self, state: KeptState) -> None:
        """What is written down of an alert from now on."""
        assert self.fired is not None  # whatever is decided was found with it
        key = state.place.customer, state.place.scope
        if state.level:
            self.fired.setdefault(key, {})[state.place.alert] = (state.level, state.closed)
        elif key in self.fired:
            self.fired[key].pop(state.place.alert, None)

    def quiet_beside(self, key: tuple[str, str], base: Decimal | None) -> Quiet | None:
        """Between which figures nothing changes, given that of the window before; None: not known."""
        return self.quiet.get(key) if self.bases.get(key) == base else None

    def widen(self, key: tuple[str, str], base: Decimal | None) -> None:
        """Begin to find out between which figures nothing changes."""
        self.quiet[key] = (None, None)
        if base is not None:
            self.bases[key] = base
        else:
            self.bases.pop(key, None)

    def narrow(self, key: tuple[str, str], quiet: Quiet) -> None:
        now = self.quiet.get(key, (None, None))
        self.quiet[key] = (_greater(now[0], quiet[0]), _smaller(now[1], quiet[1]))

    def drop(self, customer: str) -> None:
        """What is known of a customer is not true any more."""
        for scope in self.by_customer.pop(customer, {}):
            self.quiet.pop((customer, scope), None)
            self.bases.pop((customer, scope), None)

    @property
    def size(self) -> int:
        return len(self.by_customer) + len(self.quiet) + len(self.bases) + len(self.fired or ())


@dataclass(slots=True)
class _Ladder:
    """Alerts with thresholds that are the same for everybody, lowest first."""

    levels: list[Level] = field(default_factory=list[Level])
    firsts: list[Decimal] = field(default_factory=list[Decimal])
    by_alert: dict[str, Level] = field(default_factory=dict[str, Level])

    def close(self) -> None:
        self.levels.sort(key=_first)
        self.firsts = [_first(level) for level in self.levels]
        self.by_alert = {level.alert.kept.id: level for level in self.levels}


class Watched:
    """One question, its alerts, and what is known of its windows. `is_changed`: it has other alerts than before."""

    def __init__(self, watch: Watch, levels: Sequence[Level], before: "Watched | None" = None) -> None:
        """`before`: the same question, with other alerts perhaps."""
        self.watch = watch
        self.levels = tuple(levels)
        self.adds_up = watch.adds_up
        self.names = named_customers([level.alert for level in levels])
        self.begun = all(level.alert.kept.begun for level in levels)
        self.deciding = [(one.alert.kept.id, one.alert.kept.edition, one.limit) for one in levels]
        self.known: dict[Period, Known] = {} if before is None else before.known
        self.is_series = watch.measured.meter.aggregation in SERIES
        self.is_changed = before is None or before.deciding != self.deciding
        if self.is_changed:
            # The figures are the same; which of them change something is not.
            self.known = {
                period: Known(period, one.asked_us, one.by_customer, one.whole, one.asked_whole)
                for period, one in self.known.items()
            }
        self.is_stale = self.is_changed and any(level.limit is not None for level in levels)
        """Whether a limit may be another one than it was, so that figures are to be looked at which have not changed."""
        if before is not None and before.is_stale and self.deciding == before.deciding:
            self.is_stale = True
        self.compares = any(
            level.alert.rule.condition.operation is Operation.PERCENT_CHANGE for level in levels
        )
        self.plans = {
            level.limit.plan for level in levels if level.limit is not None and level.limit.plan is not None
        }
        self.alerts = sorted({level.alert.kept.id for level in levels})
        self._ladders: dict[str, _Ladder] = {}
        self._others: dict[str, list[Level]] = {}
        for level in levels:
            whose = level.alert.rule.customer
            if level.limit is None and level.alert.rule.condition.operation is Operation.GTE:
                self._ladders.setdefault(whose, _Ladder()).levels.append(level)
            else:
                self._others.setdefault(whose, []).append(level)
        for ladder in self._ladders.values():
            ladder.close()

    def changes(
        self, known: Known, customer: str, figure: Figure, now_us: int, plans: dict[str, set[str]]
    ) -> Iterator[Finding]:
        """What a figure changes. Of the others it is remembered between which figures nothing does."""
        scope, value, base = figure
        key = customer, scope
        quiet = known.quiet_beside(key, base)
        if quiet is not None and value is not None and within(value, quiet):
            return
        known.widen(key, base)
        assert known.fired is not None
        for level in self._candidates(known, key, value):
            if level.limit is not None and not _limited(level.limit, customer, plans):
                continue
            condition = level.condition(customer, base)
            if condition is None:
                continue  # until there is something to compare it with
            fired = known.fired.get((customer, level.scope(scope)))
            at, closed = (0, False) if fired is None else fired.get(level.alert.kept.id, (0, False))
            new = 0 if value is None else reached(condition, value, at)
            if new == at or (closed and new < at):
                known.narrow(key, _quiet(condition, at, closed))
            else:
                yield level.finding(condition, known.period, customer, figure, now_us)

    def _candidates(self, known: Known, key: tuple[str, str], value: Decimal | None) -> Iterator[Level]:
        """Those the figure may change, or hold where they are. Of ladders not those above it that have not fired."""
        assert known.fired is not None
        fired = known.fired.get(key)
        for whose in (ANY, key[0]):
            yield from self._others.get(whose, ())
            ladder = self._ladders.get(whose)
            if ladder is None:
                continue
            end = 0 if value is None else bisect_right(ladder.firsts, value)
            yield from ladder.levels[:end]
            if end < len(ladder.firsts):
                known.narrow(key, (None, ladder.firsts[end]))
            if fired:
                above = {level.alert.kept.id for level in ladder.levels[end:]} & fired.keys()
                yield from (ladder.by_alert[name] for name in sorted(above))

    def settled(self, known: Known, scope: str, finding: Finding, state: KeptState) -> None:
        """What became of a finding is written down."""
        known.note(state)
        level = min(state.level, len(finding.condition.steps))
        known.narrow((state.place.customer, scope), _quiet(finding.condition, level, state.closed))


def _quiet(condition: Condition, level: int, closed: bool) -> Quiet:
    least, above = quiet_range(condition, level)
    return (None if closed else least), above


def _first(level: Level) -> Decimal:
    return level.alert.rule.condition.steps[0]


def level_finding(level: Level, period: Period, customer: str, figure: Figure, now_us: int) -> Finding | None:
    """None: it cannot be compared."""
    condition = level.condition(customer, figure[2])
    return None if condition is None else level.finding(condition, period, customer, figure, now_us)


def _limited(limit: WatchedLimit, customer: str, plans: dict[str, set[str]]) -> bool:
    if limit.plan is not None:
        return customer in plans.get(limit.plan, ())
    return limit.customer in (None, ANY, customer)


@exactly
def of_amount(condition: Condition, amount: Decimal) -> Condition:
    """Steps in percent of an amount, as figures. Of nothing, whatever is used is too much."""
    share = amount.scaleb(-2)
    steps = tuple(step * share if amount else _LEAST for step in condition.steps)
    return replace(condition, steps=steps, margin=condition.margin * share)


@exactly
def _above(condition: Condition, base: Decimal) -> Condition:
    share = abs(base).scaleb(-2)
    return replace(
        condition,
        steps=tuple(base + step * share for step in condition.steps),
        margin=condition.margin * share,
    )


def percent(value: Decimal | None, amount: Decimal) -> str | None:
    """To two digits, for people; what decides is exact."""
    if value is None or not amount:
        return None
    return plain(rounded(quotient(product(value, Decimal(100)), amount), 2))


def change(value: Decimal | None, base: Decimal) -> str | None:
    """By how many percent it differs, for people."""
    return None if value is None else percent(total(value, -base), abs(base))


@exactly
def total(one: Decimal, other: Decimal) -> Decimal:
    return one + other


def rounded(value: Decimal, digits: int) -> Decimal:
    """Half-even to so many digits after the point: for people only."""
    return value.quantize(Decimal(1).scaleb(-digits), context=_SHOWN)


def within(value: Decimal, quiet: Quiet) -> bool:
    """Whether nothing changes."""
    least, above = quiet
    return (least is None or value >= least) and (above is None or value < above)


def _greater(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    return other if one is None else one if other is None else max(one, other)


def _smaller(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    return other if one is None else one if other is None else min(one, other)
