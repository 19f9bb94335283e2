"""Is this window's usage unusual for this customer and this meter?

The baseline is what the same series did before, in three views of it:
- *slot*: the median of the same hour of the day (of the week, once there are three weeks of it);
- *level*: that, moved by how far the last three windows lay from theirs;
- *day*: how far the last whole season lay from its slots, beside the seasons before it, which finds what creeps (drift).
  Of its windows the middle half is looked at; all of them only while the newest two lie to the same side. So a
  spike is one while it lasts, and no drift for the rest of the day, and a drop of a few hours is not overlooked.

A value is unusual where it is far from the first two at once, measured by how far the series' own windows used to be:
both a robust deviation (MAD) and a high quantile of the series' own distances must be exceeded, so a series that always
jumps is left alone. Values are compared as asinh(value / scale), which is linear for small and logarithmic for large
ones: a tenth and ten times are equally far, and zero is a value like any other. That zeros come in runs is judged by the
longest run there was (silence).

Rates of false alarms and of detection on real traces are in docs/forecast.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

HOURS = (24, 168)
"""Seasons of windows of an hour: a day, a week."""
DAYS = (7,)
"""Seasons of windows of a day: a week."""

SEASONS_LEAST = 3
"""Whole seasons of history below which nothing is called unusual."""
NONZERO_LEAST = 10
_WINDOWS_MAX = 1344
"""Eight weeks of hours: what was before says little about today."""
_LEVEL_WINDOWS = 3
_MAD_TO_SIGMA = 1.4826
_SPREAD_LEAST = 0.02
"""Half a percent of the usual value: a meter that never moved is not alarmed by rounding."""
_ZERO_RUN_FACTOR = 1.5
_WITNESSES = 2
_WITNESS_PART = 0.7
"""Of what is usual, how far the newest windows must lie to be witnesses for their season's mean."""

_Floats = NDArray[np.float64]


class Sensitivity(StrEnum):
    """How soon something counts as unusual. docs/forecast.md has the false alarms a week of each."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Kind(StrEnum):
    """What is unusual about a value."""

    SPIKE = "spike"
    DROP = "drop"
    SILENCE = "silence"
    DRIFT = "drift"


@dataclass(frozen=True, slots=True)
class _Threshold:
    sigmas: float
    quantile: float
    above_quantile: float


_THRESHOLDS = {
    Sensitivity.LOW: _Threshold(5.0, 0.99, 1.3),
    Sensitivity.MEDIUM: _Threshold(4.0, 0.98, 1.3),
    Sensitivity.HIGH: _Threshold(4.0, 0.9, 2.0),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """`expected`, `low`, `high`: approximate, in the meter's unit; None where the history is too short to say.

    `score` is 1 at the border of what is usual and grows with the distance; `kind` is set where `unusual`. `reason`:
    why there is no verdict (`short_history`, `little_usage`)."""

    unusual: bool
    expected: Decimal | None = None
    low: Decimal | None = None
    high: Decimal | None = None
    score: float = 0.0
    kind: Kind | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class _View:
    """One way to expect the next value: where (in asinh), the spread of past errors, and those, without a sign."""

    centre: float
    spread: float
    errors: _Floats

    def reach(self, threshold: _Threshold) -> float:
        own = float(np.quantile(self.errors, threshold.quantile)) * threshold.above_quantile
        return max(threshold.sigmas * self.spread, own)


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a series usually does, for judging the value of the window that follows it. Made by `baseline`."""

    scale: float = 1.0
    signed: bool = False
    level: _View | None = None
    slot: _View | None = None
    middle: _View | None = None
    """Of a season's distances from its slots, the mean of the middle half."""
    whole: _View | None = None
    """The mean of all of them."""
    day_so_far: _Floats | None = None
    """How far the last season but one window lay from its slots: with the value to judge, it is a season."""
    zeros_now: int = 0
    zeros_longest: int = 0
    reason: str | None = None

    def judge(self, value: Decimal | float, sensitivity: Sensitivity = Sensitivity.MEDIUM) -> Verdict:
        """The verdict on the window directly after the history. It must be a whole window: one that is still open can
        be said to be a spike, and nothing else."""
        if self.level is None or self.slot is None:
            return Verdict(False, reason=self.reason)
        threshold = _THRESHOLDS[sensitivity]
        number = float(value)
        place = float(np.arcsinh(number / self.scale))
        views = [(view, view.reach(threshold)) for view in (self.level, self.slot)]
        low_place = min(view.centre - reach for view, reach in views)
        high_place = max(view.centre + reach for view, reach in views)
        score = min(abs(place - view.centre) / reach for view, reach in views)
        outside = place < low_place or place > high_place
        kind = None
        if outside:
            kind = Kind.SPIKE if place > high_place else Kind.DROP
        else:
            score = min(score, 1.0)
        if number == 0 and self.zeros_now + 1 > self._silence_after():
            kind = Kind.SILENCE
            score = max(score, (self.zeros_now + 1) / max(self._silence_after(), 1.0))
            low_place = max(low_place, float(np.arcsinh(0.0)))
        if kind is None:
            drifted = self._drifted(place - self.slot.centre, self.slot.reach(threshold), threshold)
            if drifted > 1.0:
                kind, score = Kind.DRIFT, drifted
        return Verdict(
            unusual=kind is not None,
            expected=self._back(self.level.centre),
            low=self._back(low_place),
            high=self._back(high_place),
            score=round(score, 3),
            kind=kind,
        )

    def _drifted(self, apart: float, reach: float, threshold: _Threshold) -> float:
        """How far the season that ends with this window lies from others, 1 at the border. `apart`: this window from
        its slot, `reach`: how far it may."""
        if self.middle is None or self.whole is None or self.day_so_far is None:
            return 0.0
        season = np.append(self.day_so_far, apart)
        # Hours that were spikes are no drift, unless they are most of the day.
        rest = season[np.abs(season) <= reach]
        rest = rest if 2 * len(rest) >= len(season) else season
        drifted = abs(float(_middle(rest)) - self.middle.centre) / self.middle.reach(threshold)
        moved = float(season.mean()) - self.whole.centre
        # What ended hours ago still moves the mean: only the newest windows are witnesses for all of them, and one by
        # itself may be chance.
        witnesses = season[-_WITNESSES:] * np.sign(moved)
        if float(witnesses.min()) > reach * _WITNESS_PART:
            drifted = max(drifted, abs(moved) / self.whole.reach(threshold))
        return drifted

    def _silence_after(self) -> float:
        return self.zeros_longest * _ZERO_RUN_FACTOR + (1 if self.zeros_longest else 0)

    def _back(self, place: float) -> Decimal:
        number = float(np.sinh(place)) * self.scale
        if not self.signed:
            number = max(number, 0.0)
        return Decimal(f"{number:.6g}") if np.isfinite(number) else Decimal(0)


def baseline(history: Sequence[Decimal | float], *, seasons: tuple[int, ...] = HOURS) -> Baseline:
    """What a series usually does.

    `history`: the values of equally long windows, the oldest first, without gaps (a window without usage is 0), up to
    the one directly before what will be judged. `seasons`: their lengths in windows, ascending; the longest of which
    there are three is used."""
    values = np.asarray([float(value) for value in history[-_WINDOWS_MAX:]], dtype=np.float64)
    season = next((one for one in reversed(seasons) if len(values) >= SEASONS_LEAST * one), None)
    if season is None:
        return Baseline(reason="short_history")
    nonzero = np.abs(values[values != 0])
    if len(nonzero) < NONZERO_LEAST:
        return Baseline(reason="little_usage")
    scale = float(np.median(nonzero)) / 4
    places = np.arcsinh(values / scale)
    slots = (np.arange(len(places)) - len(places)) % season  # the value to judge has slot 0
    medians = np.array([np.median(places[slots == slot]) for slot in range(season)])
    apart = places - medians[slots]
    levels = np.median(sliding_window_view(apart, _LEVEL_WINDOWS), axis=1)
    moved = apart[_LEVEL_WINDOWS:] - levels[:-1]
    longest, now = _zero_runs(values)
    middle, whole, so_far = _day_views(apart, seasons[0])
    return Baseline(
        scale=scale,
        signed=bool((values < 0).any()),
        level=_view(float(medians[0] + levels[-1]), moved),
        slot=_view(float(medians[0]), apart),
        middle=middle,
        whole=whole,
        day_so_far=so_far,
        zeros_now=now,
        zeros_longest=longest,
    )


def unusual(
    history: Sequence[Decimal | float],
    value: Decimal | float,
    sensitivity: Sensitivity = Sensitivity.MEDIUM,
    *,
    seasons: tuple[int, ...] = HOURS,
) -> Verdict:
    """Whether `value` is unusual after `history`: `baseline(history).judge(value)`."""
    return baseline(history, seasons=seasons).judge(value, sensitivity)


def _view(centre: float, errors: _Floats) -> _View:
    distances = np.abs(errors)
    return _View(centre, max(float(np.median(distances)) * _MAD_TO_SIGMA, _SPREAD_LEAST), distances)


def _day_views(apart: _Floats, season: int) -> tuple[_View | None, _View | None, _Floats | None]:
    """Seasons beside those that ended before the last one began. It takes a week of days to know what a usual one is."""
    if len(apart) < 8 * season:
        return None, None, None
    days = sliding_window_view(apart, season)
    middle, whole = (
        _view(float(np.median(before)), before - np.median(before))
        for before in (found[: len(days) - season + 1] for found in (_middle(days), days.mean(axis=1)))
    )
    return middle, whole, apart[len(apart) - season + 1 :]


def _middle(windows: _Floats) -> _Floats:
    """The mean of the middle half, along the last axis."""
    size = windows.shape[-1]
    quarter = size // 4
    return np.sort(windows, axis=-1)[..., quarter : size - quarter].mean(axis=-1)


def _zero_runs(values: _Floats) -> tuple[int, int]:
    """The longest run of zeros that has ended, and how many stand at the end."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], (values == 0).astype(np.int8), [0]))))
    runs = [(int(begin), int(end)) for begin, end in zip(edges[::2], edges[1::2], strict=True)]
    now = 0
    if runs and runs[-1][1] == len(values):
        begin, end = runs.pop()
        now = end - begin
    return max((end - begin for begin, end in runs), default=0), now
