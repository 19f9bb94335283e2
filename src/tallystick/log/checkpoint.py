"""How far a consumer of the log got: one small value, replaced as a whole, durable when `save` returns."""

import sqlite3
from pathlib import Path
from typing import Protocol


class Checkpoint(Protocol):
    """One consumer's place in the log. Synchronous; used by one thread at a time."""

    def load(self) -> bytes | None:
        """What was last saved; None when nothing ever was."""
        ...

    def save(self, state: bytes) -> None:
        """Replace what was saved. Durable (synced) when it returns."""
        ...

    def close(self) -> None: ...


class SqliteCheckpoint:
    """A file of its own beside the log, so that saving never waits for a commit of events."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS checkpoint (one INTEGER PRIMARY KEY CHECK (one = 1), state BLOB NOT NULL)"
        )

    def load(self) -> bytes | None:
        row = self._connection.execute("SELECT state FROM checkpoint").fetchone()
        return None if row is None else bytes(row[0])

    def save(self, state: bytes) -> None:
        self._connection.execute("INSERT OR REPLACE INTO checkpoint (one, state) VALUES (1, ?)", (state,))

    def close(self) -> None:
        self._connection.close()
