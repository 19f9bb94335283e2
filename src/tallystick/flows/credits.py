"""What is left of a customer's credits at this moment.

Money: what the ledger says. Units of a meter: the grants, burnt down by what the meter counts, asked in one question with
a window for each phase; so an event that came late, or was corrected, is in the balance as soon as it counts.
"""

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import cast

from tallystick.billing import credit
from tallystick.billing.credit import Account, Entry, Holding
from tallystick.billing.grant import CreditUnit
from tallystick.catalog.crediting import CreditCatalog, KeptGrant
from tallystick.flows.system import System
from tallystick.flows.usage import UsageRequest, in_questions, usage
from tallystick.metering.position import Vector
from tallystick.money import ZERO, exactly

CHARGING = frozenset({"stripe"})
"""Where of the setting `payments` money can be collected, not only booked."""


def credits_of(system: System) -> CreditCatalog:
    """The catalog, as far as it keeps credits. (Metering's own interface does not name them: it runs without.)"""
    return cast("CreditCatalog", system.catalog)


@dataclass(frozen=True, slots=True)
class Balance:
    """Of one unit. `overage`: use of a meter that no grant has paid. `entries`: of a meter, how it came to that."""

    unit: CreditUnit
    balance: Decimal
    granted: Decimal
    consumed: Decimal
    expired: Decimal
    voided: Decimal
    overage: Decimal = ZERO
    entries: tuple[Entry, ...] = ()


@dataclass(frozen=True, slots=True)
class Position:
    """All grants of a customer as they are now, in the order of creation, and a balance for each unit there is."""

    grants: tuple[KeptGrant, ...]
    balances: tuple[Balance, ...]


async def credit_position(
    system: System,
    tenant: str,
    customer: str,
    *,
    unit: CreditUnit | None = None,
    min_position: Vector | None = None,
) -> Position:
    """`unit`: only what is in it; None: all. Raises what a usage question raises, for units of meters."""
    now_us = system.clock.now_us()
    catalog = credits_of(system)
    kept = await in_questions(system, lambda: catalog.credit_grants(tenant, customer, now_us=now_us))
    grants: dict[str, KeptGrant] = {
        one.grant.id: one for one in kept if unit is None or one.grant.unit == unit
    }
    balances: list[Balance] = []
    for each in dict.fromkeys(one.grant.unit for one in grants.values()):
        own = [one for one in grants.values() if one.grant.unit == each]
        if each.meter is None:
            balances.append(_sum(each, own))
            continue
        found = await burnt_down(
            system,
            tenant,
            customer,
            each.meter,
            [one.holding for one in own],
            to_us=now_us,
            min_position=min_position,
        )
        now = _with_sums(own, found)
        grants.update({one.grant.id: one for one in now})
        balances.append(replace(_sum(each, now), overage=found.overage, entries=found.entries))
    return Position(tuple(grants.values()), tuple(balances))


async def burnt_down(
    system: System,
    tenant: str,
    customer: str,
    meter: str,
    holdings: list[Holding],
    *,
    to_us: int,
    as_of_us: int | None = None,
    min_position: Vector | None = None,
) -> credit.BurnDown:
    """Grants in units of a meter, from the first one's begin up to `to_us`, after what the customer used."""
    from_us = min((holding.grant.effective_us for holding in holdings), default=to_us)
    if from_us >= to_us:
        return credit.burn_down(holdings, _nothing, to_us, to_us)
    edges_us = credit.borders(holdings, from_us, to_us)
    answer = await usage(
        system,
        UsageRequest(
            tenant=tenant,
            meter=meter,
            from_us=from_us,
            to_us=to_us,
            customers=(customer,),
            edges_us=edges_us,
            as_of_us=as_of_us,
            min_position=min_position,
        ),
    )
    used = {row.window_start_us: row.value or ZERO for row in answer.rows}
    return credit.burn_down(holdings, lambda begin_us, _: used.get(begin_us, ZERO), from_us, to_us)


@exactly
def _sum(unit: CreditUnit, kept: list[KeptGrant]) -> Balance:
    return Balance(
        unit,
        sum((one.holding.balance for one in kept), ZERO),
        sum((one.granted for one in kept), ZERO),
        sum((one.consumed for one in kept), ZERO),
        sum((one.expired for one in kept), ZERO),
        sum((one.voided for one in kept), ZERO),
    )


@exactly
def _with_sums(kept: list[KeptGrant], found: credit.BurnDown) -> list[KeptGrant]:
    moved = credit.accounts(found.entries)
    made: list[KeptGrant] = []
    for one, holding in zip(kept, found.holdings, strict=True):
        name = one.grant.id
        made.append(
            replace(
                one,
                holding=holding,
                granted=-moved.get((Account.GRANTED, name), ZERO),
                consumed=moved.get((Account.CONSUMED, name), ZERO),
                expired=moved.get((Account.EXPIRED, name), ZERO),
                voided=moved.get((Account.VOIDED, name), ZERO),
            )
        )
    return made


def _nothing(from_us: int, to_us: int) -> Decimal:
    return ZERO
