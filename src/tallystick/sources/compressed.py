"""Files that are compressed with gzip or Zstandard, or not at all, as one stream of bytes."""

import gzip
import io
from typing import Any, BinaryIO, cast

import zstandard


class Counted(io.RawIOBase):
    """A raw file that knows how much of it was read."""

    def __init__(self, inner: BinaryIO) -> None:
        self._inner = inner
        self.read_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._inner.read(len(buffer))
        buffer[: len(piece)] = piece
        self.read_bytes += len(piece)
        return len(piece)


class _Zstandard(io.RawIOBase):
    """A Zstandard stream of one or more frames. The library's own reader takes a file that was cut off for a whole one."""

    def __init__(self, inner: io.BufferedReader) -> None:
        self._inner = inner
        self._frame: Any = None
        self._plain = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._plain:
            piece = self._inner.read1(1 << 16)
            if not piece:
                if self._frame is not None:
                    raise EOFError("the file is cut off")
                return 0
            self._plain = memoryview(self._decompress(piece))
        size = min(len(buffer), len(self._plain))
        buffer[:size] = self._plain[:size]
        self._plain = self._plain[size:]
        return size

    def _decompress(self, piece: bytes) -> bytes:
        plain: list[bytes] = []
        while piece:
            if self._frame is None:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            plain.append(self._frame.decompress(piece))
            if not self._frame.eof:
                break
            piece, self._frame = self._frame.unused_data, None
        return b"".join(plain)


def decompressed(stream: io.BufferedReader) -> BinaryIO:
    """What is in it, whether or not it is compressed, as its first bytes tell."""
    start = stream.peek(4)[:4]
    if start[:2] == b"\x1f\x8b":
        return cast("BinaryIO", gzip.GzipFile(fileobj=stream, mode="rb"))
    if start == b"\x28\xb5\x2f\xfd":
        return cast("BinaryIO", io.BufferedReader(cast("Any", _Zstandard(stream)), 1 << 18))
    return stream
