"""The limits that alerts of percent_of_limit look at: which there are, and how much of each a customer may use."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import cast

from tallystick.alerting.rule import ANY, Rule, SubjectKind
from tallystick.alerting.window import AlertWindow, parse_window
from tallystick.catalog.limiting import LimitCatalog
from tallystick.flows.system import System
from tallystick.money import ZERO, exactly


@dataclass(frozen=True, slots=True)
class WatchedLimit:
    """A limit as an alert sees it. `customer` None: `plan` says whom it concerns. `raises`: by customer, those in force."""

    key: str
    amount: Decimal
    window: AlertWindow
    customer: str | None
    plan: str | None
    meter: str | None
    filter: str | None
    raises: dict[str, Decimal]

    @exactly
    def amount_for(self, customer: str) -> Decimal:
        """With what it was raised by."""
        return self.amount + self.raises.get(customer, ZERO)


def limits_of(system: System, tenant: str, *, now_us: int) -> tuple[WatchedLimit, ...]:
    """All of a tenant. Synchronous."""
    catalog = cast("LimitCatalog", system.catalog)
    raises: defaultdict[str, defaultdict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for one in catalog.raises_of(tenant, now_us=now_us):
        raises[one.limit][one.customer] += one.amount
    made: list[WatchedLimit] = []
    for kept in catalog.all_limits(tenant):
        limit = kept.limit
        window = parse_window(limit.period.text())
        if window is not None:
            made.append(
                WatchedLimit(
                    key=limit.key,
                    amount=limit.amount,
                    window=window,
                    customer=limit.customer,
                    plan=limit.plan,
                    meter=limit.meter,
                    filter=limit.filter,
                    raises=dict(raises[limit.key]),
                )
            )
    return tuple(made)


def raises_end_us(system: System, tenants: Iterable[str], *, now_us: int) -> int | None:
    """When the next one-off raise of these tenants ends; None: there is none. Synchronous."""
    catalog = cast("LimitCatalog", system.catalog)
    ends = [one.until_us for tenant in tenants for one in catalog.raises_of(tenant, now_us=now_us)]
    return min(ends, default=None)


def limits_for(rule: Rule, limits: tuple[WatchedLimit, ...]) -> tuple[WatchedLimit, ...]:
    """Those the alert looks at: the one it names, or all of its meter (or of cost) that concern its customer."""
    named = rule.condition.limit
    meter = rule.subject.meter if rule.subject.kind is SubjectKind.METER else None
    return tuple(
        one
        for one in limits
        if one.meter == meter
        and (
            one.key == named
            if named is not None
            else one.customer is None or ANY in (one.customer, rule.customer) or one.customer == rule.customer
        )
    )


def limit_fault(system: System, tenant: str, rule: Rule) -> tuple[str, str] | None:
    """(code, sentence) where there is no limit the alert could look at."""
    if limits_for(rule, limits_of(system, tenant, now_us=system.clock.now_us())):
        return None
    of = "of cost" if rule.subject.meter is None else f"of the meter {rule.subject.meter!r}"
    name = "" if rule.condition.limit is None else f" {rule.condition.limit!r}"
    return "unknown_limit", f"There is no limit{name} {of} for that customer. GET /v1/limits lists them."
