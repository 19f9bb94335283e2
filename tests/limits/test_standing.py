"""Which of several limits answers."""

from decimal import Decimal

import pytest

from tallystick.limits.limit import Enforce, Limit, LimitPeriod, Window
from tallystick.limits.standing import EXCEEDED, NO_LIMIT, OVER_SOFT, WITHIN, Standing, decide

DAY = LimitPeriod.parse("day")
assert DAY is not None
PERIOD: LimitPeriod = DAY


def standing(
    key: str, amount: int, used: int, *, more: int = 0, cost: bool = False, enforce: Enforce = Enforce.HARD
) -> Standing:
    limit = Limit(
        key, Decimal(amount), PERIOD, "acme", meter=None if cost else "tokens", cost=cost, enforce=enforce
    )
    return Standing(
        limit, Window(0, 1), Decimal(amount), Decimal(used), Decimal(0), Decimal(used + more), 1,
        currency="USD" if cost else None,
    )  # fmt: skip


SOFT = Enforce.SOFT
CASES = [
    ([], (True, NO_LIMIT, None)),
    ([standing("a", 100, 10), standing("b", 50, 5)], (True, WITHIN, "b")),
    ([standing("a", 100, 95, more=10), standing("b", 10, 5)], (False, EXCEEDED, "a")),
    ([standing("a", 100, 95, more=10, enforce=SOFT), standing("b", 10, 5)], (True, OVER_SOFT, "a")),
    # 12 of 20 dollars remain, and 200 of 1,000 units.
    ([standing("money", 20, 8, cost=True), standing("units", 1000, 800)], (True, WITHIN, "units")),
    ([standing("money", 20, 18, cost=True), standing("units", 1000, 800)], (True, WITHIN, "money")),
    ([standing("money", 0, 0, cost=True), standing("units", 1000, 800)], (True, WITHIN, "money")),
    (
        [standing("money", 20, 18, more=9, cost=True), standing("units", 10, 9, more=9)],
        (False, EXCEEDED, "money"),
    ),
    (
        [standing("money", 20, 18, more=9, cost=True), standing("units", 1000, 999, more=9)],
        (False, EXCEEDED, "units"),
    ),
]


@pytest.mark.parametrize(("standings", "expected"), CASES)
def test_which_limit_answers(standings: list[Standing], expected: tuple[bool, str, str | None]) -> None:
    for order in (standings, standings[::-1]):
        made = decide(order)
        key = None if made.standing is None else made.standing.limit.key
        assert (made.allowed, made.reason, key) == expected
