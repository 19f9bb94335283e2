"""What one event contributes to one meter.

`derive` is the fast, columnar spelling that the recorder uses; `evaluate.read` (the oracle) is the slow obvious one. A
property test holds them together.
"""

import pyarrow as pa

from tallystick.metering.event import TIMESTAMP
from tallystick.metering.meter import DIMENSIONS_MAX

DECIMAL = pa.decimal128(38, 18)
"""Every figure: up to 20 digits before the point, 18 after it; what has more after it is rounded half-even."""

READING_SCHEMA = pa.schema(
    [
        pa.field("tenant", pa.string(), nullable=False),
        pa.field("meter", pa.uint32(), nullable=False),  # Meter.id
        pa.field("customer", pa.string(), nullable=False),
        pa.field("subject", pa.string(), nullable=False),
        pa.field("time", TIMESTAMP, nullable=False),
        pa.field("value", DECIMAL, nullable=False),  # 1 for count; 0 for unique_count
        pa.field(
            "text", pa.string(), nullable=False
        ),  # the distinct value of unique_count; "" for all others
        *(pa.field(f"d{slot}", pa.string(), nullable=True) for slot in range(DIMENSIONS_MAX)),
        pa.field("position", pa.uint64(), nullable=False),
        pa.field("recorded_at", TIMESTAMP, nullable=False),
        pa.field("sign", pa.int8(), nullable=False),  # 1; -1 takes an earlier reading back (corrections)
    ]
)
"""One row a reading. String columns may be dictionary-encoded. Slot i of d0 … holds dimension i of the definition."""
