"""Events as CSV (RFC 4180): a header row, then one event a row.

The columns id, source, type, subject and time are attributes, taken as text. Every other column is a member of `data`:
a cell in JSON number syntax becomes that number, digit for digit ("007" is none, so it stays text); an empty cell is
an absent member; anything else is a string. Names of columns are trimmed, cells are not. A row with more or fewer cells
than the header is rejected, since a file cut off within a row would otherwise count for a subject cut off too.
Blank lines are skipped.
"""

import csv
import io
import re
from collections.abc import Iterator

import msgspec

from tallystick.errors import BadRequest
from tallystick.metering.envelope import SOURCE_DEFAULT, Envelope, Receipt, Verdicts, judge_all
from tallystick.metering.json_events import too_many
from tallystick.metering.verdict import Decoded, Fault

ATTRIBUTES = ("id", "source", "type", "subject", "time")
COLUMNS_MAX = 1000
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)

_Row = tuple[int, list[str]]  # the line it ends on, its cells


def read_csv(body: bytes, receipt: Receipt, *, fast: bool = True) -> Decoded:
    """One event a row. `fast=False` judges row by row.

    Raises BadRequest (invalid_csv) for the header and for broken quoting, TooLarge (too_many_events).
    """
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        raise BadRequest(
            f"The body is not UTF-8 (byte {error.start}, line {line}).", code="invalid_csv"
        ) from error
    rows = _rows(text)
    header = next(rows, None)
    if header is None:
        raise BadRequest("The body is empty; the first row must name the columns.", code="invalid_csv")
    names = _names(header[1])
    members = [place for place, name in enumerate(names) if name not in ATTRIBUTES]
    keys = [msgspec.json.encode(names[place]).decode() + ":" for place in members]
    accepted: list[_Row] = []
    for row in rows:
        if len(accepted) == receipt.limits.events_max:
            raise too_many(receipt)
        accepted.append(row)
    even = all(len(cells) == len(names) for _, cells in accepted)
    if fast and accepted and even and receipt.limits.depth_max >= 1:
        columns = list(zip(*(cells for _, cells in accepted), strict=True))
        decoded = _read_columns(columns, names, members, keys, receipt, nul_possible="\0" in text)
        if decoded is not None:
            return decoded
    verdicts = Verdicts(receipt)
    for line, cells in accepted:
        if len(cells) != len(names):
            detail = f"The row that ends on line {line} has {len(cells)} cells; the header has {len(names)}."
            verdicts.reject([Fault("invalid_row", detail)])
            continue
        verdicts.judge(_envelope(cells, names, members, keys, receipt))
    return verdicts.finish()


def _rows(text: str) -> Iterator[_Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            if cells:
                yield reader.line_num, cells
    except csv.Error as error:
        raise BadRequest(
            f"The CSV cannot be read at line {reader.line_num}: {error}. "
            'Put cells with commas, quotes or line breaks in "…" and double the quotes in them.',
            code="invalid_csv",
        ) from error


def _names(header: list[str]) -> list[str]:
    names = [name.strip() for name in header]
    if len(names) > COLUMNS_MAX:
        raise BadRequest(
            f"The header has {len(names):,} columns; {COLUMNS_MAX:,} are allowed.", code="invalid_csv"
        )
    seen: set[str] = set()
    for place, name in enumerate(names):
        if not name:
            raise BadRequest(f"Column {place + 1} of the header has no name.", code="invalid_csv")
        if name in seen:
            raise BadRequest(f"The header names the column {name[:100]!r} twice.", code="invalid_csv")
        seen.add(name)
    return names


def _member(key: str, cell: str) -> str:
    if not cell:
        return ""
    return key + (cell if _NUMBER.fullmatch(cell) else msgspec.json.encode(cell).decode())


def _read_columns(
    columns: list[tuple[str, ...]],
    names: list[str],
    members: list[int],
    keys: list[str],
    receipt: Receipt,
    *,
    nul_possible: bool,
) -> Decoded | None:
    n = len(columns[0])
    attributes = {name: list(columns[place]) for place, name in enumerate(names) if name in ATTRIBUTES}
    nothing = [""] * n
    encoded: list[list[str]] = []
    for place, key in zip(members, keys, strict=True):
        cells = columns[place]
        texts = {cell: _member(key, cell) for cell in set(cells)}
        encoded.append([texts[cell] for cell in cells])
    data = [_object(parts) for parts in zip(*encoded, strict=True)] if encoded else [b""] * n
    return judge_all(
        receipt,
        ids=attributes.get("id", nothing),
        types=attributes.get("type", nothing),
        subjects=attributes.get("subject", nothing),
        sources=[source or SOURCE_DEFAULT for source in attributes.get("source", nothing)],
        times=[time or None for time in attributes.get("time", nothing)],
        data=data,
        attributes=[b""] * n,
        nul_possible=nul_possible,
    )


def _envelope(
    cells: list[str], names: list[str], members: list[int], keys: list[str], receipt: Receipt
) -> Envelope:
    attributes = {name: cell or None for name, cell in zip(names, cells, strict=True) if name in ATTRIBUTES}
    parts = tuple(_member(key, cells[place]) for place, key in zip(members, keys, strict=True))
    envelope = Envelope(
        id=attributes.get("id"),
        source=attributes.get("source"),
        type=attributes.get("type"),
        subject=attributes.get("subject"),
        time=attributes.get("time"),
        data=_object(parts),
    )
    if envelope.data and receipt.limits.depth_max < 1:
        envelope.faults.append(Fault("nesting_too_deep", "data is nested deeper than 0 levels."))
    return envelope


def _object(parts: tuple[str, ...]) -> bytes:
    text = ",".join(filter(None, parts))
    return f"{{{text}}}".encode() if text else b""
