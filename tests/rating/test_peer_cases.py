"""More figures that the peers hold themselves to, asked the public way: the body of `POST /v1/prices/evaluate`.

The given vectors (test_vectors.py) are a part of what Lago (1b1c24a6) and OpenMeter (7e57a394) test. These are the rest of
the same families, read out of their tests as numbers and told in our words; each row names the file it comes from. Numbers
stand as the peers write them, as text and as JSON numbers, so that both are read.
"""

import json
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest

from tallystick.api.prices import _evaluate  # pyright: ignore[reportPrivateUsage]
from tallystick.money import round_money
from tallystick.rating.adjustments import Adjustments
from tallystick.rating.model import Usage
from tallystick.rating.price import parse_price
from tallystick.rating.rate import Level, difference, rate, rate_levels, rate_part

D = Decimal


def evaluate(**body: Any) -> dict[str, Any]:
    """As over HTTP: a number is read from its text."""
    return _evaluate(json.loads(json.dumps(body), parse_float=Decimal))


def tiered(model: str, *tiers: Sequence[Any]) -> dict[str, Any]:
    """Rows of (up_to, price, flat amount)."""
    name = "rate" if model == "graduated_percentage" else "unit_amount"
    return {
        "model": model,
        "tiers": [{"up_to": end, name: price, "flat_amount": flat} for end, price, flat in tiers],
    }


def percent(rate: Any, **members: Any) -> dict[str, Any]:
    return {"model": "percentage", "rate": rate, **members}


# -- Lago: spec/services/charge_models -----------------------------------------------------------------------------
STEPS = tiered("graduated", (10, "10", "2"), (20, "5", "3"), (None, "5", "3"))
FREE_FIRST = tiered("graduated", ("0.01", "0", "0"), (10, "10", "2"), (None, "5", "3"))
DECIMAL = tiered("graduated", ("0.1", "10", "0"), (1, "5", "0"), (None, "2", "0"))
SHARES = tiered("graduated_percentage", (10, "1", "200"), (20, "2", "300"), (None, "3", "400"))
VOLUME = tiered("volume", (100, "2", "10"), (200, "1", "0"), (None, "0.5", "50"))
VOLUME_FREE = tiered("volume", (1, "0", "0"), (100, "2", "10"), (None, "0.5", "50"))
# -- Lago: spec/scenarios/current_usage/by_charge_model, spec/scenarios/pay_in_advance_charges, charges/calculate_price
GRADUATED_5 = tiered("graduated", (5, "10", "100"), (None, "5", "50"))
GRADUATED_PENNIES = tiered("graduated", (5, "0.02", "0.01"), (None, "0.01", "0.01"))
SHARES_100 = tiered("graduated_percentage", (100, "20", "10"), (200, "30", "7"), (None, "40", "5"))
# -- OpenMeter: billing/rating/service/rate
OM_GRADUATED = tiered("graduated", (5, None, 100), (10, None, 50), (15, 10, None), (None, 5, None))
OM_VOLUME = tiered("volume", (5, None, 100), (10, None, 150), (15, 10, None), (None, 5, None))

QUANTITIES: list[tuple[str, dict[str, Any], Any, str, list[str]]] = [
    ("graduated_service", STEPS, 0, "2", ["2"]),
    ("graduated_service", STEPS, 1, "12", ["12"]),
    ("graduated_service", STEPS, 12, "115", ["102", "13"]),
    ("graduated_service", STEPS, 20, "155", ["102", "53"]),
    ("graduated_service", STEPS, "21", "163", ["102", "53", "8"]),
    ("graduated_service", FREE_FIRST, 0, "0", ["0"]),
    ("graduated_service", DECIMAL, 0.05, "0.5", ["0.5"]),
    ("graduated_service", DECIMAL, 0.1, "1", ["1"]),
    ("graduated_service", DECIMAL, 1.5, "6.5", ["1", "4.5", "1"]),
    ("graduated_percentage_service", SHARES, 10, "200.1", ["200.1"]),
    ("graduated_percentage_service", SHARES, 12, "500.14", ["200.1", "300.04"]),
    ("graduated_percentage_service", SHARES, 21, "900.33", ["200.1", "300.2", "400.03"]),
    ("volume_service", VOLUME, 1, "12", ["12"]),
    ("volume_service", VOLUME, 100.5, "100.5", ["100.5"]),
    ("volume_service", VOLUME, 200, "200", ["200"]),
    ("volume_service", VOLUME_FREE, 0, "0", ["0"]),
    ("package_service", {"model": "package", "package_size": 10, "amount": "100", "free_units": 0}, 121, "1300", []),
    ("package_service", {"model": "package", "package_size": 10, "amount": "100", "free_units": 200}, 121, "0", []),
    ("package_spec", {"model": "package", "package_size": 10, "amount": "100"}, 15, "200", []),
    ("package_spec", {"model": "package", "package_size": 10, "amount": "100", "free_units": 5}, 3, "0", []),
    ("calculate_price", {"model": "package", "package_size": 2, "amount": "10", "free_units": 1}, 5, "20", []),
    ("calculate_price", tiered("volume", (2, "2", "0"), (None, "3", "0")), 5, "15", ["15"]),
    ("calculate_price", tiered("graduated_percentage", (2, 10, 10), (None, 20, 20)), 5, "30.8", ["10.2", "20.6"]),
    ("standard_spec", {"model": "per_unit", "unit_amount": "12.5"}, 4, "50", []),
    ("standard_spec", {"model": "per_unit", "unit_amount": "0.12"}, 0, "0", []),
    ("estimate_instant/standard", {"model": "per_unit", "unit_amount": "20"}, 20, "400", []),
    ("graduated_spec", GRADUATED_5, 8, "215", ["150", "65"]),
    ("dynamic_spec", percent(1), "10.1", "0.101", []),
    ("dynamic_spec", percent(1), "912", "9.12", []),
    ("percentage_service", percent("2.9"), 4, "0.116", []),
    ("pricing_unit_spec", {"model": "per_unit", "unit_amount": "5.0", "unit": {"name": "CRD", "amount": 0.5}}, 0, "0", []),
    ("tieredgraduated_test", OM_GRADUATED, 0, "100", ["100"]),
    ("tieredgraduated_test", OM_GRADUATED, 5, "100", ["100"]),
    ("tieredgraduated_test", OM_GRADUATED, "5.001", "150", ["100", "50"]),
    ("tieredgraduated_test", OM_GRADUATED, 7, "150", ["100", "50"]),
    ("tieredgraduated_test", OM_GRADUATED, 12, "170", ["100", "50", "20"]),
    ("tieredgraduated_test", OM_GRADUATED, 20, "225", ["100", "50", "50", "25"]),
    ("tieredgraduated_test", OM_GRADUATED, 22, "235", ["100", "50", "50", "35"]),
    ("tieredvolume_test", OM_VOLUME, 6, "150", ["150"]),
    ("tieredvolume_test", tiered("volume", (None, 5, None)), 0, "0", ["0"]),
]  # fmt: skip


@pytest.mark.parametrize(("source", "price", "quantity", "amount", "tiers"), QUANTITIES)
def test_quantities(source: str, price: Any, quantity: Any, amount: str, tiers: list[str]) -> None:
    said = evaluate(price=price, quantity=quantity)
    assert (said["amount"], [tier["amount"] for tier in said["tiers"]]) == (amount, tiers), source
    # Several transactions of the same sum are the same quantity.
    whole = D(str(quantity))
    cut = evaluate(price=price, transactions=[str(whole / 4)] * 4)
    assert cut["amount"] == amount


# -- transactions ---------------------------------------------------------------------------------------------------
FREE = {"fixed_amount": "2.0", "free_transactions": 3, "free_amount": "250.0"}
BETWEEN = {"fixed_amount": "0", "min_per_transaction": "1.75", "max_per_transaction": "12"}
FOUR = [50, 100, 250, 400]
THREE = [10, 80, 10000]
TRANSACTIONS: list[tuple[str, dict[str, Any], list[Any], str]] = [
    ("percentage_service", percent("1.3", **FREE), [], "0"),
    ("percentage_service", percent("1.3", **FREE | {"free_transactions": None}), FOUR, "11.15"),
    ("percentage_service", percent("1.3", **FREE | {"free_transactions": 5, "free_amount": None}), FOUR[:3], "0"),
    ("percentage_service", percent("2.9", free_transactions=None, free_amount=None), [1, 1, 1, 1], "0.116"),
    ("percentage_service", percent("2.99", **BETWEEN, free_transactions=None, free_amount="30"), THREE, "13.794"),
    ("percentage_service", percent("2.99", **BETWEEN, free_transactions=3, free_amount="10000"), THREE, "2.691"),
    ("estimate_instant/percentage", percent(2.99, fixed_amount=10), [20], "10.598"),
    ("estimate_instant/percentage", percent(2.99, max_per_transaction=0.1), [20], "0.1"),
    ("estimate_instant/percentage", percent(0), [100], "0"),
    ("estimate_instant/percentage", percent(0, fixed_amount=2, max_per_transaction=15, min_per_transaction=0), [100], "2"),
    ("estimate_instant/percentage", percent(15, fixed_amount=0, min_per_transaction=16), [100], "16"),
    ("percentage_spec", percent("1", fixed_amount="5", free_transactions=3), [10, 10, 10], "0"),
    ("percentage_spec", percent("1", fixed_amount="5", free_transactions=3), [10, 10, 10, 10], "5.1"),
    ("percentage_spec", percent("1", fixed_amount="5", free_amount="15.0"), [4, 4, 4], "0"),
    ("percentage_spec", percent("1", fixed_amount="5", free_amount="15.0"), [4, 4, 4, 4], "5.01"),
    ("percentage_spec", percent("1", fixed_amount="5", free_amount="15.0"), [4, 4, 4, 4, 10], "10.11"),
    ("percentage_spec", percent("1", fixed_amount="5", free_transactions=3, free_amount="15.0"), [10, 10], "5.05"),
    ("percentage_spec", percent("1", fixed_amount="5", free_transactions=3, free_amount="15.0"), [10, 10, 10], "10.15"),
    ("pay_in_advance", percent("5", fixed_amount="1", free_amount="3.0"), [5], "1.1"),
    ("pay_in_advance", percent("5", fixed_amount="1", free_amount="3.0"), [5, 1], "2.15"),
    ("pay_in_advance", percent("1", fixed_amount="0.5", min_per_transaction="1.75", max_per_transaction="2"),
     [100, 333, 1000, 10000], "7.75"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "price", "values", "amount"), TRANSACTIONS)
def test_transactions(source: str, price: Any, values: list[Any], amount: str) -> None:
    assert evaluate(price=price, transactions=values)["amount"] == amount, source


# -- what is billed when it happens -----------------------------------------------------------------------------------
PARTS: list[tuple[str, dict[str, Any], list[int], list[str]]] = [
    ("sum / package", {"model": "package", "package_size": 2, "amount": "100", "free_units": 3}, [3, 1, 2], ["0", "100", "100"]),
    ("sum / graduated", GRADUATED_PENNIES, [3, 1, 2], ["0.07", "0.02", "0.04"]),
    ("sum / graduated_percentage", SHARES_100, [50, 100, 300], ["20", "32", "120"]),
    ("count / standard", {"model": "per_unit", "unit_amount": "10"}, [1, 1], ["10", "10"]),
]  # fmt: skip


@pytest.mark.parametrize(("source", "price", "values", "amounts"), PARTS)
def test_each_event_costs_what_it_adds(
    source: str, price: Any, values: list[int], amounts: list[str]
) -> None:
    one, found = parse_price(price), list[Decimal]()
    for index, value in enumerate(values):
        before = [Usage(D(sum(values[:index])))] if index else None
        found.append(rate_part(one, before, [Usage(D(value))]).amount)
    assert found == [D(amount) for amount in amounts], source


# -- adjustments ------------------------------------------------------------------------------------------------------
PACKAGES = {"model": "package", "package_size": 10, "amount": 15}
THOUSANDS = {"divide": 1000, "round": "up"}
ADJUSTED: list[tuple[str, dict[str, Any], Any, dict[str, Any], str]] = [
    ("unit_test", {"model": "per_unit", "unit_amount": 10}, 0, {}, "0"),
    ("unit_test", {"model": "per_unit", "unit_amount": 10}, 10, {"maximum": 100}, "100"),
    ("package_test", PACKAGES, 0, {"minimum": 100}, "100"),
    ("package_test", PACKAGES, 10, {"maximum": 100}, "15"),
    ("package_test", PACKAGES, 110, {"maximum": 100}, "100"),
    ("dynamic_test", percent(100), 0, {"minimum": 100}, "100"),
    ("dynamic_test", {"model": "per_unit", "unit_amount": 1.33333}, 120, {"maximum": 100}, "100"),
    ("tieredgraduated_test", OM_GRADUATED, 0, {"minimum": 1000}, "1000"),
    ("tieredgraduated_test", OM_GRADUATED, 2, {"minimum": 1000}, "1000"),
    ("tieredvolume_test", OM_VOLUME, 100, {"minimum": 100}, "500"),
    ("tieredvolume_test", OM_VOLUME, 5, {"maximum": 100}, "100"),
    ("unitconfig_rating_test", {"model": "per_unit", "unit_amount": 10, "convert": THOUSANDS}, 1400, {}, "20"),
    # What is measured becomes what is priced, and free units are priced units; `discounts` and `included` are measured ones.
    ("unitconfig_rating_test", {"model": "per_unit", "unit_amount": 10, "free_units": 0.5, "convert": THOUSANDS}, 1400, {}, "15"),
    ("ours", {"model": "per_unit", "unit_amount": 10, "convert": THOUSANDS}, 1400, {"discounts": [{"units": 400}]}, "10"),
    ("unitconfig_test", {"model": "per_unit", "unit_amount": 1, "convert": {"multiply": 1.5}}, 4.2, {}, "6.3"),
    ("unitconfig_test", {"model": "per_unit", "unit_amount": 1, "convert": {"divide": 1000, "round": "half_up"}}, 2600, {}, "3"),
    ("unitconfig_test", {"model": "per_unit", "unit_amount": 1, "convert": {"divide": 100, "round": "half_up", "precision": 1}}, 245, {}, "2.5"),
    ("unitconfig_test", {"model": "per_unit", "unit_amount": 1, "convert": {"divide": 100, "round": "half_up", "precision": 1}}, 244, {}, "2.4"),
    ("unitconfig_test", {"model": "per_unit", "unit_amount": 1, "convert": {**THOUSANDS, "precision": 2}}, 1247, {}, "1.25"),
    ("create_true_up", {"model": "per_unit", "unit_amount": "0.01"}, 1500, {"minimum": 10}, "15"),
    ("billing/discount", {"model": "per_unit", "unit_amount": 10}, 7, {"discounts": [{"percent": 50}], "maximum": 100}, "35"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "price", "quantity", "members", "amount"), ADJUSTED)
def test_adjustments(source: str, price: Any, quantity: Any, members: Any, amount: str) -> None:
    assert evaluate(price=price, quantity=quantity, **members)["amount"] == amount, source


SPLITS: list[tuple[str, dict[str, Any], tuple[int, int], dict[str, Any], str]] = [
    ("graduated, mid", OM_GRADUATED, (7, 1), {}, "0"),
    ("graduated, last, a minimum", OM_GRADUATED, (2, 0), {"minimum": 1000}, "900"),
    ("graduated, mid, a minimum", OM_GRADUATED, (2, 0), {"minimum": 1000}, "0"),
    ("graduated, from 3 to 7", OM_GRADUATED, (3, 4), {}, "50"),
    ("graduated, from 12 to 20", OM_GRADUATED, (12, 8), {}, "55"),
    ("graduated, from border to border", OM_GRADUATED, (5, 5), {}, "50"),
    ("graduated, nothing new", OM_GRADUATED, (6, 0), {}, "0"),
    ("package, mid, a minimum", PACKAGES, (0, 0), {"minimum": 100}, "0"),
    ("package, begun before", PACKAGES, (17, 3), {}, "0"),
]


@pytest.mark.parametrize(("source", "price", "quantities", "members", "amount"), SPLITS)
def test_parts_of_a_period(
    source: str, price: Any, quantities: tuple[int, int], members: dict[str, Any], amount: str
) -> None:
    """(What was billed within the period before, what came since)."""
    before, more = ([Usage(D(quantity))] for quantity in quantities)
    adjustments = Adjustments(minimum=D(members["minimum"]) if members else None)
    rated = rate_part(parse_price(price), before, more, adjustments, last="mid" not in source)
    assert rated.amount == D(amount), source


# -- what was billed, and what is known now ------------------------------------------------------------------------------
TENS, ONES = (
    {"model": "per_unit", "unit_amount": 10},
    tiered("graduated", (5, 1, None), (10, 2, None), (None, 3, None)),
)
FLATS = tiered("graduated", (10, 10, 100), (20, 5, 200), (None, 80, None))
DELTAS: list[tuple[dict[str, Any], int, int, str]] = [
    # OpenMeter: charges/usagebased/service/rating/delta; (price, quantity billed, quantity now, the difference)
    (TENS, 5, 8, "30"), (TENS, 5, 5, "0"), (TENS, 8, 5, "-30"), (TENS, 5, 0, "-50"),
    ({"model": "per_unit", "unit_amount": "0.001"}, 333, 666, "0.34"),
    (ONES, 3, 5, "2"), (ONES, 3, 7, "6"), (ONES, 3, 12, "18"), (ONES, 5, 3, "-2"), (ONES, 12, 3, "-18"),
    (OM_VOLUME, 12, 14, "20"), (OM_VOLUME, 15, 16, "-70"), (OM_VOLUME, 5, 7, "50"), (OM_VOLUME, 7, 7, "0"),
    (PACKAGES, 0, 1, "15"), (PACKAGES, 1, 9, "0"), (PACKAGES, 9, 11, "15"), (PACKAGES, 1, 31, "45"), (PACKAGES, 11, 9, "-15"),
    (PACKAGES, 1, 0, "-15"),
    (FLATS, 0, 0, "0"), (FLATS, 0, 15, "325"),
]  # fmt: skip


@pytest.mark.parametrize(("price", "billed", "now", "amount"), DELTAS)
def test_rounded_new_less_rounded_old(price: Any, billed: int, now: int, amount: str) -> None:
    old, new = (rate(parse_price(price), [Usage(D(quantity))]) for quantity in (billed, now))
    assert round_money(new.amount, "USD") - round_money(old.amount, "USD") == D(amount)
    assert difference(new, old).amount == new.amount - old.amount


# -- levels within a period --------------------------------------------------------------------------------------------
LEVEL_5 = tiered("graduated", (5, "10", "100"), (None, "5", "50"))
LEVEL_15 = tiered("graduated", (5, "10", "100"), (15, "5", "50"), (None, "2", "0"))
HELD: list[tuple[dict[str, Any], list[int], list[str], str]] = [
    # Units that came (or went) one after the other, and how much of each was left of the period, as a number of units.
    (LEVEL_5, [1, 4, 1, -5, -1], ["0.7097", "1.54839", "0.2258", "-0.80645", "-0.0645"], "165.81"),
    (LEVEL_5, [5, -2], ["3.5", "-1"], "125"),
    (LEVEL_5, [4, 2, -3], ["2.8", "1", "-0.6"], "180.5"),
    (LEVEL_15, [75], ["75"], "370"),
]


@pytest.mark.parametrize(("price", "units", "prorated", "amount"), HELD)
def test_levels(price: Any, units: list[int], prorated: list[str], amount: str) -> None:
    """prorated_graduated_service: each level costs its share of the period, flat amounts are the highest level's."""
    shares = [Fraction(part) / one for one, part in zip(units, prorated, strict=True)] + [Fraction(0)]
    levels = [
        Level(D(sum(units[: index + 1])), length.numerator, length.denominator)
        for index, length in enumerate(here - after for here, after in pairwise(shares))
    ]
    assert round(rate_levels(parse_price(price), levels).amount, 2) == D(amount)
