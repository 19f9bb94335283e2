"""Callers that race for a limit while the server is killed: never one unit over, never a unit lost.

`TALLYSTICK_GATE_OPERATIONS` says how many operations (100000 for a long run), TALLYSTICK_FAULT_SEED repeats one.
"""

import asyncio
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import httpx
import pytest
from tests.faults.server import KEY, Server

OPERATIONS = int(os.environ.get("TALLYSTICK_GATE_OPERATIONS", "1500"))
CALLERS = 64
LIMITS = {"c0": 200, "c1": 1500, "c2": 4000}
_HEADERS = {"authorization": f"Bearer {KEY}"}
_DOWN_S_MAX = 90.0


@dataclass
class Account:
    """What was acknowledged."""

    done: int = 0
    reserved: dict[str, Decimal] = field(default_factory=dict[str, Decimal])
    settled: dict[str, Decimal] = field(default_factory=dict[str, Decimal])
    released: set[str] = field(default_factory=set[str])
    refused: int = 0
    unanswered: int = 0


class Racer:
    def __init__(self, url: str, seed: int, *, timeout_s: float = 10) -> None:
        self.account = Account()
        self.random = random.Random(seed)
        self._open: list[str] = []
        self._client = httpx.AsyncClient(
            base_url=url, headers=_HEADERS, timeout=timeout_s, limits=httpx.Limits(max_connections=CALLERS)
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def send(self, method: str, path: str, body: Any = None) -> httpx.Response | None:
        """None: no answer; whether it was done is not known."""
        try:
            return await self._client.request(method, path, json=body)
        except httpx.HTTPError:
            self.account.unanswered += 1
            self.account.done -= 1
            await asyncio.sleep(0.1)
            return None

    async def caller(self) -> None:
        while self.account.done < OPERATIONS:
            self.account.done += 1
            await self.step()

    async def step(self) -> None:
        kind = self.random.choices(("reserve", "settle", "release", "check", "batch"), (5, 4, 1, 2, 1))[0]
        customer = self.random.choice(tuple(LIMITS))
        amount = self.random.randint(1, 9)
        if kind == "check":
            answer = await self.send("POST", "/v1/check", ask_of(customer, amount))
            if answer is not None and answer.status_code == 200:
                _consistent(answer.json())
        elif kind == "batch":
            await self._batch()
        elif kind == "reserve" or not self._open:
            ttl_s = self.random.choice((1, 30, 600))
            answer = await self.send(
                "POST", "/v1/reservations", ask_of(customer, amount) | {"ttl_seconds": ttl_s}
            )
            if answer is None:
                return
            if answer.status_code == 201:
                made = answer.json()
                _consistent(made)
                self.account.reserved[made["id"]] = Decimal(amount)
                self._open.append(made["id"])
            else:
                assert answer.status_code in (409, 503), answer.text
                self.account.refused += 1
        else:
            name = self._open.pop(self.random.randrange(len(self._open)))
            await self._end(name, kind)

    async def _batch(self) -> None:
        """Some reservations in one request, and as many questions."""
        asks = [ask_of(self.random.choice(tuple(LIMITS)), self.random.randint(1, 3)) for _ in range(4)]
        items = [ask | {"ttl_seconds": self.random.choice((1, 600))} for ask in asks]
        answer = await self.send("POST", "/v1/reservations/batch", {"items": items})
        if answer is not None and answer.status_code == 200:
            for ask, made in zip(asks, answer.json()["items"], strict=True):
                if made.get("id") is None:
                    assert made["status"] in (409, 503), made
                    self.account.refused += 1
                    continue
                _consistent(made)
                self.account.reserved[made["id"]] = Decimal(ask["amount"])
                self._open.append(made["id"])
        answer = await self.send("POST", "/v1/check/batch", {"items": asks})
        if answer is not None and answer.status_code == 200:
            for receipt in answer.json()["items"]:
                if "rule" in receipt and receipt.get("status") is None:
                    _consistent(receipt)

    async def _end(self, name: str, kind: str) -> None:
        if kind == "release":
            answer = await self.send("POST", f"/v1/reservations/{name}/release")
            if answer is not None and answer.status_code == 200:
                self.account.released.add(name)
            return
        more = self.random.choice((0, 0, -1, 3))
        amount = max(Decimal(1), self.account.reserved[name] + more)
        answer = await self.send("POST", f"/v1/reservations/{name}/settle", {"amount": str(amount)})
        if answer is None:
            self._open.append(name)  # asked again, with any amount: the first one counts
        elif answer.status_code == 200:
            _consistent(answer.json())
            self.account.settled[name] = amount
        else:
            assert answer.status_code in (409, 503), answer.text


def ask_of(customer: str, amount: int) -> dict[str, Any]:
    return {"customer": customer, "meter": "units", "amount": amount}


def _consistent(receipt: dict[str, Any]) -> None:
    if receipt["limit"] is None:
        return
    used, held, limit = (Decimal(receipt[name]) for name in ("used", "held", "limit"))
    assert used + held <= limit, receipt
    assert Decimal(receipt["remaining"]) == limit - used - held, receipt


async def ready(racer: Racer) -> None:
    until_s = time.monotonic() + _DOWN_S_MAX
    while time.monotonic() < until_s:
        answer = await racer.send("POST", "/v1/check", ask_of("c0", 1))
        if answer is not None and answer.status_code == 200:
            return
        await asyncio.sleep(0.2)
    raise AssertionError("The gate does not come back.")


async def _race(server: Server, seed: int) -> None:
    racer = Racer(server.url, seed)
    try:
        await prepare(racer)
        callers = [asyncio.create_task(racer.caller()) for _ in range(CALLERS)]
        for part in (1, 2):
            while racer.account.done < OPERATIONS * part // 3:
                await asyncio.sleep(0.01)
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            await ready(racer)
        await asyncio.gather(*callers)
        await ready(racer)
        await settle_up(racer)
    finally:
        await racer.close()
    print(f"operations={racer.account.done} {len(racer.account.reserved)=} {len(racer.account.settled)=}")


async def prepare(racer: Racer) -> None:
    meter = {"key": "units", "event_type": "use", "aggregation": "sum", "value": "$.n"}
    assert (await racer.send("POST", "/v1/meters", meter)).status_code == 201  # pyright: ignore
    for customer, amount in LIMITS.items():
        await racer.send("POST", "/v1/customers", {"key": customer})
        limit = {
            "key": f"of-{customer}",
            "customer": customer,
            "meter": "units",
            "amount": amount,
            "period": "month",
        }
        made = await racer.send("POST", "/v1/limits", limit)
        assert made is not None
        assert made.status_code == 201, made.text


async def settle_up(racer: Racer) -> None:
    """Every reservation is what it was acknowledged to be; what is settled is what is billed, and what is used."""
    found: dict[str, dict[str, Any]] = {}
    cursor = ""
    while True:
        page = await racer.send("GET", f"/v1/reservations?limit=1000{cursor}")
        assert page is not None
        assert page.status_code == 200, page.text
        found |= {one["id"]: one for one in page.json()["items"]}
        if page.json()["next_cursor"] is None:
            break
        cursor = f"&cursor={page.json()['next_cursor']}"
    account = racer.account
    assert account.reserved.keys() <= found.keys(), "a reservation is lost"
    for name, amount in account.settled.items():
        assert (found[name]["state"], Decimal(found[name]["settled_amount"])) == ("settled", amount)
    for name in account.released:
        assert found[name]["state"] == "released"
    settled: dict[str, Decimal] = dict.fromkeys(LIMITS, Decimal(0))
    held: dict[str, Decimal] = dict.fromkeys(LIMITS, Decimal(0))
    for one in found.values():
        if one["state"] == "settled":
            settled[one["customer"]] += Decimal(one["settled_amount"])
    positions = [one["position"] for one in found.values() if one["position"]]
    for position in positions[-1:]:
        await racer.send("GET", f"/v1/meters/units/usage?min_position={position}")
    await asyncio.sleep(1)
    for one in found.values():
        if one["state"] == "held":
            again = await racer.send("POST", f"/v1/reservations/{one['id']}/release")
            assert again is not None
            assert again.status_code in (200, 409), again.text
    for customer, limit in LIMITS.items():
        answer = await racer.send("GET", f"/v1/meters/units/usage?customer={customer}")
        assert answer is not None
        rows = answer.json()["rows"]
        usage = Decimal(rows[0]["value"]) if rows else Decimal(0)
        assert usage == settled[customer] <= limit, (customer, usage, settled[customer])
        stands = await racer.send("POST", "/v1/check", ask_of(customer, 1))
        assert stands is not None
        assert (Decimal(stands.json()["used"]), Decimal(stands.json()["held"])) == (usage, held[customer])


@pytest.mark.slow
def test_never_one_over_and_never_one_lost(make_server: Callable[..., Server], seed: int) -> None:
    server = make_server()
    server.start()
    asyncio.run(_race(server, seed))
