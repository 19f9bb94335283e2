"""Several logs as one."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from tests.log.events import events_of, ids_read, numbered, rows_put_in, rows_read
from tests.log.test_sqlite import open_at

from tallystick.errors import Unavailable
from tallystick.log.interface import LogTrimmedError
from tallystick.log.partitioned import PartitionedLog, PlacedLog
from tallystick.metering.position import base_of, partition_of, partitions_of

PARTITIONS = 4


@pytest.fixture
async def placed(tmp_path: Path) -> AsyncIterator[list[PlacedLog]]:
    logs = [PlacedLog(open_at(tmp_path / f"{number}.sqlite"), number) for number in range(PARTITIONS)]
    yield logs
    for log in logs:
        await log.close()


@pytest.mark.anyio
async def test_positions_bear_the_partition(placed: list[PlacedLog]) -> None:
    log, base = placed[3], base_of(3)
    assert (log.end, log.trimmed_through, log.behind(base)) == (base, base, 0)
    assert (await log.append(numbered(0, 3))).tolist() == [base + 1, base + 2, base + 3]
    assert await log.wait_for(base + 2, timeout_s=0)
    assert ids_read(await log.read(base + 1, events_max=9)) == ["1", "2"]
    assert log.behind(base + 1) == 2
    await log.trim(base + 3)
    assert (log.end, log.trimmed_through) == (base + 3, base + 3)
    with pytest.raises(LogTrimmedError):
        await log.read(base, events_max=9)
    with pytest.raises(ValueError, match="not of partition 3"):
        await log.trim(1)


@pytest.mark.anyio
async def test_events_go_where_their_identity_belongs_and_positions_come_back_in_order(
    placed: list[PlacedLog],
) -> None:
    log = PartitionedLog(placed)
    assert (await log.append(events_of([]))).tolist() == []
    assert log.end == ()
    requests = [numbered(0, 50), numbered(50), numbered(51, 2), numbered(60, 40)]
    given = await asyncio.gather(*(log.append(request) for request in requests))
    assert log.end == tuple(placed[partition].end for partition in range(PARTITIONS))
    found = {}
    for partition, one in enumerate(placed):
        for block in await one.read(base_of(partition), events_max=1000):
            found |= dict(zip(range(block.first, block.last + 1), rows_read([block]), strict=True))
    for request, positions in zip(requests, given, strict=True):
        expected = partitions_of(request.identity, PARTITIONS).tolist()
        assert [partition_of(position) for position in positions.tolist()] == expected
        assert [found[position] for position in positions.tolist()] == rows_put_in(request)


@pytest.mark.anyio
async def test_one_partition_that_refuses_is_told_and_the_others_keep_what_they_took(
    placed: list[PlacedLog],
) -> None:
    log = PartitionedLog(placed)
    await placed[2].close()
    request = numbered(0, 50)
    with pytest.raises(Unavailable):
        await log.append(request)
    kept = np.count_nonzero(partitions_of(request.identity, PARTITIONS) == 1)
    assert placed[1].behind(base_of(1)) == kept
