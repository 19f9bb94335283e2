"""Windows as SQL: from a moment to its window. Borders come with the question; the engine's calendar is not asked."""

import itertools

from tallystick.store.question.bound import Bound


def _step_us(edges_us: tuple[int, ...]) -> int | None:
    """The width of the windows where all are equally wide but the first and last, which may be cut; otherwise None."""
    inner = edges_us[1:-1]
    if not inner:
        return edges_us[1] - edges_us[0]
    if len(inner) == 1:
        return max(inner[0] - edges_us[0], edges_us[-1] - inner[0])
    step = inner[1] - inner[0]
    if any(after - before != step for before, after in itertools.pairwise(inner)):
        return None
    if inner[0] - edges_us[0] > step or edges_us[-1] - inner[-1] > step:
        return None
    return step


class Borders:
    """The windows of a question, bound to one statement. Moments are whole numbers of microseconds (Int64)."""

    def __init__(self, edges_us: tuple[int, ...], bound: Bound) -> None:
        self._edges_us = edges_us
        self._first = bound.value(edges_us[0], "Int64")
        self._last = bound.value(edges_us[-1], "Int64")
        step = _step_us(edges_us)
        if step is None:
            self._step = None
            self._edges = bound.value(list(edges_us), "Array(Int64)")
            self._starts = bound.value(list(edges_us[:-1]), "Array(Int64)")
            self._indexes = bound.value(list(range(len(edges_us) - 1)), "Array(Int32)")
        else:
            self._step = bound.value(step, "Int64")
            self._base = bound.value(edges_us[1] - step, "Int64")

    @staticmethod
    def key(edges_us: tuple[int, ...], time_us: str, bound: Bound) -> str:
        """What tells windows apart at the least cost: the index of a window, or its start. See `indexes`."""
        step = _step_us(edges_us)
        if step is None:
            return f"roundDown({time_us}, {bound.value(list(edges_us[:-1]), 'Array(Int64)')})"
        base = bound.value(edges_us[1] - step, "Int64")
        return f"intDiv({time_us} - {base}, {bound.value(step, 'Int64')})"

    @staticmethod
    def indexes(edges_us: tuple[int, ...]) -> dict[int, int] | None:
        """From what `key` answers for a window to its index; None: it is the index."""
        if _step_us(edges_us) is not None:
            return None
        return {start: index for index, start in enumerate(edges_us[:-1])}

    def index(self, time_us: str) -> str:
        """The index of the window this moment lies in."""
        if self._step is None:
            return (
                f"toInt64(transform(roundDown({time_us}, {self._starts}), {self._starts}, {self._indexes}))"
            )
        return f"intDiv({time_us} - {self._base}, {self._step})"

    def start_of(self, index: str) -> str:
        if self._step is None:
            return f"{self._edges}[{index} + 1]"
        return f"greatest({self._first}, {self._base} + ({index}) * {self._step})"

    def end_of(self, index: str) -> str:
        if self._step is None:
            return f"{self._edges}[{index} + 2]"
        return f"least({self._last}, {self._base} + ({index} + 1) * {self._step})"

    def start_at(self, time_us: str) -> str:
        """The start of the window this moment lies in."""
        if self._step is None:
            return f"roundDown({time_us}, {self._starts})"
        return f"greatest({self._first}, {time_us} - modulo({time_us} - {self._base}, {self._step}))"
