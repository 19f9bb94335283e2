"""A usage question as SQL. Identifiers come from fixed lists (`customer`, `subject`, `d0` … `d15`), every value is bound.

Figures are exact: readings are Decimal(38, 18); sums run in 256 bits, where 38 digits would wrap silently; an average
is the exact sum over the count, rounded half-even to 18 digits after the point, in whole-number arithmetic, so that an
order by average is the order of the figures shown.
"""

# ruff: noqa: S608 (identifiers come from fixed lists, values are bound; see above)

import itertools
from dataclasses import dataclass, field
from decimal import Context, Decimal
from typing import Any

from tallystick.errors import Invalid
from tallystick.metering.meter import Aggregation, Meter
from tallystick.metering.number import (
    FRACTION_DIGITS,
    INTEGER_DIGITS_MAX,
    NotNumeric,
    NumberOutOfRange,
    parse_number,
)
from tallystick.metering.query import Filter, Operator, UsageQuery

# RFC 8259, section 6.
_NUMBER = r"\A-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?\z"
_EXACT = Context(prec=80)
_HALF = Decimal("5e-19")  # of the last digit kept
_ENDLESS = 10**18  # an exponent that no text within memory can outweigh with its digits

_SUM = "sum(CAST(value, 'Decimal(76, 18)'))"

# Half-even division of the scaled sum S by the count n, in 256-bit whole numbers.
_AVERAGE = f"""(reinterpretAsInt256({_SUM}) AS average_sum, toInt256(count()) AS average_count,
    intDiv(average_sum, average_count) AS average_quotient,
    average_sum - average_quotient * average_count AS average_rest,
    2 * if(average_rest < 0, -average_rest, average_rest) AS average_twice,
    average_quotient + if(average_twice > average_count
        OR (average_twice = average_count AND average_quotient - 2 * intDiv(average_quotient, 2) != 0),
        if(average_sum < 0, -1, 1), 0)).6"""

_VALUES = {
    Aggregation.COUNT: "count()",
    Aggregation.SUM: _SUM,
    Aggregation.MIN: "min(value)",
    Aggregation.MAX: "max(value)",
    Aggregation.AVERAGE: _AVERAGE,
    Aggregation.LATEST: "argMax(value, (time, position))",
    Aggregation.UNIQUE_COUNT: "uniqExact(text)",
}
# Readings that take an earlier one back (sign -1) do not exist yet; count and sum will weigh by sign then.


def figure(aggregation: Aggregation, raw: Any) -> Decimal:
    """What the engine answered, as an exact decimal."""
    if aggregation is Aggregation.AVERAGE:
        number = int(raw)
        digits = tuple(int(digit) for digit in str(abs(number)))
        return Decimal((1 if number < 0 else 0, digits, -FRACTION_DIGITS))
    return raw if isinstance(raw, Decimal) else Decimal(int(raw))


def zero(aggregation: Aggregation) -> Decimal | None:
    """The figure of a window without readings."""
    if aggregation in {Aggregation.COUNT, Aggregation.SUM, Aggregation.UNIQUE_COUNT}:
        return Decimal(0)
    return None


@dataclass(slots=True)
class Bound:
    """Values on their way into a statement, each under a name of its own."""

    parameters: dict[str, Any] = field(default_factory=dict[str, Any])

    def value(self, value: Any, engine_type: str) -> str:
        """Bind a value; answers the placeholder for the SQL text."""
        name = f"p{len(self.parameters)}"
        self.parameters[name] = value
        return f"{{{name}:{engine_type}}}"

    def text(self, value: str) -> str:
        return self.value(value, "String")

    def texts(self, values: Any) -> str:
        return self.value(list(values), "Array(String)")

    def time(self, time_us: int) -> str:
        """A moment as the engine compares it, from microseconds since 1970."""
        return f"fromUnixTimestamp64Micro({self.value(time_us, 'Int64')}, 'UTC')"


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
    from_us: int,
    to_us: int,
    as_of_us: int | None,
) -> list[str]:
    """Which readings a question is about, before its filters."""
    found = [
        f"tenant = {bound.text(meter.tenant)}",
        f"meter = {bound.value(meter.id, 'UInt32')}",
        f"time >= {bound.time(from_us)}",
        f"time < {bound.time(to_us)}",
    ]
    if customers is not None:
        found.append(f"customer IN {bound.texts(customers)}")
    if as_of_us is not None:
        found.append(f"recorded_at <= {bound.time(as_of_us)}")
    return found


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL and what is bound to it."""

    sql: str
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Scope:
    where: str
    groups: list[str]  # columns
    nullable: list[bool]

    @property
    def selected(self) -> str:
        return "".join(f", {column} AS g{i}" for i, column in enumerate(self.groups))

    @property
    def group_keys(self) -> list[str]:
        return [f"g{i}" for i in range(len(self.groups))]

    @property
    def group_order(self) -> list[str]:
        return [f"g{i} ASC NULLS FIRST" for i in range(len(self.groups))]

    def encoded(self, names: list[str]) -> str:
        """Groups as values that can be looked up: IN knows no missing value."""
        parts = [
            f"(isNull({name}), ifNull({name}, ''))" if nullable else f"(0, {name})"
            for name, nullable in zip(names, self.nullable, strict=True)
        ]
        return f"({', '.join(parts)})" if len(parts) > 1 else parts[0]


def _scope(query: UsageQuery, bound: Bound) -> _Scope:
    where = conditions(
        query.meter,
        bound,
        customers=query.customers,
        from_us=query.from_us,
        to_us=query.to_us,
        as_of_us=query.as_of_us,
    )
    where += [condition_of(query.meter, asked, bound) for asked in query.filters]
    columns = [column_of(query.meter, name) for name in query.group_by]
    return _Scope(" AND ".join(where), [c for c, _ in columns], [n for _, n in columns])


def _ranking(query: UsageQuery, scope: _Scope, readings: str, rows_max: int) -> str:
    if query.descending is None:
        order = scope.group_order
    else:
        order = [f"figure {'DESC' if query.descending else 'ASC'}", *scope.group_order]
    limit = rows_max + 1 if query.limit is None else min(query.limit, rows_max + 1)
    grouped = f"GROUP BY {', '.join(scope.group_keys)}" if scope.groups else "HAVING count() > 0"
    ordered = f"ORDER BY {', '.join(order)} " if order else ""
    return (
        f"SELECT {_VALUES[query.meter.aggregation]} AS figure{scope.selected} FROM {readings} "
        f"WHERE {scope.where} {grouped} {ordered}LIMIT {limit:d}"
    )


def totals(query: UsageQuery, *, readings: str, rows_max: int) -> Statement:
    """(figure, g0, g1, …) over the whole range, in the order the question wants its groups, at most its limit."""
    bound = Bound()
    return Statement(_ranking(query, _scope(query, bound), readings, rows_max), bound.parameters)


def windows(query: UsageQuery, *, readings: str, rows_max: int) -> Statement:
    """(figure, window, g0, g1, …): window is an index into the windows, or the start of one. See `window_index`."""
    bound = Bound()
    scope = _scope(query, bound)
    where = scope.where
    if query.limit is not None and scope.groups:
        kept = _ranking(query, scope, readings, rows_max)
        where += (
            f" AND {scope.encoded(scope.groups)} IN (SELECT {scope.encoded(scope.group_keys)} FROM ({kept}))"
        )
    keys = ["w", *scope.group_keys]
    sql = (
        f"SELECT {_VALUES[query.meter.aggregation]} AS figure, {_window(query.edges_us, bound)} AS w{scope.selected} "
        f"FROM {readings} WHERE {where} GROUP BY {', '.join(keys)} "
        f"ORDER BY {', '.join(['w', *scope.group_order])} LIMIT {rows_max + 1:d}"
    )
    return Statement(sql, bound.parameters)


def _step_us(edges_us: tuple[int, ...]) -> int | None:
    """The width of the windows where all are equally wide but the first and last, which may be cut; otherwise None."""
    inner = edges_us[1:-1]
    if len(inner) == 1:
        return max(inner[0] - edges_us[0], edges_us[-1] - inner[0])
    step = inner[1] - inner[0]
    if any(after - before != step for before, after in itertools.pairwise(inner)):
        return None
    if inner[0] - edges_us[0] > step or edges_us[-1] - inner[-1] > step:
        return None
    return step


def _window(edges_us: tuple[int, ...], bound: Bound) -> str:
    time_us = "toUnixTimestamp64Micro(time)"
    step = _step_us(edges_us)
    if step is None:
        return f"roundDown({time_us}, {bound.value(list(edges_us[:-1]), 'Array(Int64)')})"
    base = bound.value(edges_us[1] - step, "Int64")
    return f"intDiv({time_us} - {base}, {bound.value(step, 'Int64')})"


def window_indexes(edges_us: tuple[int, ...]) -> dict[int, int] | None:
    """From what `windows` answers for a window to its index; None: it is the index."""
    if _step_us(edges_us) is not None:
        return None
    return {start: index for index, start in enumerate(edges_us[:-1])}
