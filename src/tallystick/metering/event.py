"""What an event is: the columns it travels in, its identity, and the fingerprint of its content.

Terms: an event is a fact, immutable. Identity is (tenant, source, id), whatever the time says. Content, for telling a
duplicate from a conflict, is type, subject and data (time is not part of it).
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

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
