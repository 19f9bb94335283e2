"""Positions, vectors and their tokens."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.errors import Invalid
from tallystick.flows.position import position_of, token_of
from tallystick.metering.position import (
    LOCAL_BITS,
    PARTITIONS_MAX,
    RESTORED_STEP,
    base_of,
    local_of,
    partition_of,
    partitions_of,
    united,
    vector_of,
)

PLACES = st.integers(1, (1 << LOCAL_BITS) - 1)
PARTITIONS = st.integers(0, PARTITIONS_MAX - 1)


@given(PARTITIONS, PLACES, st.integers(0, 63))
def test_a_position_says_where_it_came_from(partition: int, local: int, restored: int) -> None:
    position = base_of(partition) + local + restored * RESTORED_STEP
    assert position < 1 << 64
    assert (partition_of(position), local_of(position)) == (partition, local)


@given(st.lists(st.tuples(PARTITIONS, PLACES)))
def test_a_vector_has_the_highest_of_each_partition_and_a_token(places: list[tuple[int, int]]) -> None:
    highest: dict[int, int] = {}
    for partition, local in places:
        highest[partition] = max(highest.get(partition, 0), base_of(partition) + local)
    positions = np.array([base_of(partition) + local for partition, local in places], np.uint64)
    vector = vector_of(positions)
    assert vector == tuple(highest[partition] for partition in sorted(highest))
    assert united(vector, vector[:1]) == vector
    assert position_of(token_of(vector), pointer="min_position") == vector


def test_one_partition_keeps_the_form_it_had() -> None:
    assert token_of((36,)) == "p1-10"
    assert token_of(()) == "p1-0"
    assert position_of("p1-0", pointer="min_position") == ()


@pytest.mark.parametrize(
    "token",
    [
        "",
        "p1-",
        "p1-A",
        "p2-1.1",
        "p2-",
        "p1-1.2",
        "p1-zzzzzzzzzzzz",
        "p2-1gj0kxiitc2o.1",
        "p1-1" + "0" * 999,
    ],
)
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(Invalid):
        position_of(token, pointer="min_position")


def test_the_partition_is_the_upper_half_of_the_identity() -> None:
    identities = [bytes(7) + bytes([value]) + bytes([255] * 8) for value in range(10)]
    assert partitions_of(identities, 4).tolist() == [value % 4 for value in range(10)]
    assert partitions_of([], 4).tolist() == []
