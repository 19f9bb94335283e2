"""Figures that other systems of the field hold themselves to, through our oracle and our fast path. What does not fit
is in docs/metering-differences.md, with its reason; the last test holds that page complete."""

import itertools
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tallystick.metering.evaluate import OracleEvent, evaluate
from tallystick.metering.event import TIMESTAMP
from tallystick.metering.meter import Aggregation, Meter
from tallystick.metering.query import UsageQuery, UsageRow, Window
from tallystick.metering.reading import Reading, derive, read, why_excluded
from tallystick.metering.window import edges

ROOT = Path(__file__).parents[2]
VECTORS = ROOT.parent / "shared" / "vectors"
DIFFERENCES = ROOT / "docs" / "metering-differences.md"
DAY_US = 86_400_000_000

pytestmark = [
    pytest.mark.shared_data,
    pytest.mark.skipif(not VECTORS.is_dir(), reason="the vectors of ../shared are not beside this checkout"),
]


def vectors(file: str) -> dict[str, Any]:
    return {one["id"]: one for one in json.loads((VECTORS / file).read_text())["vectors"]}


def us(text: str) -> int:
    return (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def meter(aggregation: str, path: str = "$.v") -> Meter:
    chosen = Aggregation({"AVG": "average"}.get(aggregation, aggregation.lower()))
    return Meter(1, "default", "m", 1, "m", "call", chosen, None if chosen is Aggregation.COUNT else path)


def event(time_us: int, data: object, position: int = 1) -> OracleEvent:
    return OracleEvent("default", "/", "e", "call", "s", "s", time_us, position, 1, json.dumps(data).encode())


def rows(one: Meter, events: list[OracleEvent], from_us: int, to_us: int, **more: Any) -> list[UsageRow]:
    window, timezone = more.pop("window", None), more.pop("timezone", "UTC")
    borders = edges(from_us, to_us, window, timezone, windows_max=1000)
    answered = evaluate(UsageQuery(one, from_us, to_us, borders, **more), events)
    check_derived(one, events)
    return answered


def check_derived(one: Meter, events: list[OracleEvent]) -> None:
    """The fast path reads the same of these events."""
    if not events:
        return
    names = ("tenant", "source", "id", "type", "subject", "customer")
    columns: dict[str, Any] = {name: [getattr(each, name) for each in events] for name in names}
    columns["data"] = pa.array([each.data for each in events], pa.binary())
    columns["position"] = pa.array([each.position for each in events], pa.uint64())
    columns["time"] = pa.array([each.time_us for each in events], pa.int64()).cast(TIMESTAMP)
    columns["recorded_at"] = columns["time"]
    one_by_one = [given for each in events if isinstance(given := read(one, each), Reading)]
    table = derive([one], pa.table(columns))
    assert table.column("value").to_pylist() == [given.value for given in one_by_one]
    assert table.column("text").to_pylist() == [given.text for given in one_by_one]


def value(
    one: Meter, events: list[OracleEvent], from_us: int = 0, to_us: int = 10 * DAY_US, **more: Any
) -> Any:
    (row,) = rows(one, events, from_us, to_us, **more)
    return row.value


# -- openmeter.json ---------------------------------------------------------------------------------------------------


def test_m01_empty_windows_are_left_out() -> None:
    vector = vectors("openmeter.json")["M01"]
    events = [event(us(at), {}) for at, count in vector["input"]["events"] for _ in range(count)]
    answered = rows(
        meter("COUNT"), events, us("2023-01-01T00:00:00Z"), us("2023-01-03T00:00:00Z"), window=Window.HOUR
    )
    assert [(row.window_start_us, row.value) for row in answered] == [
        (us(at), count) for at, count in vector["expect"]["rows"]
    ]


@pytest.mark.parametrize("name", ["M02", "M04"])
def test_m02_m04_sums(name: str) -> None:
    vector = vectors("openmeter.json")[name]
    given, expect = vector["input"], vector["expect"]
    start = us("2024-03-01T00:00:00Z")
    events = [
        event(start + offset * 1_000_000, {"duration_ms": given["value_per_event"]})
        for _ in range(given["subjects"])
        for offset in given["offsets_s"]
    ]
    window = Window.HOUR if given["window"] else None
    answered = rows(meter("SUM", given["value"]), events, start, start + DAY_US + 60_000_000, window=window)
    if name == "M02":
        assert [row.value for row in answered] == [expect["rows"][0]["value"]]
    else:
        assert [row.value for row in answered] == expect["values"]
        assert [(row.window_start_us - start) // 1_000_000 for row in answered] == expect["starts_s"]


def test_m12_aggregations() -> None:
    vector = vectors("openmeter.json")["M12"]
    events = [event(index, data, index + 1) for index, data in enumerate(vector["input"]["events"])]
    for label, expected in vector["expect"].items():
        aggregation, _, member = label.partition("(")
        found = value(meter(aggregation, f"$.{member.rstrip(')')}" if member else "$.v"), events)
        # They add binary floats; ours are exact, and the same where theirs can be.
        assert abs(found - Decimal(repr(expected))) < Decimal("1e-13"), label
    assert value(meter("SUM"), events) == Decimal("123.4567890123456789")
    assert value(meter("AVG"), events) == Decimal("61.72839450617283945")


def test_m14_a_day_of_23_hours() -> None:
    vector = vectors("openmeter.json")["M14"]
    given, expect = vector["input"], vector["expect"]
    first, last = (datetime.fromisoformat(date).date() for date in given["dates"])
    days = [first + timedelta(days=index) for index in range((last - first).days + 1)]
    change = datetime.fromisoformat(expect["dst_row"]["start"]).date()
    events = [
        event(
            us(f"{day}T{given['event_local_hour']:02}:00:00{'-08:00' if day < change else '-07:00'}"),
            {"v": given["value"]},
        )
        for day in days
    ]
    answered = rows(
        meter("SUM"), events, us(f"{days[0]}T00:00:00-08:00"), us(f"{last + timedelta(days=1)}T00:00:00-07:00"),
        window=Window.DAY, timezone=given["tz"],
    )  # fmt: skip
    assert len(answered) == expect["rows"]
    assert {row.value for row in answered} == {expect["each"]}
    assert all(one.window_end_us == after.window_start_us for one, after in itertools.pairwise(answered))
    dst = expect["dst_row"]
    assert (us(dst["start"]), us(dst["end"])) in {
        (row.window_start_us, row.window_end_us) for row in answered
    }
    assert us(dst["end"]) - us(dst["start"]) == dst["hours"] * 3_600_000_000


def test_m16_values() -> None:
    vector = vectors("openmeter.json")["M16"]
    assert vector["input"]["values"][:2] == ['"100"', 100]
    parsed = [value(meter("SUM"), [event(1, {"v": given})]) for given in ("100", 100)]
    assert parsed == vector["expect"]["parsed"][:2]
    rejected = {
        "missing value property": ({}, "value_missing"),
        "null": ({"v": None}, "value_missing"),
        "NaN": ({"v": "NaN"}, "value_not_numeric"),
        "infinity": ({"v": "Infinity"}, "value_not_numeric"),
        "non-numeric string": ({"v": "abc"}, "value_not_numeric"),
    }
    assert set(rejected) == set(vector["expect"]["rejected"])
    for data, code in rejected.values():
        assert why_excluded(meter("SUM"), event(1, data)) == code


# -- lago.json --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["latest-1", "latest-2", "max-1", "sum-1", "sum-4", "sum-5"])
def test_lago_aggregations(name: str) -> None:
    vector = vectors("lago.json")[name]
    given, expect = vector["given"], vector["expect"]
    before, within = given.get("before_period", []), given["in_period"]
    events = [
        event(DAY_US * (1 if index < len(before) else 2) + index, {"v": text}, index + 1)
        for index, text in enumerate([*before, *within])
    ]
    found = value(meter(given["agg"]), events, 2 * DAY_US, 3 * DAY_US, fill_zero=True)
    assert found == Decimal(expect["units"])
    if "events_count" in expect:
        counted = [
            one
            for one in events
            if one.time_us >= 2 * DAY_US and why_excluded(meter(given["agg"]), one) is None
        ]
        assert len(counted) == expect["events_count"]


def test_lago_store() -> None:
    vector = vectors("lago.json")["store-1"]
    start = us(vector["given"]["period"][0] + "T00:00:00Z")
    end = us(vector["given"]["period"][1] + "T00:00:00Z") + DAY_US
    events = [
        event(us(f"2023-03-{one['day']}T00:00:00Z"), {"v": one["value"]}, index + 1)
        for index, one in enumerate(vector["given"]["events"])
    ]
    for aggregation, expected in vector["expect"].items():
        assert value(meter(aggregation), events, start, end) == Decimal(expected), aggregation


@pytest.mark.parametrize("name", ["wsum-2", "wsum-4", "wsum-5", "wsum-doc"])
def test_lago_weighted_sums(name: str) -> None:
    """Theirs sums changes of a level; ours reads levels, and is theirs times the hours of the period."""
    vector = vectors("lago.json")[name]
    given, expect = vector["given"], vector["expect"]
    start, end = (us(text) for text in given["period"])
    level = Decimal(given["initial"])
    events = [event(start - DAY_US, {"v": str(level)})] if level else []
    for position, change in enumerate(given["events"], 2):
        level += Decimal(change["value"])
        events.append(event(us(change["at"]), {"v": str(level)}, position))
    hours = Decimal(end - start) / 3_600_000_000
    assert hours == given["full_days"] * 24
    found = value(meter("TIME_WEIGHTED"), events, start, end) / hours
    assert round(found, 5) == Decimal(expect["units_round5"])


@pytest.mark.parametrize(
    "name", ["expr-1", "expr-2", "expr-4", "expr-7", "expr-9", "expr-10", "expr-11", "expr-ev"]
)
def test_lago_expressions(name: str) -> None:
    vector = vectors("lago.json")[name]
    given, data = vector["given"], vector["given"].get("properties", {})
    # Their properties are texts that become numbers by themselves; in CEL one says so.
    expression = re.sub(r"event\.properties\.(\w+)", r"double(data.\1)", given["expression"])
    one = replace(meter("SUM"), value=None, value_cel=expression)
    assert value(one, [event(1, data)]) == Decimal(vector["expect"]["value"])


def test_what_is_not_run_here_is_explained() -> None:
    run = set(re.findall(r'"((?:M\d+|[a-z]+-(?:\d+|doc|ev)))"', Path(__file__).read_text())) | {"M02", "M04"}
    explained = set(re.findall(r"`([A-Za-z0-9-]+)`", DIFFERENCES.read_text()))
    concerned = {name for name in vectors("openmeter.json") if name.startswith("M")}
    concerned |= {
        name
        for name, one in vectors("lago.json").items()
        if one["area"] in ("aggregation", "aggregation_prorated")
    }
    assert concerned - run - explained == set()
    assert not run & explained
