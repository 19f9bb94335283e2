"""How far a consumer of the log got: one small value, replaced as a whole, durable when `save` returns."""

import sqlite3
from pathlib import Path
from typing import Protocol

import structlog

from tallystick.errors import StorageFull, TallystickError, Unavailable

_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

_logger = structlog.get_logger("tallystick.log")


class Checkpoint(Protocol):
    """One consumer's place in the log. Synchronous; used by one thread at a time."""

    def load(self) -> bytes | None:
        """What was last saved; None when nothing ever was."""
        ...

    def save(self, state: bytes) -> None:
        """Replace what was saved. Durable (synced) when it returns. Raises StorageFull, Unavailable; the state is then
        the one before."""
        ...

    def close(self) -> None: ...


class SqliteCheckpoint:
    """A file of its own beside the log, so that saving never waits for a commit of events.

    A damaged file is set aside (`.damaged`) and counts as lost: whoever keeps a checkpoint can do without.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._connection = _open(path)
            self.load()
        except sqlite3.DatabaseError as error:
            if _code(error) not in _DAMAGED:
                raise _as_ours(error, path) from error
            _logger.warning("checkpoint_damaged", path=str(path), error=str(error))
            for suffix in ("", "-wal", "-shm"):
                file = path.with_name(path.name + suffix)
                if file.exists():
                    file.rename(file.with_name(file.name + ".damaged"))
            self._connection = _open(path)

    def load(self) -> bytes | None:
        row = self._connection.execute("SELECT state FROM checkpoint").fetchone()
        return None if row is None else bytes(row[0])

    def save(self, state: bytes) -> None:
        try:
            self._connection.execute("INSERT OR REPLACE INTO checkpoint (one, state) VALUES (1, ?)", (state,))
        except sqlite3.Error as error:
            raise _as_ours(error, self._path) from error

    def close(self) -> None:
        self._connection.close()


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS checkpoint (one INTEGER PRIMARY KEY CHECK (one = 1), state BLOB NOT NULL)"
        )
    except BaseException:
        connection.close()
        raise
    return connection


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _as_ours(error: sqlite3.Error, path: Path) -> TallystickError:
    if _code(error) == sqlite3.SQLITE_FULL:
        return StorageFull(f"The disk of {path} is full; make room.")
    return Unavailable(f"{path} cannot be written: {error}.", retry_after_s=1)
