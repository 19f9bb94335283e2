"""Prices that are more than a number: tables a biller can check by eye."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tallystick.errors import Invalid
from tallystick.rating.adjustments import Adjustments, Discount
from tallystick.rating.commitment import Commitment, settle
from tallystick.rating.model import Usage
from tallystick.rating.price import MODELS, parse_price
from tallystick.rating.rate import increments, rate

D = Decimal
UNIT = {"model": "per_unit", "unit_amount": "1"}


def hour_us(day: int, hour: int) -> int:
    """July 2026; the 1st is a Wednesday."""
    return 1_782_864_000_000_000 + ((day - 1) * 24 + hour) * 3_600_000_000


def codes(raw: Any) -> list[tuple[str, str]]:
    with pytest.raises(Invalid) as raised:
        parse_price(raw)
    return [(fault.pointer, fault.code) for fault in raised.value.faults]


@pytest.mark.parametrize(
    ("quantity", "amount"),
    [("0", "0"), ("1", "5"), ("10", "5"), ("10.000000000000000001", "10"), ("20", "10"), ("20.5", "15")],
)
def test_packages_are_whole(quantity: str, amount: str) -> None:
    price = parse_price({"model": "package", "package_size": "10", "amount": "5"})
    assert rate(price, [Usage.of(quantity)]).amount == D(amount)


def test_packages_of_a_third_have_no_rounded_border() -> None:
    price = parse_price({"model": "package", "package_size": "0.333333333333333333", "amount": "1"})
    assert rate(price, [Usage.of("0.999999999999999999")]).amount == 3
    assert rate(price, [Usage.of("1")]).amount == 4


def test_the_order_of_adjustments() -> None:
    price = parse_price(UNIT)
    adjustments = Adjustments(
        included=D(100),
        discounts=(Discount(amount=D(30)), Discount(percent=D(50)), Discount(units=D(200))),
        maximum=D(300),
        minimum=D(10),
    )
    rated = rate(price, [Usage.of(1000)], adjustments)
    assert [(step.kind, step.amount) for step in rated.steps] == [
        ("included", 0),
        ("discount_units", 0),
        ("units", 700),
        ("discount_percent", -350),
        ("discount_amount", -30),
        ("maximum", -20),
    ]
    assert rated.amount == 300
    assert rate(price, [Usage.of(50)], adjustments).amount == 10  # nothing to price, and the minimum


def test_included_units_come_off_the_earliest_usage() -> None:
    price = parse_price(
        {
            "model": "matrix",
            "dimensions": ["m"],
            "cells": [{"values": ["dear"], "unit_amount": "2"}],
            "default": "1",
        }
    )
    late = Usage(D(10), dimensions=(("m", "cheap"),), at_us=2)
    early = Usage(D(10), dimensions=(("m", "dear"),), at_us=1)
    for parts in ([late, early], [early, late]):
        assert rate(price, parts, Adjustments(included=D(5))).amount == 20
        assert rate(price, parts, Adjustments(included=D(15))).amount == 5


def test_included_units_cut_transactions() -> None:
    price = parse_price({"model": "percentage", "rate": "10", "fixed_amount": "1"})
    parts = [Usage.of_transactions([D(100), D(50)])]
    assert rate(price, parts, Adjustments(included=D(120))).amount == 4  # 30 left, of one transaction


def test_a_missing_dimension_has_a_cell_of_its_own() -> None:
    price = parse_price(
        {
            "model": "matrix",
            "dimensions": ["m"],
            "cells": [{"values": [None], "unit_amount": "3"}, {"values": [""], "unit_amount": "2"}],
        }
    )
    assert rate(price, [Usage.of(1), Usage.of(1, m="")]).amount == 5
    with pytest.raises(Invalid, match="No cell"):
        rate(price, [Usage.of(1, m="x")])


def test_cells_with_tiers_and_free_units() -> None:
    tiered = {"model": "graduated", "tiers": [{"up_to": "10", "unit_amount": "1"}, {"unit_amount": "0.5"}]}
    price = parse_price(
        {
            "model": "matrix",
            "dimensions": ["region"],
            "cells": [
                {"values": ["eu"], "price": tiered},
                {"values": ["us"], "unit_amount": "2", "free_units": "5"},
            ],
        }
    )
    rated = rate(price, [Usage.of(8, region="eu"), Usage.of(7, region="us"), Usage.of(8, region="eu")])
    assert rated.amount == 10 + 3 + 4
    assert [step.label for step in rated.steps] == [("eu",), ("eu",), ("us",), ("us",)]
    assert price.needs().dimensions == {"region"}


def test_a_book_of_tokens() -> None:
    price = parse_price(
        {
            "model": "token_book",
            "markup": "25",
            "book": [
                {"model": "big", "input": "3", "output": "15", "cached_input": "0.30"},
                {"model": "small", "input": "0.1"},
            ],
        }
    )
    parts = [
        Usage.of(1_000_000, model="big", type="input"),
        Usage.of(100_000, model="big", type="output"),
        Usage.of(2_000_000, model="big", type="cached_input"),
        Usage.of(1, model="small", type="input"),
    ]
    assert rate(price, parts).amount == D("3.75") + D("1.875") + D("0.75") + D("0.000000125")
    with pytest.raises(Invalid, match="small"):
        rate(price, [Usage.of(1, model="small", type="output")])
    assert parse_price(price.to_wire()) == price


def test_cost_plus() -> None:
    price = parse_price(
        {
            "model": "cost_plus",
            "dimensions": ["sku"],
            "cells": [{"values": ["a"], "unit_cost": "0.07"}],
            "default": "0.1",
            "per": "3",
            "markup": "-50",
            "fixed_amount": "2",
        }
    )
    assert rate(price, [Usage.of(300, sku="a"), Usage.of(30, sku="b")]).amount == D("3.5") + D("0.5") + 2
    assert rate(price, [Usage.of(1, sku="a")]).amount == D("2.011666666666666666666666666666666667")
    assert parse_price(price.to_wire()) == price


def test_rates_by_time_of_day_follow_the_clock() -> None:
    price = parse_price(
        {
            "model": "time_of_day",
            "timezone": "Europe/Berlin",
            "rates": [
                {
                    "name": "weekend",
                    "days": ["sat", "sun"],
                    "from": "00:00",
                    "to": "24:00",
                    "price": {"model": "per_unit", "unit_amount": "1"},
                },
                {
                    "name": "night",
                    "days": ["fri"],
                    "from": "22:00",
                    "to": "06:30",
                    "price": {"model": "per_unit", "unit_amount": "2"},
                },
            ],
            "default": {"model": "per_unit", "unit_amount": "10"},
        }
    )
    table = {  # moment in UTC; Berlin is two hours ahead
        hour_us(3, 19): 10,  # Friday 21:00
        hour_us(3, 20): 2,  # Friday 22:00
        hour_us(3, 21): 2,
        hour_us(3, 22): 1,  # Saturday 00:00: the first rate that fits
        hour_us(5, 21): 1,  # Sunday 23:00
        hour_us(5, 22): 10,  # Monday 00:00
    }
    for at_us, amount in table.items():
        assert rate(price, [Usage(D(1), at_us=at_us)]).amount == amount
    needs = price.needs()
    assert (needs.window_minutes, needs.timezone) == (15, "Europe/Berlin")
    assert parse_price(price.to_wire()) == price
    with pytest.raises(Invalid, match="changes over time"):
        rate(price, [Usage.of(1)])


def test_a_scheduled_price_changes_at_its_moment() -> None:
    price = parse_price(
        {
            "model": "scheduled",
            "schedule": [
                {
                    "from": None,
                    "price": {
                        "model": "graduated",
                        "tiers": [{"up_to": "5", "unit_amount": "2"}, {"unit_amount": "1"}],
                    },
                },
                {"from": "2026-07-03T02:00:00+02:00", "price": UNIT},
            ],
        }
    )
    before, after = hour_us(3, 0) - 1, hour_us(3, 0)
    # Usage of one price is one quantity, however it was cut.
    parts = [Usage(D(3), at_us=before), Usage(D(4), at_us=after), Usage(D(3), at_us=before)]
    assert rate(price, parts).amount == 10 + 1 + 4
    assert price.needs().split_us == {after}
    assert parse_price(price.to_wire()) == price


def test_zones_of_several_prices_need_windows_of_both() -> None:
    timed = [
        {
            "model": "time_of_day",
            "timezone": zone,
            "rates": [{"from": "08:00", "to": "20:00", "price": UNIT}],
            "default": UNIT,
        }
        for zone in ("Asia/Kolkata", "UTC")
    ]
    both = {
        "model": "matrix",
        "dimensions": ["a"],
        "cells": [{"values": ["x"], "price": timed[0]}],
        "default": {"price": timed[1]},
    }
    assert parse_price(both).needs().window_minutes == 15
    assert parse_price(timed[0]).needs().window_minutes == 60


def test_tokens_per_dollar() -> None:
    price = parse_price({**UNIT, "unit": {"name": "token", "per_currency_unit": "100000"}})
    rated = rate(price, [Usage.of(250_000)], Adjustments(minimum=D(300_000)))
    assert rated.amount == 3
    assert [step.kind for step in rated.steps] == ["units", "minimum", "unit"]


@pytest.mark.parametrize(
    ("spent", "overage", "amount"),
    [("0", "100", "100"), ("99.99", "100", "0.01"), ("100", "120", "0"), ("150", "120", "10"), ("150", "100", "0"), ("150", "80", "-10")],
)  # fmt: skip
def test_commitments(spent: str, overage: str, amount: str) -> None:
    assert settle(Commitment(D(100), D(overage)), [D(spent)]).amount == D(amount)


def test_what_is_given_back_and_taken_again_is_not_billed_twice() -> None:
    assert increments([D(10), D(-4), D(8), D(-14), D(15)]) == (10, 0, 4, 0, 1)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (None, [("", "invalid_type"), ("/model", "missing")]),
        ({"model": "graduated"}, [("/tiers", "missing")]),
        ({"model": "graduated", "tiers": []}, [("/tiers", "missing")]),
        ({"model": "volume", "tiers": [{"up_to": None, "unit_amount": "1"}, {"up_to": "5", "unit_amount": "1"}]},
         [("/tiers/0/up_to", "tiers_not_ascending"), ("/tiers/1/up_to", "last_tier_not_open")]),
        ({"model": "volume", "tiers": [{"up_to": "5", "unit_amount": "1"}, {"up_to": "5", "unit_amount": "1"}, {"unit_amount": "1"}]},
         [("/tiers/1/up_to", "tiers_not_ascending")]),
        ({"model": "matrix", "dimensions": ["a"], "cells": [{"values": ["x", "y"], "unit_amount": "1"}]},
         [("/cells/0/values", "invalid_value")]),
        ({"model": "matrix", "dimensions": ["a"], "cells": [{"values": ["x"], "unit_amount": "1"}, {"values": ["x"]}]},
         [("/cells/1/values", "repeated"), ("/cells/1/unit_amount", "missing")]),
        ({"model": "matrix", "dimensions": ["a"], "default": "1", "convert": {"divide": "0"}},
         [("/convert/divide", "too_small"), ("/convert", "convert_not_allowed")]),
        ({**UNIT, "unit": {"name": "c"}}, [("/unit", "missing")]),
        ({"model": "per_unit", "unit_amount": 0.5}, [("/unit_amount", "invalid_number")]),
        ({"model": "scheduled", "schedule": [{"from": "2026-01-01T00:00:00Z", "price": UNIT}, {"price": UNIT}]},
         [("/schedule/0/from", "invalid_value"), ("/schedule/1/from", "missing")]),
        ({"model": "time_of_day", "timezone": "Mars/Base", "rates": [{"from": "25:00", "to": "06:00", "price": UNIT}]},
         [("/timezone", "unknown_timezone"), ("/rates/0/from", "invalid_value"), ("/default", "invalid_type"), ("/default/model", "missing")]),
    ],
)  # fmt: skip
def test_faults(raw: Any, expected: list[tuple[str, str]]) -> None:
    assert codes(raw) == expected


def test_prices_nest_only_so_deep() -> None:
    raw: dict[str, Any] = UNIT
    for _ in range(5):
        raw = {"model": "matrix", "dimensions": ["a"], "default": {"price": raw}}
    assert [code for _, code in codes(raw)] == ["nested_too_deep"]


def test_every_model_is_on_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/prices.md").read_text()
    assert [name for name in MODELS if f"| `{name}` |" not in page] == []
