"""Records of a queue as rows: JSON texts, one or several a record. Pure."""

import json
from collections.abc import Sequence

import msgspec

from tallystick.sources.interface import Record
from tallystick.sources.mapping import EventMaker, Events
from tallystick.sources.rows import COLUMNS_MAX, CONTENT_CHARACTERS_MAX, Refused, Rows

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_array = msgspec.json.Decoder(list[msgspec.Raw])
ELEMENTS_MAX = 10_000
"""Objects in one record."""


def rows_of_records(records: Sequence[Record], record_format: str) -> tuple[Rows, list[str]]:
    """The objects in records, and for each (and each refused piece) what it is known by. `numbers` count the records
    from 0. `json`: an object, or an array of them; `ndjson`: an object a line."""
    rows = Rows([], {}, objects=[])
    assert rows.objects is not None
    wheres: list[str] = []
    for index, record in enumerate(records):
        for piece, where in _pieces(record, record_format):
            try:
                members = _members(piece)
                texts = {name: bytes(raw).decode() for name, raw in members.items()}
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                content = piece[:CONTENT_CHARACTERS_MAX].decode(errors="replace")
                detail = f"Not a JSON object: {error}."
                rows.refused.append(Refused(index, "invalid_json", detail, content))
                continue
            at = len(rows.numbers)
            rows.numbers.append(index)
            rows.objects.append(piece)
            wheres.append(where)
            for name, value in texts.items():
                column = rows.columns.setdefault(name, [])
                column.extend([None] * (at - len(column)))
                column.append(None if value in ("null", '""') else value)
    for column in rows.columns.values():
        column.extend([None] * (len(rows.numbers) - len(column)))
    return rows, wheres


def _pieces(record: Record, record_format: str) -> list[tuple[bytes, str]]:
    raw = record.raw.strip()
    if record_format == "ndjson":
        pieces = [line.strip() for line in raw.split(b"\n")]
        pieces = [line for line in pieces if line] or [raw]
    elif raw[:1] == b"[":
        try:
            pieces = [bytes(one) for one in _array.decode(raw)] or [raw]
        except msgspec.DecodeError:
            pieces = [raw]
    else:
        pieces = [raw]
    if len(pieces) == 1:
        return [(pieces[0], record.where)]
    if len(pieces) > ELEMENTS_MAX:
        return [(raw, record.where)]
    return [(piece, f"{record.where}#{number}") for number, piece in enumerate(pieces, 1)]


def _members(piece: bytes) -> dict[str, msgspec.Raw]:
    members = _object.decode(piece)
    if len(members) > COLUMNS_MAX:
        raise msgspec.DecodeError(f"more than {COLUMNS_MAX} members")
    return members


def events_of_records(
    maker: EventMaker, records: Sequence[Record], record_format: str, *, key: str
) -> tuple[Events, list[str]]:
    """The events of records, and for each what its record is known by."""
    rows, wheres = rows_of_records(records, record_format)
    known = dict(enumerate(wheres))
    # Rows are numbered by their place while events are made of them, so that each finds its record again.
    records_of = rows.numbers
    rows.numbers = list(range(len(records_of)))
    refused = rows.refused
    rows.refused = []
    made = maker.events(rows, [f"{key}:{where}" for where in wheres])
    places = [known[number] for number in made.numbers]
    made.numbers = [records_of[number] for number in made.numbers]
    made.refused = [
        *refused,
        *(Refused(records_of[one.row], one.code, one.detail, one.content) for one in made.refused),
    ]
    return made, places


def record_text(raw: bytes) -> str | None:
    """A record as text, where it is text."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


def is_object(raw: bytes) -> bool:
    """Whether it is a JSON object."""
    try:
        return isinstance(json.loads(raw), dict)
    except (ValueError, RecursionError):
        return False
