"""What every event log must do. Subclass `LogContract` and give it the fixture `open_log`.

`open_log` is an async function that opens the same log each time it is called (the one before has been closed), with
the limits given, and sees to closing at the end. Positions grow by one within a block; what lies between two blocks is
each log's own affair, so the tests count events, and take positions as they were given.
"""

import asyncio
import random
from collections.abc import Awaitable, Sequence
from typing import Protocol

import numpy as np
import pytest
from tests.log.events import events_of, ids_read, numbered, rows_put_in, rows_read

from tallystick.errors import Invalid, Unavailable
from tallystick.log.interface import Block, Log, LogTrimmedError
from tallystick.metering.event import EventColumns
from tallystick.metering.position import LOCAL_BITS

LARGE = 1_000_000


class OpenLog(Protocol):
    def __call__(
        self, *, waiting_events_max: int = LARGE, unrecorded_events_max: int = LARGE
    ) -> Awaitable[Log]: ...


def check_order(blocks: Sequence[Block], after: int) -> int:
    """Return the last position."""
    for block in blocks:
        assert block.first > after
        assert block.events.num_rows > 0
        after = block.last
    return after


def positions_read(blocks: Sequence[Block]) -> list[int]:
    """The position of every event read."""
    return [position for block in blocks for position in range(block.first, block.last + 1)]


async def appended(log: Log, events: EventColumns) -> int:
    """Append; the position of the last event."""
    positions = await log.append(events)
    assert positions.dtype == np.uint64
    assert len(positions) == len(events)
    assert (np.diff(positions.astype(np.int64)) > 0).all()
    return int(positions[-1])


async def read_all(log: Log, after: int = 0, *, events_max: int = 1000) -> list[Block]:
    """Everything behind `after`, in as many reads as it takes."""
    found: list[Block] = []
    while blocks := await log.read(after, events_max=events_max):
        after = check_order(blocks, after)
        found.extend(blocks)
    return found


@pytest.mark.anyio
class LogContract:
    async def test_a_new_log_is_empty(self, open_log: OpenLog) -> None:
        log = await open_log()
        assert (log.end, log.trimmed_through) == (0, 0)
        assert await log.read(0, events_max=10) == []
        assert (await log.append(events_of([]))).tolist() == []
        assert log.behind(0) == 0

    async def test_positions_are_those_that_are_read(self, open_log: OpenLog) -> None:
        log = await open_log()
        given = [await log.append(numbered(*each)) for each in ((0, 3), (3, 1), (4, 100))]
        positions = np.concatenate(given).tolist()
        assert log.end == positions[-1] < 1 << LOCAL_BITS
        assert positions == sorted(set(positions))
        assert positions[0] > 0
        blocks = await read_all(log)
        assert ids_read(blocks) == [str(number) for number in range(104)]
        assert positions_read(blocks) == positions

    async def test_behind(self, open_log: OpenLog) -> None:
        log = await open_log()
        positions = np.concatenate([await log.append(numbered(first, 10)) for first in (0, 10, 20)]).tolist()
        assert log.behind(positions[-1]) == 0
        assert log.behind(positions[-1] + 999) == 0
        assert 0 < log.behind(positions[19]) <= log.behind(positions[9]) <= log.behind(0)

    async def test_every_column_comes_out_as_it_went_in(self, open_log: OpenLog) -> None:
        log = await open_log()
        requests = [
            numbered(0, 5),
            events_of(["å", "日本語", "🧾", "e\u0301", "\x00", ""], tenant="Ünïcode 株式会社"),
            events_of(["empty"], data=[b""], attributes=[b""], source=[""], subject=[""], type=[""]),
            events_of(["huge"], data=[b'{"text":"' + bytes(b"x" * 3_000_000) + b'"}']),
            events_of(["bytes"], data=[bytes(range(256))]),
            events_of(["cancel"], action="cancel", note=b'{"reason":"sent twice"}'),
            events_of(["replace"], action="replace", note="{'weil':'größer'}".encode()),
            events_of(
                ["earliest", "latest"],
                time_us=np.array([-62_135_596_800_000_000, 253_402_300_799_999_999], np.int64),
                content=np.array([0, 2**64 - 1], np.uint64),
                time_given=np.array([False, True]),
                received_at_us=0,
            ),
        ]
        first, *others = requests
        await log.append(first)
        # Together, so that a log with group commit mixes tenants and actions in one block.
        await asyncio.gather(*(log.append(request) for request in others))
        expected = [row for request in requests for row in rows_put_in(request)]
        assert rows_read(await read_all(log)) == expected
        await log.close()
        assert rows_read(await read_all(await open_log())) == expected

    async def test_columns_that_are_views_of_something_larger(self, open_log: OpenLog) -> None:
        log = await open_log()
        whole = numbered(0, 20)
        every_second = events_of(
            whole.id[::2],
            time_us=whole.time_us[::2],
            time_given=whole.time_given[::2],
            content=whole.content[::2],
        )
        await log.append(every_second)
        assert rows_read(await read_all(log)) == rows_put_in(every_second)

    async def test_many_appenders_get_gapless_positions_and_their_own_rows(self, open_log: OpenLog) -> None:
        log = await open_log()
        counts = [random.Random(number).randint(1, 7) for number in range(300)]
        requests = [
            events_of([f"{number}/{row}" for row in range(count)]) for number, count in enumerate(counts)
        ]
        positions = await asyncio.gather(*(log.append(request) for request in requests))
        blocks = await read_all(log)
        ids = ids_read(blocks)
        assert len(ids) == sum(counts)
        at = dict(zip(positions_read(blocks), ids, strict=True))
        for request, given in zip(requests, positions, strict=True):
            assert [at[position] for position in given.tolist()] == request.id

    async def test_requests_of_one_writer_keep_their_order(self, open_log: OpenLog) -> None:
        log = await open_log()
        waiting = [asyncio.ensure_future(log.append(numbered(number))) for number in range(50)]
        positions = [int(each[0]) for each in await asyncio.gather(*waiting)]
        assert positions == sorted(set(positions))
        assert ids_read(await read_all(log)) == [str(number) for number in range(50)]

    async def test_a_reader_never_steps_over_an_event_that_commits_late(self, open_log: OpenLog) -> None:
        log = await open_log()
        counts = [[random.Random(writer).randint(1, 5) for _ in range(40)] for writer in range(8)]
        total = sum(map(sum, counts))
        seen: list[str] = []
        acknowledged: set[str] = set()

        async def write(writer: int) -> None:
            for number, count in enumerate(counts[writer]):
                request = events_of([f"{writer}-{number}-{row}" for row in range(count)])
                last = await appended(log, request)
                assert last <= log.end  # what is acknowledged is visible
                acknowledged.update(request.id)

        async def follow() -> None:
            after = 0
            while len(seen) < total:
                assert await log.wait_for(after, timeout_s=30)
                before = set(acknowledged)
                blocks = await log.read(after, events_max=LARGE)
                assert blocks  # wait_for said so
                after = check_order(blocks, after)
                seen.extend(ids_read(blocks))
                assert before <= set(seen)

        await asyncio.gather(follow(), *(write(writer) for writer in range(len(counts))))
        assert len(seen) == total
        assert set(seen) == acknowledged
        for writer in range(len(counts)):  # each writer's own order
            mine = [tuple(map(int, each.split("-"))) for each in seen if each.startswith(f"{writer}-")]
            assert mine == sorted(mine)

    async def test_read_from_within_a_block(self, open_log: OpenLog) -> None:
        log = await open_log()
        first, second = numbered(0, 10), numbered(10, 5)
        positions = [*(await log.append(first)).tolist(), *(await log.append(second)).tolist()]
        expected = rows_put_in(first) + rows_put_in(second)
        for row, after in enumerate([0, *positions[:-1]]):
            blocks = await log.read(after, events_max=LARGE)
            assert check_order(blocks, after) == positions[-1]
            assert positions_read(blocks) == positions[row:]
            assert rows_read(blocks) == expected[row:]
        assert await log.read(positions[-1], events_max=LARGE) == []
        assert await log.read(positions[-1] + 999, events_max=LARGE) == []

    @pytest.mark.parametrize(
        ("after", "events_max", "expected"),
        [
            (0, 1, 10),  # one block at least
            (0, 10, 10),
            (0, 19, 10),
            (0, 20, 20),
            (0, 29, 20),
            (0, 30, 30),
            (5, 15, 15),  # the part of a block counts as what it is
            (5, 14, 5),
            (29, 1, 1),
        ],
    )
    async def test_events_max(self, open_log: OpenLog, after: int, events_max: int, expected: int) -> None:
        log = await open_log()
        positions = [0]
        for first in (0, 10, 20):
            positions += (await log.append(numbered(first, 10))).tolist()
        blocks = await log.read(positions[after], events_max=events_max)
        assert sum(block.events.num_rows for block in blocks) == expected

    async def test_wait_for(self, open_log: OpenLog) -> None:
        log = await open_log()
        assert not await log.wait_for(0, timeout_s=0)
        waiting = asyncio.ensure_future(log.wait_for(0, timeout_s=30))
        await asyncio.sleep(0)
        _, second, third = (await log.append(numbered(0, 3))).tolist()
        assert await waiting
        assert await log.wait_for(second, timeout_s=0)
        assert not await log.wait_for(third, timeout_s=0.01)
        waiting = asyncio.ensure_future(log.wait_for(third, timeout_s=30))
        await asyncio.sleep(0)
        assert not waiting.done()
        await log.append(numbered(3))
        assert await waiting

    async def test_closing_ends_the_waiting(self, open_log: OpenLog) -> None:
        log = await open_log()
        waiting = asyncio.ensure_future(log.wait_for(0, timeout_s=30))
        await asyncio.sleep(0)
        await log.close()
        assert not await waiting

    async def test_trim(self, open_log: OpenLog) -> None:
        log = await open_log()
        ends = [await appended(log, numbered(first, 10)) for first in range(0, 50, 10)]
        await log.trim(ends[1])
        assert log.trimmed_through == ends[1]
        assert log.end == ends[-1]
        assert ids_read(await read_all(log, ends[1])) == [str(number) for number in range(20, 50)]
        with pytest.raises(LogTrimmedError):
            await log.read(ends[1] - 1, events_max=10)
        await log.trim(5)  # an older permission takes nothing back
        assert log.trimmed_through == ends[1]

    async def test_trim_within_a_block_keeps_its_rest(self, open_log: OpenLog) -> None:
        log = await open_log()
        ends = [await appended(log, numbered(first, 10)) for first in range(0, 50, 10)]
        within = ends[2] - 1
        await log.trim(within)
        assert log.trimmed_through <= within
        assert ids_read(await read_all(log, within)) == [str(number) for number in range(29, 50)]

    async def test_positions_go_on_after_trimming_to_empty(self, open_log: OpenLog) -> None:
        log = await open_log()
        end = await appended(log, numbered(0, 10))
        await log.trim(end + 999)  # more than there is
        assert (log.end, log.trimmed_through) == (end, end)
        assert await log.read(end, events_max=10) == []
        await log.close()
        log = await open_log()
        assert (log.end, log.trimmed_through) == (end, end)
        assert log.behind(end) == 0
        assert await appended(log, numbered(10)) > end
        assert ids_read(await read_all(log, end)) == ["10"]

    async def test_reopening_keeps_everything(self, open_log: OpenLog) -> None:
        log = await open_log()
        first = await appended(log, numbered(0, 10))
        second = await appended(log, numbered(10, 10))
        await log.trim(first)
        await log.close()
        await log.close()
        log = await open_log()
        assert (log.end, log.trimmed_through) == (second, first)
        assert await appended(log, numbered(20, 5)) > second
        assert ids_read(await read_all(log, first)) == [str(number) for number in range(10, 25)]

    async def test_a_closed_log_refuses(self, open_log: OpenLog) -> None:
        log = await open_log()
        end = await appended(log, numbered(0))
        await log.close()
        with pytest.raises(Unavailable):
            await log.append(numbered(1))
        with pytest.raises(Unavailable):
            await log.read(0, events_max=1)
        assert (await open_log()).end == end

    async def test_appends_under_way_at_closing_are_stored_or_refused(self, open_log: OpenLog) -> None:
        log = await open_log()
        waiting = [asyncio.ensure_future(log.append(numbered(number))) for number in range(200)]
        await asyncio.sleep(0)
        await log.close()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        stored = [str(number) for number, outcome in enumerate(outcomes) if isinstance(outcome, np.ndarray)]
        assert all(isinstance(outcome, np.ndarray | Unavailable) for outcome in outcomes)
        assert ids_read(await read_all(await open_log())) == stored

    async def test_too_many_unrecorded_events_are_refused_until_trimmed(self, open_log: OpenLog) -> None:
        log = await open_log(unrecorded_events_max=100)
        ends = [await appended(log, numbered(first, 10)) for first in range(0, 100, 10)]
        with pytest.raises(Unavailable) as refused:
            await log.append(numbered(100))
        assert refused.value.retry_after_s == 5
        assert log.end == ends[-1]
        await log.trim(ends[0])
        assert await appended(log, numbered(100)) > ends[-1]

    async def test_too_many_waiting_events_are_refused(self, open_log: OpenLog) -> None:
        log = await open_log(waiting_events_max=10)
        waiting = [asyncio.ensure_future(log.append(numbered(number * 4, 4))) for number in range(100)]
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        refused = [outcome for outcome in outcomes if isinstance(outcome, Unavailable)]
        stored = [
            str(number * 4 + row)
            for number, outcome in enumerate(outcomes)
            if isinstance(outcome, np.ndarray)
            for row in range(4)
        ]
        assert refused
        assert all(each.retry_after_s == 1 for each in refused)
        assert len(refused) + len(stored) // 4 == 100
        assert ids_read(await read_all(log)) == stored

    async def test_one_request_larger_than_the_limit_is_taken_when_nothing_waits(
        self, open_log: OpenLog
    ) -> None:
        log = await open_log(waiting_events_max=10)
        await appended(log, numbered(0, 500))
        assert len(ids_read(await read_all(log))) == 500

    async def test_a_request_that_cannot_be_stored_harms_no_other(self, open_log: OpenLog) -> None:
        log = await open_log()
        await log.append(numbered(0))
        bad = [
            events_of(["bad"], subject=["\ud800"]),  # half a surrogate pair is no text
            events_of(["bad"], identity=[b"short"]),
            events_of(["bad"], subject=[None]),
            events_of(["bad"], time_us=np.array([0.5])),
        ]
        requests = [each for number, request in enumerate(bad) for each in (request, numbered(1 + number))]
        outcomes = await asyncio.gather(*(log.append(each) for each in requests), return_exceptions=True)
        assert [type(each) for each in outcomes] == [Invalid, np.ndarray] * len(bad)
        assert ids_read(await read_all(log)) == ["0", "1", "2", "3", "4"]

    async def test_columns_of_unequal_length_are_refused(self, open_log: OpenLog) -> None:
        log = await open_log()
        with pytest.raises(ValueError, match="equal length"):
            await log.append(events_of(["a", "b"], source=["only one"]))
        assert log.end == 0

    async def test_a_cancelled_append_is_stored_whole_or_not_at_all(self, open_log: OpenLog) -> None:
        log = await open_log()
        waiting = [asyncio.ensure_future(log.append(numbered(number * 3, 3))) for number in range(20)]
        await asyncio.sleep(0)
        for each in waiting[::2]:
            each.cancel()
        kept = await asyncio.gather(*waiting[1::2])
        await log.append(numbered(60))
        blocks = await read_all(log)
        ids = ids_read(blocks)
        at = dict(zip(positions_read(blocks), ids, strict=True))
        for number, given in zip(range(1, 20, 2), kept, strict=True):
            assert [at[position] for position in given.tolist()] == [
                str(number * 3 + row) for row in range(3)
            ]
        assert {ids.count(str(number)) for number in range(60)} <= {0, 1}
        for number in range(20):
            assert len({str(number * 3 + row) in ids for row in range(3)}) == 1
