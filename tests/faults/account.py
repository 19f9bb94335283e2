"""The account: acknowledged = recorded + duplicates + conflicts, by identity, none missing, none twice."""

import asyncio
import time
from collections import Counter
from typing import Any

from tests.faults.client import Client
from tests.faults.server import Server

METER = {"event_type": "call", "aggregation": "sum", "value": "$.n"}


def settle(server: Server, client: Client) -> None:
    """Send again what had no answer, until everything has one, and wait until it is recorded."""
    until = time.monotonic() + 180
    while client.books.to_repeat:
        assert time.monotonic() < until, server.unusual()
        asyncio.run(client.load(60, fresh=False))
        time.sleep(0.05)
    body, _ = client._body(0, conflicting=False)
    for _ in range(60):
        answer = server.request(
            "POST", "/v1/events?wait=recorded", content=body, headers={"content-type": "application/json"}
        )
        client.books.acknowledged.update(f"{client.seed:x}-0-{row:x}" for row in range(100))
        if answer.status_code == 200:
            return
        assert answer.status_code == 202, answer.text
    raise AssertionError("The recorder does not catch up.")


def check_running(server: Server, client: Client, label: str, meters: tuple[str, ...] = ("n",)) -> None:
    """Without stopping the server: its own totals and the usage of every meter against the books."""
    books = client.books
    totals = server.totals()
    acknowledged, unanswered = books.acknowledged.total(), books.unanswered.total()
    stored = totals["events"] + totals["duplicates"] + totals["conflicts"]
    print(
        f"{label}: identities {len(books.value)}, acknowledged {acknowledged}, without answer {unanswered} "
        f"| recorded {totals['events']} + duplicates {totals['duplicates']} + conflicts {totals['conflicts']} "
        f"= {stored} | ready after {server.ready_s[-1]:.2f} s, recording after {server.recovered_s[-1]:.2f} s",
        flush=True,
    )
    assert totals["events"] == len(books.value)
    assert acknowledged <= stored <= acknowledged + unanswered
    assert books.conflicts_acknowledged <= totals["conflicts"]
    assert totals["conflicts"] <= books.conflicts_acknowledged + books.conflicts_unanswered
    for meter in meters:
        rows = server.usage(meter)["rows"]
        assert rows[0]["value"] == str(books.total), (meter, rows, books.total)


def check_stopped(
    server: Server, client: Client, label: str, *, gaps_allowed: bool = False
) -> dict[str, Any]:
    """Every event read back from the store, with the server down."""
    books = client.books
    facts = server.facts()
    recorded = Counter(event_id for _, event_id, _ in facts["events"])
    stored = Counter(event_id for rows in facts.values() for _, event_id, _ in rows)
    positions = sorted(position for rows in facts.values() for position, _, _ in rows)
    twice = [event_id for event_id, times in recorded.items() if times > 1]
    missing = [event_id for event_id in books.acknowledged if event_id not in recorded]
    short = [
        event_id
        for event_id, times in stored.items()
        if not books.acknowledged[event_id] <= times
        or times > books.acknowledged[event_id] + books.unanswered[event_id]
    ]
    print(
        f"{label}, by identity: {len(recorded)} recorded once, {len(facts['duplicates'])} duplicates, "
        f"{len(facts['conflicts'])} conflicts, {len(missing)} missing, {len(twice)} twice, {len(short)} miscounted",
        flush=True,
    )
    assert twice == []
    assert missing == []
    if not gaps_allowed:
        assert short == []
        assert positions == list(range(1, len(positions) + 1))
    assert len(set(positions)) == len(positions)
    assert {event_id: value for _, event_id, value in facts["events"]} == {
        event_id: books.value[event_id] for event_id in recorded
    }
    assert all(value == books.value[event_id] + 1_000_000 for _, event_id, value in facts["conflicts"])
    return facts


def load_until_dead(server: Server, client: Client, seconds: float) -> None:
    """Send until the process has died of itself."""
    until = time.monotonic() + seconds
    while server.exit_code is None:
        assert time.monotonic() < until, "It lives on."
        asyncio.run(client.load(1.0))
        time.sleep(0.05)
