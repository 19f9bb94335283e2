"""Readings of the past, derived inside the embedded engine where that gives exactly what metering/reading.py says.

Deriving in Python takes the events out of the engine and the readings back in. Most events need no more than the text of
one or two members, and a number that is written plainly. Those the engine reads itself, by the rules below; every other
event of the same range is left to Python. Both ways are held to each other by tests.

The engine reads **flat** data: an object without an object or array in it, without a backslash, and without white space
before a colon. There, `"name":` stands nowhere but at a member (a string would need a backslash to hold a quote, and
members are not repeated: ingest refuses that), and a value ends at the next comma or brace outside of quotes.

- A value counts when it is a JSON number, or a string holding one, of at most 20 digits before the point and 18 after it,
  without an exponent. A missing one and null count for nothing. Whatever else it is, Python decides.
- A dimension, and a distinct value, is a string, true, false, or a whole number of at most 15 digits; missing and null are
  no dimension. Whatever else it is, Python decides.
- A filter is one of `data.name == "text"`, or several of them joined by `&&`.
"""

# ruff: noqa: S608 (identifiers are this file's own, values are bound)

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from tallystick.metering.meter import Aggregation, Meter
from tallystick.metering.path import steps_of
from tallystick.metering.reading import DIMENSION_BYTES_MAX
from tallystick.store.connection import UNKNOWN_TABLE, Connection, StoreRefusal
from tallystick.store.interface import VERSION_SCHEMA, Derived, Underived
from tallystick.store.question import Bound
from tallystick.store.statements import create_readings
from tallystick.store.versions import Range, Scan, ranges, select
from tallystick.store.within import Within

STEP_POSITIONS = 2_000_000
"""Positions whose readings are put in at once."""
_LEFT_SHARE_MAX = 0.2
"""Where more than this share of the events of a step is left to Python, it may as well derive them all."""

_NAME = re.compile(r"[A-Za-z0-9_.\- ]{1,128}")
_EQUALITY = re.compile(r'\s*data\.([A-Za-z_][A-Za-z0-9_]*)\s*==\s*"([^"\\\n]*)"\s*')
_FLAT = (
    "startsWith(data, '{') AND countSubstrings(data, '{') = 1"
    " AND NOT multiSearchAny(data, ['\\\\', '[', ' :', '\\t', '\\n', '\\r'])"
)
_NUMBER = r'^(-?(?:0|[1-9][0-9]{0,19})(?:\.[0-9]{1,18})?|"-?(?:0|[1-9][0-9]{0,19})(?:\.[0-9]{1,18})?")$'
_WHOLE = r"^(?:0|-?[1-9][0-9]{0,14})$"
_BLOCK_ROWS = 500_000
_INSERT_SETTINGS = {
    "insert_deduplicate": 0,  # a build that failed is begun anew: the same rows must go in a second time
    "min_insert_block_size_rows": _BLOCK_ROWS,
    "max_insert_block_size": _BLOCK_ROWS,
    "max_insert_threads": 2,
}

_ALL_AT_ONCE = "SETTINGS short_circuit_function_evaluation = 'disable'"
"""None of these conditions can fail, and to ask all of them of every event takes half the time of leaving some out."""


@dataclass(frozen=True, slots=True)
class _Reader:
    """A meter's definition in SQL over one event. `counts`: it contributes, and the engine can say what; `left`: only
    Python can say. Neither: it contributes nothing."""

    counts: str
    left: str
    columns: tuple[tuple[str, str], ...]  # of readings: name and expression


def steps(
    connection: Connection, meters: Sequence[Meter], *, recorded_by_us: int, partition: Within | None
) -> Iterator[Derived | Underived]:
    """See store.interface.Store.derivations."""
    tenant = meters[0].tenant
    types = sorted({meter.event_type for meter in meters})
    scan = Scan(tenant=tenant, types=types, recorded_by_us=recorded_by_us, within=partition)
    end = int(connection.rows("SELECT max(position) FROM events")[0][0])
    for within in ranges(connection, scan):
        # Where there are several recorders, an insert must also be fenced off from one that has taken over: Python's way is.
        if within.corrected or partition is not None or not connection.embedded:
            yield from _blocks(connection, scan, within, meters)
            continue
        last = end if within.through is None else min(within.through, end)
        for after in range(within.after, last, STEP_POSITIONS):
            piece = Range(after, min(after + STEP_POSITIONS, last), corrected=False)
            yield from _piece(connection, scan, piece, meters)


def _piece(
    connection: Connection, scan: Scan, piece: Range, meters: Sequence[Meter]
) -> Iterator[Derived | Underived]:
    in_python: list[Meter] = []
    for meter in meters:
        own = Scan(tenant=meter.tenant, types=[meter.event_type], recorded_by_us=scan.recorded_by_us)
        bound = Bound()
        reader = _reader(meter, bound)
        if reader is None:
            in_python.append(meter)
            continue
        events = select(own, piece, bound)
        found = (
            f"SELECT count(), countIf({reader.counts}), countIf({reader.left}) FROM ({events}) {_ALL_AT_ONCE}"
        )
        seen, counting, left = (int(number) for number in connection.rows(found, bound.parameters)[0])
        if left > seen * _LEFT_SHARE_MAX:
            in_python.append(meter)
            continue
        if counting:
            yield Derived(meter, counting, _insert(connection, meter, own, piece))
        if left:
            bound = Bound()
            reader = _reader(meter, bound)
            assert reader is not None
            sql = select(own, piece, bound, more=f" AND {reader.left}")
            yield from _streamed(connection, sql, bound, [meter])
    if in_python:
        types = sorted({meter.event_type for meter in in_python})
        some = Scan(tenant=scan.tenant, types=types, recorded_by_us=scan.recorded_by_us)
        yield from _blocks(connection, some, piece, in_python)


def _blocks(
    connection: Connection, scan: Scan, within: Range, meters: Sequence[Meter]
) -> Iterator[Underived]:
    bound = Bound()
    return _streamed(connection, select(scan, within, bound), bound, meters)


def _streamed(connection: Connection, sql: str, bound: Bound, meters: Sequence[Meter]) -> Iterator[Underived]:
    for block in connection.blocks(sql, bound.parameters, VERSION_SCHEMA):
        yield Underived(tuple(meters), pa.Table.from_batches([block]))


def _insert(connection: Connection, meter: Meter, scan: Scan, piece: Range) -> Callable[[], None]:
    def insert() -> None:
        bound = Bound()
        reader = _reader(meter, bound)
        assert reader is not None
        names = ", ".join(name for name, _ in reader.columns)
        values = ", ".join(f"{value} AS r_{name}" for name, value in reader.columns)
        events = select(scan, piece, bound, more=f" AND {reader.counts}")
        sql = f"INSERT INTO readings ({names}) SELECT {values} FROM ({events})"
        try:
            connection.command(sql, bound.parameters, settings=_INSERT_SETTINGS)
        except StoreRefusal as refusal:
            if refusal.engine_code != UNKNOWN_TABLE:
                raise
            # Derived tables may vanish at any time.
            connection.command(create_readings("readings"))
            connection.command(sql, bound.parameters, settings=_INSERT_SETTINGS)

    return insert


def _reader(meter: Meter, bound: Bound) -> _Reader | None:
    """None: this definition needs Python."""
    filters = _equalities(meter.filter)
    value = _member(meter.value) if meter.value is not None else None
    names = [_member(dimension.path) for dimension in meter.dimensions]
    reads = meter.read_as
    if (
        filters is None
        or meter.value_cel is not None
        or reads is Aggregation.DURATION
        or (reads is not Aggregation.COUNT and value is None)
        or None in names
    ):
        return None

    def raw(name: str) -> str:
        return f"trimBoth(simpleJSONExtractRaw(data, {bound.text(name)}))"

    # An event of nobody waits in quarantine (flows/quarantine.py).
    wanted = [
        "customer != ''",
        *(f"{raw(name)} = {bound.text(chr(34) + text + chr(34))}" for name, text in filters),
    ]
    figure, text = (
        ("toDecimal128(0, 18)" if reads is Aggregation.UNIQUE_COUNT else "toDecimal128(1, 18)"),
        "''",
    )
    known = ["1"]  # what must hold for the engine to say what the event contributes
    if reads is Aggregation.UNIQUE_COUNT and value is not None:
        given = raw(value)
        wanted.append(f"{given} NOT IN ('', 'null')")
        known.append(_is_scalar(given))
        text = _scalar(given)
    elif reads is not Aggregation.COUNT and value is not None:
        given = raw(value)
        wanted.append(f"{given} NOT IN ('', 'null')")
        known.append(f"match({given}, {bound.text(_NUMBER)})")
        if reads is Aggregation.REGISTER:
            known.append(f"position({given}, '-') = 0")
        figure = f"toDecimal128(trim(BOTH '\"' FROM {given}), 18)"
    columns = [
        ("tenant", "tenant"),
        ("meter", f"toUInt32({bound.value(meter.id, 'UInt32')})"),
        ("customer", "customer"),
        ("subject", "subject"),
        ("time", "time"),
        ("value", figure),
        ("text", text),
    ]
    for slot, name in enumerate(names):
        assert name is not None
        given = raw(name)
        known.append(f"({given} IN ('', 'null') OR {_is_scalar(given)})")
        columns.append((f"d{slot:d}", f"if({given} IN ('', 'null'), NULL, {_scalar(given)})"))
    columns += [("position", "position"), ("recorded_at", "recorded_at"), ("sign", "toInt8(1)")]
    wants, knows = " AND ".join(wanted), " AND ".join(known)
    # Data that is absent has no members.
    flat = f"(data = '' OR ({_FLAT}))"
    return _Reader(
        counts=f"({flat} AND {wants} AND {knows})",
        left=f"(NOT {flat} OR ({wants} AND NOT ({knows})))",
        columns=tuple(columns),
    )


def _is_scalar(given: str) -> str:
    """A string that is no longer than a dimension may be, true, false or a short whole number."""
    return (
        f"((startsWith({given}, '\"') AND length({given}) <= {DIMENSION_BYTES_MAX + 2:d})"
        f" OR {given} IN ('true', 'false') OR match({given}, '{_WHOLE}'))"
    )


def _scalar(given: str) -> str:
    return f"if(startsWith({given}, '\"'), substring({given}, 2, length({given}) - 2), {given})"


def _member(path: str) -> str | None:
    """The name of a member of data itself, when the path is no more than that and the name is plain."""
    found = steps_of(path)
    name = found[0]
    return name if len(found) == 1 and isinstance(name, str) and _NAME.fullmatch(name) else None


def _equalities(expression: str | None) -> list[tuple[str, str]] | None:
    """Members and the strings they must be; None: the filter says something else."""
    if expression is None:
        return []
    matches = [_EQUALITY.fullmatch(part) for part in expression.split("&&")]
    return [(match[1], match[2]) for match in matches if match] if all(matches) else None
