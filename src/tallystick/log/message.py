"""A block as one message of a stream: what is in it, and which positions its events have.

A message's bytes are a frame of 16 bytes and the block (block.py): `T` `B`, format, 0, rows (16 bits), partition (16
bits), xxh3-64 of the block seeded with partition and rows; numbers little-endian. So a message that is not as it was
written, or of another partition, is noticed, whatever the servers say.

A message with sequence s holds at most 2^14 events, and they have the **last** positions of the 2^14 that belong to s:
its last event always has position `s << 14 | 16383`. Therefore the last position of a stream follows from its last
sequence alone, also where that message has been trimmed away. Within a message positions are consecutive, between
messages there are gaps.
"""

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from tallystick.log import block as blocks
from tallystick.log.interface import Block
from tallystick.metering.event import EventColumns
from tallystick.metering.position import LOCAL_BITS, Positions

ROW_BITS = 14
ROWS_MAX = 1 << ROW_BITS
"""Events one message may hold."""

SEQUENCE_MAX = (1 << LOCAL_BITS - ROW_BITS) - 1
"""The last sequence that has positions: enough for 1,000 messages a second for eight years, in each partition."""

FRAME_BYTES = 16

_MAGIC = b"TB"
_FRAME = struct.Struct("<2sBBHH8s")


def end_of(sequence: int) -> int:
    """Position of the last event of this message; 0 for sequence 0, which no message has."""
    return (sequence + 1 << ROW_BITS) - 1 if sequence else 0


def sequence_behind(position: int) -> int:
    """The sequence of the first message that holds an event behind this position, where there is one."""
    return max(1, position + 1 >> ROW_BITS)


def positions_of(sequence: int, rows: int) -> Positions:
    """The positions of all events of a message, shape (rows,)."""
    end = end_of(sequence)
    return np.arange(end - rows + 1, end + 1, dtype=np.uint64)


def seal(body: pa.Buffer, *, rows: int, partition: int) -> bytes:
    """The bytes of a message. `rows` is 1 … ROWS_MAX."""
    checksum = xxhash.xxh3_64_digest(body, seed=_seed(rows, partition))
    return b"".join((_FRAME.pack(_MAGIC, blocks.FORMAT, 0, rows - 1, partition, checksum), memoryview(body)))


class TooLargeRowError(Exception):
    """One event alone does not fit into a message. `row` counts through all requests."""

    def __init__(self, row: int, size_bytes: int, max_bytes: int) -> None:
        self.row = row
        self.detail = f"one event takes {size_bytes} bytes; NATS's max_payload allows {max_bytes}"
        super().__init__(self.detail)


def sealed_all(
    requests: Sequence[EventColumns], partition: int, payload_bytes_max: int
) -> list[tuple[int, bytes]]:
    """All events of the requests, in order, as few messages: (rows, bytes) of each.

    Raises TooLargeRowError, or what `blocks.batch_of` raises.
    """
    batch = blocks.batch_of(requests)
    sealed: list[tuple[int, bytes]] = []
    ranges = [(first, min(ROWS_MAX, batch.num_rows - first)) for first in range(0, batch.num_rows, ROWS_MAX)]
    ranges.reverse()
    while ranges:
        first, rows = ranges.pop()
        body = blocks.encode(batch if rows == batch.num_rows else batch.slice(first, rows))
        if FRAME_BYTES + body.size <= payload_bytes_max:
            sealed.append((rows, seal(body, rows=rows, partition=partition)))
        elif rows == 1:
            raise TooLargeRowError(first, body.size, payload_bytes_max)
        else:
            half = rows // 2
            ranges += [(first + half, rows - half), (first, half)]
    return sealed


def unseal(payload: bytes, *, sequence: int, partition: int) -> Block:
    """The block of a message. Raises ValueError that says what is wrong with it."""
    if len(payload) < FRAME_BYTES:
        raise ValueError(f"it has only {len(payload)} bytes")
    magic, block_format, _, rows_less_one, written_partition, checksum = _FRAME.unpack_from(payload)
    if magic != _MAGIC:
        raise ValueError("it is no block of events")
    if written_partition != partition:
        raise ValueError(f"it belongs to partition {written_partition}")
    rows = rows_less_one + 1
    body: Any = memoryview(payload)[FRAME_BYTES:]
    if xxhash.xxh3_64_digest(body, seed=_seed(rows, partition)) != checksum:
        raise ValueError("it is not as it was written: its checksum differs")
    try:
        batch = blocks.decode(body, block_format=block_format)
    except (ValueError, OSError, pa.ArrowException) as error:
        raise ValueError(str(error)) from error
    if batch.num_rows != rows:
        raise ValueError(f"it holds {batch.num_rows} events instead of {rows}")
    return Block(end_of(sequence) - rows + 1, batch)


def _seed(rows: int, partition: int) -> int:
    return partition << 32 | rows
