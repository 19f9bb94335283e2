"""Readings that the engine derives itself are those of metering/reading.py, whatever the data looks like."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.store.contract import NOON, a_meter, an_event, table
from tests.store.versions_contract import Fact, corrections

from tallystick.flows.derive import readings_of
from tallystick.metering.evaluate import OracleEvent
from tallystick.metering.meter import Aggregation, Dimension, Meter
from tallystick.store import build
from tallystick.store.clickhouse import ClickHouseStore
from tallystick.store.interface import Derived


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseStore]:
    made = ClickHouseStore(f"chdb:///{tmp_path_factory.mktemp('store')}")
    made.migrate()
    yield made
    made.close()


MODEL, REGION = Dimension("model", "$.model"), Dimension("region", "$['the region']")
METERS = [
    a_meter(Aggregation.COUNT, id=1, dimensions=(MODEL, REGION)),
    a_meter(Aggregation.SUM, id=2, dimensions=(MODEL,)),
    a_meter(Aggregation.SUM, id=3, filter='data.model == "a" && data.n == "x"'),
    a_meter(Aggregation.MAX, id=4, filter='data.model == "a"', dimensions=(REGION,)),
    a_meter(Aggregation.UNIQUE_COUNT, id=5),
    a_meter(Aggregation.REGISTER, id=6),
    a_meter(Aggregation.SUM, id=7, filter="data.model != 'a'"),
    a_meter(Aggregation.SUM, id=8, value="$.deep.n"),
]
TEXTS = ["a", "", "ä, }", "x:y", "{", "[", 'q"', "\\", "\n", "-", "null", "true", '"model":', "b" * 1030]
NUMBERS = [
    "0",
    "-0",
    "7",
    "-12.50",
    "1e3",
    "1E-2",
    "0.1234567890123456789",
    "12345678901234567890",
    "1" * 25,
    "01",
]
scalars = st.one_of(
    st.sampled_from(TEXTS).map(json.dumps),
    st.sampled_from(NUMBERS[:-1]),
    st.sampled_from(NUMBERS).map(json.dumps),
    st.sampled_from(["null", "true", "false", "{}", "[1]", '{"n":5,"model":"z"}', '"\\u0061"', '"\\ud800"']),
)
names = st.sampled_from(["n", "model", "the region", "deep", "mod", "xmodel", 'q"n', "\\u006e"])
spaces = st.sampled_from([("", "", ""), ("", " ", " "), (" ", "", ""), ("", "\n", ""), ("\t", " ", "  ")])


@st.composite
def data_of(draw: st.DrawFn) -> bytes:
    members = draw(st.dictionaries(names, scalars, max_size=5))
    if "n" in members:
        members.pop("\\u006e", None)  # the same name: ingest refuses it twice
    before, after, around = draw(spaces)
    written = [f'"{name}"{before}:{after}{value}'.replace('q"n', 'q\\"n') for name, value in members.items()]
    return f"{{{around}{f'{around},{around}'.join(written)}{around}}}".encode()


def built(store: ClickHouseStore, meters: list[Meter]) -> tuple[Counter[Any], int]:
    """Build into the table of readings, and read it back; how many rows the engine made itself."""
    store.delete_readings(None)
    itself = 0
    for number, step in enumerate(store.derivations(meters, recorded_by_us=NOON * 2)):
        if isinstance(step, Derived):
            before = store.counts()["readings"]
            step.insert()
            assert store.counts()["readings"] - before == step.rows
            itself += step.rows
        else:
            for sign, readings in readings_of(step.meters, step.versions):
                store.insert_readings(readings, token=f"{number}:{sign}")
    columns = "meter, customer, subject, toUnixTimestamp64Micro(time), toString(value), text, d0, d1, position, sign"
    return Counter(store._connection.rows(f"SELECT {columns} FROM readings")), itself  # pyright: ignore[reportPrivateUsage]


def in_python(meters: list[Meter], versions: pa.Table) -> Counter[Any]:
    found: Counter[Any] = Counter()
    for _, readings in readings_of(meters, versions):
        readings = readings.set_column(
            readings.schema.get_field_index("time"), "time", readings["time"].cast(pa.int64())
        )
        found.update(
            (
                row["meter"], row["customer"], row["subject"], row["time"], _written(row["value"]), row["text"],
                row["d0"], row["d1"], row["position"], row["sign"],
            )
            for row in readings.to_pylist()
        )  # fmt: skip
    return found


def _written(value: Any) -> str:
    text = format(value, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


@pytest.fixture(autouse=True)
def everything_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_LEFT_SHARE_MAX", 1.0)
    monkeypatch.setattr(build, "STEP_POSITIONS", 7)


def emptied(store: ClickHouseStore) -> None:
    for name in ("events", "corrections"):
        store._connection.command(f"TRUNCATE TABLE {name} SYNC")  # pyright: ignore[reportPrivateUsage]


@given(st.lists(data_of(), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_engine_and_python_read_the_same(store: ClickHouseStore, data: list[bytes]) -> None:
    emptied(store)
    # Every seventh belongs to nobody, and gives nothing to any meter.
    events = [
        an_event(number, data=one, customer="" if number % 7 == 3 else "c1")
        for number, one in enumerate(data, 1)
    ]
    events.append(an_event(len(events) + 1, data=b""))
    store.insert_events(table(events), token=f"{id(data)}")
    versions = pa.Table.from_batches(list(store.events_of("default", None, recorded_by_us=NOON * 2)))
    assert built(store, METERS)[0] == in_python(METERS, versions)


def plain(number: int) -> OracleEvent:
    return an_event(number, data=b'{"n": %d.5, "model": "a", "the region":"r%d"}' % (number, number % 3))


def test_plain_events_never_leave_the_engine(store: ClickHouseStore) -> None:
    emptied(store)
    store.insert_events(table([plain(number) for number in range(1, 41)]), token="plain")
    usual = [METERS[0], METERS[1], METERS[3]]
    rows, itself = built(store, usual)
    assert (sum(rows.values()), itself) == (120, 120)


def test_events_of_nobody_give_no_readings(store: ClickHouseStore) -> None:
    emptied(store)
    nobody = [an_event(number, customer="" if number % 2 else "c1") for number in range(1, 9)]
    store.insert_events(table(nobody), token="nobody")
    assert sum(built(store, [METERS[0]])[0].values()) == 4


def test_corrected_events_are_left_to_python(store: ClickHouseStore, monkeypatch: pytest.MonkeyPatch) -> None:
    from tallystick.store import versions

    monkeypatch.setattr(versions, "RANGE_POSITIONS", 10)
    emptied(store)
    events = [plain(number) for number in range(1, 41)]
    store.insert_events(table(events), token="corrected")
    store.insert_corrections(corrections([Fact(41, 12, 12, "retract", NOON + 99, an_event(12))]), token="c")
    rows, itself = built(store, [METERS[1]])
    assert sum(rows.values()) == 41  # one of them with sign -1
    assert [row[-2] for row in rows if row[-1] == -1] == [12]
    assert itself == 29  # all but those of the range of the event, and of that of its correction
