"""Rate limits, guessing slowed, and fair shares of the way in."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.api.buckets import Buckets
from tallystick.api.rates import Rates
from tallystick.api.shares import HELD_BYTES_MAX, REQUEST_BYTES, Shares, weight_of
from tallystick.config import Settings
from tallystick.errors import TooManyRequests

EVENT = {"id": "1", "type": "call", "subject": "acme"}


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """No time passes for the buckets, however slow the machine is."""
    monkeypatch.setattr("tallystick.api.buckets.time", SimpleNamespace(monotonic=lambda: 100.0))


def run(coroutine: Any) -> None:
    asyncio.run(coroutine)


@given(
    st.lists(st.tuples(st.floats(0, 3), st.integers(1, 5)), max_size=60),
    st.integers(1, 4),
    st.integers(1, 10),
)
def test_a_bucket_gives_what_a_plain_one_does(steps: list[tuple[float, int]], rate: int, burst: int) -> None:
    now_s = 0.0
    bucket = Buckets(rate, burst, monotonic_s=lambda: now_s)
    level, at_s = float(burst), 0.0
    for passed_s, amount in steps:
        now_s += passed_s
        level, at_s = min(burst, level + (now_s - at_s) * rate), now_s
        wait_s = bucket.wait_s("k")
        assert wait_s == pytest.approx(max(0.0, (1 - level) / rate), abs=1e-6)
        if wait_s == 0:
            bucket.take("k", amount)
            level -= amount


def test_buckets_are_bounded() -> None:
    now_s = 0.0
    buckets = Buckets(1, 2, keys_max=10, monotonic_s=lambda: now_s)
    for number in range(1000):
        now_s += 0.01
        buckets.take(number)
        assert len(buckets._full_at_s) <= 10


def test_a_key_and_its_tenant_are_limited(start: Any, still: None) -> None:
    async def check() -> None:
        async with start(key_requests_per_s_max=2, tenant_requests_per_s_max=3) as running:
            secrets = [await asyncio.to_thread(running.key, "events:write") for _ in range(2)]
            answers = []
            for number in range(12):
                secret = secrets[number // 6]
                headers = {"authorization": f"Bearer {secret}"}
                answers.append(await running.events(EVENT, headers=headers))
            codes = [answer.status_code for answer in answers]
            # A burst of 2 s each: 4 of the first key; the tenant's 6 leave 2 to the second.
            assert codes == [202] * 4 + [429] * 2 + [202] * 2 + [429] * 4
            refused = answers[-1]
            assert refused.json()["code"] == "rate_limited"
            assert "tenant_requests_per_s_max" in refused.json()["detail"]
            assert int(refused.headers["retry-after"]) >= 1

    run(check())


def test_events_are_limited_and_a_large_request_is_paid_off(start: Any, still: None) -> None:
    async def check() -> None:
        async with start(tenant_events_per_s_max=10) as running:
            many = [{**EVENT, "id": str(number)} for number in range(50)]
            assert (await running.events(many)).status_code == 202
            refused = await running.events(EVENT)
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "4")

    run(check())


def test_guessing_is_slowed_and_keys_in_use_go_on(start: Any, still: None) -> None:
    async def check() -> None:
        async with start(failed_keys_per_minute_max=60) as running:
            assert (await running.events(EVENT)).status_code == 202
            codes = []
            for number in range(80):
                headers = {"authorization": f"Bearer guess-{number}"}
                codes.append((await running.client.get("/v1/nothing", headers=headers)).status_code)
                codes.append((await running.events(EVENT, headers=headers)).status_code)
            assert set(codes[::2]) == {404}
            assert codes[1::2][:60] == [401] * 60
            assert set(codes[1::2][60:]) == {429}
            assert (await running.events(EVENT)).status_code == 202

    run(check())


# -- shares ---------------------------------------------------------------------------------------------------------
def test_weights() -> None:
    assert weight_of(b"100", compressed=False) == REQUEST_BYTES + 100
    assert weight_of(b"100", compressed=True) == REQUEST_BYTES + 400
    assert weight_of(b"9" * 11, compressed=False) == HELD_BYTES_MAX
    assert weight_of(b"x", compressed=False) == weight_of(None, compressed=False) > REQUEST_BYTES


def test_a_flood_waits_for_itself_alone() -> None:
    async def check() -> None:
        shares = Shares(100)
        assert all(shares.enter("flood", 10) for _ in range(10))
        assert not shares.enter("flood", 10)
        waiting = [asyncio.create_task(shares.wait("flood", 10)) for _ in range(3)]
        await asyncio.sleep(0)
        assert shares.enter("small", 10)  # at once, however much the other one holds
        assert not shares.enter("flood", 1)  # behind those that wait
        for _ in range(5):
            shares.leave("flood", 10)
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)  # its share is a half now
        shares.leave("flood", 10)
        await asyncio.sleep(0)
        assert [task.done() for task in waiting] == [True, False, False]
        shares.leave("small", 10)
        await asyncio.gather(*waiting)
        for _ in range(7):
            shares.leave("flood", 10)
        assert shares._held == shares._waiting == {}

    run(check())


def test_who_waits_too_long_is_told(monkeypatch: Any) -> None:
    async def check() -> None:
        monkeypatch.setattr("tallystick.api.shares.WAIT_S_MAX", 0.01)
        monkeypatch.setattr("tallystick.api.shares.WAITING_MAX", 2)
        shares = Shares(100)
        assert shares.enter("flood", 100)
        waiting = [asyncio.create_task(shares.wait("flood", 10)) for _ in range(3)]
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(answer) for answer in answers] == [TooManyRequests] * 3
        shares.leave("flood", 100)
        assert shares._held == shares._waiting == {}

    run(check())


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 120), st.booleans()), max_size=80))
def test_nothing_is_lost_or_held_for_ever(steps: list[tuple[str, int, bool]]) -> None:
    async def check() -> None:
        shares = Shares(100)
        inside: list[tuple[str, int]] = []
        waiting: list[asyncio.Task[None]] = []

        async def wait(tenant: str, weight: int) -> None:
            await shares.wait(tenant, weight)
            inside.append((tenant, weight))

        for tenant, weight, leaves in steps:
            if leaves and inside:
                shares.leave(*inside.pop(0))
            elif leaves and waiting:
                waiting.pop().cancel()
            elif shares.enter(tenant, weight):
                inside.append((tenant, weight))
            else:
                waiting.append(asyncio.create_task(wait(tenant, weight)))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            held: dict[str, int] = {}
            for name, amount in inside:
                held[name] = held.get(name, 0) + amount
            assert shares._held == held
        for _ in range(len(steps) + 1):
            if inside:
                shares.leave(*inside.pop(0))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert shares._held == shares._waiting == {}

    run(check())


def test_several_servers_share_a_limit() -> None:
    settings = Settings(tenant_events_per_s_max=100, api_servers=4)
    rates = Rates(settings, monotonic_s=lambda: 100.0)
    rates.took_events("t", 49)  # a quarter of 100 a second, for two seconds, would be 50
    rates.check_events("t")
    rates.took_events("t", 1)
    with pytest.raises(TooManyRequests):
        rates.check_events("t")
    whole = Rates(Settings(tenant_events_per_s_max=100), monotonic_s=lambda: 100.0)
    whole.took_events("t", 51)
    whole.check_events("t")
