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
    assert definition_to_wire(meter) == TOKENS | {"description": None}
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
    ],
)
def test_one_fault(change: dict[str, object], pointer: str, code: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_meter(TOKENS | change)
    assert [(fault.pointer, fault.code) for fault in refused.value.faults] == [(pointer, code)]
    assert refused.value.faults[0].detail


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
