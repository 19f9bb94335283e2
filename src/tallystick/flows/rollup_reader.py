"""Answers from roll-ups that another process keeps up (flows/shared_rollups.py).

What the keeper has written down says which roll-ups there are. It is read before the question and after it, and the answer
counts only when nothing about this meter has changed in between, and as many readings are held as were written down: the
keeper takes a meter out before it deletes anything of it, and enters it only once everything is there.
"""

from collections.abc import Callable, Mapping
from time import monotonic

from msgspec import json

from tallystick.errors import Invalid, TallystickError
from tallystick.flows.recording import Recording
from tallystick.flows.rollup import Progress, Rolled
from tallystick.flows.rollup_views import FEWEST_FIRST, states_of
from tallystick.metering.query import UsageQuery, UsageRow
from tallystick.store.interface import DerivedMissing, RollupView, Store

KNOWN_S = 1.0
"""How old what is known before the question may be: the answer is held against what is known after it."""

_Known = Mapping[RollupView, Progress]


class RollupReader:
    """`usage` may be called from any thread."""

    def __init__(
        self,
        *,
        store: Store,
        recorder: Recording,
        read: Callable[[], bytes | None],
        may_ask: Callable[[], bool] = lambda: True,
        elapsed_s: Callable[[], float] = monotonic,
    ) -> None:
        """`read` answers what the keeper has written down last. `may_ask`: whether that is answered at once; while it is not,
        questions go to the readings."""
        self._store = store
        self._recorder = recorder
        self._read = read
        self._may_ask = may_ask
        self._elapsed_s = elapsed_s
        self._known: tuple[float, bytes | None, _Known] = (float("-inf"), None, {})

    def usage(self, query: UsageQuery, *, rows_max: int) -> list[UsageRow] | None:
        """See flows/rollup.RollupKeeper.usage."""
        if query.as_of_us is None:
            raise ValueError("A question to the roll-ups needs a moment.")
        at_s, _, known = self._known
        if self._elapsed_s() - at_s > KNOWN_S:
            known = self._learn()
        for view in FEWEST_FIRST if known else ():
            progress = known.get(view)
            rolled = None if progress is None else self._usable(progress, query)
            if rolled is None:
                continue
            try:
                rows = self._store.usage_from_rollups(
                    query,
                    rolled_up_to_us=rolled.upto_us,
                    rows_max=rows_max,
                    span_hours=rolled.span_hours,
                    view=view,
                )
            except (Invalid, DerivedMissing):
                return None  # maybe only because a step came in between: the readings tell
            if rows is None:
                continue
            held, _ = self._store.rolled_up(view).get(query.meter.id, (0, 0))
            is_same = _entry(self._learn(), view, query) == _entry(known, view, query)
            if held == rolled.readings and is_same:
                return rows
        return None

    def _usable(self, progress: Progress, query: UsageQuery) -> Rolled | None:
        rolled = progress.meters.get(query.meter.id)
        if rolled is None or not rolled.kept or rolled.upto_us == 0:
            return None
        assert query.as_of_us is not None
        if rolled.upto_us > query.as_of_us or progress.generation != self._recorder.generation:
            return None
        return rolled

    def _learn(self) -> _Known:
        """Nothing while the shared database does not answer."""
        at_s = self._elapsed_s()
        try:
            raw = self._read() if self._may_ask() else None
        except TallystickError:
            raw = None
        _, before, known = self._known
        if raw is None:
            known = {}
        elif raw != before:
            states = states_of(raw)
            known = {
                view: json.decode(states[view.value], type=Progress)
                for view in FEWEST_FIRST
                if view.value in states
            }
        self._known = (at_s, raw, known)
        return known


def _entry(known: _Known, view: RollupView, query: UsageQuery) -> tuple[int, int, Rolled | None]:
    progress = known.get(view, Progress())
    return progress.generation, progress.builds, progress.meters.get(query.meter.id)
