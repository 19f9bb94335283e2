import msgspec
import pytest

from tallystick.errors import Invalid
from tallystick.metering.definition import definition_to_wire, parse_meter
from tallystick.metering.meter import Aggregation, Dimension

TOKENS = {
    "key": "tokens", "name": "LLM tokens", "event_type": "llm.completion", "aggregation": "sum", "value": "$.tokens",
    "dimensions": {"model": "$.model", "region": "$.region"}, "filter": 'data.status == "ok"', "unit": "token",
}  # fmt: skip


def test_reads_the_example_of_the_contract() -> None:
    meter = parse_meter(TOKENS)
    assert meter.aggregation is Aggregation.SUM
    assert meter.dimensions == (Dimension("model", "$.model"), Dimension("region", "$.region"))
    assert definition_to_wire(meter) == TOKENS | dict.fromkeys(("description", "pair_by", "timeout", "of"))
    assert parse_meter(msgspec.json.decode(msgspec.json.encode(definition_to_wire(meter)))) == meter


def test_name_defaults_to_the_key_and_null_is_absent() -> None:
    meter = parse_meter(
        {
            "key": "calls",
            "event_type": "call",
            "aggregation": "count",
            "value": None,
            "filter": None,
            "dimensions": None,
        }
    )
    assert (meter.name, meter.value, meter.filter, meter.dimensions) == ("calls", None, None, ())


@pytest.mark.parametrize(
    ("change", "pointer", "code"),
    [
        ({"key": None}, "/key", "missing"),
        ({"key": 5}, "/key", "invalid_type"),
        ({"key": "-a"}, "/key", "invalid_key"),
        ({"key": "a" * 129}, "/key", "invalid_key"),
        ({"key": "a\n"}, "/key", "invalid_key"),
        ({"key": "ä"}, "/key", "invalid_key"),
        ({"name": ""}, "/name", "empty"),
        ({"name": "x" * 257}, "/name", "too_long"),
        ({"event_type": None}, "/event_type", "missing"),
        ({"event_type": ["a"]}, "/event_type", "invalid_type"),
        ({"aggregation": "median"}, "/aggregation", "unknown_aggregation"),
        ({"aggregation": None}, "/aggregation", "missing"),
        ({"aggregation": {}}, "/aggregation", "invalid_type"),
        ({"value": None}, "/value", "missing"),
        ({"value": 1}, "/value", "invalid_type"),
        ({"value": "$..x"}, "/value", "path_not_singular"),
        ({"value": "tokens"}, "/value", "invalid_path"),
        ({"aggregation": "count"}, "/value", "value_not_allowed"),
        ({"dimensions": []}, "/dimensions", "invalid_type"),
        ({"dimensions": {f"d{i}": "$.a" for i in range(17)}}, "/dimensions", "too_many_dimensions"),
        ({"dimensions": {"customer": "$.a"}}, "/dimensions/customer", "reserved_name"),
        ({"dimensions": {"a/b": "$.a"}}, "/dimensions/a~1b", "invalid_dimension_name"),
        ({"dimensions": {"a": "$"}}, "/dimensions/a", "invalid_path"),
        ({"filter": "data.x =="}, "/filter", "invalid_expression"),
        ({"filter": ""}, "/filter", "invalid_expression"),
        ({"filter": 1}, "/filter", "invalid_type"),
        ({"filter": "status == 'ok'"}, "/filter", "unknown_variable"),
        ({"filter": "now() > 1"}, "/filter", "unknown_function"),
        ({"filter": "true" + " " * 4096}, "/filter", "expression_too_long"),
        ({"filter": "data.a.all(x, data.a.all(y, x == y))"}, "/filter", "expression_too_complex"),
        ({"unit": 1}, "/unit", "invalid_type"),
        ({"description": "x" * 4097}, "/description", "too_long"),
        ({"colour": "red"}, "/colour", "unknown_member"),
        ({"value": {}}, "/value", "invalid_type"),
        ({"value": {"cel": "1", "path": "$.x"}}, "/value", "invalid_type"),
        ({"value": {"cel": 1}}, "/value/cel", "invalid_type"),
        ({"value": {"cel": "ceil("}}, "/value/cel", "invalid_expression"),
        ({"value": {"cel": "ms / 1000"}}, "/value/cel", "unknown_variable"),
        ({"value": {"cel": "sqrt(data.ms)"}}, "/value/cel", "unknown_function"),
        ({"filter": "ceil(data.ms) > 1.0"}, "/filter", "unknown_function"),
        ({"aggregation": "count", "value": {"cel": "1"}}, "/value", "value_not_allowed"),
        ({"pair_by": "$.session"}, "/pair_by", "pair_by_not_allowed"),
        ({"aggregation": "duration"}, "/pair_by", "missing"),
        ({"aggregation": "duration", "pair_by": "$..x"}, "/pair_by", "path_not_singular"),
        ({"timeout": "PT1H"}, "/timeout", "timeout_not_allowed"),
        ({"aggregation": "register", "timeout": "PT1H"}, "/timeout", "timeout_not_allowed"),
        *(
            ({"aggregation": "time_weighted", "timeout": timeout}, "/timeout", "invalid_timeout")
            for timeout in (
                "",
                "P",
                "PT",
                "P1DT",
                "1H",
                "PT1",
                "P1Y",
                "P1M",
                "PT0S",
                "P367D",
                "-PT1H",
                "PT1.S",
                "PT1.5H",
                3600,
            )
        ),
        ({"of": "max"}, "/of", "invalid_type"),
        ({"of": {"aggregation": "max"}}, "/of/window", "missing"),
        ({"of": {"window": "day"}}, "/of/aggregation", "missing"),
        ({"of": {"aggregation": "max", "window": "decade"}}, "/of/window", "unknown_window"),
        ({"of": {"aggregation": "median", "window": "day"}}, "/of/aggregation", "unknown_aggregation"),
        ({"of": {"aggregation": "max", "window": "day", "of": {}}}, "/of/of", "unknown_member"),
        ({"of": {"aggregation": "time_weighted", "window": "day"}}, "/of/aggregation", "of_not_allowed"),
        (
            {"aggregation": "unique_count", "of": {"aggregation": "max", "window": "day"}},
            "/of",
            "of_not_allowed",
        ),
        ({"of": {"aggregation": "count", "window": "day"}}, "/value", "value_not_allowed"),
        (
            {"aggregation": "count", "of": {"aggregation": "sum", "window": "day"}, "value": None},
            "/value",
            "missing",
        ),
    ],
)
def test_one_fault(change: dict[str, object], pointer: str, code: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_meter(TOKENS | change)
    assert [(fault.pointer, fault.code) for fault in refused.value.faults] == [(pointer, code)]
    assert refused.value.faults[0].detail


@pytest.mark.parametrize(
    "change",
    [
        {"value": {"cel": "ceil(data.ms / 1000.0)"}},
        {"aggregation": "time_weighted", "timeout": "PT1H"},
        {"aggregation": "duration", "pair_by": "$.session", "timeout": "P1DT12H1M0.5S"},
        {"aggregation": "p95", "of": {"aggregation": "average", "window": "5m"}},
        {"of": {"aggregation": "count", "window": "month"}, "value": None},
    ],
)
def test_what_few_meters_have_comes_back_as_it_was_written(change: dict[str, object]) -> None:
    wire = definition_to_wire(parse_meter(TOKENS | change))
    assert {name: wire[name] for name in change} == change
    assert parse_meter(wire) == parse_meter(TOKENS | change)


@pytest.mark.parametrize(
    ("written", "timeout_us", "answered"),
    [
        ("PT90M", 5_400_000_000, "PT1H30M"),
        ("P1W", 604_800_000_000, "P7D"),
        ("PT24H", 86_400_000_000, "P1D"),
        ("PT0.000001S", 1, "PT0.000001S"),
        ("P1DT0H", 86_400_000_000, "P1D"),
        ("P366D", 31_622_400_000_000, "P366D"),
    ],
)
def test_timeouts(written: str, timeout_us: int, answered: str) -> None:
    read = parse_meter(TOKENS | {"aggregation": "time_weighted", "timeout": written})
    assert read.timeout_us == timeout_us
    assert definition_to_wire(read)["timeout"] == answered


def test_all_faults_at_once() -> None:
    with pytest.raises(Invalid) as refused:
        parse_meter(
            {
                "key": "",
                "aggregation": "sum",
                "filter": "(",
                "dimensions": {"subject": "$.x", "b": "x"},
                "z": 1,
            }
        )
    assert {fault.pointer for fault in refused.value.faults} == {
        "/z", "/key", "/event_type", "/value", "/dimensions/subject", "/dimensions/b", "/filter",
    }  # fmt: skip


@pytest.mark.parametrize("raw", [None, [], "x", 1])
def test_what_is_no_object(raw: object) -> None:
    with pytest.raises(Invalid):
        parse_meter(raw)


def test_an_unknown_aggregation_names_the_ones_there_are() -> None:
    with pytest.raises(Invalid) as refused:
        parse_meter(TOKENS | {"aggregation": "median"})
    for aggregation in Aggregation:
        assert aggregation.value in refused.value.detail
