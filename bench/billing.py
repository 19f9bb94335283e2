"""A month billed: `python -m bench.billing --directory DIR --customers N --events N`, in a process of its own.

The real system with all of its parts, asked through its API without a socket: one meter by model, a plan with a fee and a
charge for each of eight models and one of all usage (ten in all), every customer subscribed for the month. Previews of some
customers, a backtest of all, and the run that makes every invoice final. Whatever is billed is compared with what the events
add up to. Prints one line of JSON.
"""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvloop

from bench.dataset import (
    EVENT_TYPE,
    JUNE_BEGIN_US,
    JUNE_END_US,
    KIND_DATA,
    KIND_MODEL,
    KIND_TOKENS,
    MODELS,
    SOURCE,
    TENANT,
    Dataset,
)
from tallystick import observe
from tallystick.api.app import create_app
from tallystick.catalog.interface import SYSTEM
from tallystick.config import Settings
from tallystick.flows.billing.subscriptions import create_subscription
from tallystick.flows.system import System
from tallystick.metering.event import EventColumns, content_of, identities_of
from tallystick.wiring import start

KEY = "bench-billing-key-0123456789abcdef"
BLOCK_EVENTS = 50_000
PREVIEWS = 200
WARM_UP = 5
BEGIN, END = "2025-06-01T00:00:00Z", "2025-07-01T00:00:00Z"
METER = {
    "key": "tokens",
    "event_type": EVENT_TYPE,
    "aggregation": "sum",
    "value": "$.tokens",
    "dimensions": {"model": "$.model"},
}
_TIERS = [{"up_to": "100000", "unit_amount": "0.00002"}, {"up_to": None, "unit_amount": "0.00001"}]
CHARGES: list[dict[str, Any]] = [
    {"key": "base", "price": {"model": "flat", "amount": "20"}},
    {"key": "all", "meter": "tokens", "price": {"model": "per_unit", "unit_amount": "0.000001"}},
    *(
        {
            "key": model,
            "meter": "tokens",
            "filter": {"model": {"eq": model}},
            "price": {"model": "graduated", "tiers": _TIERS},
        }
        for model in MODELS
    ),
]
TRIED = [
    one if one["key"] == "base" else {**one, "price": {"model": "per_unit", "unit_amount": "0.000015"}}
    for one in CHARGES
]


@dataclass(frozen=True, slots=True)
class Billed:
    """What `--customers` and `--events` took. Seconds."""

    customers: int
    events: int
    run_s: float
    run_cpu_s: float
    invoices: int
    preview_s: list[float]
    preview_cpu_s: float
    backtest_s: float


async def measure(directory: Path, customers: int, events: int, previews: int = PREVIEWS) -> Billed:
    """Raises RuntimeError where anything is not as the events say."""
    observe.configure(level="error", form="json")
    running = await start(Settings(data_dir=str(directory), admin_key=KEY, billing_sweep_s=0))
    app: Any = create_app(running.system)
    transport = httpx.ASGITransport(app=app)
    headers = {"authorization": f"Bearer {KEY}"}
    try:
        async with httpx.AsyncClient(
            transport=transport, base_url="http://bench", headers=headers, timeout=3600
        ) as api:
            await _send(api, "/v1/meters", METER)
            await _send(api, "/v1/plans", {"key": "bench", "currency": "USD", "charges": CHARGES})
            await _send(api, "/v1/plans/bench/publish", {})
            expected = await _fill(running.system, customers, events)
            await asyncio.to_thread(_subscribe, running.system, customers)
            cpu_began = time.process_time()
            preview_s = await _previews(api, customers, previews)
            preview_cpu_s = (time.process_time() - cpu_began) / (previews + WARM_UP)
            began = time.perf_counter()
            body = {
                "from": BEGIN,
                "to": END,
                "plans": [{"key": "bench", "currency": "USD", "charges": TRIED}],
            }
            totals = (await _send(api, "/v1/pricing/backtest", body))["totals"]
            backtest_s = time.perf_counter() - began
            if totals[0]["customers"] != customers or totals[0]["failed"]:
                raise RuntimeError(f"the backtest is of {totals}")
            began, cpu_began = time.perf_counter(), time.process_time()
            report = await _send(api, "/v1/billing/run", {"at": "2025-07-01T02:00:00Z"})
            run_s, run_cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
            if report["finalized"] != customers or report["failed"]:
                raise RuntimeError(
                    f"{report['finalized']} invoices were finalized, failed: {report['failed'][:3]}"
                )
            await _check(api, customers, expected)
    finally:
        await running.stop()
    return Billed(
        customers, events, run_s, run_cpu_s, report["finalized"], preview_s, preview_cpu_s, backtest_s
    )


async def _send(api: httpx.AsyncClient, path: str, body: dict[str, Any]) -> Any:
    answer = await api.post(path, json=body)
    if answer.status_code not in (200, 201):
        raise RuntimeError(f"{path}: {answer.status_code} {answer.text[:500]}")
    return answer.json()


def customer_name(number: int) -> str:
    return f"customer-{number:06d}"


async def _fill(system: System, customers: int, events: int) -> Counter[str]:
    """Record events of the month; tokens by model, as NumPy adds them up. The first events are one of each customer."""
    dataset = Dataset(events)
    sums = np.zeros(len(MODELS), np.int64)
    data = [one.encode() for one in KIND_DATA]
    for first in range(0, events, BLOCK_EVENTS):
        rows = await asyncio.to_thread(dataset.rows, first, BLOCK_EVENTS)
        count = len(rows)
        number = np.arange(first, first + count)
        sums += np.bincount(KIND_MODEL[rows.kind], KIND_TOKENS[rows.kind], len(MODELS)).astype(np.int64)
        # A stride that shares no factor with the number of customers meets each of them as often.
        subject = [customer_name(one) for one in ((number * 7919) % customers).tolist()]
        types, sources = [EVENT_TYPE] * count, [SOURCE] * count
        bodies = [data[kind] for kind in rows.kind.tolist()]
        columns = EventColumns(
            tenant=TENANT,
            received_at_us=time.time_ns() // 1000,
            source=sources,
            id=rows.id,
            type=types,
            subject=subject,
            time_us=JUNE_BEGIN_US + number * ((JUNE_END_US - JUNE_BEGIN_US) // events),
            time_given=np.ones(count, np.bool_),
            data=bodies,
            attributes=[b""] * count,
            identity=identities_of(TENANT, sources, rows.id),
            content=content_of(types, subject, bodies),
        )
        await system.log.append(columns)
        end = system.log.end
        if not await system.recorder.wait_for((end,) if isinstance(end, int) else end, 120):
            raise RuntimeError("the events were not recorded within two minutes")
    return Counter(dict(zip(MODELS, sums.tolist(), strict=True)))


def _subscribe(system: System, customers: int) -> None:
    now_us = system.clock.now_us()
    for number in range(customers):
        raw = {"customer": customer_name(number), "plan": "bench", "start": BEGIN}
        create_subscription(system, TENANT, raw, actor=SYSTEM, now_us=now_us)


async def _previews(api: httpx.AsyncClient, customers: int, previews: int) -> list[float]:
    """Of different customers, one after the other, in the middle of the month; the first few warm up."""
    took: list[float] = []
    for number in range(previews + WARM_UP):
        began = time.perf_counter()
        name = customer_name(number * 37 % customers)
        found = await _send(api, f"/v1/customers/{name}/invoices/preview", {"at": "2025-06-16T00:00:00Z"})
        took.append(time.perf_counter() - began)
        if len(found["lines"]) != len(CHARGES):
            raise RuntimeError(f"a preview has {len(found['lines'])} lines")
    return took[WARM_UP:]


async def _check(api: httpx.AsyncClient, customers: int, expected: Counter[str]) -> None:
    """Every invoice there is, added up by charge."""
    billed: Counter[str] = Counter()
    seen, cursor = 0, ""
    while True:
        answer = await api.get(
            "/v1/invoices", params={"limit": "1000"} | ({"cursor": cursor} if cursor else {})
        )
        page = answer.json()
        for invoice in page["items"]:
            seen += 1
            for line in invoice["lines"]:
                billed[line["charge"]] += int(Decimal(line["quantity"]))
        cursor = page["next_cursor"]
        if not cursor:
            break
    wanted = Counter({**expected, "all": expected.total(), "base": customers})
    if seen != customers or billed != wanted:
        raise RuntimeError(f"{seen} invoices bill {dict(billed)}, events say {dict(wanted)}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--customers", type=int, default=10_000)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--previews", type=int, default=PREVIEWS)
    given = parser.parse_args()
    if not 1 <= given.customers <= given.events or given.customers % 7919 == 0:
        parser.error("--customers must be 1 to the number of events, and no multiple of 7919")
    sys.setswitchinterval(0.001)  # as `serve` sets it
    found = uvloop.run(measure(given.directory, given.customers, given.events, given.previews))
    print(
        json.dumps(
            {
                "run_s": found.run_s,
                "run_cpu_s": found.run_cpu_s,
                "invoices": found.invoices,
                "preview_s": found.preview_s,
                "preview_cpu_s": found.preview_cpu_s,
                "backtest_s": found.backtest_s,
            }
        )
    )


if __name__ == "__main__":
    main()
