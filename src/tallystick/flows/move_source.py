"""The installation that moves: its one recorder or, of several partitions, the recorders of all of them, which this process
must hold then. A process that takes events in has to be the only one left, or nobody could say when none come any more."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from tallystick.errors import Conflict, Unavailable
from tallystick.flows.cluster import ClusterRecording
from tallystick.flows.journal import State
from tallystick.flows.record import Recorder
from tallystick.flows.system import System
from tallystick.identity.interface import IdentityIndex

_REST_S_MAX = 30.0
"""A batch takes no longer; and no recorder is kept waiting longer than that."""
T = TypeVar("T")


class _Recorder(Protocol):
    async def between_batches(self, work: Callable[[State, IdentityIndex | None], T]) -> T: ...


class Source:
    """Number i of `recorders` records partition i."""

    def __init__(self, recorders: Sequence[_Recorder]) -> None:
        self._recorders = tuple(recorders)

    @property
    def partitions(self) -> int:
        return len(self._recorders)

    async def at_rest(self, work: Callable[[], T]) -> tuple[list[State], T]:
        """`work`, in a thread, while nobody is in the midst of a batch, and what each partition remembers then: what it sees
        of the store belongs together. Recording waits for it, so it must be short. Raises Unavailable when a recorder
        does not come to rest."""
        resting = [threading.Event() for _ in self._recorders]
        done = threading.Event()

        def rest(state: State, here: threading.Event) -> State:
            here.set()
            done.wait(2 * _REST_S_MAX)
            return state

        def while_all_rest() -> T:
            if not all(each.wait(_REST_S_MAX) for each in resting):
                raise Unavailable("Recording does not come to rest.", retry_after_s=5)
            return work()

        waiting = [
            asyncio.create_task(recorder.between_batches(lambda state, _, here=here: rest(state, here)))
            for recorder, here in zip(self._recorders, resting, strict=True)
        ]
        try:
            result = await asyncio.to_thread(while_all_rest)
        finally:
            done.set()
            states = await asyncio.gather(*waiting)
        return states, result


def source_of(system: System) -> Source:
    """Raises Conflict (several_partitions) while other processes record partitions."""
    recording = system.recorder
    if isinstance(recording, Recorder):
        return Source([recording])
    here = recording.recorders if isinstance(recording, ClusterRecording) else None
    if here is None:
        raise Conflict(
            "Other processes record partitions, too. Stop all but this one, and ask it again.",
            code="several_partitions",
        )
    return Source(here)
