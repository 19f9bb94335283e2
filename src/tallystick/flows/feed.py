"""Tells channels of every event they want, as it is recorded.

Each channel has a place in the order of recording. What lies behind it is read from the store a page at a time, enqueued
and passed in one transaction: nothing is left out and nothing enqueued twice, whatever crashes. A channel whose receiver
does not keep up stays where it is until there is room again: what waits is in the store, which has it anyway, and neither
recording nor another channel waits for it.
"""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import structlog

from tallystick.catalog.delivering import (
    BODY_BYTES_MAX,
    EVENT_KIND,
    Channel,
    DeliveryCatalog,
    Feed,
    FeedMovedError,
    Match,
    Notice,
)
from tallystick.errors import TallystickError, Unavailable
from tallystick.flows.event_document import event_document
from tallystick.flows.lease import Held
from tallystick.flows.outbox import outbox_of
from tallystick.flows.system import System
from tallystick.flows.tail import POSITION_END, Place, TailRequest, check_tail, page_behind
from tallystick.flows.usage import in_questions
from tallystick.store.interface import StoredEvent

LOOK_S = 1.0
"""How often it is looked for channels, and for room, where nothing is recorded."""
PAUSE_S = 0.25
"""Between two looks that found everything, so that each recorded batch is not looked for by itself."""
PENDING_MAX = 1_000
"""So many deliveries may wait for a channel; then it stays where it is."""
BACK_OFF_S_MAX = 60.0
_SPAN_FIRST_US = 600_000_000
_SPAN_MAX_US = 100 * 366 * 86_400_000_000
_SPAN_MIN_US = 1_000_000
"""Of what was recorded, one question looks at no longer a stretch: long where there is little, short where pages are full."""
_SAVE_US = 10_000_000
_EVENT_BYTES_MAX = BODY_BYTES_MAX - 32 * 1024
"""Of one message; what is left is for what stands around the events."""

_logger = structlog.get_logger("feed")
_Page = tuple[tuple[StoredEvent, ...], Place, bool]


class EventFeed:
    """`run` is its life; `look` one round of all channels."""

    def __init__(self, system: System, *, look_s: float = LOOK_S, pending_max: int = PENDING_MAX) -> None:
        self._system = system
        self._catalog: DeliveryCatalog = outbox_of(system).catalog
        self._look_s = look_s
        self._pending_max = pending_max
        self._stopping = asyncio.Event()
        self._revision: int | None = None
        self._feeds: dict[int, Feed] = {}
        self._reached: dict[int, Place] = {}
        """By channel, where that is behind what is written down: nothing that is wanted lies in between."""
        self._spans_us: dict[int, int] = {}
        self._faults: dict[int, str] = {}

    async def run(self) -> None:
        """Look until `stop`. What fails is tried again, later and later; nothing else notices."""
        failures = 0
        while not self._stopping.is_set():
            looked_at_us = self._system.recorder.recorded_at_us
            try:
                more = await self.look()
                failures = 0
            except Exception as error:
                failures += 1
                if failures == 1:
                    _logger.warning("feed_failed", error=repr(error))
                self._forget()
                await self._pause(min(2.0 ** min(failures - 1, 10), BACK_OFF_S_MAX))
                continue
            if not more:
                await self._pause(PAUSE_S)
                await self._until_news(looked_at_us)

    async def stop(self) -> None:
        self._stopping.set()

    async def work(self, held: Held[str]) -> None:
        """In a cluster: while this process has the job."""
        self._stopping = asyncio.Event()
        self._forget()
        running = asyncio.create_task(self.run())
        try:
            await held.leaving.wait()
        finally:
            await self.stop()
            await running

    def _forget(self) -> None:
        self._revision = None
        self._feeds.clear()
        self._reached.clear()

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _until_news(self, moment_us: int) -> None:
        if not self._feeds:
            await self._pause(self._look_s)
            return
        waiting = asyncio.create_task(self._system.recorder.wait_for_moment(moment_us, self._look_s))
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((waiting, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (waiting, stopping):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def look(self) -> bool:
        """A page for each channel that has room; whether there is more to read at once."""
        revision = await in_questions(self._system, self._system.catalog.revision)
        if revision != self._revision:
            found = await in_questions(self._system, self._catalog.feeds)
            self._feeds = {one.channel.number: one for one in found if one.channel.sends}
            self._reached = {number: at for number, at in self._reached.items() if number in self._feeds}
            self._revision = revision
        more = False
        for feed in tuple(self._feeds.values()):
            try:
                more |= await self._advance(feed)
            except FeedMovedError:
                self._revision = None
                self._reached.pop(feed.channel.number, None)
            except Unavailable:
                raise
            except TallystickError as error:
                # Its meter is gone, or its customer is: it waits until somebody changes it.
                if self._faults.get(feed.channel.number) != error.code:
                    self._faults[feed.channel.number] = error.code
                    _logger.info("feed_waits", channel=feed.channel.key, detail=error.detail)
        return more

    async def _advance(self, feed: Feed) -> bool:
        number, written = feed.channel.number, Place(feed.moment_us, _position(feed.position))
        place = max(written, self._reached.get(number, written), key=_order)
        published_us = self._system.recorder.recorded_at_us
        span_us = self._spans_us.get(number, _SPAN_FIRST_US)
        until_us = min(published_us, place.moment_us + span_us)
        if until_us <= place.moment_us and place.position == POSITION_END:
            return False
        asked = request_of(feed.channel)
        events, reached, is_full = await page_behind(
            self._system, asked, place, max(until_us, place.moment_us)
        )
        self._faults.pop(number, None)
        if is_full:
            self._spans_us[number] = max(span_us // 2, _SPAN_MIN_US)
        elif not events:
            self._spans_us[number] = min(span_us * 8, _SPAN_MAX_US)
        if not events:
            self._reached[number] = reached
            if reached.moment_us - feed.moment_us > _SAVE_US:
                await self._write(feed, reached, ())
            return is_full or reached.moment_us < published_us
        if await in_questions(self._system, lambda: self._catalog.pending_of(number)) >= self._pending_max:
            return False
        await self._write(feed, reached, tuple(notices_of(feed.channel, events)))
        return is_full or reached.moment_us < published_us

    async def _write(self, feed: Feed, reached: Place, notices: Sequence[Notice]) -> None:
        position = None if reached.position == POSITION_END else reached.position
        now_us = self._system.clock.now_us()
        moved = await in_questions(
            self._system,
            lambda: self._catalog.advance_feed(feed, reached.moment_us, position, notices, now_us=now_us),
        )
        self._feeds[feed.channel.number] = moved
        self._reached.pop(feed.channel.number, None)


def request_of(channel: Channel) -> TailRequest:
    """Which events a channel is told of: of a customer's channel those of this customer, and those below it."""
    match = channel.setup.match or Match()
    return TailRequest(
        tenant=channel.tenant,
        bound=channel.customer,
        types=match.type or None,
        customers=match.customer or None,
        meter=match.meter,
        dimensions=match.filter,
    )


def check_match(system: System, tenant: str, customer: str | None, match: Match) -> None:
    """Raise Forbidden for another's customer, NotFound for an unknown meter, Invalid for an unknown dimension. Synchronous."""
    check_tail(
        system,
        TailRequest(tenant, customer, match.type or None, match.customer or None, match.meter, match.filter),
    )


def notices_of(channel: Channel, events: Sequence[StoredEvent]) -> Iterator[Notice]:
    """One of each event; or of as many as the channel takes at once."""
    if channel.setup.batch <= 1:
        for event in events:
            yield _notice(channel, f"evt_{_digest(event)}", event, _document(event)[0])
        return
    part: list[tuple[StoredEvent, dict[str, Any]]] = []
    bytes_ = 0
    for event in events:
        document, size = _document(event)
        if part and (len(part) >= channel.setup.batch or bytes_ + size > _EVENT_BYTES_MAX):
            yield _batch(channel, part)
            part, bytes_ = [], 0
        part.append((event, document))
        bytes_ += size
    yield _batch(channel, part)


def _batch(channel: Channel, part: Sequence[tuple[StoredEvent, dict[str, Any]]]) -> Notice:
    first, last = part[0][0], part[-1][0]
    name = f"evb_{_digest(first, last)}"
    notice = _notice(channel, name, last, {"events": [document for _, document in part]})
    summary = f"{len(part)} events were recorded."
    return replace(notice, customer=channel.customer, summary=summary)


def _notice(channel: Channel, name: str, event: StoredEvent, data: dict[str, Any]) -> Notice:
    whose = f" of {event.customer}" if event.customer else ""
    return Notice(
        tenant=channel.tenant,
        id=name,
        kind=EVENT_KIND,
        summary=f"{event.type}{whose} was recorded.",
        data=data,
        at_us=event.recorded_at_us,
        customer=event.customer or None,
        channels=(channel.key,),
        only_named=True,
    )


def _document(event: StoredEvent) -> tuple[dict[str, Any], int]:
    """As search shows it, and how many bytes that are. The content of one that is too large for a message is left out."""
    document = event_document(event)
    size = len(msgspec.json.encode(document))
    if size > _EVENT_BYTES_MAX:
        document |= {"data": None, "extensions": {}, "left_out": True}
        size = len(msgspec.json.encode(document))
    return document, size


def _digest(*events: StoredEvent) -> str:
    names = [[one.tenant, one.source, one.id] for one in events]
    return hashlib.sha256(json.dumps(names).encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _position(kept: int | None) -> int:
    return POSITION_END if kept is None else kept


def _order(place: Place) -> tuple[int, int]:
    return place.moment_us, place.position
