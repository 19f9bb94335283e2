"""Answers from roll-ups that another process keeps up: the same, or none."""

from typing import Any

import pytest
from tests.flows.test_rollup_views import Scene, a_meter, scene  # noqa: F401

from tallystick.errors import Unavailable
from tallystick.flows.rollup_reader import KNOWN_S, RollupReader
from tallystick.store.interface import RollupView


class Elsewhere:
    """A process that keeps nothing up."""

    def __init__(self, scene: Scene) -> None:  # noqa: F811
        self.scene = scene
        self.now_s = 0.0
        self.answers, self.may_ask = True, True
        self.read = 0
        store: Any = scene.store
        recorder: Any = scene.recorder
        self.reader = RollupReader(
            store=store,
            recorder=recorder,
            read=self._read,
            may_ask=lambda: self.may_ask,
            elapsed_s=lambda: self.now_s,
        )

    def _read(self) -> bytes | None:
        self.read += 1
        if not self.answers:
            raise Unavailable("The shared database is not there (test).")
        assert self.scene.views is not None
        return self.scene.views._checkpoint.load()

    def ask(self, **changes: Any) -> tuple[list[Any] | None, RollupView | None]:
        return self.scene.ask(self.reader, **changes)


@pytest.fixture
def elsewhere(scene: Scene) -> Elsewhere:  # noqa: F811
    return Elsewhere(scene)


def _total(rows: list[Any] | None) -> object:
    return None if rows is None else sum(row.value for row in rows)


def test_it_answers_as_the_keeper_does(elsewhere: Elsewhere) -> None:
    scene = elsewhere.scene  # noqa: F811
    scene.recorder.record([1, 2, 3, 4, 5, 6])
    assert elsewhere.ask() == (None, None)
    scene.advance()
    elsewhere.now_s += 2 * KNOWN_S
    scene.recorder.record([7, 8])  # recorded since, and taken from the readings
    for changes in (
        {},
        {"group_by": ("model",)},
        {"group_by": ("customer",)},
        {"customers": ("c1",)},
        {"group_by": ("model", "customer")},
    ):
        rows, view = elsewhere.ask(**changes)
        assert rows
        assert (rows, view) == scene.ask(**changes)
    assert elsewhere.ask(group_by=("subject",)) == (None, None)


def test_what_it_knew_too_long_ago_answers_nothing(elsewhere: Elsewhere) -> None:
    scene = elsewhere.scene  # noqa: F811
    scene.recorder.record([1, 2, 3])
    scene.advance()
    assert _total(elsewhere.ask()[0]) == 6
    scene.recorder.record([4])
    scene.advance()  # and no time has passed: it thinks it knows
    assert elsewhere.ask()[0] is None
    assert _total(elsewhere.ask()[0]) == 10  # it has learned by that


def test_what_is_rolled_up_in_the_midst_of_a_question_is_noticed(
    elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = elsewhere.scene  # noqa: F811
    scene.recorder.record([1, 2, 3])
    scene.advance()
    assert elsewhere.ask()[0]
    ask = type(scene.store).usage_from_rollups
    done: list[str] = []

    def meanwhile(store: Any, *positional: Any, **named: Any) -> Any:
        if not done:
            done.append("now")
            scene.recorder.record([4])
            scene.advance()
        return ask(store, *positional, **named)

    monkeypatch.setattr(type(scene.store), "usage_from_rollups", meanwhile)
    assert elsewhere.ask()[0] is None
    monkeypatch.undo()
    assert _total(elsewhere.ask()[0]) == 10


def test_made_anew_with_as_many_readings_is_another(
    elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken out and made again between the question and the look behind it: the number alone would say nothing."""
    scene = elsewhere.scene  # noqa: F811
    scene.recorder.record([1, 2, 3])
    scene.advance()
    assert elsewhere.ask()[0]
    ask = type(scene.store).usage_from_rollups

    def meanwhile(store: Any, *positional: Any, **named: Any) -> Any:
        found = ask(store, *positional, **named)
        for keeper in kept._keepers.values():
            keeper._forget([a_meter().id])
            keeper.advance()
        return found

    kept = scene.views
    assert kept is not None
    monkeypatch.setattr(type(scene.store), "usage_from_rollups", meanwhile)
    assert elsewhere.ask()[0] is None
    monkeypatch.undo()
    assert _total(elsewhere.ask()[0]) == 6


def test_a_view_that_is_lost_leaves_the_others(elsewhere: Elsewhere, side_door: Any) -> None:
    scene = elsewhere.scene  # noqa: F811
    scene.recorder.record([1, 2, 3])
    scene.advance()
    side_door.command("TRUNCATE TABLE rollups_customers SYNC")
    assert elsewhere.ask(customers=("c1",))[1] is RollupView.WHOLE


def test_questions_go_on_while_the_shared_database_does_not_answer(elsewhere: Elsewhere) -> None:
    scene = elsewhere.scene  # noqa: F811
    scene.recorder.record([1, 2, 3])
    scene.advance()
    elsewhere.answers = False
    assert elsewhere.ask()[0] is None
    elsewhere.answers, elsewhere.may_ask = True, False
    elsewhere.now_s += 2 * KNOWN_S
    read = elsewhere.read
    assert elsewhere.ask()[0] is None
    assert elsewhere.read == read
    elsewhere.may_ask = True
    elsewhere.now_s += 2 * KNOWN_S
    assert _total(elsewhere.ask()[0]) == 6
    scene.recorder.generation += 1  # readings were taken out of service: what was made of them counts no more
    assert elsewhere.ask()[0] is None
