"""What leases, partitions and barriers do, on every backend. Subclasses bring `coordination` and `another`, two as two
processes would open them, on one migrated database; and `side_door`, which runs SQL past the code under test."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from msgspec import json

from tallystick.catalog.coordination import Coordination
from tallystick.catalog.leases import LeaseCheckpoint, LeaseLostError
from tallystick.catalog.partitions import FencedCheckpoint, Progress, watermark_us
from tallystick.errors import Invalid

TTL_US = 60_000_000
SideDoor = Callable[[str], list[Any]]


def state(recorded: int = 0, moment_us: int = 0, **members: Any) -> bytes:
    return json.encode({"recorded": recorded, "recorded_at_us": moment_us, "generation": 7, **members})


def expire(side_door: SideDoor) -> None:
    """Let a minute and more pass for all leases: cheaper than to wait, and the database's clock stays its own."""
    for table in ("leases", "partitions"):
        side_door(f"UPDATE {table} SET until_us = until_us - {2 * TTL_US} WHERE until_us > 0")


def race(calls: list[Callable[[], Any]]) -> list[Any]:
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        barrier.wait(60)
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


class LeasesContract:
    def test_one_has_it_until_its_time_is_over(
        self, coordination: Coordination, another: Coordination, side_door: SideDoor
    ) -> None:
        first = coordination.leases.acquire("rollups", "a", ttl_us=TTL_US)
        assert first is not None
        assert another.leases.acquire("rollups", "b", ttl_us=TTL_US) is None
        assert coordination.leases.renew("a", ttl_us=TTL_US) == {"rollups": first}
        assert another.leases.renew("b", ttl_us=TTL_US) == {}
        expire(side_door)
        assert another.leases.holders()["rollups"].is_free
        second = another.leases.acquire("rollups", "b", ttl_us=TTL_US)
        assert second is not None
        assert second > first
        assert coordination.leases.renew("a", ttl_us=TTL_US) == {}
        assert coordination.leases.acquire("rollups", "a", ttl_us=TTL_US) is None

    def test_one_that_is_over_and_that_nobody_took_can_be_renewed(
        self, coordination: Coordination, another: Coordination, side_door: SideDoor
    ) -> None:
        epoch = coordination.leases.acquire("x", "a", ttl_us=TTL_US)
        expire(side_door)
        assert coordination.leases.renew("a", ttl_us=TTL_US) == {"x": epoch}
        assert another.leases.acquire("x", "b", ttl_us=TTL_US) is None

    def test_given_back_it_is_free_at_once_and_its_epoch_is_over(
        self, coordination: Coordination, another: Coordination
    ) -> None:
        assert another.leases.peek("x") is None
        first = coordination.leases.acquire("x", "a", ttl_us=TTL_US)
        assert first is not None
        assert another.leases.peek("x") is None
        coordination.leases.save("x", first, b"1")
        assert another.leases.peek("x") == b"1"
        assert coordination.leases.release("x", first)
        assert not coordination.leases.release("x", first)
        with pytest.raises(LeaseLostError):
            coordination.leases.save("x", first, b"2")
        second = another.leases.acquire("x", "b", ttl_us=TTL_US)
        assert second is not None
        assert another.leases.load("x", second) == b"1"

    def test_taken_again_by_its_owner_shuts_out_what_that_did_before(
        self, coordination: Coordination
    ) -> None:
        first = coordination.leases.acquire("x", "a", ttl_us=TTL_US)
        second = coordination.leases.acquire("x", "a", ttl_us=TTL_US)
        assert first is not None
        assert second is not None
        with pytest.raises(LeaseLostError):
            LeaseCheckpoint(coordination.leases, "x", first).save(b"late")
        assert LeaseCheckpoint(coordination.leases, "x", second).load() is None

    def test_of_many_that_race_one_gets_it(
        self, coordination: Coordination, another: Coordination, side_door: SideDoor
    ) -> None:
        for _ in range(5):
            got = race(
                [
                    lambda where=where, n=n: where.leases.acquire("x", f"owner-{n}", ttl_us=TTL_US)
                    for n, where in enumerate([coordination, another] * 4)
                ]
            )
            assert len([epoch for epoch in got if epoch is not None]) == 1
            expire(side_door)

    def test_nodes_that_are_gone_are_forgotten(self, coordination: Coordination, side_door: SideDoor) -> None:
        coordination.leases.acquire("node/a", "a", ttl_us=TTL_US)
        coordination.leases.acquire("job", "a", ttl_us=TTL_US)
        assert coordination.leases.forget("node/", older_than_us=0) == 0
        expire(side_door)
        assert coordination.leases.forget("node/", older_than_us=TTL_US // 2) == 1
        assert set(coordination.leases.holders()) == {"job"}


class PartitionsContract:
    @pytest.mark.parametrize("count", [0, -1, 65])
    def test_their_number_is_bounded(self, coordination: Coordination, count: int) -> None:
        with pytest.raises(Invalid):
            coordination.partitions.prepare(count)

    def test_their_number_is_fixed(self, coordination: Coordination, another: Coordination) -> None:
        race([lambda: coordination.partitions.prepare(3), lambda: another.partitions.prepare(3)])
        assert [row.partition for row in coordination.partitions.rows()] == [0, 1, 2]
        with pytest.raises(Invalid) as error:
            another.partitions.prepare(4)
        assert error.value.code == "invalid_setting"

    def test_what_is_saved_everybody_may_know(
        self, coordination: Coordination, another: Coordination
    ) -> None:
        coordination.partitions.prepare(2)
        epoch = coordination.partitions.acquire(1, "a", ttl_us=TTL_US)
        assert epoch is not None
        checkpoint = FencedCheckpoint(coordination.partitions, 1, epoch)
        assert checkpoint.load() is None
        written = state(5, 77, events=3, duplicates=2, conflicts=1)
        checkpoint.save(written)
        assert checkpoint.load() == written
        free, row = another.partitions.rows()
        assert (free.is_free, free.owner, free.version) == (True, "", 0)
        assert (row.owner, row.epoch, row.is_free, row.version) == ("a", epoch, False, 1)
        assert (row.recorded, row.published_us, row.events, row.duplicates, row.conflicts) == (5, 77, 3, 2, 1)
        assert another.partitions.states([0, 1]) == {1: (1, written)}
        assert watermark_us(another.partitions.rows()) == 0

    def test_a_heartbeat_moves_the_moment_and_never_back(self, coordination: Coordination) -> None:
        coordination.partitions.prepare(1)
        epoch = coordination.partitions.acquire(0, "a", ttl_us=TTL_US)
        assert epoch is not None
        checkpoint = FencedCheckpoint(coordination.partitions, 0, epoch)
        checkpoint.save(state(1, 100))
        checkpoint.publish(150)
        checkpoint.publish(120)
        assert coordination.partitions.rows()[0].published_us == 150
        checkpoint.save(state(1, 110))
        assert coordination.partitions.rows()[0].published_us == 150
        checkpoint.save(state(2, 160))
        assert watermark_us(coordination.partitions.rows()) == 160

    def test_a_recorder_that_wakes_after_its_time_writes_nothing(
        self, coordination: Coordination, another: Coordination, side_door: SideDoor
    ) -> None:
        coordination.partitions.prepare(1)
        old = coordination.partitions.acquire(0, "a", ttl_us=TTL_US)
        assert old is not None
        frozen = FencedCheckpoint(coordination.partitions, 0, old)
        frozen.save(state(1, 10))
        expire(side_door)
        new = another.partitions.acquire(0, "b", ttl_us=TTL_US)
        assert new is not None
        taken_over = FencedCheckpoint(another.partitions, 0, new)
        assert taken_over.load() == state(1, 10)
        taken_over.save(state(2, 20))
        for write in (lambda: frozen.save(state(9, 90)), lambda: frozen.publish(90), frozen.load):
            with pytest.raises(LeaseLostError):
                write()
        assert taken_over.load() == state(2, 20)
        assert coordination.partitions.rows()[0].published_us == 20

    def test_doubts_of_the_process_come_before_the_write(self, coordination: Coordination) -> None:
        def doubt() -> None:
            raise LeaseLostError("not renewed in time")

        coordination.partitions.prepare(1)
        epoch = coordination.partitions.acquire(0, "a", ttl_us=TTL_US)
        assert epoch is not None
        with pytest.raises(LeaseLostError):
            FencedCheckpoint(coordination.partitions, 0, epoch, check=doubt).save(state(1))
        assert coordination.partitions.states([0]) == {}

    def test_a_state_that_is_none_is_refused(self, coordination: Coordination) -> None:
        coordination.partitions.prepare(1)
        epoch = coordination.partitions.acquire(0, "a", ttl_us=TTL_US)
        assert epoch is not None
        with pytest.raises(ValueError, match="Progress"):
            coordination.partitions.save(0, epoch, b'{"recorded": "x"}')

    def test_takeovers_that_race_with_saves_lose_no_count(
        self, coordination: Coordination, another: Coordination
    ) -> None:
        """Every owner adds one to what it has loaded, under its epoch; the sum is the number of saves that stood."""
        coordination.partitions.prepare(1)
        stood: Counter[str] = Counter()

        def work(where: Coordination, owner: str) -> None:
            for _ in range(25):
                epoch = where.partitions.acquire(0, owner, ttl_us=0)  # over at once: anybody may take it
                if epoch is None:
                    continue
                try:
                    before = json.decode(where.partitions.load(0, epoch) or b"{}", type=Progress)
                    where.partitions.save(0, epoch, state(before.recorded + 1))
                except LeaseLostError:
                    continue
                stood[owner] += 1

        race([lambda n=n: work((coordination, another)[n % 2], f"owner-{n}") for n in range(4)])
        assert coordination.partitions.rows()[0].recorded == stood.total() > 0


class BarriersContract:
    def _recorders(self, coordination: Coordination, count: int) -> list[int]:
        coordination.partitions.prepare(count)
        epochs = [coordination.partitions.acquire(n, "a", ttl_us=TTL_US) for n in range(count)]
        assert None not in epochs
        return [epoch for epoch in epochs if epoch is not None]

    def test_from_opening_to_the_outcome(self, coordination: Coordination, another: Coordination) -> None:
        epochs = self._recorders(coordination, 3)
        opened = coordination.barriers.open("0:17", [17, 4, 9], b"close b1", epoch=epochs[0])
        assert coordination.barriers.open("0:17", [99, 99, 99], b"other", epoch=epochs[0]) == opened
        assert (opened.ends, opened.plan, opened.moment_us) == ((17, 4, 9), b"close b1", None)
        assert another.barriers.waiting() == [opened]
        another.barriers.arrive(opened, 2, epoch=epochs[2], floor_us=500)
        another.barriers.arrive(opened, 2, epoch=epochs[2], floor_us=600)
        seen = coordination.barriers.arrive(opened, 0, epoch=epochs[0], floor_us=550)
        assert (seen.arrived, seen.moment_us) == ({0, 2}, None)
        fixed = coordination.barriers.arrive(opened, 1, epoch=epochs[1], floor_us=50)
        assert fixed.moment_us == 600
        again = coordination.barriers.arrive(opened, 1, epoch=epochs[1], floor_us=9_999)
        assert again == fixed
        for partition in (1, 0, 2):
            assert not coordination.barriers.waiting()[0].is_done
            outcome = f"outcome {partition}".encode()
            coordination.barriers.finish(fixed, partition, epoch=epochs[partition], outcome=outcome)
            coordination.barriers.finish(fixed, partition, epoch=epochs[partition], outcome=b"second")
        assert another.barriers.waiting()[0].is_done
        assert another.barriers.outcomes(fixed) == {0: b"outcome 0", 1: b"outcome 1", 2: b"outcome 2"}
        another.barriers.close(fixed, epoch=epochs[0])
        assert another.barriers.waiting() == []
        found = coordination.barriers.find("0:17")
        assert found is not None
        assert found.is_done
        assert coordination.barriers.find("0:18") is None

    def test_they_are_dealt_with_in_order_and_old_ones_forgotten(self, coordination: Coordination) -> None:
        (epoch,) = self._recorders(coordination, 1)
        for n in range(5):
            coordination.barriers.open(f"0:{n}", [n], b"", epoch=epoch)
        waiting = coordination.barriers.waiting()
        assert [barrier.ends for barrier in waiting] == [(n,) for n in range(5)]
        for barrier in waiting[:4]:
            coordination.barriers.arrive(barrier, 0, epoch=epoch, floor_us=1)
            coordination.barriers.finish(barrier, 0, epoch=epoch, outcome=b"")
            coordination.barriers.close(barrier, epoch=epoch)
        assert coordination.barriers.forget(keep=3) == 2
        assert coordination.barriers.find("0:1") is None
        assert coordination.barriers.find("0:2") is not None
        assert coordination.barriers.waiting() == waiting[4:]

    def test_an_owner_of_before_takes_no_step(
        self, coordination: Coordination, another: Coordination, side_door: SideDoor
    ) -> None:
        epochs = self._recorders(coordination, 1)
        opened = coordination.barriers.open("0:1", [1], b"", epoch=epochs[0])
        expire(side_door)
        new = another.partitions.acquire(0, "b", ttl_us=TTL_US)
        assert new is not None
        for step in (
            lambda: coordination.barriers.open("0:2", [2], b"", epoch=epochs[0]),
            lambda: coordination.barriers.arrive(opened, 0, epoch=epochs[0], floor_us=1),
            lambda: coordination.barriers.finish(opened, 0, epoch=epochs[0], outcome=b""),
            lambda: coordination.barriers.close(opened, epoch=epochs[0]),
        ):
            with pytest.raises(LeaseLostError):
                step()
        assert another.barriers.waiting() == [opened]
        assert another.barriers.arrive(opened, 0, epoch=new, floor_us=7).moment_us == 7

    def test_all_that_arrive_at_once_see_one_moment(
        self, coordination: Coordination, another: Coordination
    ) -> None:
        epochs = self._recorders(coordination, 6)
        for n in range(4):
            opened = coordination.barriers.open(f"0:{n}", [0] * 6, b"", epoch=epochs[0])
            race(
                [
                    lambda where=where, p=p, barrier=opened: where.barriers.arrive(
                        barrier, p, epoch=epochs[p], floor_us=100 + p
                    )
                    for p, where in enumerate([coordination, another] * 3)
                ]
            )
            seen = another.barriers.find(f"0:{n}")
            assert seen is not None
            assert seen.moment_us == 105


class CoordinationContract(LeasesContract, PartitionsContract, BarriersContract):
    def test_any_history_is_as_the_model_says(self, coordination: Coordination, side_door: SideDoor) -> None:
        """Owners acquire, renew, save, give back, and time passes, in any order."""
        leases = coordination.leases

        class History(RuleBasedStateMachine):
            @initialize()
            def begin(self) -> None:
                side_door("DELETE FROM leases")
                self.owner, self.epoch, self.state, self.is_over = "", 0, None, True
                self.epochs: dict[str, int] = {}

            @rule(owner=st.sampled_from("abc"))
            def acquire(self, owner: str) -> None:
                got = leases.acquire("x", owner, ttl_us=TTL_US)
                if self.is_over or owner == self.owner:
                    self.epoch += 1
                    assert got == self.epoch
                    self.owner, self.is_over = owner, False
                    self.epochs[owner] = self.epoch
                else:
                    assert got is None

            @rule(owner=st.sampled_from("abc"))
            def renew(self, owner: str) -> None:
                kept = {"x": self.epoch} if owner == self.owner else {}
                assert leases.renew(owner, ttl_us=TTL_US) == kept
                self.is_over = self.is_over and not kept

            @rule(owner=st.sampled_from("abc"), value=st.binary(max_size=3))
            def save(self, owner: str, value: bytes) -> None:
                epoch = self.epochs.get(owner, 0)
                if epoch == self.epoch and epoch:
                    leases.save("x", epoch, value)
                    self.state = value
                else:
                    with pytest.raises(LeaseLostError):
                        leases.save("x", epoch or 10_000, value)

            @rule(owner=st.sampled_from("abc"))
            def release(self, owner: str) -> None:
                epoch = self.epochs.get(owner, 0)
                is_ours = epoch == self.epoch and epoch > 0
                assert leases.release("x", epoch or 10_000) == is_ours
                if is_ours:
                    self.owner, self.is_over = "", True
                    self.epoch += 1

            @rule()
            def time_passes(self) -> None:
                expire(side_door)
                self.is_over = True

            @invariant()
            def state_is_kept(self) -> None:
                holder = leases.holders().get("x")
                if holder is not None:
                    assert (holder.owner, holder.epoch, holder.is_free) == (
                        self.owner,
                        self.epoch,
                        self.is_over,
                    )
                    assert leases.load("x", self.epoch) == self.state

        run_state_machine_as_test(
            History,
            settings=settings(
                max_examples=15,
                stateful_step_count=15,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
