"""Whatever stands in a document, reading it answers or names faults; it never breaks."""

import copy
from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.api.prices import _evaluate  # pyright: ignore[reportPrivateUsage]
from tallystick.billing.plan import parse_plan
from tallystick.billing.subscription import parse_subscription
from tallystick.errors import Invalid
from tallystick.rating.model import Usage
from tallystick.rating.price import parse_price
from tallystick.rating.rate import rate

UNIT = {"model": "per_unit", "unit_amount": "1"}
PRICES: list[dict[str, Any]] = [
    {
        **UNIT,
        "unit": {"name": "credit", "amount": "2"},
        "convert": {"divide": "10", "round": "up", "precision": 1},
    },
    {
        "model": "graduated",
        "tiers": [{"up_to": "5", "unit_amount": "1"}, {"up_to": None, "flat_amount": "1"}],
    },
    {"model": "percentage", "rate": "1", "free_transactions": 1, "max_per_transaction": "2"},
    {
        "model": "matrix",
        "dimensions": ["a"],
        "cells": [{"values": ["x"], "price": UNIT}],
        "default": {"price": UNIT},
    },
    {
        "model": "scheduled",
        "schedule": [{"from": None, "price": UNIT}, {"from": "2026-01-01T00:00:00Z", "price": UNIT}],
    },
    {
        "model": "time_of_day",
        "timezone": "UTC",
        "rates": [{"days": ["mon"], "from": "08:00", "to": "20:00", "price": UNIT}],
        "default": UNIT,
    },
    {
        "model": "cost_plus",
        "dimensions": ["a"],
        "cells": [{"values": ["x"], "unit_cost": "1"}],
        "markup": "5",
    },
    {"model": "token_book", "book": [{"model": "m", "input": "1"}]},
]
PLAN: dict[str, Any] = {
    "key": "p",
    "currency": "USD",
    "billing_period": "P2W",
    "charges": [{"key": str(index), "meter": "m", "filter": {}, "group_by": ["a"], "price": price, "discounts": [{"units": "1"}]} for index, price in enumerate(PRICES)],
    "add_ons": [{"key": "a", "charges": []}],
    "phases": [],
    "commitment": {"amount": "5"},
    "thresholds": ["1"],
    "invoice_grace": "PT1H",
    "metadata": {"a": "b"},
}  # fmt: skip
SUBSCRIPTION = {
    "customer": "c",
    "plan": "p",
    "start": "2026-07-01T00:00:00Z",
    "quantities": {"a": "1"},
    "trial_days": 3,
}
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, Decimal("1e999999"), Decimal("-0"), Decimal("1e-400"), Decimal("3.5")])
    | st.text(max_size=5)
    | st.sampled_from(
        ["NaN", "1e5", "-1", "24:00", "P1M", "graduated", "9" * 5000, "9999-12-31T23:59:59Z", "month"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def places(document: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    members = (
        document.items()
        if isinstance(document, dict)
        else enumerate(document)
        if isinstance(document, list)
        else ()
    )
    return [place, *(found for name, value in members for found in places(value, (*place, name)))]


def altered(data: Any, document: Any) -> Any:
    made = copy.deepcopy(document)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(places(made)))
        value = data.draw(VALUES)
        if not place:
            return value
        target = made
        for step in place[:-1]:
            target = target[step]
        target[place[-1]] = value
    return made


@given(st.data())
@settings(max_examples=300)
def test_no_document_breaks_a_reader(data: Any) -> None:
    kinds = [
        (parse_plan, PLAN),
        (parse_subscription, SUBSCRIPTION),
        *((parse_price, price) for price in PRICES),
    ]
    parse, document = data.draw(st.sampled_from(kinds))
    raw = altered(data, document)
    try:
        made = parse(raw)
    except Invalid as error:
        assert error.faults  # noqa: PT017  (it may as well be fine)
        return
    if parse is parse_price:
        try:
            rate(made, [Usage(Decimal("1.5"), dimensions=(("a", "x"),), at_us=0)])
        except Invalid as error:
            assert error.code == "no_matching_cell"  # noqa: PT017
        assert parse_price(made.to_wire()) == made
    elif parse is parse_plan:
        assert parse_plan(made.to_wire()) == made


QUESTIONS: list[dict[str, Any]] = [
    {"quantity": "12.5"},
    {"transactions": ["1", "2.5"], "currency": "JPY"},
    {"usage": [{"quantity": "1", "dimensions": {"a": "x"}, "at": "2026-07-01T00:00:00Z"}]},
    {
        "quantity": "5",
        "included": "1",
        "minimum": "1",
        "maximum": "9",
        "discounts": [{"percent": "5"}, {"units": 1}],
    },
]


@given(st.data())
@settings(max_examples=150)
def test_no_body_breaks_an_evaluation(data: Any) -> None:
    price, question = data.draw(st.sampled_from(PRICES)), data.draw(st.sampled_from(QUESTIONS))
    raw = altered(data, {"price": price, **question})
    try:
        answer = _evaluate(raw)
    except Invalid as error:
        assert error.faults  # noqa: PT017  (it may as well be fine)
        return
    steps = [Fraction(step["amount"]) for step in answer["steps"]]
    assert sum(steps, Fraction(0)) == Fraction(answer["amount"])
