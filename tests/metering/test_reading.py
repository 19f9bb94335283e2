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
    computed: str | None = None,
    pair_by: str = "$.w",
) -> Meter:
    declared = tuple(Dimension(name, path) for name, path in (dimensions or {}).items())
    counts = aggregation is Aggregation.COUNT
    read_from = None if counts or computed is not None else value
    return Meter(
        number,
        tenant,
        f"m{number}",
        1,
        "m",
        event_type,
        aggregation,
        read_from,
        declared,
        expression,
        value_cel=None if counts else computed,
        pair_by=pair_by if aggregation is Aggregation.DURATION else None,
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


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ('{"v":"start","w":"a"}', ("1", "a")),
        ('{"v":"stop","w":1.0}', ("0", "1")),
        ('{"v":"start","w":false}', ("1", "false")),
        ('{"v":"start","w":""}', ("1", "")),
        ('{"v":"Start","w":"a"}', Exclusion.STATE_UNKNOWN),
        ('{"v":1,"w":"a"}', Exclusion.STATE_UNKNOWN),
        ('{"v":["start"],"w":"a"}', Exclusion.STATE_UNKNOWN),
        ('{"v":null,"w":"a"}', Exclusion.VALUE_MISSING),
        ('{"w":"a"}', Exclusion.VALUE_MISSING),
        ('{"v":"pause"}', Exclusion.STATE_UNKNOWN),
        ('{"v":"start"}', Exclusion.PAIR_MISSING),
        ('{"v":"stop","w":null}', Exclusion.PAIR_MISSING),
        ('{"v":"stop","w":{"id":1}}', Exclusion.PAIR_NOT_SCALAR),
    ],
)
def test_starts_and_stops(data: str, expected: tuple[str, str] | Exclusion) -> None:
    one = meter(Aggregation.DURATION)
    given = read(one, oracle_events(table([data.encode()]))[0])
    assert (given if isinstance(given, Exclusion) else (str(given.value), given.text)) == expected
    check([one], table([data.encode(), b'{"v":"start","w":"z"}']))


@pytest.mark.parametrize(
    ("literal", "expected"),
    [("0", "0"), ("-0", "0"), ("1.5", "1.5"), ("-1", Exclusion.REGISTER_NEGATIVE), ("-1e-19", "0")],
)
def test_a_register_is_never_below_zero(literal: str, expected: str | Exclusion) -> None:
    one = meter(Aggregation.REGISTER)
    given = read(one, oracle_events(table([data_of(literal)]))[0])
    assert given == expected if isinstance(expected, Exclusion) else given.value == Decimal(expected)  # type: ignore[union-attr]
    check([one], table([data_of(literal), data_of("7"), data_of("-7")]))


@pytest.mark.parametrize(
    ("expression", "data", "expected"),
    [
        ("ceil(data.ms / 1000.0)", '{"ms":1500}', "2"),
        ("ceil(data.ms / 1000.0)", '{"ms":1500.5}', "2"),
        ("data.ms / 1000", '{"ms":1500}', "1"),
        ("data.ms / 1000", '{"ms":1500.0}', "1.5"),
        ("data.a + data.b", '{"a":9007199254740993,"b":1}', "9007199254740994"),
        ("data.a + data.b", '{"a":1,"b":0.5}', "1.5"),
        ("0.1 + 0.2", "{}", "0.30000000000000004"),
        ("data.a[1] * 2", '{"a":[1,2.5]}', "5"),
        ("data.v", '{"v":"0.123456789012345678"}', "0.123456789012345678"),
        ("has(data.v) ? data.v : 1", "{}", "1"),
        ("round(2.5)", "{}", "3"),
        ("round(-2.5)", "{}", "-3"),
        ("round(0.49999999999999994)", "{}", "0"),
        ("round(1.005, 2)", "{}", "1.01"),
        ("floor(-1.5) + trunc(-1.5) + abs(-1.5)", "{}", "-1.5"),
        ("min(data.v) + max(1, 2.5)", '{"v":[3.5,4]}', "6"),
        ("ceil(1e300) > 1.0 ? 1 : 2", "{}", "1"),
        ("round(1.5, -1)", "{}", Exclusion.VALUE_ERROR),
        ("round(1.5, 0.5)", "{}", Exclusion.VALUE_ERROR),
        ("ceil()", "{}", Exclusion.VALUE_ERROR),
        ("ceil(1.5, 0, 0)", "{}", Exclusion.VALUE_ERROR),
        ("abs(1, 2)", "{}", Exclusion.VALUE_ERROR),
        ("min([])", "{}", Exclusion.VALUE_ERROR),
        ("max(data.v) > 1 ? 1 : 2", '{"v":["x"]}', Exclusion.VALUE_ERROR),
        ("size(data.v)", '{"v":["a","b"]}', "2"),
        ("1e25", "{}", Exclusion.NUMBER_OUT_OF_RANGE),
        ("1.0 / 0.0", "{}", Exclusion.VALUE_NOT_NUMERIC),
        ("data.v == 1", '{"v":1}', Exclusion.VALUE_NOT_NUMERIC),
        ("data.v", '{"v":"x"}', Exclusion.VALUE_NOT_NUMERIC),
        ("data.v", '{"v":null}', Exclusion.VALUE_MISSING),
        ("data.v", "{}", Exclusion.VALUE_ERROR),
        ("1 / data.v", '{"v":0}', Exclusion.VALUE_ERROR),
        ("[data.v]", '{"v":0}', Exclusion.VALUE_ERROR),
        ("ceil(data.v)", '{"v":"1"}', Exclusion.VALUE_ERROR),
        ("9223372036854775807 + data.v", '{"v":1}', Exclusion.VALUE_ERROR),
    ],
)
def test_computed_values(expression: str, data: str, expected: str | Exclusion) -> None:
    one = meter(computed=expression)
    given = read(one, oracle_events(table([data.encode()]))[0])
    assert given == expected if isinstance(expected, Exclusion) else given.value == Decimal(expected)  # type: ignore[union-attr]
    for _ in range(2):  # the second time from memory
        check([one], table([data.encode(), b"{}", b'{"v":3,"ms":1,"a":[2,2],"b":2}']))


def test_computed_texts() -> None:
    data = [b'{"a":"x","b":1}', b'{"a":"x","b":1.0}', b'{"a":"x"}', b'{"a":1,"b":2}', b'{"a":"stop","b":2}']
    distinct = meter(Aggregation.UNIQUE_COUNT, computed='data.a + "/" + string(data.b)')
    assert derive([distinct], table(data)).column("text").to_pylist() == ["x/1", "x/1", "stop/2"]
    state = meter(Aggregation.DURATION, computed='data.a == "x" ? "start" : data.a', pair_by="$.b")
    assert derive([state], table(data)).column("value").to_pylist() == [1, 1, 0]
    check([distinct, state], table(data))


def test_a_computed_value_may_see_the_whole_event() -> None:
    one = meter(computed='subject == "s1" ? size(data) : int(time.getSeconds())')
    check([one], table([b'{"a":1}', b'{"a":1,"b":2}', b"", b"{}"]))
    assert derive([one], table([b'{"a":1}', b'{"a":1,"b":2}'])).column("value").to_pylist() == [0, 2]


def test_a_filter_and_a_value_of_the_same_text_are_remembered_apart() -> None:
    one = meter(computed="data.v == 1", expression="data.v == 1", aggregation=Aggregation.UNIQUE_COUNT)
    for _ in range(2):
        assert derive([one], table([b'{"v":1}', b'{"v":2}'])).column("text").to_pylist() == ["true"]
        check([one], table([b'{"v":1}', b'{"v":2}']))


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
    ['"ok"', '"start"', '"stop"', '"1.5"', '"-3e1"', '"\\u0061"', '"\\ud800"']
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
COMPUTED = [
    "data.v", "ceil(data.v / 2.0)", "data.v + data.w", "max(data.v, data.w[0])", 'data.status == "ok" ? "start" : "stop"',
    "size(data)", "has(data.v) ? data.v : subject", "round(data.v * 1.5) - 1",
]  # fmt: skip
METERS = st.builds(
    meter,
    st.sampled_from(list(Aggregation)),
    st.sampled_from(PATHS),
    st.dictionaries(st.sampled_from(["a", "b", "c"]), st.sampled_from(PATHS), max_size=3),
    st.sampled_from(FILTERS),
    number=st.integers(1, 4_000_000_000),
    computed=st.sampled_from([None, None, None, *COMPUTED]),
    pair_by=st.sampled_from(PATHS),
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


@pytest.mark.parametrize("aggregation", [Aggregation.UNIQUE_COUNT, Aggregation.SUM])
@pytest.mark.parametrize("literal", ["1e400", "-1e999"])
def test_an_infinity_counts_for_nothing_and_stops_nobody(aggregation: Aggregation, literal: str) -> None:
    one = meter(aggregation, computed="data.n * 2.0")
    events = table([f'{{"n":{literal}}}'.encode(), b'{"n":1.5}'])
    check([one], events)
    assert derive([one], events).column("position").to_pylist() == [2]
