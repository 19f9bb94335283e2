"""A folder of this machine. What a call has put there is on disk when it returns."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Generator
from pathlib import Path
from typing import BinaryIO

from tallystick.errors import Invalid, StorageFull, Unavailable

_NO_SPACE = 28


class Folder:
    """`directory` is made when it is written to."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def put(self, name: str, file: Path) -> None:
        def copy(target: BinaryIO) -> None:
            with file.open("rb") as source:
                shutil.copyfileobj(source, target)

        with _mapped(), self._written(name, copy) as (made, path):
            made.replace(path)

    def create(self, name: str, content: bytes) -> bool:
        def write(target: BinaryIO) -> None:
            target.write(content)

        with _mapped(), self._written(name, write) as (made, path):
            try:
                path.hardlink_to(made)  # unlike a rename, fails where there is something
            except FileExistsError:
                return False
        return True

    def read(self, name: str) -> bytes | None:
        with _mapped():
            try:
                return (self._directory / name).read_bytes()
            except FileNotFoundError:
                return None

    @contextlib.contextmanager
    def _written(self, name: str, write: Callable[[BinaryIO], None]) -> Generator[tuple[Path, Path]]:
        """A synced file under another name beside it, to be given its own; then the directory is synced, too."""
        path = self._directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        made = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
        try:
            with made.open("xb") as target:
                write(target)
                target.flush()
                os.fsync(target.fileno())
            yield made, path
            for directory in (path.parent, *path.parent.parents):
                _sync(directory)
                if directory == self._directory:
                    break
        finally:
            made.unlink(missing_ok=True)


def _sync(directory: Path) -> None:
    number = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


@contextlib.contextmanager
def _mapped() -> Generator[None]:
    try:
        yield
    except PermissionError as error:
        raise Invalid(
            "The folder of the export may not be written to by the server.", code="export_place_refused"
        ) from error
    except OSError as error:
        if error.errno == _NO_SPACE:
            raise StorageFull("The disk of the export's folder is full.") from error
        raise Unavailable("The folder of the export cannot be written to.", retry_after_s=30) from error
