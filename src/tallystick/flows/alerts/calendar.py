"""Which window a customer is in: by its zone, or by its subscription. Kept for a few seconds."""

import time
from collections.abc import Callable, Collection
from typing import Any

from tallystick.alerting.window import AlertWindow, WindowKind
from tallystick.billing.kept import subscription_of
from tallystick.billing.period import Period
from tallystick.billing.timeline import turn_at
from tallystick.flows.alerts.definitions import alerts_of
from tallystick.flows.billing.parts import billing_of, plans_of
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions

KEPT_S = 10.0
_ENTRIES_MAX = 200_000


class Calendar:
    """One for a keeper."""

    def __init__(self, system: System, *, elapsed_s: Callable[[], float] = time.monotonic) -> None:
        self._system = system
        self._elapsed_s = elapsed_s
        self._kept: dict[tuple[str, str, str], tuple[float, Any]] = {}

    def forget(self) -> None:
        self._kept.clear()

    async def periods(
        self, tenant: str, customers: Collection[str], window: AlertWindow, timezone: str | None, at_us: int
    ) -> dict[str, Period]:
        """The window of each that holds a moment; who has none (no subscription) is absent."""
        if window.kind is WindowKind.BILLING:
            found = await self._looked_up("billing", tenant, customers, self._billing(tenant, at_us))
            made = {name: one for name, one in found.items() if one is not None}
            return {name: one for name, one in made.items() if at_us in one}
        if timezone is not None:
            period = window.at(at_us, timezone)
            return dict.fromkeys(customers, period)
        zones = await self.zones(tenant, customers)
        by_zone = {zone: window.at(at_us, zone) for zone in set(zones.values())}
        return {customer: by_zone[zone] for customer, zone in zones.items()}

    async def billing_then(self, tenant: str, customers: Collection[str], at_us: int) -> dict[str, Period]:
        """The billing period of each that held a moment that has passed."""
        made: dict[str, Period] = {}
        named = sorted(customers)
        for start in range(0, len(named), 1000):
            part, look = named[start : start + 1000], self._billing(tenant, at_us)
            found = await in_questions(self._system, lambda part=part, look=look: look(part))
            made |= {name: period for name, period in found.items() if period is not None}
        return made

    def zone_kept(self, tenant: str, customer: str) -> str:
        """The zone of one who was just asked for."""
        found = self._kept.get(("zone", tenant, customer))
        return "UTC" if found is None else found[1]

    async def zones(self, tenant: str, customers: Collection[str]) -> dict[str, str]:
        """The zone of each; UTC for who is not known."""
        read = alerts_of(self._system).customer_zones
        return await self._looked_up(
            "zone", tenant, customers, lambda names: dict.fromkeys(names, "UTC") | read(tenant, names)
        )

    async def on_plan(self, tenant: str, plan: str, customers: Collection[str]) -> set[str]:
        """Those who subscribe to a plan now."""
        billing, now_us = billing_of(self._system), self._system.clock.now_us()

        def look(names: Collection[str]) -> dict[str, bool]:
            made = dict.fromkeys(names, False)
            for kept in _pages(
                lambda cursor: billing.subscriptions(
                    tenant, customers=tuple(names), plan=plan, cursor=cursor, limit=1000
                )
            ):
                span = subscription_of(kept.content).span_at(now_us)
                made[kept.customer] |= span is not None and span.plan == plan
            return made

        found = await self._looked_up(f"plan:{plan}", tenant, customers, look)
        return {name for name, has in found.items() if has}

    def _billing(self, tenant: str, at_us: int) -> Callable[[Collection[str]], dict[str, Period | None]]:
        billing = billing_of(self._system)

        def look(names: Collection[str]) -> dict[str, Period | None]:
            made: dict[str, Period | None] = dict.fromkeys(names)
            kept = list(
                _pages(
                    lambda cursor: billing.subscriptions(
                        tenant, customers=tuple(names), cursor=cursor, limit=1000
                    )
                )
            )
            subscriptions = {one.id: subscription_of(one.content) for one in kept}
            plans = plans_of(billing, tenant, subscriptions.values())
            for one in kept:
                turn = turn_at(subscriptions[one.id], plans, one.timezone, at_us)
                if turn is not None and made[one.customer] is None:
                    made[one.customer] = turn.part
            return made

        return look

    async def _looked_up(
        self, what: str, tenant: str, customers: Collection[str], look: Callable[[Collection[str]], Any]
    ) -> dict[str, Any]:
        now_s = self._elapsed_s()
        made: dict[str, Any] = {}
        unknown: list[str] = []
        for customer in customers:
            found = self._kept.get((what, tenant, customer))
            if found is None or now_s - found[0] > KEPT_S:
                unknown.append(customer)
            else:
                made[customer] = found[1]
        if len(self._kept) > _ENTRIES_MAX:
            self._kept.clear()
        for start in range(0, len(unknown), 1000):
            part = unknown[start : start + 1000]
            answer: dict[str, Any] = await in_questions(self._system, lambda names=part: look(names))
            for name, value in answer.items():
                self._kept[what, tenant, name] = (now_s, value)
            made |= answer
        return made


def _pages(ask: Callable[[str | None], Any]) -> Any:
    cursor: str | None = None
    while True:
        page = ask(cursor)
        yield from page.items
        cursor = page.next_cursor
        if cursor is None:
            return
