"""A meter's usage continued: its history asked like any other question, the model, and exact decimals again.

Floats live between the two only: what goes in are the figures of `usage`, what comes out is written with the meter's
scale, and said to be approximate.
"""

import threading
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from statistics import median

from tallystick.errors import Fault, Invalid, Unavailable
from tallystick.flows.system import System
from tallystick.flows.usage import UsageAnswer, UsageRequest, in_questions, usage
from tallystick.forecast.predict import STEPS_MAX, Prediction, predict
from tallystick.metering.meter import ZEROES, Aggregation, Meter
from tallystick.metering.position import Vector
from tallystick.metering.query import Filter, Window
from tallystick.metering.window import edges

DAY_US = 86_400_000_000
_LENGTH_US = {Window.HOUR: DAY_US // 24, Window.DAY: DAY_US}
_HISTORY_US = {Window.HOUR: 56 * DAY_US, Window.DAY: 400 * DAY_US}
_SEASONS = {Window.HOUR: (24, 168), Window.DAY: (7,)}
HORIZON_DAYS_MAX = 366
HOURS_UP_TO_DAYS = 7
"""Up to so many days ahead windows are hours, where nobody says otherwise."""
LEVEL_WIDE = 0.95
_MODELS_AT_ONCE = threading.BoundedSemaphore(2)
_MODEL_WAIT_S_MAX = 10
_PLACES_MAX = 18
_ADDED_UP = ZEROES - {Aggregation.UNIQUE_COUNT}
"""Whose windows add up to the whole."""


@dataclass(frozen=True, slots=True)
class ForecastRequest:
    """`customers` None: everybody. `window` None: hours for a week, days beyond. `level`: of the interval, 0 to 1."""

    tenant: str
    meter: str
    horizon_us: int
    window: Window | None = None
    timezone: str = "UTC"
    customers: tuple[str, ...] | None = None
    include_children: bool = False
    filters: tuple[Filter, ...] = ()
    level: float = 0.8
    version: int | None = None
    as_of_us: int | None = None
    min_position: Vector | None = None


@dataclass(frozen=True, slots=True)
class ForecastRow:
    """One window, or a sum of windows. `low` to `high` holds the level asked for, `low_wide` to `high_wide` 95 %."""

    from_us: int
    to_us: int
    value: Decimal
    low: Decimal
    high: Decimal
    low_wide: Decimal
    high_wide: Decimal


@dataclass(frozen=True, slots=True)
class Forecast:
    """`rows` begin with the window that is open now. `sums[i]`: of the rows up to i; empty for a meter whose windows do
    not add up. `so_far`: what the open window has already."""

    meter: Meter
    window: Window
    timezone: str
    from_us: int
    to_us: int
    windows: int
    now_us: int
    so_far: Decimal
    prediction: Prediction
    rows: tuple[ForecastRow, ...]
    sums: tuple[ForecastRow, ...]
    position: Vector


@dataclass(frozen=True, slots=True)
class Reach:
    """When an amount is reached, counted since a moment; None: not within the horizon."""

    amount: Decimal
    since_us: int
    used: Decimal
    at_us: int | None
    earliest_us: int | None
    latest_us: int | None


async def forecast(system: System, request: ForecastRequest) -> Forecast:
    """Continue a meter's usage. Raises what `usage` does, and Unavailable when too many ask at once."""
    meter = await in_questions(
        system, lambda: system.catalog.meter(request.tenant, request.meter, request.version)
    )
    window = request.window or (
        Window.HOUR if request.horizon_us <= HOURS_UP_TO_DAYS * DAY_US else Window.DAY
    )
    steps = -(-request.horizon_us // _LENGTH_US[window])
    if not 0 < steps <= STEPS_MAX:
        detail = (
            f"The horizon has more than {STEPS_MAX} windows; ask for days instead of hours, or a shorter one."
        )
        raise Invalid(detail, code="too_many_windows", faults=[Fault("horizon", "too_many_windows", detail)])
    now_us = system.clock.now_us()
    least_us = now_us - _HISTORY_US[window]
    kept_us = system.recorder.forgotten_before(meter.tenant, meter.event_type)
    if kept_us is not None:
        least_us = min(max(least_us, kept_us), now_us - 1)
    end_us = now_us + (steps + 2) * _LENGTH_US[window]
    borders = edges(
        least_us, end_us, window, request.timezone, windows_max=system.settings.usage_windows_max
    )[1:-1]
    here = max(bisect_right(borders, now_us) - 1, 0)  # 0: retention has left less than one window
    open_us = borders[here]
    answer: UsageAnswer | None = None
    if borders[0] < now_us:
        answer = await usage(
            system,
            UsageRequest(
                tenant=request.tenant,
                meter=request.meter,
                from_us=borders[0],
                to_us=now_us,
                window=window,
                timezone=request.timezone,
                customers=request.customers,
                include_children=request.include_children,
                filters=request.filters,
                fill="zero",
                as_of_us=request.as_of_us,
                version=request.version,
                min_position=request.min_position,
            ),
        )
    found = {row.window_start_us: row.value for row in answer.rows} if answer is not None else {}
    history = _filled([found.get(border) for border in borders[:here]], zero=meter.aggregation in ZEROES)
    begin_us = borders[here - len(history)]
    so_far = (found.get(open_us) if open_us < now_us else None) or Decimal(0)
    prediction = await in_questions(
        system, lambda: _predicted(history, steps, _SEASONS[window], request.level)
    )
    rows, sums = _rows(
        prediction,
        borders[here : here + steps + 1],
        _places(history),
        request.level,
        so_far=so_far if meter.aggregation in ZEROES else Decimal(0),
        adds_up=meter.aggregation in _ADDED_UP and meter.of is None,
    )
    return Forecast(
        meter=meter,
        window=window,
        timezone=request.timezone,
        from_us=begin_us,
        to_us=open_us,
        windows=len(history),
        now_us=now_us,
        so_far=so_far,
        prediction=prediction,
        rows=rows,
        sums=sums,
        position=system.recorder.position if answer is None else answer.position,
    )


def _filled(values: Sequence[Decimal | None], *, zero: bool) -> list[Decimal]:
    """From the first window with usage on. A window without any is 0, or as before where there is no zero."""
    made: list[Decimal] = []
    for value in values:
        if value is not None and (made or value != 0 or not zero):
            made.append(value)
        elif made:
            made.append(Decimal(0) if zero else made[-1])
    return made


def _predicted(history: Sequence[Decimal], steps: int, seasons: tuple[int, ...], level: float) -> Prediction:
    if not _MODELS_AT_ONCE.acquire(timeout=_MODEL_WAIT_S_MAX):
        raise Unavailable("Too many forecasts are being made. Ask again later.", retry_after_s=5)
    try:
        return predict(
            [float(value) for value in history], steps, seasons=seasons, levels=(level, LEVEL_WIDE)
        )
    finally:
        _MODELS_AT_ONCE.release()


# -- exact again -----------------------------------------------------------------------------------------------------
def _places(history: Sequence[Decimal]) -> int:
    """The decimals of the figures so far, and two more where figures are small: 0.3 calls an hour is not none."""
    held = [value.normalize() for value in history if value]
    if not held:
        return 2
    exponents = [value.as_tuple().exponent for value in held]
    scale = max(*(-exponent for exponent in exponents if isinstance(exponent, int)), 0)
    return min(scale + (2 if median(abs(value) for value in held) < 100 else 0), _PLACES_MAX)


def _exact(value: float, places: int) -> Decimal:
    with localcontext() as context:
        context.prec = 80
        return Decimal(value).quantize(Decimal(1).scaleb(-places), ROUND_HALF_EVEN) + 0


def _rows(
    prediction: Prediction,
    borders: Sequence[int],
    places: int,
    level: float,
    *,
    so_far: Decimal,
    adds_up: bool,
) -> tuple[tuple[ForecastRow, ...], tuple[ForecastRow, ...]]:
    """Windows, and sums of them from the first on: figures are those of the rows added up, exactly."""
    rows: list[ForecastRow] = []
    sums: list[ForecastRow] = []
    total = Decimal(0)
    with localcontext() as context:
        context.prec = 80
        for index in range(len(prediction.values)):
            least = so_far if index == 0 else None
            row = ForecastRow(
                borders[index],
                borders[index + 1],
                *(
                    _at_least(_exact(float(figures[index]), places), least)
                    for figures in (
                        prediction.values,
                        prediction.low[level],
                        prediction.high[level],
                        prediction.low[LEVEL_WIDE],
                        prediction.high[LEVEL_WIDE],
                    )
                ),
            )
            rows.append(row)
            if not adds_up:
                continue
            total += row.value
            moved = total - _exact(float(prediction.sums[index]), places)
            ends = [
                _at_least(_exact(float(figures[index]), places) + moved, so_far)
                for figures in (
                    prediction.sums_low[level],
                    prediction.sums_high[level],
                    prediction.sums_low[LEVEL_WIDE],
                    prediction.sums_high[LEVEL_WIDE],
                )
            ]
            sums.append(
                ForecastRow(
                    borders[0],
                    borders[index + 1],
                    total,
                    min(ends[0], total),
                    max(ends[1], total),
                    min(ends[2], ends[0], total),
                    max(ends[3], ends[1], total),
                )
            )
    return tuple(rows), tuple(sums)


def _at_least(value: Decimal, least: Decimal | None) -> Decimal:
    """What is used already is the least there will be, unless it can be taken back (negative figures)."""
    return value if least is None or least <= 0 else max(value, least)


# -- when is it reached ----------------------------------------------------------------------------------------------
async def reach(
    system: System, request: ForecastRequest, made: Forecast, amount: Decimal, since_us: int | None
) -> Reach:
    """When usage since a moment (now) comes to an amount. Raises Invalid (not_additive)."""
    if made.meter.aggregation not in _ADDED_UP or made.meter.of is not None:
        detail = f"The windows of a meter that is {made.meter.aggregation} do not add up: there is nothing to reach."
        raise Invalid(detail, code="not_additive", faults=[Fault("reach", "not_additive", detail)])
    since_us = made.now_us if since_us is None else since_us
    used = Decimal(0)
    if since_us < made.now_us:
        asked = UsageRequest(
            tenant=request.tenant,
            meter=request.meter,
            from_us=since_us,
            to_us=made.now_us,
            customers=request.customers,
            include_children=request.include_children,
            filters=request.filters,
            as_of_us=request.as_of_us,
            version=request.version,
        )
        answer = await usage(system, asked)
        used = sum((row.value for row in answer.rows if row.value is not None), Decimal(0))
    # Sums count from the beginning of the open window on.
    target = amount - used + made.so_far
    return Reach(
        amount,
        since_us,
        used,
        *(
            made.now_us
            if used >= amount
            else _crossing(made, [getattr(row, name) for row in made.sums], target)
            for name in ("value", "high", "low")
        ),
    )


def _crossing(made: Forecast, sums: Sequence[Decimal], target: Decimal) -> int | None:
    before, begin_us = Decimal(0), made.to_us
    for row, total in zip(made.sums, sums, strict=True):
        if total >= target:
            part = (target - before) / (total - before) if total > before else Decimal(0)
            at_us = begin_us + int((row.to_us - begin_us) * max(part, Decimal(0)))
            return max(at_us, made.now_us)
        before, begin_us = max(before, total), row.to_us
    return None
