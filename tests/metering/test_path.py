from typing import Any

import jsonpath_rfc9535
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.metering.path import PathError, follow, steps_of


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("$.tokens", ("tokens",)),
        ("$.usage.input", ("usage", "input")),
        ("$['odd name']", ("odd name",)),
        ("$['it''s']".replace("''", "\\'"), ("it's",)),
        ('$["a"][0][-1].b', ("a", 0, -1, "b")),
        ("$['\\u00fc']", ("ü",)),
        ("$.日本", ("日本",)),
        ("$.a\U0001f600.日本['.日本']", ("a\U0001f600", "日本", ".日本")),
        ("$['']", ("",)),
    ],
)
def test_steps(path: str, steps: tuple[str | int, ...]) -> None:
    assert steps_of(path) == steps


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("tokens", "invalid_path"),
        ("", "invalid_path"),
        ("$", "invalid_path"),
        ("$[0]", "invalid_path"),
        ("$.a[", "invalid_path"),
        ("$.a b", "invalid_path"),
        ("$.a[01]", "invalid_path"),
        ("$.a[99999999999999999999]", "invalid_path"),
        ("$..a", "path_not_singular"),
        ("$..ä本", "invalid_path"),
        ("$.*", "path_not_singular"),
        ("$.a[*]", "path_not_singular"),
        ("$.a[0:2]", "path_not_singular"),
        ("$['a','b']", "path_not_singular"),
        ("$.a[?@.b]", "path_not_singular"),
        ("$." + "a" * 600, "path_too_long"),
        ("$" + ".a" * 17, "path_too_long"),
    ],
)
def test_refuses_with_a_reason(path: str, code: str) -> None:
    with pytest.raises(PathError) as refused:
        steps_of(path)
    assert refused.value.code == code
    assert refused.value.detail


JSON = st.recursive(
    st.none() | st.integers(0, 3) | st.sampled_from(["x", "y"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from("ab"), JSON),
    st.lists(st.sampled_from(["a", "b", 0, 1, -1, -2]), max_size=3),
)
def test_follows_like_the_reference_implementation(data: dict[str, Any], rest: list[str | int]) -> None:
    path = "$.a" + "".join(f"[{step!r}]" for step in rest)
    node = jsonpath_rfc9535.find_one(path, data)
    assert follow(data, steps_of(path)) == (node.value if node is not None else None)
