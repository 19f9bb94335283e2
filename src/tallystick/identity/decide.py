"""New, duplicate or conflict: the decision about every event of a batch, from what the index says. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tallystick.identity.interface import U64, Found, Identities

_LOW_32 = np.uint64(0xFFFF_FFFF)


@dataclass(frozen=True, slots=True)
class Decision:
    """For n events of a batch, in the order of their positions.

    `original` is the position under which the identity was first recorded: the event's own for a new one.
    `alike` tells whether the fingerprints of the contents agree; where they do not, the contents themselves must be
    compared, since the same JSON can be written in more than one way.
    """

    original: U64
    new: NDArray[np.bool_]
    alike: NDArray[np.bool_]


def decide(identities: Identities, content: U64, position: U64, found: Found) -> Decision:
    """Who is first? An identity the index knows is a repeat of that one; among those it does not know, the one with
    the lowest position in this batch is new and the others repeat it.

    An index that already holds this very event (same position) says so, and the event stays new: replaying a batch
    after a crash decides as the first time.
    """
    original = np.where(found.position > 0, found.position, position)
    first_content = np.where(found.position > 0, found.content.astype(np.uint64), content & _LOW_32)
    unseen = np.flatnonzero(found.position == 0)
    if len(unseen) > 1:
        repeats, firsts = _repeats_within(identities.high[unseen], identities.low[unseen])
        if len(repeats):
            later, first = unseen[repeats], unseen[firsts]
            original[later] = position[first]
            first_content[later] = content[first] & _LOW_32
    return Decision(
        original=original,
        new=original == position,
        alike=(content & _LOW_32) == first_content,
    )


def _repeats_within(high: U64, low: U64) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices of rows whose (high, low) stands at an earlier row too, and for each the earliest such row."""
    order = np.argsort(high, kind="stable")
    sorted_high = high[order]
    candidates = np.flatnonzero(sorted_high[1:] == sorted_high[:-1])
    if len(candidates) == 0:
        nothing = np.empty(0, dtype=np.intp)
        return nothing, nothing
    # Only rows whose high half stands more than once are looked at again, now by both halves and the order of rows.
    rows = np.unique(np.concatenate([order[candidates], order[candidates + 1]]))
    order = rows[np.lexsort((rows, low[rows], high[rows]))]
    same = (high[order][1:] == high[order][:-1]) & (low[order][1:] == low[order][:-1])
    begins = np.concatenate([[True], ~same])
    first_of_run = order[begins][np.cumsum(begins) - 1]
    repeat = ~begins
    return order[repeat], first_of_run[repeat]
