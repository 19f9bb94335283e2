"""The series continued: what must hold for any series, and what is right for one that is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.forecast import methods
from tallystick.forecast.predict import LEVELS, Prediction, predict


def hourly(days: int, *, seed: int = 1, noise: float = 0.1) -> list[float]:
    random = np.random.default_rng(seed)
    hours = np.arange(days * 24)
    shape = 500 * (1.2 + np.sin(2 * np.pi * hours / 24))
    return [float(value) for value in np.round(shape * random.lognormal(0, noise, len(hours)))]


def check(made: Prediction, steps: int) -> None:
    assert len(made.values) == len(made.sums) == steps
    for level in LEVELS:
        assert (made.low[level] <= made.values).all()
        assert (made.values <= made.high[level]).all()
        assert (made.sums_low[level] <= made.sums).all()
        assert (made.sums <= made.sums_high[level]).all()
        assert np.isfinite(made.high[level]).all()
        assert np.isfinite(made.sums_high[level]).all()


@settings(max_examples=40, deadline=None)
@given(
    history=st.lists(
        st.one_of(st.just(0.0), st.integers(0, 50).map(float), st.floats(0, 1e18)), min_size=3, max_size=160
    ),
    steps=st.sampled_from([1, 5, 24, 70]),
)
def test_any_history_has_an_answer_that_is_not_negative(history: list[float], steps: int) -> None:
    made = predict(history, steps, seasons=(24, 168))
    check(made, steps)
    for level in LEVELS:
        assert (made.low[level] >= 0).all()
        assert (made.sums_low[level] >= 0).all()


def test_a_known_shape_is_continued_and_intervals_hold_it() -> None:
    within = dict.fromkeys(LEVELS, 0.0)
    sums = dict.fromkeys(LEVELS, 0.0)
    runs = 12
    for seed in range(runs):
        series = hourly(22, seed=seed)
        made = predict(series[: 21 * 24], 24, seasons=(24, 168))
        came = np.array(series[21 * 24 :])
        check(made, 24)
        assert float(np.abs(made.values - came).mean()) < 100
        for level in LEVELS:
            within[level] += float(((came >= made.low[level]) & (came <= made.high[level])).mean()) / runs
            sums[level] += (made.sums_low[level][-1] <= came.sum() <= made.sums_high[level][-1]) / runs
    assert within[0.8] == pytest.approx(0.8, abs=0.08)
    assert within[0.95] == pytest.approx(0.95, abs=0.05)
    assert sums[0.8] >= 0.6
    assert sums[0.95] >= 0.8


def test_it_is_better_than_repeating_the_last_day() -> None:
    made = predict(hourly(21, noise=0.3), 24, seasons=(24, 168))
    assert made.backtest is not None
    assert made.backtest.error < made.backtest.naive_error
    assert made.reason is None


def test_short_histories_are_honest() -> None:
    assert predict([], 5, seasons=(24,)).method == "none"
    assert predict([1.0, 2.0], 5, seasons=(24,)).reason == "no_history"
    short = predict([4.0] * 40, 5, seasons=(24,))
    assert (short.method, short.reason, short.backtest) == ("mean", "short_history", None)
    assert list(short.values) == [4.0] * 5


def test_without_the_library_the_last_seasons_stand_and_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "_ets_model", lambda: None)
    made = predict(hourly(14), 24, seasons=(24, 168))
    assert made.reason == "not_installed"
    assert made.method in ("seasonal_naive", "seasonal_median", "combined", "mean")
    check(made, 24)


def test_constant_and_long_horizons() -> None:
    flat = predict([7.0] * 200, 1500, seasons=(24, 168))
    check(flat, 1500)
    assert np.allclose(flat.values, 7.0)
    assert flat.sums_high[0.95][-1] == pytest.approx(7 * 1500, rel=0.01)
    check(predict(hourly(56), 2000, seasons=(24, 168)), 2000)


def test_methods_answer_for_the_past_as_they_would_have_then() -> None:
    series = np.array(hourly(10))
    for method in methods.methods_of(series[:200], (24,)):
        if method.name.startswith(("ets", "combined")):
            continue  # their parameters were fitted to all of it
        then = method.ahead(np.array([150]), 30)
        again = next(m for m in methods.methods_of(series[:150], (24,)) if m.name == method.name)
        assert np.allclose(then, again.ahead(np.array([150]), 30)), method.name


@pytest.mark.parametrize(
    "count", [3, 4, 10, 47, 48, 49, 60, 71, 72, 95, 96, 97, 335, 336, 337, 503, 504, 505, 672, 700]
)
def test_intervals_have_a_width_at_every_length_of_history(count: int) -> None:
    """A method must leave some of the past to be judged by: with none, an interval would promise certainty."""
    made = predict(hourly(30)[:count], 30, seasons=(24, 168))
    check(made, 30)
    for level in LEVELS:
        assert (made.high[level] > made.values).mean() > 0.9
        assert made.sums_high[level][-1] > made.sums[-1]
    assert (made.high[0.95] - made.low[0.95]).mean() > 20
