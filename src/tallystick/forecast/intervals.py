"""How far from a forecast what comes will lie: from the errors that the method had at past moments.

Past errors promise too much: those of neighbouring moments are nearly the same error, series change, and the method was
chosen by them. So their quantiles are stretched, for each distance by itself, by two things together:
- what is usual when so much past is asked about so great a distance: a past that holds the distance only a few times
  knows as much as that many independent errors, whose quantiles are those of Student's t;
- what the series itself shows: intervals made from its older errors, asked of its newer ones.
The second is a guess from very little as long as the past is short, so it counts in proportion to how often the past
holds the distance. The constants are of a real trace, and were tried on other series (docs/forecast.md, decision 51).
"""

from functools import lru_cache
from statistics import NormalDist

import numpy as np

from tallystick.forecast.methods import Floats

_ORIGINS_LEAST = 4
_ERRORS_LEAST = 8
_FEW_ERRORS_FACTOR = 3.0
_FOLDS = 4
_BOUND_LEAST = 0.05
"""Of the usual error: an interval without width would have to be stretched without end."""
_STRETCH_LEAST, _STRETCH_MAX = 0.8, 6.0
_SUMS_USUAL = 1.2
"""Of sums whose past holds the distance often. Of single windows, whose tails are longer than their past shows, it is the
square root of the normal quantile."""
_OWN_HALF = 8.0
"""How often the past holds the distance where the series' own stretch counts as much as the usual one."""
_INDEPENDENT_MAX = 200.0
_ANGLES = np.linspace(-np.pi / 2, np.pi / 2, 4002)[1:-1]


def row_widths(scaled: Floats, season: int, steps: int, level: float, span: int) -> tuple[Floats, Floats]:
    """How far below (0 or less) and above each window `level` lies, in the unit of `scaled`: errors by origin and step, NaN
    where nothing has come yet. `span`: how many windows of the past they are about."""
    width = max(season, 4)
    below, above = _widths(scaled, width, steps, level)
    own = _own_stretch(scaled, width, level)
    usual = max(_normal(level) ** 0.5, 1.0)
    stretch = np.ones(steps)
    for begin in range(0, steps, width):
        times = span / min(begin + width, steps)
        stretch[begin : begin + width] = _stretch(usual, own, times, level)
    return below * stretch, above * stretch


def sum_widths(totals: Floats, steps: int, level: float, span: int) -> tuple[Floats, Floats]:
    """As `row_widths`, of the sum so far. `totals`: errors of sums along each origin's own path, so that what goes wrong
    together is added together. Further ahead than there are enough of, they go on growing in proportion: an error of the
    level adds up."""
    counts = (~np.isnan(totals)).sum(axis=0)
    known = max(int((counts >= _ERRORS_LEAST).sum()), 1)
    # The sum's own unit grows with the steps; at every step errors are compared in the unit of that step.
    unit = np.maximum(np.nanmean(np.abs(totals[:, :known]), axis=0), 1e-300)
    scaled = totals[:, :known] / unit
    reach = min(known, steps)
    # Which way the few independent sums there are went says nothing: both sides are alike.
    below, above = _widths(scaled, known, reach, level, symmetric=True)
    own = _own_stretch(scaled, known, level, symmetric=True)
    stretch = np.array([_stretch(_SUMS_USUAL, own, span / step, level) for step in range(1, reach + 1)])
    growth = np.arange(reach + 1, steps + 1) / reach
    below, above = below * unit[:reach] * stretch, above * unit[:reach] * stretch
    return np.concatenate((below, below[-1] * growth)), np.concatenate((above, above[-1] * growth))


def _stretch(usual: float, own: float | None, times: float, level: float) -> float:
    """`times`: how often the past holds the distance."""
    usual *= _of_few(round(min(max(times - 1, 1.0), _INDEPENDENT_MAX), 1), level)
    if own is None:
        return min(usual, _STRETCH_MAX)
    weight = times / (times + _OWN_HALF)
    return min(float(own**weight * usual ** (1 - weight)), _STRETCH_MAX)


def _normal(level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2)


@lru_cache(maxsize=4096)
def _of_few(freedom: float, level: float) -> float:
    """Student's quantile over the normal one. With x = sqrt(freedom) tan(a), the density of a is cos(a) ** (freedom - 1)."""
    density = np.cos(_ANGLES) ** (freedom - 1)
    below = (np.cumsum(density) - density / 2) / density.sum()
    angle = float(np.interp((1 + level) / 2, below, _ANGLES))
    return max(float(np.sqrt(freedom) * np.tan(angle)) / _normal(level), 1.0)


def _widths(
    scaled: Floats, width: int, steps: int, level: float, *, symmetric: bool = False
) -> tuple[Floats, Floats]:
    """For each step, how far below and above the forecast `level` of the errors about so many steps ahead lie: steps are
    taken together by `width`. Further ahead than there are enough errors, the last ones stand."""
    tail = (1 - level) / 2
    below, above = np.zeros(steps), np.zeros(steps)
    # Of too few errors to have quantiles, the greatest stands, by a factor.
    widest = float(np.nanmax(np.abs(scaled), initial=0.0)) * _FEW_ERRORS_FACTOR
    last = (-widest, widest)
    for begin in range(0, steps, width):
        part = scaled[:, begin : begin + width]
        part = part[~np.isnan(part)]
        if len(part) >= _ERRORS_LEAST and symmetric:
            reach = float(np.quantile(np.abs(part), min(level * (1 + 1 / len(part)), 1.0)))
            last = (-reach, reach)
        elif len(part) >= _ERRORS_LEAST:
            # Conformal: of n errors, the (n + 1)-th part of the tail.
            inner = min(1 - tail * len(part) / (len(part) + 1) + 0.5 / (len(part) + 1), 1.0)
            last = (float(np.quantile(part, 1 - inner)), float(np.quantile(part, inner)))
        below[begin : begin + width], above[begin : begin + width] = last
    return np.minimum(below, 0), np.maximum(above, 0)


def _own_stretch(scaled: Floats, width: int, level: float, *, symmetric: bool = False) -> float | None:
    """By how much intervals from the errors before a moment would have had to be stretched to hold `level` of those after
    it; None: there are too few to say."""
    count, steps = scaled.shape
    ratios: list[Floats] = []
    for fold in range(1, _FOLDS):
        cut = count * fold // _FOLDS
        if cut < _ORIGINS_LEAST:
            continue
        # An error belongs to the past only once what it is about has happened.
        older = scaled[: max(cut - min(steps, count // (2 * _FOLDS)), 1)]
        below, above = _widths(older, width, steps, level, symmetric=symmetric)
        newer = scaled[cut : max(count * (fold + 1) // _FOLDS, cut + 1)]
        bound = np.where(newer >= 0, above, -below)
        bound = np.maximum(bound, _BOUND_LEAST)
        ratio = np.abs(newer) / bound
        ratios.append(ratio[~np.isnan(ratio)])
    together = np.concatenate(ratios) if ratios else np.empty(0)
    if len(together) < _ERRORS_LEAST:
        return None
    return float(np.clip(np.quantile(together, level), _STRETCH_LEAST, _STRETCH_MAX))
