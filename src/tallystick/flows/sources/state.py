"""How the sources stand that this process runs, for `GET /metrics`."""

from collections.abc import Sequence
from dataclasses import dataclass

from tallystick.catalog.sourcing import KeptSource

FIGURES_MAX = 1000
"""Sources of which single figures are shown."""


@dataclass(slots=True)
class SourceFigure:
    """Of one source: its number names it, for keys and tenants have no bound."""

    number: int
    kind: str
    version: int
    status: str = "starting"
    taken: int = 0
    lag: int | None = None
    _before: int = 0

    def take(self, taken: int) -> None:
        """`taken` since it was begun: it begins at 0 whenever it is begun again."""
        self.taken += taken - self._before if taken >= self._before else taken
        self._before = taken


class SourceFigures:
    """By the names of leases."""

    def __init__(self) -> None:
        self._running: dict[str, SourceFigure] = {}

    def begin(self, name: str, kept: KeptSource) -> None:
        self._running[name] = SourceFigure(kept.number, str(kept.content["kind"]), kept.version)

    def end(self, name: str) -> None:
        self._running.pop(name, None)

    def version_of(self, name: str) -> int | None:
        """Of the definition that it runs by."""
        found = self._running.get(name)
        return None if found is None else found.version

    def observe(
        self, name: str, *, taken: int | None = None, lag: int | None = None, status: str | None = None
    ) -> None:
        found = self._running.get(name)
        if found is None:
            return
        if taken is not None:
            found.take(taken)
            found.lag = lag
        if status is not None:
            found.status = status

    def figures(self) -> Sequence[SourceFigure]:
        return list(self._running.values())[:FIGURES_MAX]
