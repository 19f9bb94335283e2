import json
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.metering.evaluate import oracle_events, read_one
from tallystick.metering.event import TIMESTAMP
from tallystick.metering.meter import Aggregation, Dimension, Meter
from tallystick.metering.reading import READING_SCHEMA, Exclusion, Reading, derive, read, why_excluded

SUM = Aggregation.SUM


def meter(
    aggregation: Aggregation = SUM,
    value: str | None = "$.v",
    dimensions: dict[str, str] | None = None,
    expression: str | None = None,
    *,
    number: int = 1,
    tenant: str = "default",
    event_type: str = "call",
) -> Meter:
    declared = tuple(Dimension(name, path) for name, path in (dimensions or {}).items())
    read_from = None if aggregation is Aggregation.COUNT else value
    return Meter(
        number, tenant, f"m{number}", 1, "m", event_type, aggregation, read_from, declared, expression
    )


def table(
    data: list[bytes], *, encoded: bool = False, scopes: list[tuple[str, str]] | None = None
) -> pa.Table:
    count = len(data)
    scopes = scopes or [("default", "call")] * count

    def text(values: list[str]) -> Any:
        column = pa.array(values, pa.string())
        return column.dictionary_encode() if encoded else column

    return pa.table(
        {
            "tenant": text([tenant for tenant, _ in scopes]),
            "source": text(["/"] * count),
            "id": pa.array([str(row) for row in range(count)], pa.string()),
            "type": text([event_type for _, event_type in scopes]),
            "subject": text([f"s{row % 3}" for row in range(count)]),
            "time": pa.array(range(count), pa.int64()).cast(TIMESTAMP),
            "data": pa.array(data, pa.binary()),
            "customer": text([f"c{row % 2}" for row in range(count)]),
            "position": pa.array(range(1, count + 1), pa.uint64()),
            "recorded_at": pa.array([7] * count, pa.int64()).cast(TIMESTAMP),
        }
    )


def rows_of(readings: pa.Table) -> list[tuple[Any, ...]]:
    return [
        (
            row["meter"], row["tenant"], row["customer"], row["subject"], row["position"], row["value"], row["text"],
            *(row[f"d{slot}"] for slot in range(16)),
        )
        for row in readings.to_pylist()
    ]  # fmt: skip


def expected_rows(meters: list[Meter], events: pa.Table) -> list[tuple[Any, ...]]:
    expected: list[tuple[Any, ...]] = []
    for one in meters:
        for event in oracle_events(events):
            if (event.tenant, event.type) != (one.tenant, one.event_type):
                continue
            reading = read_one(one, event)
            if reading is not None:
                slots = [*reading.dimensions, *[None] * (16 - len(reading.dimensions))]
                expected.append(
                    (one.id, one.tenant, event.customer, event.subject, event.position, reading.value, reading.text, *slots)
                )  # fmt: skip
    return expected


def check(meters: list[Meter], events: pa.Table) -> None:
    readings = derive(meters, events)
    assert rows_of(readings) == expected_rows(meters, events)
    for name in READING_SCHEMA.names:
        if name not in ("tenant", "customer", "subject"):
            assert readings.schema.field(name).type == READING_SCHEMA.field(name).type
    if readings.num_rows:
        assert set(readings.column("sign").to_pylist()) == {1}
    contributed = {(row[0], row[4]) for row in rows_of(readings)}
    for one in meters:
        for event in oracle_events(events):
            if (event.tenant, event.type) == (one.tenant, one.event_type):
                given = read(one, event)
                assert isinstance(given, Reading) == ((one.id, event.position) in contributed)
                assert (why_excluded(one, event) is None) == isinstance(given, Reading)


# -- tables -----------------------------------------------------------------------------------------------------------

VALUES = [
    ("5", "5"),
    ("-0", "0"),
    ("1.50", "1.5"),
    ("1e-5", "0.00001"),
    ("0.12345678901234567890123", "0.123456789012345679"),
    ("0.0000000000000000005", "0"),
    ("12345678901234567890", "12345678901234567890"),
    ("99999999999999999999.999999999999999999", "99999999999999999999.999999999999999999"),
    ("99999999999999999999.9999999999999999999", Exclusion.NUMBER_OUT_OF_RANGE),
    ("100000000000000000000", Exclusion.NUMBER_OUT_OF_RANGE),
    ("1e400", Exclusion.NUMBER_OUT_OF_RANGE),
    ("9" * 6000, Exclusion.NUMBER_OUT_OF_RANGE),
    ('"7.25"', "7.25"),
    ('"1e2"', "100"),
    ('" 7"', Exclusion.VALUE_NOT_NUMERIC),
    ('"+7"', Exclusion.VALUE_NOT_NUMERIC),
    ('"NaN"', Exclusion.VALUE_NOT_NUMERIC),
    ('""', Exclusion.VALUE_NOT_NUMERIC),
    ("true", Exclusion.VALUE_NOT_NUMERIC),
    ("[1]", Exclusion.VALUE_NOT_NUMERIC),
    ('{"a":1}', Exclusion.VALUE_NOT_NUMERIC),
    ("null", Exclusion.VALUE_MISSING),
    (None, Exclusion.VALUE_MISSING),
]


def data_of(literal: str | None) -> bytes:
    return b"{}" if literal is None else f'{{"v":{literal}}}'.encode()


@pytest.mark.parametrize(("literal", "expected"), VALUES)
def test_values_one_by_one(literal: str | None, expected: str | Exclusion) -> None:
    events = table([data_of(literal)])
    given = read(meter(), oracle_events(events)[0])
    if isinstance(expected, Exclusion):
        assert given is expected
    else:
        assert isinstance(given, Reading)
        assert given.value == Decimal(expected)
    check([meter()], events)


@pytest.mark.parametrize("aggregation", list(Aggregation))
def test_values_all_together(aggregation: Aggregation) -> None:
    data = [data_of(literal) for literal, _ in VALUES]
    check([meter(aggregation)], table(data))
    check([meter(aggregation)], table([b"", *data[:11], *data[12:]], encoded=True))


@pytest.mark.parametrize(
    ("literal", "expected"),
    [
        ('"gpt-4"', "gpt-4"),
        ('""', ""),
        ("1", "1"),
        ("1.50", "1.5"),
        ("1e2", "100"),
        ("-0", "0"),
        ("1e400", "1e400"),
        ("123456789012345678901234", "123456789012345678901234"),
        ("true", "true"),
        ("false", "false"),
        ("null", None),
        ('{ "b" : [1, 2.50, -0, null, true, "é\\n"], "a" : {} }', '{"b":[1,2.50,0,null,true,"é\\n"],"a":{}}'),
        ('"' + "x" * 1024 + '"', "x" * 1024),
        ('"' + "x" * 1025 + '"', None),
        ('"' + "é" * 513 + '"', None),
        ("[" + "1," * 600 + "1]", None),
        ('"\\ud83d\\ude00"', "\U0001f600"),
        ('"\\ud800"', "\ufffd"),
    ],
)
def test_dimensions(literal: str, expected: str | None) -> None:
    one = meter(Aggregation.COUNT, None, {"model": "$.v"})
    events = table([data_of(literal), data_of('"other"')])
    assert derive([one], events).column("d0").to_pylist() == [expected, "other"]
    check([one], events)


@pytest.mark.parametrize(
    ("literal", "expected"),
    [
        ('"1"', "1"), ("1", "1"), ("1.0", "1"), ("true", "true"), ('"true"', "true"), ('""', ""),
        ("12345678901234567890123", "12345678901234567890123"),
        ("null", Exclusion.VALUE_MISSING), ("[]", Exclusion.VALUE_NOT_SCALAR), ("{}", Exclusion.VALUE_NOT_SCALAR),
    ],
)  # fmt: skip
def test_distinct_values(literal: str, expected: str | Exclusion) -> None:
    one = meter(Aggregation.UNIQUE_COUNT)
    events = table([data_of(literal)])
    given = read(one, oracle_events(events)[0])
    assert (given if isinstance(given, Exclusion) else given.text) == expected
    check([one], events)


def test_the_filter_is_the_first_reason() -> None:
    one = meter(expression='data.status == "ok"')
    reasons = [
        why_excluded(one, event)
        for event in oracle_events(
            table([b'{"status":"no"}', b"{}", b'{"status":"ok"}', b'{"status":"ok","v":1}'])
        )
    ]
    assert reasons == ["filter_false", "filter_error", "value_missing", None]


def test_verdicts_are_not_confused_between_values_that_are_equal_to_python() -> None:
    literals = [
        "1",
        "1.0",
        "true",
        '"1"',
        '"1.0"',
        "0",
        "0.0",
        "-0",
        "false",
        "null",
        '"true"',
        "[1]",
        '{"a":1}',
        "1e400",
    ]
    data = [*(data_of(literal) for literal in literals), b"{}", b""] * 2
    for expression in (
        "data.v == 1", "data.v == true", 'data.v == "1"', "type(data.v) == type(1)", "!has(data.v)", "data.v == null",
        'data.v == "1" || data.w == 1', "data.v % 2 == 1", "data.v < 1.5",
    ):  # fmt: skip
        check([meter(Aggregation.COUNT, expression=expression)], table(data))


def test_members_with_odd_names() -> None:
    names = ['a"b', "a\\b", "a\nb", "", "é", "日本", "a b", "m0", "$", "'"]
    data = [json.dumps({name: index for index, name in enumerate(names)}).encode()] * 2
    for index, name in enumerate(names):
        path = "$[" + json.dumps(name) + "]"
        one = meter(SUM, path, {"d": path})
        assert derive([one], table(data)).column("value").to_pylist() == [index, index]
        check([one], table(data))


def test_tenants_and_types_are_kept_apart() -> None:
    scopes = [("a", "call"), ("b", "call"), ("a", "other"), ("b", "other"), ("c", "call")] * 3
    data = [f'{{"v":{row}}}'.encode() for row in range(15)]
    meters = [
        meter(number=1, tenant="b"), meter(number=2, tenant="a"), meter(number=3, tenant="a", event_type="other"),
        meter(Aggregation.COUNT, number=4, tenant="b"), meter(number=5, tenant="z"),
    ]  # fmt: skip
    for encoded in (False, True):
        check(meters, table(data, encoded=encoded, scopes=scopes))
        chunked = pa.concat_tables(
            [
                table(data[:4], encoded=encoded, scopes=scopes[:4]),
                table(data[4:9], encoded=encoded, scopes=scopes[4:9]),
            ]
        )
        check(meters, chunked)


def test_nothing_in_nothing_out() -> None:
    assert derive([meter()], table([])).num_rows == 0
    assert derive([], table([b"{}"])).num_rows == 0
    assert derive([meter(event_type="other")], table([b"{}"])).num_rows == 0
    assert derive([], table([b"{}"], encoded=True)).schema.names == READING_SCHEMA.names


# -- properties -------------------------------------------------------------------------------------------------------

DIGITS = st.text("0123456789", min_size=1, max_size=24)


@st.composite
def number_literals(draw: st.DrawFn) -> str:
    whole = draw(DIGITS).lstrip("0") or "0"
    fraction = draw(st.sampled_from(["", "."]))
    exponent = draw(st.sampled_from(["", "", "", "e5", "E-3", "e+18", "e-30", "e400", "e-20"]))
    return draw(st.sampled_from(["", "-"])) + whole + (fraction and fraction + draw(DIGITS)) + exponent


STRINGS = st.text(max_size=6).map(json.dumps) | st.sampled_from(
    ['"ok"', '"1.5"', '"-3e1"', '"\\u0061"', '"\\ud800"']
)
SCALARS = (
    st.integers(-100, 100).map(str)
    | st.floats(allow_nan=False, allow_infinity=False).map(repr)
    | number_literals()
    | STRINGS
    | st.sampled_from(["null", "true", "false"])
)
LITERALS = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: "[" + ", ".join(items) + "]")
        | st.dictionaries(st.sampled_from(["a", "b", "é"]), inner, max_size=2).map(
            lambda members: (
                "{" + ",".join(f"{json.dumps(name)} : {text}" for name, text in members.items()) + "}"
            )
        )
    ),
    max_leaves=4,
)
MEMBERS = ["v", "w", "status", "odd name", "\\u0076"]


@st.composite
def data_texts(draw: st.DrawFn, values: st.SearchStrategy[str]) -> bytes:
    names = draw(st.lists(st.sampled_from(["v", "w", "status", "odd name"]), unique=True, max_size=4))
    spelled = [
        json.dumps(name) if draw(st.booleans()) else '"' + "".join(f"\\u{ord(c):04x}" for c in name) + '"'
        for name in names
    ]
    text = "{" + ",".join(f"{name}:{draw(values)}" for name in spelled) + "}"
    return draw(st.sampled_from([text, text, text, "  " + text + "\n", ""])).encode("utf-8")


PATHS = ["$.v", "$.w", "$.v.a", "$.w[0]", "$.v[-1].a", "$['odd name']", "$.status"]
FILTERS = [
    None, None, 'data.status == "ok"', "data.w > 1", "has(data.v) && data.status != null", 'subject == "s1"',
    "size(data) > 1", 'data.status == "ok" || data.w == 1.5', "data.v == data.w", "data.w.exists(x, x == 1)",
]  # fmt: skip
METERS = st.builds(
    meter,
    st.sampled_from(list(Aggregation)),
    st.sampled_from(PATHS),
    st.dictionaries(st.sampled_from(["a", "b", "c"]), st.sampled_from(PATHS), max_size=3),
    st.sampled_from(FILTERS),
    number=st.integers(1, 4_000_000_000),
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(METERS, min_size=1, max_size=3, unique_by=lambda one: one.id),
    st.one_of(
        st.lists(data_texts(LITERALS), max_size=12),
        st.lists(data_texts(st.integers(0, 9).map(str)), max_size=12),
        st.lists(data_texts(number_literals()), max_size=12),
        st.lists(data_texts(STRINGS), max_size=12),
    ),
    st.booleans(),
)
def test_derive_says_what_the_oracle_says(meters: list[Meter], data: list[bytes], encoded: bool) -> None:
    check(meters, table(data, encoded=encoded))


def test_a_tenth_ten_thousand_times_is_exact() -> None:
    readings = derive([meter()], table([b'{"v":0.1}'] * 10_000))
    assert sum(readings.column("value").to_pylist()) == Decimal(1000)


def test_numbers_of_any_length_and_exponent() -> None:
    mantissas = ["9" * length for length in (1, 12, 15, 19, 20, 21, 37, 38, 39, 44, 77, 309, 6000)]
    fractions = ["", ".5", "." + "7" * 18, "." + "7" * 22, "." + "7" * 23, "." + "7" * 40]
    exponents = ["", "e10", "e-5", "e-18", "e-19", "E-007", "e+3", "e-40"]
    literals = [f"{one}{two}{three}" for one in mantissas for two in fractions for three in exponents]
    check([meter()], table([data_of(literal) for literal in literals]))
    check([meter()], table([data_of(f'"{literal}"') for literal in literals]))
    for literal in literals[:200]:
        check([meter()], table([data_of(literal)]))
