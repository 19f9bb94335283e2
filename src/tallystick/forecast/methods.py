"""Ways to continue a series, each asked from many past moments at once, so that they can be compared on what came then.

Every method answers for *origins*: it knows the first `t` values and continues them by `steps`. Answers are matrices,
one row an origin, one column a step.

- `seasonal_naive`: the last season again;
- `seasonal_median`: the median of the same slot in the last seasons, which outages do not move;
- `ets`: exponential smoothing of level and season (state space form, additive error), fitted by statsmodels (the extra
  `tallystick[forecast]`); `ets_asinh` does so on asinh(value / scale), where growth and jumps are by factors;
- `mean`: the mean of the last values, for histories shorter than two seasons;
- `combined`: for each window, the median of all of them, which on real traces is better than any one (docs/forecast.md).
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

MEDIAN_SEASONS = 4
MEAN_WINDOWS = 28
WEEKLY = 168
_FIT_ITERATIONS_MAX = 60


@dataclass(frozen=True, slots=True)
class Method:
    """One way, over one series. `first`: the least origin it can answer for."""

    name: str
    season: int
    first: int
    ahead: Callable[[Integers, int], Floats]


def seasonal_naive(values: Floats, season: int) -> Method:
    def ahead(origins: Integers, steps: int) -> Floats:
        return values[origins[:, None] - season + np.arange(steps)[None, :] % season]

    return Method("seasonal_naive", season, season, ahead)


def seasonal_median(values: Floats, season: int) -> Method:
    def ahead(origins: Integers, steps: int) -> Floats:
        places = origins[:, None] - season + np.arange(min(steps, season))[None, :]
        made = np.full((MEDIAN_SEASONS, *places.shape), np.inf)
        for back in range(MEDIAN_SEASONS):
            there = places - back * season
            made[back] = np.where(there >= 0, values[np.maximum(there, 0)], np.inf)
        made.sort(axis=0)  # what there is comes first
        count = np.minimum(places // season + 1, MEDIAN_SEASONS)
        low = np.take_along_axis(made, ((count - 1) // 2)[None], axis=0)[0]
        medians = (low + np.take_along_axis(made, (count // 2)[None], axis=0)[0]) / 2
        return medians[:, np.arange(steps) % season]

    return Method("seasonal_median", season, 2 * season, ahead)


def mean(values: Floats) -> Method:
    sums = np.concatenate(([0.0], np.cumsum(values)))

    def ahead(origins: Integers, steps: int) -> Floats:
        begins = np.maximum(origins - MEAN_WINDOWS, 0)
        means = (sums[origins] - sums[begins]) / np.maximum(origins - begins, 1)
        return np.repeat(means[:, None], steps, axis=1)

    return Method("mean", 1, 1, ahead)


def ets(values: Floats, season: int, *, scale: float | None = None) -> Method | None:
    """Exponential smoothing; `scale`: on asinh(value / scale). None where it cannot be fitted, or the extra is absent."""
    model = _ets_model()
    if model is None or len(values) < 3 * season:
        return None
    unit = float(np.abs(values).max()) if scale is None else scale
    if not np.isfinite(unit) or unit == 0:
        return None
    places = values / unit if scale is None else np.arcsinh(values / unit)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            fitted: Any = model(
                places,
                error="add",
                trend=None,
                seasonal="add",
                seasonal_periods=season,
                initialization_method="heuristic",
            ).fit(disp=False, maxiter=_FIT_ITERATIONS_MAX)
            levels = np.asarray(fitted.level, dtype=np.float64)
            seasons = np.asarray(fitted.season, dtype=np.float64)
    except (ValueError, ArithmeticError, np.linalg.LinAlgError):
        return None
    if not (np.isfinite(levels).all() and np.isfinite(seasons).all()):
        return None

    def ahead(origins: Integers, steps: int) -> Floats:
        # The states after the first t values continue as level + the last state of the season's slot.
        slots = origins[:, None] - season + np.arange(steps)[None, :] % season
        made = levels[origins - 1][:, None] + seasons[slots]
        return made * unit if scale is None else np.sinh(np.clip(made, -40, 40)) * unit

    return Method("ets" if scale is None else "ets_asinh", season, 2 * season, ahead)


def combined(methods: Sequence[Method], season: int) -> Method:
    held = tuple(methods)

    def ahead(origins: Integers, steps: int) -> Floats:
        return np.median([method.ahead(origins, steps) for method in held], axis=0)

    return Method("combined", season, max(method.first for method in held), ahead)


def installed() -> bool:
    """Whether the library of `ets` is there."""
    return _ets_model() is not None


@lru_cache(maxsize=1)
def _ets_model() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from statsmodels.tsa.exponential_smoothing.ets import ETSModel
    except ImportError:
        return None
    return ETSModel


def methods_of(values: Floats, seasons: Sequence[int]) -> list[Method]:
    """Every method for which there is past enough to see how far apart it is: a season beyond what it must know."""
    nonzero = np.abs(values[values != 0])
    scale = float(np.median(nonzero)) / 4 if len(nonzero) else 0.0
    held: list[Method | None] = []
    for season in seasons:
        if len(values) >= 2 * season:
            held += [seasonal_naive(values, season), seasonal_median(values, season)]
    if held:
        held += [ets(values, seasons[0]), ets(values, seasons[0], scale=scale) if scale else None]
    room = [one for one in held if one is not None and len(values) - one.first >= _room(one)]
    made = [_remembered(method) for method in (*room, mean(values))]
    if len(made) > 1:
        made.append(_remembered(combined(made, seasons[0])))
    return made


def _room(method: Method) -> int:
    """The one that others are measured by comes as early as it can."""
    return method.season if method.name == "seasonal_naive" and method.season < WEEKLY else 2 * method.season


def _remembered(method: Method) -> Method:
    """Answers the same question once: `combined` asks it of every other method again."""
    answers: dict[tuple[bytes, int], Floats] = {}

    def ahead(origins: Integers, steps: int) -> Floats:
        place = (origins.tobytes(), steps)
        if place not in answers:
            answers[place] = method.ahead(origins, steps)
        return answers[place]

    return replace(method, ahead=ahead)
