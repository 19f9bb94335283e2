"""Each aggregation as an expression over rows, and what the engine answers as an exact decimal.

Sums run in 256 bits, where 38 digits would wrap silently. Quotients are rounded half-even to 18 digits after the point
in whole-number arithmetic, so that an order by value is the order of the figures shown.

Percentiles are nearest rank: the ceil(n * p / 100)-th smallest. The engine's quantileExact(l) takes the (floor(l * n) + 1)-th
smallest, by selection and not by sorting. With l = p / 100 - 1e-11 that is the same one for all n below 10^9: n * p / 100 lies
on a whole number, from which 1e-11 * n < 1 leads down to the rank before, or at least 1/100 above one, from which it
leads to no other; and what a product of doubles is off by (1.2e-16 of it) is far less than either distance.
"""

from decimal import Context, Decimal
from typing import Any

from tallystick.metering.meter import PERCENTILES, SERIES, ZEROES, Aggregation, Meter
from tallystick.metering.number import FRACTION_DIGITS

UNIT = 10**FRACTION_DIGITS
"""1 as a scaled whole number."""

WEIGHED = frozenset({Aggregation.COUNT, Aggregation.SUM, Aggregation.AVERAGE})
"""Those to which a reading with sign -1 is a reading less; to all others, the reading that it takes back is not there."""

_EXACT = Context(prec=80)


def half_even(dividend: str, divisor: str) -> str:
    """The quotient of two whole numbers of 256 bits as one, rounded half-even; the divisor is positive."""
    return f"""({dividend} AS dividend, greatest(toInt256({divisor}), 1) AS divisor,
    intDiv(dividend, divisor) AS quotient,
    dividend - quotient * divisor AS rest,
    2 * if(rest < 0, -rest, rest) AS twice,
    quotient + if(twice > divisor OR (twice = divisor AND quotient - 2 * intDiv(quotient, 2) != 0),
        if(dividend < 0, -1, 1), 0)).6"""


def order_of(time_us: str, last: str) -> str:
    """One whole number that orders by time, then by a second column of 64 bits: far cheaper to the engine than a pair."""
    return f"(bitShiftLeft(toInt128({time_us}), 64) + toUInt64({last}))"


def of_readings(aggregation: Aggregation, *, weighed: bool) -> str:
    """The figure of a set of readings, in the type that suits it. `weighed`: there may be readings with sign -1."""
    match aggregation:
        case Aggregation.COUNT:
            return "sum(sign)" if weighed else "count()"
        case Aggregation.SUM:
            return f"sum(CAST(value, 'Decimal(76, 18)'){' * sign' if weighed else ''})"
        case Aggregation.AVERAGE:
            total = of_readings(Aggregation.SUM, weighed=weighed)
            return half_even(f"reinterpretAsInt256({total})", of_readings(Aggregation.COUNT, weighed=weighed))
        case Aggregation.UNIQUE_COUNT:
            return "uniqExact(text)"
        case Aggregation.LATEST:
            return f"argMax(value, {order_of('toUnixTimestamp64Micro(time)', 'position')})"
        case _:
            return _of_values(aggregation)


def of_readings_scaled(aggregation: Aggregation, *, weighed: bool) -> str:
    """The same as a scaled whole number of 256 bits."""
    figure = of_readings(aggregation, weighed=weighed)
    match aggregation:
        case Aggregation.COUNT | Aggregation.UNIQUE_COUNT:
            return f"toInt256({figure}) * {UNIT:d}"
        case Aggregation.SUM:
            return f"reinterpretAsInt256({figure})"
        case Aggregation.AVERAGE:
            return figure
        case _:
            return f"toInt256(reinterpretAsInt128({figure}))"


def of_figures(aggregation: Aggregation, *, order: str) -> str:
    """The figure of a set of figures: `value`, scaled whole numbers of 256 bits. Scaled likewise, but for count."""
    match aggregation:
        case Aggregation.COUNT:
            return "count()"
        case Aggregation.SUM:
            return "sum(value)"
        case Aggregation.AVERAGE:
            return half_even("sum(value)", "count()")
        case Aggregation.LATEST:
            return f"argMax(value, {order})"
        case _:
            return _of_values(aggregation)


def _of_values(aggregation: Aggregation) -> str:
    if aggregation in PERCENTILES:
        return f"quantileExact({PERCENTILES[aggregation]:d} / 100 - 1e-11)(value)"
    return {Aggregation.MIN: "min(value)", Aggregation.MAX: "max(value)"}[aggregation]


def figure(meter: Meter, raw: Any) -> Decimal:
    """What the engine answered, as an exact decimal."""
    aggregation = meter.aggregation
    scaled = meter.of is not None or aggregation is Aggregation.AVERAGE or aggregation in SERIES
    if scaled and aggregation is not Aggregation.COUNT:
        return Decimal(int(raw)).scaleb(-FRACTION_DIGITS, _EXACT)
    return raw if isinstance(raw, Decimal) else Decimal(int(raw))


def scaled(meter: Meter, answered: str) -> str:
    """What the engine answers for a meter (see `figure`) as a scaled whole number of 256 bits."""
    aggregation = meter.aggregation
    if aggregation in {Aggregation.COUNT, Aggregation.UNIQUE_COUNT}:
        return f"toInt256({answered}) * {UNIT:d}"
    if meter.of is not None or aggregation is Aggregation.AVERAGE or aggregation in SERIES:
        return f"toInt256({answered})"
    if aggregation is Aggregation.SUM:
        return f"reinterpretAsInt256({answered})"
    return f"toInt256(reinterpretAsInt128({answered}))"


def zero(meter: Meter) -> Decimal | None:
    """The figure of a window without readings."""
    return Decimal(0) if meter.aggregation in ZEROES else None
