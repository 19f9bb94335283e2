import cel
import pytest

from tallystick.metering.evaluate import OracleEvent
from tallystick.metering.expression import FUNCTIONS, ExpressionError
from tallystick.metering.filter import Verdict, compile_filter


def event(data: bytes = b"{}") -> OracleEvent:
    return OracleEvent("default", "/app", "e1", "call", "acme", "acme", 1_700_000_000_000_000, 1, 1, data)


@pytest.mark.parametrize(
    ("expression", "data", "verdict"),
    [
        ('data.status == "ok"', b'{"status":"ok"}', Verdict.MATCH),
        ('data.status == "ok"', b'{"status":"failed"}', Verdict.FALSE),
        ('data.status == "ok"', b'{"status":null}', Verdict.FALSE),
        ('data.status == "ok"', b"{}", Verdict.ERROR),
        ('data.status == "ok"', b"", Verdict.ERROR),
        ("has(data.status)", b"{}", Verdict.FALSE),
        ("has(data.status)", b'{"status":null}', Verdict.MATCH),
        ("!has(data.status) || data.status == null", b"{}", Verdict.MATCH),
        ("data.status", b'{"status":"ok"}', Verdict.ERROR),
        ("data.status", b'{"status":true}', Verdict.MATCH),
        ("data.n > 4", b'{"n":5}', Verdict.MATCH),
        ("data.n > 4", b'{"n":4.5}', Verdict.MATCH),
        ("data.n > 4", b'{"n":"5"}', Verdict.ERROR),
        ("data.n > 4", b'{"n":1e400}', Verdict.MATCH),
        ("data.n > 4", b'{"n":' + b"9" * 6000 + b"}", Verdict.MATCH),
        ("data.n % 2 == 1", b'{"n":9223372036854775807}', Verdict.MATCH),
        ("data.n % 2 == 1", b'{"n":9223372036854775808}', Verdict.ERROR),
        ("data.n + 1 > 0", b'{"n":9223372036854775807}', Verdict.ERROR),
        ("1 / data.n == 1", b'{"n":0}', Verdict.ERROR),
        ('data["odd name"].x[0] == 1', b'{"odd name":{"x":[1]}}', Verdict.MATCH),
        ('data.tags.exists(t, t == "b")', b'{"tags":["a","b"]}', Verdict.MATCH),
        ("data.tags.all(t, t != data.x)", b'{"tags":["a","b"],"x":"a"}', Verdict.FALSE),
        ('data.model.startsWith("gpt")', b'{"model":"gpt-4"}', Verdict.MATCH),
        ('data.model.matches("(")', b'{"model":"gpt-4"}', Verdict.ERROR),
        ('id == "e1" && source == "/app" && type == "call" && subject == "acme"', b"", Verdict.MATCH),
        ('time > timestamp("2023-11-14T22:13:19Z") && time.getFullYear() == 2023', b"", Verdict.MATCH),
        ('data.s == "x"', b'{"s":"\\ud800"}', Verdict.ERROR),
        ("size(data) == 2", b'{"a":1,"b":2}', Verdict.MATCH),
        ("data.a == 1", b"not json", Verdict.ERROR),
    ],
)
def test_verdicts(expression: str, data: bytes, verdict: Verdict) -> None:
    assert compile_filter(expression).verdict(event(data)) is verdict


@pytest.mark.parametrize(
    ("expression", "members", "memorable"),
    [
        ('data.status == "ok"', ("status",), True),
        ("data[\"a\"].b == data['c'] && has(data.a)", ("a", "c"), True),
        ('type == "x" || data.a', ("a",), True),
        ('data.a == "data.b" // data.c', ("a",), True),
        ("data.x.data.y == 1", ("x",), True),
        ('data.a.startsWith("data")', ("a",), True),
        ('data.a == 1 && id == "x"', ("a",), False),
        ('data.a == 1 && subject == "x"', ("a",), False),
        ("data.a.all(x, x == data.b)", ("a", "b"), False),
        ("size(data) > 1", None, False),
        ("data == {}", None, False),
        ("data[data.a] == 1", None, False),
        ('data["a" + "b"] == 1', None, False),
        ('data["\\u0061"] == 1', None, False),
        ('data[r"a"] == 1', None, False),
        ("[data][0].a == 1", None, False),
        ("(data).a == 1", None, False),
        ("data.a.all(data, data == 1)", None, False),
        ("true", (), True),
    ],
)
def test_what_an_expression_can_touch(
    expression: str, members: tuple[str, ...] | None, memorable: bool
) -> None:
    compiled = compile_filter(expression).expression
    assert (compiled.members, compiled.memorable) == (members, memorable)


@pytest.mark.parametrize(
    ("expression", "code"),
    [
        ("", "invalid_expression"),
        ("data.", "invalid_expression"),
        ("(" * 1000, "invalid_expression"),
        ("[" * 2000 + "]" * 2000, "invalid_expression"),
        ("\ud800 == 1", "invalid_expression"),
        ("true" + " " * 4093, "expression_too_long"),
        ("data.s" + " + data.s" * 33 + ' == ""', "expression_too_complex"),
        ("data.a.map(x, data.a + data.a) == []", "expression_too_complex"),
        ("data.a.all(x, data.a.exists(y, x == y))", "expression_too_complex"),
        ("data.a.all(x, x == 1 || " + "true || " * 200 + "true)", "expression_too_complex"),
        ("status == 1", "unknown_variable"),
        ("data.a.all(x, y == 1)", "unknown_variable"),
        ("frobnicate(data.a)", "unknown_function"),
        ("data.a.lowerAscii() == 'x'", "unknown_function"),
    ],
)
def test_refuses_with_a_reason(expression: str, code: str) -> None:
    with pytest.raises(ExpressionError) as refused:
        compile_filter(expression)
    assert refused.value.code == code
    assert refused.value.detail


def test_two_comprehensions_beside_each_other_are_no_nesting() -> None:
    compiled = compile_filter("data.a.all(x, x > (1)) && data.b.exists(x, x in [1, 2])")
    assert compiled.verdict(event(b'{"a":[2],"b":[1]}')) is Verdict.MATCH


def test_a_comprehension_over_much_data_is_an_error() -> None:
    compiled = compile_filter("data.a.all(x, x == 1)")
    assert compiled.verdict(event(b'{"a":[' + b"1," * 5000 + b"1]}")) is Verdict.ERROR
    assert compiled.verdict(event(b'{"a":[' + b"1," * 3000 + b"1]}")) is Verdict.MATCH


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_every_function_there_is_said_to_be_exists(name: str) -> None:
    context = {"d": {"s": "a"}, "t": "a"}
    problems: list[str] = []
    for call in (f"{name}(t)", f"d.s.{name}(t)", f"timestamp('2024-01-01T00:00:00Z').{name}()"):
        try:
            cel.compile(call).execute(context)
        except Exception as error:
            problems.append(str(error))
        else:
            return
    assert not all("Undefined variable or function" in problem for problem in problems)
