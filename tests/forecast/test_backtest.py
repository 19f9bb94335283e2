"""What `forecast backtest` measures; on the real trace, that intervals hold what they promise."""

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tallystick.cli.forecast import forecast_app
from tallystick.forecast.anomaly import Sensitivity
from tallystick.forecast.backtest import cuts, judged, score

SHARED = Path(os.environ.get("TALLYSTICK_SHARED") or Path(__file__).resolve().parents[3] / "shared")
TRACE = SHARED / "data" / "servegen_requests.csv"
real = [
    pytest.mark.slow,
    pytest.mark.shared_data,
    pytest.mark.skipif(
        not TRACE.exists(), reason="FORECASTS NOT MEASURED ON THE TRACE: there is no ../shared/data"
    ),
]


def daily(seed: int, days: int = 14, noise: float = 0.15) -> list[float]:
    random = np.random.default_rng(seed)
    hours = np.arange(days * 24)
    return [
        float(v)
        for v in 300 * (1.3 + np.sin(2 * np.pi * hours / 24)) * random.lognormal(0, noise, len(hours))
    ]


def test_cuts_know_nothing_of_what_comes() -> None:
    series = daily(1)
    found = list(cuts(series, 24, seasons=(24, 168), count=3))
    assert len(found) == 3
    changed = [*series[:-24], *(value * 50 for value in series[-24:])]
    again = list(cuts(changed, 24, seasons=(24, 168), count=3))
    assert again[1:] == found[1:]  # all that end before the change
    assert again[0].error > found[0].error * 10
    total = score(found)
    assert total.cuts == 3
    assert total.error < total.naive_error
    assert total.percent < total.naive_percent
    assert list(cuts([0.0] * 300, 24, seasons=(24,), count=3)) == []
    assert list(cuts([1.0] * 20, 24, seasons=(24,), count=3)) == []


def test_faults_are_found_in_a_regular_series() -> None:
    found = [judged(daily(seed, 21), Sensitivity.MEDIUM, seasons=(24, 168), seed=seed) for seed in range(8)]
    assert all(one is not None for one in found)
    known = [one for one in found if one is not None]
    # Each fault of each: a few hours at 30 % are hardest, where they begin by night.
    assert all(all(one.found.values()) and len(one.found) == 5 for one in known)
    assert sum(one.episodes for one in known) / sum(one.weeks for one in known) <= 1
    assert judged([1.0] * 100, Sensitivity.MEDIUM, seasons=(24,), seed=1) is None


def answered(*arguments: str) -> Any:
    result = CliRunner().invoke(
        forecast_app, ["backtest", *arguments, "--format", "json"], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_command_reads_a_directory(tmp_path: Path) -> None:
    with (tmp_path / "a.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["time", "customer", "n"])
        for hour, value in enumerate(daily(5)):
            writer.writerow([f"2026-06-{hour // 24 + 1:02}T{hour % 24:02}:30:00Z", "acme", round(value)])
    (tmp_path / "other.csv").write_text("x,y\n1,2\n")
    answer = answered("--csv", str(tmp_path), "--value", "n", "--cuts", "2")
    assert (answer["series"], answer["forecast"]["cuts"]) == (1, 2)
    assert answer["forecast"]["mase"] < 1.5
    assert "anomalies" not in answer
    one, other = answered(
        "--csv", str(tmp_path), "--value", "n", "--cuts", "2", "--horizon", "24", "--horizon", "1"
    )["horizons"]
    assert (one["horizon"], other["horizon"]) == (24, 1)
    assert {name: one[name] for name in answer["forecast"]} == answer["forecast"]


@pytest.mark.parametrize(
    "arguments", [[], ["tokens", "--csv", "x.csv"], ["--csv", "{tmp}"], ["tokens", "--window", "week"]]
)
def test_what_is_asked_wrongly_is_refused(tmp_path: Path, arguments: list[str]) -> None:
    given = [one.replace("{tmp}", str(tmp_path)) for one in arguments]
    assert CliRunner().invoke(forecast_app, ["backtest", *given]).exit_code != 0


@pytest.mark.parametrize("horizon", [pytest.param(24, marks=real)])
def test_intervals_hold_what_they_promise_on_the_real_trace(horizon: int) -> None:
    arguments = ["--csv", str(TRACE), "--series", "client", "--time", "t_offset_s", "--value", "requests"]
    found = answered(*arguments, "--top", "30", "--cuts", "3", "--horizon", str(horizon))["forecast"]
    assert found["cuts"] >= 80
    assert found["mase"] < found["mase_naive"]
    assert found["mase_median"] < found["mase_median_naive"]
    assert abs(found["coverage_80"] - 0.80) <= 0.05
    assert abs(found["coverage_95"] - 0.95) <= 0.05
    assert abs(found["sum_coverage_80"] - 0.80) <= 0.08  # 90 sums, of few services
    assert abs(found["sum_coverage_95"] - 0.95) <= 0.05
