"""Tells a CRM about customers: plan, usage, spend and health, once every so often, and only what has changed.

What was told is remembered in memory alone: after a start everybody is told once more, which changes nothing over there.
"""

import asyncio
import hashlib
import json
import re
from collections.abc import Sequence
from decimal import Context, Decimal

import structlog

from tallystick.catalog.billing import BillingCatalog, InvoiceSearch
from tallystick.catalog.interface import Customer
from tallystick.crm.interface import Account, Crm, Value
from tallystick.errors import TallystickError, Unavailable
from tallystick.flows.lease import Held
from tallystick.flows.system import System
from tallystick.flows.usage import DAYS_30_US, UsageRequest, in_questions, usage
from tallystick.metering.instant import instant_text

NEVER_S = 3600.0
PAGE = 1000
TRIES_MAX = 5
GRACE_US = 45 * 86_400_000_000
"""How long before it becomes final an invoice may have been made."""
CHANGED_PERCENT = Decimal(20)
"""Usage of the last 30 days that differs from that of the 30 days before by so much is growing, or falling."""

_EXACT = Context(prec=60)
_PERCENT = Context(prec=12)
_logger = structlog.get_logger("crm")


async def accounts_of(system: System, tenant: str, meters: Sequence[str]) -> list[Account]:
    """Every customer that is not archived, with what is known of it. The first of the meters says how it goes. Raises NotFound
    for a meter there is not."""
    to_us = system.clock.now_us()
    from_us = to_us - DAYS_30_US
    now = [await _by_customer(system, tenant, meter, from_us, to_us) for meter in meters]
    before = await _by_customer(system, tenant, meters[0], from_us - DAYS_30_US, from_us) if meters else {}

    def rest() -> list[Account]:
        plans, spent = _plans(system.billing, tenant), _spent(system.billing, tenant, from_us)
        made: list[Account] = []
        for customer in _customers(system, tenant):
            facts: dict[str, Value] = {"plan": plans.get(customer.key)}
            billed = spent.get(customer.key, {})
            # A customer that names no currency is billed in that of its plan.
            currency = customer.currency or (next(iter(billed)) if len(billed) == 1 else None)
            facts["spend_30d"] = billed.get(currency or "", Decimal(0))
            facts["currency"] = currency
            if meters:
                facts |= _health(now[0].get(customer.key), before.get(customer.key))
            for meter, figures in zip(meters, now, strict=True):
                facts[f"usage_{_named(meter)}"] = figures.get(customer.key, Decimal(0))
            made.append(Account(customer.key, customer.name or customer.key, facts))
        return made

    return await in_questions(system, rest)


async def _by_customer(
    system: System, tenant: str, meter: str, from_us: int, to_us: int
) -> dict[str, Decimal]:
    question = UsageRequest(tenant, meter, from_us, to_us, group_by=("customer",))
    answer = await usage(system, question)
    return {row.group[0]: row.value for row in answer.rows if row.group[0] and row.value is not None}


def _customers(system: System, tenant: str) -> list[Customer]:
    found: list[Customer] = []
    cursor = None
    while True:
        page = system.catalog.customers(tenant, cursor=cursor, limit=PAGE)
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found


def _plans(billing: BillingCatalog | None, tenant: str) -> dict[str, str]:
    found: dict[str, set[str]] = {}
    for one in billing.open_subscriptions(tenant) if billing is not None else ():
        found.setdefault(one.customer, set()).add(one.plan)
    return {customer: ", ".join(sorted(plans)) for customer, plans in found.items()}


def _spent(billing: BillingCatalog | None, tenant: str, from_us: int) -> dict[str, dict[str, Decimal]]:
    """Totals of the invoices that became final since, by customer and currency."""
    found: dict[str, dict[str, Decimal]] = {}
    cursor = None
    while billing is not None:
        page = billing.invoices(tenant, InvoiceSearch(status="finalized"), cursor=cursor, limit=PAGE)
        for one in page.items:
            if (one.finalized_at_us or 0) >= from_us:
                total, currency = _total(one.document)
                own = found.setdefault(one.customer, {})
                own[currency] = _EXACT.add(own.get(currency, Decimal(0)), total)
        cursor = page.next_cursor
        if cursor is None or page.items[-1].created_at_us < from_us - GRACE_US:
            break
    return found


def _total(document: str) -> tuple[Decimal, str]:
    frozen = json.loads(document)
    return Decimal(frozen["total"]), frozen["currency"]


def _health(now: Decimal | None, before: Decimal | None) -> dict[str, Value]:
    if not now:
        return {"trend_percent": None, "health": "silent" if before else "inactive"}
    if not before:
        return {"trend_percent": None, "health": "new"}
    percent = _PERCENT.divide(_EXACT.multiply(_EXACT.subtract(now, before), Decimal(100)), abs(before))
    rounded = percent.quantize(Decimal("0.1"), context=_EXACT)
    if percent >= CHANGED_PERCENT:
        return {"trend_percent": rounded, "health": "growing"}
    falling = percent <= -CHANGED_PERCENT
    return {"trend_percent": rounded, "health": "falling" if falling else "steady"}


def _named(meter: str) -> str:
    """A meter's key as part of a property's name."""
    return re.sub(r"[^a-z0-9]+", "_", meter.lower()).strip("_")


class CrmKeeper:
    """`run` is its life. It waits as long as the other system asks it to."""

    def __init__(self, system: System, crm: Crm | None) -> None:
        settings = system.settings
        self._system = system
        self._crm = crm
        self._tenant = settings.crm_tenant
        self._meters = tuple(one.strip() for one in settings.crm_meters.split(",") if one.strip())
        self._every_s = settings.crm_every_s if crm is not None else 0
        self._told: dict[str, bytes] = {}
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Tell until `stop`; the first time at once."""
        while not self._stopping.is_set():
            if self._every_s:
                failing = 1
                try:
                    await self.tell()
                    failing = 0
                except TallystickError as error:
                    _logger.warning("crm_failed", error=error.detail)
                except Exception as error:
                    _logger.warning("crm_failed", error=repr(error))
                self._system.metrics.crm_failing.set(failing)
            await self._pause(self._every_s or NEVER_S)

    async def stop(self) -> None:
        self._stopping.set()

    async def work(self, held: Held[str]) -> None:
        """In a cluster: while this process has the job."""
        self._stopping = asyncio.Event()
        running = asyncio.create_task(self.run())
        try:
            await held.leaving.wait()
        finally:
            await self.stop()
            await running

    async def tell(self) -> int:
        """Tell what has changed; how many accounts that were. Raises Invalid, Unavailable."""
        system, crm = self._system, self._crm
        if crm is None or not await system.recorder.wait_until_migrated(system.settings.wait_s_max):
            return 0
        accounts = await accounts_of(system, self._tenant, self._meters)
        digests = {one.key: _digest(one) for one in accounts}
        changed = [one for one in accounts if self._told.get(one.key) != digests[one.key]]
        for first in range(0, len(changed), crm.accounts_max):
            some = changed[first : first + crm.accounts_max]
            refused = await self._push(crm, some)
            if refused is None:
                break
            system.metrics.observe_crm(len(some) - len(refused), len(refused))
            for key, why in list(refused.items())[:10]:
                _logger.warning("crm_account_refused", customer=key, detail=why[:300])
            # One that is refused is told again only when it changes: the same is refused again.
            self._told |= {one.key: digests[one.key] for one in some}
        if changed:
            _logger.info("crm_told", accounts=len(changed), at=instant_text(system.clock.now_us()))
        return len(changed)

    async def _push(self, crm: Crm, some: Sequence[Account]) -> dict[str, str] | None:
        """None: this process is to end."""
        attempts = 0
        while not self._stopping.is_set():
            attempts += 1
            try:
                return dict(await asyncio.to_thread(crm.push, some))
            except Unavailable as error:
                if attempts >= TRIES_MAX:
                    raise
                await self._pause(float(error.retry_after_s or 1))
        return None

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return


def _digest(account: Account) -> bytes:
    return hashlib.sha256(repr((account.name, sorted(account.facts.items()))).encode()).digest()
