from decimal import ROUND_HALF_EVEN, Context, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.metering.number import NotNumeric, NumberOutOfRange, number_text, parse_number, plain


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", "0"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("1", "1"),
        ("100", "100"),
        ("123.50", "123.5"),
        ("-1.5", "-1.5"),
        ("1e3", "1000"),
        ("1E-5", "0.00001"),
        ("1.5e+2", "150"),
        ("99999999999999999999", "99999999999999999999"),
        ("99999999999999999999.999999999999999999", "99999999999999999999.999999999999999999"),
        ("0.000000000000000001", "0.000000000000000001"),
        ("0.0000000000000000005", "0"),  # a tie goes to the even neighbour
        ("0.0000000000000000015", "0.000000000000000002"),
        ("0.00000000000000000050000000000000000000000001", "0.000000000000000001"),
        ("-0.0000000000000000004", "0"),
        ("1e-400", "0"),
        ("1e-99999999999999999999", "0"),
        ("0e99999999999999999999", "0"),
        ("0.000000000000000000000000000001e40", "10000000000"),
        ("1" + "0" * 40 + "e-40", "1"),
        ("0." + "0" * 5000 + "1e5001", "1"),
    ],
)
def test_reads_exactly(text: str, expected: str) -> None:
    assert plain(parse_number(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "100000000000000000000", "1e20", "-1e20", "1e400", "1e99999999999999999999", "1" * 40, "9" * 200_000,
        "99999999999999999999.9999999999999999995",
    ],
)  # fmt: skip
def test_refuses_more_than_twenty_digits_before_the_point(text: str) -> None:
    with pytest.raises(NumberOutOfRange):
        parse_number(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " 1",
        "1 ",
        "+1",
        ".5",
        "1.",
        "01",
        "1_000",
        "NaN",
        "Infinity",
        "-",
        "0x10",
        "1e",
        "1,5",
        "١",
        "1\n",
        "--1",
    ],
)
def test_refuses_what_json_does_not_call_a_number(text: str) -> None:
    with pytest.raises(NotNumeric):
        parse_number(text)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**19), max_value=10**19, places=25))
def test_agrees_with_decimal_arithmetic(value: Decimal) -> None:
    expected = Context(prec=60, rounding=ROUND_HALF_EVEN).quantize(value, Decimal("1e-18"))
    for text in (format(value, "f"), f"{value:e}"):
        assert parse_number(text) == expected


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**19), max_value=10**19, places=18))
def test_plain_text_reads_back(value: Decimal) -> None:
    text = plain(value)
    assert parse_number(text) == value
    assert "e" not in text.lower()
    assert not ("." in text and text.endswith(("0", ".")))
    assert text != "-0"


@pytest.mark.parametrize(
    ("literal", "expected"),
    [
        ("1.0", "1"),
        ("1e0", "1"),
        ("-0", "0"),
        ("12345678901234567890123", "12345678901234567890123"),
        ("1e400", "1e400"),
        ("0.1234567890123456789", "0.1234567890123456789"),
        ("0e999999999", "0"),
        ("1e-999999999", "1e-999999999"),
    ],
)
def test_long_numbers_keep_their_text_as_names(literal: str, expected: str) -> None:
    assert number_text(literal) == expected
