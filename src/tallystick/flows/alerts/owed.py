"""Money: what the usage of a customer costs, and what is left of its credits.

Both are asked by customer, as the invoice preview and the credits themselves answer them, and are dear: of each customer
at most every few seconds, and only so many in one look. Who was touched and is not looked at yet holds the keeper's place
back (`since_us`), so that a crash forgets nobody.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from typing import Any

from tallystick.alerting.rule import ANY, Operation, SubjectKind
from tallystick.billing.grant import CreditUnit
from tallystick.billing.kept import canonical
from tallystick.billing.period import Period
from tallystick.catalog.alerting import KeptState
from tallystick.errors import Invalid, NotFound
from tallystick.flows.alerts.calendar import Calendar
from tallystick.flows.alerts.definitions import alerts_of
from tallystick.flows.alerts.figures import Measured, figures
from tallystick.flows.alerts.finding import Armed, Finding
from tallystick.flows.alerts.limits import WatchedLimit, limits_for
from tallystick.flows.alerts.rolling import changed
from tallystick.flows.alerts.tick import Tick, has_come
from tallystick.flows.alerts.watched import change, of_amount, percent
from tallystick.flows.billing.build import Built
from tallystick.flows.billing.parts import billing_of
from tallystick.flows.billing.preview import preview
from tallystick.flows.credits import credit_position
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions
from tallystick.money import ZERO, exactly, plain

AGAIN_US = 5_000_000
"""A customer is asked for at most so often."""
REFRESH_US = 60_000_000
"""Those that fire, and those that alerts name, are asked for this often although nothing was recorded of them: credits
are granted and expire, and invoices are paid with them, without an event."""
STANDING_US = 300_000_000
"""Everybody whose usage goes on while nothing is recorded (levels that hold), is asked for this often."""
AT_ONCE = 20
_PERIODS_MAX = 40


@dataclass(slots=True)
class _Tenant:
    """The alerts of one tenant. `dirty`: who was touched, since which moment; `asked_us`: when each was asked for.
    `unsure`: anybody may have been touched."""

    alerts: list[Armed] = field(default_factory=list[Armed])
    limits: tuple[WatchedLimit, ...] = ()
    dirty: dict[str, int] = field(default_factory=dict[str, int])
    asked_us: dict[str, int] = field(default_factory=dict[str, int])
    firing: set[str] = field(default_factory=set[str])
    refresh_us: int = 0
    standing_us: int = 0
    unsure: bool = False
    begun: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])

    def concerns(self, customer: str) -> bool:
        return any(alert.concerns(customer) for alert in self.alerts)


class Owed:
    """See above."""

    def __init__(self, calendar: Calendar) -> None:
        self._calendar = calendar
        self._tenants: dict[str, _Tenant] = {}
        self.faults: dict[str, str] = {}

    @property
    def watches_everything(self) -> bool:
        """Whether any meter may matter."""
        return bool(self._tenants)

    @property
    def alerts(self) -> frozenset[str]:
        """Ids of those that are watched here."""
        return frozenset(alert.kept.id for one in self._tenants.values() for alert in one.alerts)

    @property
    def waits(self) -> bool:
        """Whether somebody is still to be looked at."""
        return any(one.dirty for one in self._tenants.values())

    @property
    def since_us(self) -> int | None:
        """Everything recorded up to here has been looked at; None: everything has."""
        return min((at for one in self._tenants.values() for at in one.dirty.values()), default=None)

    def arm(
        self,
        alerts: Sequence[Armed],
        limits: dict[str, tuple[WatchedLimit, ...]],
        firing: Sequence[KeptState],
    ) -> None:
        before, self._tenants = self._tenants, {}
        owners: dict[str, str] = {}
        for alert in alerts:
            if alert.rule.subject.kind in (SubjectKind.COST, SubjectKind.CREDITS):
                one = self._tenants.setdefault(alert.kept.tenant, _Tenant())
                one.alerts.append(alert)
                one.limits = limits.get(alert.kept.tenant, ())
                owners[alert.kept.id] = alert.kept.tenant
        for name, one in self._tenants.items():
            if name in before:
                known = before[name]
                one.dirty, one.asked_us, one.begun = known.dirty, known.asked_us, known.begun
                one.refresh_us, one.standing_us = known.refresh_us, known.standing_us
                one.unsure = known.unsure or known.limits != one.limits
        for state in firing:
            if state.place.alert in owners:
                self._tenants[owners[state.place.alert]].firing.add(state.place.customer)

    def touch(self, tick: Tick, tenants: dict[int, str]) -> None:
        """Note who was touched. `tenants`: of meters."""
        for meter in tick.unsure:
            one = self._tenants.get(tenants.get(meter, ""))
            if one is not None:
                one.unsure = True
        for meter, rows in tick.touched.items():
            one = self._tenants.get(tenants.get(meter, ""))
            if one is not None:
                for row in rows:
                    if row.customer not in one.dirty and one.concerns(row.customer):
                        one.dirty[row.customer] = tick.after_us

    async def look(self, tick: Tick) -> list[Finding]:
        """Of the customers that were touched longest ago."""
        found: list[Finding] = []
        self.faults = {}
        for tenant, one in self._tenants.items():
            await self._wake(tick, tenant, one)
            due = [
                customer
                for customer in one.dirty
                if abs(tick.now_us - one.asked_us.get(customer, -AGAIN_US)) >= AGAIN_US
            ][:AT_ONCE]
            for customer in due:
                found += await self._look_at(tick, one, tenant, customer)
                one.asked_us[customer] = tick.now_us
                del one.dirty[customer]
            if len(one.asked_us) > 100_000:
                one.asked_us.clear()
        return found

    async def _wake(self, tick: Tick, tenant: str, one: _Tenant) -> None:
        """Those who are to be asked for without having been touched."""
        system = tick.system
        new = [
            alert
            for alert in one.alerts
            if one.unsure or not (alert.kept.begun or _edition(alert) in one.begun)
        ]
        if new:
            customers: set[str] = {alert.rule.customer for alert in new} - {ANY}
            kinds = {alert.rule.subject.kind for alert in new if alert.rule.customer == ANY}
            if SubjectKind.CREDITS in kinds:
                read = partial(alerts_of(system).customers_with_grants, tenant)
                customers |= set(await in_questions(system, read))
            if SubjectKind.COST in kinds:
                customers |= await in_questions(system, partial(subscribers, system, tenant))
            for customer in customers:
                one.dirty.setdefault(customer, tick.after_us)
            one.begun |= {_edition(alert) for alert in one.alerts}
            one.unsure = False
        if has_come(one.refresh_us, tick.now_us, REFRESH_US):
            one.refresh_us = tick.now_us + REFRESH_US
            for customer in one.firing | ({a.rule.customer for a in one.alerts} - {ANY}):
                one.dirty.setdefault(customer, tick.after_us)
        if has_come(one.standing_us, tick.now_us, STANDING_US):
            one.standing_us = tick.now_us + STANDING_US
            if any(alert.rule.customer == ANY for alert in one.alerts):
                for customer in await _standing(tick, tenant):
                    one.dirty.setdefault(customer, tick.after_us)

    async def _look_at(self, tick: Tick, one: _Tenant, tenant: str, customer: str) -> list[Finding]:
        made: list[Finding] = []
        for alert in one.alerts:
            if not alert.concerns(customer):
                continue
            try:
                if alert.rule.subject.kind is SubjectKind.CREDITS:
                    made += await _credits(tick, alert, tenant, customer)
                else:
                    made += await self._cost(tick, alert, one, tenant, customer)
            except (NotFound, Invalid) as error:
                # Without a subscription there is no cost; a price that cannot be computed concerns this customer alone.
                if not isinstance(error, NotFound):
                    self.faults[alert.kept.id] = error.detail
        return made

    async def _cost(
        self, tick: Tick, alert: Armed, one: _Tenant, tenant: str, customer: str
    ) -> list[Finding]:
        rule = alert.rule
        made: list[Finding] = []
        looks: list[tuple[Any, WatchedLimit | None]] = [(rule.window, None)]
        if rule.condition.operation is Operation.PERCENT_OF_LIMIT:
            looks = [(limit.window, limit) for limit in limits_for(rule, one.limits)]
        for window, limit in looks:
            if window is None or (limit is not None and limit.customer not in (None, ANY, customer)):
                continue
            found = await self._calendar.periods(tenant, [customer], window, rule.timezone, tick.now_us)
            period = found.get(customer)
            if period is None:
                continue
            finding = await cost_finding(tick, alert, (customer, period, limit), self._calendar)
            made += [finding] if finding is not None else []
        return made

    def settled(self, results: Sequence[tuple[Finding, KeptState]]) -> None:
        """Remember who fires."""
        fires: dict[tuple[str, str], bool] = {}
        for finding, state in results:
            if finding.alert.rule.subject.kind in (SubjectKind.COST, SubjectKind.CREDITS):
                place = finding.alert.kept.tenant, finding.place.customer
                fires[place] = fires.get(place, False) or state.firing
        for (tenant, customer), is_firing in fires.items():
            one = self._tenants.get(tenant)
            if one is not None:
                (one.firing.add if is_firing else one.firing.discard)(customer)


def _edition(alert: Armed) -> tuple[str, int]:
    return alert.kept.id, alert.kept.edition


async def _standing(tick: Tick, tenant: str) -> set[str]:
    """Who will have used something of any meter a minute from now, if nothing more is recorded."""
    system = tick.system
    meters = await in_questions(system, system.catalog.active_meters)
    soon = Period(tick.now_us, tick.now_us + REFRESH_US)
    made: set[str] = set()
    for meter in meters:
        if meter.tenant == tenant and meter.goes_on:
            found = await figures(system, Measured(meter), soon, None, tick.moment_us, now_us=soon.to_us)
            made |= {customer for customer, scopes in found.items() if any(scopes.values())}
    if not made:
        return made
    owing = await in_questions(system, partial(subscribers, system, tenant))
    granted = await in_questions(system, partial(alerts_of(system).customers_with_grants, tenant))
    return made & {*owing, *granted}


def subscribers(system: System, tenant: str) -> set[str]:
    """Customers an invoice will still be made for."""
    return {kept.customer for kept in billing_of(system).open_subscriptions(tenant)}


async def cost_finding(
    tick: Tick, alert: Armed, about: tuple[str, Period, WatchedLimit | None], calendar: Calendar
) -> Finding | None:
    """What a customer's window costs. None: it cannot be compared. Raises NotFound without a subscription."""
    customer, period, limit = about
    rule, tenant = alert.rule, alert.kept.tenant
    cost, currency = await cost_within(tick.system, tenant, customer, period, tick)
    condition, compared, scope = rule.condition, cost, ""
    evidence: dict[str, Any] = {"value": plain(cost), "currency": currency}
    if limit is not None:
        amount = limit.amount_for(customer)
        condition = of_amount(condition, amount)
        evidence |= {"limit": limit.key, "limit_amount": plain(amount), "percent": percent(cost, amount)}
        if rule.condition.limit is None:
            scope = canonical({"limit": limit.key})
    elif condition.operation is Operation.PERCENT_CHANGE:
        assert rule.window is not None  # the rule sees to it
        zones = await calendar.zones(tenant, [customer])
        before = rule.window.before(period, rule.timezone or zones[customer])
        base, _ = await cost_within(tick.system, tenant, customer, before, tick)
        changed_by = changed(cost, base, condition.direction) if base else None
        if changed_by is None:
            return None
        compared = changed_by
        evidence |= {"previous": plain(base), "percent": change(cost, base)}
    return Finding(
        alert=alert,
        place=alert.place(customer, window_start_us=period.from_us, scope=scope),
        condition=condition,
        figure=compared,
        window=period,
        over=period.to_us <= tick.now_us,
        evidence=evidence,
    )


async def _credits(tick: Tick, alert: Armed, tenant: str, customer: str) -> list[Finding]:
    unit = alert.rule.subject.unit
    position = await credit_position(tick.system, tenant, customer, unit=unit)
    return [
        credit_finding(alert, customer, one.unit, one.balance)
        for one in position.balances
        # Credits of "money" are all currencies, and no units of meters.
        if unit is not None or one.unit.meter is None
    ]


def credit_finding(alert: Armed, customer: str, unit: CreditUnit, balance: Decimal) -> Finding:
    """What is left of a customer's credits in one unit."""
    return Finding(
        alert=alert,
        place=alert.place(customer, scope="" if alert.rule.subject.unit is not None else unit.text()),
        condition=alert.rule.condition,
        figure=balance,
        evidence={"value": plain(balance), "currency": unit.currency, "credit_meter": unit.meter},
    )


async def cost_within(
    system: System, tenant: str, customer: str, period: Period, tick: Tick
) -> tuple[Decimal, str | None]:
    """What a period costs, over all of a customer's subscriptions, before tax and discount: of each billing period that
    reaches into it, what it comes to by the end less what it had come to before. Fees count when their period begins.

    Raises NotFound where there is no subscription, Invalid where there are several currencies."""
    end_us = min(period.to_us, tick.now_us + 1)
    newest = await _built(system, tenant, customer, end_us)
    if not newest:
        raise NotFound("The customer has no subscription at that moment.", code="no_subscription")
    currencies = {one.currency for one in newest}
    if len(currencies) > 1:
        detail = "The customer's subscriptions are in several currencies, which cannot be added up."
        raise Invalid(detail, code="currency_differs")
    total = ZERO
    for one in newest:
        part: Built | None = one
        for _ in range(_PERIODS_MAX):
            if part is None:
                break
            total = _sum(total, part, 1)
            begin_us = part.period.from_us
            if begin_us <= period.from_us:
                if begin_us < period.from_us:
                    total = _sum(total, await _of(system, tenant, one, period.from_us), -1)
                break
            part = await _of(system, tenant, one, begin_us)
    return total, newest[0].currency


async def _of(system: System, tenant: str, built: Built, at_us: int) -> Built | None:
    """The same subscription's invoice as it would have been at a moment; None before its start."""
    job = built.job
    found = await _built(system, tenant, job.subscription.customer, at_us, subscription=job.subscription.id)
    return found[0] if found else None


async def _built(
    system: System, tenant: str, customer: str, at_us: int, *, subscription: str | None = None
) -> tuple[Built, ...]:
    try:
        return (await preview(system, tenant, customer, subscription=subscription, at_us=at_us)).invoices
    except NotFound:
        return ()


@exactly
def _sum(total: Decimal, built: Built | None, sign: int) -> Decimal:
    """The subtotal added, or taken away."""
    return total if built is None else total + sign * Decimal(json.loads(built.document)["subtotal"])
