"""Formulas: what they mean, held to fractions; what is refused, and where."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.metering.formula import (
    FORMULA_DEPTH_MAX,
    FORMULA_NODES_MAX,
    FormulaError,
    FormulaRangeError,
    is_alias,
    parse_formula,
    quotient,
)

FIGURES = {"a": Decimal(7), "b": Decimal(2), "c": Decimal("0.5"), "none": None, "zero": Decimal(0)}


def figure(text: str) -> Decimal | None:
    return parse_formula(text, tuple(FIGURES)).figure(FIGURES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", "7"),
        (" a\n+\tb ", "9"),
        ("a - b - c", "4.5"),
        ("a - (b - c)", "5.5"),
        ("a + b * c", "8"),
        ("(a + b) * c", "4.5"),
        ("a / b / c", "7"),
        ("a / b * 100", "350"),
        ("-a + b", "-5"),
        ("a - -b", "9"),
        ("+a", "7"),
        ("--a", "7"),
        ("b * -c", "-1"),
        ("007.50 * b", "15"),
        ("1 / 3", "0.333333333333333333"),
        ("2 / 3", "0.666666666666666667"),
        ("-2 / 3", "-0.666666666666666667"),
        ("a / zero", None),
        ("zero / zero", None),
        ("a + none", None),
        ("none * zero", None),
        ("-none", None),
        ("coalesce(none, a)", "7"),
        ("coalesce(a / zero, none, 3)", "3"),
        ("coalesce(none)", None),
        ("coalesce(none, zero) + 1", "1"),
        ("min(a, b, c)", "0.5"),
        ("max(a, b, c)", "7"),
        ("max(a, none)", None),
        ("min(a)", "7"),
        ("abs(b - a)", "5"),
        ("abs(none)", None),
        ("round(2.5)", "2"),
        ("round(3.5)", "4"),
        ("round(-2.5)", "-2"),
        ("round(a / 3, 2)", "2.33"),
        ("round(0.125, 2)", "0.12"),
        ("round(none, 2)", None),
        ("round(1 / 3, 18) * 3", "0.999999999999999999"),
        ("0.000000000000000001 * 0.000000000000000001", "0.000000000000000000000000000000000001"),
        ("0.000000000000000001 * 0.000000000000000001 * 0.5", "0"),
        ("99999999999999999999 * 99999999999999999999 / 99999999999999999999", "out of range"),
        ("99999999999999999999 * 999999999999999999", "99999999999999999899000000000000000001"),
    ],
)
def test_figures(text: str, expected: str | None) -> None:
    if expected == "out of range":
        with pytest.raises(FormulaRangeError):
            figure(text)
        return
    found = figure(text)
    assert found == (None if expected is None else Decimal(expected))


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("", 1, "the end of the formula"),
        ("   ", 1, "the end of the formula"),
        ("a +", 4, "the end of the formula"),
        ("a b", 3, "an operator is needed before 'b'"),
        ("a 1", 3, "an operator"),
        ("(a", 3, "the ( in column 1"),
        ("(a + b", 7, "the ( in column 1"),
        ("a)", 2, "closes nothing"),
        ("a % b", 3, "'%' has no meaning"),
        ("a ** b", 4, "not '*'"),
        ("d / a", 1, "no meter 'd'; known: a, b"),
        ("a + sqrt(b)", 5, "no function 'sqrt'; known: min"),
        ("min", 1, "needs arguments"),
        ("min()", 1, "min takes 1 to 20 arguments, not 0"),
        ("abs(a, b)", 1, "abs takes 1 arguments, not 2"),
        ("round(a, b)", 10, "whole number from 0 to 18"),
        ("round(a, 19)", 10, "whole number"),
        ("round(a, 1.5)", 10, "whole number"),
        ("round(a, 1, 2)", 1, "1 to 2 arguments"),
        ("min(a,)", 7, "not ')'"),
        ("1e5", 2, "an operator"),
        (".5", 1, "'.' has no meaning"),
        ("1.", 2, "'.' has no meaning"),
        ("0.1234567890123456789", 1, "18 digits after"),
        ("123456789012345678901", 1, "20 digits before"),
        ("a + é", 5, "'é' has no meaning"),
        ("٣", 1, "has no meaning"),
        ("a" * 1001, 1001, "longer than 1000"),
        ("(" * 40 + "a" + ")" * 40, FORMULA_DEPTH_MAX + 1, "nested deeper"),
        ("-" * 40 + "a", FORMULA_DEPTH_MAX + 1, "nested deeper"),
        ("+".join("a" * 101), FORMULA_NODES_MAX + 1, "more than 200 parts"),
    ],
)
def test_refusals_name_the_column(text: str, column: int, words: str) -> None:
    with pytest.raises(FormulaError) as error:
        parse_formula(text, ("a", "b"))
    assert error.value.column == column
    assert words in error.value.detail
    assert f"column {column}" in error.value.detail


def test_the_longest_and_deepest_formulas_are_read() -> None:
    widest = "+".join("a" * (FORMULA_NODES_MAX // 2))
    assert parse_formula(widest, ("a",)).figure({"a": Decimal(1)}) == FORMULA_NODES_MAX // 2
    deepest = "(" * (FORMULA_DEPTH_MAX - 1) + "a" + ")" * (FORMULA_DEPTH_MAX - 1)
    assert parse_formula(deepest, ("a",)).figure({"a": Decimal(1)}) == 1


def test_the_aliases_in_use_are_told_in_order() -> None:
    assert parse_formula("b / max(a, b) + 1", ("a", "b", "c")).aliases == ("b", "a")


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("a", True),
        ("_x9", True),
        ("min", False),
        ("9a", False),
        ("a-b", False),
        ("", False),
        ("a" * 65, False),
    ],
)
def test_aliases(name: str, allowed: bool) -> None:
    assert is_alias(name) is allowed


decimals = st.decimals(-(10**20), 10**20, places=18, allow_nan=False, allow_infinity=False)


@given(decimals, decimals)
def test_a_quotient_is_the_nearest_of_18_digits_and_even_in_a_tie(a: Decimal, b: Decimal) -> None:
    found = quotient(a, b)
    if not b:
        assert found is None
        return
    assert found is not None
    assert Fraction(found) * 10**18 == round(Fraction(a) / Fraction(b) * 10**18)


@given(
    st.recursive(
        st.sampled_from("abc"), lambda inner: st.tuples(st.sampled_from("+-*"), inner, inner), max_leaves=6
    )
)
def test_sums_and_products_are_those_of_fractions(tree: str | tuple[str, object, object]) -> None:
    def spelled(node: object) -> str:
        if isinstance(node, tuple):
            operator, left, right = node
            return f"({spelled(left)} {operator} {spelled(right)})"
        return str(node)

    def exact(node: object) -> Fraction:
        if isinstance(node, tuple):
            operator, left, right = node
            a, b = exact(left), exact(right)
            return a + b if operator == "+" else a - b if operator == "-" else a * b
        found = FIGURES[str(node)]
        assert found is not None
        return Fraction(found)

    found = figure(spelled(tree))
    assert found is not None
    assert Fraction(found) == exact(tree)
