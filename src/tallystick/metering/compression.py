"""Content-Encoding: gzip (RFC 1952) and zstd (RFC 8878), several members or frames in a row, bounded.

A bomb costs no more than the limit: decompression goes on in steps and stops at the first byte too many.
"""

import re
import zlib

import zstandard

from tallystick.errors import BadRequest, TooLarge, UnsupportedMediaType

_ZSTD_WINDOW_BYTES_MAX = (
    8 * 1024 * 1024
)  # RFC 9659: what a sender may ask of a receiver under Content-Encoding: zstd
_ZSTD_STEP_BYTES = 256
"""Compressed bytes fed at a time. Four bytes can stand for 128 KiB, so one step makes 8 MiB at the most."""
_GZIP_STEP_BYTES = 64 * 1024
_MEMBERS_MAX = 10_000  # each costs a decompressor, however empty it is
_PADDING = re.compile(rb"\0*")  # zeros behind a member, as gzip itself allows
_GZIP_WBITS = 31  # zlib's way to say: with gzip's header and checksum


def decompress(body: bytes, *, encoding: str, bytes_max: int) -> bytes:
    """Undo one content encoding: "gzip" ("x-gzip"), "zstd", "identity" or "".

    Raises TooLarge (body_too_large) as soon as more than `bytes_max` bytes come out, BadRequest (invalid_encoding) when
    the stream is damaged, cut off or followed by something else, UnsupportedMediaType (unsupported_encoding) for other
    encodings and for more than one.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        if len(body) > bytes_max:
            raise _too_large(bytes_max)
        return body
    if name in ("gzip", "x-gzip"):
        return _gunzip(body, bytes_max)
    if name == "zstd":
        return _unzstd(body, bytes_max)
    raise UnsupportedMediaType(
        f"The content encoding {encoding[:40]!r} is not supported. Send gzip, zstd or none, and only one of them.",
        code="unsupported_encoding",
    )


def _gunzip(body: bytes, bytes_max: int) -> bytes:
    parts: list[bytes] = []
    left = bytes_max
    at = 0
    for _ in range(_MEMBERS_MAX):
        member = zlib.decompressobj(_GZIP_WBITS)
        while not member.eof:
            # In steps, so that what lies behind the end of a member is copied a step at a time, not whole.
            step = member.unconsumed_tail or body[at : at + _GZIP_STEP_BYTES]
            if not step:
                raise _damaged("gzip", len(body), "it ends too early")
            at += 0 if member.unconsumed_tail else len(step)
            try:
                part = member.decompress(step, left + 1)
            except zlib.error as error:
                raise _damaged("gzip", at - len(step), str(error)) from error
            left -= len(part)
            if left < 0:
                raise _too_large(bytes_max)
            parts.append(part)
        at -= len(member.unused_data)
        padding = _PADDING.match(body, at)
        at = padding.end() if padding else at
        if at >= len(body):
            return b"".join(parts)
    raise _damaged("gzip", at, f"it has more than {_MEMBERS_MAX:,} members")


def _unzstd(body: bytes, bytes_max: int) -> bytes:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES_MAX)
    parts: list[bytes] = []
    left = bytes_max
    at = 0
    for _ in range(_MEMBERS_MAX):
        frame = decompressor.decompressobj()
        while not frame.eof:
            step = body[at : at + _ZSTD_STEP_BYTES]
            if not step:
                raise _damaged("zstd", len(body), "it ends too early")
            try:
                part = frame.decompress(step)
            except zstandard.ZstdError as error:
                raise _damaged("zstd", at, str(error)) from error
            at += len(step)
            left -= len(part)
            if left < 0:
                raise _too_large(bytes_max)
            parts.append(part)
        at -= len(frame.unused_data)
        if at >= len(body):
            return b"".join(parts)
    raise _damaged("zstd", at, f"it has more than {_MEMBERS_MAX:,} frames")


def _too_large(bytes_max: int) -> TooLarge:
    return TooLarge(f"The decoded body is larger than {bytes_max:,} bytes. Send fewer events at a time.")


def _damaged(encoding: str, at: int, why: str) -> BadRequest:
    return BadRequest(
        f"The {encoding} body cannot be decoded near byte {at}: {why}.", code="invalid_encoding"
    )
