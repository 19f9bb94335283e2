"""A feed in memory, which counts as the system does: by identity, for ever. It can be cut off at any step."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tallystick.metering.decode import Limits, decode
from tallystick.sources.interface import Record, Refusal, Reject, SourceStoppedError, digest_of
from tallystick.sources.mapping import EventMaker
from tallystick.sources.records import events_of_records
from tallystick.sources.source import Source

_LIMITS = Limits(
    events_max=1_000_000, event_bytes_max=1 << 20, depth_max=32, future_tolerance_us=3600_000_000
)
NOW_US = 1_784_116_800_000_000


class CutOffError(Exception):
    """The process is gone."""


@dataclass
class MemoryFeed:
    """What was taken outlives a runner, like the system does. `cut_at`: the step before (odd) or behind (even) which the
    process ends."""

    source: Source
    tenant: str = "t"
    number: int = 1
    parts: dict[str, bytes] = field(default_factory=dict[str, bytes])
    events: dict[tuple[str, str], dict[str, Any] | None] = field(default_factory=dict[Any, Any])
    letters: dict[str, Reject] = field(default_factory=dict[str, Reject])
    accepted: int = 0
    duplicates: int = 0
    conflicts: int = 0
    saves: int = 0
    lag: int | None = None
    cut_at: int | None = None
    steps: int = 0

    def _step(self) -> None:
        self.steps += 1
        if self.cut_at is not None and self.steps >= self.cut_at:
            raise CutOffError

    def total(self, member: str = "n") -> int:
        return sum(event["data"][member] for event in self.events.values() if event is not None)

    async def take(self, records: Sequence[Record]) -> list[Refusal | None]:
        maker = EventMaker(self.source.mapping)
        made, wheres = events_of_records(maker, records, self.source.format, key=self.source.key)
        outcome: list[Refusal | None] = [None] * len(records)
        rejects = [
            Reject(one.content.encode(), records[one.row].where, one.code, one.detail) for one in made.refused
        ]
        for where, line, told in zip(wheres, made.lines, await self.accept(made.lines), strict=True):
            if told is not None:
                rejects.append(Reject(line.encode(), where, told.code, told.detail, "event"))
        await self.reject(rejects)
        return outcome

    async def accept(self, events: Sequence[str]) -> list[Refusal | None]:
        self._step()
        told: list[Refusal | None] = [None] * len(events)
        if events:
            found = decode(
                "\n".join(events).encode(),
                content_type="application/x-ndjson",
                ce_headers={},
                tenant=self.tenant,
                received_at_us=NOW_US,
                limits=_LIMITS,
            )
            for one in found.rejected:
                told[one.index] = Refusal(one.code, one.detail)
        for line, refusal in zip(events, told, strict=True):
            if refusal is None:
                event = json.loads(line)
                identity = (event.get("source", "/"), event["id"])
                self.accepted += 1
                if identity not in self.events:
                    self.events[identity] = event
                elif self.events[identity] == event:
                    self.duplicates += 1
                else:
                    self.conflicts += 1
        self._step()
        return told

    async def correct(
        self, *, reason: str, retract: Sequence[tuple[str, str]], replace: Sequence[str]
    ) -> tuple[list[str], list[str]]:
        self._step()
        retracted: list[str] = []
        for identity in retract:
            retracted.append("retracted" if self.events.get(identity) else "not_found")
            if identity in self.events:
                self.events[identity] = None
        replaced: list[str] = []
        for line in replace:
            event = json.loads(line)
            identity = (event.get("source", "/"), event["id"])
            replaced.append("replaced" if identity in self.events else "not_found")
            if identity in self.events:
                self.events[identity] = event
        self._step()
        return retracted, replaced

    async def reject(self, rejects: Sequence[Reject]) -> None:
        self._step()
        for one in rejects:
            self.letters[digest_of(one.where, one.raw)] = one

    async def progress(self, prefix: str = "") -> dict[str, bytes]:
        return {part: raw for part, raw in sorted(self.parts.items()) if part.startswith(prefix)}

    async def save(self, states: Mapping[str, bytes | None], *, taken: int = 0) -> None:
        self._step()
        self.saves += 1
        for part, state in states.items():
            if state is None:
                self.parts.pop(part, None)
            else:
                self.parts[part] = state
        self._step()

    async def retaken(self, place: str) -> list[tuple[str, str, str]]:
        for digest, one in list(self.letters.items()):
            if one.where.startswith(f"{place}#"):
                del self.letters[digest]
        return []

    def observe(self, *, lag: int | None) -> None:
        self.lag = lag

    async def sleep(self, seconds: float) -> None:
        raise SourceStoppedError
