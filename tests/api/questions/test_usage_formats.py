"""The two spellings of one answer say the same."""

import csv
import io
import json
import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.api.formats import chosen, usage_csv, usage_json
from tallystick.api.problem import NotAcceptable
from tallystick.flows.usage import UsageAnswer
from tallystick.metering.meter import Aggregation, Dimension, Meter
from tallystick.metering.query import UsageRow

METER = Meter(
    7, "t", "tokens", 2, "Tokens", "llm", Aggregation.SUM, "$.n", (Dimension("model", "$.m"),), unit="token"
)
HOUR_US = 3_600_000_000
OFFERED = ("application/json", "text/csv")


def answer(rows: list[UsageRow], *group_by: str) -> UsageAnswer:
    return UsageAnswer(METER, 0, 2 * HOUR_US, "hour", "UTC", group_by, rows, (36,), "readings")


def test_json_as_the_contract_has_it() -> None:
    rows = [
        UsageRow(0, HOUR_US, ("acme", None), Decimal("123.500000000000000000")),
        UsageRow(HOUR_US, 2 * HOUR_US + 1, ("acme", ""), Decimal("1E+3")),
        UsageRow(0, HOUR_US, ("acme", "x"), None),
    ]
    assert json.loads(usage_json(answer(rows, "customer", "model"))) == {
        "meter": "tokens",
        "version": 2,
        "aggregation": "sum",
        "unit": "token",
        "from": "1970-01-01T00:00:00Z",
        "to": "1970-01-01T02:00:00Z",
        "window": "hour",
        "timezone": "UTC",
        "rows": [
            {
                "window_start": "1970-01-01T00:00:00Z",
                "window_end": "1970-01-01T01:00:00Z",
                "group": {"customer": "acme", "model": None},
                "value": "123.5",
            },
            {
                "window_start": "1970-01-01T01:00:00Z",
                "window_end": "1970-01-01T02:00:00.000001Z",
                "group": {"customer": "acme", "model": ""},
                "value": "1000",
            },
            {
                "window_start": "1970-01-01T00:00:00Z",
                "window_end": "1970-01-01T01:00:00Z",
                "group": {"customer": "acme", "model": "x"},
                "value": None,
            },
        ],
        "position": "p1-10",
        "served_from": "readings",
    }


def test_nothing_grouped_is_an_empty_object() -> None:
    assert json.loads(usage_json(answer([UsageRow(0, 1, (), Decimal(0))])))["rows"][0]["group"] == {}


def test_csv_tells_missing_from_empty() -> None:
    rows = [
        UsageRow(0, HOUR_US, (None,), Decimal("-0.5")),
        UsageRow(0, HOUR_US, ("",), None),
        UsageRow(0, HOUR_US, ('a "b", c\r\nd',), Decimal(1)),
    ]
    assert usage_csv(answer(rows, "model")).decode() == (
        "window_start,window_end,model,value\r\n"
        "1970-01-01T00:00:00Z,1970-01-01T01:00:00Z,,-0.5\r\n"
        '1970-01-01T00:00:00Z,1970-01-01T01:00:00Z,"",\r\n'
        '1970-01-01T00:00:00Z,1970-01-01T01:00:00Z,"a ""b"", c\r\nd",1\r\n'
    )


@given(
    st.lists(
        st.builds(
            lambda start, group, value: UsageRow(start * HOUR_US, (start + 1) * HOUR_US, group, value),
            st.integers(0, 100_000),
            st.tuples(st.text(max_size=8), st.text(max_size=8)),
            st.none() | st.decimals(-(10**18), 10**18, places=18),
        ),
        max_size=20,
    )
)
def test_csv_and_json_say_the_same(rows: list[UsageRow]) -> None:
    given_answer = answer(rows, "customer", "model")
    expected = [
        [
            row["window_start"],
            row["window_end"],
            row["group"]["customer"],
            row["group"]["model"],
            row["value"] or "",
        ]
        for row in json.loads(usage_json(given_answer))["rows"]
    ]
    read = list(csv.reader(io.StringIO(usage_csv(given_answer).decode(), newline="")))
    assert read[0] == ["window_start", "window_end", "customer", "model", "value"]
    assert read[1:] == expected


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "application/json"),
        ("", "application/json"),
        ("*/*", "application/json"),
        ("text/csv", "text/csv"),
        ("TEXT/CSV; header=present", "text/csv"),
        ("text/*", "text/csv"),
        ("application/json;q=0.1, text/csv", "text/csv"),
        ("text/csv;q=0.5, */*", "application/json"),
        ("application/json;q=0, */*;q=0.1", "text/csv"),
        ("text/html, */*;q=0.1", "application/json"),
        ("text/html", None),
        ("text/csv;q=0", None),
        ("text/csv;q=many", None),
        ("nonsense", None),
    ],
)
def test_the_format_is_chosen_by_accept(accept: str | None, kind: str | None) -> None:
    if kind is None:
        with pytest.raises(NotAcceptable):
            chosen(accept, OFFERED)
    else:
        assert chosen(accept, OFFERED) == kind


def test_fifty_thousand_rows_are_written_in_half_a_second() -> None:
    rows = [
        UsageRow(
            hour * HOUR_US,
            (hour + 1) * HOUR_US,
            (f"customer-{one}", "gpt-4"),
            Decimal("1.500000000000000000"),
        )
        for hour in range(500)
        for one in range(100)
    ]
    made = answer(rows, "customer", "model")
    began = time.process_time()
    document = usage_json(made)
    assert time.process_time() - began < 0.5
    assert len(json.loads(document)["rows"]) == 50_000
