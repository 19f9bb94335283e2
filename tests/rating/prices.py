"""Random prices and a second, obvious spelling of what they mean: fractions, and one loop a rule."""

import math
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

AMOUNTS = st.decimals(min_value=0, max_value=10_000, places=4) | st.sampled_from(
    [Decimal(0), Decimal("0.000000000000000001"), Decimal("99999999999999999999.999999999999999999")]
)
QUANTITIES = st.decimals(min_value=0, max_value=5_000, places=3) | st.integers(0, 5_000).map(Decimal)
BORDERS = st.lists(
    st.integers(1, 5_000) | st.decimals(min_value="0.001", max_value=5_000, places=3), max_size=5, unique=True
)


@st.composite
def tiers(draw: Any, price_name: str) -> list[dict[str, Any]]:
    ends = sorted(Decimal(end) for end in draw(BORDERS))
    made: list[dict[str, Any]] = []
    for end in [*dict.fromkeys(ends), None]:
        amount = draw(
            AMOUNTS if price_name == "unit_amount" else st.decimals(min_value=0, max_value=100, places=3)
        )
        made.append(
            {
                "up_to": None if end is None else str(end),
                price_name: str(amount),
                "flat_amount": str(draw(AMOUNTS)),
            }
        )
    return made


LEAVES = {
    "flat": st.fixed_dictionaries({"amount": AMOUNTS.map(str)}),
    "per_unit": st.fixed_dictionaries(
        {"unit_amount": AMOUNTS.map(str)}, optional={"free_units": QUANTITIES.map(str)}
    ),
    "graduated": st.fixed_dictionaries({"tiers": tiers("unit_amount")}),
    "volume": st.fixed_dictionaries({"tiers": tiers("unit_amount")}),
    "graduated_percentage": st.fixed_dictionaries({"tiers": tiers("rate")}),
    "package": st.fixed_dictionaries(
        {
            "package_size": st.decimals(min_value="0.001", max_value=500, places=3).map(str),
            "amount": AMOUNTS.map(str),
            "free_units": QUANTITIES.map(str),
        }
    ),
    "percentage": st.fixed_dictionaries(
        {"rate": st.decimals(min_value=0, max_value=100, places=3).map(str)},
        optional={
            "fixed_amount": AMOUNTS.map(str),
            "free_transactions": st.integers(0, 5),
            "free_amount": QUANTITIES.map(str),
            "min_per_transaction": st.decimals(min_value=0, max_value=5, places=2).map(str),
            "max_per_transaction": st.decimals(min_value=5, max_value=50, places=2).map(str),
        },
    ),
}


def leaves(*names: str) -> st.SearchStrategy[dict[str, Any]]:
    """Prices of these models (of all without names), as JSON."""
    return st.one_of(
        *(LEAVES[name].map(lambda made, name=name: {"model": name, **made}) for name in names or LEAVES)
    )


def model_amount(price: dict[str, Any], quantity: Decimal) -> Fraction:
    """What a price of a quantity is, by its definition in API.md. Not for percentages, see `percentage_amount`."""
    units = Fraction(quantity)
    match price["model"]:
        case "flat":
            return Fraction(price["amount"])
        case "per_unit":
            return max(Fraction(0), units - Fraction(price.get("free_units", "0"))) * Fraction(
                price["unit_amount"]
            )
        case "package":
            paid = max(Fraction(0), units - Fraction(price["free_units"]))
            return math.ceil(paid / Fraction(price["package_size"])) * Fraction(price["amount"])
        case "volume":
            for tier in price["tiers"]:
                if tier["up_to"] is None or units <= Fraction(tier["up_to"]):
                    return units * Fraction(tier["unit_amount"]) + Fraction(tier["flat_amount"])
            raise AssertionError("the last tier is open")
        case _:
            scale = 100 if price["model"] == "graduated_percentage" else 1
            name = "rate" if scale == 100 else "unit_amount"
            ends = [
                Fraction(0),
                *(units if tier["up_to"] is None else Fraction(tier["up_to"]) for tier in price["tiers"]),
            ]
            amount = Fraction(0)
            for index, (tier, (low, high)) in enumerate(zip(price["tiers"], pairwise(ends), strict=True)):
                if units > low or index == 0:
                    inside = max(Fraction(0), min(units, high) - low)
                    amount += inside * Fraction(tier[name]) / scale + Fraction(tier["flat_amount"])
            return amount


def percentage_amount(price: dict[str, Any], transactions: list[Decimal]) -> Fraction:
    """One transaction after the other."""
    rate, fixed = Fraction(price["rate"]) / 100, Fraction(price.get("fixed_amount", "0"))
    count_free, amount_free = price.get("free_transactions", 0), Fraction(price.get("free_amount", "0"))
    least, most = price.get("min_per_transaction"), price.get("max_per_transaction")
    running = amount = Fraction(0)
    ended = not count_free and not amount_free
    for index, value in enumerate(map(Fraction, transactions)):
        free = Fraction(0)
        if not ended:
            if count_free and index >= count_free:
                ended = True
            elif amount_free and running + value >= amount_free:
                ended, free = True, amount_free - running
            else:
                running += value
                continue
        cost = (value - free) * rate + fixed
        if least is not None:
            cost = max(cost, Fraction(least))
        if most is not None:
            cost = min(cost, Fraction(most))
        amount += cost
    return amount
