"""The vectorised decision against the obvious one: a dictionary and a loop."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tallystick.identity.decide import decide
from tallystick.identity.interface import Found, Identities

identity = st.tuples(st.integers(0, 3), st.integers(0, 2))  # few values, so that they meet
event = st.tuples(identity, st.sampled_from([7, 8, 2**32 + 7]))


@given(
    st.dictionaries(identity, st.tuples(st.integers(1, 50), st.sampled_from([7, 8]))),
    st.lists(event, max_size=30),
)
def test_decides_like_a_dictionary(seen: dict[tuple[int, int], tuple[int, int]], events: list) -> None:
    first_position = 100
    model = dict(seen)
    expected = []
    for offset, (key, content) in enumerate(events):
        position = first_position + offset
        original, original_content = model.setdefault(key, (position, content & 0xFFFFFFFF))
        expected.append((original, original == position, original_content == content & 0xFFFFFFFF))

    keys = [key for key, _ in events]
    decision = decide(
        Identities(np.array([k[0] for k in keys], np.uint64), np.array([k[1] for k in keys], np.uint64)),
        np.array([content for _, content in events], np.uint64),
        np.arange(first_position, first_position + len(events), dtype=np.uint64),
        Found(
            np.array([seen.get(k, (0, 0))[0] for k in keys], np.uint64),
            np.array([seen.get(k, (0, 0))[1] for k in keys], np.uint32),
        ),
    )
    got = list(zip(decision.original.tolist(), decision.new.tolist(), decision.alike.tolist(), strict=True))
    assert got == expected


def test_an_event_the_index_already_holds_under_its_own_position_stays_new() -> None:
    one = Identities(np.array([1], np.uint64), np.array([2], np.uint64))
    decision = decide(
        one,
        np.array([9], np.uint64),
        np.array([5], np.uint64),
        Found(np.array([5], np.uint64), np.array([9], np.uint32)),
    )
    assert decision.new.tolist() == [True]
