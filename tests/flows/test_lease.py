"""Keepers: rounds by hand, with time moved; and real processes, one of them frozen."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tallystick.catalog.coordination import Coordination
from tallystick.catalog.leases import LeaseCheckpoint, LeaseLostError
from tallystick.catalog.partitions import FencedCheckpoint
from tallystick.catalog.relational import RelationalCatalog
from tallystick.errors import Unavailable
from tallystick.flows.lease import Held, JobKeeper, Keeper, PartitionKeeper, new_owner

TTL_S = 60.0


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lease") / "catalog.db"
    catalog = RelationalCatalog(f"sqlite:///{path}")
    catalog.migrate()
    catalog.close()
    return path


@pytest.fixture
def coordination(migrated: Path, tmp_path: Path) -> Iterator[Coordination]:
    opened = Coordination(f"sqlite:///{shutil.copy(migrated, tmp_path / 'catalog.db')}")
    yield opened
    opened.close()


class Time:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Node:
    """One process: its keeper, and what works under it. Two works at one partition at once are told at once."""

    at_work: dict[int, str]

    def __init__(self, coordination: Coordination, name: str, at_work: dict[int, str]) -> None:
        self.name = name
        self.time = Time()
        self.at_work = at_work
        self.refuse = False
        self.keeper = PartitionKeeper(
            coordination.partitions,
            coordination.leases,
            owner=name,
            work=self.work,
            ttl_s=TTL_S,
            elapsed_s=self.time,
        )

    async def work(self, held: Held[int]) -> None:
        if self.refuse:
            raise RuntimeError("no room")
        assert held.key not in self.at_work
        self.at_work[held.key] = self.name
        await held.leaving.wait()
        del self.at_work[held.key]

    @property
    def has(self) -> list[int]:
        return sorted(key for key, held in self.keeper.held.items() if not held.leaving.is_set())


async def rounds(*nodes: Node, count: int = 4) -> None:
    for _ in range(count):
        for node in nodes:
            await node.keeper.step()
            for _ in range(20):  # let what has ended be given back
                await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def ended(*keepers: Keeper) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for keeper in keepers:
            keeper.stop()
            await asyncio.wait_for(keeper.run(), 20)


def expire(path: str, name: str) -> None:
    """The time of one owner is over, by the database's clock."""
    import sqlite3

    with contextlib.closing(sqlite3.connect(path)) as connection:
        for table in ("leases", "partitions"):
            connection.execute(f"UPDATE {table} SET until_us = 1 WHERE owner LIKE ?", (f"{name}%",))
        connection.commit()


@pytest.mark.anyio
async def test_partitions_are_shared_out_as_nodes_come_and_go(
    coordination: Coordination, tmp_path: Path
) -> None:
    coordination.partitions.prepare(7)
    at_work: dict[int, str] = {}
    a, b, c = (Node(coordination, name, at_work) for name in "abc")
    async with ended(a.keeper, b.keeper, c.keeper):
        await rounds(a)
        assert a.has == list(range(7))
        await rounds(a, b)
        assert [len(node.has) for node in (a, b)] == [4, 3]
        await rounds(a, b, c)
        assert [len(node.has) for node in (a, b, c)] == [3, 2, 2]
        assert sorted(at_work) == list(range(7))
        b.keeper.stop()
        await rounds(b, a, c)
        assert [len(node.has) for node in (a, b, c)] == [4, 0, 3]
        # One dies without a word: the others take its share once its time is over, not before.
        await rounds(a)
        assert len(a.has) == 4
        expire(str(tmp_path / "catalog.db"), "c")
        for key in c.has:
            del at_work[key]
        await rounds(a)
        assert a.has == list(range(7))
        # It was only frozen: on waking it finds out before anything else, and writes nothing.
        lost = list(c.keeper.held.values())
        at_work.clear()
        await c.keeper.step()
        assert lost
        for held in lost:
            assert held.is_lost
            with pytest.raises(LeaseLostError):
                held.check()


@pytest.mark.anyio
async def test_half_a_lease_without_renewal_stops_the_writing_and_a_renewal_lets_it_go_on(
    coordination: Coordination, monkeypatch: pytest.MonkeyPatch
) -> None:
    coordination.partitions.prepare(1)
    node = Node(coordination, "a", {})
    async with ended(node.keeper):
        await rounds(node)
        (held,) = node.keeper.held.values()
        checkpoint = FencedCheckpoint(coordination.partitions, 0, held.epoch, check=held.check)
        checkpoint.save(b'{"recorded": 1}')
        node.time.now_s += TTL_S / 2 - 0.001
        checkpoint.save(b'{"recorded": 2}')
        node.time.now_s += 0.002
        with pytest.raises(Unavailable):
            checkpoint.save(b'{"recorded": 3}')
        with monkeypatch.context() as patched:
            patched.setattr(coordination.partitions, "renew", _down)
            with pytest.raises(Unavailable):
                await node.keeper.step()
        with pytest.raises(Unavailable):
            held.check()
        await node.keeper.step()
        checkpoint.save(b'{"recorded": 4}')
        assert coordination.partitions.rows()[0].recorded == 4


def _down(*_: object, **__: object) -> None:
    raise Unavailable("down")


@pytest.mark.anyio
async def test_time_counts_from_when_a_renewal_was_sent(
    coordination: Coordination, monkeypatch: pytest.MonkeyPatch
) -> None:
    coordination.partitions.prepare(1)
    node = Node(coordination, "a", {})
    renew = coordination.partitions.renew

    def slow(owner: str, *, ttl_us: int) -> dict[int, int]:
        answer = renew(owner, ttl_us=ttl_us)
        node.time.now_s += TTL_S / 2 + 1  # the answer is under way for so long
        return answer

    async with ended(node.keeper):
        await rounds(node)
        (held,) = node.keeper.held.values()
        monkeypatch.setattr(coordination.partitions, "renew", slow)
        await node.keeper.step()
        with pytest.raises(Unavailable):
            held.check()
        monkeypatch.undo()


@pytest.mark.anyio
async def test_a_node_that_cannot_work_gives_back_and_waits(coordination: Coordination) -> None:
    coordination.partitions.prepare(2)
    node = Node(coordination, "a", {})
    async with ended(node.keeper):
        node.refuse = True
        await rounds(node)
        assert node.has == []
        assert all(row.is_free for row in coordination.partitions.rows())
        node.refuse = False
        await rounds(node)
        assert node.has == []
        node.time.now_s += 10
        await rounds(node)
        assert node.has == [0, 1]


@pytest.mark.anyio
async def test_what_was_taken_by_an_answer_that_got_lost_is_given_back(
    coordination: Coordination,
) -> None:
    coordination.partitions.prepare(1)
    node = Node(coordination, "a", {})
    coordination.partitions.acquire(0, "a", ttl_us=60_000_000)  # as if by a request before
    async with ended(node.keeper):
        await rounds(node)
        assert node.has == [0]


@pytest.mark.anyio
async def test_a_stop_waits_for_the_work_and_gives_back(coordination: Coordination) -> None:
    coordination.partitions.prepare(3)
    finished: list[int] = []

    async def work(held: Held[int]) -> None:
        await held.leaving.wait()
        held.check()
        await asyncio.sleep(0.05)
        FencedCheckpoint(coordination.partitions, held.key, held.epoch).save(b'{"recorded": 1}')
        finished.append(held.key)

    keeper = PartitionKeeper(coordination.partitions, coordination.leases, owner="a", work=work, renew_s=0.01)
    running = asyncio.create_task(keeper.run())
    for _ in range(500):
        await asyncio.sleep(0.01)
        if len(keeper.held) == 3:
            break
    keeper.stop()
    await asyncio.wait_for(running, 10)
    assert sorted(finished) == [0, 1, 2]
    assert all(row.is_free for row in coordination.partitions.rows())
    assert all(holder.is_free for holder in coordination.leases.holders().values())


@pytest.mark.anyio
async def test_jobs_run_on_one_node_and_move_with_what_they_wrote_down(
    coordination: Coordination, tmp_path: Path
) -> None:
    ran: list[tuple[str, bytes | None]] = []

    def keeper_of(name: str) -> JobKeeper:
        async def rollups(held: Held[str]) -> None:
            checkpoint = LeaseCheckpoint(coordination.leases, "rollups", held.epoch, check=held.check)
            ran.append((name, checkpoint.load()))
            checkpoint.save(f"by {name}".encode())
            await held.leaving.wait()

        return JobKeeper(coordination.leases, {"rollups": rollups}, owner=name, ttl_s=TTL_S)

    a, b = keeper_of("a"), keeper_of("b")
    async with ended(a, b):
        for _ in range(3):
            await a.step()
            await b.step()
        assert ran == [("a", None)]
        expire(str(tmp_path / "catalog.db"), "a")
        await b.step()
        await asyncio.sleep(0.05)
        assert ran == [("a", None), ("b", b"by a")]
        await a.step()
        assert [held.is_lost for held in a.held.values()] in ([True], [])


def test_owners_have_names_of_their_own() -> None:
    assert new_owner() != new_owner()
