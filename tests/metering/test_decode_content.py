"""Identity, fingerprints and the exact comparison of content."""

import json
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from tallystick.metering.content import same_content
from tallystick.metering.event import content_of, identities_of, identity_of

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)


def test_identity_is_what_the_docstring_says():
    assert identity_of("t", "/", "ü") == xxhash.xxh3_128_digest("t\0/\0ü".encode())
    assert len({identity_of("a", "b", "c"), identity_of("ab", "", "c"), identity_of("a", "bc", "")}) == 3


@given(st.lists(st.tuples(NAMES, NAMES)))
def test_identities_of_many_are_those_of_each(pairs: list[tuple[str, str]]):
    sources, ids = [source for source, _ in pairs], [one for _, one in pairs]
    assert identities_of("t", sources, ids) == [identity_of("t", *pair) for pair in pairs]


@given(st.lists(st.tuples(NAMES, NAMES, st.binary(max_size=8)), unique=True))
def test_fingerprints_differ_with_content_alone(rows: list[tuple[str, str, bytes]]):
    types, subjects, data = ([row[place] for row in rows] for place in range(3))
    together = content_of(types, subjects, data)
    assert together.dtype == np.uint64
    assert together.tolist() == [int(content_of([t], [s], [d])[0]) for t, s, d in rows]
    repeated = content_of(types * 20, subjects * 20, data * 20)  # many are mixed in another way
    assert repeated.tolist() == together.tolist() * 20
    assert len(set((together & np.uint64(0xFFFFFFFF)).tolist())) == len(rows)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ('{"a":1,"b":2}', '{ "b": 2, "a": 1 }', True),
        ('{"a":1}', '{"a":1.0}', True),
        ('{"a":1}', '{"a":10e-1}', True),
        ('{"a":0}', '{"a":-0.00e9}', True),
        ('{"a":1e400}', '{"a":10e399}', True),
        ('{"a":1e99999999999}', '{"a":10e99999999998}', True),
        ('{"a":"\\u00e9"}', '{"a":"é"}', True),
        ("", "{}", True),
        ("", "", True),
        ('{"a":1}', '{"a":-1}', False),
        ('{"a":1}', '{"a":"1"}', False),
        ('{"a":1}', '{"a":true}', False),
        ('{"a":0}', '{"a":false}', False),
        ('{"a":0}', '{"a":null}', False),
        ('{"a":null}', "{}", False),
        ('{"a":1e400}', '{"a":1e401}', False),
        ('{"a":[1,2]}', '{"a":[2,1]}', False),
        ('{"a":0.10000000000000000000000000000001}', '{"a":0.1}', False),
        ('{"a":1e' + "9" * 5000 + "}", '{"a":2e' + "9" * 5000 + "}", False),
        ('{"a":1e' + "9" * 5000 + "}", '{"a":1e' + "9" * 5000 + ',"b":1}', False),
        ('{"a":' + "9" * 5000 + "}", '{"a":' + "9" * 5000 + ".0}", True),
    ],
)
def test_same_content(a: str, b: str, same: bool):
    assert same_content("t", "s", a.encode(), "t", "s", b.encode()) is same
    assert same_content("t", "s", b.encode(), "t", "s", a.encode()) is same
    assert not same_content("t", "s", a.encode(), "t", "other", b.encode())
    assert not same_content("t", "s", a.encode(), "other", "s", b.encode())


@given(st.decimals(allow_nan=False, allow_infinity=False), st.decimals(allow_nan=False, allow_infinity=False))
def test_numbers_are_equal_as_decimals(a: Decimal, b: Decimal):
    def data(number: Decimal) -> bytes:
        return b'{"n":' + str(number).encode() + b"}"

    assert same_content("t", "s", data(a), "t", "s", data(b)) is (a == b)
    assert same_content("t", "s", data(a), "t", "s", data(Decimal(f"{a:f}")))


@given(st.recursive(st.none() | st.booleans() | st.text(), lambda inner: st.dictionaries(st.text(), inner)))
def test_key_order_and_white_space_do_not_matter(value: Any):
    plain = json.dumps({"v": value}).encode()
    other = json.dumps({"v": value}, sort_keys=True, indent=2, ensure_ascii=False).encode(
        errors="surrogatepass"
    )
    assert same_content("t", "s", plain, "t", "s", other)
