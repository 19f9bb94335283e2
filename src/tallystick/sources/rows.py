"""Rows of a data file as columns, without losing a digit: every value is the text of a JSON value.

`null` and `""` are absent in every format, so that the same record is the same event from each.
"""

from dataclasses import dataclass, field

import msgspec

ROWS_PER_BLOCK = 2000
COLUMNS_MAX = 1000
CONTENT_CHARACTERS_MAX = 256 * 1024
"""How much is kept of a row that is refused."""

_encoder = msgspec.json.Encoder(decimal_format="number")


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that is not sent, or that the server did not take: its number, why, and what it was."""

    row: int
    code: str
    detail: str
    content: str


@dataclass(slots=True)
class Rows:
    """Some rows as columns: JSON texts, None where a row has no such value. `numbers` count from 1: lines of NDJSON and
    CSV, rows otherwise. `objects` are the rows as they stood there, for JSON."""

    numbers: list[int]
    columns: dict[str, list[str | None]]
    objects: list[bytes] | None = None
    refused: list[Refused] = field(default_factory=list[Refused])
    progress: int = 0
    """How far into the file this is, in its own unit (`RowSource.size`)."""

    def __len__(self) -> int:
        return len(self.numbers)


def json_string(text: str) -> str:
    """A string as JSON."""
    return json_text(text)


def json_text(value: object) -> str:
    """Any value as JSON. Raises TypeError, msgspec.EncodeError or UnicodeDecodeError where there is no JSON for it."""
    return _encoder.encode(value).decode()
