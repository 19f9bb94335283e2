"""A place that files are put to: under names that are given once, and never altered.

Synchronous, from any thread. Raises errors.Unavailable when the place does not answer, errors.Invalid (code
export_place_refused) when it refuses what no repetition will change.
"""

from pathlib import Path
from typing import Protocol


class Place(Protocol):
    """A folder, or the part of a bucket below a prefix. Names have `/` between their parts."""

    def put(self, name: str, file: Path) -> None:
        """Put a local file there, whole or not at all. The same file again changes nothing."""
        ...

    def create(self, name: str, content: bytes) -> bool:
        """Put it there if nothing has that name, in one step of the place itself; whether it was made here."""
        ...

    def read(self, name: str) -> bytes | None:
        """What is there; None: nothing."""
        ...
