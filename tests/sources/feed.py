"""What a source is given in tests: everything that came is remembered, and refused or held up as a test wants it."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tallystick.sources.interface import Record, Refusal, Reject, SourceStoppedError
from tallystick.sources.source import Source, read_source


class RememberingFeed:
    """A feed. `gate` cleared: nothing is accepted until it is set again. `failures`: raised by the next takes."""

    tenant = "default"
    number = 7

    def __init__(
        self,
        source: Mapping[str, Any] | None = None,
        *,
        refuses: Callable[[dict[str, Any]], str | None] = lambda _: None,
    ) -> None:
        self.source: Source = read_source(
            source or {"key": "test", "kind": "folder", "settings": {"dir": "/x"}}
        )
        self.events: list[dict[str, Any]] = []
        self.dead: list[Reject] = []
        self.saved: dict[str, bytes] = {}
        self.corrections: list[tuple[list[tuple[str, str]], list[dict[str, Any]]]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failures: list[Exception] = []
        self.lag: int | None = None
        self.stopping = asyncio.Event()
        self._refuses = refuses

    async def take(self, records: Sequence[Record]) -> list[Refusal | None]:
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        return [refusal for record in records for refusal in await self._one(record)]

    async def _one(self, record: Record) -> list[Refusal | None]:
        try:
            read = json.loads(record.raw)
        except ValueError as error:
            await self.reject([Reject(record.raw, record.where, "invalid_json", str(error))])
            return [Refusal("invalid_json", str(error))]
        refusals: list[Refusal | None] = []
        several = isinstance(read, list)
        for number, event in enumerate(read if several else [read], 1):
            where = f"{record.where}#{number}" if several else record.where
            event.setdefault("id", f"{self.source.key}:{where}")
            reason = self._refuses(event)
            if reason is None:
                self.events.append(event)
                refusals.append(None)
            else:
                await self.reject([Reject(record.raw, where, reason, "for the test")])
                refusals.append(Refusal(reason, "for the test"))
        return refusals

    async def accept(self, events: Sequence[str]) -> list[Refusal | None]:
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        self.events += [json.loads(event) for event in events]
        return [None] * len(events)

    async def correct(
        self, *, reason: str, retract: Sequence[tuple[str, str]], replace: Sequence[str]
    ) -> tuple[list[str], list[str]]:
        assert reason
        if self.failures:
            raise self.failures.pop(0)
        self.corrections.append((list(retract), [json.loads(event) for event in replace]))
        known = self.times()
        replaced = [
            "replaced" if (event.get("source", "/"), event["id"]) in known else "not_found"
            for event in self.corrections[-1][1]
        ]
        return ["retracted" if one in known else "not_found" for one in retract], replaced

    async def reject(self, rejects: Sequence[Reject]) -> None:
        assert all(one.detail for one in rejects)
        self.dead += rejects

    async def progress(self, prefix: str = "") -> dict[str, bytes]:
        return {part: state for part, state in sorted(self.saved.items()) if part.startswith(prefix)}

    async def save(self, states: Mapping[str, bytes | None], *, taken: int = 0) -> None:
        for part, state in states.items():
            if state is None:
                self.saved.pop(part, None)
            else:
                self.saved[part] = state

    async def retaken(self, place: str) -> list[tuple[str, str]]:
        return []

    def observe(self, *, lag: int | None) -> None:
        self.lag = lag

    async def sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        except TimeoutError:
            return
        raise SourceStoppedError

    # -- for tests ------------------------------------------------------------------------------------------------
    def times(self) -> Counter[tuple[str, str]]:
        """How often each identity came."""
        return Counter((event.get("source", "/"), event["id"]) for event in self.events)

    async def until(self, count: int, *, timeout_s: float = 90) -> None:
        """Until so many different events have come."""
        async with asyncio.timeout(timeout_s):
            while len(self.times()) < count:
                await asyncio.sleep(0.05)
