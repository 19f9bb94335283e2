"""What `tallystick collect` remembers of a folder: which objects it has taken, and which events each of them gave.

A journal (`journal.ndjson`, a line an object taken, synced) says what is behind it. Beside it lies a list of identities an
object, by which a replaced object becomes corrections: identities are written down before they are sent, so that a run
that was cut off is known too. Losing all of it costs time: sending an object again changes nothing.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from tallystick.errors import TallystickError
from tallystick.sources.sent import UNKNOWN, Identity

PIECE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Taken:
    """An object that is behind us. `fault`: why it could not be read to its end; it is tried again once it changes."""

    path: str
    size: int
    mtime_ns: int
    sha256: str
    events: int = 0
    replaced: int = 0
    retracted: int = 0
    refused: int = 0
    fault: str = ""


class Journal:
    """The memory of one folder. One process at a time."""

    def __init__(self, directory: Path) -> None:
        """Raises TallystickError when another process has it, or it cannot be written."""
        try:
            (directory / "objects").mkdir(parents=True, exist_ok=True)
            self._lock = (directory / "lock").open("w")
            self._file = (directory / "journal.ndjson").open("a+b")
        except OSError as error:
            raise TallystickError(f"--state: {directory} cannot be written: {error.strerror}.") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise TallystickError(f"Another `tallystick collect` is at work with {directory}.") from error
        self._directory = directory
        self._taken: dict[str, Taken] = {}
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        for line in content[:whole].splitlines():
            one = Taken(**json.loads(line))
            self._taken[one.path] = one
        self._file.truncate(whole)  # a line that was being written when the end came

    def last(self, path: str) -> Taken | None:
        """How this object was when it was taken last."""
        return self._taken.get(path)

    def note(self, taken: Taken) -> None:
        """It is behind us, durably."""
        self._file.write(json.dumps(asdict(taken)).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._taken[taken.path] = taken

    def close(self) -> None:
        """Let others at it."""
        self._file.close()
        self._lock.close()

    # -- identities -----------------------------------------------------------------------------------------------
    def identities(self, path: str, sha256: str) -> dict[Identity, str]:
        """What is known to have been sent of this path: a digest of the event, RETRACTED, or UNKNOWN for what a run that
        was cut off, of another content than `sha256`, may have sent."""
        known: dict[Identity, str] = {}
        listed = self._list_of(path)
        if listed.exists():
            known = dict(_read(listed, ""))
        passing = listed.with_suffix(".passing")
        if passing.exists():
            for identity, _ in _read(passing, sha256):
                known[identity] = UNKNOWN
        return known

    @contextmanager
    def listing(self, path: str, sha256: str) -> Generator[IO[str]]:
        """Where the identities of an object are written down before they are sent; kept when the block ends well."""
        listed = self._list_of(path)
        passing = listed.with_suffix(".passing")
        before = [identity for identity, _ in _read(passing, sha256)] if passing.exists() else []
        fresh = listed.with_suffix(".new")
        with fresh.open("w", encoding="utf-8") as stream:
            stream.write(json.dumps(sha256) + "\n")
            for identity in before:
                write_identity(stream, identity, UNKNOWN)
            stream.flush()
            fresh.replace(passing)
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        passing.replace(listed)

    def _list_of(self, path: str) -> Path:
        return self._directory / "objects" / (hashlib.sha256(path.encode()).hexdigest()[:32] + ".ids")


def write_identity(stream: IO[str], identity: Identity, digest: str) -> None:
    """One line of a list."""
    stream.write(json.dumps([*identity, digest]) + "\n")


def _read(path: Path, unless: str) -> Iterator[tuple[Identity, str]]:
    """A list's lines; none when it is of the content `unless`."""
    with path.open(encoding="utf-8") as stream:
        try:
            if json.loads(stream.readline() or '""') == unless:
                return
            for line in stream:
                found: list[Any] = json.loads(line)
                yield (found[0], found[1]), found[2]
        except (ValueError, IndexError):
            return  # cut off: what follows was never sent


def sha256_of(path: Path) -> str:
    """A digest of the content. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()
