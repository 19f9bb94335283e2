"""What holds for every price, whatever its figures: against a slow obvious model, and against itself."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.rating.prices import AMOUNTS, QUANTITIES, leaves, model_amount, percentage_amount

from tallystick.money import round_money, split_money
from tallystick.rating.adjustments import Adjustments, Discount
from tallystick.rating.model import Rated, Usage
from tallystick.rating.price import Price, parse_price
from tallystick.rating.rate import Level, rate, rate_groups, rate_levels, rate_part

MONOTONIC = ("flat", "per_unit", "graduated", "package", "graduated_percentage")
BY_QUANTITY = (*MONOTONIC, "volume")
LAST_DIGIT = Fraction(1, 10**36)

ADJUSTMENTS = st.builds(
    lambda included, discounts, limits: Adjustments(
        included,
        tuple(discounts),
        None if limits is None else min(limits),
        None if limits is None else max(limits),
    ),
    QUANTITIES,
    st.lists(
        st.builds(Discount, percent=st.decimals(min_value=0, max_value=100, places=2))
        | st.builds(Discount, amount=AMOUNTS)
        | st.builds(Discount, units=QUANTITIES),
        max_size=3,
    ),
    st.none() | st.tuples(AMOUNTS, AMOUNTS),
)


def sums(rated: Rated) -> Fraction:
    """The amount, which its steps add up to exactly."""
    amount = Fraction(rated.amount)
    assert sum((Fraction(step.amount) for step in rated.steps), Fraction(0)) == amount
    return amount


def usage(quantities: list[Decimal]) -> list[Usage]:
    return [Usage(quantity) for quantity in quantities]


def total(quantities: list[Decimal]) -> Decimal:
    return sum(quantities, Decimal(0))  # a few digits each: exact


@given(leaves(*BY_QUANTITY), QUANTITIES)
def test_what_a_price_says_is_what_it_means(raw: dict[str, Any], quantity: Decimal) -> None:
    rated = rate(parse_price(raw), [Usage(quantity)])
    # A product has at most 36 digits after the point; a percentage of one may have two more, rounded a tier.
    assert abs(sums(rated) - model_amount(raw, quantity)) <= len(rated.steps) * LAST_DIGIT


@given(leaves("percentage"), st.lists(QUANTITIES, max_size=8))
def test_percentages_go_by_transaction(raw: dict[str, Any], values: list[Decimal]) -> None:
    rated = rate(parse_price(raw), [Usage.of_transactions(values)])
    assert abs(sums(rated) - percentage_amount(raw, values)) <= len(values) * LAST_DIGIT


@given(leaves(*BY_QUANTITY), st.lists(QUANTITIES, min_size=1, max_size=6), ADJUSTMENTS, st.randoms())
def test_cutting_or_reordering_usage_changes_nothing(
    raw: dict[str, Any], quantities: list[Decimal], adjustments: Adjustments, random: Any
) -> None:
    price = parse_price(raw)
    whole = rate(price, [Usage(total(quantities))], adjustments)
    mixed = list(quantities)
    random.shuffle(mixed)
    assert rate(price, usage(mixed), adjustments).amount == whole.amount
    assert sums(whole) >= 0


@given(leaves(*BY_QUANTITY), st.lists(QUANTITIES, min_size=1, max_size=5), ADJUSTMENTS)
def test_parts_of_a_period_add_up_to_the_whole(
    raw: dict[str, Any], quantities: list[Decimal], adjustments: Adjustments
) -> None:
    price = parse_price(raw)
    parts = [
        rate_part(
            price,
            usage(quantities[:index]) if index else None,
            [Usage(quantity)],
            adjustments,
            last=index == len(quantities) - 1,
        )
        for index, quantity in enumerate(quantities)
    ]
    whole = rate(price, usage(quantities), adjustments)
    assert sum(map(sums, parts), Fraction(0)) == Fraction(whole.amount)


@given(leaves(*MONOTONIC), QUANTITIES, QUANTITIES)
def test_more_never_costs_less(raw: dict[str, Any], quantity: Decimal, more: Decimal) -> None:
    price = parse_price(raw)
    assert rate(price, [Usage(quantity)]).amount <= rate(price, [Usage(quantity + more)]).amount


@given(leaves("graduated", "volume", "graduated_percentage"), st.data())
def test_at_the_border_of_a_tier(raw: dict[str, Any], data: Any) -> None:
    price = parse_price(raw)
    ends = [Decimal(tier["up_to"]) for tier in raw["tiers"] if tier["up_to"] is not None]
    if not ends:
        return
    index = data.draw(st.integers(0, len(ends) - 1))
    last_digit = Decimal("0.000000000000000001")
    below, at, beyond = (
        rate(price, [Usage(quantity)]).tiers
        for quantity in (ends[index], ends[index], ends[index] + last_digit)
    )
    assert below == at
    assert at[-1].up_to == ends[index]
    assert (beyond[-1].above, beyond[-1].quantity) in {
        (ends[index], last_digit),  # graduated: one digit more lies in the next tier
        (ends[index], ends[index] + last_digit),  # volume: all of it does
    }


@given(leaves(), QUANTITIES, ADJUSTMENTS, st.booleans(), QUANTITIES)
def test_the_sum_of_the_steps_is_the_amount_in_any_unit(
    raw: dict[str, Any], quantity: Decimal, adjustments: Adjustments, per: bool, worth: Decimal
) -> None:
    unit = (
        {"name": "credit", "per_currency_unit": str(worth + 1)}
        if per
        else {"name": "credit", "amount": str(worth)}
    )
    plain_price, own = parse_price(raw), parse_price({**raw, "unit": unit})
    units = sums(rate(plain_price, [Usage(quantity)], adjustments))
    money = sums(rate(own, [Usage(quantity)], adjustments))
    expected = units / Fraction(worth + 1) if per else units * Fraction(worth)
    assert abs(money - expected) <= LAST_DIGIT


@given(leaves(*BY_QUANTITY), QUANTITIES, ADJUSTMENTS)
def test_limits_hold(raw: dict[str, Any], quantity: Decimal, adjustments: Adjustments) -> None:
    amount = rate(parse_price(raw), [Usage(quantity)], adjustments).amount
    if adjustments.minimum is not None and adjustments.maximum is not None:
        assert adjustments.minimum <= amount <= adjustments.maximum


@given(leaves(*BY_QUANTITY), st.dictionaries(st.text(max_size=3), QUANTITIES, min_size=1, max_size=6))
def test_groups_share_one_amount(raw: dict[str, Any], groups: dict[str, Decimal]) -> None:
    price = parse_price(raw)
    rated, shares = rate_groups(price, groups)
    assert rated.amount == rate(price, usage(list(groups.values()))).amount
    assert set(shares) == set(groups)
    assert sum(map(Fraction, shares.values()), Fraction(0)) == Fraction(rated.amount)
    for one, quantity in groups.items():
        for other, less in groups.items():
            assert quantity < less or Fraction(shares[one]) >= Fraction(shares[other]) - LAST_DIGIT


@given(leaves("per_unit", "graduated", "flat"), QUANTITIES, st.integers(1, 31))
def test_a_level_that_stays_costs_what_it_costs(raw: dict[str, Any], quantity: Decimal, days: int) -> None:
    price = parse_price(raw)
    whole = sums(rate(price, [Usage(quantity)]))
    held = [Level(quantity, days, 31), Level(quantity, 31 - days, 31)]
    assert abs(sums(rate_levels(price, held)) - whole) <= 32 * LAST_DIGIT


@given(leaves())
def test_a_price_reads_what_it_writes(raw: dict[str, Any]) -> None:
    price = parse_price(raw)
    assert parse_price(price.to_wire()) == price
    nested = {
        "model": "matrix",
        "dimensions": ["a", "b"],
        "cells": [{"values": ["x", None], "price": raw}, {"values": ["y", "z"], "unit_amount": "1"}],
        "default": {"price": raw},
    }
    matrix = parse_price(nested)
    assert isinstance(matrix, Price)
    assert parse_price(matrix.to_wire()) == matrix


@given(
    st.lists(st.decimals(min_value=0, max_value=10**6, places=6), min_size=1, max_size=8),
    st.integers(-(10**9), 10**9),
    st.sampled_from(["USD", "JPY", "BHD", "CLF"]),
)
def test_a_split_loses_nothing(weights: list[Decimal], units: int, currency: str) -> None:
    exponent = {"USD": 2, "JPY": 0, "BHD": 3, "CLF": 4}[currency]
    total = Decimal(units).scaleb(-exponent)
    parts = split_money(total, weights, currency)
    assert sum(map(Fraction, parts), Fraction(0)) == Fraction(total)
    whole = sum(map(Fraction, weights), Fraction(0))
    for part, weight in zip(parts, weights, strict=True):
        exact = Fraction(total) * (Fraction(weight) / whole if whole else Fraction(1, len(weights)))
        assert abs(Fraction(part) - exact) < Fraction(1, 10**exponent)
        assert round_money(part, currency) == part
    assert all(part.as_tuple().exponent == -exponent for part in parts)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=20, min_value=-(10**15), max_value=10**15))
@settings(max_examples=200)
def test_half_up_is_away_from_zero_on_both_sides(amount: Decimal) -> None:
    for currency, scale in (("USD", 100), ("JPY", 1), ("BHD", 1000)):
        rounded = round_money(amount, currency)
        magnitude = (abs(Fraction(amount)) * scale + Fraction(1, 2)).__floor__()
        assert abs(Fraction(rounded)) * scale == magnitude
        assert round_money(-amount, currency) == -rounded
