"""The copy of a partition's identity index in the store, from which whoever takes the partition over has its own at once.

The index lies on the disk of the process that records. In a cluster that process may be gone for ever, and reading every
event again takes a minute for some millions. So the recorder copies what its index has learnt to the store, some ten
thousand identities at a time, and says in its journal how far it has got (`State.copied`, and how many rows there must be).
Who takes over reads the copy in the index's own order, straight into a run, or only what came since it last held the
partition; the rest, less than one copy, comes from the events.

The copy is derived data. Whatever is wrong with it shows in the numbers: of its rows, and of the identities that the index
has in the end, which must be the events recorded. Then the index is filled from the events, and the copy made anew, piece by
piece between batches.
"""

import itertools
import secrets
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import structlog
from msgspec.structs import replace

from tallystick.flows.journal import State
from tallystick.identity.entries import (
    LOW_KEPT_SHIFT,
    Entries,
    check_of,
    concatenate,
)
from tallystick.identity.interface import U32, U64, Identities, IdentityIndex, IndexDamagedError
from tallystick.store.interface import IDENTITY_SCHEMA, Store

COPY_ROWS = 1 << 15
"""So many identities are copied at a time. What is not copied yet is read from the events by who takes over: 0.3 s."""
_PIECE_ROWS = 1 << 19
_PENDING_MAX = 1 << 20
_NOTHING = (
    Identities(np.empty(0, np.uint64), np.empty(0, np.uint64)),
    np.empty(0, np.uint32),
    np.empty(0, np.uint64),
)

_logger = structlog.get_logger("index_copy")


class IndexCopy:
    """One partition's, in the hands of its recorder, whose thread makes all calls. Calls of the store raise what it raises."""

    def __init__(self, store: Store, *, base: int) -> None:
        """`base`: the position before the partition's first."""
        self._store = store
        self._base = base
        self._writer = secrets.token_hex(8)  # tokens of another recorder's copies must never come again
        self._numbers = itertools.count()
        self._pending: list[Entries] = []
        self._pending_rows = 0
        self._soon = False
        self._whole: Iterator[Entries] | None = None
        self._whole_rows = self._whole_through = 0
        self._is_trusted = True
        """Whether copied rows and pending ones are all there are."""
        self._is_clean = False
        """Whether no rows lie behind those that the journal knows of."""

    # -- filling an index -------------------------------------------------------------------------------------------
    def begin(self, state: State, *, trusted: bool) -> None:
        """Forget what is pending: an index is about to be filled. Not `trusted`: not from the copy, which is made anew."""
        self._give_up()
        self._pending, self._pending_rows, self._soon = [], 0, False
        self._is_trusted = trusted and state.events - state.copied_rows <= _PENDING_MAX
        self._is_clean = False

    def lacks_after(self, state: State, covered: int) -> int:
        """Of an index that is complete up to `covered`: behind which position events are to be read, for it or for the
        copy."""
        return min(covered, self._covered(state)) if self._is_trusted else covered

    def _covered(self, state: State) -> int:
        return max(self._base, state.copied if self._is_trusted else 0)

    def fill(self, index: IdentityIndex, state: State) -> int:
        """Add what the copy has and the index lacks; up to which position the index is complete now, as far as the copy can be
        trusted. Raises IndexDamagedError when the copy is not what the journal says."""
        through = self._covered(state)
        covered = max(index.covered, self._base)
        if covered >= through:
            return covered
        if len(index) == 0:
            kept = self._store.kept_identities(after=0, through=through)
            if kept.count != state.copied_rows:
                raise IndexDamagedError(
                    f"its copy has {kept.count} identities instead of {state.copied_rows}"
                )
            index.load(
                map(_identities, kept.rows()),
                count=kept.count,
                position_min=kept.position_min,
                position_max=kept.position_max,
                through=through,
            )
            return through
        for block in self._store.kept_identities(after=covered, through=through).rows():
            identities, content, position = _identities(block)
            # A copy may begin before the index ends.
            new = index.find(identities).position == 0
            index.add(
                Identities(identities.high[new], identities.low[new]),
                content[new],
                position[new],
                through=index.covered,
            )
        index.add(*_NOTHING, through=through)
        return through

    def check(self, state: State) -> None:
        """Once the index is as the facts are: whether the copy, with what is pending, is so too."""
        if self._is_trusted and state.copied_rows + self._pending_rows != state.events:
            self._is_trusted = False

    # -- following it -----------------------------------------------------------------------------------------------
    def note(self, identities: Identities, content: U32, position: U64) -> None:
        """The index has learnt these."""
        if not self._is_trusted or not len(identities):
            return
        self._pending.append(Entries(identities.high, check_of(identities.low), content, position))
        self._pending_rows += len(identities)
        if self._pending_rows > _PENDING_MAX and self._whole is None:
            self._is_trusted = False
            self._pending, self._pending_rows = [], 0

    def copy_soon(self) -> None:
        """What was noted last cannot be found by its position: do not wait until there is more of it."""
        self._soon = True

    @property
    def is_due(self) -> bool:
        """Whether `step` would do something."""
        return (
            not self._is_trusted
            or self._whole is not None
            or self._pending_rows >= (1 if self._soon else COPY_ROWS)
        )

    def step(self, index: IdentityIndex, state: State) -> State | None:
        """Copy what is due; the state to be saved before the next step. None: nothing is due. What it raises leaves everything to
        be tried again."""
        if not self._is_trusted:
            return self._begin_whole(index, state)
        if self._whole is not None:
            return self._copy_piece(state)
        return self._copy_pending(state) if self.is_due else None

    def finish(self, state: State) -> State | None:
        """Copy what is pending, before another takes over; the state to be saved then."""
        if self._is_trusted and self._whole is None and self._pending_rows:
            return self._copy_pending(state)
        return None

    def _copy_pending(self, state: State) -> State:
        entries = concatenate(self._pending)
        self._insert(entries, state, through=state.recorded)
        self._pending, self._pending_rows, self._soon = [], 0, False
        return replace(state, copied=state.recorded, copied_rows=state.copied_rows + len(entries))

    def _begin_whole(self, index: IdentityIndex, state: State) -> State:
        """From here on what the index learns is pending, and what it has is copied piece by piece."""
        _logger.info("index_copied_anew", identities=len(index))
        self._give_up()
        self._whole = _pieces(index)
        self._whole_through = state.recorded
        self._pending, self._pending_rows = [], 0
        self._is_trusted, self._is_clean = True, False
        return replace(state, copied=0, copied_rows=0)

    def _copy_piece(self, state: State) -> State | None:
        assert self._whole is not None
        try:
            piece = next(self._whole, None)
            if piece is not None:
                self._insert(piece, state, through=self._whole_through)
                self._whole_rows += len(piece)
                return state
        except BaseException:
            self._is_trusted = False
            raise
        rows = self._whole_rows
        self._give_up()
        return replace(state, copied=self._whole_through, copied_rows=rows)

    def _insert(self, entries: Entries, state: State, *, through: int) -> None:
        if not self._is_clean:
            # What a writer before this one, or an attempt before this one, has put in and not written down.
            self._store.delete_identities(after=state.copied)
        self._is_clean = False
        entries = entries.take(np.argsort(entries.key, kind="stable"))
        columns = (entries.key, entries.check, entries.content, entries.position)
        rows = pa.Table.from_arrays([pa.array(column) for column in columns], schema=IDENTITY_SCHEMA)
        self._store.insert_identities(
            rows, through=through, token=f"identities:{self._writer}:{next(self._numbers)}"
        )
        self._is_clean = True

    def _give_up(self) -> None:
        self._whole, self._whole_rows = None, 0


def _identities(block: pa.RecordBatch) -> tuple[Identities, U32, U64]:
    key, rest, content, position = (np.asarray(block[name]) for name in IDENTITY_SCHEMA.names)
    low = rest.astype(np.uint64) << np.uint64(LOW_KEPT_SHIFT)
    return Identities(key, low), content, position


def _pieces(index: IdentityIndex) -> Iterator[Entries]:
    """Everything the index holds at this moment."""
    blocks = index.scan()
    first = next(blocks, None)  # what is held is settled here

    def united() -> Iterator[Entries]:
        parts: list[Entries] = []
        for identities, content, position in itertools.chain(() if first is None else (first,), blocks):
            parts.append(Entries(identities.high, check_of(identities.low), content, position))
            if sum(map(len, parts)) >= _PIECE_ROWS:
                yield concatenate(parts)
                parts = []
        if parts:
            yield concatenate(parts)

    return united()
