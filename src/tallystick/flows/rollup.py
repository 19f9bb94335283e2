"""Roll-ups: kept up in the background behind the recorder, and asked where they can answer.

For each meter there is a moment up to which its readings are rolled up, and how many of them there are. Both are written
down once a step is done. A question goes to the roll-ups of that moment and to the readings recorded since; its answer
counts only when, after it was made, the roll-ups still held exactly that many readings: then nothing was missing, and
nothing had been added that the question took from the readings too.

A step is written down before it begins: which meters, from which moment to which, how many readings. After a crash the
number held says whether it happened; when it happened in part, its meters are rolled up anew.
"""

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

import structlog
from msgspec import Struct, field, json
from msgspec.structs import replace

from tallystick.catalog.interface import Catalog
from tallystick.errors import Invalid
from tallystick.flows.recording import Recording
from tallystick.log.checkpoint import Checkpoint
from tallystick.metering.meter import Aggregation, Meter
from tallystick.metering.query import UsageQuery, UsageRow
from tallystick.store.interface import DerivedMissing, RollupView, Store

AGGREGATIONS = frozenset(
    {Aggregation.COUNT, Aggregation.SUM, Aggregation.AVERAGE, Aggregation.MIN, Aggregation.MAX}
)
"""Those roll-ups are kept for."""
SHRINK_MIN = 4
"""Readings there must be to a group and hour on average; what shrinks less is rolled up by day, or not at all."""
HOUR, DAY = 1, 24
JUDGED_FROM_READINGS = 100_000
"""Roll-ups of fewer readings are kept whatever they save."""

_POLL_S = 0.5
_RETRY_S = 5.0
_ATTEMPTS = 2

_logger = structlog.get_logger("rollups")


class Rolled(Struct, frozen=True):
    """How far one meter version is rolled up."""

    upto_us: int = 0  # readings recorded up to this moment are in
    readings: int = 0  # rows of readings that are in
    span_hours: int = HOUR  # by what: hours, or days where hours would not shrink it
    kept: bool = True  # False: not even days would
    judged_readings: int = 0  # how many there were when that was last decided


class Step(Struct, frozen=True):
    """A step about to be done."""

    meters: tuple[int, ...]
    span_hours: int
    after_us: int
    through_us: int
    readings: dict[int, int]  # that it adds, by meter id


class Progress(Struct, frozen=True):
    """Everything the keeper must remember."""

    generation: int = -1  # of the readings (Recorder.generation) it is made of
    builds: int = (
        0  # part of every token: grows whenever anything was deleted, and what is built again is new
    )
    step: Step | None = None
    meters: dict[int, Rolled] = field(default_factory=dict[int, Rolled])


@dataclass(frozen=True, slots=True)
class RollupStatus:
    """For /metrics and doctor."""

    readings: int  # rolled up
    meters: int  # whose roll-ups are kept
    by_day: tuple[int, ...]  # ids of those that hours would not shrink
    not_kept: tuple[int, ...]  # ids of meters that rolling up would not shrink
    upto_us: int  # the moment up to which all that are kept are rolled up; 0 while one has only begun
    pending: int  # readings of the step under way that are not rolled up yet
    fault: str | None  # why it does not get on; None while it does


class Rollups(Protocol):
    """What questions need of the roll-ups."""

    def usage(self, query: UsageQuery, *, rows_max: int) -> list[UsageRow] | None:
        """The answer from roll-ups; None where they cannot give it, and the readings must."""
        ...

    @property
    def status(self) -> Mapping[RollupView, RollupStatus]: ...


class RollupKeeper:
    """Keeps roll-ups up. `run` is its life; `usage` and `status` may be called from any thread."""

    def __init__(
        self,
        *,
        store: Store,
        catalog: Catalog,
        recorder: Recording,
        checkpoint: Checkpoint,
        view: RollupView = RollupView.WHOLE,
        interval_s: float = 10.0,
        readings_max: int = 500_000,
        elapsed_s: Callable[[], float] = monotonic,
        turn: AbstractContextManager[bool] | None = None,
    ) -> None:
        """A step is done every `interval_s`, or once `readings_max` readings wait; whoever holds `turn` works, so that
        several keepers take one core at most."""
        self._store = store
        self._catalog = catalog
        self._recorder = recorder
        self._checkpoint = checkpoint
        self._view = view
        self._turn = threading.Lock() if turn is None else turn
        self._interval_s = interval_s
        self._readings_max = readings_max
        self._elapsed_s = elapsed_s
        self._stopping = asyncio.Event()
        self._lock = threading.Lock()
        self._suspect: set[int] = set()
        self._step_at_s = -interval_s
        self._step_at_readings = 0
        self._pending = 0
        self._fault: str | None = None
        raw = checkpoint.load()
        self._progress = Progress() if raw is None else json.decode(raw, type=Progress)

    # -- questions ----------------------------------------------------------------------------------------------
    def usage(self, query: UsageQuery, *, rows_max: int) -> list[UsageRow] | None:
        """The answer from roll-ups; None where they cannot give it, and the readings must.

        Asks the readings too, so that these must be complete, before and after, just as for an answer from readings alone.
        `query.as_of_us` must be set. Raises as Store.usage does."""
        if query.as_of_us is None:
            raise ValueError("A question to the roll-ups needs a moment.")
        meter_id = query.meter.id
        for _ in range(_ATTEMPTS):
            progress = self._progress
            rolled = progress.meters.get(meter_id)
            if (
                rolled is None
                or not rolled.kept
                or rolled.upto_us == 0
                or rolled.upto_us > query.as_of_us
                or progress.generation != self._recorder.generation
            ):
                return None
            try:
                rows = self._store.usage_from_rollups(
                    query,
                    rolled_up_to_us=rolled.upto_us,
                    rows_max=rows_max,
                    span_hours=rolled.span_hours,
                    view=self._view,
                )
                too_many = None
            except Invalid as error:  # too many rows, maybe only because a step came in between
                rows, too_many = [], error
            except DerivedMissing:
                return self._doubt(meter_id)
            if rows is None:
                return None
            held, _ = self._store.rolled_up(self._view).get(meter_id, (0, 0))
            if held == rolled.readings:
                if too_many is not None:
                    raise too_many
                return rows
            step = self._progress.step
            if step is None and self._progress.meters.get(meter_id) == rolled:
                return self._doubt(meter_id)
        return None

    def _doubt(self, meter_id: int) -> None:
        with self._lock:
            self._suspect.add(meter_id)

    @property
    def status(self) -> RollupStatus:
        meters = self._progress.meters
        kept = [rolled for rolled in meters.values() if rolled.kept]
        return RollupStatus(
            readings=sum(rolled.readings for rolled in kept),
            meters=len(kept),
            by_day=tuple(
                sorted(key for key, rolled in meters.items() if rolled.kept and rolled.span_hours == DAY)
            ),
            not_kept=tuple(sorted(key for key, rolled in meters.items() if not rolled.kept)),
            upto_us=min((rolled.upto_us for rolled in kept), default=0),
            pending=self._pending,
            fault=self._fault,
        )

    # -- its life -----------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Keep up until `stop`. Whatever fails is tried again."""
        while not self._stopping.is_set():
            wait_s = _POLL_S
            try:
                if self._recorder.recovered and self._is_due():
                    await asyncio.to_thread(self.advance)
                self._fault = None
            except Exception as error:
                self._fault = type(error).__name__
                _logger.warning("rolling_up_failed", error=repr(error))
                wait_s = _RETRY_S
            finally:
                self._pending = 0
            try:
                await asyncio.wait_for(self._stopping.wait(), wait_s)
            except TimeoutError:
                continue

    async def stop(self) -> None:
        """Let `run` end after the chunk under way; what it has not finished is done again later."""
        self._stopping.set()

    def close(self) -> None:
        self._checkpoint.close()

    def _is_due(self) -> bool:
        if self._progress.generation != self._recorder.generation or self._suspect:
            return True
        waiting = self._recorder.readings_expected - self._step_at_readings
        return waiting >= self._readings_max or self._elapsed_s() - self._step_at_s >= self._interval_s

    def advance(self) -> None:
        """Bring the roll-ups of all meters to the last published moment. Synchronous."""
        with self._turn:
            self._advance()

    def _advance(self) -> None:
        generation = self._recorder.generation
        readings = self._recorder.readings_expected
        self._mend(generation)
        coverage = self._recorder.coverage()
        through_us = self._recorder.recorded_at_us
        built = [key for key, covered in coverage.items() if covered.built]
        known = self._catalog.meters_by_id(built)
        wanted = {
            key: meter
            for key, meter in known.items()
            if meter.of is None
            and meter.aggregation in AGGREGATIONS
            # Without dimensions, what is divided by customer alone is the whole.
            and (meter.dimensions or self._view is not RollupView.CUSTOMERS)
        }
        self._forget([key for key in self._progress.meters if key not in wanted])
        alike: defaultdict[tuple[int, int, int], list[Meter]] = defaultdict(list)
        for key, meter in wanted.items():
            rolled = self._progress.meters.get(key, Rolled())
            # What left service has no readings after that, and is asked as of then.
            until_us = coverage[key].until_us
            end_us = through_us if until_us is None else min(through_us, until_us)
            if rolled.kept and rolled.upto_us < end_us:
                alike[rolled.upto_us, end_us, rolled.span_hours].append(meter)
        for (after_us, end_us, span_hours), some in sorted(alike.items(), key=lambda item: -item[0][0]):
            if not self._step(some, after_us, end_us, span_hours, generation):
                return
        self._judge()
        self._step_at_s, self._step_at_readings = self._elapsed_s(), readings

    def _save(self, progress: Progress) -> None:
        self._checkpoint.save(json.encode(progress))
        self._progress = progress

    def _mend(self, generation: int) -> None:
        """Begin anew where readings were, settle a step that was cut short, and check what a question found wanting."""
        if self._progress.generation != generation:
            # Out of service first: nobody may ask for what is being deleted.
            self._save(Progress(generation=-1, builds=self._progress.builds + 1))
            self._store.delete_rollups(None, self._view)
            self._save(replace(self._progress, generation=generation))
        progress = self._progress
        held = self._store.rolled_up(self._view)
        step = progress.step
        if step is not None:
            before = {key: progress.meters.get(key, Rolled()).readings for key in step.meters}
            now = {key: held.get(key, (0, 0))[0] for key in step.meters}
            if now == {key: before[key] + step.readings.get(key, 0) for key in step.meters}:
                self._finish(step)
            elif now == before:
                self._save(replace(progress, step=None))
            # Otherwise some of it is in; what is not as it should be is rolled up anew.
        wrong = [
            key
            for key, rolled in self._progress.meters.items()
            if rolled.kept and held.get(key, (0, 0))[0] != rolled.readings
        ]
        wrong += [
            key for key in held if key not in self._progress.meters or not self._progress.meters[key].kept
        ]
        self._forget(wrong)
        if wrong:
            _logger.warning("rollups_begun_anew", view=self._view.value, meters=wrong)
        with self._lock:
            self._suspect.clear()

    def _forget(self, meters: Sequence[int], *, kept: bool = True) -> None:
        """Delete the roll-ups of these meters. They are rolled up anew; those not to be `kept` as they were, by coarser
        spans, or not at all."""
        if not meters:
            return
        left = {key: rolled for key, rolled in self._progress.meters.items() if key not in meters}
        if not kept:
            left |= {key: _coarser(self._progress.meters[key]) for key in meters}
        self._save(replace(self._progress, step=None, builds=self._progress.builds + 1, meters=left))
        self._store.delete_rollups(meters, self._view)

    def _step(
        self, meters: Sequence[Meter], after_us: int, through_us: int, span_hours: int, generation: int
    ) -> bool:
        """Roll up what was recorded in a range of moments. False when it was given up: `advance` will begin it anew."""
        plan = self._store.rollup_plan(meters, after_us=after_us, through_us=through_us)
        ids = tuple(sorted(meter.id for meter in meters))
        step = Step(ids, span_hours, after_us, through_us, dict(plan.readings))
        self._save(replace(self._progress, step=step))
        self._pending = sum(plan.readings.values())
        token = f"{generation}:{self._progress.builds}:{ids[0]}:{after_us}-{through_us}"
        left = list(meters)
        for number, chunk in enumerate(plan.chunks):
            if self._stopping.is_set() or generation != self._recorder.generation:
                return False
            self._store.build_rollups(
                left,
                after_us=after_us,
                through_us=through_us,
                chunk=chunk,
                token=f"{token}:{number}",
                span_hours=span_hours,
                view=self._view,
            )
            self._pending = max(0, self._pending - chunk.readings)
            if after_us == 0 and number < len(plan.chunks) - 1:
                # The past of a meter that will not shrink need not be rolled up to the end to be found out.
                useless = self._shrink_too_little([meter.id for meter in left], united=True)
                if useless:
                    self._give_up(useless, step)
                    step = self._without(step, useless)
                    left = [meter for meter in left if meter.id not in useless]
                    if not left:
                        return True
        if self._store.count_readings() < self._recorder.readings_expected:
            # Readings are missing, and so may be some that were just rolled up.
            if generation == self._recorder.generation:
                self._recorder.want_rebuild()
            return False
        held = self._store.rolled_up(self._view)
        for key in step.meters:
            expected = self._progress.meters.get(key, Rolled()).readings + step.readings.get(key, 0)
            if held.get(key, (0, 0))[0] != expected:
                _logger.warning("rollups_differ", meter=key, held=held.get(key), expected=expected)
                return False
        self._finish(step)
        return True

    def _without(self, step: Step, meters: Sequence[int]) -> Step:
        left = tuple(key for key in step.meters if key not in meters)
        readings = {key: n for key, n in step.readings.items() if key in left}
        smaller = replace(step, meters=left, readings=readings)
        self._save(replace(self._progress, step=smaller))
        return smaller

    def _finish(self, step: Step) -> None:
        meters = dict(self._progress.meters)
        for key in step.meters:
            rolled = meters.get(key, Rolled())
            readings = rolled.readings + step.readings.get(key, 0)
            meters[key] = replace(rolled, upto_us=step.through_us, readings=readings)
        self._save(replace(self._progress, step=None, meters=meters))

    # -- whether it is worth it ---------------------------------------------------------------------------------
    def _judge(self) -> None:
        """Once a meter has twice the readings it had when it was last judged: does rolling up shrink it enough?"""
        due = [
            key
            for key, rolled in self._progress.meters.items()
            if rolled.kept and rolled.readings >= max(JUDGED_FROM_READINGS, 2 * rolled.judged_readings)
        ]
        if not due:
            return
        useless = self._shrink_too_little(due, united=False)
        meters = dict(self._progress.meters)
        for key in due:
            meters[key] = replace(meters[key], judged_readings=meters[key].readings)
        self._save(replace(self._progress, meters=meters))
        if useless:
            self._forget(useless, kept=False)
            _logger.info("rollups_shrink_too_little", view=self._view.value, meters=useless)

    def _shrink_too_little(self, meters: Sequence[int], *, united: bool) -> list[int]:
        """`united`: all were made in one plan, and none of their rows will be united with another."""
        held = self._store.rolled_up(self._view)
        judged = [key for key in meters if held.get(key, (0, 0))[0] >= JUDGED_FROM_READINGS]
        if not judged:
            return []
        rows = self._store.rollup_rows(judged, self._view)
        doubtful = [key for key in judged if held[key][0] < SHRINK_MIN * rows.get(key, 0)]
        if united or not doubtful:
            return doubtful
        groups = self._store.rollup_groups(doubtful, self._view)
        return [key for key in doubtful if held[key][0] < SHRINK_MIN * groups.get(key, 0)]

    def _give_up(self, meters: Sequence[int], step: Step) -> None:
        """In the midst of a step: these meters are not to be kept."""
        known = {key: self._progress.meters.get(key, Rolled()) for key in meters}
        self._save(replace(self._progress, meters={**self._progress.meters, **known}))
        self._forget(meters, kept=False)
        self._save(replace(self._progress, step=step))
        _logger.info("rollups_shrink_too_little", view=self._view.value, meters=list(meters))


def _coarser(rolled: Rolled) -> Rolled:
    """What comes next when rolling up shrinks a meter too little."""
    return Rolled(span_hours=DAY, kept=rolled.span_hours == HOUR)
