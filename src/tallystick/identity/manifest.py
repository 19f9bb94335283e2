"""The manifest: which runs make up the index, and up to which position they cover the log.

It is the only commit point. A run file that is not named in it does not exist and is swept away at opening; replacing
the manifest is atomic, so a crash leaves either the old set of runs or the new one.
"""

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import xxhash

from tallystick.identity.files import sync_directory
from tallystick.identity.interface import IndexDamagedError

FORMAT = 2
_FORMATS_READ = (1, 2)  # 1 had no packed runs, and is otherwise the same
MANIFEST_NAME = "manifest"
_PENDING_NAME = "manifest.tmp"


class RunName(msgspec.Struct, frozen=True):
    """A live run: its file, its length in entries, and the checksum of its header, which holds all others."""

    name: str
    count: int
    checksum: int


class Manifest(msgspec.Struct, frozen=True):
    """format: of the manifest and the runs. next_number: of the next run file, never used again."""

    format: int
    covered: int
    next_number: int
    runs: tuple[RunName, ...]


def read_manifest(directory: Path) -> Manifest | None:
    """The manifest of an index; None where there never was one.

    Raises: IndexDamagedError when it is unreadable, or missing beside run files, or of another format.
    """
    try:
        raw = (directory / MANIFEST_NAME).read_bytes()
    except FileNotFoundError:
        if any(directory.glob("*.run")):
            raise IndexDamagedError("identity index: the manifest is missing beside run files") from None
        return None
    checksum, _, body = raw.partition(b"\n")
    if checksum != xxhash.xxh3_64_hexdigest(body).encode():
        raise IndexDamagedError("identity index: the manifest fails its checksum")
    try:
        manifest = msgspec.json.decode(body, type=Manifest)
    except msgspec.DecodeError as error:
        raise IndexDamagedError(f"identity index: the manifest cannot be read: {error}") from error
    if manifest.format not in _FORMATS_READ:
        raise IndexDamagedError(
            f"identity index: format {manifest.format} is none of those this version reads"
        )
    return manifest


def write_manifest(directory: Path, manifest: Manifest, on_step: Callable[[str], None]) -> None:
    """Replace the manifest durably. Steps reported: manifest_written, manifest_replaced."""
    body = msgspec.json.encode(manifest)
    pending = directory / _PENDING_NAME
    with pending.open("wb") as file:
        file.write(xxhash.xxh3_64_hexdigest(body).encode() + b"\n" + body)
        file.flush()
        os.fsync(file.fileno())
    on_step("manifest_written")
    pending.replace(directory / MANIFEST_NAME)
    sync_directory(directory)
    on_step("manifest_replaced")


def sweep(directory: Path, manifest: Manifest) -> None:
    """Remove what a crash left behind: run files the manifest does not name, a manifest not yet in place."""
    live = {run.name for run in manifest.runs}
    (directory / _PENDING_NAME).unlink(missing_ok=True)
    for path in directory.glob("*.run"):
        if path.name not in live:
            path.unlink()
