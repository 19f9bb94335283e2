"""Which readings a question is about, as conditions on the columns of `readings`."""

from decimal import Context, Decimal

from tallystick.errors import Invalid
from tallystick.metering.meter import Meter
from tallystick.metering.number import (
    FRACTION_DIGITS,
    INTEGER_DIGITS_MAX,
    NotNumeric,
    NumberOutOfRange,
    parse_number,
)
from tallystick.metering.query import Filter, Operator
from tallystick.store.question.bound import Bound

# RFC 8259, section 6.
_NUMBER = r"\A-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?\z"
_EXACT = Context(prec=80)
_HALF = Decimal("5e-19")  # of the last digit kept
_ENDLESS = 10**18  # an exponent that no text within memory can outweigh with its digits


def column_of(meter: Meter, name: str) -> tuple[str, bool]:
    """The readings' column behind a name of a question, and whether it may be missing. Raises Invalid."""
    if name in {"customer", "subject"}:
        return name, False
    slot = meter.slot(name)
    if slot is None:
        raise Invalid(f"Meter {meter.key!r} has no dimension {name!r}.", code="unknown_dimension")
    return f"d{slot:d}", True


def condition_of(meter: Meter, asked: Filter, bound: Bound) -> str:
    """One filter as a condition; see query.Operator for its meaning."""
    column, nullable = column_of(meter, asked.name)
    operands = asked.operands
    match asked.operator:
        case Operator.EQ:
            return f"{column} = {bound.text(operands[0])}"
        case Operator.IN:
            return f"{column} IN {bound.texts(operands)}"
        case Operator.NE:
            condition = f"{column} != {bound.text(operands[0])}"
            return f"({column} IS NULL OR {condition})" if nullable else condition
        case Operator.NOT_IN:
            condition = f"{column} NOT IN {bound.texts(operands)}"
            return f"({column} IS NULL OR {condition})" if nullable else condition
        case Operator.PREFIX:
            return f"startsWith({column}, {bound.text(operands[0])})"
        case Operator.EXISTS:
            return f"({column} IS {'NOT NULL' if operands[0] == 'true' else 'NULL'})"
        case Operator.GT | Operator.GTE | Operator.LT | Operator.LTE:
            return _comparison(asked, column, bound)


def _comparison(asked: Filter, column: str, bound: Bound) -> str:
    """Compare as parse_number would read the dimension: half-even to 18 digits after the point, within its range.

    The engine compares the text exactly and unrounded, by sign, then place of the first digit, then digits; the
    rounding is moved into the bound: what is greater than b once rounded lies beyond b and half a last digit, or on
    that very border when half-even leads away from b.
    """
    try:
        number = parse_number(asked.operands[0])
    except (NotNumeric, NumberOutOfRange):
        return "0"
    odd = int(_EXACT.scaleb(number, FRACTION_DIGITS)) % 2 == 1
    upwards = asked.operator in {Operator.GT, Operator.LTE}
    border = _EXACT.add(number, _HALF) if upwards else _EXACT.subtract(number, _HALF)
    border_counts = odd if upwards else not odd
    sign, place, digits = _scientific(border)

    text = f"ifNull({column}, '')"
    whole_sql = f"extract({text}, '^-?([0-9]+)')"
    fraction_sql = f"extract({text}, '\\\\.([0-9]+)')"
    exponent_text = f"extract({text}, '[eE]([+-]?[0-9]+)')"
    exponent_sql = (
        f"multiIf({exponent_text} = '', toInt64(0), isNotNull(toInt64OrNull({exponent_text})),"
        f" greatest(-{_ENDLESS}, least({_ENDLESS}, ifNull(toInt64OrNull({exponent_text}), 0))),"
        f" startsWith({exponent_text}, '-'), -{_ENDLESS}, {_ENDLESS})"
    )
    all_sql = f"concat({whole_sql}, {fraction_sql})"
    stripped_sql = f"trimLeft({all_sql}, '0')"
    place_sql = (
        f"toInt64(length({whole_sql})) - toInt64(length({all_sql})) + toInt64(length({stripped_sql}))"
        f" + {exponent_sql}"
    )
    digits_sql = f"trimRight({stripped_sql}, '0')"
    sign_sql = f"multiIf({digits_sql} = '', 0, startsWith({text}, '-'), -1, 1)"
    theirs = f"({place_sql}, {digits_sql})"
    ours = f"({bound.value(place, 'Int64')}, {bound.text(digits)})"
    our_sign = bound.value(sign, "Int8")
    beyond = (
        f"multiIf({sign_sql} != {our_sign}, {sign_sql} > {our_sign}, {sign_sql} = 0, 0,"
        f" {sign_sql} > 0, {theirs} > {ours}, {theirs} < {ours})"
    )
    if border_counts:
        beyond = f"({beyond} OR ({sign_sql} = {our_sign} AND ({sign_sql} = 0 OR {theirs} = {ours})))"
    if asked.operator in {Operator.LT, Operator.LTE}:
        beyond = f"NOT {beyond}"
    _, place_max, digits_max = _scientific(_EXACT.subtract(Decimal(10) ** INTEGER_DIGITS_MAX, _HALF))
    least_outside = f"({bound.value(place_max, 'Int64')}, {bound.text(digits_max)})"
    in_range = f"({digits_sql} = '' OR {theirs} < {least_outside})"
    return f"(match({text}, {bound.text(_NUMBER)}) AND {in_range} AND {beyond})"


def _scientific(number: Decimal) -> tuple[int, int, str]:
    """Sign, place and digits: 0.00123 is 1, -2 and "123"."""
    negative, raw, exponent = number.as_tuple()
    digits = "".join(map(str, raw)).lstrip("0")
    place = len(digits) + int(exponent)
    digits = digits.rstrip("0")
    return (0, 0, "") if not digits else (-1 if negative else 1, place, digits)


def conditions(
    meter: Meter,
    bound: Bound,
    *,
    customers: tuple[str, ...] | None,
    from_us: int | None,
    to_us: int | None,
    as_of_us: int | None,
) -> list[str]:
    """Which readings a question is about, before its filters. None: any time; everything recorded so far."""
    found = [
        f"tenant = {bound.text(meter.tenant)}",
        f"meter = {bound.value(meter.id, 'UInt32')}",
    ]
    if from_us is not None:
        found.append(f"time >= {bound.time(from_us)}")
    if to_us is not None:
        found.append(f"time < {bound.time(to_us)}")
    if customers is not None:
        found.append(f"customer IN {bound.texts(customers)}")
    if as_of_us is not None:
        found.append(f"recorded_at <= {bound.time(as_of_us)}")
    return found
