"""A credit that may pay little must not lie idle while a wider one pays that little in its place.

Credits are spent in their order, and a wider one shares itself out in proportion (credit.spend). So it may have paid for
what a narrower one, whose turn comes later, could have paid, and be missing where only it could have paid. Then it makes
way: it moves to what is still to be paid, and the narrower one takes its place. No grant pays less than before, so the
order of grants holds; with it each in its turn pays as much as any sharing out would let it (augmenting paths, Ford and
Fulkerson 1956: what can be paid together is a polymatroid, in which paying greedily in any order is best).
"""

from collections import deque
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise

from tallystick.money import ZERO

Move = tuple[int, int]
"""(payer, place): who pays for which place from now on."""


def make_way(
    payer: int,
    amount: Decimal,
    covers: Sequence[Sequence[int]],
    paid: Sequence[dict[int, Decimal]],
    left: list[Decimal],
    *,
    stuck: set[int],
) -> Decimal:
    """Let `payer` pay up to `amount` for places that others pay for, who move to where something is left to be paid.

    `covers[payer]`: the places a payer may pay for; `paid[place]`: what each payer has paid for it; `left[place]`: what is
    still to be paid; `stuck`: places nobody can move from, which stay so while the same things are paid for. The last three
    are changed. Answers how much was paid. Called within `exactly`.
    """
    used = ZERO
    while used < amount:
        moves = _moves(payer, covers, paid, left, stuck)
        if not moves:
            break
        # Nobody can move more than he pays at the place he leaves, to a place that needs less.
        part = min(amount - used, left[moves[-1][1]])
        for (_, place), (mover, _) in pairwise(moves):
            part = min(part, paid[place][mover])
        left[moves[-1][1]] -= part
        for index, (taker, place) in enumerate(moves):
            paid[place][taker] = paid[place].get(taker, ZERO) + part
            if index + 1 < len(moves):
                mover = moves[index + 1][0]
                paid[place][mover] -= part
                if not paid[place][mover]:
                    del paid[place][mover]
        used += part
    return used


def _moves(
    payer: int,
    covers: Sequence[Sequence[int]],
    paid: Sequence[dict[int, Decimal]],
    left: Sequence[Decimal],
    stuck: set[int],
) -> list[Move]:
    """The fewest moves that end where something is left to be paid: each takes the place that the next one leaves.

    None: then whoever pays for the places that were seen may pay for no others, so they are stuck, and are not looked at
    again: many credits for one place cost one search.
    """
    came: dict[int, Move | None] = {payer: None}
    seen: set[int] = set()
    queue = deque([payer])
    while queue:
        taker = queue.popleft()
        for place in covers[taker]:
            if place in seen or place in stuck:
                continue
            seen.add(place)
            for mover in paid[place]:
                if mover in came:
                    continue
                came[mover] = (taker, place)
                end = next((other for other in covers[mover] if left[other] > 0), None)
                if end is not None:
                    return _path(mover, end, came)
                queue.append(mover)
    stuck |= seen
    return []


def _path(mover: int, end: int, came: dict[int, Move | None]) -> list[Move]:
    moves = [(mover, end)]
    before = came[mover]
    while before is not None:
        moves.append(before)
        before = came[before[0]]
    return moves[::-1]
