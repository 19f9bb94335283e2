"""What PostgreSQL's output plugin `pgoutput` says of a transaction, as values. Pure.

Source: PostgreSQL documentation, "Logical Replication Message Formats", protocol version 1. Values come as text, as the
types' output functions write them; `json_of` makes JSON of them, as `to_json` does for the usual types.
"""

import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal

_POSTGRES_EPOCH_US = 946_684_800_000_000
_BOOLEAN = 16
_NUMBERS = frozenset({20, 21, 23, 26, 700, 701, 1700})
_JSON = frozenset({114, 3802})
_TIMESTAMP, _TIMESTAMP_WITH_ZONE = 1114, 1184
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_ZONE_OF_HOURS = re.compile(r"[+-]\d\d$", re.ASCII)


class Unchanged(Enum):
    """A large value that an update has left as it was, and that is not sent."""

    UNCHANGED = "unchanged"


UNCHANGED = Unchanged.UNCHANGED
Values = dict[str, str | Unchanged | None]


@dataclass(frozen=True, slots=True)
class Column:
    """`is_key`: part of what tells an old row; with REPLICA IDENTITY FULL every column is."""

    name: str
    type_oid: int
    is_key: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """A table, as the changes that follow have it."""

    oid: int
    schema: str
    name: str
    columns: tuple[Column, ...]

    @property
    def shown(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns if column.is_key)


@dataclass(frozen=True, slots=True)
class Begin:
    """A transaction that was committed at this position and time."""

    position: int
    committed_at_us: int


@dataclass(frozen=True, slots=True)
class Commit:
    """Its end: the position behind it."""

    end: int


@dataclass(frozen=True, slots=True)
class Change:
    """`old`: of an update whose key has changed, or of a delete: the key alone, unless `old_is_whole`."""

    kind: Literal["insert", "update", "delete"]
    relation: int
    new: Values | None = None
    old: Values | None = None
    old_is_whole: bool = False


@dataclass(frozen=True, slots=True)
class Truncate:
    relations: tuple[int, ...]


Said = Relation | Begin | Commit | Change | Truncate


def read(data: bytes, relations: Mapping[int, Relation]) -> Said | None:
    """One message; None for kinds that say nothing of rows. `relations`: those that were told before.

    Raises ValueError for what is not as documented."""
    try:
        return _read(_Reader(data), relations)
    except (struct.error, IndexError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"A message of pgoutput cannot be read: {error!r}.") from error


def _read(reader: "_Reader", relations: Mapping[int, Relation]) -> Said | None:
    kind = reader.letter()
    if kind == "B":
        position = reader.number("q")
        return Begin(position, reader.number("q") + _POSTGRES_EPOCH_US)
    if kind == "C":
        reader.number("b")
        reader.number("q")
        return Commit(reader.number("q"))
    if kind == "R":
        oid, schema, name = reader.number("I"), reader.text(), reader.text()
        reader.letter()
        columns: list[Column] = []
        for _ in range(reader.number("h")):
            flags, column, type_oid = reader.number("b"), reader.text(), reader.number("I")
            reader.number("i")
            columns.append(Column(column, type_oid, bool(flags & 1)))
        return Relation(oid, schema or "pg_catalog", name, tuple(columns))
    if kind == "T":
        count = reader.number("i")
        reader.number("b")
        return Truncate(tuple(reader.number("I") for _ in range(count)))
    if kind not in "IUD":
        return None
    relation = relations[reader.number("I")]
    old: Values | None = None
    is_whole = False
    part = reader.letter()
    if part in "KO":
        old, is_whole = reader.values(relation), part == "O"
        if not is_whole:
            old = {name: old[name] for name in relation.keys}
        if kind == "D":
            return Change("delete", relation.oid, None, old, is_whole)
        part = reader.letter()
    if part != "N":
        raise ValueError(f"A message of pgoutput cannot be read: there is {part!r} in it.")
    named = "insert" if kind == "I" else "update"
    return Change(named, relation.oid, reader.values(relation), old, is_whole)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def letter(self) -> str:
        self._at += 1
        return chr(self._data[self._at - 1])

    def number(self, form: str) -> int:
        (found,) = struct.unpack_from(f">{form}", self._data, self._at)
        self._at += struct.calcsize(f">{form}")
        return int(found)

    def text(self) -> str:
        end = self._data.index(0, self._at)
        found = self._data[self._at : end].decode()
        self._at = end + 1
        return found

    def values(self, relation: Relation) -> Values:
        count = self.number("h")
        if count != len(relation.columns):
            raise ValueError(f"A row of {relation.shown} has {count} values, not {len(relation.columns)}.")
        found: Values = {}
        for column in relation.columns:
            kind = self.letter()
            if kind == "t":
                size = self.number("i")
                found[column.name] = self._data[self._at : self._at + size].decode()
                self._at += size
            else:
                found[column.name] = UNCHANGED if kind == "u" else None
        return found


def row_json(relation: Relation, values: Values) -> str:
    """A row as a JSON object; what is unchanged is left out."""
    members = [
        f"{json.dumps(column.name, ensure_ascii=False)}:{json_of(column.type_oid, value)}"
        for column in relation.columns
        if column.name in values and not isinstance(value := values[column.name], Unchanged)
    ]
    return "{" + ",".join(members) + "}"


def json_of(type_oid: int, text: str | None) -> str:
    """A value as JSON: numbers and JSON as they stand, times in RFC 3339 (with session settings UTC and ISO)."""
    if text is None:
        return "null"
    if type_oid == _BOOLEAN:
        return "true" if text in ("t", "true") else "false"
    if type_oid in _NUMBERS and _NUMBER.fullmatch(text):
        return text
    if type_oid in _JSON:
        return text.replace("\n", " ").replace("\r", " ")
    if type_oid in (_TIMESTAMP, _TIMESTAMP_WITH_ZONE) and text[10:11] == " ":
        text = f"{text[:10]}T{text[11:]}"
        if type_oid == _TIMESTAMP_WITH_ZONE and _ZONE_OF_HOURS.search(text):
            text += ":00"
    return json.dumps(text, ensure_ascii=False)
