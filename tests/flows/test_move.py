"""Where facts go when an installation moves, and the gate that is closed meanwhile."""

import asyncio
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.errors import TallystickError
from tallystick.flows.gate import MOVED, Gate
from tallystick.flows.move_rows import moved
from tallystick.metering.event import identity_of
from tallystick.metering.position import RESTORED_STEP, base_of, local_of, partition_of, partitions_of
from tallystick.store.interface import FACTS

_PLACES = st.lists(
    st.tuples(st.text(max_size=3), st.text(min_size=1, max_size=4), st.integers(0, 3), st.booleans()),
    min_size=1,
    max_size=30,
)


def _row(schema: pa.Schema, **given: object) -> dict[str, object]:
    nothing = {pa.string(): "", pa.binary(): b"", pa.uint64(): 0, pa.uint32(): 0, pa.bool_(): False}
    return {one.name: nothing.get(one.type, 0) for one in schema} | given


@given(_PLACES, st.integers(1, 64))
def test_positions_say_the_partition_and_keep_their_order(
    places: list[tuple[str, str, int, bool]], partitions: int
) -> None:
    """Every position of a row is in the partition of its identity, is the old one within it, and 0 stays nothing."""
    schema = pa.schema(
        [
            field
            for field in FACTS["corrections"]
            if field.name in ("tenant", "source", "id", "position", "original", "superseded")
        ]
    )
    rows = [
        _row(
            schema,
            tenant="t",
            source=source,
            id=event_id,
            position=number + 1 + restored * RESTORED_STEP,
            original=number + 1,
            superseded=0 if was_none else number + 1,
        )
        for number, (source, event_id, restored, was_none) in enumerate(places)
    ]
    found = moved(pa.Table.from_pylist(rows, schema), partitions).to_pylist()
    for before, after in zip(rows, found, strict=True):
        identity = identity_of("t", str(before["source"]), str(before["id"]))
        (wanted,) = partitions_of([identity], partitions).tolist()
        for name in ("position", "original", "superseded"):
            if before[name] == 0:
                assert after[name] == 0
                continue
            assert partition_of(after[name]) == wanted
            assert local_of(after[name]) == local_of(int(str(before[name])))
            assert after[name] // RESTORED_STEP == int(str(before[name])) // RESTORED_STEP
    assert len({row["position"] for row in found}) == len(found)


@given(_PLACES, st.integers(1, 8), st.integers(1, 8))
def test_moving_on_is_moving_at_once(places: list[tuple[str, str, int, bool]], few: int, times: int) -> None:
    """From one partition to some, and from these to a multiple, is the same as from one to these many."""
    schema = pa.schema(
        [
            field
            for field in FACTS["duplicates"]
            if field.name in ("tenant", "source", "id", "position", "original")
        ]
    )
    rows = pa.Table.from_pylist(
        [
            _row(schema, tenant="t", source=source, id=one, position=number + 1, original=number + 1)
            for number, (source, one, _, _) in enumerate(places)
        ],
        schema,
    )
    cluster = moved(rows, few)
    assert moved(cluster, few * times, here=few) == moved(rows, few * times)


def test_a_row_in_a_partition_that_it_is_not_of_is_not_moved() -> None:
    schema = pa.schema(
        [field for field in FACTS["events"] if field.name in ("tenant", "source", "id", "position")]
    )
    (own,) = partitions_of([identity_of("t", "/s", "1")], 4).tolist()
    row = _row(schema, tenant="t", source="/s", id="1", position=base_of((own + 1) % 4) + 1)
    with pytest.raises(TallystickError):
        moved(pa.Table.from_pylist([row], schema), 8, here=4)


def test_no_rows_move_nowhere() -> None:
    for schema in FACTS.values():
        assert moved(schema.empty_table(), 8).num_rows == 0


def test_the_gate_waits_for_those_inside_and_remembers(tmp_path: Path) -> None:
    file = tmp_path / MOVED
    gate = Gate(file)

    async def use() -> None:
        gate.enter()
        assert not await gate.close("moving", wait_s_max=0.0)
        assert gate.reason is None
        closing = asyncio.create_task(gate.close("moving", wait_s_max=10.0))
        await asyncio.sleep(0)
        assert gate.reason == "moving"
        gate.leave()
        assert await closing

    asyncio.run(use())
    gate.open()
    assert gate.reason is None
    gate.close_for_good("a cluster")
    again = Gate(file)
    assert again.reason is not None
    assert "a cluster" in again.reason
