"""A web server's access log, followed through its rotations. Lines of nginx' and Apache's `combined` (and `common`) form, or
JSON lines.

A place in the log is a file (device and inode, and its first bytes, since inodes are used again) and an offset. **Renamed**
(logrotate's default): the file that was followed is read to its end under its old inode, found as PATH.1 and the like, then
the new one from its beginning. **Truncated** (copytruncate): the file is shorter than the offset, or begins otherwise: it is
read from its beginning, as another file. A line is taken once it ends; its identity is its file and offset.

What an event of a `combined` line says: `remote_address, user, time, method, path, query, protocol, status, bytes, referer,
user_agent, host` (of nginx' and Apache's own forms), for the mapping to choose from.
"""

import asyncio
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from tallystick.sources.interface import Feed, Record, Reject, SourceFaultError
from tallystick.sources.source import Source

PART = "log"
LINES_MAX = 2000
READ_BYTES_MAX = 1024 * 1024
LINE_BYTES_MAX = 256 * 1024
HEAD_BYTES = 256
"""By which a file is known again beside its inode."""
ROTATED_MAX = 100
QUIET_S = 3.0
"""After so long without a change nobody writes to a renamed file any more."""

_COMBINED = re.compile(
    r'(?P<remote_address>\S+) \S+ (?P<user>\S+) \[(?P<time>[^\]]{1,40})\] "(?P<request>(?:[^"\\]|\\.)*)" '
    r"(?P<status>\d{3}) (?P<bytes>\d+|-)"
    r'(?: "(?P<referer>(?:[^"\\]|\\.)*)" "(?P<user_agent>(?:[^"\\]|\\.)*)")?(?P<rest>.*)'
)
_ROTATED = re.compile(r"[.-]\d[\d.T_:-]{0,30}")
"""What log rotation puts behind a name: a number or a date. Compressed files are not read."""
_REQUEST = re.compile(r"(?P<method>[A-Z]{1,20}) (?P<target>\S+)(?: (?P<protocol>HTTP/\S+))?")


@dataclass(frozen=True, slots=True)
class LogPlace:
    """Where in which file. `head`: digest of its first `head_bytes` bytes."""

    inode: str = ""
    offset: int = 0
    head: str = ""
    head_bytes: int = 0
    generation: int = 0
    """How often a file of this inode was truncated: its lines are others."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """Whole lines behind a place: (offset, line); `end`: behind the last of them."""

    lines: list[tuple[int, bytes]]
    end: int
    behind: int


class AccessLogRunner:
    """A source of kind `access_log` at work."""

    def __init__(
        self, source: Source, feed: Feed, path: Path, *, now_s: Callable[[], float] = time.time
    ) -> None:
        """`now_s`: seconds since 1970, by the clock that files' times are of."""
        self._now_s = now_s
        self._feed = feed
        self._path = path
        self._is_json = source.format == "json"
        self._every_s = float(source.settings["every_seconds"])
        self._follows_rotated = bool(source.settings["rotated"])
        self._place = LogPlace()

    def stop(self) -> None:
        """The feed says it, too, wherever this waits."""

    async def run(self) -> None:
        kept = (await self._feed.progress(PART)).get(PART)
        if kept is not None:
            self._place = LogPlace(**json.loads(kept))
        while True:
            if not await self.step():
                await self._feed.sleep(self._every_s)

    async def step(self) -> bool:
        """Take what is there, at most a piece; whether there may be more at once."""
        path, place = await asyncio.to_thread(self._where)
        if path is None:
            self._feed.observe(lag=0)
            return False
        if place != self._place:
            # Before anything of it is taken: a crash and a rotation after it must not leave the file unknown.
            await self._keep(place)
        piece = await asyncio.to_thread(_read, path, place, is_closed=self._is_quiet(path))
        if piece.lines:
            await self._take(place, piece)
        place = replace(place, offset=piece.end)
        moved = place != self._place
        if moved:
            await self._keep(await asyncio.to_thread(_with_head, path, place))
        # What is left are bytes; as lines they are not known before they are read.
        self._feed.observe(lag=piece.behind and -(-piece.behind // 200))
        return bool(piece.lines) or (moved and path != self._path)

    async def _keep(self, place: LogPlace) -> None:
        await self._feed.save({PART: json.dumps(asdict(place)).encode()})
        self._place = place

    async def _take(self, place: LogPlace, piece: _Piece) -> None:
        records: list[Record] = []
        rejects: list[Reject] = []
        for offset, line in piece.lines:
            where = f"{place.inode}.{place.generation}/{offset}"
            if self._is_json:
                records.append(Record(line, where))
                continue
            said = read_combined(line.decode(errors="replace"))
            if said is None:
                detail = "It is no line of the combined form."
                rejects.append(Reject(line, where, "invalid_row", detail))
            else:
                records.append(Record(json.dumps(said, ensure_ascii=False).encode(), where))
        if records:
            await self._feed.take(records)
        if rejects:
            await self._feed.reject(rejects)

    def _where(self) -> tuple[Path | None, LogPlace]:
        """The file to read on in, and from where; None: there is none."""
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            stat = None
        except OSError as error:
            raise SourceFaultError(f"{self._path} cannot be read: {error.strerror}.") from error
        place = self._place
        current = None if stat is None else _inode(stat)
        if place.inode and (current != place.inode):
            old = self._rotated(place) if self._follows_rotated else None
            if old is not None:
                found = old.stat()
                # Its writer goes on for a moment after the file was renamed.
                if found.st_size > place.offset or self._now_s() - found.st_mtime < QUIET_S:
                    return old, place
                after = self._rotated_after(found, place)
                if after is not None:
                    return after, LogPlace(inode=_inode(after.stat()))
            if stat is None:
                return None, place
            return self._path, LogPlace(inode=current or "")
        if stat is None:
            return None, place
        if not place.inode:
            return self._path, LogPlace(inode=current or "")
        if stat.st_size < place.offset or not _begins_as(self._path, place):
            # A file that was truncated, or another one that was given the same inode.
            return self._path, LogPlace(inode=place.inode, generation=place.generation + 1)
        return self._path, place

    def _is_quiet(self, path: Path) -> bool:
        """Whether nothing more will be written to it: a line without an end is a line then."""
        try:
            return path != self._path and self._now_s() - path.stat().st_mtime >= QUIET_S
        except OSError:
            return False

    def _rotated(self, place: LogPlace) -> Path | None:
        """Where the file is that was followed, by its inode and its beginning."""
        for path in self._listed():
            try:
                if _inode(path.stat()) == place.inode and _begins_as(path, place):
                    return path
            except OSError:
                continue
        return None

    def _rotated_after(self, old: os.stat_result, place: LogPlace) -> Path | None:
        """The file that was written after the one that was followed, where it was renamed, too, before anybody looked: as
        after a night without this process. Copies (of the one, or of the one that is written now) are none."""
        found: list[tuple[int, Path]] = []
        for path in self._listed():
            try:
                stat = path.stat()
                if (
                    _ROTATED.fullmatch(path.name.removeprefix(self._path.name))
                    and stat.st_mtime_ns > old.st_mtime_ns
                    and stat.st_size
                    and not _begins_as(path, place)
                    and not _same_beginning(path, self._path)
                ):
                    found.append((stat.st_mtime_ns, path))
            except OSError:
                continue
        return min(found)[1] if found else None

    def _listed(self) -> list[Path]:
        return sorted(self._path.parent.glob(f"{_escaped(self._path.name)}?*"))[:ROTATED_MAX]


def read_combined(line: str) -> dict[str, Any] | None:
    """What a line says, by name; None: it is none."""
    match = _COMBINED.match(line)
    if match is None:
        return None
    try:
        # Always in English, whatever the machine's language is: %b of another would not be read.
        moment = datetime.strptime(match["time"], "%d/%b/%Y:%H:%M:%S %z").astimezone(UTC)
    except ValueError:
        return None
    request = _REQUEST.fullmatch(match["request"])
    target = "" if request is None else request["target"]
    path, _, query = target.partition("?")
    said: dict[str, Any] = {
        "remote_address": match["remote_address"],
        "user": _named(match["user"]),
        "time": moment.replace(tzinfo=None).isoformat() + "Z",
        "method": None if request is None else request["method"],
        "path": path or None,
        "query": query or None,
        "protocol": None if request is None else request["protocol"],
        "status": int(match["status"]),
        "bytes": 0 if match["bytes"] == "-" else int(match["bytes"]),
        "referer": _named(match["referer"]),
        "user_agent": _named(match["user_agent"]),
        "rest": match["rest"].strip() or None,
    }
    return {name: value for name, value in said.items() if value is not None}


def _named(text: str | None) -> str | None:
    return None if text in (None, "", "-") else text


def _inode(stat: os.stat_result) -> str:
    return f"{stat.st_dev:x}-{stat.st_ino:x}"


def _escaped(name: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", name)


def _head(path: Path, size: int) -> str:
    with path.open("rb") as stream:
        return sha256(stream.read(size)).hexdigest()[:16]


def _begins_as(path: Path, place: LogPlace) -> bool:
    try:
        return not place.head_bytes or _head(path, place.head_bytes) == place.head
    except OSError:
        return False


def _same_beginning(path: Path, other: Path) -> bool:
    size = min(HEAD_BYTES, path.stat().st_size)
    try:
        return other.stat().st_size >= size and _head(path, size) == _head(other, size)
    except FileNotFoundError:
        return False


def _with_head(path: Path, place: LogPlace) -> LogPlace:
    """With what the file begins with, as far as it was read."""
    size = min(HEAD_BYTES, place.offset)
    if size == place.head_bytes:
        return place
    try:
        return replace(place, head=_head(path, size), head_bytes=size)
    except OSError:
        return place


def _read(path: Path, place: LogPlace, *, is_closed: bool) -> _Piece:
    """Whole lines from a place on. A line that is too long, and one that does not end in a file that is followed no more,
    counts as a line."""
    try:
        with path.open("rb") as stream:
            stat = os.fstat(stream.fileno())
            if _inode(stat) != place.inode:
                return _Piece([], place.offset, 0)  # rotated in between
            stream.seek(place.offset)
            text = stream.read(READ_BYTES_MAX)
            size = stat.st_size
    except OSError as error:
        raise SourceFaultError(f"{path} cannot be read: {error.strerror}.") from error
    lines: list[tuple[int, bytes]] = []
    at = 0
    while len(lines) < LINES_MAX:
        end = text.find(b"\n", at)
        if end < 0:
            whole = is_closed and len(text) - at > 0 and place.offset + len(text) == size
            if len(text) - at < LINE_BYTES_MAX and not whole:
                break
            end = len(text) - 1
        if line := text[at : end + 1].strip():
            lines.append((place.offset + at, line))
        at = end + 1
    return _Piece(lines, place.offset + at, max(0, size - place.offset - at))
