"""Lago's figures for levels that are held over a month: weighted sums of changes, and units by the days they were there."""

from decimal import Decimal
from typing import Any

import pytest
from tests.metering.test_vectors import DAY_US, event, meter, us, value
from tests.rating.test_vectors import run_prorated_units

AUGUST = (us("2023-08-01T00:00:00Z"), us("2023-09-01T00:00:00Z"))
CHANGES = [
    ("00:00", 2), ("01:00", 3), ("01:30", 1), ("02:00", -4), ("04:00", -2), ("05:00", 10), ("05:30", -10),
]  # fmt: skip
WEIGHTED: list[tuple[int, list[tuple[str, int]], str]] = [
    (0, CHANGES, "0.02218"),
    (1000, CHANGES, "1000.02218"),
    (10, [], "10"),
    (0, [("00:00", 2), ("02:00", -1)], "1.00269"),
    (0, [("01:00", 3)], "2.99597"),
    (0, [("00:00", 2), ("01:00", 3)], "4.99597"),
]


@pytest.mark.parametrize(("before", "changes", "expected"), WEIGHTED)
def test_weighted_sums(before: int, changes: list[tuple[str, int]], expected: str) -> None:
    """Theirs sums changes of a level; ours reads levels, and is theirs times the hours of the period."""
    level, (start, end) = before, AUGUST
    events = [event(start - DAY_US, {"v": str(level)})] if level else []
    for position, (at, change) in enumerate(changes, 2):
        level += change
        events.append(event(us(f"2023-08-01T{at}:00Z"), {"v": str(level)}, position))
    hours = Decimal(end - start) / 3_600_000_000
    assert round(value(meter("TIME_WEIGHTED"), events, start, end) / hours, 5) == Decimal(expected)


MAY = ["2023-05-01", "2023-05-31"]
PRORATED: list[tuple[dict[str, Any], str]] = [
    ({"period": MAY, "persisted": "5", "events": [["2023-05-26", "12"], ["2023-05-26", "12"]]}, "9.64517"),
    ({"period": MAY, "persisted": "15", "events": [["2023-05-26", "12"], ["2023-05-26", "12"]]}, "19.64517"),
    ({"period": MAY, "persisted": "5", "events": []}, "5"),
    ({"period": MAY, "events": []}, "0"),
    ({"period": MAY, "events": [["2023-05-31", "8"], ["2023-05-31", "12"]]}, "0.64517"),
    ({"period": MAY, "events": [["2023-05-30", "10"]]}, "0.64517"),
    ({"period": MAY, "events": [["2023-05-30", "12.4"]]}, "0.8"),
    ({"period": MAY, "events": [["2023-05-01", "12"]]}, "12"),
    # Things that come and go: taken away on a day, they are there on that day.
    ({"period": MAY, "ops": [["2023-05-10T00:00:00Z", "a", "add"], ["2023-05-10T12:00:00Z", "a", "remove"]]}, "0.03226"),
    ({"period": MAY, "ops": [["2023-04-10T00:00:00Z", "a", "add"], ["2023-05-10T12:00:00Z", "a", "remove"]]}, "0.32259"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "units"), PRORATED)
def test_prorated_units(given: dict[str, Any], units: str) -> None:
    run_prorated_units({"full_days": 31, **given}, {"units": units})
