"""The contract on the embedded engine, and what is the embedded engine's own: crashes, limits, errors."""

import os
import random
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.store.contract import DAY, HOUR, NOON, StoreContract, a_meter, a_query, an_event, record, table
from tests.store.partition_contract import PartitionContract
from tests.store.questions_contract import QuestionsContract, a_meter_of, record_readings, states
from tests.store.rollups_contract import RollupsContract
from tests.store.versions_contract import VersionsContract

from tallystick.errors import Invalid, TimedOut, Unavailable
from tallystick.metering.meter import Aggregation
from tallystick.metering.reading import derive
from tallystick.store.clickhouse import ClickHouseStore
from tallystick.store.connection import Connection
from tallystick.store.engine import BLOCK_ROWS_MAX, engine_of
from tallystick.store.interface import FACTS, EventSearch, RollupView, Store

SideDoor = Callable[[str], None]


@pytest.fixture(scope="module")
def engine_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    # One process can have one engine directory open, so all tests of a module share it.
    return f"chdb://{tmp_path_factory.mktemp('store')}/a store, 100% ü"


@pytest.fixture(scope="module")
def shared(engine_url: str) -> Iterator[ClickHouseStore]:
    store = ClickHouseStore(engine_url.replace("%", "%25"))
    yield store
    store.close()


@pytest.fixture(scope="module")
def door(engine_url: str, shared: ClickHouseStore) -> Iterator[Connection]:
    connection = Connection(
        engine_of(engine_url.replace("%", "%25")), query_time_s_max=10, query_memory_bytes_max=10**9
    )
    yield connection
    connection.close()


@pytest.fixture
def side_door(door: Connection) -> SideDoor:
    """Statements that bypass the store."""
    return door.command


@pytest.fixture
def store(shared: ClickHouseStore, side_door: SideDoor) -> Store:
    shared.migrate()
    for name in (*FACTS, "readings", *(view.value for view in RollupView), "fences", "token_salts"):
        side_door(f"TRUNCATE TABLE {name} SYNC")
    return shared


class TestChdb(StoreContract):
    pass


class TestChdbQuestions(QuestionsContract):
    pass


class TestChdbVersions(VersionsContract):
    pass


class TestChdbRollups(RollupsContract):
    pass


class TestChdbPartitions(PartitionContract):
    pass


def test_facts_are_synced_and_indexed(store: Store, door: Connection) -> None:
    for name in ("events", "duplicates", "conflicts", "corrections", "staged"):
        ((declared,),) = door.rows(
            "SELECT create_table_query FROM system.tables WHERE database = currentDatabase() AND name = {n:String}",
            {"n": name},
        )
        assert "fsync_after_insert = 1" in declared
        assert "fsync_part_directory = 1" in declared
        assert "non_replicated_deduplication_window = 1000" in declared
        assert "PARTITION BY" not in declared  # an insert of facts is one part


def test_hostile_times_make_at_most_a_partition_a_month_from_2015_on(store: Store, door: Connection) -> None:
    times = [-62_135_596_800_000_000, *range(-(10**15), 1_420_070_400_000_000, 10**13)]
    record(store, [a_meter(Aggregation.COUNT)], [an_event(i + 1, time_us=t) for i, t in enumerate(times)])
    parts = "SELECT count(DISTINCT partition) FROM system.parts WHERE active AND table = {n:String}"
    assert door.rows(parts, {"n": "readings"}) == [(1,)]
    assert door.rows(parts, {"n": "events"}) == [(1,)]


def test_facts_from_before_their_codecs_are_kept_and_read_with_those_after(
    store: Store, door: Connection
) -> None:
    door.command(
        "ALTER TABLE events MODIFY COLUMN time DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),"
        " MODIFY COLUMN position UInt64 CODEC(Delta, ZSTD(1)), MODIFY COLUMN data String CODEC(ZSTD(1))"
    )
    door.command("ALTER TABLE schema_versions DELETE WHERE version = 4")
    store.insert_events(table([an_event(1), an_event(2)]), token="before")
    store.migrate()
    codec = "SELECT compression_codec FROM system.columns WHERE table = 'events' AND name = 'time'"
    assert door.rows(codec) == [("CODEC(GCD, T64, ZSTD(1))",)]
    store.insert_events(table([an_event(3)]), token="after")

    def events() -> list[dict[str, Any]]:
        found = [event for block in store.events_of("default", None) for event in block.to_pylist()]
        return sorted(found, key=lambda event: event["position"])

    kept = events()
    assert [event["position"] for event in kept] == [1, 2, 3]
    door.command("OPTIMIZE TABLE events FINAL")
    assert events() == kept


def test_a_question_cannot_write(store: Store, door: Connection) -> None:
    with pytest.raises(Unavailable, match="engine code 164"):
        door.rows("INSERT INTO schema_versions (version, name) SELECT 99, 'x'")


def test_limits_become_clear_errors_without_sql(door: Connection, engine_url: str) -> None:
    connection = Connection(
        engine_of(engine_url.replace("%", "%25")), query_time_s_max=1, query_memory_bytes_max=50_000_000
    )
    try:
        with pytest.raises(TimedOut, match="query_time_s_max"):
            connection.rows("SELECT count() FROM numbers(1e12)")
        with pytest.raises(Unavailable, match="store_memory_bytes_max") as refused:
            connection.rows("SELECT uniqExact(number) FROM numbers(1e8)")
        assert refused.value.retry_after_s == 2
        with pytest.raises(Unavailable) as refused:
            connection.rows("SELECT secret FROM nowhere")
        assert "SELECT" not in str(refused.value)
        assert connection.rows("SELECT 1") == [(1,)]
    finally:
        connection.close()


def test_a_full_disk_refuses_and_the_insert_can_be_repeated(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The client hands an insert to the engine through a file in the temporary directory.
    full = "/dev/full"

    class Full:
        name = full

        def __init__(self, **_: object) -> None:
            self._file = Path(full).open("wb", buffering=0)  # noqa: SIM115

        def write(self, data: bytes) -> int:
            return self._file.write(data)

        def close(self) -> None:
            self._file.close()

    with monkeypatch.context() as patched:
        patched.setattr("tempfile.NamedTemporaryFile", Full)
        patched.setattr(os, "unlink", lambda _: None)
        with pytest.raises(Unavailable, match="disk is full") as refused:
            store.insert_events(table([an_event(1)]), token="t")
    assert refused.value.retry_after_s == 2
    assert store.counts()["events"] == 0
    store.insert_events(table([an_event(1)]), token="t")
    assert store.counts()["events"] == 1


def test_a_closed_store_is_unavailable(engine_url: str, door: Connection) -> None:
    closed = ClickHouseStore(engine_url.replace("%", "%25"))
    closed.ping()
    closed.close()
    with pytest.raises(Unavailable, match="closed"):
        closed.ping()


def test_another_directory_in_one_process_is_refused(store: Store, tmp_path: Path) -> None:
    other = ClickHouseStore(f"chdb://{tmp_path}/other")
    with pytest.raises(Unavailable):
        other.ping()
    other.close()


@pytest.mark.parametrize(
    "url", ["", "chdb://", "chdb:///", "chdb://host/x", "mysql://h/d", "http://", "/tmp/x"]
)
def test_an_unknown_url_is_refused(url: str) -> None:
    with pytest.raises(Invalid, match="chdb:///path"):
        ClickHouseStore(url)


def test_an_unreachable_server_is_unavailable() -> None:
    served = ClickHouseStore("http://user:secret@127.0.0.1:9/db")
    with pytest.raises(Unavailable) as refused:
        served.ping()
    assert "secret" not in str(refused.value)
    assert refused.value.retry_after_s == 2
    with pytest.raises(Unavailable):
        next(served.events_of("default", ["call"]))
    served.close()


def test_a_late_question_sees_what_was_recorded_by_then(store: Store) -> None:
    meter = a_meter(Aggregation.COUNT)
    events = [an_event(i) for i in range(1, 4)]
    record(store, [meter], events)
    late = [an_event(4, time_us=events[0].time_us)]
    before = store.usage(a_query(meter, as_of_us=events[2].recorded_at_us), rows_max=1)
    record(store, [meter], late, token="late")
    assert store.usage(a_query(meter, as_of_us=events[2].recorded_at_us), rows_max=1) == before
    assert store.usage(a_query(meter), rows_max=1)[0].value == 4


def test_too_many_values_are_refused_not_estimated(store: Store, engine_url: str) -> None:
    percentile, total = a_meter(Aggregation.P99), a_meter(Aggregation.SUM, id=2)
    record(store, [percentile, total], [an_event(i, customer=f"c{i}") for i in range(1, 5)])
    narrow = ClickHouseStore(engine_url.replace("%", "%25"), usage_values_max=3)
    try:
        with pytest.raises(Invalid, match="more than 3 readings") as refused:
            narrow.usage(a_query(percentile), rows_max=9)
        assert refused.value.code == "too_many_values"
        assert narrow.usage(a_query(percentile, customers=("c1", "c2", "c3")), rows_max=9)[0].value == 1
        assert narrow.usage(a_query(total), rows_max=9)[0].value == 4
    finally:
        narrow.close()


def test_the_past_of_a_pair_counts_as_values_held(store: Store, engine_url: str) -> None:
    meter = a_meter_of(Aggregation.DURATION)
    meter_out = replace(meter, timeout_us=HOUR)
    # Nine readings of one session before the range, one stop in it.
    record_readings(store, [meter], states([(at, "start") for at in range(9)] + [(DAY, "stop")]))
    asked = a_query(meter, (NOON + DAY - HOUR, NOON + 2 * DAY))
    for values_max, refused in ((9, True), (10, False)):
        narrow = ClickHouseStore(engine_url.replace("%", "%25"), usage_values_max=values_max)
        try:
            if refused:
                with pytest.raises(Invalid) as error:
                    narrow.usage(asked, rows_max=9)
                assert error.value.code == "too_many_values"
            else:
                assert narrow.usage(asked, rows_max=9)[0].value == 3600
            # With a timeout none of these pairs is near the range, so that none is held.
            assert narrow.usage(replace(asked, meter=meter_out), rows_max=9) == []
        finally:
            narrow.close()


@pytest.fixture
def groups(store: Store) -> int:
    """Readings of a meter, each of a group of its own; how many."""
    number = 350_000
    one = derive([a_meter(Aggregation.SUM)], table([an_event(1)]))
    names = pa.array([f"group-{i * 7919 % number:09}" for i in range(number)], pa.string())
    rows = one.take(pa.array(np.zeros(number, np.int64)))
    rows = rows.set_column(
        rows.schema.get_field_index("d0"), rows.schema.field("d0"), names.cast(rows["d0"].type)
    )
    store.insert_readings(rows, token="groups")
    return number


def test_an_answer_of_any_size_is_held_a_block_at_a_time(store: Store, groups: int) -> None:
    asked = a_query(a_meter(Aggregation.SUM), (NOON - DAY, NOON, NOON + DAY), group_by=("model",))
    assert store.usage_extent(asked, rows_max=groups, time_s_max=60).rows == groups
    with pytest.raises(Invalid, match="usage_stream_rows_max"):
        store.usage_extent(asked, rows_max=groups - 1, time_s_max=60)
    before, names, most = pa.total_allocated_bytes(), 0, 0
    for block in store.usage_batches(asked, rows_max=groups, time_s_max=60):
        assert 0 < block.num_rows <= BLOCK_ROWS_MAX
        assert block["g0"].to_pylist() == [f"group-{names + i:09}" for i in range(block.num_rows)]
        names += block.num_rows
        most = max(most, pa.total_allocated_bytes() - before)
        assert block["value"][0].as_py() == 1
    assert names == groups
    assert most < 40 * 1024 * 1024


def test_an_answer_that_is_not_read_to_its_end_frees_the_engine(
    store: Store, groups: int, door: Connection
) -> None:
    asked = a_query(a_meter(Aggregation.SUM), group_by=("model",))

    def running() -> int:
        found = door.rows("SELECT count() FROM system.processes WHERE query LIKE '%assumeNotNull(figure)%'")
        return found[0][0] - 1  # the one that asks

    blocks = store.usage_batches(asked, rows_max=groups, time_s_max=60)
    next(blocks)
    assert running() == 1
    blocks.close()
    assert running() == 0


def test_a_streamed_answer_keeps_within_its_time_and_memory(
    store: Store, groups: int, engine_url: str
) -> None:
    asked = a_query(a_meter(Aggregation.SUM), group_by=("model",))
    narrow = ClickHouseStore(engine_url.replace("%", "%25"), query_memory_bytes_max=2_000_000)
    try:
        with pytest.raises(Unavailable, match="store_memory_bytes_max"):
            narrow.usage_extent(asked, rows_max=groups, time_s_max=60)
        with pytest.raises(Unavailable, match="store_memory_bytes_max"):
            next(narrow.usage_batches(asked, rows_max=groups, time_s_max=60))
    finally:
        narrow.close()


_WRITER = """
    import sys
    from tests.store.contract import a_meter, an_event, record
    from tallystick.metering.meter import Aggregation
    from tallystick.store.clickhouse import ClickHouseStore

    store = ClickHouseStore(sys.argv[1])
    store.migrate()
    meter = a_meter(Aggregation.COUNT)
    # A recorder does not know whether its last batch got in, so it begins with that one, and counts it: a killed engine
    # can know the token of rows that it has lost (decision 0049).
    first = batch = int(sys.argv[2])
    while batch < int(sys.argv[3]):
        # 500 events over 30 months.
        moment = 1_700_000_000_000_000 + batch
        events = [
            an_event(
                batch * 500 + i + 1, time_us=1_500_000_000_000_000 + i * 150_000_000_000, recorded_at_us=moment
            )
            for i in range(500)
        ]
        print("begun", batch, flush=True)
        record(store, [meter], events, token=f"batch-{batch}")
        there = store.rows_at_moment(moment)
        if batch == first and (there["events"], there["readings"]) != (500, 500):
            print("anew", there["events"], there["readings"], flush=True)
            store.delete_moment(moment)
            record(store, [meter], events, token=f"batch-{batch}")
        print("done", batch, flush=True)
        batch += 1
    counts = store.counts()
    print("counts", counts["events"], counts["readings"], flush=True)
    positions = [p for b in store.identities(after=0, through=10**9) for p in b.column("position").to_pylist()]
    print("distinct", len(set(positions)), flush=True)
    store.close()
"""


@pytest.mark.slow
def test_a_killed_writer_that_repeats_its_last_batch_has_every_row_once(tmp_path: Path) -> None:
    chance = random.Random(7)
    url = f"chdb://{tmp_path}/store"
    batches, next_batch, done = 40, 0, -1
    for round_ in range(6):
        last = round_ == 5
        writer = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(_WRITER), url, str(next_batch), str(batches)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert writer.stdout is not None
        stop_after = chance.randrange(2, 8)
        lines: list[list[str]] = []
        for line in writer.stdout:
            lines.append(line.split())
            begun = sum(words[0] == "begun" for words in lines)
            if not last and lines[-1][0] == "begun" and begun == stop_after:
                # Somewhere within the insert.
                signal.sigtimedwait([], chance.random() * 0.15)
                writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        finished = [int(words[1]) for words in lines if words[0] == "done"]
        done = max([done, *finished])
        next_batch = done  # one that is certainly in, and whatever may be
    assert next_batch == batches - 1
    assert ["counts", str(batches * 500), str(batches * 500)] in lines
    assert ["distinct", str(batches * 500)] in lines


def test_search_before_the_first(store: Store) -> None:
    store.insert_events(table([an_event(1)]), token="t")
    assert store.search(EventSearch("default", before_position=1)) == []
