"""`POST /v1/prices/evaluate` over HTTP: shapes, scopes, faults, exactness; and its absence with billing off."""

import asyncio
import json
from fractions import Fraction
from typing import Any

import pytest

from tallystick.api.app import standard_routes
from tallystick.api.prices import _evaluate
from tallystick.config import Settings
from tallystick.errors import Invalid

GRADUATED = {
    "model": "graduated",
    "tiers": [
        {"up_to": "100", "unit_amount": "0.05", "flat_amount": "1"},
        {"up_to": None, "unit_amount": "0.04"},
    ],
}


def evaluate(**body: Any) -> dict[str, Any]:
    return _evaluate(body)


def faults(**body: Any) -> list[tuple[str, str]]:
    with pytest.raises(Invalid) as raised:
        _evaluate(body)
    return [(fault.pointer, fault.code) for fault in raised.value.faults]


def test_tiers_over_http(start: Any) -> None:
    async def check() -> None:
        async with start(standard_routes(Settings())) as running:
            body = {"price": GRADUATED, "quantity": "120", "currency": "USD"}
            answer = await running.client.post("/v1/prices/evaluate", json=body)
            assert answer.status_code == 200, answer.text
            said = answer.json()
            assert {name: said[name] for name in ("amount", "rounded", "tiers")} == {
                "amount": "6.8",
                "rounded": "6.80",
                "tiers": [
                    {
                        "from": "0",
                        "to": "100",
                        "quantity": "100",
                        "unit_amount": "0.05",
                        "flat_amount": "1",
                        "amount": "6",
                    },
                    {
                        "from": "100",
                        "to": None,
                        "quantity": "20",
                        "unit_amount": "0.04",
                        "flat_amount": "0",
                        "amount": "0.8",
                    },
                ],
            }
            # A number is read from its text, never through a binary float.
            raw = b'{"price":{"model":"per_unit","unit_amount":0.1},"quantity":3,"currency":"USD"}'
            answer = await running.client.post(
                "/v1/prices/evaluate", content=raw, headers={"content-type": "application/json"}
            )
            assert answer.json()["amount"] == "0.3"
            wrong = await running.client.post("/v1/prices/evaluate", json={"price": {"model": "nope"}})
            assert wrong.status_code == 422
            assert [fault["code"] for fault in wrong.json()["errors"]] == ["unknown_model", "missing"]
            unsigned = await running.client.post(
                "/v1/prices/evaluate", json=body, headers={"authorization": "Bearer nobody"}
            )
            assert unsigned.status_code == 401
            document = (await running.client.get("/openapi.json")).json()
            assert "/v1/prices/evaluate" in document["paths"]

    asyncio.run(check())


def test_billing_off_has_no_such_route(start: Any) -> None:
    async def check() -> None:
        async with start(standard_routes(Settings(billing="off"))) as running:
            answer = await running.client.post("/v1/prices/evaluate", json={})
            assert answer.status_code == 404
            document = (await running.client.get("/openapi.json")).json()
            assert "/v1/prices/evaluate" not in document["paths"]
            assert "/v1/meters" in document["paths"]

    asyncio.run(check())


def test_every_fault_at_once() -> None:
    price = {
        "model": "graduated",
        "tiers": [
            {"up_to": "10", "unit_amount": "-1"},
            {"up_to": "5", "unit_amount": True},
            {"up_to": "20", "unit_amount": "1", "colour": 1},
        ],
    }
    assert faults(price=price, quantity="-1", currency="XAU", size=1) == [
        ("/price/tiers/0/unit_amount", "negative"),
        ("/price/tiers/1/unit_amount", "invalid_number"),
        ("/price/tiers/2/colour", "unknown_member"),
        ("/price/tiers/1/up_to", "tiers_not_ascending"),
        ("/price/tiers/2/up_to", "last_tier_not_open"),
        ("/currency", "unknown_currency"),
        ("/quantity", "negative"),
        ("/size", "unknown_member"),
    ]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"price": "x", "quantity": "1"}, [("/price", "invalid_type"), ("/price/model", "missing")]),
        ({"price": {"model": "flat", "amount": "1"}, "quantity": "1", "transactions": []}, [("", "missing")]),
        ({"price": {"model": "per_unit", "unit_amount": "1"}}, [("", "missing")]),
        ({"price": {"model": "per_unit", "unit_amount": "1"}, "quantity": "1e99999"}, [("/quantity", "number_out_of_range")]),
        ({"price": {"model": "per_unit", "unit_amount": "1"}, "quantity": "NaN"}, [("/quantity", "invalid_number")]),
        ({"price": {"model": "per_unit", "unit_amount": "1"}, "quantity": " 1"}, [("/quantity", "invalid_number")]),
        (
            {"price": {"model": "per_unit", "unit_amount": "0.0000000000000000001"}, "quantity": "1"},
            [("/price/unit_amount", "number_out_of_range")],
        ),
        ({"price": {"model": "percentage", "rate": "1"}, "transactions": ["1", "-2"]}, [("/transactions/1", "negative")]),
        (
            {"price": {"model": "package", "package_size": "0", "amount": "1"}, "quantity": "1"},
            [("/price/package_size", "too_small")],
        ),
        (
            {
                "price": {"model": "percentage", "rate": "1", "min_per_transaction": "2", "max_per_transaction": "1"},
                "quantity": "1",
            },
            [("/price/min_per_transaction", "min_above_max")],
        ),
    ],
)  # fmt: skip
def test_refusals(body: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert faults(**body) == expected


def test_full_precision_and_rounding_by_currency() -> None:
    price = {"model": "per_unit", "unit_amount": "0.000000000000000001"}
    said = evaluate(price=price, quantity="99999999999999999999.333333333333333333", currency="JPY")
    assert said["amount"] == "99.999999999999999999333333333333333333"
    assert said["rounded"] == "100"
    for currency, rounded in {"USD": "2.68", "JPY": "3", "BHD": "2.675", "CLF": "2.6750"}.items():
        said = evaluate(price={"model": "per_unit", "unit_amount": "0.535"}, quantity="5", currency=currency)
        assert (said["amount"], said["rounded"]) == ("2.675", rounded)


def test_matrix_takes_dimensions() -> None:
    price = {
        "model": "matrix",
        "dimensions": ["model"],
        "cells": [{"values": ["gpt-4"], "unit_amount": "0.03"}],
        "default": "0.01",
    }
    assert evaluate(price=price, quantity="10", dimensions={"model": "gpt-4"})["amount"] == "0.3"
    assert evaluate(price=price, quantity="10", dimensions={"model": "other"})["amount"] == "0.1"
    assert evaluate(price=price, quantity="10")["amount"] == "0.1"
    assert faults(price=price, quantity="10", dimensions={"modle": "gpt-4"}) == [
        ("/dimensions/modle", "unknown_dimension")
    ]
    assert faults(price={**price, "default": None}, quantity="10", dimensions={"model": "x"}) == [
        ("/price", "no_matching_cell")
    ]


def test_steps_add_up_to_the_amount() -> None:
    said = evaluate(
        price={**GRADUATED, "unit": {"name": "credit", "per_currency_unit": "3"}},
        quantity="1000",
        included="100",
        discounts=[{"percent": "10", "name": "launch"}, {"amount": "1"}, {"units": "7"}],
        maximum="20",
        minimum="2",
    )
    assert sum(Fraction(step["amount"]) for step in said["steps"]) == Fraction(said["amount"])
    kinds = [step["kind"] for step in said["steps"]]
    assert kinds == [
        "included",
        "discount_units",
        "tier",
        "tier",
        "discount_percent",
        "discount_amount",
        "maximum",
        "unit",
    ]
    assert json.loads(json.dumps(said)) == said
