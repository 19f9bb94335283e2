"""A copy of the log's file as it is at one instant, made while the log is in use.

Only for what is behind a position: everything before is in the store.
"""

import sqlite3
from pathlib import Path

from tallystick.errors import Unavailable
from tallystick.log.sqlite import APPLICATION_ID, FILE_VERSION


class LogCopy:
    """Pins the log's file as it is when this is made; trimming and appending go on beside it. Used by one thread at a
    time. Raises Unavailable when the file cannot be read."""

    def __init__(self, path: Path) -> None:
        try:
            self._source = sqlite3.connect(
                f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
            )
            self._source.execute("BEGIN")
            self._source.execute("SELECT through FROM trimmed").fetchone()  # the snapshot begins with a read
        except sqlite3.Error as error:
            raise Unavailable(f"{path} cannot be copied: {error}.") from error

    def write(self, path: Path, *, after: int) -> int:
        """Write a log of its own with the events behind position `after`; answers the position of the last one.

        `after` must be recorded. A block that it lies in is kept whole."""
        target = sqlite3.connect(path, isolation_level=None)
        try:
            self._source.backup(target)
            target.execute("PRAGMA journal_mode = DELETE").fetchall()
            target.execute("DELETE FROM block WHERE first + count - 1 <= ?", (after,))
            target.execute(
                "UPDATE trimmed SET through = coalesce((SELECT min(first) - 1 FROM block), max(through, ?))",
                (after,),
            )
            target.execute("VACUUM")
            target.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            target.execute(f"PRAGMA user_version = {FILE_VERSION}")
            (end,) = target.execute(
                "SELECT coalesce((SELECT max(first + count - 1) FROM block), through) FROM trimmed"
            ).fetchone()
            return int(end)
        except sqlite3.Error as error:
            raise Unavailable(f"{path} cannot be written: {error}.") from error
        finally:
            target.close()

    def close(self) -> None:
        self._source.close()
