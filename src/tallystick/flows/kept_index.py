"""A recorder's identity index, as the facts are: opened, brought up to the last batch done, and filled anew when it cannot be
trusted.

It may be short of what was recorded since it was last flushed, damaged, lost, or of another installation. What it holds in
the end must be as many identities as events are recorded; if not, it is thrown away and filled from its copy
(flows/index_copy.py), where there is one, or else from the facts.
"""

import contextlib
from collections.abc import Callable, Sequence

import numpy as np
import structlog
from numpy.typing import NDArray

from tallystick.flows.actions import identities_from
from tallystick.flows.index_copy import IndexCopy
from tallystick.flows.journal import State
from tallystick.identity.interface import U32, Identities, IdentityIndex, IndexDamagedError
from tallystick.metering.event import content_of, identity_of
from tallystick.metering.position import Positions
from tallystick.store.interface import Store

_LOW_32 = np.uint64(0xFFFF_FFFF)
_NOTHING: NDArray[np.uint64] = np.empty(0, np.uint64)

_logger = structlog.get_logger("recorder")

Learnt = tuple[Identities, U32, Positions]
"""Identities, with the content and the position each was first recorded with."""


class KeptIndex:
    """The recorder's thread makes all calls but `doubt` and `suspect`."""

    def __init__(
        self,
        *,
        open_index: Callable[[], IdentityIndex],
        discard_index: Callable[[], None],
        store: Store,
        copy: IndexCopy | None,
    ) -> None:
        """`copy`: None where this process's disk is all there is."""
        self._open_index = open_index
        self._discard_index = discard_index
        self._store = store
        self._copy = copy
        self._is_suspect = self._copy_is_doubted = False
        self.index: IdentityIndex | None = None
        """None while it is not open."""

    def suspect(self) -> None:
        """It has failed a check: the next `refill` fills a new one."""
        self._is_suspect = True

    def doubt(self) -> None:
        """As `suspect`, from the facts alone."""
        self._is_suspect = self._copy_is_doubted = True

    def refill(self, state: State) -> None:
        """Open the index and add what was recorded since it was last flushed; when it is damaged, ahead of the facts or
        short of some, throw it away and fill a new one from its copy, or else from the facts."""
        is_suspect, self._is_suspect = self._is_suspect, False
        is_doubted, self._copy_is_doubted = self._copy_is_doubted, False
        try:
            self._refill(state, is_suspect=is_suspect, by_copy=self._copy is not None and not is_doubted)
        except BaseException:
            self._is_suspect |= is_suspect
            self._copy_is_doubted |= is_doubted
            raise

    def _refill(self, state: State, *, is_suspect: bool, by_copy: bool) -> None:
        reason = "it failed a check while in use" if is_suspect else ""
        ways = [True, True, False] if by_copy else [False, False]
        self.close()
        for number, way in enumerate(ways):
            if number == 0 and reason:  # the one there is need not be looked at
                continue
            if number:
                _logger.warning("identity_index_rebuilt", reason=reason, by_copy=way)
                self._discard_index()
            try:
                self.index = self._filled(state, by_copy=way)
                break
            except IndexDamagedError as error:
                if number == len(ways) - 1:
                    raise
                reason = str(error)
        if self._copy is not None:
            self._copy.check(state)

    def close(self) -> None:
        index, self.index = self.index, None
        if index is not None:
            index.close()

    def learn(self, learnt: Sequence[Learnt], *, after: int, through: int) -> None:
        """What the batch (after, through] has added. When this raises, nothing may be decided before `refill`."""
        index = self.index
        assert index is not None
        for identities, content, positions in learnt:
            index.add(identities, content, positions, through=after)
            if self._copy is not None:
                self._copy.note(identities, content, positions)
        self._reach(index, through)

    def flush(self) -> None:
        """What was learnt last has positions that the index covers already: a restart would look for what it lacks behind
        them only."""
        assert self.index is not None
        self.index.flush()
        if self._copy is not None:
            self._copy.copy_soon()

    # -- its copy -----------------------------------------------------------------------------------------------
    @property
    def is_copy_due(self) -> bool:
        return self._copy is not None and self._copy.is_due

    def copy_some(self, state: State) -> State:
        """Let the copy follow, a step; the state to be saved then."""
        if self._copy is None or self.index is None:
            return state
        return self._copy.step(self.index, state) or state

    def finish_copy(self, state: State) -> State:
        """Whoever takes over finds a copy that is complete, if it can be had."""
        if self._copy is None:
            return state
        return self._copy.finish(state) or state

    # -- filling ------------------------------------------------------------------------------------------------
    def _filled(self, state: State, *, by_copy: bool) -> IdentityIndex:
        """The index as it lies, brought up to the last batch done. Raises IndexDamagedError when it cannot be trusted;
        whatever is raised, it is closed: two open at once would write over each other."""
        index = self._open_index()
        try:
            _check(index.covered <= state.recorded, index, state)
            after = covered = index.covered
            if self._copy is not None:
                self._copy.begin(state, trusted=by_copy)
                covered = self._copy.fill(index, state)
                after = self._copy.lacks_after(state, covered)
            self._fill(index, after=after, covered=covered, through=state.recorded)
            _check(len(index) == state.events, index, state)
        except BaseException:
            with contextlib.suppress(Exception):
                index.close()
            raise
        return index

    def _fill(self, index: IdentityIndex, *, after: int, covered: int, through: int) -> None:
        """Read the facts behind `after`; the index has those up to `covered`, and its copy lacks all of them."""

        def take(identities: Identities, content: U32, positions: Positions) -> None:
            if self._copy is not None:
                self._copy.note(identities, content, positions)
            new = positions > np.uint64(covered)
            # `through` stays where it was until all blocks are in: they come in no order.
            index.add(
                Identities(identities.high[new], identities.low[new]),
                content[new],
                positions[new],
                through=covered,
            )

        for block in self._store.identities(after=after, through=through):
            if block.num_rows == 0:
                continue
            tenants, sources, ids = (block[name].to_pylist() for name in ("tenant", "source", "id"))
            digests = [identity_of(*names) for names in zip(tenants, sources, ids, strict=True)]
            content = content_of(
                block["type"].to_pylist(), block["subject"].to_pylist(), block["data"].to_pylist()
            )
            take(
                identities_from(b"".join(digests)),
                (content & _LOW_32).astype(np.uint32),
                np.asarray(block["position"], dtype=np.uint64),
            )
        for block in self._store.forgotten(after=after, through=through):
            take(
                identities_from(b"".join(block["identity"].to_pylist())),
                np.asarray(block["content"], dtype=np.uint32),
                np.asarray(block["position"], dtype=np.uint64),
            )
        self._reach(index, through)

    def _reach(self, index: IdentityIndex, through: int) -> None:
        index.add(Identities(_NOTHING, _NOTHING), _NOTHING.astype(np.uint32), _NOTHING, through=through)


def _check(is_sound: bool, index: IdentityIndex, state: State) -> None:
    if not is_sound:
        raise IndexDamagedError(
            f"it holds {len(index)} identities and covers position {index.covered}; "
            f"recorded are {state.events}, up to {state.recorded}"
        )
