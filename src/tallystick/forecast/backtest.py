"""How good forecasts and verdicts on anomalies are, measured on series whose end is known. Pure; used by `tallystick
forecast backtest` and by the tests.

Forecasts: the series is cut at several moments, each cut is continued, and what came is compared with it. Nothing after a
cut is known to the model. Errors are in units of the series' own mean change over one season before the cut (MASE) and in
percent of the mean of both (sMAPE).

Anomalies: the end of a series is judged window by window, once as it is, which gives the alarms a week, and once with each
fault put into it, which gives how often it is found while it lasts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tallystick.forecast.anomaly import NONZERO_LEAST, SEASONS_LEAST, Kind, Sensitivity, baseline
from tallystick.forecast.methods import Floats, seasonal_naive
from tallystick.forecast.predict import LEVELS, predict

WINDOWS_JUDGED_MAX = 168
_UNIT_LEAST = 0.01


@dataclass(frozen=True, slots=True)
class Cut:
    """One forecast beside what came. `within`, `sum_within` by level."""

    method: str
    error: float
    naive_error: float
    percent: float
    naive_percent: float
    within: tuple[float, ...]
    sum_within: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class ForecastScore:
    """Means over cuts; `error` and `percent` beside those of repeating the last season. Coverages by level."""

    cuts: int
    error: float
    error_median: float
    naive_error: float
    naive_error_median: float
    percent: float
    naive_percent: float
    coverage: tuple[float, ...]
    sum_coverage: tuple[float, ...]


def cuts(values: Sequence[float], steps: int, *, seasons: tuple[int, ...], count: int) -> Iterator[Cut]:
    """Forecasts of `steps` windows at up to `count` moments, a season or more apart, each with three seasons of history at
    least. Cuts before which nothing changed are left out: there is no unit to measure in."""
    series = np.asarray(values, dtype=np.float64)
    season = seasons[0]
    last = len(series) - steps
    places = range(
        last, SEASONS_LEAST * season - 1, -max(season, (last - SEASONS_LEAST * season) // count or 1)
    )
    for place in list(places)[:count]:
        known, came = series[:place], series[place : place + steps]
        if np.count_nonzero(known) < NONZERO_LEAST:
            continue
        unit = float(np.abs(known[season:] - known[:-season]).mean())
        # A series that has hardly changed yet would be measured in nothing.
        unit = max(unit, float(np.abs(known).mean()) * _UNIT_LEAST)
        made = predict(known.tolist(), steps, seasons=seasons)
        naive = seasonal_naive(known, season).ahead(np.array([place]), steps)[0]
        yield Cut(
            method=made.method,
            error=float(np.abs(made.values - came).mean()) / unit,
            naive_error=float(np.abs(naive - came).mean()) / unit,
            percent=_percent(made.values, came),
            naive_percent=_percent(naive, came),
            within=tuple(
                float(((came >= made.low[level]) & (came <= made.high[level])).mean()) for level in LEVELS
            ),
            sum_within=tuple(
                bool(made.sums_low[level][-1] <= came.sum() <= made.sums_high[level][-1]) for level in LEVELS
            ),
        )


def score(found: Sequence[Cut]) -> ForecastScore:
    """Of one cut or more."""
    return ForecastScore(
        cuts=len(found),
        error=float(np.mean([one.error for one in found])),
        error_median=float(np.median([one.error for one in found])),
        naive_error=float(np.mean([one.naive_error for one in found])),
        naive_error_median=float(np.median([one.naive_error for one in found])),
        percent=float(np.mean([one.percent for one in found])),
        naive_percent=float(np.mean([one.naive_percent for one in found])),
        coverage=tuple(float(np.mean([one.within[i] for one in found])) for i in range(len(LEVELS))),
        sum_coverage=tuple(float(np.mean([one.sum_within[i] for one in found])) for i in range(len(LEVELS))),
    )


def _percent(made: Floats, came: Floats) -> float:
    size = np.abs(made) + np.abs(came)
    return float(np.where(size > 0, 200 * np.abs(made - came) / np.where(size > 0, size, 1), 0).mean())


# -- anomalies -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Injected:
    """A fault put into a series: each value of `windows` is multiplied by `factor`, which `growth` moves on."""

    name: str
    factor: float
    windows: int = 6
    growth: float = 1.0


FAULTS = (
    Injected("silence", 0.0),
    Injected("drop to 30 %", 0.3),
    Injected("spike × 3", 3.0),
    Injected("spike × 10", 10.0),
    Injected("drift 2 % an hour", 1.02, 96, 1.02),
)


@dataclass(frozen=True, slots=True)
class Judged:
    """One series at one sensitivity. `spread`: how far it usually is from its baseline, as a factor of its usual value
    less one. `alarms`: windows called unusual; `episodes`: runs of them; `found`: by fault,
    whether an alarm was raised while it lasted; faults that would change nothing are absent."""

    spread: float
    weeks: float
    alarms: int
    episodes: int
    found: dict[str, bool]


def judged(
    values: Sequence[float],
    sensitivity: Sensitivity,
    *,
    seasons: tuple[int, ...],
    seed: int,
    faults: Sequence[Injected] = FAULTS,
) -> Judged | None:
    """Judge the last windows of a series (a week of hours at most); None where it is too short or has too little in it.
    The last of `seasons` is a week."""
    series = np.asarray(values, dtype=np.float64)
    first = max(len(series) - WINDOWS_JUDGED_MAX, 8 * seasons[0])
    if len(series) - first < seasons[0] or np.count_nonzero(series[:first]) < NONZERO_LEAST:
        return None
    kinds = [_kind(series, place, sensitivity, seasons) for place in range(first, len(series))]
    episodes = sum(
        kind is not None and (index == 0 or kinds[index - 1] is None) for index, kind in enumerate(kinds)
    )
    random = np.random.default_rng(seed)
    found: dict[str, bool] = {}
    for fault in faults:
        length = min(fault.windows, len(series) - first)
        begin = int(random.integers(first, len(series) - length + 1))
        part = slice(begin, begin + length)
        if not series[part].any():
            continue
        changed = series.copy()
        changed[part] *= fault.factor * fault.growth ** np.arange(length)
        found[fault.name] = any(
            _kind(changed, place, sensitivity, seasons) is not None for place in range(begin, begin + length)
        )
    level = baseline(series[:first].tolist(), seasons=seasons).level
    spread = float("inf") if level is None else level.spread
    return Judged(
        spread, (len(series) - first) / seasons[-1], len(kinds) - kinds.count(None), episodes, found
    )


def _kind(series: Floats, place: int, sensitivity: Sensitivity, seasons: tuple[int, ...]) -> Kind | None:
    return baseline(series[:place].tolist(), seasons=seasons).judge(float(series[place]), sensitivity).kind
