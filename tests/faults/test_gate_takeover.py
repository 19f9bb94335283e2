"""The gate of a cluster changes its owner under load: killed, and frozen until another has taken over.

Callers race at both API processes all the while, as in test_gate.py: never one unit over, never a unit lost. An owner that was
frozen is fenced: what it decides afterwards is not written, and it answers nothing from what it knew. TALLYSTICK_FAULT_SEED
repeats a run.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.cluster.processes import Cluster, Member, unusual
from tests.faults.test_gate import Racer, ask_of, prepare, ready, settle_up

from tallystick.catalog.coordination import Coordination
from tallystick.flows.limits.owner import JOB

pytestmark = pytest.mark.slow

CALLERS = 16
OPERATIONS_A_PHASE = 100
_TAKEN_S_MAX = 120.0
_ANSWER_S_MAX = 2.0
"""Who asks the frozen process asks again after this."""
_REFUSALS = {"gate_not_ready", "unavailable", "usage_unknown"}


class ClusterRacer(Racer):
    """Each call at whichever API process comes."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        super().__init__(cluster.of_role("api")[0].url, seed, timeout_s=_ANSWER_S_MAX)
        self.members = cluster.of_role("api")
        self.codes: Counter[str] = Counter()
        self.is_over = False

    async def send(self, method: str, path: str, body: Any = None) -> httpx.Response | None:
        member = self.random.choice(self.members)
        answer = await super().send(method, member.url + path, body)
        if answer is not None and answer.status_code == 500:
            raise AssertionError("".join(f"--- {one.name}\n{unusual(one)}\n" for one in self.members))
        if answer is not None and answer.status_code == 503:
            self.codes[answer.json()["code"]] += 1
            await asyncio.sleep(0.05)
        return answer

    async def caller(self) -> None:
        while not self.is_over:
            self.account.done += 1
            await self.step()


class Owner:
    """Who has the lease of the gate, as the database has it."""

    def __init__(self, cluster: Cluster) -> None:
        self._members = cluster.of_role("api")
        self._coordination = Coordination(cluster.catalog_url)

    def now(self) -> Member | None:
        holder = self._coordination.leases.holders().get(JOB)
        if holder is None or holder.is_free:
            return None
        number = int(holder.owner.split(":")[1])
        running = (one for one in self._members if one.process is not None and one.process.pid == number)
        return next(running, None)

    async def becomes(self, wanted: Callable[[Member], bool]) -> tuple[Member, float]:
        """Once somebody wanted owns it and answers; and how long that took."""
        begun = time.monotonic()
        while time.monotonic() - begun < _TAKEN_S_MAX:
            found = await asyncio.to_thread(self.now)
            if found is not None and wanted(found) and await _is_open(found):
                return found, time.monotonic() - begun
            await asyncio.sleep(0.1)
        raise AssertionError("Nobody takes the gate over.")

    def close(self) -> None:
        self._coordination.close()


async def _is_open(member: Member) -> bool:
    """It answers from balances of its own, and hands nothing on."""
    headers = _headers() | {"x-tallystick-forwarded": "1"}
    async with httpx.AsyncClient(timeout=10, headers=headers) as client:
        try:
            answer = await client.post(member.url + "/v1/check", json=ask_of("c0", 1))
        except httpx.HTTPError:
            return False
    return answer.status_code == 200 and answer.json()["limit"] is not None


def _headers() -> dict[str, str]:
    from tests.faults.server import KEY

    return {"authorization": f"Bearer {KEY}"}


async def _goes_on(racer: ClusterRacer) -> None:
    wanted = racer.account.done + OPERATIONS_A_PHASE
    until = time.monotonic() + 180
    while racer.account.done < wanted:
        assert time.monotonic() < until, "calls are not answered any more"
        await asyncio.sleep(0.05)


async def _race(cluster: Cluster, seed: int) -> None:
    racer, owner = ClusterRacer(cluster, seed), Owner(cluster)
    try:
        await prepare(racer)
        first, _ = await owner.becomes(lambda member: True)
        second = next(one for one in racer.members if one is not first)
        await _handed_on(first, second)
        callers = [asyncio.create_task(racer.caller()) for _ in range(CALLERS)]
        await _goes_on(racer)

        await asyncio.to_thread(first.kill)
        _, killed_s = await owner.becomes(lambda member: member is second)
        await _goes_on(racer)
        await asyncio.to_thread(first.start)
        await asyncio.to_thread(first.wait_live)

        second.freeze()
        _, frozen_s = await owner.becomes(lambda member: member is first)
        await _goes_on(racer)
        second.thaw()
        # It wakes with a gate open, and a lease that is another's.
        assert not await _is_open(second)
        await _goes_on(racer)
        assert await asyncio.to_thread(owner.now) is first

        racer.is_over = True
        await asyncio.gather(*callers)
        await ready(racer)
        await settle_up(racer)
        assert racer.codes.keys() <= _REFUSALS, racer.codes
    finally:
        racer.is_over = True
        owner.close()
        await racer.close()
    account = racer.account
    print(f"taken over after {killed_s:.1f} s (killed), {frozen_s:.1f} s (frozen); {racer.codes=}")
    print(f"operations={account.done} {len(account.reserved)=} {len(account.settled)=} {account.unanswered=}")


async def _handed_on(owner: Member, other: Member) -> None:
    """What arrives at the wrong process is answered by the owner; and refused where it was handed on to the wrong one."""
    async with httpx.AsyncClient(timeout=60, headers=_headers()) as client:
        made = await client.post(other.url + "/v1/reservations", json=ask_of("c0", 1))
        assert made.status_code == 201, made.text
        path = made.headers["location"]
        assert (await client.get(owner.url + path)).json()["state"] == "held"
        released = await client.post(other.url + path + "/release")
        assert (released.status_code, released.json()["state"]) == (200, "released")
        wrong = await client.post(
            other.url + "/v1/reservations", json=ask_of("c0", 1), headers={"x-tallystick-forwarded": "1"}
        )
        assert (wrong.status_code, wrong.json()["code"]) == (503, "gate_not_ready")


def test_another_takes_the_gate_over_and_the_old_owner_is_fenced(tmp_path: Path, seed: int) -> None:
    with Cluster(tmp_path, partitions=1, apis=2, recorders=1, workers=0, nats=1, warm=True) as cluster:
        asyncio.run(_race(cluster, seed))
