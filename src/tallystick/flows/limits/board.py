"""A page of memory that two processes share: what the gate's process has to know at the moment it decides, without asking."""

import mmap
import os
import tempfile

_SLOTS = 4
_BYTES = mmap.PAGESIZE


class Board:
    """Numbers of 64 bits that one side writes and the other reads. Each is read and written whole."""

    def __init__(self, descriptor: int) -> None:
        """Of an open file of a page (`make`), which may be closed then."""
        self._map = mmap.mmap(descriptor, _BYTES)
        self._numbers = memoryview(self._map)[: 8 * _SLOTS].cast("Q")

    @staticmethod
    def make() -> tuple["Board", int]:
        """With the descriptor, for the other process."""
        with tempfile.TemporaryFile() as file:
            file.truncate(_BYTES)
            descriptor = os.dup(file.fileno())
        return Board(descriptor), descriptor

    @property
    def published_us(self) -> int:
        """The last published moment. It stands here before anybody can be told of it."""
        return self._numbers[0]

    @published_us.setter
    def published_us(self, moment_us: int) -> None:
        self._numbers[0] = moment_us

    @property
    def log_end(self) -> int:
        """Everything acknowledged up to some moment not long ago lies at or before it."""
        return self._numbers[1]

    @log_end.setter
    def log_end(self, position: int) -> None:
        self._numbers[1] = position

    @property
    def changes(self) -> int:
        """Grows with every change of keys or limits, before that is answered."""
        return self._numbers[2]

    @changes.setter
    def changes(self, number: int) -> None:
        self._numbers[2] = number

    @property
    def closed(self) -> bool:
        """Nothing is taken in: the installation moves."""
        return self._numbers[3] != 0

    @closed.setter
    def closed(self, closed: bool) -> None:
        self._numbers[3] = int(closed)

    def close(self) -> None:
        self._numbers.release()
        self._map.close()
