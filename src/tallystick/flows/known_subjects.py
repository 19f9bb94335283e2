"""Refusing events of unknown subjects on the way in (setting `unknown_subject = reject`).

Judged from memory; only where a subject is not known there is the catalog asked, at once, so that a subject that was just
declared is not refused. While the catalog is down nothing can be told, and events are taken: the recorder puts those of
nobody into quarantine.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import compress
from time import monotonic
from typing import TypeVar

from tallystick.catalog.interface import Catalog
from tallystick.errors import TallystickError
from tallystick.flows.attribute import SubjectMap
from tallystick.metering.event import EventColumns
from tallystick.metering.verdict import Decoded, Rejection

REFRESH_S = 1.0
"""Age from which subjects that were taken away are looked for."""
CODE = "unknown_subject"

T = TypeVar("T")


class KnownSubjects:
    """Which subjects belong to somebody. One event loop uses an instance."""

    def __init__(self, catalog: Catalog) -> None:
        self._subjects = SubjectMap(catalog)
        self._refreshing = asyncio.Lock()
        self._refreshed_at = float("-inf")

    async def judged(self, decoded: Decoded, tenant: str) -> Decoded:
        """The same verdicts, and the events of unknown subjects rejected."""
        named = set(decoded.events.subject)
        is_old = monotonic() - self._refreshed_at > REFRESH_S
        if (is_old or named - self._subjects.owners(tenant).keys()) and not await self._refresh():
            return decoded
        unknown = named - self._subjects.owners(tenant).keys()
        return _without(decoded, unknown) if unknown else decoded

    async def _refresh(self) -> bool:
        asked_at = monotonic()
        async with self._refreshing:
            if self._refreshed_at >= asked_at:  # somebody else did, after this was asked
                return True
            began_at = monotonic()
            try:
                await asyncio.to_thread(self._subjects.refresh)
            except TallystickError:
                return False
            self._refreshed_at = began_at
            return True


def _without(decoded: Decoded, unknown: set[str]) -> Decoded:
    events = decoded.events
    keep = [subject not in unknown for subject in events.subject]
    places = decoded.indices if decoded.indices is not None else range(len(events))
    rejected = [
        Rejection(
            place,
            event_id,
            CODE,
            f"subject {subject[:80]!r} belongs to no customer. Declare it with a customer first (POST /v1/customers).",
        )
        for place, event_id, subject, kept in zip(places, events.id, events.subject, keep, strict=True)
        if not kept
    ]

    def some(column: Sequence[T]) -> list[T]:
        return list(compress(column, keep))

    left: EventColumns = replace(
        events,
        source=some(events.source),
        id=some(events.id),
        type=some(events.type),
        subject=some(events.subject),
        time_us=events.time_us[keep],
        time_given=events.time_given[keep],
        data=some(events.data),
        attributes=some(events.attributes),
        identity=some(events.identity),
        content=events.content[keep],
    )
    everything = sorted([*decoded.rejected, *rejected], key=lambda rejection: rejection.index)
    return Decoded(left, everything, some(places))
