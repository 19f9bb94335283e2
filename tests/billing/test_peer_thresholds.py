"""Lago's scenario of progressive billing, read out as numbers: what is billed within a period, and what its end takes off."""

from decimal import Decimal

import pytest

from tallystick.billing.period import Period
from tallystick.billing.progressive import Part, deductions
from tallystick.billing.threshold import Thresholds
from tallystick.money import round_money
from tallystick.rating.model import Usage
from tallystick.rating.price import parse_price
from tallystick.rating.rate import rate_part

D = Decimal
PRICE = parse_price({"model": "per_unit", "unit_amount": "0.0002"})

# (thresholds, units used one after the other, what each brought to an invoice, what the period's end takes off)
CASES = [
    (Thresholds((D(200),)), ["1000000", "1000000"], ["200.00", None], "200.00"),
    (Thresholds((D(200), D(500))), ["3000000"], ["600.00"], "600.00"),
    (Thresholds((D(200), D(500))), ["999999"], [None], "0"),
    (
        Thresholds((D(2), D(5), D(7)), D(10)),
        ["11000", "11000", "11000", "11000", "110000", "110000"],
        ["2.20", None, "4.40", "2.20", "22.00", "22.00"],
        "52.80",
    ),
    (Thresholds((), D(10)), ["49999", "1", "50000", "25000"], [None, "10.00", "10.00", None], "20.00"),
]


@pytest.mark.parametrize(("thresholds", "units", "expected", "taken_off"), CASES)
def test_what_is_billed_within_a_period(
    thresholds: Thresholds, units: list[str], expected: list[str | None], taken_off: str
) -> None:
    used: list[Usage] = []
    billed = crossed = 0
    parts: list[Part] = []
    found: list[str | None] = []
    for number, more in enumerate(units):
        used.append(Usage.of(more))
        now = thresholds.crossed(rate_part(PRICE, None, used).amount)
        if now == crossed:
            found.append(None)
            continue
        amount = round_money(rate_part(PRICE, used[:billed] or None, used[billed:]).amount, "EUR")
        crossed, billed = now, len(used)
        parts.append(Part(f"i{number}", str(number), amount))
        found.append(str(amount))
    assert found == expected
    assert -sum((line.rounded for line in deductions(parts, Period(0, 1))), D(0)) == D(taken_off)
