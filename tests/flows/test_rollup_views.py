"""All views of roll-ups together, over a real store: each is kept, the smallest answers, and one lost leaves the others."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.flows.rig import NOW_US
from tests.flows.test_rollup import FakeRecorder, a_meter

from tallystick.flows import rollup
from tallystick.flows.rollup_views import RollupViews
from tallystick.log.checkpoint import SqliteCheckpoint
from tallystick.metering.query import UsageQuery
from tallystick.store.clickhouse import ClickHouseStore
from tallystick.store.connection import Connection
from tallystick.store.interface import RollupView

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
FROM_US = NOW_US // DAY_US * DAY_US - DAY_US


class Watched:
    """A store that says which view answered last."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.answered: RollupView | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def usage_from_rollups(self, query: UsageQuery, **named: Any) -> Any:
        rows = self._store.usage_from_rollups(query, **named)
        if rows is not None:
            self.answered = named["view"]
        return rows


class Scene:
    def __init__(self, store: Any, directory: Path) -> None:
        self.store = Watched(store)
        self.recorder = FakeRecorder(store)
        self.directory = directory
        self.views: RollupViews | None = None

    def keep(self) -> RollupViews:
        """The views as a new process would have them."""
        self.close()
        recorder: Any = self.recorder
        store: Any = self.store
        self.views = RollupViews(
            store=store,
            catalog=recorder,
            recorder=recorder,
            checkpoint=SqliteCheckpoint(self.directory / "rollups.sqlite"),
        )
        return self.views

    def advance(self) -> None:
        assert self.views is not None
        for keeper in self.views._keepers.values():
            keeper.advance()

    def ask(self, of: Any = None, **changes: Any) -> tuple[list[Any] | None, RollupView | None]:
        """Of these views, or of somebody else who knows of them; held to the readings."""
        asked = self.views if of is None else of
        self.store.answered = None
        to_us = FROM_US + 40 * DAY_US
        query = UsageQuery(
            meter=a_meter(),
            from_us=FROM_US,
            to_us=to_us,
            edges_us=(FROM_US, to_us),
            as_of_us=self.recorder.recorded_at_us,
            **changes,
        )
        rows = asked.usage(query, rows_max=1000)
        if rows is not None:
            assert rows == self.store.usage(query, rows_max=1000)
        return rows, self.store.answered

    def close(self) -> None:
        if self.views is not None:
            self.views.close()


@pytest.fixture
def scene(engine_url: str, side_door: Connection, tmp_path: Path) -> Iterator[Scene]:
    store = ClickHouseStore(engine_url, query_time_s_max=20, query_memory_bytes_max=10**9)
    store.migrate()
    for table in ("readings", *(view.value for view in RollupView)):
        side_door.command(f"TRUNCATE TABLE {table} SYNC")
    scene = Scene(store, tmp_path)
    scene.recorder.add(a_meter())
    scene.keep()
    yield scene
    scene.close()
    store.close()


def test_the_smallest_view_that_can_answers(scene: Scene) -> None:
    scene.recorder.record([1, 2, 3, 4, 5, 6])
    assert scene.ask() == (None, None)
    scene.advance()
    scene.recorder.record([7, 8])  # recorded since, and taken from the readings
    for changes, view in (
        ({}, RollupView.DIMENSIONS),
        ({"group_by": ("model",)}, RollupView.DIMENSIONS),
        ({"group_by": ("customer",)}, RollupView.CUSTOMERS),
        ({"customers": ("c1",)}, RollupView.CUSTOMERS),
        ({"group_by": ("model", "customer")}, RollupView.WHOLE),
        ({"group_by": ("model",), "customers": ("c1",)}, RollupView.WHOLE),
    ):
        rows, answered = scene.ask(**changes)
        assert rows
        assert answered is view
    assert scene.ask(group_by=("subject",)) == (None, None)


def test_a_view_that_is_lost_leaves_the_others_and_is_made_anew(scene: Scene, side_door: Connection) -> None:
    scene.recorder.record([1, 2, 3])
    scene.advance()
    side_door.command("TRUNCATE TABLE rollups_customers SYNC")
    assert scene.ask(customers=("c1",))[1] is RollupView.WHOLE
    scene.advance()
    assert scene.ask(customers=("c1",))[1] is RollupView.CUSTOMERS


def test_what_was_written_down_survives_a_restart(scene: Scene) -> None:
    scene.recorder.record([1, 2, 3])
    scene.advance()
    views = scene.keep()
    assert scene.ask()[1] is RollupView.DIMENSIONS
    assert {view: one.readings for view, one in views.status.items()} == dict.fromkeys(RollupView, 3)
    scene.advance()
    assert {view: one.readings for view, one in views.status.items()} == dict.fromkeys(RollupView, 3)


def test_what_an_earlier_version_wrote_down_counts_as_lost(scene: Scene) -> None:
    scene.close()
    checkpoint = SqliteCheckpoint(scene.directory / "rollups.sqlite")
    checkpoint.save(b'{"generation":1,"builds":0,"step":null,"meters":{}}')
    checkpoint.close()
    scene.keep()
    scene.recorder.record([1])
    scene.advance()
    assert scene.ask()[1] is RollupView.DIMENSIONS


def test_each_view_is_judged_by_itself(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two customers times three models a day are too many groups for six readings; either of them alone is not."""
    monkeypatch.setattr(rollup, "JUDGED_FROM_READINGS", 40)
    scene.recorder.record([1] * 300, spread=10, gap_hours=24)
    for _ in range(3):
        scene.advance()
    assert scene.views is not None
    kept = {view: one.meters for view, one in scene.views.status.items()}
    assert kept == {RollupView.DIMENSIONS: 0, RollupView.CUSTOMERS: 1, RollupView.WHOLE: 0}
    assert scene.ask(group_by=("customer",))[1] is RollupView.CUSTOMERS
    assert scene.ask(group_by=("model",)) == (None, None)


def test_without_dimensions_customers_alone_are_the_whole(scene: Scene) -> None:
    scene.recorder.meters.clear()
    scene.recorder.add(replace(a_meter(), dimensions=()))
    scene.recorder.record([1, 2])
    scene.advance()
    assert scene.views is not None
    assert scene.views.status[RollupView.CUSTOMERS].meters == 0
    assert scene.views.status[RollupView.WHOLE].meters == 1
