"""All views of roll-ups: each kept up by a keeper of its own, and a question put to the one with the fewest rows.

Many customers with many dimensions make as many groups as there are readings. A year of one customer by day, or of all of
them by model, needs only one of the two, and that alone shrinks.
"""

import asyncio
import threading
from collections.abc import Callable, Mapping
from time import monotonic

from msgspec import json

from tallystick.catalog.interface import Catalog
from tallystick.flows.recording import Recording
from tallystick.flows.rollup import RollupKeeper, RollupStatus
from tallystick.log.checkpoint import Checkpoint
from tallystick.metering.query import UsageQuery, UsageRow
from tallystick.store.interface import RollupView, Store

FEWEST_FIRST = (RollupView.DIMENSIONS, RollupView.CUSTOMERS, RollupView.WHOLE)


class RollupViews:
    """`run` is its life; `usage` and `status` may be called from any thread."""

    def __init__(
        self,
        *,
        store: Store,
        catalog: Catalog,
        recorder: Recording,
        checkpoint: Checkpoint,
        interval_s: float = 10.0,
        readings_max: int = 500_000,
        elapsed_s: Callable[[], float] = monotonic,
    ) -> None:
        """A step of each view is done every `interval_s`, or once `readings_max` readings wait: one at a time."""
        self._checkpoint = checkpoint
        shared = _SharedState(checkpoint)
        turn = threading.Lock()
        self._keepers = {
            view: RollupKeeper(
                store=store,
                catalog=catalog,
                recorder=recorder,
                checkpoint=_OneOf(shared, view.value),
                view=view,
                interval_s=interval_s,
                readings_max=readings_max,
                elapsed_s=elapsed_s,
                turn=turn,
            )
            for view in FEWEST_FIRST
        }

    def usage(self, query: UsageQuery, *, rows_max: int) -> list[UsageRow] | None:
        """See flows/rollup.RollupKeeper.usage."""
        for keeper in self._keepers.values():
            rows = keeper.usage(query, rows_max=rows_max)
            if rows is not None:
                return rows
        return None

    @property
    def status(self) -> Mapping[RollupView, RollupStatus]:
        return {view: keeper.status for view, keeper in self._keepers.items()}

    async def run(self) -> None:
        """Keep all of them up until `stop`."""
        await asyncio.gather(*(keeper.run() for keeper in self._keepers.values()))

    async def stop(self) -> None:
        """Let `run` end after the chunks under way; what is not finished is done again later."""
        for keeper in self._keepers.values():
            await keeper.stop()

    def close(self) -> None:
        self._checkpoint.close()


class _SharedState:
    """What all keepers write down, as one: replaced as a whole, by one at a time."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._lock = threading.Lock()
        raw = checkpoint.load()
        self._states = {} if raw is None else states_of(raw)

    def load(self, name: str) -> bytes | None:
        return self._states.get(name)

    def save(self, name: str, state: bytes) -> None:
        with self._lock:
            states = {**self._states, name: state}
            self._checkpoint.save(json.encode(states))
            self._states = states


def states_of(raw: bytes) -> dict[str, bytes]:
    """What was written down; nothing when it was by an earlier version, whose roll-ups are made anew with their table."""
    try:
        return json.decode(raw, type=dict[str, bytes])
    except ValueError:
        return {}


class _OneOf:
    """The checkpoint of one keeper among them."""

    def __init__(self, shared: _SharedState, name: str) -> None:
        self._shared = shared
        self._name = name

    def load(self) -> bytes | None:
        return self._shared.load(self._name)

    def save(self, state: bytes) -> None:
        self._shared.save(self._name, state)

    def close(self) -> None:
        """Whoever made the shared one closes it."""
