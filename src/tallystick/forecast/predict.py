"""A series continued: point forecasts, intervals for each window and for their sum, and how good that was in the past.

The method is chosen by its error on the series' own past: every method is asked from many past moments (origins) and
compared with what came then. Intervals are conformal: the distances that the chosen method had from those origins, step
by step, are what is added to the forecast, stretched by what so short a past cannot show (intervals.py). The sum's
interval comes from the distances of sums, not from adding interval ends.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tallystick.forecast.intervals import row_widths, sum_widths
from tallystick.forecast.methods import Floats, Integers, Method, installed, methods_of

LEVELS = (0.8, 0.95)
WINDOWS_LEAST = 3
"""Windows with a history below which no number is given."""
HISTORY_WINDOWS_MAX = 1344
STEPS_MAX = 2000
ORIGINS_MAX = 160
_ORIGINS_LEAST = 4
_COMBINED_FAVOUR = 0.95
"""What another method must be better by in the past to be believed to be better in the future."""
_RECENT_SEASONS = 28
"""Errors count for at most so many seasons back: what was before says little about now."""


@dataclass(frozen=True, slots=True)
class Backtest:
    """How the method did in the series' own past. `error`: mean absolute error over that of the seasonal naive one-season
    difference (MASE); `naive_error`: the same of repeating the last season; `coverage`: how much of what came lay within the
    interval of the level, with intervals made from the older half of the errors, asked of the newer half."""

    error: float
    naive_error: float
    coverage: dict[float, float]
    origins: int


@dataclass(frozen=True, slots=True)
class Prediction:
    """`low` and `high` by level, one value a window; `sums…` the same for the sum of the windows up to each.

    `method` is `none` where there is too little history for any number: all arrays are then empty. `reason` says why a
    simpler method than the seasonal model stands (`no_history`, `short_history`, `not_installed`)."""

    method: str
    season: int | None
    values: Floats
    low: dict[float, Floats]
    high: dict[float, Floats]
    sums: Floats
    sums_low: dict[float, Floats]
    sums_high: dict[float, Floats]
    backtest: Backtest | None
    reason: str | None = None


def predict(
    history: Sequence[float], steps: int, *, seasons: tuple[int, ...], levels: tuple[float, ...] = LEVELS
) -> Prediction:
    """Continue `history` (equally long windows, the oldest first, without gaps) by `steps` windows.

    Where nothing in the history is negative, nothing in the answer is."""
    values = np.asarray(history[-HISTORY_WINDOWS_MAX:], dtype=np.float64)
    if len(values) < WINDOWS_LEAST:
        return _nothing(levels)
    least = -np.inf if (values < 0).any() else 0.0
    methods = methods_of(values, seasons)
    origins = _origins(values, methods, steps)
    chosen, apart = _chosen(values, methods, origins, steps)
    ahead = chosen.ahead(np.array([len(values)]), steps)[0]
    ahead = np.maximum(ahead, least)
    spreads = _spreads(values, chosen, apart, origins)
    here = spreads[(len(values) + np.arange(steps)) % chosen.season]
    sums = np.cumsum(ahead)
    scaled = apart / spreads[(origins[:, None] + np.arange(apart.shape[1])[None, :]) % chosen.season]
    totals = np.cumsum(apart, axis=1)
    span = len(values) - int(origins[0])
    low: dict[float, Floats] = {}
    high: dict[float, Floats] = {}
    sums_low: dict[float, Floats] = {}
    sums_high: dict[float, Floats] = {}
    for level in levels:
        below, above = row_widths(scaled, chosen.season, steps, level, span)
        low[level] = np.maximum(np.minimum(ahead + below * here, ahead), least)
        high[level] = np.maximum(ahead + above * here, ahead)
        below, above = sum_widths(totals, steps, level, span)
        least_sums = np.arange(1, steps + 1) * least if np.isinf(least) else np.zeros(steps)
        sums_low[level] = np.maximum(np.minimum(sums + below, sums), least_sums)
        sums_high[level] = np.maximum(sums + above, sums)
    reason = None
    if chosen.season == 1:
        reason = "short_history" if len(values) < 2 * seasons[0] else None
    elif not installed():
        reason = "not_installed"
    return Prediction(
        chosen.name,
        chosen.season if chosen.season > 1 else None,
        ahead,
        low,
        high,
        sums,
        sums_low,
        sums_high,
        _backtest(
            values,
            methods=methods,
            chosen=chosen,
            apart=apart,
            origins=origins,
            levels=levels,
            season=seasons[0],
        ),
        reason,
    )


def _nothing(levels: tuple[float, ...]) -> Prediction:
    empty = np.empty(0)
    none = dict.fromkeys(levels, empty)
    return Prediction("none", None, empty, none, none, empty, none, none, None, "no_history")


def _origins(values: Floats, methods: Sequence[Method], steps: int) -> Integers:
    """Moments that every method can be asked from, the newest of them first asked for: as many of them as leave room for
    the whole horizon, and later ones that leave room for a part of it."""
    count = len(values)
    first = max(method.first for method in methods)
    season = max(method.season for method in methods)
    first = min(max(first, count - _RECENT_SEASONS * season - steps), count - 1)
    every = np.arange(max(first, 1), count)
    if len(every) > ORIGINS_MAX:
        every = np.unique(np.linspace(every[0], every[-1], ORIGINS_MAX).astype(np.int64))
    return every.astype(np.int64)


def _apart(values: Floats, method: Method, origins: Integers, steps: int) -> Floats:
    """What came less what was forecast; NaN where it has not come yet."""
    ahead = method.ahead(origins, steps)
    places = origins[:, None] + np.arange(steps)[None, :]
    came = np.where(places < len(values), values[np.minimum(places, len(values) - 1)], np.nan)
    return came - ahead


def _chosen(
    values: Floats, methods: Sequence[Method], origins: Integers, steps: int
) -> tuple[Method, Floats]:
    """The method with the least mean absolute error over all origins and steps, and its errors."""
    reach = int(min(steps, max(len(values) - origins[0], 1)))
    tried = [(method, _apart(values, method, origins, reach)) for method in methods]
    return min(
        tried,
        key=lambda pair: (
            float(np.nanmean(np.abs(pair[1]))) * (_COMBINED_FAVOUR if pair[0].name == "combined" else 1)
        ),
    )


def _spreads(values: Floats, method: Method, apart: Floats, origins: Integers) -> Floats:
    """How far apart it usually was, for each slot of the season: half its own, half that of all."""
    distances = np.abs(apart)
    everywhere = float(np.nanmean(distances))
    floor = max(everywhere, float(np.abs(values).mean()) * 1e-6, 1e-300)
    slots = (origins[:, None] + np.arange(apart.shape[1])[None, :]) % method.season
    made = np.full(method.season, floor)
    for slot in range(method.season):
        own = distances[(slots == slot) & ~np.isnan(distances)]
        if len(own):
            made[slot] = 0.5 * floor + 0.5 * float(own.mean())
    return made


def _backtest(
    values: Floats,
    *,
    methods: Sequence[Method],
    chosen: Method,
    apart: Floats,
    origins: Integers,
    levels: tuple[float, ...],
    season: int,
) -> Backtest | None:
    naive = next((method for method in methods if method.name == "seasonal_naive"), None)
    if naive is None or len(origins) < 2 * _ORIGINS_LEAST:
        return None
    unit = float(np.abs(values[season:] - values[:-season]).mean())
    if unit == 0:
        return None
    half = len(origins) // 2
    spreads = _spreads(values, chosen, apart[:half], origins[:half])
    scaled = apart / spreads[(origins[:, None] + np.arange(apart.shape[1])[None, :]) % chosen.season]
    coverage: dict[float, float] = {}
    for level in levels:
        span = int(origins[half] - origins[0])
        below, above = row_widths(scaled[:half], chosen.season, apart.shape[1], level, span)
        newer = scaled[half:]
        there = ~np.isnan(newer)
        within = (newer >= np.minimum(below, 0)) & (newer <= np.maximum(above, 0))
        coverage[level] = float(within[there].mean())
    return Backtest(
        error=float(np.nanmean(np.abs(apart))) / unit,
        naive_error=float(np.nanmean(np.abs(_apart(values, naive, origins, apart.shape[1])))) / unit,
        coverage=coverage,
        origins=len(origins),
    )
