"""What deriving readings costs, by kind of meter: microseconds an event and meter. `python bench/derive.py [events]`."""

import random
import sys
import time

import pyarrow as pa

from tallystick.metering.event import TIMESTAMP
from tallystick.metering.meter import Aggregation, Dimension, Meter
from tallystick.metering.reading import derive

ROUNDS = 3


def events_of(count: int) -> pa.Table:
    draw = random.Random(7)
    data = [
        (
            f'{{"tokens":{draw.randrange(5000)},"cost":{draw.random() / 100!r},"model":"m-{draw.randrange(8)}",'
            f'"region":"r{draw.randrange(4)}","status":"{draw.choice(["ok", "ok", "ok", "failed"])}",'
            f'"usage":{{"input":{draw.randrange(900)}}},"request":"{draw.getrandbits(64):016x}"}}'
        ).encode()
        for _ in range(count)
    ]
    names = pa.array([f"customer-{draw.randrange(300)}" for _ in range(count)]).dictionary_encode()
    return pa.table(
        {
            "tenant": pa.array(["default"] * count).dictionary_encode(),
            "source": pa.array(["/"] * count).dictionary_encode(),
            "id": pa.array([str(number) for number in range(count)]),
            "type": pa.array(["llm.completion"] * count).dictionary_encode(),
            "subject": names,
            "time": pa.array(range(count), pa.int64()).cast(TIMESTAMP),
            "data": pa.array(data, pa.binary()),
            "customer": names,
            "position": pa.array(range(1, count + 1), pa.uint64()),
            "recorded_at": pa.array([1] * count, pa.int64()).cast(TIMESTAMP),
        }
    )


def meter(
    number: int, aggregation: Aggregation, value: str | None, *dimensions: str, expression: str | None = None
) -> Meter:
    return Meter(
        number, "default", f"meter-{number}", 1, f"meter {number}", "llm.completion", aggregation, value,
        tuple(Dimension(name, f"$.{name}") for name in dimensions), expression,
    )  # fmt: skip


def cases() -> dict[str, list[Meter]]:
    """Meters to measure, by what they are."""
    ok = 'data.status == "ok"'
    usual = [
        meter(1, Aggregation.SUM, "$.tokens", "model", "region", expression=ok),
        meter(2, Aggregation.COUNT, None, "model", "status"),
        meter(3, Aggregation.SUM, "$.cost", "model"),
    ]
    return {
        "count": [meter(1, Aggregation.COUNT, None)],
        "sum of integers": [meter(1, Aggregation.SUM, "$.tokens")],
        "sum of integers, two dimensions": [meter(1, Aggregation.SUM, "$.tokens", "model", "region")],
        "the same, filtered": [meter(1, Aggregation.SUM, "$.tokens", "model", "region", expression=ok)],
        "sum of fractions (17 and more digits)": [meter(1, Aggregation.SUM, "$.cost")],
        "sum at a nested path": [meter(1, Aggregation.SUM, "$.usage.input")],
        "unique count": [meter(1, Aggregation.UNIQUE_COUNT, "$.request")],
        "filter that must be asked each time": [
            meter(1, Aggregation.COUNT, None, expression=ok + ' && id != "x"')
        ],
        "three meters at once": usual,
    }


def cost_us(meters: list[Meter], events: pa.Table) -> tuple[float, int]:
    """Microseconds an event and meter (the best of some rounds), and how many readings there are."""
    best = float("inf")
    rows = 0
    for _ in range(ROUNDS):
        started = time.perf_counter()
        rows = derive(meters, events).num_rows
        best = min(best, time.perf_counter() - started)
    return best / events.num_rows / len(meters) * 1e6, rows


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    events = events_of(count)
    print(f"{count} events; best of {ROUNDS}; microseconds an event and meter")
    for name, meters in cases().items():
        cost, rows = cost_us(meters, events)
        print(f"{cost:8.3f}  {name} ({rows} readings)")


if __name__ == "__main__":
    main()
