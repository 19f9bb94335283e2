"""The keeper of roll-ups, over a real store: kept up, complete, begun anew whenever anything is not as it must be."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.flows.rig import NOW_US, Failing, Rig, event, eventually

from tallystick.errors import Invalid, Unavailable
from tallystick.flows import rollup
from tallystick.flows.journal import Coverage
from tallystick.flows.rollup import AGGREGATIONS, RollupKeeper
from tallystick.log.checkpoint import SqliteCheckpoint
from tallystick.metering.meter import Aggregation, Dimension, Meter
from tallystick.metering.query import UsageQuery
from tallystick.metering.reading import READING_SCHEMA
from tallystick.store import rollups as store_rollups
from tallystick.store.clickhouse import ClickHouseStore
from tallystick.store.connection import Connection

HOUR_US = 3_600_000_000


def a_meter(number: int = 1, aggregation: Aggregation = Aggregation.SUM) -> Meter:
    return Meter(
        id=number,
        tenant="default",
        key=f"m{number}",
        version=1,
        name="m",
        event_type="call",
        aggregation=aggregation,
        value="$.n",
        dimensions=(Dimension("model", "$.model"),),
    )


@dataclass
class FakeRecorder:
    """What the keeper asks of a recorder."""

    store: Any
    generation: int = 1
    recorded_at_us: int = 0
    readings_expected: int = 0
    recovered: bool = True
    rebuilds_wanted: int = 0
    covered: dict[int, Coverage] = field(default_factory=dict[int, Coverage])
    meters: dict[int, Meter] = field(default_factory=dict[int, Meter])
    position: int = 0

    def coverage(self) -> dict[int, Coverage]:
        return dict(self.covered)

    def want_rebuild(self) -> None:
        self.rebuilds_wanted += 1

    def meters_by_id(self, ids: Any) -> dict[int, Meter]:
        return {key: meter for key, meter in self.meters.items() if key in ids}

    def add(self, meter: Meter) -> None:
        self.meters[meter.id] = meter
        self.covered[meter.id] = Coverage(from_us=0, built=True)

    def record(
        self,
        values: list[int],
        *,
        sign: int = 1,
        first: int | None = None,
        spread: int = 10,
        gap_hours: int = 1,
    ) -> None:
        """A batch: one reading a value for each meter, `spread` of them an hour."""
        self.recorded_at_us += 1
        n = len(values)
        first = self.position if first is None else first
        self.position = max(self.position, first + n)
        for meter in self.meters.values():
            columns: dict[str, Any] = dict.fromkeys(READING_SCHEMA.names, [None] * n) | {
                "tenant": ["default"] * n,
                "meter": [meter.id] * n,
                "customer": [f"c{(first + i) % 2}" for i in range(n)],
                "subject": ["s"] * n,
                "time": [NOW_US + (first + i) // spread * gap_hours * HOUR_US for i in range(n)],
                "value": [Decimal(v) for v in values],
                "text": [""] * n,
                "d0": [f"model {(first + i) % 3}" for i in range(n)],
                "position": range(first, first + n),
                "recorded_at": [self.recorded_at_us] * n,
                "sign": [sign] * n,
            }
            arrays = [
                pa.array(columns[f.name], pa.int64()).cast(f.type)
                if pa.types.is_timestamp(f.type)
                else pa.array(columns[f.name], f.type)
                for f in READING_SCHEMA
            ]
            rows = pa.Table.from_arrays(arrays, schema=READING_SCHEMA)
            self.store.insert_readings(rows, token=f"{self.generation}:{meter.id}:{self.recorded_at_us}")
            self.readings_expected += n


@dataclass
class Scene:
    store: Any
    failing: Failing
    recorder: FakeRecorder
    directory: Path
    side_door: Connection
    keeper: Any = None
    now_s: float = 0.0

    def keep(self) -> RollupKeeper:
        """A keeper as a new process would have it."""
        if self.keeper is not None:
            self.keeper.close()
        recorder: Any = self.recorder
        store: Any = self.failing
        self.keeper = RollupKeeper(
            store=store,
            catalog=recorder,
            recorder=recorder,
            checkpoint=SqliteCheckpoint(self.directory / "rollups.sqlite"),
            elapsed_s=lambda: self.now_s,
        )
        return self.keeper

    def ask(self, meter: Meter, *, as_of_us: int | None = None, **changes: Any) -> Any:
        """From roll-ups, held to the readings; None where the roll-ups do not answer."""
        from_us, to_us = NOW_US - 5 * HOUR_US - 7, NOW_US + 5000 * HOUR_US + 11
        query = UsageQuery(
            meter=meter,
            from_us=from_us,
            to_us=to_us,
            edges_us=(from_us, to_us),
            as_of_us=self.recorder.recorded_at_us if as_of_us is None else as_of_us,
            **({"group_by": ("customer", "model")} | changes),
        )
        rows = self.keeper.usage(query, rows_max=100)
        if rows is not None:
            assert rows == self.store.usage(query, rows_max=100)
        return rows


@pytest.fixture
def scene(engine_url: str, side_door: Connection, tmp_path: Path) -> Iterator[Scene]:
    store = ClickHouseStore(engine_url)
    store.migrate()
    for name in ("readings", "rollups"):
        side_door.command(f"TRUNCATE TABLE {name} SYNC")
    failing = Failing(store)
    made = Scene(store, failing, FakeRecorder(store), tmp_path, side_door)
    made.recorder.add(a_meter())
    made.keep()
    yield made
    made.keeper.close()
    store.close()


def test_nothing_is_answered_before_it_is_rolled_up(scene: Scene) -> None:
    meter = a_meter()
    scene.recorder.record([1, 2, 3])
    assert scene.ask(meter) is None
    scene.keeper.advance()
    assert len(scene.ask(meter)) == 3
    assert scene.keeper.status.readings == 3
    assert scene.keeper.status.upto_us == 1
    scene.recorder.record([4])
    assert sum(row.value for row in scene.ask(meter)) == 10  # fresh ones come from the readings
    assert scene.ask(meter, as_of_us=0) is None
    scene.keeper.advance()
    assert sum(row.value for row in scene.ask(meter)) == 10
    assert scene.ask(meter, as_of_us=1) is None
    assert scene.ask(meter, group_by=("subject",)) is None


def test_a_new_meter_catches_up_beside_the_others(scene: Scene) -> None:
    scene.recorder.record([1, 2, 3])
    scene.keeper.advance()
    scene.recorder.add(a_meter(2, Aggregation.MAX))
    scene.recorder.add(a_meter(3, Aggregation.LATEST))
    scene.recorder.covered[2] = Coverage(from_us=9, built=False)
    scene.recorder.record([5, 7])
    scene.keeper.advance()
    assert scene.ask(a_meter(2, Aggregation.MAX)) is None
    scene.recorder.covered[2] = Coverage(from_us=9, built=True)
    scene.keeper.advance()
    assert max(row.value for row in scene.ask(a_meter(2, Aggregation.MAX))) == 7
    assert scene.ask(a_meter(3, Aggregation.LATEST)) is None
    assert scene.keeper.status.meters == 2
    del scene.recorder.covered[2]
    scene.keeper.advance()
    assert scene.store.rolled_up() == {1: (5, 0)}


def test_what_left_service_is_rolled_up_to_its_end(scene: Scene) -> None:
    scene.recorder.record([1, 2])
    scene.recorder.covered[1] = Coverage(from_us=0, built=True, until_us=1)
    del scene.recorder.meters[1]
    scene.recorder.recorded_at_us = 9
    scene.recorder.meters[1] = a_meter()
    scene.keeper.advance()
    assert sum(row.value for row in scene.ask(a_meter(), as_of_us=1)) == 3


def test_corrections_are_rolled_up_too(scene: Scene) -> None:
    meter = a_meter()
    scene.recorder.record([1, 2, 3])
    scene.keeper.advance()
    scene.recorder.record([2], sign=-1, first=1)
    assert sum(row.value for row in scene.ask(meter)) == 4
    scene.keeper.advance()
    assert sum(row.value for row in scene.ask(meter)) == 4


@pytest.mark.parametrize(
    "loss",
    [
        "TRUNCATE TABLE rollups SYNC",
        "DROP TABLE rollups SYNC",
        "ALTER TABLE rollups DELETE WHERE d0 = 'model 1' SETTINGS mutations_sync = 2",
        "INSERT INTO rollups SELECT * FROM rollups",
    ],
)
def test_roll_ups_that_are_not_as_they_were_answer_nothing_and_are_made_anew(scene: Scene, loss: str) -> None:
    meter = a_meter()
    scene.recorder.record([1, 2, 3])
    scene.keeper.advance()
    scene.side_door.command(loss)
    assert scene.ask(meter) is None
    assert scene.keeper._is_due()
    scene.keeper.advance()
    assert not scene.keeper._is_due()
    assert len(scene.ask(meter)) == 3


def test_readings_built_anew_are_rolled_up_anew(scene: Scene) -> None:
    scene.recorder.record([1, 2, 3])
    scene.keeper.advance()
    scene.store.delete_readings(None)
    scene.recorder.generation, scene.recorder.readings_expected = 2, 0
    assert scene.ask(a_meter()) is None
    scene.recorder.record([8])
    scene.keeper.advance()
    assert [row.value for row in scene.ask(a_meter())] == [8]


def test_missing_readings_are_told_and_not_relied_on(scene: Scene) -> None:
    scene.recorder.record([1, 2, 3])
    scene.side_door.command("TRUNCATE TABLE readings SYNC")
    scene.keeper.advance()
    assert scene.recorder.rebuilds_wanted == 1
    assert scene.ask(a_meter()) is None


@pytest.mark.parametrize("refused", ["build_rollups", "rolled_up", "rollup_plan", "count_readings"])
def test_a_store_that_refuses_changes_nothing(scene: Scene, refused: str) -> None:
    scene.recorder.record([1, 2, 3])
    scene.keeper.advance()
    scene.recorder.record([4])
    scene.failing.refuse = {refused}
    with pytest.raises(Unavailable):
        scene.keeper.advance()
    scene.failing.refuse = set()
    rows = scene.ask(a_meter())
    if refused == "count_readings":  # all of it is in, and not yet known to be
        assert rows is None
    else:
        assert sum(row.value for row in rows) == 10
    scene.keeper.advance()
    assert sum(row.value for row in scene.ask(a_meter())) == 10
    assert scene.store.rolled_up() == {1: (4, 0)}


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("after", range(1, 9))
def test_a_step_cut_short_anywhere_is_settled(
    scene: Scene, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before or after each write of the keeper, in turn, over a step of three chunks."""
    monkeypatch.setattr(store_rollups, "CHUNK_READINGS", 1)
    scene.recorder.record([1, 2, 3])
    scene.keeper.advance()
    scene.recorder.record([4, 5, 6], first=20_000)
    scene.recorder.record([7, 8, 9], first=40_000)
    left = after
    keeper = scene.keeper

    def counting(name: str, target: Callable[..., Any]) -> Callable[..., Any]:
        def call(*positional: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0 and after % 2:
                raise Killed
            answer = target(*positional, **named)
            if left == 0:
                raise Killed
            return answer

        return call

    with monkeypatch.context() as patched:
        patched.setattr(keeper, "_save", counting("save", keeper._save))
        patched.setattr(keeper, "_store", Counted(scene.failing, counting))
        try:
            keeper.advance()
        except Killed:
            pass
        else:
            assert left > 0  # there was less to do
    scene.keep()
    for _ in range(3):
        scene.keeper.advance()
    assert sum(row.value for row in scene.ask(a_meter())) == 45
    assert scene.store.rolled_up() == {1: (9, 0)}


class Counted:
    """A store whose changes of roll-ups go through `wrap`."""

    def __init__(self, store: Any, wrap: Callable[..., Any]) -> None:
        self._store, self._wrap = store, wrap

    def __getattr__(self, name: str) -> Any:
        target = getattr(self._store, name)
        return self._wrap(name, target) if name in {"build_rollups", "delete_rollups"} else target


def test_what_does_not_shrink_is_not_kept(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollup, "JUDGED_FROM_READINGS", 40)
    scene.recorder.record([1] * 48, spread=1, gap_hours=24)
    scene.keeper.advance()
    assert scene.keeper.status.by_day == (1,)
    assert scene.keeper.status.not_kept == ()
    scene.keeper.advance()
    assert scene.keeper.status.by_day == ()
    assert scene.keeper.status.not_kept == (1,)
    assert scene.ask(a_meter()) is None
    assert scene.store.rolled_up() == {}
    scene.recorder.record([1] * 48, spread=1, gap_hours=24)
    scene.keep()
    scene.keeper.advance()
    assert scene.store.rolled_up() == {}
    assert scene.keeper.status.not_kept == (1,)


def test_what_hours_do_not_shrink_is_rolled_up_by_day(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollup, "JUDGED_FROM_READINGS", 40)
    scene.recorder.record([1] * 480, spread=2)
    scene.keeper.advance()
    scene.keeper.advance()
    assert scene.keeper.status.by_day == (1,)
    assert len(scene.ask(a_meter())) == 6
    scene.keep()
    assert len(scene.ask(a_meter())) == 6
    assert scene.store.rollup_groups([1]) == {1: 66}


def test_what_does_not_shrink_is_found_out_before_all_of_it_is_rolled_up(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollup, "JUDGED_FROM_READINGS", 20)
    monkeypatch.setattr(store_rollups, "CHUNK_READINGS", 50)
    scene.recorder.record([1] * 400, spread=1, gap_hours=24)
    built: list[Any] = []
    monkeypatch.setattr(
        scene.failing,
        "build_rollups",
        lambda *a, **k: (built.append(a), scene.store.build_rollups(*a, **k)),
        False,
    )
    scene.keeper.advance()
    assert len(built) < 5
    scene.keeper.advance()
    assert len(built) < 8
    assert scene.keeper.status.not_kept == (1,)
    assert scene.store.rolled_up() == {}


def test_what_shrinks_is_kept(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollup, "JUDGED_FROM_READINGS", 40)
    scene.recorder.record([1] * 480, spread=480)
    scene.keeper.advance()
    assert scene.keeper.status.not_kept == ()
    assert scene.store.rollup_groups([1]) == {1: 6}


def test_a_step_that_comes_in_between_is_noticed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question that began with the roll-ups of one moment and sees those of the next would count twice."""
    meter = a_meter()
    scene.recorder.record([1, 2, 3])
    scene.keeper.advance()
    scene.recorder.record([4])
    asked = 0

    def meanwhile(*positional: Any, **named: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == 1:
            scene.keeper.advance()
        return scene.store.usage_from_rollups(*positional, **named)

    monkeypatch.setattr(scene.failing, "usage_from_rollups", meanwhile, raising=False)
    assert sum(row.value for row in scene.ask(meter)) == 10
    assert asked == 2


def test_too_many_rows_are_told(scene: Scene) -> None:
    scene.recorder.record([1, 2, 3])
    scene.keeper.advance()
    query = UsageQuery(
        meter=a_meter(),
        from_us=NOW_US - HOUR_US,
        to_us=NOW_US + 2 * HOUR_US,
        edges_us=(NOW_US - HOUR_US, NOW_US + 2 * HOUR_US),
        group_by=("model",),
        as_of_us=9,
    )
    with pytest.raises(Invalid, match="more than 2 rows"):
        scene.keeper.usage(query, rows_max=2)


def test_it_is_due_by_time_and_by_number(scene: Scene) -> None:
    assert scene.keeper._is_due()
    scene.keeper.advance()
    assert not scene.keeper._is_due()
    scene.now_s = 9.9
    assert not scene.keeper._is_due()
    scene.recorder.readings_expected += 500_000
    assert scene.keeper._is_due()
    scene.recorder.readings_expected -= 1
    assert not scene.keeper._is_due()
    scene.now_s = 10.0
    assert scene.keeper._is_due()


def test_a_whole_system_is_kept_up(
    make_rig: Callable[[], Rig], tmp_path: Path, side_door: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def whole() -> None:
        rig = make_rig()
        monkeypatch.setattr(rollup, "AGGREGATIONS", AGGREGATIONS)  # a rig does without roll-ups
        await rig.start()
        side_door.command("TRUNCATE TABLE rollups SYNC")
        system = rig.system
        own: Any = system.rollups  # would roll up into the same table
        await own.stop()
        keeper = RollupKeeper(
            store=system.store,
            catalog=system.catalog,
            recorder=system.recorder,
            checkpoint=SqliteCheckpoint(tmp_path / "rollups.sqlite"),
            interval_s=0.0,
        )
        task = asyncio.create_task(keeper.run())
        try:
            meter = rig.meter(aggregation="sum")
            await rig.record(*(event(i, data={"n": i}) for i in range(100)))

            async def rolled_up() -> bool:
                return keeper.status.readings == 100

            await eventually(rolled_up, "everything rolled up")
            from_us, to_us = NOW_US - 400 * 24 * HOUR_US, NOW_US + 24 * HOUR_US
            query = UsageQuery(
                meter=meter,
                from_us=from_us,
                to_us=to_us,
                edges_us=(from_us, to_us),
                as_of_us=system.recorder.recorded_at_us,
            )
            rows = await asyncio.to_thread(keeper.usage, query, rows_max=1)
            assert rows is not None
            assert [row.value for row in rows] == [Decimal(4950)]
            assert keeper.status.fault is None
        finally:
            await keeper.stop()
            await task
            keeper.close()
            await rig.stop()

    asyncio.run(whole())
