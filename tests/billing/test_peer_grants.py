"""More of the peers' figures for grants and coupons (test_credit.py runs the given ones), read out of their tests as numbers."""

from decimal import Decimal
from typing import Any

import pytest
from tests.billing.test_credit import DAY_US, HOUR_US, T0, balances, grant, money, pay, summed

from tallystick.billing.credit import Holding, Payable, burn_down, settle, spend
from tallystick.billing.grant import Recurrence, Rollover, Scope, Source
from tallystick.billing.period import Length, Unit

D = Decimal
CENT = D("0.01")


def recurring(every: Unit, anchor_days: int = 0, amount: int = 100) -> Recurrence:
    return Recurrence(Length(every, 1), T0 + anchor_days * DAY_US, "UTC", D(amount))


# -- OpenMeter: credit/engine/run_test, reset_test -------------------------------------------------------------------
BURNT: list[tuple[str, list[Holding], list[tuple[str, int]], int, dict[str, int], int]] = [
    # (what, grants, use at, until, balances, use that nothing has paid)
    ("no grant", [], [("+1h", 50)], 30 * DAY_US, {}, 50),
    ("nothing used", [grant("a")], [], 0, {"a": 100}, 0),
    ("begins later", [grant("a", effective_us=T0 + 10 * DAY_US)], [("+1h", 50)], 5 * DAY_US, {"a": 0}, 50),
    ("void at once", [grant("a", voided_us=T0)], [("+1h", 50)], 5 * DAY_US, {"a": 0}, 50),
    ("voided between", [grant("a", voided_us=T0 + HOUR_US)], [("+59m", 50), ("+61m", 50)], 5 * DAY_US, {"a": 0}, 50),
    ("expired before", [grant("a", effective_us=T0 - 365 * DAY_US, expires_us=T0 - 364 * DAY_US)], [("+1h", 50)], 5 * DAY_US, {"a": 0}, 50),
    ("expires first", [grant("b", expires_us=T0 + 36_500 * DAY_US), grant("a", expires_us=T0 + 30 * DAY_US)], [("+1h", 120)],
     DAY_US, {"a": 0, "b": 80}, 0),
    ("comes again and pays what was used beyond", [grant("a", recurrence=recurring(Unit.DAY))], [("+1h", 120)],
     DAY_US + HOUR_US, {"a": 80}, 0),
    ("comes again at the end", [grant("a", recurrence=recurring(Unit.DAY))], [("+1h", 10)], DAY_US, {"a": 100}, 0),
    ("rolls over", [grant("a", rollover=Rollover(D(0), D(50)), recurrence=recurring(Unit.DAY, amount=0))], [("+1h", 10)],
     DAY_US, {"a": 50}, 0),
    ("two, one later", [grant("a"), grant("b", effective_us=T0 + 2 * HOUR_US)], [("+1h", 10)], DAY_US, {"a": 90, "b": 100}, 0),
]  # fmt: skip


@pytest.mark.parametrize(("what", "held", "use", "until", "left", "beyond"), BURNT)
def test_grants_burn_down(  # noqa: PLR0917
    what: str, held: list[Holding], use: Any, until: int, left: dict[str, int], beyond: int
) -> None:
    made = burn_down(held, summed(use), T0, T0 + until) if until else None
    found = balances(made.holdings if made else settle(held, T0).holdings)
    assert found == left, what
    assert (made.overage if made else 0) == beyond


@pytest.mark.parametrize(
    ("at", "used_again", "expected"),
    [
        # b comes again on the 3rd and the 10th day; a has priority 3, b has 1 and is there from the first day on.
        (10 * DAY_US, False, {"a": 40, "b": 100}),
        (10 * DAY_US - HOUR_US, True, {"a": 40, "b": 80}),
        (10 * DAY_US, True, {"a": 40, "b": 100}),
    ],
)
def test_a_grant_that_comes_again(at: int, used_again: bool, expected: dict[str, int]) -> None:
    held = [
        grant("a", 80, priority=3, effective_us=T0 - DAY_US),
        grant("b", priority=1, effective_us=T0 + DAY_US, recurrence=recurring(Unit.WEEK, 3)),
    ]
    use = [("+1h", 20), ("+23h59m", 20), ("+1d", 20), *([("+3d", 20)] if used_again else [])]
    assert balances(burn_down(held, summed(use), T0, T0 + at).holdings) == expected


def test_a_month_has_a_phase_for_each_change() -> None:
    """Use of 50 before there is a grant is paid by the first; the second, of lower priority number, pays from its day on."""
    held = [
        grant("a", priority=3, effective_us=T0 + 5 * DAY_US),
        grant("b", priority=1, effective_us=T0 + 20 * DAY_US, recurrence=recurring(Unit.WEEK, 25)),
    ]
    use = [("+1h", 50), ("+5d1h", 30), ("+20d1h", 30), ("+25d1h", 20)]
    made = burn_down(held, summed(use), T0, T0 + 31 * DAY_US)
    assert [(one.from_us - T0) // DAY_US for one in made.phases] == [0, 5, 20, 25]
    assert [one.used for one in made.phases] == [50, 30, 30, 20]
    assert balances(made.holdings) == {"a": 20, "b": 80}


# -- Lago: credits/applied_coupon_service, progressive_billing_service ------------------------------------------------------
COUPONS: list[tuple[str, list[int], dict[str, Any], list[int], int]] = [
    # (what, fees in cents, the coupon of 12 cents, what each fee gets, what is left of it)
    ("fixed", [200, 100], {}, [8, 4], 0),
    ("greater than the fees", [4, 2], {}, [4, 2], 6),
    ("nothing to pay", [0, 0], {}, [0, 0], 12),
    ("for a plan", [300, 100], {"scope": Scope(plans=frozenset({"pro"}))}, [12, 0], 0),
    ("for a meter", [300, 100], {"scope": Scope(meters=frozenset({"m0"}))}, [12, 0], 0),
    ("for another plan", [300, 100], {"scope": Scope(plans=frozenset({"none"}))}, [0, 0], 12),
    ("three times, once", [200, 100], {"recurrence": Recurrence(Length(Unit.MONTH, 1), T0, "UTC", D("0.12"))}, [8, 4], 0),
]  # fmt: skip


@pytest.mark.parametrize(("what", "fees", "coupon", "each", "left"), COUPONS)
def test_coupons(what: str, fees: list[int], coupon: dict[str, Any], each: list[int], left: int) -> None:
    payables = [
        Payable(str(number), D(fee) / 100, meter=f"m{number}", plan="pro" if number == 0 else "basic")
        for number, fee in enumerate(fees)
    ]
    spent = pay([money("coupon", D("0.12"), source=Source.PROMOTIONAL, **coupon)], payables)
    paid = [(fee.amount - rest) * 100 for fee, rest in zip(payables, spent.left, strict=True)]
    assert (paid, spent.holdings[0].balance * 100) == (each, left), what


def test_a_coupon_for_three_periods_is_used_in_three() -> None:
    """What was not used in one does not come on top in the next."""
    held = [
        money(
            "coupon",
            D("0.12"),
            expires_us=T0 + 91 * DAY_US,
            recurrence=Recurrence(Length(Unit.MONTH, 1), T0, "UTC", D("0.12")),
        )
    ]
    paid: list[Decimal] = []
    holdings: tuple[Holding, ...] = tuple(held)
    for day, fee in ((0, "3.00"), (31, "0.05"), (60, "3.00"), (91, "3.00")):
        at_us = T0 + day * DAY_US
        holdings = settle(holdings, at_us).holdings
        spent = spend(holdings, [Payable("x", D(fee))], at_us=at_us, reference=None, quantum=CENT)
        holdings = spent.holdings
        paid.append(spent.amount)
    assert paid == [D("0.12"), D("0.05"), D("0.12"), 0]
