"""A folder of the server: its files, with those of all folders in it."""

import fnmatch
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tallystick.sources.interface import Feed, SourceFaultError
from tallystick.sources.objects import Found, GoneError, ObjectsRunner
from tallystick.sources.source import Source

REPORT = ".rejects.ndjson"
_OF_BUCKETS = ".rejected.ndjson"


class Folder:
    """`settle_s`: for how long a file must not have changed. `now_s`: seconds since 1970, by the clock that files' times are of."""

    def __init__(
        self,
        directory: Path,
        *,
        pattern: str,
        settle_s: float,
        reports: bool,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._pattern = pattern
        self._settle_s = settle_s
        self._reports = reports
        self._now_s = now_s

    def found(self) -> Iterator[Found]:
        if not self._directory.is_dir():
            raise SourceFaultError(f"{self._directory} is no folder.")
        for path in self._directory.rglob("*"):
            name = path.relative_to(self._directory).as_posix()
            if is_left_out(name) or not fnmatch.fnmatchcase(name, self._pattern):
                continue
            try:
                if not path.is_file() or not path.resolve().is_relative_to(self._directory.resolve()):
                    continue  # a link that leads out of the folder is none of its files
                stat = path.stat()
            except OSError:
                continue  # gone meanwhile
            if self._now_s() - stat.st_mtime >= self._settle_s:
                version = f"{stat.st_size}-{stat.st_mtime_ns}-{stat.st_ino}"
                yield Found(name, version, stat.st_size, stat.st_mtime_ns // 1000)

    @contextmanager
    def opened(self, found: Found) -> Generator[BinaryIO]:
        try:
            stream = (self._directory / found.name).open("rb")
        except OSError as error:
            raise GoneError from error
        with stream:
            yield stream

    def report(self, name: str, lines: Sequence[bytes]) -> None:
        if not self._reports:
            return
        path = self._directory / f"{name}{REPORT}"
        try:
            if not lines:
                path.unlink(missing_ok=True)
                return
            passing = path.with_name(f".{path.name}")
            passing.write_bytes(b"\n".join(lines) + b"\n")
            passing.replace(path)
        except OSError as error:
            raise SourceFaultError(
                f"The report {name}{REPORT} cannot be written: {error.strerror}."
            ) from error


def is_left_out(name: str) -> bool:
    """Hidden files, and reports."""
    return name.endswith((REPORT, _OF_BUCKETS)) or any(part.startswith(".") for part in name.split("/"))


class FolderRunner(ObjectsRunner):
    """A source of kind `folder` at work, whose folder is this."""

    def __init__(self, source: Source, feed: Feed, directory: Path) -> None:
        settings = source.settings
        place = Folder(
            directory,
            pattern=settings["pattern"],
            settle_s=settings["settle_seconds"],
            reports=settings["reports"],
        )
        super().__init__(source, feed, place)
