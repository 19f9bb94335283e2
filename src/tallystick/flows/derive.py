"""Readings of the past: built in the background for new meters and after a loss, and on the spot for one question.

Both ways use the definition of a reading that the recorder uses, so the figures cannot differ.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import structlog

from tallystick.catalog.interface import Catalog
from tallystick.flows.record import Recorder, count_by_meter
from tallystick.metering.meter import Aggregation, Meter
from tallystick.metering.query import UsageQuery, UsageRow
from tallystick.metering.reading import derive
from tallystick.store.interface import Derived, Store

_IDLE_S = 0.2
_RETRY_S = 1.0

_logger = structlog.get_logger("builder")
T = TypeVar("T")
CARRIED = (Aggregation.TIME_WEIGHTED, Aggregation.DURATION, Aggregation.REGISTER)
_compute: Any = pc  # its functions are made at import and unknown to type checkers


class ReadingsBuilder:
    """Builds readings of events recorded before their meter was in service. `run` is its life."""

    def __init__(self, *, store: Store, catalog: Catalog, recorder: Recorder) -> None:
        self._store = store
        self._catalog = catalog
        self._recorder = recorder
        self._stopping = asyncio.Event()
        self._half_built = False
        self.progress: int | None = None
        """Readings built by the build under way; None when there is none."""

    async def run(self) -> None:
        while not self._stopping.is_set():
            wait_s = _IDLE_S
            try:
                if self._recorder.recovered and self._recorder.unbuilt():
                    if self._half_built:  # nothing of a failed attempt may count
                        await self._recorder.restart_builds()
                        self._half_built = False
                    await self._build()
                    wait_s = 0.0
            except Exception as error:
                _logger.warning("build_failed", error=repr(error))
                wait_s = _RETRY_S
                self._half_built = True
            finally:
                self.progress = None
            try:
                await asyncio.wait_for(self._stopping.wait(), wait_s)
            except TimeoutError:
                continue

    async def stop(self) -> None:
        self._stopping.set()

    async def _build(self) -> None:
        """One pass over the events of one tenant's types, for all its meters whose past ends at the same moment."""
        generation = self._recorder.generation
        unbuilt = self._recorder.unbuilt()
        meters = await asyncio.to_thread(self._catalog.meters_by_id, list(unbuilt))
        groups: defaultdict[tuple[str, int], list[Meter]] = defaultdict(list)
        for meter in meters.values():
            groups[meter.tenant, unbuilt[meter.id].from_us].append(meter)
        for (_, moment_us), group in groups.items():
            rows = await asyncio.to_thread(self._build_group, group, moment_us, generation)
            if rows is None or not await self._recorder.finish_build(rows, generation=generation):
                return
            _logger.info("readings_built", meters=[meter.key for meter in group], rows=sum(rows.values()))

    def _build_group(self, meters: Sequence[Meter], moment_us: int, generation: int) -> dict[int, int] | None:
        """Readings of all versions there were at this moment, and those that take superseded ones back. What comes
        later is the recorder's."""
        rows: Counter[int] = Counter({meter.id: 0 for meter in meters})
        ids = "-".join(str(meter.id) for meter in meters[:8])
        for number, step in enumerate(self._store.derivations(meters, recorded_by_us=moment_us)):
            if self._stopping.is_set():
                return None
            if isinstance(step, Derived):
                if not self._recorder.insert_built(step.insert, step.rows, generation=generation):
                    return None
                rows[step.meter.id] += step.rows
            else:
                for sign, readings in readings_of(step.meters, step.versions):
                    token = f"build:{generation}:{moment_us}:{ids}:{number}:{sign}"

                    def insert(readings: pa.Table = readings, token: str = token) -> None:
                        self._store.insert_readings(readings, token=token)

                    if readings.num_rows and not self._recorder.insert_built(
                        insert, readings.num_rows, generation=generation
                    ):
                        return None
                    rows.update(count_by_meter(readings))
            self.progress = sum(rows.values())
        return dict(rows)


def readings_of(
    meters: Sequence[Meter], versions: pa.Table
) -> tuple[tuple[int, pa.Table], tuple[int, pa.Table]]:
    """The readings that versions make, and those that take superseded ones back: sign and rows."""
    return (1, derive(meters, versions)), (-1, _taken_back(meters, versions))


def _taken_back(meters: Sequence[Meter], versions: pa.Table) -> pa.Table:
    """The readings that take back what superseded versions contributed, as of the moment that happened."""
    superseded = versions.filter(_compute.is_valid(versions["superseded_at"]))
    at = superseded.schema.get_field_index("recorded_at")
    readings = derive(meters, superseded.set_column(at, "recorded_at", superseded["superseded_at"]))
    signs = pa.array(np.full(readings.num_rows, -1, np.int8))
    return readings.set_column(readings.schema.get_field_index("sign"), "sign", signs)


def usage_from_events(store: Store, query: UsageQuery, *, rows_max: int) -> list[UsageRow]:
    """Answer a question without the readings: derive those it needs from the events, into a table of its own, and ask
    that one. Slower, and the same answer."""
    return _from_events(store, query, lambda name: store.usage(query, rows_max=rows_max, readings=name))


def dimension_values_from_events(
    store: Store, query: UsageQuery, ask: Callable[[str], list[tuple[str | None, int]]]
) -> list[tuple[str | None, int]]:
    """The same for the values of a dimension; `ask` gets the name of the table."""
    return _from_events(store, query, ask)


def _from_events(store: Store, query: UsageQuery, ask: Callable[[str], T]) -> T:
    with readings_from_events(store, query) as name:
        return ask(name)


@contextmanager
def readings_from_events(store: Store, query: UsageQuery) -> Generator[str]:
    """The readings a question needs, derived from the events into a table of its own, by its name."""
    name = store.scratch()
    aggregation = query.meter.aggregation
    try:
        blocks = store.events_of(
            query.meter.tenant,
            [query.meter.event_type],
            # A level, a counter or a session may have begun long before the range; a session may end behind it.
            from_us=None if aggregation in CARRIED else query.from_us,
            to_us=None if aggregation is Aggregation.DURATION else query.to_us,
            customers=query.customers,
            as_of_us=query.as_of_us,
        )
        for number, events in enumerate(blocks):
            readings = derive([query.meter], pa.Table.from_batches([events]))
            if readings.num_rows:
                store.insert_readings(readings, token=f"{name}:{number}", into=name)
        yield name
    finally:
        store.drop_scratch(name)
