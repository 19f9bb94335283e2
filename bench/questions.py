"""The query mix, asked of Tallystick by HTTP and of SQLite and PostgreSQL by their own drivers; answers are compared."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

from bench.dataset import (
    ASKED_CUSTOMER,
    CUSTOMERS,
    DAY_US,
    JUNE_BEGIN_US,
    JUNE_END_US,
    YEAR_BEGIN_US,
    YEAR_END_US,
    Answer,
)
from bench.report import percentile

_CUSTOMER = CUSTOMERS[ASKED_CUSTOMER]
_YEAR = {"from": "2025-01-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"}
_JUNE = {"from": "2025-06-01T00:00:00Z", "to": "2025-07-01T00:00:00Z"}
_PG_DAY = "(extract(epoch FROM date_trunc('day', time AT TIME ZONE 'UTC')) * 1000000)::bigint"
_SQLITE_DAY = f"time - time % {DAY_US}"
_PG_RANGE = "time >= to_timestamp(%(from)s / 1000000.0) AND time < to_timestamp(%(to)s / 1000000.0)"
_SQLITE_RANGE = "time >= :from AND time < :to"


@dataclass(frozen=True, slots=True)
class Question:
    """One question in three spellings. `bound` are the values of the SQL ones; `ordered`: the order is part of it."""

    name: str
    title: str
    parameters: dict[str, str]
    sql: str  # with {day} and {range} for what the dialects spell differently, and named values
    bound: dict[str, Any]

    def postgres(self) -> str:
        return _named(self.sql.format(day=_PG_DAY, range=_PG_RANGE), "%({})s")

    def sqlite(self) -> str:
        return _named(self.sql.format(day=_SQLITE_DAY, range=_SQLITE_RANGE), ":{}")


def _named(sql: str, spelling: str) -> str:
    return sql.replace("@customer", spelling.format("customer"))


_YEAR_BOUND = {"from": YEAR_BEGIN_US, "to": YEAR_END_US, "customer": _CUSTOMER}
_JUNE_BOUND = {"from": JUNE_BEGIN_US, "to": JUNE_END_US, "customer": _CUSTOMER}

QUESTIONS = (
    Question(
        "customer_year",
        "a customer's 12 months by day",
        _YEAR | {"customer": _CUSTOMER, "window": "day"},
        "SELECT {day} AS day, sum(tokens) FROM events WHERE customer = @customer AND {range} GROUP BY 1 ORDER BY 1",
        _YEAR_BOUND,
    ),
    Question(
        "top",
        "top 10 customers of a month",
        _JUNE | {"group_by": "customer", "order_by": "-value", "limit": "10"},
        "SELECT customer, sum(tokens) AS value FROM events WHERE {range} GROUP BY customer"
        " ORDER BY value DESC, customer LIMIT 10",
        _JUNE_BOUND,
    ),
    Question(
        "by_model",
        "by model over everything",
        _YEAR | {"group_by": "model"},
        "SELECT model, sum(tokens) FROM events GROUP BY model ORDER BY model",
        _YEAR_BOUND,
    ),
    Question(
        "customer_month",
        "one customer, one month, by day and model",
        _JUNE | {"customer": _CUSTOMER, "window": "day", "group_by": "model"},
        "SELECT {day} AS day, model, sum(tokens) FROM events WHERE customer = @customer AND {range}"
        " GROUP BY 1, 2 ORDER BY 1, 2",
        _JUNE_BOUND,
    ),
    Question("total", "total of everything", dict(_YEAR), "SELECT sum(tokens) FROM events", _YEAR_BOUND),
)


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds of the first asking and of the later ones, and the answer."""

    cold_s: float
    warm_s: list[float]
    answer: Answer
    served_from: str = ""

    @property
    def p50_s(self) -> float:
        return percentile(self.warm_s, 0.5)


def time_question(ask: Callable[[], Answer], *, runs: int, seconds_max: float) -> Timed:
    """Ask once cold, then `runs` times, or as often as the time allows, but at least three times."""
    started = time.perf_counter()
    answer = ask()
    cold_s = time.perf_counter() - started
    warm_s: list[float] = []
    while len(warm_s) < 3 or (len(warm_s) < runs and time.perf_counter() - started < seconds_max):
        begun = time.perf_counter()
        again = ask()
        warm_s.append(time.perf_counter() - begun)
        if again != answer:
            raise RuntimeError("the same question, asked again, was answered differently")
    return Timed(cold_s, warm_s, answer)


def ask_tallystick(http: httpx.Client, question: Question) -> tuple[Answer, str]:
    """The answer, and what it was served from. Includes HTTP, JSON and the check that no reading is missing."""
    response = http.get("/v1/meters/bench_tokens/usage", params=question.parameters)
    if response.status_code != 200:
        raise RuntimeError(f"{question.name}: {response.status_code} {response.text[:300]}")
    document = response.json()
    windows = "window" in question.parameters
    answer: Answer = []
    for row in document["rows"]:
        start = (_micros(row["window_start"]),) if windows else ()
        value = row["value"]
        answer.append((*start, *row["group"].values(), int(value)))
    return answer, document["served_from"]


def _micros(text: str) -> int:
    at = datetime.fromisoformat(text)
    return int((at - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * 1_000_000


def compare(name: str, system: str, answer: Answer, expected: Answer) -> None:
    """Raise RuntimeError where an answer is not the calculated one."""
    if answer != expected:
        differing = next((pair for pair in zip(answer, expected, strict=False) if pair[0] != pair[1]), None)
        raise RuntimeError(
            f"{system} answers {name!r} wrongly: {len(answer)} rows instead of {len(expected)}, "
            f"first difference (got, expected): {differing}"
        )
