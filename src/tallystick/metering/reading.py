"""What one event contributes to one meter.

`derive` is the fast, columnar spelling that the recorder uses; `read` says the same of one event, with the reason when
it contributes nothing. `evaluate` (the oracle) has a slow obvious spelling of its own. Property tests hold all three
together.

The rules:
- **Value** (all aggregations but count, unique_count and duration): a JSON number, or a string in the syntax of a JSON
  number, read exactly from its text; see `number.parse_number` for limits and rounding. A register takes none below 0.
- **Distinct value** (unique_count): any JSON scalar as text, by the rule for numbers of `number.number_text`: the number
  1.0 and the string "1" are the same value, so are true and "true".
- **State** (duration): the string "start" or "stop", and a scalar that a start and its stop have in common, as text like
  a distinct value.
- **Computed**: where the definition has an expression in the place of a path, what it gives is read as what lies at a
  path is, a double by its shortest decimal (computed.py).
- **Dimension**: a string as it is; a number by `number.number_text`; "true" or "false"; an object or array as its
  compact JSON text with members in the order sent; null when missing, null, or longer than 1,024 UTF-8 bytes.
- A member that is missing and one that is `null` are the same, except to a filter.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tallystick.metering.computed import FAILED, CompiledValue, Computed, compile_value
from tallystick.metering.event import TIMESTAMP
from tallystick.metering.expression import (
    MEMO_ENTRIES_MAX,
    MEMO_TEXT_CHARACTERS_MAX,
    Expression,
    ExpressionEvent,
    JsonNumber,
)
from tallystick.metering.filter import CompiledFilter, Verdict, compile_filter
from tallystick.metering.meter import DIMENSIONS_MAX, Aggregation, Meter
from tallystick.metering.number import (
    FRACTION_DIGITS,
    NotNumeric,
    NumberOutOfRange,
    number_text,
    parse_number,
)
from tallystick.metering.path import Steps, follow, steps_of

DECIMAL = pa.decimal128(38, 18)
"""Every figure: up to 20 digits before the point, 18 after it; what has more after it is rounded half-even."""

DIMENSION_BYTES_MAX = 1024

READING_SCHEMA = pa.schema(
    [
        pa.field("tenant", pa.string(), nullable=False),
        pa.field("meter", pa.uint32(), nullable=False),  # Meter.id
        pa.field("customer", pa.string(), nullable=False),
        pa.field("subject", pa.string(), nullable=False),
        pa.field("time", TIMESTAMP, nullable=False),
        pa.field("value", DECIMAL, nullable=False),  # 1 for count and a start; 0 for unique_count and a stop
        pa.field("text", pa.string(), nullable=False),  # unique_count: distinct value; duration: pair; or ""
        *(pa.field(f"d{slot}", pa.string(), nullable=True) for slot in range(DIMENSIONS_MAX)),
        pa.field("position", pa.uint64(), nullable=False),
        pa.field("recorded_at", TIMESTAMP, nullable=False),
        pa.field(
            "sign", pa.int8(), nullable=False
        ),  # 1; -1 takes the reading of this meter and position back
    ]
)
"""One row a reading. String columns may be dictionary-encoded. Slot i of d0 … holds dimension i of the definition."""

_compute: Any = pc  # its functions are made at import and unknown to type checkers
_ONE = Decimal(1)
_ZERO = Decimal(0)
_LONG_DECIMAL = pa.decimal256(76, 40)
_SHORT_TEXT = r"^-?(0|[1-9][0-9]{0,19})(\.[0-9]{1,18})?$"
"""What DECIMAL holds exactly."""
_LONG_TEXT = r"^-?(0|[1-9][0-9]{0,19})(\.[0-9]{1,22})?([eE]-(0?[0-9]|1[0-8]))?$"
"""What _LONG_DECIMAL holds exactly: 22 digits after the point, and 18 more by the exponent, are its 40."""
_MISSING = msgspec.UNSET
_MISSING_TYPE = msgspec.UnsetType
_NONE_TYPE = type(None)


class Exclusion(StrEnum):
    """Why an event of a meter's type contributes nothing to it."""

    VALUE_MISSING = "value_missing"
    VALUE_NOT_NUMERIC = "value_not_numeric"
    VALUE_NOT_SCALAR = "value_not_scalar"
    VALUE_ERROR = "value_error"  # the expression fails for this event
    NUMBER_OUT_OF_RANGE = "number_out_of_range"
    REGISTER_NEGATIVE = "register_negative"
    STATE_UNKNOWN = "state_unknown"
    PAIR_MISSING = "pair_missing"
    PAIR_NOT_SCALAR = "pair_not_scalar"
    FILTER_FALSE = "filter_false"
    FILTER_ERROR = "filter_error"
    QUARANTINED = "quarantined"  # its subject belongs to no customer yet


_STATES = {"start": _ONE, "stop": _ZERO}
_PAIR_EXCLUSIONS = {
    Exclusion.VALUE_MISSING: Exclusion.PAIR_MISSING,
    Exclusion.VALUE_NOT_SCALAR: Exclusion.PAIR_NOT_SCALAR,
}


@dataclass(frozen=True, slots=True)
class Reading:
    """What an event contributes. `value` is 1 for count and for a start, 0 for unique_count and for a stop; `text` the
    distinct value of unique_count, what a start and its stop of duration have in common, and "" otherwise;
    `dimensions` as the definition declares them."""

    value: Decimal
    text: str
    dimensions: tuple[str | None, ...]


# -- one event --------------------------------------------------------------------------------------------------------


def read(meter: Meter, event: ExpressionEvent) -> Reading | Exclusion:
    """What this event (of the meter's type) contributes to the meter, or why it does not. A filter that does not match
    is the reason before anything about the value."""
    data = _parse(event.data)
    if meter.filter is not None:
        verdict = compile_filter(meter.filter).verdict(event)
        if verdict is not Verdict.MATCH:
            return Exclusion(verdict.value)
    value, text = _ONE, ""
    if meter.read_as is not Aggregation.COUNT:
        if meter.value_cel is not None:
            given = _given(compile_value(meter.value_cel).value(event))
        else:
            given = follow(data, steps_of(meter.value or ""))
        pair = follow(data, steps_of(meter.pair_by)) if meter.pair_by is not None else None
        contributed = _contribution(meter.read_as, given, pair)
        if isinstance(contributed, Exclusion):
            return contributed
        value, text = contributed
    return Reading(
        value, text, tuple(_dimension(follow(data, steps_of(declared.path))) for declared in meter.dimensions)
    )


def _contribution(aggregation: Aggregation, given: object, pair: object) -> tuple[Decimal, str] | Exclusion:
    """Value and text of a reading, of any aggregation but count."""
    if aggregation is Aggregation.UNIQUE_COUNT:
        distinct = _distinct(given)
        return distinct if isinstance(distinct, Exclusion) else (_ZERO, distinct)
    if aggregation is Aggregation.DURATION:
        state = _state(given)
        if isinstance(state, Exclusion):
            return state
        paired = _distinct(pair)
        if isinstance(paired, Exclusion):
            return _PAIR_EXCLUSIONS[paired]
        return state, paired
    figure = _register_figure(given) if aggregation is Aggregation.REGISTER else _figure(given)
    return figure if isinstance(figure, Exclusion) else (figure, "")


def why_excluded(meter: Meter, event: ExpressionEvent) -> str | None:
    """The code of the reason why this event contributes nothing to the meter; None when it contributes."""
    given = read(meter, event)
    return given.value if isinstance(given, Exclusion) else None


_DECODER = json.JSONDecoder(parse_int=JsonNumber, parse_float=JsonNumber, parse_constant=JsonNumber)


def _parse(data: bytes) -> dict[str, Any]:
    """Data with numbers as JsonNumber. What cannot be read has no members: what is in the log was checked on its way
    in, and a defect there must not stop the recorder."""
    if not data:
        return {}
    try:
        parsed = _DECODER.decode(data.decode("utf-8"))
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _given(computed: Computed) -> object:
    """What an expression gave, in the shape of a parsed value. An infinity stays a float: it is neither a figure nor a
    name, and JSON has no text for it."""
    return JsonNumber(repr(computed)) if isinstance(computed, float) and math.isfinite(computed) else computed


def _figure(value: object) -> Decimal | Exclusion:
    if value is None:
        return Exclusion.VALUE_MISSING
    if value is FAILED:
        return Exclusion.VALUE_ERROR
    if isinstance(value, bool) or not isinstance(value, str | int):
        return Exclusion.VALUE_NOT_NUMERIC
    try:
        return parse_number(value if isinstance(value, str) else _digits(value))
    except NotNumeric:
        return Exclusion.VALUE_NOT_NUMERIC
    except NumberOutOfRange:
        return Exclusion.NUMBER_OUT_OF_RANGE


def _register_figure(value: object) -> Decimal | Exclusion:
    figure = _figure(value)
    if isinstance(figure, Decimal) and figure < 0:
        return Exclusion.REGISTER_NEGATIVE
    return figure


def _state(value: object) -> Decimal | Exclusion:
    if value is None:
        return Exclusion.VALUE_MISSING
    if value is FAILED:
        return Exclusion.VALUE_ERROR
    if isinstance(value, str) and value in _STATES:
        return _STATES[value]
    return Exclusion.STATE_UNKNOWN


def _digits(value: int) -> str:
    """The digits of an integer, also of one too long for str()."""
    return str(value) if value.bit_length() < 8192 else format(Decimal(value), "f")


def _scalar_text(value: object) -> str | None:
    if isinstance(value, JsonNumber):
        return str(number_text(value))  # where it stays as sent, too, a plain string: JSON is made of it
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return _digits(value)
    return None


def _distinct(value: object) -> str | Exclusion:
    if value is None:
        return Exclusion.VALUE_MISSING
    if value is FAILED:
        return Exclusion.VALUE_ERROR
    text = _scalar_text(value)
    return Exclusion.VALUE_NOT_SCALAR if text is None else _storable(text)


def _dimension(value: object) -> str | None:
    if value is None:
        return None
    text = _scalar_text(value)
    if text is None:
        text = _compact(value)
    text = _storable(text)
    if len(text) > DIMENSION_BYTES_MAX // 4 and len(text.encode("utf-8")) > DIMENSION_BYTES_MAX:
        return None
    return text


def _storable(text: str) -> str:
    """The text with unpaired surrogates, which UTF-8 has no form for, as U+FFFD."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _compact(value: object) -> str:
    """JSON without white space, members as sent, numbers by their literal text."""
    if isinstance(value, dict):
        members = (f"{_quoted(name)}:{_compact(member)}" for name, member in value.items())  # pyright: ignore[reportUnknownArgumentType]
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_compact(element) for element in value) + "]"  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, JsonNumber):
        return "0" if value == "-0" else str(value)  # an integer has no sign of zero
    if isinstance(value, str):
        return _quoted(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return _digits(value) if isinstance(value, int) else ""


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


# -- many events ------------------------------------------------------------------------------------------------------


def derive(meters: Sequence[Meter], events: pa.Table) -> pa.Table:
    """Readings of all these meters from all these events: what `read` says, row by row, and the rows it excludes absent.

    `events` has RECORDED_SCHEMA's columns (identity, content, action and note may be absent; string columns may be
    dictionary-encoded), of any tenants and types: a meter reads the events of its tenant and type. Answers
    READING_SCHEMA with `tenant`, `customer` and `subject` encoded as they came; rows by meter in the order given, then
    as in `events`. The same input gives the same rows in the same order.
    """
    by_scope: dict[tuple[str, str], list[Meter]] = {}
    for meter in meters:
        by_scope.setdefault((meter.tenant, meter.event_type), []).append(meter)
    schema = _schema_of(events)
    if events.num_rows == 0 or not by_scope:
        return schema.empty_table()
    events = _attributed(events.combine_chunks())
    if events.num_rows == 0:
        return schema.empty_table()
    derived: dict[int, pa.Table] = {}
    for scope, rows in _rows_of(events, by_scope.keys()):
        part = events if rows is None else events.take(pa.array(rows))
        group = _Group(part, by_scope[scope])
        for index, meter in enumerate(by_scope[scope]):
            derived[id(meter)] = group.readings(index, schema)
    ordered = [derived[id(meter)] for meter in meters if id(meter) in derived]
    return pa.concat_tables(ordered) if ordered else schema.empty_table()


def _attributed(events: pa.Table) -> pa.Table:
    """Without the events that belong to nobody (customer ""): they count once they belong to somebody."""
    column = events["customer"]
    if pa.types.is_dictionary(column.type):
        # Nearly always there are none, which the few entries tell.
        if not any("" in chunk.dictionary.to_pylist() for chunk in column.chunks):
            return events
        column = column.cast(pa.string())
    belongs = _compute.not_equal(column, "")
    return events if _compute.all(belongs).as_py() else events.filter(belongs).combine_chunks()


def _schema_of(events: pa.Table) -> pa.Schema:
    schema = READING_SCHEMA
    for name in ("tenant", "customer", "subject"):
        index = schema.get_field_index(name)
        schema = schema.set(index, pa.field(name, events.schema.field(name).type, nullable=False))
    return schema


def _codes(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], list[str]]:
    """The column as indices into its distinct values."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    encoded: Any = column.combine_chunks()
    indices = np.asarray(encoded.indices).astype(np.int64)
    return indices, encoded.dictionary.to_pylist()


def _rows_of(
    events: pa.Table, scopes: Iterable[tuple[str, str]]
) -> list[tuple[tuple[str, str], NDArray[np.int64] | None]]:
    """For each scope that has any: its rows, ascending. None: all of them."""
    tenants, tenant_names = _codes(events.column("tenant"))
    types, type_names = _codes(events.column("type"))
    if len(tenant_names) == 1 and len(type_names) == 1:
        only = (tenant_names[0], type_names[0])
        return [(scope, None) for scope in scopes if scope == only]
    codes = tenants * len(type_names) + types
    # Equal names may stand twice in a dictionary that someone else made, so a scope may have several codes.
    wanted: dict[tuple[str, str], list[int]] = {}
    tenant_codes, type_codes = _places(tenant_names), _places(type_names)
    for tenant, event_type in scopes:
        for tenant_code in tenant_codes.get(tenant, ()):
            for type_code in type_codes.get(event_type, ()):
                wanted.setdefault((tenant, event_type), []).append(tenant_code * len(type_names) + type_code)
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    found: list[tuple[tuple[str, str], NDArray[np.int64] | None]] = []
    for scope, scope_codes in wanted.items():
        parts = [
            order[np.searchsorted(ordered, code, "left") : np.searchsorted(ordered, code, "right")]
            for code in scope_codes
        ]
        rows = parts[0] if len(parts) == 1 else np.sort(np.concatenate(parts))
        if len(rows):
            found.append((scope, None if len(rows) == len(codes) else rows))
    return found


def _places(names: list[str]) -> dict[str, list[int]]:
    places: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        places.setdefault(name, []).append(index)
    return places


class _Extractor:
    """Takes the members that some meters of one type read out of many events' data at once."""

    def __init__(self, members: tuple[str, ...]) -> None:
        self.members = members
        fields = {f"m{index}": name for index, name in enumerate(members)}
        try:
            row = msgspec.defstruct(
                "Row", [(field, Any, _MISSING) for field in fields], rename=fields, gc=False
            )
        except ValueError:  # a name that msgspec cannot look for: all members are parsed instead
            self._decoder = msgspec.json.Decoder(list[dict[str, Any]], float_hook=JsonNumber)
            self._getters: list[Callable[[list[Any]], list[Any]]] = [_member_getter(name) for name in members]
        else:
            self._decoder = msgspec.json.Decoder(list[row], float_hook=JsonNumber)
            self._getters = [_field_getter(field) for field in fields]

    def columns(self, data: list[bytes]) -> list[list[Any]]:
        """A list for each member: its value in each row, parsed with floats as JsonNumber, UNSET where it is missing.

        Integers are ints or JsonNumber.
        """
        if not self.members:
            return []
        try:
            rows = self._decoder.decode(b"[" + b",".join([one or b"{}" for one in data]) + b"]")
        except (msgspec.MsgspecError, ValueError, RecursionError):
            rows = None
        if rows is None or len(rows) != len(data):
            return self._one_by_one(data)
        return [getter(rows) for getter in self._getters]

    def _one_by_one(self, data: list[bytes]) -> list[list[Any]]:
        """For a batch with something that the fast decoder refuses (an integer of thousands of digits, …)."""
        parsed = [_parse(one) for one in data]
        return [[row.get(name, _MISSING) for row in parsed] for name in self.members]


def _field_getter(field: str) -> Callable[[list[Any]], list[Any]]:
    # A list comprehension with the attribute's name in its code is twice as fast as getattr or attrgetter.
    namespace: dict[str, Any] = {}
    exec(f"def get(rows):\n    return [row.{field} for row in rows]\n", namespace)  # noqa: S102 — `field` is m0, m1 …
    return namespace["get"]


def _member_getter(name: str) -> Callable[[list[Any]], list[Any]]:
    return lambda rows: [row.get(name, _MISSING) for row in rows]


@dataclass(frozen=True, slots=True)
class _Plan:
    """How to read one meter from extracted columns: positions of columns, and the steps that remain below them."""

    aggregation: Aggregation
    value: tuple[int, Steps] | None  # None for count, and where it is computed
    pair: tuple[int, Steps] | None
    dimensions: tuple[tuple[int, Steps], ...]
    filter: CompiledFilter | None
    filter_columns: tuple[int, ...]
    computed: CompiledValue | None
    computed_columns: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Rule:
    """What of a meter decides how it is read."""

    aggregation: Aggregation
    value: str | None
    value_cel: str | None
    pair_by: str | None
    dimensions: tuple[str, ...]
    filter: str | None


def _rule(meter: Meter) -> _Rule:
    dimensions = tuple(one.path for one in meter.dimensions)
    return _Rule(meter.read_as, meter.value, meter.value_cel, meter.pair_by, dimensions, meter.filter)


@lru_cache(maxsize=1024)
def _plans(rules: tuple[_Rule, ...]) -> tuple[_Extractor, tuple[_Plan, ...]]:
    """The extractor and the plans of some meters of one type. Kept: a recorder asks for the same ones all the time."""
    columns: dict[str, int] = {}

    def column(name: str) -> int:
        return columns.setdefault(name, len(columns))

    def place(path: str) -> tuple[int, Steps]:
        steps = steps_of(path)
        return column(str(steps[0])), steps[1:]

    def touched(expression: Expression) -> tuple[int, ...]:
        if not expression.memorable or expression.members is None:
            return ()
        return tuple(column(name) for name in expression.members)

    plans: list[_Plan] = []
    for rule in rules:
        compiled = compile_filter(rule.filter) if rule.filter is not None else None
        computed = compile_value(rule.value_cel) if rule.value_cel is not None else None
        reads_path = rule.aggregation is not Aggregation.COUNT and computed is None
        plans.append(
            _Plan(
                aggregation=rule.aggregation,
                value=place(rule.value or "") if reads_path else None,
                pair=place(rule.pair_by) if rule.pair_by is not None else None,
                dimensions=tuple(place(path) for path in rule.dimensions),
                filter=compiled,
                filter_columns=touched(compiled.expression) if compiled is not None else (),
                computed=computed,
                computed_columns=touched(computed.expression) if computed is not None else (),
            )
        )
    return _Extractor(tuple(columns)), tuple(plans)


@lru_cache(maxsize=256)
def _memo(kind: str, expression: str, event_type: str) -> dict[Any, Any]:
    """What one filter or value expression gave, by the values it saw; see `_Group._results`."""
    del kind, expression, event_type
    return {}


class _Group:
    """Events of one tenant and type, and the meters of that type."""

    def __init__(self, events: pa.Table, meters: Sequence[Meter]) -> None:
        self._events = events
        self._meters = meters
        self._data: list[bytes] = events.column("data").to_pylist()
        self._extractor, self._planned = _plans(tuple(_rule(meter) for meter in meters))
        self._columns = self._extractor.columns(self._data)
        self._texts: dict[tuple[int, Steps], pa.Array] = {}

    def readings(self, index: int, schema: pa.Schema) -> pa.Table:
        meter, plan = self._meters[index], self._planned[index]
        count = len(self._data)
        keep: NDArray[np.bool_] | None = None
        if plan.filter is not None:
            keep = self._verdicts(plan.filter, plan.filter_columns, meter.event_type)
        value: pa.Array | None = None
        text: pa.Array | None = None
        if plan.aggregation is Aggregation.UNIQUE_COUNT:
            text = _distincts(self._values(plan, meter.event_type))
        elif plan.aggregation is Aggregation.DURATION and plan.pair is not None:
            value = _states(self._values(plan, meter.event_type))
            text = _distincts(self._below(plan.pair))
        elif plan.aggregation is not Aggregation.COUNT:
            value = _figures(self._values(plan, meter.event_type))
            if plan.aggregation is Aggregation.REGISTER:
                negative = _compute.less(value, pa.scalar(_ZERO, DECIMAL))
                value = _compute.if_else(negative, pa.scalar(None, DECIMAL), value)
        keep = _and(_and(keep, value), text)
        rows = None if keep is None or keep.all() else pa.array(np.flatnonzero(keep))
        count = count if rows is None else len(rows)

        def kept(column: Any) -> Any:
            return column if rows is None else column.take(rows)

        figure = _ONE if plan.aggregation is Aggregation.COUNT else _ZERO
        arrays: dict[str, Any] = {
            "meter": pa.array(np.full(count, meter.id, np.uint32)),
            "value": kept(value) if value is not None else pa.repeat(pa.scalar(figure, DECIMAL), count),
            "text": kept(text) if text is not None else pa.repeat("", count),
            "sign": pa.array(np.ones(count, np.int8)),
        }
        for name in ("tenant", "customer", "subject", "time", "position", "recorded_at"):
            arrays[name] = kept(self._events.column(name))
        for slot in range(DIMENSIONS_MAX):
            if slot < len(plan.dimensions):
                arrays[f"d{slot}"] = kept(self._dimension_column(plan.dimensions[slot]))
            else:
                arrays[f"d{slot}"] = pa.nulls(count, pa.string())
        return pa.table([arrays[name] for name in schema.names], schema=schema)

    def _values(self, plan: _Plan, event_type: str) -> list[Any]:
        """The values of a plan that reads any, at its path or computed."""
        if plan.value is not None:
            return self._below(plan.value)
        computed = plan.computed
        if computed is None:
            raise ValueError(f"{plan.aggregation} reads a value")
        return self._results(
            _memo("value", computed.expression.text, event_type),
            computed.expression,
            plan.computed_columns,
            lambda members: _given_or_missing(computed.value_of_members(event_type, members)),
            lambda event: _given_or_missing(computed.value_of(**event)),
        )

    def _below(self, place: tuple[int, Steps]) -> list[Any]:
        """The values at a place; where there is none, UNSET or None."""
        column, steps = place
        values = self._columns[column]
        return [follow(value, steps) for value in values] if steps else values

    def _dimension_column(self, place: tuple[int, Steps]) -> pa.Array:
        if place not in self._texts:
            self._texts[place] = _dimensions(self._below(place))
        return self._texts[place]

    def _verdicts(
        self, compiled: CompiledFilter, columns: tuple[int, ...], event_type: str
    ) -> NDArray[np.bool_]:
        matches = self._results(
            _memo("filter", compiled.expression.text, event_type),
            compiled.expression,
            columns,
            lambda members: compiled.verdict_of_members(event_type, members) is Verdict.MATCH,
            lambda event: compiled.verdict_of(**event) is Verdict.MATCH,
        )
        return np.array(matches, dtype=np.bool_)

    def _results(
        self,
        memo: dict[Any, Any],
        expression: Expression,
        columns: tuple[int, ...],
        of_members: Callable[[Mapping[str, object]], Any],
        of_event: Callable[[dict[str, Any]], Any],
    ) -> list[Any]:
        """What the expression gives for each row (never None), asked as seldom as can be."""
        if not expression.memorable or expression.members is None:
            return [of_event(event) for event in self._attributes()]
        values: Iterable[Any]
        if len(columns) == 1:
            values = self._columns[columns[0]]
        elif columns:
            values = zip(*(self._columns[column] for column in columns), strict=True)
        else:
            return [of_members({})] * len(self._data)
        keys = [
            value if type(value) is str and len(value) <= MEMO_TEXT_CHARACTERS_MAX else _memo_key(value)
            for value in values
        ]
        results: list[Any] = [memo.get(key) for key in keys]  # nothing is remembered under None
        if None not in results:
            return results
        for row, key in enumerate(keys):
            if results[row] is not None:
                continue
            result = memo.get(key)
            if result is None:
                result = of_members(
                    {
                        name: given
                        for name, column in zip(expression.members, columns, strict=True)
                        if (given := self._columns[column][row]) is not _MISSING
                    }
                )
                if key is not None:
                    if len(memo) >= MEMO_ENTRIES_MAX:
                        memo.clear()
                    memo[key] = result
            results[row] = result
        return results

    def _attributes(self) -> Iterable[dict[str, Any]]:
        """Each event as an expression is given it."""
        columns: list[list[Any]] = [
            self._events.column(name).to_pylist() for name in ("id", "source", "type", "subject")
        ]
        times: list[int] = self._events.column("time").cast(pa.int64()).to_pylist()
        for event_id, source, event_type, subject, time_us, data in zip(
            *columns, times, self._data, strict=True
        ):
            yield {
                "event_id": event_id,
                "source": source,
                "event_type": event_type,
                "subject": subject,
                "time_us": time_us,
                "data": data,
            }


def _given_or_missing(computed: Computed) -> object:
    # A column needs no reason: an expression that fails leaves no value, as one that gives null.
    return _MISSING if computed is None or computed is FAILED else _given(computed)


def _memo_key(value: object) -> Any:
    """What a verdict may be remembered under, or None: values that a filter can tell apart have different keys.

    Types are part of it, for 1, 1.0, true and the number whose text a string has are equal to Python.
    """
    kind = type(value)
    if kind is tuple:
        keys = tuple(_memo_key(one) for one in value)  # pyright: ignore[reportUnknownVariableType, reportGeneralTypeIssues]
        return None if None in keys else keys
    if kind is str:
        return value if len(value) <= MEMO_TEXT_CHARACTERS_MAX else None  # pyright: ignore[reportArgumentType]
    if kind is JsonNumber:
        return (kind, str(value)) if len(value) <= MEMO_TEXT_CHARACTERS_MAX else None  # pyright: ignore[reportArgumentType]
    if kind in (int, bool, type(None), msgspec.UnsetType):
        return (kind, value)
    return None


def _and(keep: NDArray[np.bool_] | None, column: pa.Array | None) -> NDArray[np.bool_] | None:
    if column is None or column.null_count == 0:
        return keep
    valid = np.asarray(column.is_valid())
    return valid if keep is None else keep & valid


def _figures(values: list[Any]) -> pa.Array:
    """decimal128 of the values, null where there is no figure."""
    kinds = set(map(type, values))
    if _MISSING_TYPE in kinds:
        values = [None if value is _MISSING else value for value in values]
        kinds = (kinds - {_MISSING_TYPE}) | {_NONE_TYPE}
    present = kinds - {_NONE_TYPE}
    if present <= {int}:
        try:
            return pa.array(values, pa.int64()).cast(DECIMAL)
        except OverflowError:
            return _figures_one_by_one(values)
    if present <= {int, str, JsonNumber}:
        return _figures_of_texts(values)
    return _figures_one_by_one(values)


def _figures_of_texts(values: list[Any]) -> pa.Array:
    if int in set(map(type, values)):
        values = [_digits(value) if type(value) is int else value for value in values]
    try:
        texts = pa.array(values, pa.string())
    except UnicodeEncodeError:
        return _figures_one_by_one(values)
    # Arrow's cast of a text that is too large for the type does not always fail: 999999999999e10 and numbers of
    # hundreds of digits come out as other numbers. So it is only given what is known to fit.
    short = _compute.match_substring_regex(texts, _SHORT_TEXT)
    if _compute.all(short).as_py() is not False:
        return texts.cast(DECIMAL)
    usual = _compute.match_substring_regex(texts, _LONG_TEXT)
    longs = _compute.if_else(usual, texts, pa.scalar(None, pa.string())).cast(_LONG_DECIMAL)
    try:
        figures = _compute.round(longs, FRACTION_DIGITS, "half_to_even").cast(DECIMAL)
    except pa.ArrowInvalid:  # 99999999999999999999.9999999999999999999 rounds to 21 digits
        return _figures_one_by_one(values)
    unusual = np.flatnonzero(np.asarray(_compute.invert(usual.fill_null(True))))
    if not len(unusual):
        return figures
    odd = [_figure(values[row]) for row in unusual.tolist()]
    mask = np.zeros(len(values), np.bool_)
    mask[unusual] = True
    return _compute.replace_with_mask(
        figures,
        pa.array(mask),
        pa.array([None if isinstance(one, Exclusion) else one for one in odd], DECIMAL),
    )


def _figures_one_by_one(values: list[Any]) -> pa.Array:
    figures = [_figure(value) for value in values]
    return pa.array([None if isinstance(one, Exclusion) else one for one in figures], DECIMAL)


def _states(values: list[Any]) -> pa.Array:
    """1 for a start, 0 for a stop, null for anything else."""
    # JsonNumber is a str, but no number's text is one of these.
    states = [_STATES.get(value) if isinstance(value, str) else None for value in values]
    return pa.array(states, DECIMAL)


def _texts(values: list[Any]) -> pa.Array | None:
    """The values as a string column when all are strings or absent, else None."""
    kinds = set(map(type, values))
    if _MISSING_TYPE in kinds:
        values = [None if value is _MISSING else value for value in values]
    if kinds <= {str, _NONE_TYPE, _MISSING_TYPE}:
        try:
            return pa.array(values, pa.string())
        except UnicodeEncodeError:
            return None
    return None


def _dimensions(values: list[Any]) -> pa.Array:
    texts = _texts(values)
    if texts is not None:
        longest = _compute.max(_compute.binary_length(texts)).as_py()
        if longest is None or longest <= DIMENSION_BYTES_MAX:
            return texts
    return pa.array([_dimension(None if value is _MISSING else value) for value in values], pa.string())


def _distincts(values: list[Any]) -> pa.Array:
    texts = _texts(values)
    if texts is not None:
        return texts
    distincts = [_distinct(None if value is _MISSING else value) for value in values]
    return pa.array([None if isinstance(one, Exclusion) else one for one in distincts], pa.string())
