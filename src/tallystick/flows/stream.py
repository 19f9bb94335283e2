"""A usage question whose answer is too large to hold: its rows as they come from the store.

What can be refused is refused before the first row: the store counts the rows first, as of the same moment. Readings that
go missing while rows are sent are found after the last one, and the answer then ends in an error instead of an end: who
reads it is told by the connection, and by the file, that it is not whole.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass

import pyarrow as pa

from tallystick.errors import TimedOut, Unavailable
from tallystick.flows.derive import readings_from_events
from tallystick.flows.system import System
from tallystick.flows.usage import (
    ServedFrom,
    UsageAnswer,
    UsageRequest,
    check_kept,
    in_questions,
    prepared,
    store_ready,
)
from tallystick.metering.query import UsageExtent, UsageQuery
from tallystick.store.interface import DerivedMissing

_LOOP_WAIT_S = 30


class Batches(Iterator[pa.RecordBatch]):
    """Blocks of rows (store.interface.Store.usage_batches), and what they hold on to until `close`: a question in the
    store, a place among the streams. From any thread. Raises TimedOut when they were not fetched in time, Unavailable
    when they are not all of the answer."""

    def __init__(
        self, blocks: Iterator[pa.RecordBatch], held: ExitStack, *, rows: int, whole: Callable[[], None]
    ) -> None:
        self._blocks = blocks
        self._held = held
        self._rows_left = rows
        self._whole = whole
        self._lock = threading.Lock()
        self._late: TimedOut | None = None

    def __next__(self) -> pa.RecordBatch:
        with self._lock:
            if self._late is not None:
                raise self._late
            try:
                block = next(self._blocks)
            except StopIteration:
                with self._held:
                    self._end()
                raise
            except BaseException:
                self._held.close()
                raise
            self._rows_left -= block.num_rows
            return block

    def _end(self) -> None:
        self._whole()
        if self._rows_left:
            raise Unavailable("Not all rows of the answer were found. Ask again.", retry_after_s=1)

    def close(self) -> None:
        """End the question. To do so twice changes nothing."""
        with self._lock:
            self._held.close()

    def expire(self, seconds: int) -> None:
        """As `close`; who asks for more is told why there is none."""
        with self._lock:
            self._held.close()
            self._late = TimedOut(
                f"The answer was not fetched within {seconds} s (setting usage_stream_time_s_max)."
            )


@dataclass(frozen=True, slots=True)
class UsageStream:
    """`head`: the answer without its rows. `batches` must be closed."""

    head: UsageAnswer
    extent: UsageExtent
    batches: Batches


async def usage_stream(system: System, request: UsageRequest) -> UsageStream:
    """Begin an answer. Raises as flows.usage.usage, too_many_rows past `usage_stream_rows_max`, and Unavailable while
    as many streams are under way as may be."""
    meter, query, position = await prepared(system, request)
    await store_ready(system)
    if not system.streams.acquire(blocking=False):
        raise Unavailable(
            "As many answers are being streamed as may be at a time (setting usage_streams_max). Ask again later.",
            retry_after_s=5,
        )
    held = ExitStack()
    held.callback(system.streams.release)
    loop = asyncio.get_running_loop()
    opening = loop.run_in_executor(system.questions, lambda: _opened(system, query, held, loop))
    with system.metrics.query_timed() as answered:
        try:
            extent, batches, served_from = await asyncio.shield(opening)
        except asyncio.CancelledError:  # nobody waits for it any more, and its thread is at work yet
            opening.add_done_callback(lambda _: system.questions.submit(held.close))
            raise
        except BaseException:
            await in_questions(system, held.close)
            raise
        answered(served_from)
    seconds = system.settings.usage_stream_time_s_max
    timer = loop.call_later(seconds, lambda: system.questions.submit(batches.expire, seconds))
    held.callback(lambda: loop.call_soon_threadsafe(timer.cancel))
    head = UsageAnswer(
        meter=meter,
        from_us=query.from_us,
        to_us=query.to_us,
        window=request.window,
        timezone=request.timezone,
        group_by=request.group_by,
        rows=[],
        position=position,
        served_from=served_from,
    )
    return UsageStream(head, extent, batches)


def _opened(
    system: System, query: UsageQuery, held: ExitStack, loop: asyncio.AbstractEventLoop
) -> tuple[UsageExtent, Batches, ServedFrom]:
    recorder = system.recorder
    generation = recorder.generation
    assert query.as_of_us is not None

    async def told() -> tuple[int, int]:
        return recorder.readings_expected, recorder.generation

    def missing() -> bool:
        # Before the count: what is certainly there by now. Who records what may change while a thread asks.
        expected, now = asyncio.run_coroutine_threadsafe(told(), loop).result(_LOOP_WAIT_S)
        return system.store.count_readings() < expected or now != generation

    def want_rebuild() -> None:
        def once() -> None:
            if recorder.generation == generation:
                recorder.want_rebuild()

        loop.call_soon_threadsafe(once)

    def whole() -> None:
        check_kept(system, query.meter, query.from_us)
        if missing():
            want_rebuild()
            raise Unavailable("Readings went missing while the answer was sent. Ask again.", retry_after_s=1)

    settings = system.settings
    rows_max, time_s_max = settings.usage_stream_rows_max, settings.usage_stream_time_s_max

    def measured(readings: str) -> UsageExtent:
        return system.store.usage_extent(query, rows_max=rows_max, time_s_max=time_s_max, readings=readings)

    def begun(extent: UsageExtent, readings: str, whole: Callable[[], None]) -> Batches:
        blocks = system.store.usage_batches(
            query, rows_max=rows_max, time_s_max=time_s_max, readings=readings
        )
        held.enter_context(closing(blocks))
        return Batches(blocks, held, rows=extent.rows, whole=whole)

    if recorder.readings_complete(query.meter, query.as_of_us):
        try:
            extent = measured("readings")
            if not missing():
                return extent, begun(extent, "readings", whole), "readings"
        except DerivedMissing:
            pass
        want_rebuild()
    name = held.enter_context(readings_from_events(system.store, query))
    extent = measured(name)
    batches = begun(extent, name, lambda: check_kept(system, query.meter, query.from_us))
    return extent, batches, "events"
