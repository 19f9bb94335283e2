"""What an event is: the columns it travels in, its identity, and the fingerprint of its content.

Terms: an event is a fact, immutable. Identity is (tenant, source, id), whatever the time says. Content, for telling a
duplicate from a conflict, is type, subject and data (time is not part of it).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest, xxh3_128_digest

TIMESTAMP = pa.timestamp("us", "UTC")

EVENT_SCHEMA = pa.schema(
    [
        pa.field("tenant", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("type", pa.string(), nullable=False),
        pa.field("subject", pa.string(), nullable=False),
        pa.field("time", TIMESTAMP, nullable=False),
        pa.field("time_given", pa.bool_(), nullable=False),  # False: the server stamped it
        pa.field("received_at", TIMESTAMP, nullable=False),
        pa.field(
            "data", pa.binary(), nullable=False
        ),  # a JSON object as sent, byte for byte; b"" when absent
        pa.field(
            "attributes", pa.binary(), nullable=False
        ),  # other CloudEvents attributes as a JSON object, or b""
        pa.field("identity", pa.binary(16), nullable=False),
        pa.field("content", pa.uint64(), nullable=False),
        pa.field(
            "action", pa.string(), nullable=False
        ),  # "" for a plain event; see flows/correct.py for the others
        pa.field("note", pa.binary(), nullable=False),  # what an action needs beside the event, JSON, or b""
    ]
)
"""One row an event, as it lies in the log. The recorder adds customer, position and recorded_at (RECORDED_SCHEMA)."""

RECORDED_SCHEMA = (
    EVENT_SCHEMA.append(pa.field("customer", pa.string(), nullable=False))
    .append(pa.field("position", pa.uint64(), nullable=False))
    .append(pa.field("recorded_at", TIMESTAMP, nullable=False))
)


@dataclass(frozen=True, slots=True)
class EventColumns:
    """The accepted events of one request, as columns of equal length n, on their way into the log.

    One tenant and one time of receipt a request. Lists where Python made them, arrays where NumPy did: the log turns
    all requests of one commit into one Arrow batch, so that a single-event request does not pay for Arrow.
    """

    tenant: str
    received_at_us: int
    source: list[str]
    id: list[str]
    type: list[str]
    subject: list[str]
    time_us: NDArray[np.int64]
    time_given: NDArray[np.bool_]
    data: list[bytes]
    attributes: list[bytes]
    identity: list[bytes]  # 16 bytes each, see `identity_of`
    content: NDArray[np.uint64]  # see `content_of`
    action: str = ""
    note: bytes = b""

    def __len__(self) -> int:
        return len(self.id)


def identity_of(tenant: str, source: str, event_id: str) -> bytes:
    """The identity of an event: xxh3-128 of tenant, source and id as UTF-8 with a NUL between them, 16 bytes.

    Unambiguous, because none of the three may contain a NUL (`decode` refuses it).
    """
    return xxh3_128_digest(f"{tenant}\0{source}\0{event_id}".encode())


def identities_of(tenant: str, sources: Sequence[str], ids: Sequence[str]) -> list[bytes]:
    """`identity_of` for many events of one tenant; `sources` and `ids` have the same length."""
    if not ids:
        return []
    # One encode for the whole column: a NUL cannot occur inside, so it may separate.
    ids_utf8 = "\0".join(ids).encode().split(b"\0")
    prefixes = {source: f"{tenant}\0{source}\0".encode() for source in set(sources)}
    if len(prefixes) == 1:
        (prefix,) = prefixes.values()
        return [xxh3_128_digest(prefix + id_utf8) for id_utf8 in ids_utf8]
    return [
        xxh3_128_digest(prefixes[source] + id_utf8) for source, id_utf8 in zip(sources, ids_utf8, strict=True)
    ]


_TYPE_FACTOR = 0x9E3779B97F4A7C15
_SUBJECT_FACTOR = 0xC2B2AE3D27D4EB4F
_MIX = 0xFF51AFD7ED558CCD
_HALF = 33
_WORD = 0xFFFFFFFFFFFFFFFF
_NUMPY_FROM = 16
"""Fewer fingerprints than this are mixed faster in plain integers."""


def content_of(types: Sequence[str], subjects: Sequence[str], data: Sequence[bytes]) -> NDArray[np.uint64]:
    """A 64-bit fingerprint of each event's content: type, subject and the bytes of data, shape (n,).

    Equal content as sent gives equal fingerprints. Different fingerprints do not prove different content (key order,
    white space): `content.same_content` decides. Mixed at the end, so that any half of the bits stands for the whole.
    """
    n = len(data)
    if n < _NUMPY_FROM:
        return np.array([_content(*event) for event in zip(types, subjects, data, strict=True)], np.uint64)
    mixed = np.fromiter(map(xxh3_64_intdigest, data), np.uint64, n)
    mixed += _hashes(types) * np.uint64(_TYPE_FACTOR)
    mixed += _hashes(subjects) * np.uint64(_SUBJECT_FACTOR)
    mixed ^= mixed >> np.uint64(_HALF)
    mixed *= np.uint64(_MIX)
    mixed ^= mixed >> np.uint64(_HALF)
    return mixed


def _content(event_type: str, subject: str, data: bytes) -> int:
    mixed = (
        xxh3_64_intdigest(data)
        + xxh3_64_intdigest(event_type.encode()) * _TYPE_FACTOR
        + xxh3_64_intdigest(subject.encode()) * _SUBJECT_FACTOR
    ) & _WORD
    mixed = ((mixed ^ mixed >> _HALF) * _MIX) & _WORD
    return mixed ^ mixed >> _HALF


def _hashes(texts: Sequence[str]) -> NDArray[np.uint64]:
    hashed = {text: xxh3_64_intdigest(text.encode()) for text in set(texts)}
    return np.fromiter(map(hashed.__getitem__, texts), np.uint64, len(texts))
