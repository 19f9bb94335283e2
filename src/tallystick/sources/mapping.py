"""From rows of a data file to events: which column is what.

An event's id is a column, composed from columns (`{model}/{client}`), or, where neither is given, a digest of what the
row says with its running number among equal rows. In each case the same file gives the same ids, whatever its format or
the order of its rows, so that sending it again changes nothing.
"""

import contextlib
import json
import re
import string
from collections import Counter
from collections.abc import Mapping as MappingOf
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, cast
from zoneinfo import ZoneInfo

import msgspec
from xxhash import xxh3_128_hexdigest

from tallystick.errors import Fault, Invalid
from tallystick.metering.instant import instant_us
from tallystick.sources.compute import ComputeError, Computer, faults_of
from tallystick.sources.paths import is_path, record_of, values_at, with_members
from tallystick.sources.rows import CONTENT_CHARACTERS_MAX, Refused, Rows, json_string

TIME_FORMATS = ("rfc3339", "unix", "unix_ms", "offset")
_ATTRIBUTES = ("id", "source", "type", "subject", "time")
_NOT_NUMBERS = frozenset({"nan", "inf", "-inf"})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LOCAL = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?", re.ASCII)
_ZONED = re.compile(r".{16,}(?:[Zz]|[+-]\d\d:\d\d)")
_NUMBER = re.compile(r"(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d{1,9}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Mapping:
    """Which column is what. Names are those of the options and of a mapping file; None: not said."""

    id: str | None = None  # a column, or a template with {columns}
    type: str | None = None  # a value
    type_column: str | None = None
    source: str | None = None  # a value
    source_column: str | None = None
    subject: str | None = None  # a column
    subject_value: str | None = None
    time: str | None = None  # a column
    time_format: str | None = None  # of TIME_FORMATS
    time_base: str | None = None  # RFC 3339: what offsets count from
    time_zone: str | None = None  # IANA: of times that have no offset of their own
    data: tuple[tuple[str, str], ...] | None = None  # (member, column)
    text: tuple[str, ...] | None = None  # columns whose values are strings, whatever they look like
    compute: tuple[tuple[str, str], ...] | None = None  # (attribute or data.NAME, CEL); see compute.py
    where: str | None = None  # CEL: which records are taken

    @property
    def is_empty(self) -> bool:
        return all(getattr(self, one.name) is None for one in fields(self))


def read_mapping(document: object) -> Mapping:
    """A mapping from a parsed YAML file. Raises Invalid with every fault."""
    faults: list[Fault] = []
    if not isinstance(document, dict):
        raise Invalid("A mapping file has names and values, such as `id: event_id`.")
    names = {one.name for one in fields(Mapping)}
    values: dict[str, Any] = {}
    for given, value in cast("dict[Any, Any]", document).items():
        name = str(given).replace("-", "_")
        if name not in names:
            faults.append(
                Fault(
                    str(given),
                    "unknown_member",
                    f"There is no {given!r}; there are {', '.join(sorted(names))}.",
                )
            )
        elif name == "data":
            if isinstance(value, dict):
                values[name] = tuple((str(k), str(v)) for k, v in cast("dict[Any, Any]", value).items())
            elif isinstance(value, list):
                values[name] = tuple((str(one), str(one)) for one in cast("list[Any]", value))
            else:
                values[name] = columns_of(str(value or ""))
        elif name == "compute":
            if isinstance(value, dict):
                pairs = cast("dict[Any, Any]", value).items()
                values[name] = tuple((str(member), str(text)) for member, text in pairs)
            else:
                detail = "compute has names and CEL expressions, such as `data.cost: data.n * 2`."
                faults.append(Fault(str(given), "invalid_type", detail))
        elif name == "text":
            listed = cast("list[Any]", value) if isinstance(value, list) else str(value).split(",")
            values[name] = tuple(str(one).strip() for one in listed)
        elif isinstance(value, datetime):  # YAML reads times by itself
            values[name] = (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
        elif value is not None:
            values[name] = str(value)
    if faults:
        raise Invalid("The mapping file is not valid.", faults=faults)
    return Mapping(**values)


def mapping_to_wire(mapping: Mapping) -> dict[str, Any]:
    """What is said, as `read_mapping` reads it."""
    said = {one.name: getattr(mapping, one.name) for one in fields(mapping)}
    for name in ("data", "compute"):
        if said[name] is not None:
            said[name] = dict(said[name])
    if said["text"] is not None:
        said["text"] = list(said["text"])
    return {name: value for name, value in said.items() if value is not None}


def check_mapping(mapping: Mapping) -> None:
    """Raises Invalid with everything that is wrong with it, whatever the records are."""
    faults = list(_faults(mapping))
    if mapping.id is not None and "{" in mapping.id:
        try:
            template_of(mapping.id)
        except Invalid as error:
            faults.append(Fault("--id", "invalid_value", error.detail))
    if faults:
        raise Invalid("The mapping is not valid.", faults=faults)


def columns_of(text: str) -> tuple[tuple[str, str], ...]:
    """`a,b=c`: the member a from column a, the member b from column c."""
    pairs: list[tuple[str, str]] = []
    for part in text.split(","):
        name, equals, column = part.strip().partition("=")
        if name:
            pairs.append((name, column if equals else name))
    return tuple(pairs)


@dataclass(slots=True)
class Events:
    """Events of some rows, one JSON text each, with the number of their row and their id."""

    lines: list[str] = field(default_factory=list[str])
    numbers: list[int] = field(default_factory=list[int])
    ids: list[str] = field(default_factory=list[str])
    refused: list[Refused] = field(default_factory=list[Refused])
    progress: int = 0


class RowError(ValueError):
    """One value cannot be read; `code` says in which way."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class EventMaker:
    """Makes events of rows, block after block of one file."""

    def __init__(self, mapping: Mapping, *, seed: str = "") -> None:
        """`seed` goes into the ids that are digests: equal rows of different seeds are different events."""
        self._mapping = mapping
        self._seed = seed
        self._checked = False
        self._ids_given: Sequence[str] | None = None
        self._equal_rows: Counter[bytes] = Counter()
        self._template = template_of(mapping.id) if mapping.id is not None and "{" in mapping.id else None
        faults = list(_faults(mapping))
        if faults:
            raise Invalid("The mapping is not valid.", faults=faults)
        works = mapping.compute is not None or mapping.where is not None
        self._computer = Computer(mapping.compute or (), mapping.where) if works else None
        self._paths = tuple(sorted(name for name in _names_of(mapping, self._template) if is_path(name)))
        self._zone = ZoneInfo(mapping.time_zone) if mapping.time_zone else None
        self._base_us = instant_us(mapping.time_base) if mapping.time_base else 0

    def events(self, rows: Rows, ids: Sequence[str] | None = None) -> Events:
        """The events of a block of rows. `ids`: for each row, the id it has where it says none (plain text); without, a
        digest."""
        made = Events(refused=list(rows.refused), progress=rows.progress)
        if self._paths:
            columns = {**rows.columns}
            for path in self._paths:
                if path not in columns:
                    columns[path] = values_at(path, rows.columns, len(rows))
            rows = replace(rows, columns=columns)
        self._ids_given = ids
        if self._mapping.is_empty and rows.objects is not None:
            self._as_they_are(rows, made)
        else:
            self._mapped(rows, made)
        return made

    def _as_they_are(self, rows: Rows, made: Events) -> None:
        assert rows.objects is not None
        nothing: list[str | None] = [None] * len(rows)
        columns = {name: rows.columns.get(name, nothing) for name in (*_ATTRIBUTES, "data")}
        for at, text in enumerate(rows.objects):
            line = text.decode(errors="replace").replace("\n", " ").replace("\r", " ")
            event_id = columns["id"][at]
            if event_id is None and not line.startswith('{"id"'):
                source, kind, subject, time = (columns[name][at] for name in _ATTRIBUTES[1:])
                event_id = json_string(self._own_id(at, source, kind, subject, time, columns["data"][at]))
                inner = line[1:].lstrip()
                line = f'{{"id":{event_id}{"" if inner.startswith("}") else ","}{inner}'
            made.lines.append(line)
            made.numbers.append(rows.numbers[at])
            made.ids.append(_plain(event_id) if event_id else "")

    def _mapped(self, rows: Rows, made: Events) -> None:
        mapping = self._mapping
        if rows.objects is None:
            self._check_columns(rows.columns)
        nothing: list[str | None] = [None] * len(rows)

        def column(name: str | None, fallback: str) -> list[str | None]:
            return rows.columns.get(name or fallback, nothing)

        def attribute(value: str | None, name: str | None, fallback: str) -> list[str | None]:
            if value is not None:
                return [json_string(value)] * len(rows)
            return _each(column(name, fallback), _as_text)

        kinds = attribute(mapping.type, mapping.type_column, "type")
        sources = attribute(mapping.source, mapping.source_column, "source")
        subjects = attribute(mapping.subject_value, mapping.subject, "subject")
        times = _each_or_error(column(mapping.time, "time"), self._time)
        data = self._data(rows)
        ids = self._ids(rows)
        for at in range(len(rows)):
            number = rows.numbers[at]
            said: dict[str, str | None] = {
                "id": None if ids is None else ids[at],
                "source": sources[at],
                "type": kinds[at],
                "subject": subjects[at],
            }
            try:
                if rows.objects is not None:
                    _check_repeated(rows.objects[at])
                time, value = times[at], data[at]
                if isinstance(time, RowError):
                    raise time
                if isinstance(value, RowError):
                    raise value
                said["time"], said["data"] = time, value
                if self._computer is not None and not self._worked(self._computer, record_of(rows, at), said):
                    continue
                if said["id"] is None:
                    if mapping.id is not None or (ids is not None and self._ids_given is None):
                        raise RowError("missing_id", f"A column of the id ({mapping.id or 'id'}) is empty.")  # noqa: TRY301
                    rest = (said[name] for name in ("source", "type", "subject", "time", "data"))
                    said["id"] = json_string(self._own_id(at, *rest))
            except RowError as error:
                content = record_of(rows, at).decode(errors="replace")
                made.refused.append(
                    Refused(number, error.code, error.detail, content[:CONTENT_CHARACTERS_MAX])
                )
                continue
            made.lines.append(
                "{" + ",".join(f'"{name}":{text}' for name, text in said.items() if text is not None) + "}"
            )
            made.numbers.append(number)
            made.ids.append(_plain(said["id"] or ""))

    @staticmethod
    def _worked(computer: Computer, record: bytes, said: dict[str, str | None]) -> bool:
        """Put what expressions give into `said`; False where `where` leaves the record out."""
        try:
            if not computer.wanted(record, said):
                return False
            worked = computer.work(record, said)
        except ComputeError as error:
            raise RowError("expression_failed", str(error)) from None
        said.update(worked.attributes)
        if worked.members:
            said["data"] = with_members(said["data"], worked.members)
        return True

    def _own_id(  # noqa: PLR0917 -- what an event says
        self,
        at: int,
        source: str | None,
        kind: str | None,
        subject: str | None,
        time: str | None,
        data: str | None,
    ) -> str:
        """The id of a row that says none."""
        if self._ids_given is not None:
            return self._ids_given[at]
        return self._digest_id(source, kind, subject, time, data)

    def _check_columns(self, columns: MappingOf[str, object]) -> None:
        if self._checked:
            return
        self._checked = True
        mapping = self._mapping
        named = [
            (name, getattr(mapping, name)) for name in ("type_column", "source_column", "subject", "time")
        ]
        if self._template is not None:
            named += [("id", column) for _, column in self._template if column is not None]
        else:
            named.append(("id", mapping.id))
        named += [("data", column) for _, column in mapping.data or ()]
        named += [("text", column) for column in mapping.text or ()]
        known = ", ".join(columns)
        faults = [
            Fault(
                f"--{option.replace('_', '-')}",
                "unknown_column",
                f"There is no column {column!r}; the file has {known}.",
            )
            for option, column in named
            if column is not None and column not in columns
        ]
        if faults:
            raise Invalid("The mapping does not fit the file.", faults=faults)

    def _ids(self, rows: Rows) -> list[str | None] | None:
        """JSON texts of the ids; None: they are to be digests."""
        nothing: list[str | None] = [None] * len(rows)
        if self._template is None:
            if self._mapping.id is None and "id" not in rows.columns:
                return None
            return _each(rows.columns.get(self._mapping.id or "id", nothing), _as_text)
        pieces = [
            [piece] * len(rows)
            if column is None
            else [None if text is None else _plain(text) for text in rows.columns.get(column, nothing)]
            for piece, column in self._template
        ]
        return [
            None if None in parts else json_string("".join(cast("tuple[str, ...]", parts)))
            for parts in zip(*pieces, strict=True)
        ]

    def _data(self, rows: Rows) -> Sequence[str | RowError | None]:
        mapping = self._mapping
        if mapping.data is None and rows.objects is not None and "data" in rows.columns:
            return rows.columns["data"]
        if mapping.data is not None:
            chosen = mapping.data
        else:
            taken = {
                mapping.type_column or "type",
                mapping.source_column or "source",
                mapping.subject or "subject",
            }
            taken |= {mapping.time or "time", "id" if self._template or mapping.id is None else mapping.id}
            taken |= {*self._paths} - {"data"}
            chosen = tuple((name, name) for name in rows.columns if name not in taken)
        encoded: list[list[str | RowError]] = []
        for name, column in chosen:
            texts = rows.columns.get(column)
            if texts is None:
                continue
            if column in (mapping.text or ()):
                texts = _each(texts, _as_text)
            encoded.append(_members(json_string(name) + ":", column, texts))
        if not encoded:
            return [None] * len(rows)
        return [_object(parts) for parts in zip(*encoded, strict=True)]

    def _time(self, literal: str) -> str:
        text = _plain(literal)
        kind = self._mapping.time_format or "rfc3339"
        if kind == "rfc3339":
            return json_string(self._moment(text))
        try:
            number = Decimal(text)
            if not number.is_finite() or abs(number) > 10**15:
                raise InvalidOperation  # noqa: TRY301
            if kind == "unix_ms":
                number = number.scaleb(-3)
            return json_string(_text_of(self._base_us + int(number * 1_000_000)))
        except (InvalidOperation, OverflowError):
            raise RowError("invalid_time", f"{text[:40]!r} is not a number of {kind} time.") from None

    def _moment(self, text: str) -> str:
        if text[10:11] == " ":
            text = f"{text[:10]}T{text[11:]}"
        if _ZONED.fullmatch(text):
            return text
        local = _LOCAL.fullmatch(text)
        if local is None:
            return text  # the server says what is wrong with it
        if self._zone is None:
            raise RowError(
                "time_without_zone", f"{text[:40]!r} has no offset; say which zone it is in: --time-zone UTC."
            )
        try:
            moment = datetime.fromisoformat(local[1]).replace(tzinfo=self._zone).astimezone(UTC)
        except (ValueError, OverflowError):
            raise RowError("invalid_time", f"{text[:40]!r} is not a moment of the calendar.") from None
        return f"{moment.replace(tzinfo=None).isoformat()}{local[2] or ''}Z"

    def _digest_id(
        self, source: str | None, kind: str | None, subject: str | None, time: str | None, data: str | None
    ) -> str:
        moment = "" if time is None else _plain(time)
        with contextlib.suppress(ValueError):
            moment = str(instant_us(moment)) if moment else ""
        said = json.dumps(
            [
                *("" if one is None else _plain(one) for one in (source or '"/"', kind, subject)),
                moment,
                _canonical(data),
                *([self._seed] if self._seed else []),
            ],
            sort_keys=True,
        )
        digest = xxh3_128_hexdigest(said.encode())
        self._equal_rows[bytes.fromhex(digest)] += 1
        number = self._equal_rows[bytes.fromhex(digest)]
        return f"row-{digest}" if number == 1 else f"row-{digest}-{number}"


def _names_of(mapping: Mapping, template: Sequence[tuple[str, str | None]] | None) -> set[str]:
    """Every column or path that a mapping names."""
    named = {mapping.type_column, mapping.source_column, mapping.subject, mapping.time}
    named |= {column for _, column in template} if template is not None else {mapping.id}
    named |= {column for _, column in mapping.data or ()} | set(mapping.text or ())
    return {name for name in named if name is not None}


def template_of(text: str) -> list[tuple[str, str | None]]:
    """`{model}/{client}` → its pieces: (text, None) or ("", column). Only plain names stand in braces."""
    pieces: list[tuple[str, str | None]] = []
    try:
        for literal, name, form, conversion in string.Formatter().parse(text):
            if literal:
                pieces.append((literal, None))
            if name is None:
                continue
            if not name or form or conversion or re.search(r"[.\[\]]", name):
                raise ValueError("only names of columns may stand in braces")  # noqa: TRY301
            pieces.append(("", name))
    except ValueError as error:
        raise Invalid(f"--id: {text!r} is not a template such as {{model}}/{{client}}: {error}.") from error
    return pieces


def _faults(mapping: Mapping) -> Sequence[Fault]:
    faults = faults_of(mapping.compute or (), mapping.where)
    for value, column in (("type", "type_column"), ("source", "source_column"), ("subject_value", "subject")):
        if getattr(mapping, value) is not None and getattr(mapping, column) is not None:
            option, other = (f"--{name.replace('_', '-')}" for name in (value, column))
            faults.append(Fault(option, "contradiction", f"Give {option} or {other}, not both."))
    if mapping.time_format not in (None, *TIME_FORMATS):
        faults.append(
            Fault(
                "--time-format",
                "unknown",
                f"{mapping.time_format!r} is not one of {', '.join(TIME_FORMATS)}.",
            )
        )
    if mapping.time_format == "offset" and mapping.time_base is None:
        faults.append(
            Fault(
                "--time-base",
                "missing",
                "Offsets need the moment they count from: --time-base 2026-01-31T00:00:00Z.",
            )
        )
    if mapping.time_base is not None:
        if mapping.time_format != "offset":
            faults.append(Fault("--time-base", "contradiction", "A base goes with --time-format offset."))
        try:
            instant_us(mapping.time_base)
        except ValueError as error:
            faults.append(Fault("--time-base", "invalid_time", str(error)))
    if mapping.time_zone is not None:
        try:
            ZoneInfo(mapping.time_zone)
        except (KeyError, ValueError, OSError):
            faults.append(
                Fault(
                    "--time-zone",
                    "unknown_timezone",
                    f"There is no zone {mapping.time_zone!r}, such as Europe/Berlin.",
                )
            )
    return faults


def _each(texts: Sequence[str | None], change: Any) -> list[str | None]:
    """`change` of every text that is there; once for equal ones."""
    changed: dict[str | None, str | None] = {
        text: None if text is None else change(text) for text in set(texts)
    }
    return [changed[text] for text in texts]


def _each_or_error(texts: Sequence[str | None], change: Any) -> list[str | RowError | None]:
    def attempt(text: str) -> str | RowError:
        try:
            return change(text)
        except RowError as error:
            return error

    return cast("list[str | RowError | None]", _each(texts, attempt))


def _as_text(literal: str) -> str:
    """A scalar as a JSON string: 7 → "7". Objects and arrays stay, for the server to refuse."""
    return literal if literal[0] in '"{[' else json_string(literal)


def _plain(literal: str) -> str:
    """What a JSON text says, as plain text."""
    return cast("str", msgspec.json.decode(literal)) if literal.startswith('"') else literal


def _members(key: str, column: str, texts: Sequence[str | None]) -> list[str | RowError]:
    made: dict[str | None, str | RowError] = {None: ""}
    for text in set(texts):
        if text is not None:
            made[text] = (
                RowError("not_a_number", f"Column {column!r} is {text}, which no JSON number is.")
                if text in _NOT_NUMBERS
                else key + text
            )
    return [made[text] for text in texts]


def _object(parts: Sequence[str | RowError]) -> str | RowError | None:
    for part in parts:
        if isinstance(part, RowError):
            return part
    text = ",".join(filter(None, cast("Sequence[str]", parts)))
    return f"{{{text}}}" if text else None


def _check_repeated(text: bytes) -> None:
    def members(pairs: list[tuple[str, Any]]) -> None:
        if len({name for name, _ in pairs}) != len(pairs):
            raise RowError("duplicate_key", "A member stands twice in one object.")

    try:
        json.loads(text, object_pairs_hook=members, parse_int=str, parse_float=str)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RowError("invalid_json", f"Not a JSON object: {error}.") from None


def _canonical(data: str | None) -> Any:
    """The same for the same data, however it is written (metering/content.py says what is the same)."""
    if data is None:
        return {}
    try:
        return json.loads(data, parse_int=_number, parse_float=_number)
    except ValueError:
        return data


def _number(literal: str) -> Any:
    match = _NUMBER.fullmatch(literal)
    if match is None:
        return {"\0number": literal}
    sign, whole, fraction, exponent = match[1], match[2], match[3] or "", int(match[4] or 0)
    digits = (whole + fraction).lstrip("0")
    significant = digits.rstrip("0")
    if not significant:
        return {"\0number": "0"}
    return {"\0number": f"{sign}{significant}e{exponent - len(fraction) + len(digits) - len(significant)}"}


def _text_of(us: int) -> str:
    moment = _EPOCH + timedelta(microseconds=us)
    return moment.replace(tzinfo=None).isoformat() + "Z"
