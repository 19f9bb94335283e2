"""How a usage question is read, from a query string and from a body: the same question, the same faults."""

from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.api.fields import Fields
from tallystick.api.usage import check_against, read_request
from tallystick.flows.usage import UsageRequest
from tallystick.metering.meter import Aggregation, Dimension, Meter
from tallystick.metering.query import Filter, Operator

JULY_US = 1_782_864_000_000_000  # 2026-07-01T00:00:00Z
AUGUST_US = 1_785_542_400_000_000
METER = Meter(
    1, "t", "tokens", 1, "tokens", "llm", Aggregation.SUM, "$.tokens", (Dimension("model", "$.model"),)
)


def of_query(text: str) -> Fields:
    return Fields.of_pairs(parse_qsl(text, keep_blank_values=True))


def of_body(document: dict[str, Any]) -> Fields:
    return Fields(document, body=True)


def question(fields: Fields) -> UsageRequest:
    return read_request(fields, tenant="t", meter="tokens")


def found(fields: Fields) -> list[tuple[str, str]]:
    return [(fault.pointer, fault.code) for fault in fields.faults.found]


SAME = [
    ("", {}),
    (
        "from=2026-07-01T00:00:00Z&to=2026-08-01T02:00:00%2B02:00&window=day&timezone=Europe/Berlin",
        {
            "from": "2026-07-01T00:00:00Z",
            "to": "2026-08-01T02:00:00+02:00",
            "window": "day",
            "timezone": "Europe/Berlin",
        },
    ),
    ("customer=a&customer=b,c&include_children=true", {"customer": ["a", "b,c"], "include_children": True}),
    ("customer=a", {"customer": "a"}),
    ("group_by=customer,model&group_by=region", {"group_by": ["customer", "model", "region"]}),
    ("group_by=customer,model", {"group_by": "customer,model"}),
    ("filter[model]=a,b", {"filter": {"model": {"in": ["a", "b"]}}}),
    ("filter[model]=a&filter[model]=b", {"filter": {"model": {"in": ["a", "b"]}}}),
    ("filter[model][eq]=a,b", {"filter": {"model": {"eq": "a,b"}}}),
    ("filter[n][gte]=5&filter[n][lt]=7.5", {"filter": {"n": {"gte": 5, "lt": Decimal("7.5")}}}),
    ("filter[model][exists]=false", {"filter": {"model": {"exists": False}}}),
    ("filter[model][not_in]=a,b", {"filter": {"model": {"not_in": ["a", "b"]}}}),
    ("filter[model]=", {"filter": {"model": {"in": [""]}}}),
    ("order_by=-value&limit=10&fill=zero", {"order_by": "-value", "limit": 10, "fill": "zero"}),
    (
        "as_of=2026-07-01T00:00:00Z&min_position=p1-z&version=2",
        {"as_of": "2026-07-01T00:00:00Z", "min_position": "p1-z", "version": 2},
    ),
]


@pytest.mark.parametrize(("text", "document"), SAME)
def test_a_query_string_and_a_body_ask_the_same(text: str, document: dict[str, Any]) -> None:
    first, second = of_query(text), of_body(document)
    asked = question(first)
    assert asked == question(second)
    first.close()
    second.close()
    assert (found(first), found(second)) == ([], [])


def test_every_member_arrives() -> None:
    fields = of_query(
        "from=2026-07-01T00:00:00Z&to=2026-08-01T00:00:00Z&window=week&timezone=UTC&customer=a&include_children=true"
        "&group_by=model&filter[model]=x&order_by=value&limit=3&fill=zero&as_of=2026-08-01T00:00:00Z&min_position=p1-a"
        "&version=4"
    )
    assert question(fields) == UsageRequest(
        tenant="t",
        meter="tokens",
        from_us=JULY_US,
        to_us=AUGUST_US,
        window="week",
        timezone="UTC",
        customers=("a",),
        include_children=True,
        group_by=("model",),
        filters=(Filter("model", Operator.IN, ("x",)),),
        order_by="value",
        limit=3,
        fill="zero",
        as_of_us=AUGUST_US,
        configured_at_us=AUGUST_US,
        min_position=(10,),
        version=4,
    )


BAD_IN_QUERY = [
    ("from=yesterday", "from", "invalid_time"),
    ("from=2026-07-01", "from", "invalid_time"),
    ("from=2026-07-01T00:00:00", "from", "invalid_time"),
    ("from=2026-02-30T00:00:00Z", "from", "invalid_time"),
    ("from=0001-01-01T00:00:00Z", "from", "invalid_time"),
    ("from=", "from", "invalid_time"),
    ("to=2026-07-01T00:00:00+02:00", "to", "invalid_time"),  # an unencoded + is a blank
    ("from=2026-07-01T00:00:00Z&from=2026-07-02T00:00:00Z", "from", "repeated"),
    ("window=fortnight", "window", "invalid_value"),
    ("window=", "window", "invalid_value"),
    ("include_children=yes", "include_children", "invalid_value"),
    ("limit=0", "limit", "invalid_limit"),
    ("limit=10001", "limit", "invalid_limit"),
    ("limit=-1", "limit", "invalid_limit"),
    ("limit=1e2", "limit", "invalid_limit"),
    ("limit=" + "9" * 5000, "limit", "invalid_limit"),
    ("limit=٣", "limit", "invalid_limit"),
    ("fill=one", "fill", "invalid_value"),
    ("order_by=customer", "order_by", "invalid_value"),
    ("as_of=now", "as_of", "invalid_time"),
    ("min_position=17", "min_position", "invalid_position"),
    ("customer=", "customer", "invalid_value"),
    ("group_by=model,,region", "group_by", "invalid_value"),
    ("filter=a", "filter", "unknown_parameter"),
    ("filter[model][like]=a", "filter[model][like]", "unknown_operator"),
    ("filter[model][gt]=many", "filter[model][gt]", "invalid_value"),
    ("filter[model][exists]=maybe", "filter[model][exists]", "invalid_value"),
    ("filter[model][eq]=a&filter[model][eq]=b", "filter[model][eq]", "invalid_value"),
    ("filter[model]=" + "x" * 1025, "filter[model]", "invalid_value"),
    ("filter[model]=" + ",".join(map(str, range(1001))), "filter[model]", "invalid_value"),
    ("filter[]=a", "filter[]", "unknown_parameter"),
    ("filter[model=a", "filter[model", "unknown_parameter"),
    ("form=2026-07-01T00:00:00Z", "form", "unknown_parameter"),
    ("Window=day", "Window", "unknown_parameter"),
]


@pytest.mark.parametrize(("text", "pointer", "code"), BAD_IN_QUERY)
def test_a_bad_parameter_is_named(text: str, pointer: str, code: str) -> None:
    fields = of_query(text)
    question(fields)
    fields.close()
    assert found(fields) == [(pointer, code)]


BAD_IN_BODY = [
    ({"from": 1_782_864_000}, "/from", "invalid_time"),
    ({"window": 5}, "/window", "invalid_value"),
    ({"include_children": "true"}, "/include_children", "invalid_value"),
    ({"limit": "10"}, "/limit", "invalid_limit"),
    ({"limit": True}, "/limit", "invalid_limit"),
    ({"limit": Decimal("1.0")}, "/limit", "invalid_limit"),
    ({"customer": [1]}, "/customer", "invalid_value"),
    ({"customer": {"a": 1}}, "/customer", "invalid_value"),
    ({"customer": [str(number) for number in range(1001)]}, "/customer", "too_many"),
    ({"group_by": ["model", None]}, "/group_by", "invalid_value"),
    ({"filter": "model"}, "/filter", "invalid_value"),
    ({"filter": {"model": "a"}}, "/filter/model", "invalid_value"),
    ({"filter": {"model": {}}}, "/filter/model", "invalid_value"),
    ({"filter": {"a/b": {"like": "x"}}}, "/filter/a~1b/like", "unknown_operator"),
    ({"filter": {"model": {"in": []}}}, "/filter/model/in", "invalid_value"),
    ({"filter": {"model": {"in": [None]}}}, "/filter/model/in", "invalid_value"),
    ({"filter": {"model": {"eq": ["a"]}}}, "/filter/model/eq", "invalid_value"),
    ({"filter": {"model": {"gt": True}}}, "/filter/model/gt", "invalid_value"),
    ({"filter[model]": "a"}, "/filter[model]", "unknown_member"),
    ({"nothing": 1}, "/nothing", "unknown_member"),
]


@pytest.mark.parametrize(("document", "pointer", "code"), BAD_IN_BODY)
def test_a_bad_member_is_named(document: dict[str, Any], pointer: str, code: str) -> None:
    fields = of_body(document)
    question(fields)
    fields.close()
    assert found(fields) == [(pointer, code)]


def checked(fields: Fields, *, windows_max: int = 50_000) -> list[tuple[str, str]]:
    asked = question(fields)
    fields.close()
    check_against(fields, asked, METER, now_us=AUGUST_US, windows_max=windows_max)
    return found(fields)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("group_by=model,customer,subject&filter[customer]=a&filter[subject][eq]=b", []),
        ("group_by=region", [("group_by", "unknown_dimension")]),
        ("filter[region]=eu&filter[region][ne]=us", [("filter[region]", "unknown_dimension")]),
        ("timezone=Mars/Olympus", [("timezone", "unknown_timezone")]),
        ("timezone=../../etc/passwd", [("timezone", "unknown_timezone")]),
        ("timezone=Europe", [("timezone", "unknown_timezone")]),
        ("from=2026-08-01T00:00:00Z", [("from", "empty_range")]),
        ("from=2026-07-02T00:00:00Z&to=2026-07-02T00:00:00Z", [("to", "empty_range")]),
        ("to=2026-07-02T00:00:00Z", []),
        ("from=2000-01-01T00:00:00Z&window=minute", [("window", "too_many_windows")]),
        (
            "from=x&group_by=region&timezone=Nowhere&what=1&filter[a][b]=c",
            [
                ("from", "invalid_time"),
                ("filter[a][b]", "unknown_operator"),
                ("what", "unknown_parameter"),
                ("group_by", "unknown_dimension"),
                ("timezone", "unknown_timezone"),
            ],
        ),
    ],
)
def test_what_only_the_meter_can_tell(text: str, expected: list[tuple[str, str]]) -> None:
    assert checked(of_query(text)) == expected


names = st.text(st.characters(codec="utf-8", exclude_characters="[]"), min_size=1, max_size=20)
values = st.text(max_size=30).filter(lambda text: text.isprintable())


@given(st.lists(st.tuples(names, st.sampled_from(["eq", "ne", "prefix"]), values), max_size=5))
def test_any_text_survives_the_way_through_a_query_string(conditions: list[tuple[str, str, str]]) -> None:
    conditions = list(
        {(name, operator): (name, operator, value) for name, operator, value in conditions}.values()
    )
    text = urlencode([(f"filter[{name}][{operator}]", value) for name, operator, value in conditions])
    fields = of_query(text)
    asked = question(fields)
    fields.close()
    assert found(fields) == []
    assert [(one.name, str(one.operator), one.operands) for one in asked.filters] == [
        (name, operator, (value,)) for name, operator, value in conditions
    ]
