"""The seasonal baseline: what it finds in a series that is known, and what it leaves alone."""

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.forecast.anomaly import DAYS, Baseline, Kind, Sensitivity, baseline, unusual


def daily(weeks: float = 2, *, noise: float = 0.08, level: float = 1000, seed: int = 7) -> list[float]:
    """Hours of a customer who works by day, as counts."""
    random = np.random.default_rng(seed)
    hours = np.arange(int(weeks * 168))
    shape = level * (1 + 0.6 * np.sin(2 * np.pi * (hours % 24) / 24))
    return [float(value) for value in np.round(shape * random.lognormal(0, noise, len(hours)))]


@pytest.mark.parametrize(
    ("factor", "kind"),
    [(0.0, Kind.SILENCE), (0.3, Kind.DROP), (3.0, Kind.SPIKE), (10.0, Kind.SPIKE), (1.0, None), (1.1, None)],
)
@pytest.mark.parametrize("hour", range(0, 24, 5))
def test_a_window_beside_what_is_usual(factor: float, kind: Kind | None, hour: int) -> None:
    series = daily(2.5)
    end = 336 + hour
    verdict = unusual(series[:end], round(series[end] * factor))
    assert verdict.kind == kind, verdict
    assert verdict.unusual == (kind is not None)
    assert verdict.low is not None
    assert verdict.expected is not None
    assert verdict.high is not None
    assert 0 <= verdict.low <= verdict.expected <= verdict.high
    if kind in (Kind.DROP, Kind.SPIKE):
        assert verdict.score > 1
        assert not verdict.low <= round(series[end] * factor) <= verdict.high


def test_false_alarms_of_a_series_without_faults() -> None:
    counts = dict.fromkeys(Sensitivity, 0)
    weeks = 0
    for seed in range(5):
        series = daily(3, seed=seed)
        weeks += 1
        for end in range(336, 504):
            known = baseline(series[:end])
            for sensitivity in Sensitivity:
                counts[sensitivity] += known.judge(series[end], sensitivity).unusual
    assert counts[Sensitivity.LOW] <= counts[Sensitivity.MEDIUM] <= counts[Sensitivity.HIGH]
    assert counts[Sensitivity.MEDIUM] / weeks <= 1


def test_what_creeps_is_found_though_each_step_is_small() -> None:
    series = daily(3)
    for hour in range(168):
        series[336 + hour] *= 1.01**hour
    kinds = [unusual(series[:end], series[end]).kind for end in range(336, 504)]
    assert Kind.DRIFT in kinds


@pytest.mark.parametrize("noise", [0.08, 0.15])
@pytest.mark.parametrize("hours", [1, 6])
def test_a_spike_is_no_drift_once_it_is_over(hours: int, noise: float) -> None:
    for seed in range(4):
        series = daily(3, noise=noise, seed=seed)
        for hour in range(350, 350 + hours):
            series[hour] *= 25
        kinds = [unusual(series[:end], series[end]).kind for end in range(350, 380)]
        assert kinds[0] is Kind.SPIKE
        assert Kind.DRIFT not in kinds[hours:]


def test_a_level_that_stays_is_a_spike_and_then_a_drift() -> None:
    series = daily(3)
    for hour in range(350, 398):
        series[hour] *= 25
    kinds = [unusual(series[:end], series[end]).kind for end in range(350, 398)]
    assert kinds[0] is Kind.SPIKE
    assert None not in kinds
    assert kinds[8:] == [Kind.DRIFT] * 40


def test_silence_is_judged_by_the_runs_there_were() -> None:
    series = daily(2)
    for day in range(14):
        series[day * 24 : day * 24 + 6] = [0.0] * 6  # closed by night
    night = series[: 13 * 24]
    assert not unusual(night, 0).unusual
    long = [*night, *[0.0] * 6]
    kinds = []
    for _ in range(6):
        kinds.append(unusual(long, 0).kind)
        long.append(0.0)
    assert kinds[-1] is Kind.SILENCE


def test_short_or_empty_histories_have_no_verdict() -> None:
    assert unusual([], 10**9).reason == "short_history"
    assert unusual([5.0] * 71, 10**9).reason == "short_history"
    assert unusual([0.0] * 200, 5).reason == "little_usage"
    assert unusual([0.0] * 200, 5).expected is None
    assert unusual(daily(0.5)[:72], 10**9).unusual


def test_days_have_weeks() -> None:
    weekly = [100.0, 110, 105, 108, 95, 20, 15] * 6
    assert not unusual(weekly[:40], 20.0, seasons=DAYS).unusual
    assert unusual(weekly[:40], 100.0, seasons=DAYS).kind is Kind.SPIKE
    assert unusual(weekly[:39], 20.0, seasons=DAYS).kind is Kind.DROP


def test_a_meter_that_never_moves_is_not_alarmed_by_a_little() -> None:
    constant = [250.0] * 240
    assert not unusual(constant, 250).unusual
    assert not unusual(constant, 251).unusual
    assert unusual(constant, 400).kind is Kind.SPIKE


def test_a_series_that_always_jumps_is_left_alone() -> None:
    random = np.random.default_rng(3)
    series = [float(value) for value in np.round(random.lognormal(5, 2, 504))]
    found = sum(unusual(series[:end], series[end]).unusual for end in range(336, 504))
    assert found <= 3


@settings(max_examples=30, deadline=None)
@given(
    factor=st.sampled_from([1e-9, 1e-3, 7.0, 1e6, 1e15]),
    seed=st.integers(0, 50),
    times=st.sampled_from([0.0, 0.2, 1.0, 4.0]),
)
def test_the_unit_does_not_matter(factor: float, seed: int, times: float) -> None:
    series = daily(2, seed=seed)
    value = series[-1] * times
    one = unusual(series[:-1], value)
    other = unusual([item * factor for item in series[:-1]], value * factor)
    assert (one.unusual, one.kind) == (other.unusual, other.kind)
    assert one.score == pytest.approx(other.score, abs=0.002)


@settings(max_examples=60, deadline=None)
@given(
    history=st.lists(
        st.one_of(st.just(0.0), st.floats(-1e20, 1e20, allow_nan=False), st.integers(0, 9).map(float)),
        max_size=120,
    ),
    value=st.floats(-1e20, 1e20, allow_nan=False),
)
def test_any_series_has_a_verdict(history: list[float], value: float) -> None:
    verdict = unusual(history, value)
    assert verdict.unusual == (verdict.kind is not None)
    if verdict.reason is None:
        assert verdict.low is not None
        assert verdict.high is not None
        assert verdict.low <= verdict.high
        assert verdict.score >= 0
    else:
        assert not verdict.unusual


def test_exact_decimals_may_be_given() -> None:
    series = [Decimal(int(value)) / 8 for value in daily(2)]
    assert unusual(series[:-1], series[-1] * 20).kind is Kind.SPIKE
    assert isinstance(baseline(series), Baseline)
