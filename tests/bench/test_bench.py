"""The benchmark itself: its rows and calculated answers are right, it tells of failures, and it runs from end to end."""

import io
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # `bench` is no part of the package that is installed

from bench.dataset import (  # noqa: E402
    ASKED_CUSTOMER,
    CUSTOMERS,
    DAY_US,
    JUNE_BEGIN_US,
    JUNE_END_US,
    KIND_DATA,
    YEAR_BEGIN_US,
    YEAR_END_US,
    Dataset,
    expected_answers,
)
from bench.peers import sqlite_peer  # noqa: E402
from bench.questions import QUESTIONS, compare, time_question  # noqa: E402
from bench.report import GOALS, Table, goals, percentile, ratio  # noqa: E402
from bench.send import body_of  # noqa: E402

from bench import __main__ as harness  # noqa: E402
from tallystick.metering.decode import Limits, decode  # noqa: E402


def test_rows_do_not_depend_on_how_they_are_cut() -> None:
    dataset = Dataset(5000)
    whole = dataset.rows(0, 5000)
    parts = list(dataset.blocks(700))
    assert [event_id for part in parts for event_id in part.id] == whole.id
    assert [at for part in parts for at in part.time_us.tolist()] == whole.time_us.tolist()
    assert len(set(whole.id)) == 5000
    assert whole.time_us.min() >= YEAR_BEGIN_US
    assert whole.time_us.max() < YEAR_END_US
    assert whole.customer.max() < len(CUSTOMERS)


def test_calculated_answers_agree_with_adding_up_what_the_events_say() -> None:
    dataset = Dataset(20_000)
    rows = dataset.rows(0, 20_000)
    by_day: Counter[int] = Counter()
    by_customer: Counter[str] = Counter()
    by_model: Counter[str] = Counter()
    by_day_and_model: Counter[tuple[int, str]] = Counter()
    for at, customer, kind in zip(
        rows.time_us.tolist(), rows.customer.tolist(), rows.kind.tolist(), strict=True
    ):
        data = json.loads(KIND_DATA[kind])
        june = JUNE_BEGIN_US <= at < JUNE_END_US
        by_model[data["model"]] += data["tokens"]
        by_customer[CUSTOMERS[customer]] += data["tokens"] if june else 0
        if customer == ASKED_CUSTOMER:
            by_day[at // DAY_US * DAY_US] += data["tokens"]
            if june:
                by_day_and_model[at // DAY_US * DAY_US, data["model"]] += data["tokens"]
    answers = expected_answers(dataset)
    assert answers["total"] == [(sum(by_model.values()),)]
    assert answers["by_model"] == sorted(by_model.items())
    assert answers["customer_year"] == sorted(by_day.items())
    assert answers["customer_month"] == sorted((*key, value) for key, value in by_day_and_model.items())
    assert answers["top"] == sorted(by_customer.items(), key=lambda row: (-row[1], row[0]))[:10]


def test_a_row_is_the_same_event_through_the_api_and_handed_to_the_log() -> None:
    rows = Dataset(2000).rows(100, 50)
    limits = Limits(events_max=100, event_bytes_max=10_000, depth_max=10, future_tolerance_us=0)
    decoded = decode(
        body_of(rows),
        content_type="application/cloudevents-batch+json",
        ce_headers={},
        tenant="default",
        received_at_us=YEAR_END_US,
        limits=limits,
    )
    handed = rows.event_columns(received_at_us=YEAR_END_US)
    assert decoded.rejected == []
    for name in ("source", "id", "type", "subject", "data", "attributes", "identity"):
        assert list(getattr(decoded.events, name)) == list(getattr(handed, name)), name
    assert decoded.events.time_us.tolist() == handed.time_us.tolist()
    assert decoded.events.content.tolist() == handed.content.tolist()


def test_sqlite_holds_every_row_once_and_answers_as_calculated(tmp_path: Path) -> None:
    dataset = Dataset(6000)
    with sqlite_peer(tmp_path / "sqlite") as peer:
        loaded = peer.load(dataset, seconds=0.01, seconds_max=30)
        assert 0 < loaded.measured_events <= dataset.events
        peer.make_cold()
        expected = expected_answers(dataset)
        for question in QUESTIONS:
            timed = time_question(lambda question=question: peer.ask(question), runs=3, seconds_max=1)
            compare(question.name, peer.name, timed.answer, expected[question.name])


def test_a_wrong_answer_is_not_timed_but_reported() -> None:
    with pytest.raises(RuntimeError, match="SQLite answers 'top' wrongly"):
        compare("top", "SQLite", [("a", 1)], [("a", 2)])
    answers = iter([[(1,)], [(2,)]])
    with pytest.raises(RuntimeError, match="answered differently"):
        time_question(lambda: next(answers), runs=3, seconds_max=1)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([5.0], 0.99, 5.0), ([1.0, 2.0], 0.5, 1.0), ([float(n) for n in range(1, 101)], 0.99, 99.0), ([3.0, 1.0, 2.0], 0.5, 2.0)],
)  # fmt: skip
def test_percentiles_are_nearest_rank(values: list[float], share: float, expected: float) -> None:
    assert percentile(values, share) == expected


def test_what_was_not_measured_is_no_pass() -> None:
    assert all(row[1:] == ("–", "not measured") for row in goals({}).rows)
    assert len(goals({}).rows) == len(GOALS)
    found = {row[0]: row[2] for row in goals({"recorded_1000": 199_999, "restart_ready_s": 2.9}).rows}
    assert found["recorded, batches of 1,000: ≥ 200,000 events/s"] == "no"
    assert found["ready after kill -9: < 3 s"] == "yes"
    assert ratio(3.0, None) == "–"
    assert ratio(None, 2.0) == "–"


def test_a_part_that_fails_says_so_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(bench: harness.Bench) -> None:
        """1. Breaks."""
        (bench.directory / "left").write_text("behind")
        raise RuntimeError("counts differ")

    def works(bench: harness.Bench) -> None:
        """2. Works."""
        bench.findings.tables.append(Table("Found", "A meaning.", ("what", "figure"), [("a|b", "1")]))

    monkeypatch.setattr(harness, "PARTS", {"breaks": breaks, "works": works})
    printed = io.StringIO()
    directory = tmp_path / "data"
    found = harness.run(directory, harness.TINY, ["breaks", "works"], Console(file=printed, width=120))
    assert found.failures == ["breaks: RuntimeError: counts differ"]
    assert "FAILED breaks: RuntimeError: counts differ" in printed.getvalue()
    assert not directory.exists()
    text = harness.document(found, "python -m bench --tiny")
    assert "| a\\|b | 1 |" in text
    assert "This part failed: breaks" in text


def test_a_part_that_takes_too_long_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(bench: harness.Bench) -> None:
        """1. Endless."""
        for _ in range(10**9):
            pass

    monkeypatch.setattr(harness, "PARTS", {"endless": endless})
    sizes = harness.replace(harness.TINY, part_s_max=0.2)
    found = harness.run(tmp_path / "data", sizes, ["endless"], Console(file=io.StringIO()))
    assert found.failures == ["endless: PartTimeoutError: stopped after 0 s"]


@pytest.mark.slow
def test_the_whole_benchmark_runs_at_tiny_sizes(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--tiny", "--directory", str(tmp_path / "bench")],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=1800,  # as long as it goes on; a part that stands still ends by itself
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for title in (
        "Machine and run", "Ingest through the server", "Acknowledged → countable", "On disk, 6,000 events",
        "On top of 6,000 recorded events", "Memory and restart", "Parts on their own", "Ingest beside other stores",
        "Questions, 6,000 events", "Goals",
    ):  # fmt: skip
        assert title in done.stdout
    assert done.stdout.count("not measured") == 1  # only one dataset: nothing is said about growth
    assert not (tmp_path / "bench").exists()
