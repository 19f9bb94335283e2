"""Exports hold what counts, whole and as of one moment, and add up to the figures usage answers."""

import csv
import io
import json
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.api.questions.live import Tenant, faults

METER = {
    "key": "m",
    "event_type": "call",
    "aggregation": "sum",
    "value": "$.n",
    "dimensions": {"model": "$.model", "value": "$.v"},
}


def event(number: int, day: int = 1, **changes: Any) -> dict[str, Any]:
    made = {
        "id": str(number),
        "source": "/s",
        "type": "call",
        "subject": f"c{number % 3}",
        "time": f"2026-07-{day:02d}T10:00:00.25Z",
        "data": {"n": number + 0.5, "model": "a,b" if number % 2 else None},
    }
    return made | changes


@pytest.fixture
def filled(tenant: Tenant) -> Tenant:
    tenant.meter(**METER)
    tenant.record(*(event(number, 1 + number % 4) for number in range(12)))
    tenant.record(event(100, type="other"), event(5, 2))
    answer = tenant.post(
        "/v1/events/corrections",
        {
            "reason": "test",
            "retract": [{"source": "/s", "id": "3"}],
            "replace": [event(4, 1, data={"n": 40, "quote": 'say "x",\n'})],
        },
    )
    assert answer.status_code == 200, answer.text
    return tenant


def lines(tenant: Tenant, kind: str, **parameters: Any) -> list[dict[str, Any]]:
    answer = tenant.get(f"/v1/export/{kind}", params=parameters)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def ordered(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: int(row["position"]))


def test_events_are_those_that_count_with_their_data(filled: Tenant) -> None:
    rows = lines(filled, "events")
    assert sorted(row["id"] for row in rows) == sorted({*map(str, range(12)), "100"} - {"3"})
    replaced = next(row for row in rows if row["id"] == "4")
    assert replaced["data"] == {"n": 40, "quote": 'say "x",\n'}
    assert replaced["original"] != replaced["position"]
    one = next(row for row in rows if row["id"] == "7")
    looked_up = filled.answer("/v1/events/lookup", params={"source": "/s", "id": "7"})
    assert {name: one[name] for name in ("time", "subject", "customer", "received_at", "recorded_at")} == {
        name: looked_up[name] for name in ("time", "subject", "customer", "received_at", "recorded_at")
    }


def test_every_format_holds_the_same(filled: Tenant) -> None:
    for kind, parameters in (("events", {}), ("readings", {"meter": "m"})):
        rows = ordered(lines(filled, kind, **parameters))
        answer = filled.get(f"/v1/export/{kind}", params={"format": "csv", **parameters})
        table = ordered(csv.DictReader(io.StringIO(answer.text, newline="")))
        assert [row["position"] for row in table] == [str(row["position"]) for row in rows]
        assert [row["time"] for row in table] == [row["time"] for row in rows]
        answer = filled.get(f"/v1/export/{kind}", params={"format": "parquet", **parameters})
        stored = ordered(pq.read_table(io.BytesIO(answer.content)).to_pylist())
        assert [row["position"] for row in stored] == [row["position"] for row in rows]
        if kind == "events":
            assert [json.loads(row["data"]) for row in table] == [row["data"] for row in rows]
            assert [json.loads(row["data"]) for row in stored] == [row["data"] for row in rows]
        else:
            assert [row["value"] for row in table] == [row["value"] for row in rows]
            assert [row["value"] for row in stored] == [Decimal(row["value"]) for row in rows]
            assert {row["model"] for row in rows} == {"a,b", None}
            assert "dimension.value" in rows[0]


def test_readings_add_up_to_usage_now_and_as_of_earlier(filled: Tenant) -> None:
    month = {"from": "2026-07-01T00:00:00Z", "to": "2026-08-01T00:00:00Z"}
    first = filled.get("/v1/export/readings", params={"meter": "m"}).headers["tallystick-as-of"]
    filled.live.clock.advance(seconds=1)
    filled.record(event(50, 2))
    for as_of in (None, first):
        at = {} if as_of is None else {"as_of": as_of}
        usage = filled.answer("/v1/meters/m/usage", params={**month, **at})["rows"][0]["value"]
        rows = lines(filled, "readings", meter="m", **month, **at)
        assert sum(Decimal(row["value"]) for row in rows) == Decimal(usage)
    assert (
        len(lines(filled, "readings", meter="m"))
        == len(lines(filled, "readings", meter="m", as_of=first)) + 1
    )


def test_filters_cursor_and_parts(filled: Tenant) -> None:
    assert {row["customer"] for row in lines(filled, "events", customer="c1")} == {"c1"}
    assert [row["id"] for row in lines(filled, "events", type="other")] == ["100"]
    parts = filled.answer("/v1/export/events/parts", params={"type": "call"})["parts"]
    assert [(part["from"], part["to"], part["events"]) for part in parts] == [
        ("2026-07-01T00:00:00Z", "2026-07-02T00:00:00Z", 3),
        ("2026-07-02T00:00:00Z", "2026-07-03T00:00:00Z", 3),
        ("2026-07-03T00:00:00Z", "2026-07-04T00:00:00Z", 3),
        ("2026-07-04T00:00:00Z", "2026-07-05T00:00:00Z", 2),
    ]
    months = filled.answer("/v1/export/readings/parts", params={"meter": "m", "by": "month"})["parts"]
    assert [(part["from"], part["to"], part["events"]) for part in months] == [
        ("2026-07-01T00:00:00Z", "2026-08-01T00:00:00Z", 11)
    ]
    at = filled.get("/v1/export/events").headers["tallystick-position"]
    filled.live.clock.advance(seconds=1)
    filled.record(event(60, 2))
    assert [row["id"] for row in lines(filled, "events", after=at)] == ["60"]
    later = filled.answer("/v1/export/events/parts", params={"type": "call"})["parts"]
    assert [new["changed_at"] > old["changed_at"] for new, old in zip(later, parts, strict=True)] == [
        False, True, False, False,
    ]  # fmt: skip


def test_refused(filled: Tenant) -> None:
    assert filled.with_scopes("usage:read").get("/v1/export/events").status_code == 403
    assert filled.with_scopes("events:read").get("/v1/export/readings?meter=m").status_code == 403
    assert filled.get("/v1/export/readings?meter=none").status_code == 404
    assert faults(filled.get("/v1/export/readings")) == [("meter", "missing")]
    assert faults(filled.get("/v1/export/events?format=xls")) == [("format", "invalid_value")]
    assert faults(filled.get("/v1/export/events?meter=m")) == [("meter", "unknown_parameter")]
