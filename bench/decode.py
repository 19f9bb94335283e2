"""Microseconds of processor time an event that decoding costs, by format and batch size: `python bench/decode.py`."""

import json
import time

from tallystick.metering.decode import Limits, decode

LIMITS = Limits(
    events_max=10_000, event_bytes_max=256 * 1024, depth_max=32, future_tolerance_us=3_600_000_000
)
NOW_US = 1_800_000_000_000_000
ROUNDS, SECONDS = 5, 0.1


def event(number: int, *, nested: bool = False) -> dict[str, object]:
    usage: dict[str, object] = {"tokens": number * 7, "status": "ok"}
    return {
        "specversion": "1.0",
        "id": f"req-{number:012d}",
        "source": "/gateway/eu-1",
        "type": "llm.completion",
        "subject": f"customer-{number % 100}",
        "time": f"2026-11-18T01:02:{number % 60:02d}.{number:06d}Z",
        "data": {"model": "gpt-4", "region": "eu"} | ({"usage": usage} if nested else usage),
    }


def compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def bodies(count: int) -> dict[str, tuple[str, bytes]]:
    events = [event(number) for number in range(count)]
    nested = [event(number, nested=True) for number in range(count)]
    unknown = [
        event(number) | {"traceparent": "00-0af7651916cd43dd-b7ad6b7169203331-01"} for number in range(count)
    ]
    rows = "".join(
        f"{e['id']},{e['source']},{e['type']},{e['subject']},{e['time']},gpt-4,eu,{number * 7},ok\n"
        for number, e in enumerate(events)
    )
    array = "application/json"
    return {
        "JSON": (array, compact(events if count > 1 else events[0]).encode()),
        "JSON, blanks": (array, json.dumps(events).encode()),
        "JSON, nested data": (array, compact(nested).encode()),
        "JSON, extensions (exact way)": (array, compact(unknown).encode()),
        "NDJSON": ("application/x-ndjson", "\n".join(compact(e) for e in events).encode()),
        "CSV": ("text/csv", ("id,source,type,subject,time,model,region,tokens,status\n" + rows).encode()),
    }


def cost_us(content_type: str, body: bytes) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        done, start = 0, time.process_time()
        while time.process_time() - start < SECONDS:
            decode(
                body,
                content_type=content_type,
                ce_headers={},
                tenant="default",
                received_at_us=NOW_US,
                limits=LIMITS,
            )
            done += 1
        best = min(best, (time.process_time() - start) / done)
    return best * 1e6


def main() -> None:
    counts = (1, 100, 1000)
    print(f"{'µs of CPU an event, batch of':32}" + "".join(f"{count:>8}" for count in counts))
    table = [bodies(count) for count in counts]
    for name in table[0]:
        cells = [cost_us(*table[i][name]) / count for i, count in enumerate(counts)]
        print(f"{name:32}" + "".join(f"{cell:8.2f}" for cell in cells))


if __name__ == "__main__":
    main()
