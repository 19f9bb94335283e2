"""Compressed bodies: what goes in comes out, and what is damaged or too large is refused in time."""

import gzip
import tracemalloc
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tallystick.errors import BadRequest, TooLarge, UnsupportedMediaType
from tallystick.metering.compression import decompress

LIMIT = 1_000_000
SKIPPABLE_FRAME = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc"


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


COMPRESS = {"gzip": gzip.compress, "zstd": zstd}


@pytest.mark.parametrize("encoding", COMPRESS)
@given(parts=st.lists(st.binary(max_size=2000), min_size=1, max_size=4))
def test_members_in_a_row(encoding: str, parts: list[bytes]):
    body = b"".join(COMPRESS[encoding](part) for part in parts)
    assert decompress(body, encoding=encoding, bytes_max=LIMIT) == b"".join(parts)


@pytest.mark.parametrize("encoding", COMPRESS)
def test_the_limit_is_exact(encoding: str):
    body = COMPRESS[encoding](b"x" * 1000)
    assert decompress(body, encoding=encoding, bytes_max=1000) == b"x" * 1000
    for short in (body, body * 2):
        with pytest.raises(TooLarge) as caught:
            decompress(short, encoding=encoding, bytes_max=999)
        assert caught.value.code == "body_too_large"


@pytest.mark.parametrize("encoding", COMPRESS)
def test_a_body_larger_than_one_step(encoding: str):
    data = b"".join(str(number * 7919 % 100_003).encode() for number in range(150_000))
    assert decompress(COMPRESS[encoding](data), encoding=encoding, bytes_max=LIMIT) == data


def bomb(encoding: str) -> bytes:
    """256 MiB of zeros, compressed."""
    compressor = (
        zlib.compressobj(wbits=31) if encoding == "gzip" else zstandard.ZstdCompressor().compressobj()
    )
    zeros = bytes(1 << 20)
    parts = [compressor.compress(zeros) for _ in range(256)]
    return b"".join([*parts, compressor.flush()])


@pytest.mark.parametrize("encoding", COMPRESS)
def test_a_bomb_costs_no_more_than_the_limit_and_one_step(encoding: str):
    body = bomb(encoding)
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            decompress(body, encoding=encoding, bytes_max=LIMIT)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < LIMIT + (20 << 20)


@pytest.mark.parametrize("encoding", COMPRESS)
def test_endless_empty_members_are_refused(encoding: str):
    with pytest.raises(BadRequest, match="more than 10,000"):
        decompress(COMPRESS[encoding](b"") * 10_001, encoding=encoding, bytes_max=LIMIT)


@pytest.mark.parametrize("encoding", COMPRESS)
@given(at=st.integers(0, 10_000))
def test_cut_off_is_never_taken_for_whole(encoding: str, at: int):
    body = COMPRESS[encoding](b"an event, another event " * 50)
    with pytest.raises(BadRequest) as caught:
        decompress(body[: at % len(body)], encoding=encoding, bytes_max=LIMIT)
    assert caught.value.code == "invalid_encoding"


@pytest.mark.parametrize("encoding", COMPRESS)
@pytest.mark.parametrize("tail", [b"junk", b"\x1f", b"{}"])
def test_something_behind_the_end(encoding: str, tail: bytes):
    with pytest.raises(BadRequest) as caught:
        decompress(COMPRESS[encoding](b"x") + tail, encoding=encoding, bytes_max=LIMIT)
    assert caught.value.code == "invalid_encoding"


def test_damage_is_noticed_by_the_checksum():
    body = bytearray(gzip.compress(b"x" * 100))
    body[-8] ^= 1
    with pytest.raises(BadRequest):
        decompress(bytes(body), encoding="gzip", bytes_max=LIMIT)


def test_what_the_formats_allow_between_members():
    assert (
        decompress(
            gzip.compress(b"a") + bytes(7) + gzip.compress(b"b") + bytes(3), encoding="GZIP", bytes_max=9
        )
        == b"ab"
    )
    assert decompress(SKIPPABLE_FRAME + zstd(b"a") + SKIPPABLE_FRAME, encoding=" zstd", bytes_max=9) == b"a"


def test_a_window_larger_than_rfc_9659_allows_is_refused():
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=27)
    writer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    body = writer.compress(b"x") + writer.flush()
    with pytest.raises(BadRequest):
        decompress(body, encoding="zstd", bytes_max=LIMIT)


def test_no_encoding():
    assert decompress(b"abc", encoding="", bytes_max=3) == b"abc"
    assert decompress(b"abc", encoding="identity", bytes_max=3) == b"abc"
    with pytest.raises(TooLarge):
        decompress(b"abc", encoding="", bytes_max=2)


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip"])
def test_other_encodings(encoding: str):
    with pytest.raises(UnsupportedMediaType) as caught:
        decompress(b"", encoding=encoding, bytes_max=LIMIT)
    assert caught.value.code == "unsupported_encoding"
