"""Costs and credits as they were: each day of a customer's costs by the invoice preview, each entry of the ledger."""

from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING

from tallystick.alerting.rule import ANY, Operation
from tallystick.billing.credit import Account, Entry
from tallystick.billing.grant import CreditUnit
from tallystick.errors import NotFound
from tallystick.flows.alerts.calendar import Calendar
from tallystick.flows.alerts.definitions import alerts_of
from tallystick.flows.alerts.finding import Armed, AsOf, Finding
from tallystick.flows.alerts.limits import limits_for, limits_of
from tallystick.flows.alerts.owed import cost_finding, credit_finding, subscribers
from tallystick.flows.alerts.tick import Tick
from tallystick.flows.credits import credit_position, credits_of
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions
from tallystick.money import ZERO, exactly

if TYPE_CHECKING:
    from tallystick.flows.alerts.preview import Replay

_DAY_US = 86_400_000_000
COSTS_MAX = 400
"""Costs one preview asks for: customers times days."""


async def past_costs(
    system: System, alert: Armed, replay: "Replay", calendar: Calendar, as_of: Callable[[int], AsOf]
) -> None:
    """At the end of each day (UTC), and at the end of each window."""
    from tallystick.flows.alerts.preview import too_large

    rule, tenant = alert.rule, alert.kept.tenant
    customers = {rule.customer}
    if rule.customer == ANY:
        customers = await in_questions(system, lambda: subscribers(system, tenant))
    windows = [(rule.window, None)]
    if rule.condition.operation is Operation.PERCENT_OF_LIMIT:
        limits = await in_questions(system, lambda: limits_of(system, tenant, now_us=system.clock.now_us()))
        windows = [(limit.window, limit) for limit in limits_for(rule, limits)]
    days = [*range(-(-replay.from_us // _DAY_US) * _DAY_US, replay.to_us, _DAY_US), replay.to_us]
    replay.grain_us, replay.customers = _DAY_US, len(customers)
    if len(customers) * len(days) * len(windows) > COSTS_MAX:
        raise too_large()
    for customer in sorted(customers):
        for window, limit in windows:
            if window is None or (limit is not None and limit.customer not in (None, ANY, customer)):
                continue
            last: Finding | None = None
            for day_us in days:
                calendar.forget()
                found = await calendar.periods(tenant, [customer], window, rule.timezone, day_us - 1)
                period = found.get(customer)
                if period is None:
                    continue
                if last is not None and last.window is not None and last.window.to_us <= period.from_us:
                    replay.close(last, as_of(last.window.to_us))
                tick = Tick(system, as_of(day_us - 1), as_of(day_us).moment_us)
                try:
                    last = await cost_finding(tick, alert, (customer, period, limit), calendar)
                except NotFound:
                    last = None
                if last is not None:
                    replay.decide(last, as_of(day_us - 1))


async def past_credits(system: System, alert: Armed, replay: "Replay", as_of: Callable[[int], AsOf]) -> None:
    """At each entry: of money those of the ledger, of units of a meter those that follow from usage."""
    rule, tenant = alert.rule, alert.kept.tenant
    customers = [rule.customer]
    if rule.customer == ANY:
        customers = list(await in_questions(system, lambda: alerts_of(system).customers_with_grants(tenant)))
    replay.customers = len(customers)
    for customer in sorted(customers):
        for unit, entries in (await _entries(system, alert, customer)).items():
            balance = ZERO
            for entry in sorted(entries, key=lambda one: one.at_us):
                balance = _after(balance, entry)
                if entry.at_us <= replay.to_us:
                    finding = credit_finding(alert, customer, unit, balance)
                    replay.decide(finding, as_of(entry.at_us))


async def _entries(system: System, alert: Armed, customer: str) -> dict[CreditUnit, list[Entry]]:
    wanted, tenant = alert.rule.subject.unit, alert.kept.tenant
    made: defaultdict[CreditUnit, list[Entry]] = defaultdict(list)
    if wanted is not None and wanted.meter is not None:
        position = await credit_position(system, tenant, customer, unit=wanted)
        for one in position.balances:
            made[one.unit] += one.entries
        return made

    def read() -> None:
        cursor: str | None = None
        while True:
            page = credits_of(system).credit_ledger(tenant, customer, unit=wanted, cursor=cursor, limit=1000)
            for kept in page.items:
                made[kept.unit].append(kept.entry)
            cursor = page.next_cursor
            if cursor is None:
                return

    await in_questions(system, read)
    return made


@exactly
def _after(balance: Decimal, entry: Entry) -> Decimal:
    if entry.target is Account.GRANT:
        balance += entry.amount
    if entry.source is Account.GRANT:
        balance -= entry.amount
    return balance
