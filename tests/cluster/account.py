"""The account of a cluster: acknowledged = recorded + duplicates + conflicts, by identity; and as-of answers that stay."""

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.cluster.load import ClusterClient
from tests.cluster.processes import Cluster, unusual

METER = {"event_type": "call", "aggregation": "sum", "value": "$.n"}
SETTLE_S_MAX = 120.0
_NOT_OURS = ("probe-", "own-", "st-", "rsv_")
"""Identities that tests send beside the client."""


@dataclass(frozen=True, slots=True)
class Account:
    """Of everything since the beginning. Counts are of events."""

    identities: int
    acknowledged: int
    unanswered: int
    recorded: int
    duplicates: int
    conflicts: int
    lost: int
    """Identities that were acknowledged and are not recorded."""
    doubled: int
    """Identities that are recorded more than once."""
    miscounted: int
    """Identities stored less often than acknowledged, or more often than sent; and events with another content."""
    faults: tuple[str, ...] = ()

    @property
    def balances(self) -> bool:
        return not (self.lost or self.doubled or self.miscounted or self.faults)

    def __str__(self) -> str:
        stored = self.recorded + self.duplicates + self.conflicts
        return (
            f"acknowledged {self.acknowledged:,} (and {self.unanswered:,} without an answer) | recorded {self.recorded:,} "
            f"+ duplicates {self.duplicates:,} + conflicts {self.conflicts:,} = {stored:,} | lost {self.lost}, "
            f"doubled {self.doubled}, miscounted {self.miscounted}"
            + "".join(f"\n  ! {f}" for f in self.faults)
        )


@dataclass(slots=True)
class Bookkeeper:
    """Checks a cluster against the books of the client that loads it, again and again."""

    cluster: Cluster
    client: ClusterClient
    kept: list[tuple[str, list[dict[str, Any]]]] = field(
        default_factory=list[tuple[str, list[dict[str, Any]]]]
    )
    """Moments and what was answered as of them."""
    settled: str = ""
    """The position up to which everything was recorded when it last settled: any node can be asked for that."""

    def settle(self) -> None:
        """Send again what had no answer, until everything has one, and wait until all of it is recorded."""
        books, until = self.client.books, time.monotonic() + SETTLE_S_MAX
        self.client.stopping.clear()
        while books.to_repeat:
            assert time.monotonic() < until, self.complaints()
            asyncio.run(self.client.run(connections=2, fresh=False, seconds_max=SETTLE_S_MAX))
        while True:
            # Something for every partition: what was acknowledged before lies before it in each log.
            answer = self.cluster.request(
                "POST",
                "/v1/events?wait=recorded",
                content=self._probe(),
                headers={"content-type": "application/json"},
            )
            assert answer.status_code in (200, 202), answer.text
            if answer.status_code == 200:
                self.settled = answer.json()["position"]
                return
            assert time.monotonic() < until, self.complaints()

    def _probe(self) -> bytes:
        # Of a type that no meter reads, so that how often it had to be asked is no matter.
        events = [
            {"id": f"probe-{time.monotonic_ns()}-{n}", "source": "/probe", "type": "probe", "subject": "p"}
            for n in range(16 * self.cluster.partitions)
        ]
        return json.dumps(events).encode()

    def check(self) -> Account:
        """Settled: every event read back, the usage, the recorders' own totals, and all answers as of earlier moments."""
        faults: list[str] = []
        books = self.client.books
        node = self.client.chance.randrange(len(self.cluster.of_role("api")))
        # Another node than the one that said "recorded" knows of it a moment later, unless it is told to wait for it.
        rows = self.cluster.usage("n", node=node, min_position=self.settled)
        answered = rows[0]["value"] if rows else "0"
        if answered != str(books.total):
            faults.append(f"The meter says {answered} and the books {books.total}.")
        for moment, before in self.kept:
            now = self.cluster.usage("n", node=node, as_of=moment)
            if now != before:
                faults.append(f"As of {moment} it was {before} and is now {now}.")
        moment = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        answer = self.cluster.usage("n", node=node, as_of=moment, min_position=self.settled)
        self.kept.append((moment, answer))
        return self._count(faults)

    def _count(self, faults: list[str]) -> Account:
        books = self.client.books
        facts = {
            table: [row for row in rows if not row[1].startswith(_NOT_OURS)]
            for table, rows in self.cluster.facts().items()
        }
        recorded = Counter(event_id for _, event_id, _ in facts["events"])
        stored = Counter(event_id for rows in facts.values() for _, event_id, _ in rows)
        positions = [position for rows in facts.values() for position, _, _ in rows]
        if len(positions) != len(set(positions)):
            faults.append("A position was given twice.")
        miscounted = {
            event_id
            for event_id, times in stored.items()
            if not books.acknowledged[event_id]
            <= times
            <= books.acknowledged[event_id] + books.unanswered[event_id]
        }
        miscounted |= {one for _, one, value in facts["events"] if books.value.get(one) != value}
        miscounted |= {
            one for _, one, value in facts["conflicts"] if books.value.get(one, 0) + 1_000_000 != value
        }
        return Account(
            identities=len(books.value),
            acknowledged=books.acknowledged.total(),
            unanswered=books.unanswered.total(),
            recorded=len(facts["events"]),
            duplicates=len(facts["duplicates"]),
            conflicts=len(facts["conflicts"]),
            lost=sum(1 for event_id in books.acknowledged if event_id not in recorded),
            doubled=sum(1 for times in recorded.values() if times > 1),
            miscounted=len(miscounted),
            faults=tuple(faults),
        )

    def complaints(self) -> str:
        return "It does not settle.\n" + "\n".join(
            f"--- {member.name}\n{unusual(member)}" for member in self.cluster.members.values()
        )
