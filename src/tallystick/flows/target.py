"""A place for files: a directory, or a bucket of anything that speaks S3.

A file appears there whole or not at all. In a directory it is written beside its name, synced and renamed; to a bucket it
goes as one object, from a file here that is complete. Keys of a bucket come from the environment (AWS_ACCESS_KEY_ID …)
or the URL: `s3://[key:secret@]bucket/path?region=…&endpoint_override=host:port&scheme=http`.
"""

import contextlib
import os
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.fs as pafs
from xxhash import xxh3_128

from tallystick.errors import Invalid, StorageFull, Unavailable

_CHUNK_BYTES = 4 * 1024**2
_PARTIAL = ".partial"
_NAMES_MAX = 1_000_000
_fs: Any = pafs


class Target:
    """One directory or one prefix of a bucket; names are relative to it, with `/` between their parts.

    Raises Unavailable for a place that does not answer, StorageFull for a full disk."""

    def __init__(self, where: str) -> None:
        """Raises Invalid (invalid_target) when `where` is no directory and no URL that is understood."""
        self._directory: Path | None = None
        if "://" not in where:
            if not where or "\0" in where:
                raise Invalid("A directory or an s3:// URL is needed.", code="invalid_target")
            self._directory = Path(where).expanduser().absolute()
            self._files, self._base = _fs.LocalFileSystem(), str(self._directory)
        elif where.startswith("s3://"):
            try:
                self._files, self._base = _fs.FileSystem.from_uri(where)
            except (pa.ArrowException, ValueError, OSError) as error:
                raise Invalid(
                    f"The URL cannot be used: {_first_line(error)}", code="invalid_target"
                ) from error
            self._base = self._base.rstrip("/")
            if not self._base:
                raise Invalid("The URL names no bucket: s3://bucket/path is needed.", code="invalid_target")
        else:
            raise Invalid(
                f"{where.split('://', maxsplit=1)[0]}:// is not supported: a directory or s3://bucket/path is needed.",
                code="invalid_target",
            )
        self.name = _without_secrets(where)

    def names(self) -> dict[str, int]:
        """The files there are, with their sizes in bytes; what was left half written is not among them."""
        selector = _fs.FileSelector(self._base, recursive=True, allow_not_found=True)
        with self._errors():
            found = self._files.get_file_info(selector)
        files: dict[str, int] = {}
        for info in found[:_NAMES_MAX]:
            name = info.path[len(self._base) :].lstrip("/")
            if info.type == _fs.FileType.File and not name.endswith(_PARTIAL):
                files[name] = info.size
        return files

    @contextlib.contextmanager
    def writing(self, name: str) -> Generator[BinaryIO]:
        """A file to write; it is there under its name once the block ends without an error."""
        with self._errors():
            if self._directory is not None:
                with self._writing_file(self._directory / name) as file:
                    yield file
            else:
                with tempfile.TemporaryFile() as file:
                    yield cast("BinaryIO", file)
                    size = file.tell()
                    file.seek(0)
                    self._put(name, cast("BinaryIO", file), size)

    def write(self, name: str, content: bytes) -> None:
        with self.writing(name) as file:
            file.write(content)

    @contextlib.contextmanager
    def reading(self, name: str) -> Generator[BinaryIO]:
        with self._errors(), self._files.open_input_file(f"{self._base}/{name}") as file:
            yield file

    def read(self, name: str, *, bytes_max: int) -> bytes | None:
        """The whole of a small file; None when it is not there."""
        with self._errors():
            info = self._files.get_file_info(f"{self._base}/{name}")
            if info.type != _fs.FileType.File:
                return None
            if info.size > bytes_max:
                raise Invalid(
                    f"{name} in {self.name} is larger than {bytes_max} bytes.", code="invalid_target"
                )
            with self._files.open_input_file(f"{self._base}/{name}") as file:
                return bytes(file.read())

    def delete(self, name: str) -> None:
        with self._errors():
            info = self._files.get_file_info(f"{self._base}/{name}")
            if info.type == _fs.FileType.File:
                self._files.delete_file(f"{self._base}/{name}")

    def checksum(self, name: str) -> str:
        """xxh3-128 of a file, in hexadecimal."""
        with self.reading(name) as file:
            return checksum_of(file)

    def fetch(self, name: str, path: Path) -> str:
        """Copy a file to a path here, synced; answers its checksum."""
        summed = xxh3_128()
        with self.reading(name) as source, path.open("wb") as file:
            while piece := source.read(_CHUNK_BYTES):
                summed.update(piece)
                file.write(piece)
            _sync(file)
        return summed.hexdigest()

    def send(self, path: Path, name: str) -> str:
        """Copy a file from here; answers its checksum."""
        summed = xxh3_128()
        with path.open("rb") as source, self.writing(name) as file:
            while piece := source.read(_CHUNK_BYTES):
                summed.update(piece)
                file.write(piece)
        return summed.hexdigest()

    @contextlib.contextmanager
    def _writing_file(self, path: Path) -> Generator[BinaryIO]:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + _PARTIAL)
        try:
            with partial.open("wb") as file:
                yield file
                _sync(file)
            partial.replace(path)
            sync_directory(path.parent)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    def _put(self, name: str, file: BinaryIO, size: int) -> None:
        path = f"{self._base}/{name}"
        with self._files.open_output_stream(path) as object_:
            while piece := file.read(_CHUNK_BYTES):
                object_.write(piece)
        if self._files.get_file_info(path).size != size:
            raise Unavailable(f"{name} did not arrive whole in {self.name}.")

    @contextlib.contextmanager
    def _errors(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            if error.errno == 28:
                raise StorageFull(f"The disk of {self.name} is full.") from error
            raise Unavailable(f"{self.name} cannot be used: {_first_line(error)}") from error


def checksum_of(file: BinaryIO) -> str:
    """xxh3-128 of what is left to read, in hexadecimal."""
    summed = xxh3_128()
    while piece := file.read(_CHUNK_BYTES):
        summed.update(piece)
    return summed.hexdigest()


def sync_directory(directory: Path) -> None:
    """Make names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _without_secrets(where: str) -> str:
    scheme, separator, rest = where.partition("://")
    if not separator:
        return where
    place = rest.partition("?")[0]
    return f"{scheme}://{place.rpartition('@')[2]}"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
