"""What a source at work is given: the way into the log, its progress, its dead letters. See sources/interface.py."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TypeVar, cast

from tallystick.catalog.interface import Actor
from tallystick.catalog.sourcing import KeptSource, NewLetter, SourceCatalog
from tallystick.errors import Conflict, StorageFull, TimedOut, Unavailable
from tallystick.flows.correct import correct
from tallystick.flows.known_subjects import KnownSubjects
from tallystick.flows.lease import Held
from tallystick.flows.system import System
from tallystick.metering.decode import Decoded, Limits, decode
from tallystick.metering.event import EventColumns
from tallystick.sources.interface import Record, Refusal, Reject, SourceStoppedError, digest_of
from tallystick.sources.mapping import EventMaker, Events
from tallystick.sources.records import events_of_records
from tallystick.sources.source import Source

BATCH_BYTES_MAX = 8 * 1024 * 1024
WAIT_S_MAX = 30
FULL_S = 10.0
CORRECTIONS_MAX = 1000
PROGRESS_PAGE = 1000
_NDJSON = "application/x-ndjson"

T = TypeVar("T")


def catalog_of(system: System) -> SourceCatalog:
    return cast("SourceCatalog", system.catalog)


def limits_of(system: System) -> Limits:
    """Bounds of events, as for `POST /v1/events`."""
    settings = system.settings
    return Limits(
        events_max=settings.events_per_request_max,
        event_bytes_max=settings.event_bytes_max,
        depth_max=settings.event_depth_max,
        future_tolerance_us=settings.future_tolerance_s * 1_000_000,
    )


async def decoded_lines(
    system: System, tenant: str, lines: Sequence[str], known: KnownSubjects | None
) -> Decoded:
    """The verdicts on events, one a line."""
    body = "\n".join(lines).encode()
    now_us, limits = system.clock.now_us(), limits_of(system)

    def work() -> Decoded:
        return decode(
            body, content_type=_NDJSON, ce_headers={}, tenant=tenant, received_at_us=now_us, limits=limits
        )

    found = await asyncio.to_thread(work)
    if known is not None:
        found = await known.judged(found, tenant)
    for rejection in found.rejected:
        system.metrics.events_rejected.labels(rejection.code).inc()
    return found


def pieces(lines: Sequence[str], events_max: int) -> Iterator[tuple[int, int]]:
    """Slices that may be sent at once (characters are counted: at most four bytes each)."""
    begin = size = 0
    for at, line in enumerate(lines):
        if at > begin and (at - begin >= events_max or size + len(line) > BATCH_BYTES_MAX // 4):
            yield begin, at
            begin, size = at, 0
        size += len(line) + 1
    if begin < len(lines):
        yield begin, len(lines)


class SourceFeed:
    """Of one source, while this process has its lease. `waiting`: why it waits at the moment, for its state."""

    def __init__(
        self,
        system: System,
        kept: KeptSource,
        source: Source,
        held: Held[str],
        *,
        known: KnownSubjects | None,
        on_step: Callable[[str], None] = lambda step: None,
    ) -> None:
        self.waiting: str | None = None
        self.lag: int | None = None
        self.took = 0
        """Events taken since it was begun."""
        self._system = system
        self._catalog = catalog_of(system)
        self._kept = kept
        self._source = source
        self._held = held
        self._lease = (held.key, held.epoch)
        self._known = known
        self._on_step = on_step
        self._actor = Actor(f"source/{kept.key}")

    @property
    def tenant(self) -> str:
        return self._kept.tenant

    @property
    def source(self) -> Source:
        return self._source

    @property
    def number(self) -> int:
        return self._kept.number

    # -- taking -----------------------------------------------------------------------------------------------------
    async def take(self, records: Sequence[Record]) -> list[Refusal | None]:
        source = self._source
        maker = EventMaker(source.mapping)

        def work() -> tuple[Events, list[str]]:
            return events_of_records(maker, records, source.format, key=source.key)

        made, wheres = await asyncio.to_thread(work)
        outcome: list[Refusal | None] = [None] * len(records)
        rejects: list[Reject] = []
        for one in made.refused:
            outcome[one.row] = outcome[one.row] or Refusal(one.code, one.detail)
            record = records[one.row]
            rejects.append(Reject(one.content.encode(), record.where, one.code, one.detail))
        verdicts = await self.accept(made.lines)
        for number, where, line, verdict in zip(made.numbers, wheres, made.lines, verdicts, strict=True):
            if verdict is not None:
                outcome[number] = outcome[number] or verdict
                rejects.append(Reject(line.encode(), where, verdict.code, verdict.detail, "event"))
        if rejects:
            await self.reject(rejects)
        taken = sum(verdict is None for verdict in verdicts)
        if taken:
            await self.save({}, taken=taken)
        return outcome

    async def accept(self, events: Sequence[str]) -> list[Refusal | None]:
        outcome: list[Refusal | None] = [None] * len(events)
        for begin, end in pieces(events, self._system.settings.events_per_request_max):
            self._check()
            found = await decoded_lines(self._system, self.tenant, events[begin:end], self._known)
            for rejection in found.rejected:
                outcome[begin + rejection.index] = Refusal(rejection.code, rejection.detail)
            if len(found.events):
                await self._append(found.events)
        return outcome

    async def _append(self, events: EventColumns) -> None:
        gate = self._system.gate

        async def attempt() -> None:
            # What came in while the installation moves would stay behind.
            if gate.reason is not None:
                raise Unavailable(gate.reason, code="moved", retry_after_s=2)
            gate.enter()
            try:
                await self._system.log.append(events)
            finally:
                gate.leave()

        await self._through(attempt)
        self._system.metrics.events_accepted.inc(len(events))
        self.took += len(events)
        self._on_step("source_appended")

    async def correct(
        self, *, reason: str, retract: Sequence[tuple[str, str]], replace: Sequence[str]
    ) -> tuple[list[str], list[str]]:
        retracted: list[str] = []
        for at in range(0, len(retract), CORRECTIONS_MAX):
            some = retract[at : at + CORRECTIONS_MAX]
            retracted += await self._correct(reason, some, None)
        replaced: list[str] = []
        for at in range(0, len(replace), CORRECTIONS_MAX):
            replaced += await self._replace(reason, replace[at : at + CORRECTIONS_MAX])
        return retracted, replaced

    async def _replace(self, reason: str, lines: Sequence[str]) -> list[str]:
        found = await decoded_lines(self._system, self.tenant, lines, None)
        statuses = ["rejected"] * len(lines)
        if len(found.events):
            told = await self._correct(reason, (), found.events)
            places = found.indices if found.indices is not None else range(len(found.events))
            for place, status in zip(places, told, strict=True):
                statuses[place] = status
        return statuses

    async def _correct(
        self, reason: str, retract: Sequence[tuple[str, str]], replacements: EventColumns | None
    ) -> list[str]:
        async def attempt() -> list[str]:
            made = await correct(
                self._system,
                self.tenant,
                reason=reason[:1000],
                actor=self._actor,
                retract=retract,
                replacements=replacements,
            )
            return made.statuses

        return await self._through(attempt)

    async def reject(self, rejects: Sequence[Reject]) -> None:
        key = self._source.key
        letters = [
            NewLetter(
                place=one.where,
                form=one.form,
                raw=one.raw,
                code=one.code,
                detail=one.detail,
                identity=one.identity or f"{key}:{one.where}",
                digest=digest_of(one.where, one.raw),
            )
            for one in rejects
        ]
        open_max = self._system.settings.dead_letters_max
        for at in range(0, len(letters), max(1, min(open_max, CORRECTIONS_MAX))):
            some = letters[at : at + max(1, min(open_max, CORRECTIONS_MAX))]

            async def attempt(some: list[NewLetter] = some) -> int:
                return await asyncio.to_thread(
                    self._catalog.put_dead_letters,
                    self.number,
                    self._lease,
                    some,
                    open_max=open_max,
                    now_us=self._system.clock.now_us(),
                )

            await self._through(attempt)

    # -- progress ---------------------------------------------------------------------------------------------------
    async def progress(self, prefix: str = "") -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        after = ""
        while True:
            page = await asyncio.to_thread(
                self._catalog.source_progress, self.number, prefix=prefix, after=after, limit=PROGRESS_PAGE
            )
            found |= page
            if len(page) < PROGRESS_PAGE:
                return found
            after = max(page)

    async def save(self, states: Mapping[str, bytes | None], *, taken: int = 0) -> None:
        async def attempt() -> None:
            await asyncio.to_thread(
                self._catalog.save_source_progress,
                self.number,
                self._lease,
                states,
                taken=taken,
                now_us=self._system.clock.now_us(),
            )

        await self._through(attempt)
        self._on_step("source_saved")

    async def retaken(self, place: str) -> list[tuple[str, str, str]]:
        self._check()
        return await asyncio.to_thread(self._catalog.close_letters_of, self.number, self._lease, place)

    # -- the rest ---------------------------------------------------------------------------------------------------
    def observe(self, *, lag: int | None) -> None:
        self.lag = lag

    async def sleep(self, seconds: float) -> None:
        if not self._held.leaving.is_set():
            try:
                await asyncio.wait_for(self._held.leaving.wait(), seconds)
            except TimeoutError:
                return
        raise SourceStoppedError

    def _check(self) -> None:
        if self._held.leaving.is_set():
            raise SourceStoppedError
        self._held.check()

    async def _through(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Until it is through, however long a part is down or full."""
        waited = 0
        while True:
            self._check()
            try:
                made = await attempt()
            except (Unavailable, StorageFull, TimedOut) as error:
                self.waiting = f"{error.code}: {error.detail}"
                wait_s = float(max(error.retry_after_s or 0, min(2**waited, WAIT_S_MAX)))
                waited = min(waited + 1, 10)
            except Conflict as error:
                if error.code != "dead_letters_full":
                    raise
                self.waiting = f"{error.code}: {error.detail}"
                wait_s = FULL_S
            else:
                self.waiting = None
                return made
            await self.sleep(wait_s)
