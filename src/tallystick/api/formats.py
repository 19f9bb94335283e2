"""How one usage answer is written: JSON or CSV, chosen by `Accept`.

CSV is RFC 4180: CRLF line ends, quotes where a cell holds a comma, a quote or a line end. A missing dimension is an
empty cell, an empty string a quoted empty cell. Cells are what was measured, letter for letter: a dimension that begins
with `=` is written as it is, so a spreadsheet that evaluates formulas must be told to read the column as text.
"""

from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache

import msgspec

from tallystick.api.problem import NotAcceptable
from tallystick.api.wire import decimal_text, time_text
from tallystick.flows.position import token_of
from tallystick.flows.usage import UsageAnswer

JSON = "application/json"
CSV = "text/csv"


class _Row(msgspec.Struct, frozen=True, gc=False):
    window_start: str
    window_end: str
    group: dict[str, str | None]
    value: str | None


class _Usage(msgspec.Struct, frozen=True):
    meter: str
    version: int
    aggregation: str
    unit: str | None
    from_: str = msgspec.field(name="from")
    to: str
    window: str | None
    timezone: str
    rows: list[_Row]
    position: str
    served_from: str


@lru_cache(256)
def chosen(accept: str | None, offered: tuple[str, ...]) -> str:
    """The offered media type that an `Accept` header likes best; the first offered where it has no preference.

    RFC 9110, section 12.5.1: the most specific range that matches a type gives it its weight. Raises NotAcceptable.
    """
    if accept is None or not accept.strip():
        return offered[0]
    ranges = [_range(part) for part in accept.split(",") if part.strip()]
    best, best_weight = "", 0.0
    for kind in offered:
        matching = [(specific, weight) for name, specific, weight in ranges if _covers(name, kind)]
        weight = max(matching)[1] if matching else 0.0
        if weight > best_weight:
            best, best_weight = kind, weight
    if not best:
        raise NotAcceptable(f"This answer can be had as {' or '.join(offered)}, not as {accept[:80]!r}.")
    return best


def _range(part: str) -> tuple[str, int, float]:
    """A media range, how specific it is (0 for any, 1 for any subtype, 2), and its weight."""
    name, *parameters = (piece.strip().lower() for piece in part.split(";"))
    weight = 1.0
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                weight = min(max(float(parameter[2:]), 0.0), 1.0)
            except ValueError:
                weight = 0.0
    return name, 0 if name == "*/*" else 1 if name.endswith("/*") else 2, weight


def _covers(name: str, kind: str) -> bool:
    return name in ("*/*", kind) or (name.endswith("/*") and kind.startswith(name[:-1]))


def usage_json(answer: UsageAnswer) -> bytes:
    """The answer as API.md has it."""
    times = _Times()
    names = answer.group_by
    empty: dict[str, str | None] = {}
    rows = [
        _Row(
            times[row.window_start_us],
            times[row.window_end_us],
            dict(zip(names, row.group, strict=True)) if names else empty,
            _value(row.value),
        )
        for row in answer.rows
    ]
    return msgspec.json.encode(
        _Usage(
            meter=answer.meter.key,
            version=answer.meter.version,
            aggregation=str(answer.meter.aggregation),
            unit=answer.meter.unit,
            from_=times[answer.from_us],
            to=times[answer.to_us],
            window=answer.window,
            timezone=answer.timezone,
            rows=rows,
            position=token_of(answer.position),
            served_from=answer.served_from,
        )
    )


def usage_csv(answer: UsageAnswer) -> bytes:
    """`window_start,window_end,<groups…>,value`, one line a row, beginning with a header."""
    times = _Times()
    lines = [_line(["window_start", "window_end", *answer.group_by, "value"])]
    lines.extend(
        _line([times[row.window_start_us], times[row.window_end_us], *row.group, _value(row.value)])
        for row in answer.rows
    )
    return "".join(lines).encode()


class _Times(dict[int, str]):
    """Times as text; an answer repeats few of them in many rows."""

    def __missing__(self, time_us: int) -> str:
        text = self[time_us] = time_text(time_us)
        return text


def _value(value: Decimal | None) -> str | None:
    return None if value is None else decimal_text(value)


def _line(cells: Sequence[str | None]) -> str:
    return ",".join([_cell(cell) for cell in cells]) + "\r\n"


def _cell(cell: str | None) -> str:
    if cell is None:
        return ""
    if not cell or any(mark in cell for mark in ',"\r\n'):
        return '"' + cell.replace('"', '""') + '"'
    return cell
