"""Which limits concern a use: read from the catalog once, and again when the catalog has changed."""

import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from msgspec import Struct

from tallystick.billing.kept import subscription_of
from tallystick.billing.subscription import Subscription
from tallystick.billing.timeline import turn_at
from tallystick.catalog.billing import KeptSubscription
from tallystick.catalog.limiting import KeptLimit, LimitCatalog, LimitRaise
from tallystick.errors import NotFound
from tallystick.flows.billing.parts import plans_of
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions
from tallystick.limits.limit import EVERY, Limit, Window, conditions_of
from tallystick.limits.reservation import Dimensions
from tallystick.metering.meter import Meter
from tallystick.metering.query import Filter

if TYPE_CHECKING:
    from tallystick.billing.timeline import Plans

POLL_S = 0.25
CUSTOMERS_MAX = 50_000
SUBSCRIPTIONS_MAX = 100


class Ask(Struct, frozen=True):
    """So much of a meter is to be used by a customer."""

    tenant: str
    customer: str
    meter: str
    amount: Decimal
    dimensions: Dimensions = ()


@dataclass(frozen=True, slots=True)
class Subscribed:
    """A subscription of a customer, and its plans."""

    kept: KeptSubscription
    own: Subscription
    plans: "Plans"

    def plan_at(self, at_us: int) -> str | None:
        span = self.own.span_at(at_us)
        return None if span is None else span.plan

    def period_at(self, at_us: int) -> tuple[int, int] | None:
        turn = turn_at(self.own, self.plans, self.kept.timezone, at_us)
        return None if turn is None else (turn.part.from_us, turn.part.to_us)


@dataclass(frozen=True, slots=True)
class Rule:
    """A limit as it concerns one customer. `meter` None: it is of money."""

    limit: Limit
    meter: Meter | None
    conditions: tuple[Filter, ...]
    timezone: str
    subscribed: tuple[Subscribed, ...]
    raises: tuple[tuple[Decimal, int], ...]
    created_us: int

    def holds(self, at_us: int) -> bool:
        """Whether it concerns the customer then: of a plan, while he has it."""
        plan = self.limit.plan
        return plan is None or any(one.plan_at(at_us) == plan for one in self.subscribed)

    def window(self, at_us: int) -> Window:
        billing: tuple[int, int] | None = None
        if self.limit.period.kind == "billing":
            plan = self.limit.plan
            for one in self.subscribed:
                if plan is None or one.plan_at(at_us) == plan:
                    billing = billing or one.period_at(at_us)
        return self.limit.period.window(at_us, self.timezone, billing)

    def raised(self, now_us: int) -> list[Decimal]:
        return [amount for amount, until_us in self.raises if until_us > now_us]


@dataclass(frozen=True, slots=True)
class _OfTenant:
    by_customer: Mapping[str, Sequence[KeptLimit]]
    by_plan: Sequence[KeptLimit]
    every: Sequence[KeptLimit]
    raises: Mapping[tuple[str, str], Sequence[LimitRaise]]


@dataclass(frozen=True, slots=True)
class _OfCustomer:
    timezone: str
    rules: tuple[Rule, ...]


class RuleBook:
    """One event loop asks; what is kept belongs to one revision of the catalog, and to one reading of it."""

    def __init__(self, system: System, limits: LimitCatalog) -> None:
        self._system = system
        self._limits = limits
        self._generation = 0
        self._revision = self._present = -1
        self._made = 0
        """Grows when customers have been made of events."""
        self._polled_s = float("-inf")
        self._tenants: dict[str, _OfTenant] = {}
        self._customers: OrderedDict[tuple[str, str], _OfCustomer] = OrderedDict()
        self._meters: dict[tuple[str, str], Meter] = {}
        self._owners: OrderedDict[tuple[str, str], str | None] = OrderedDict()

    @property
    def generation(self) -> int:
        """Another one once the catalog has changed: what was made of the rules is to be made anew."""
        return self._generation

    def forget(self) -> None:
        """The catalog has changed."""
        self._generation += 1
        self._tenants.clear()
        self._customers.clear()
        self._meters.clear()
        self._owners.clear()

    async def look(self) -> bool:
        """Ask, every POLL_S, whether the catalog has changed. True: it has."""
        now_s = time.monotonic()
        if now_s - self._polled_s < POLL_S:
            return False
        self._polled_s = now_s
        catalog = self._system.catalog
        revision = await in_questions(self._system, lambda: catalog.revision("all"))
        if revision == self._revision:
            return False
        present = await in_questions(self._system, lambda: catalog.revision("present"))
        self._revision = revision
        if present == self._present:
            # New customers alone: those that were there are what they were.
            self._made += 1
            self._owners.clear()
            return False
        self._present = present
        self.forget()
        return True

    def known(self, tenant: str, customer: str, meter: str) -> tuple[Meter, tuple[Rule, ...]] | None:
        """A meter in service and the limits of a customer; None: the catalog has to be asked."""
        found = self._meters.get((tenant, meter))
        concerned = self._customers.get((tenant, customer))
        if found is None or concerned is None or found.archived_at_us is not None:
            return None
        return found, concerned.rules

    async def meter(self, tenant: str, key: str) -> Meter:
        """The newest version. Raises NotFound (meter_not_found), also for an archived one."""
        found = self._meters.get((tenant, key))
        if found is None:
            generation = self._generation
            found = await in_questions(self._system, lambda: self._system.catalog.meter(tenant, key))
            if generation == self._generation:
                self._meters[tenant, key] = found
        if found.archived_at_us is not None:
            raise NotFound(f"The meter {key!r} is archived.", code="meter_not_found")
        return found

    async def owner(self, tenant: str, subject: str) -> str | None:
        """The customer a subject belongs to."""
        place = (tenant, subject)
        if place not in self._owners:
            generation = (self._generation, self._made)
            found = await in_questions(
                self._system, lambda: self._system.catalog.resolve_subjects(tenant, [subject])
            )
            if generation != (self._generation, self._made):
                return found.get(subject)
            self._owners[place] = found.get(subject)
            while len(self._owners) > CUSTOMERS_MAX:
                self._owners.popitem(last=False)
        return self._owners[place]

    async def rules(self, tenant: str, customer: str) -> tuple[Rule, ...]:
        """All limits that may concern a customer. Raises NotFound (customer_not_found)."""
        found = self._customers.get((tenant, customer))
        if found is None:
            generation = self._generation
            of_tenant = self._tenants.get(tenant)
            read, found = await in_questions(self._system, lambda: self._read(tenant, customer, of_tenant))
            if generation == self._generation:
                self._tenants[tenant] = read
                self._customers[tenant, customer] = found
                while len(self._customers) > CUSTOMERS_MAX:
                    self._customers.popitem(last=False)
        return found.rules

    def _read(self, tenant: str, key: str, of_tenant: _OfTenant | None) -> tuple[_OfTenant, _OfCustomer]:
        system = self._system
        customer = system.catalog.customer(tenant, key)
        if of_tenant is None:
            of_tenant = self._read_tenant(tenant)
        wanted = [*of_tenant.by_customer.get(key, ()), *of_tenant.every]
        subscribed: tuple[Subscribed, ...] = ()
        if system.billing is not None and (
            of_tenant.by_plan or any(one.limit.cost or one.limit.period.kind == "billing" for one in wanted)
        ):
            page = system.billing.subscriptions(tenant, customers=(key,), limit=SUBSCRIPTIONS_MAX)
            own = {kept.id: subscription_of(kept.content) for kept in page.items}
            plans = plans_of(system.billing, tenant, own.values())
            subscribed = tuple(Subscribed(kept, own[kept.id], plans) for kept in page.items)
        had = {span.plan for one in subscribed for span in one.own.spans}
        wanted += [one for one in of_tenant.by_plan if one.limit.plan in had]
        rules: list[Rule] = []
        for kept in wanted:
            limit = kept.limit
            meter = None
            if limit.meter is not None:
                try:
                    meter = system.catalog.meter(tenant, limit.meter)
                except NotFound:
                    continue  # it was checked when the limit was made; erased since
            rules.append(
                Rule(
                    limit,
                    meter,
                    conditions_of(limit.filter),
                    customer.timezone,
                    subscribed,
                    tuple((one.amount, one.until_us) for one in of_tenant.raises.get((limit.key, key), ())),
                    kept.created_at_us,
                )
            )
        return of_tenant, _OfCustomer(customer.timezone, tuple(rules))

    def _read_tenant(self, tenant: str) -> _OfTenant:
        by_customer: dict[str, list[KeptLimit]] = {}
        by_plan: list[KeptLimit] = []
        for kept in self._limits.all_limits(tenant):
            if kept.limit.plan is not None:
                by_plan.append(kept)
            else:
                by_customer.setdefault(kept.limit.customer or EVERY, []).append(kept)
        raises: dict[tuple[str, str], list[LimitRaise]] = {}
        for one in self._limits.raises_of(tenant, now_us=self._system.clock.now_us()):
            raises.setdefault((one.limit, one.customer), []).append(one)
        return _OfTenant(by_customer, by_plan, by_customer.pop(EVERY, []), raises)
