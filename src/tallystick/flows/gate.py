"""Whether this installation takes anything in: closed while it moves to a cluster, and for good once it has."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

MOVED = "moved"
"""A file of this name in a data directory: the installation has moved to where it says, and only answers questions."""


class Outside(Protocol):
    """Another process of this installation that takes things in: told before this one closes, and asked behind it."""

    def close(self) -> None: ...

    def open(self) -> None: ...

    async def quiet(self) -> None:
        """Until nothing that it has let in is under way."""
        ...


class Gate:
    """Counts requests that write, and lets none in when it is closed. One event loop uses an instance."""

    def __init__(self, file: Path | None = None) -> None:
        """`file`: where it is kept that the installation has moved."""
        self._file = file
        self._inside = 0
        self.tell: Callable[[str], None] = lambda moved_to: None
        """Lets the other processes of a cluster know where it has moved to, for good."""
        self.outside: Outside | None = None
        self.reason: str | None = None
        """In words, why nothing is taken in; None: it is open."""
        if file is not None and file.exists():
            self.reason = _moved_to(file.read_text(encoding="utf-8").strip())

    def enter(self) -> None:
        self._inside += 1

    def leave(self) -> None:
        self._inside -= 1

    async def close(self, reason: str, *, wait_s_max: float) -> bool:
        """Let nobody in any more, and wait until those inside are out. False, and open again: they took too long."""
        self.reason = reason
        if self.outside is not None:
            self.outside.close()
            await self.outside.quiet()
        until = time.monotonic() + wait_s_max
        while self._inside:
            if time.monotonic() > until:
                self.open()
                return False
            await asyncio.sleep(0.01)
        return True

    def open(self) -> None:
        self.reason = None
        if self.outside is not None:
            self.outside.open()

    def has_moved(self, moved_to: str) -> None:
        """Another process of this installation has closed it for good."""
        self.reason = _moved_to(moved_to)

    def close_for_good(self, moved_to: str) -> None:
        """Also after a restart. Durable when it returns."""
        import os

        assert self._file is not None
        self.tell(moved_to)
        with self._file.open("w", encoding="utf-8") as file:
            file.write(moved_to)
            file.flush()
            os.fsync(file.fileno())
        directory = os.open(self._file.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        self.reason = _moved_to(moved_to)


def _moved_to(where: str) -> str:
    return f"This installation has moved to {where}; it answers questions only."
