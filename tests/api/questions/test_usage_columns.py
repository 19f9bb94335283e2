"""Parquet and Arrow say what JSON says, exactly."""

import io
import json
from collections.abc import Iterator
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.api.questions.live import Live, Tenant

from tallystick.api.formats import ARROW, BATCH_ROWS, PARQUET, usage_columns, usage_json
from tallystick.api.wire import decimal_text, time_text
from tallystick.flows.overview import Change
from tallystick.flows.usage import UsageAnswer
from tallystick.metering.meter import Aggregation, Dimension, Meter
from tallystick.metering.query import UsageRow

METER = Meter(
    7, "t", "tokens", 2, "Tokens", "llm", Aggregation.SUM, "$.n", (Dimension("model", "$.m"),), unit="token"
)
HOUR_US = 3_600_000_000
KINDS = (PARQUET, ARROW)


def answer(rows: list[UsageRow], *group_by: str) -> UsageAnswer:
    return UsageAnswer(METER, 0, 2 * HOUR_US, "hour", "UTC", group_by, rows, (36,), "readings")


def read(pieces: bytes | Iterator[bytes], kind: str) -> pa.Table:
    content = pieces if isinstance(pieces, bytes) else b"".join(pieces)
    if kind == PARQUET:
        return pq.read_table(io.BytesIO(content))
    return pa.ipc.open_stream(content).read_all()


def rows_of(table: pa.Table, group_by: tuple[str, ...]) -> list[dict[str, object]]:
    """As the rows of the JSON answer."""
    assert not any(pa.types.is_floating(field.type) for field in table.schema)
    made: list[dict[str, object]] = []
    for row in table.cast(pa.schema([_as_number(field) for field in table.schema])).to_pylist():
        value = row["value"]
        made.append(
            {
                "window_start": time_text(row["window_start"]),
                "window_end": time_text(row["window_end"]),
                "group": {name: row[name] for name in group_by},
                "value": decimal_text(value) if isinstance(value, Decimal) else value,
            }
        )
    return made


def _as_number(field: pa.Field) -> pa.Field:
    return field.with_type(pa.int64()) if pa.types.is_timestamp(field.type) else field


figures = st.none() | st.one_of(
    st.decimals(-(10**19), 10**19, places=18),
    st.decimals(-(10**50), 10**50, places=18),
    st.integers(-(10**70), 10**70).map(Decimal),
)


@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            lambda start, group, value: UsageRow(start * HOUR_US + 1, (start + 1) * HOUR_US, group, value),
            st.integers(0, 100_000),
            st.tuples(
                st.none() | st.text(st.characters(codec="utf-8"), max_size=8), st.text("ab", max_size=8)
            ),
            figures,
        ),
        max_size=20,
    )
)
def test_columns_and_json_say_the_same(rows: list[UsageRow]) -> None:
    given_answer = answer(rows, "model", "customer")
    expected = json.loads(usage_json(given_answer))["rows"]
    for kind in KINDS:
        table = read(usage_columns(given_answer, kind, batch_rows=7), kind)
        assert rows_of(table, ("model", "customer")) == expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("99999999999999999999.999999999999999999", pa.decimal128(38, 18)),
        ("100000000000000000000", pa.decimal256(76, 18)),
        (
            "-9999999999999999999999999999999999999999999999999999999999.999999999999999999",
            pa.decimal256(76, 18),
        ),
        ("10000000000000000000000000000000000000000000000000000000000", pa.string()),
        ("0.0000000000000000001", pa.string()),
        ("0.1000000000000000000000", pa.decimal128(38, 18)),
    ],
)
def test_the_narrowest_type_that_holds_all(kind: str, value: str, expected: pa.DataType) -> None:
    rows = [UsageRow(0, 1, (), Decimal(1)), UsageRow(1, 2, (), Decimal(value)), UsageRow(2, 3, (), None)]
    table = read(usage_columns(answer(rows), kind), kind)
    assert table.schema.field("value").type == expected
    assert [None if one is None else Decimal(one) for one in table["value"].to_pylist()] == [
        Decimal(1),
        Decimal(value),
        None,
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_in_the_rows_is_in_the_metadata(kind: str) -> None:
    metadata = read(usage_columns(answer([]), kind), kind).schema.metadata
    told = {name.decode(): value.decode() for name, value in metadata.items()}
    assert (
        told
        | {
            "meter": "tokens",
            "version": "2",
            "aggregation": "sum",
            "unit": "token",
            "from": "1970-01-01T00:00:00Z",
            "to": "1970-01-01T02:00:00Z",
            "window": "hour",
            "timezone": "UTC",
            "position": "p1-10",
            "served_from": "readings",
        }
        == told
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_group_never_hides_a_column(kind: str) -> None:
    row = UsageRow(0, 1, ("a", "b", "c"), Decimal(5))
    table = read(usage_columns(answer([row], "value", "group.value", "previous"), kind), kind)
    assert table.column_names == [
        "window_start",
        "window_end",
        "group.value",
        "group.group.value",
        "previous",
        "value",
    ]
    assert list(table.to_pylist()[0].values())[2:] == ["a", "b", "c", Decimal(5)]


@pytest.mark.parametrize("kind", KINDS)
def test_changes_are_columns(kind: str) -> None:
    rows = [UsageRow(5, 9, (), Decimal(3)), UsageRow(9, 12, (), None)]
    changes = [
        Change(1, 5, Decimal(2), Decimal(1), Decimal(50)),
        Change(5, 9, Decimal(3), None, None),
    ]
    table = read(usage_columns(answer(rows), kind, changes), kind)
    assert table.column_names[3:] == [
        "previous_start",
        "previous_end",
        "previous",
        "change",
        "change_percent",
    ]
    assert table["change_percent"].to_pylist() == [Decimal(50), None]
    assert table["previous_start"].cast(pa.int64()).to_pylist() == [1, 5]


@pytest.mark.parametrize("kind", KINDS)
def test_no_more_than_a_batch_is_held(kind: str) -> None:
    rows = [UsageRow(at, at + 1, (f"g{at % 7}",), Decimal(at)) for at in range(3 * BATCH_ROWS + 5)]
    pieces = list(usage_columns(answer(rows, "customer"), kind))
    assert len(pieces) == 5
    assert max(map(len, pieces)) < 0.6 * sum(map(len, pieces))
    table = read(b"".join(pieces), kind)
    assert table["value"].to_pylist() == [row.value for row in rows]


@pytest.fixture(scope="module")
def filled(live: Live) -> Tenant:
    tenant = live.tenant()
    tenant.meter(key="n", event_type="t", aggregation="sum", value="$.n", dimensions={"m": "$.m"})
    tenant.record(
        *(
            {
                "id": str(number),
                "type": "t",
                "subject": f"s{number % 3}",
                "time": f"2026-07-0{1 + number % 5}T10:00:00Z",
                "data": {"n": f"0.{number:018}", "m": None if number % 4 else "x"},
            }
            for number in range(60)
        )
    )
    return tenant


@pytest.mark.parametrize("kind", KINDS)
def test_over_http(filled: Tenant, kind: str) -> None:
    path = (
        "/v1/meters/n/usage?from=2026-07-01T00:00:00Z&to=2026-07-10T00:00:00Z&window=day&group_by=customer,m"
    )
    expected = filled.answer(path)["rows"]
    assert len(expected) == 30
    response = filled.get(path, headers={"accept": kind})
    assert response.headers["content-type"] == kind
    assert response.headers["tallystick-position"].startswith(("p1-", "p2-"))
    assert rows_of(read(response.content, kind), ("customer", "m")) == expected
    compared = filled.get(f"{path}&compare=previous", headers={"accept": kind})
    assert read(compared.content, kind)["previous"].null_count == 0
    assert filled.get("/v1/meters/none/usage", headers={"accept": kind}).status_code == 404
