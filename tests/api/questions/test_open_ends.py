"""Levels that hold and starts that time out go on while nothing is recorded, in every way of asking."""

from typing import Any

import pytest
from tests.api.questions.live import NOW_US, Live

FROM, TO = "2026-07-15T00:00:00Z", "2026-07-16T00:00:00Z"
HOURS_LATER = 6


@pytest.fixture(scope="module")
def answers(live: Live) -> dict[str, dict[str, Any]]:
    """By way of asking, then by meter: the figure of a day, asked six hours after its only events."""
    tenant = live.tenant()
    tenant.meter(key="level", event_type="level", aggregation="time_weighted", value="$.n")
    tenant.meter(
        key="open", event_type="open", aggregation="duration", value="$.s", pair_by="$.p", timeout="PT2H"
    )
    tenant.record(
        {"id": "1", "type": "level", "subject": "a", "time": "2026-07-15T12:00:00Z", "data": {"n": 10}},
        {
            "id": "2",
            "type": "open",
            "subject": "a",
            "time": "2026-07-15T12:00:00Z",
            "data": {"s": "start", "p": 1},
        },
    )
    assert tenant.post("/v1/limits", {
        "key": "l", "customer": "a", "meter": "level", "amount": "1000", "period": "day", "enforce": "hard",
    }).status_code == 201  # fmt: skip
    live.clock.move_to(NOW_US + HOURS_LATER * 3_600_000_000)
    asked = {"from": FROM, "to": TO}
    made: dict[str, dict[str, Any]] = {}
    for meter in ("level", "open"):
        path = f"/v1/meters/{meter}/usage"
        plain = tenant.post(path, asked).json()
        by_day = tenant.post(path, {**asked, "window": "day", "totals": True}).json()
        compared = tenant.post(path, {**asked, "compare": "previous"}).json()
        made.setdefault("plain", {})[meter] = _only(plain["rows"])
        made.setdefault("with totals", {})[meter] = _only(by_day["rows"])
        made.setdefault("totals", {})[meter] = _only(by_day["totals"])
        made.setdefault("compared", {})[meter] = _only(compared["rows"])
    every = tenant.answer("/v1/usage", params=asked)["items"]
    made["all meters"] = {one["meter"]: _only(one["rows"]) for one in every}
    formula = {
        **asked,
        "meters": {"level": {"meter": "level"}, "open": {"meter": "open"}},
        "formula": "level",
    }
    rows = tenant.post("/v1/usage/query", formula).json()["rows"]
    made["formula"] = rows[0]["values"] if rows else {}
    held = tenant.post("/v1/check", {"customer": "a", "meter": "level", "amount": "1"}).json()
    made["check"] = {"level": held["used"], "open": "7200"}
    return made


def _only(rows: list[dict[str, Any]]) -> Any:
    return rows[0]["value"] if rows else None


@pytest.mark.parametrize(
    "way", ["plain", "with totals", "totals", "compared", "all meters", "formula", "check"]
)
def test_a_level_holds_until_the_question(answers: dict[str, dict[str, Any]], way: str) -> None:
    # 10 for six hours; and a start, closed by its timeout of two.
    assert answers[way] == {"level": "60", "open": "7200"}
