"""Reading and writing whole ranges of files, and making names durable."""

import os
from pathlib import Path

from tallystick.identity.interface import IndexDamagedError


def read_into(descriptor: int, target: memoryview, offset: int, path: Path) -> None:
    """Fill `target` (bytes) from `offset` on. Raises IndexDamagedError when the file ends before that."""
    done = 0
    while done < len(target):
        got = os.preadv(descriptor, [target[done:]], offset + done)
        if got == 0:
            raise IndexDamagedError(f"identity index: {path.name} ends at byte {offset + done}, too early")
        done += got


def write_all(descriptor: int, source: memoryview, offset: int) -> None:
    """Write all of `source` (bytes) from `offset` on."""
    done = 0
    while done < len(source):
        done += os.pwrite(descriptor, source[done:], offset + done)


def sync_directory(directory: Path) -> None:
    """Make names created, replaced or removed in `directory` survive a crash of the machine."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
