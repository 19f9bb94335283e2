"""A usage question, complete and valid: everything the store and the oracle need to answer it."""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from tallystick.metering.meter import Meter, Window
from tallystick.metering.number import NotNumeric, NumberOutOfRange, parse_number

__all__ = ["Filter", "Operator", "UsageExtent", "UsageQuery", "UsageRow", "Window"]


class Operator(StrEnum):
    """What a filter can ask of a dimension. A missing dimension matches only `exists: false`, `ne` and `not_in`.

    `gt gte lt lte` compare as decimals; a value that is no JSON number does not match.
    """

    EQ = "eq"
    NE = "ne"
    IN = "in"
    NOT_IN = "not_in"
    PREFIX = "prefix"
    GT = "gt"
    GTE = "gte"
    LT = "lt"
    LTE = "lte"
    EXISTS = "exists"


@dataclass(frozen=True, slots=True)
class Filter:
    """`name` is `customer`, `subject` or a declared dimension. `operands`: one for most operators, any number for in
    and not_in; for `exists` one, "true" or "false"."""

    name: str
    operator: Operator
    operands: tuple[str, ...]

    def accepts(self, value: str | None) -> bool:
        """Whether what the event has for `name` passes; None: it has nothing."""
        operator, operands = self.operator, self.operands
        if operator is Operator.EXISTS:
            return (value is not None) == (operands[0] == "true")
        if operator in (Operator.NE, Operator.NOT_IN):
            return value is None or value not in operands
        if value is None:
            return False
        if operator in (Operator.EQ, Operator.IN):
            return value in operands
        if operator is Operator.PREFIX:
            return value.startswith(operands[0])
        try:
            number, bound = parse_number(value), parse_number(operands[0])
        except (NotNumeric, NumberOutOfRange):
            return False
        return {
            Operator.GT: number > bound,
            Operator.GTE: number >= bound,
            Operator.LT: number < bound,
            Operator.LTE: number <= bound,
        }[operator]


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """Usage of `meter` within [from_us, to_us). Checked by `window.edges` and `flows/usage.py` before it gets here.

    With `meter.of`, `inner_edges_us` are the `window.edges` of its window over the same range and zone.
    """

    meter: Meter
    from_us: int
    to_us: int
    edges_us: tuple[int, ...]  # borders of the windows, first = from_us, last = to_us; two of them: one total
    customers: tuple[str, ...] | None = None  # None: all
    group_by: tuple[str, ...] = ()  # "customer", "subject" or declared dimensions
    filters: tuple[Filter, ...] = ()
    descending: bool | None = None  # order groups by their value over the whole range; None: by group
    limit: int | None = None  # keep this many groups
    fill_zero: bool = False
    as_of_us: int | None = None  # only what was recorded up to this moment, inclusive
    now_us: int | None = (
        None  # what lies after it is not used yet (time_weighted, duration); None: all of the range is
    )
    inner_edges_us: tuple[int, ...] | None = (
        None  # with `meter.of`: borders of its windows over the whole range
    )


@dataclass(frozen=True, slots=True)
class UsageRow:
    """One window of one group. `value` is None only for a filled window of an aggregation that has no zero."""

    window_start_us: int
    window_end_us: int
    group: tuple[str | None, ...]  # as `group_by`
    value: Decimal | None


@dataclass(frozen=True, slots=True)
class UsageExtent:
    """How large an answer is: its rows, and figures that all of its figures lie between (both inclusive)."""

    rows: int
    least: Decimal
    greatest: Decimal
