"""What a view may ask, and the address that shows it."""

from typing import Any

import pytest

from tallystick.errors import Invalid
from tallystick.reporting.view import read_view


def view(**question: Any) -> Any:
    return read_view({"key": "v", "question": {"meter": "tokens", **question}})


def test_an_address_for_every_choice() -> None:
    made = view(
        **{"from": "2026-07-01T00:00:00Z", "to": "2026-08-01T00:00:00Z"},
        timezone="Europe/Berlin",
        window="day",
        customer=["acme"],
        group_by=["model", "customer"],
        filter={"model": {"in": ["a", "b"]}, "ms": {"gte": "5"}, "name": {"eq": "x,y"}},
        compare="previous",
        top=3,
        chart="lines",
    )
    assert made.question.address() == [
        ("meter", "tokens"),
        ("from", "2026-07-01T00:00:00Z"),
        ("to", "2026-08-01T00:00:00Z"),
        ("zone", "Europe/Berlin"),
        ("window", "day"),
        ("customer", "acme"),
        ("group", "model,customer"),
        ("top", "3"),
        ("filter[model]", "a,b"),
        ("filter[ms][gte]", "5"),
        ("filter[name][eq]", "x,y"),
        ("compare", "previous"),
        ("chart", "lines"),
    ]
    assert read_view(made.to_wire()) == made
    formula = view(formula="a / b * 100", meters={"b": "calls"})
    assert formula.question.address()[-2:] == [("formula", "a / b * 100"), ("b", "calls")]
    assert read_view(formula.to_wire()) == formula


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ({"from": "2026-07-01T00:00:00Z"}, [("/question/to", "missing")]),
        (
            {"from": "2026-07-02T00:00:00Z", "to": "2026-07-01T00:00:00Z"},
            [("/question/to", "empty_range")],
        ),
        (
            {"range": "30d", "from": "2026-07-01T00:00:00Z", "to": "2026-07-02T00:00:00Z"},
            [("/question/range", "invalid_value")],
        ),
        ({"range": "fortnight", "window": "hour"}, [("/question/range", "invalid_value")]),
        ({"filter": {"model": {"like": "x"}}}, [("/question/filter/model/like", "unknown_operator")]),
        ({"filter": {"model": {"in": ["a,b"]}}}, [("/question/filter/model/in", "invalid_value")]),
        ({"filter": {"ms": {"gt": "much"}}}, [("/question/filter/ms/gt", "invalid_value")]),
        ({"formula": "a +"}, [("/question/formula", "invalid_formula")]),
        ({"formula": "a", "group_by": ["model"]}, [("/question/group_by", "invalid_value")]),
        ({"meters": {"b": "calls"}}, [("/question/meters", "invalid_value")]),
        (
            {"colour": "red", "top": 0},
            [("/question/top", "invalid_number"), ("/question/colour", "unknown_member")],
        ),
    ],
)
def test_what_is_wrong_is_named(question: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    with pytest.raises(Invalid) as raised:
        view(**question)
    assert [(fault.pointer, fault.code) for fault in raised.value.faults] == expected
