"""What is listed newest first, held to a slow merge of all there is."""

from dataclasses import dataclass, field, replace
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from tallystick.flows.newest import behind, newest
from tallystick.flows.system import System
from tallystick.metering.position import Vector, base_of, partition_of
from tallystick.store.interface import EventSearch, StoredEvent


@dataclass
class Store:
    events: list[StoredEvent] = field(default_factory=list[StoredEvent])

    def search(self, wanted: EventSearch) -> list[StoredEvent]:
        found = [
            event
            for event in self.events
            if wanted.partition in (None, partition_of(event.position))
            and (wanted.before_position is None or event.position < wanted.before_position)
            and (wanted.subjects is None or event.subject in wanted.subjects)
        ]
        return sorted(found, key=lambda event: -event.position)[: wanted.limit]


@dataclass
class Recorder:
    store: Store

    @property
    def position(self) -> Vector:
        last: dict[int, int] = {}
        for event in self.store.events:
            partition = partition_of(event.position)
            last[partition] = max(event.position, last.get(partition, 0))
        return tuple(last[partition] for partition in sorted(last))


@dataclass
class Parts:
    store: Store = field(default_factory=Store)

    @property
    def recorder(self) -> Recorder:
        return Recorder(self.store)

    def record(self, partition: int, moment_us: int, subject: str) -> None:
        count = sum(partition_of(event.position) == partition for event in self.store.events)
        position = base_of(partition) + count + 1
        event = StoredEvent(
            "t", "/", str(position), "n", subject, subject, 0, True, 0, moment_us, position, b"", b""
        )
        self.store.events.append(event)


EVENTS = st.lists(
    st.tuples(st.sampled_from((0, 1, 5, 63)), st.integers(0, 3), st.sampled_from("ab")), max_size=40
)


def slow(events: list[StoredEvent]) -> list[StoredEvent]:
    """The newest first: the latest moment, and of one moment the highest partition, then the highest position."""
    return sorted(events, key=lambda event: (-event.recorded_at_us, -event.position))


@given(EVENTS, st.integers(1, 7), st.sampled_from((None, ("a",))))
def test_pages_are_the_whole_order_whatever_comes_in_between(
    steps: list[tuple[int, int, str]], limit: int, subjects: tuple[str, ...] | None
) -> None:
    parts = Parts()
    system = cast("System", parts)
    moment_us = 0
    for partition, later_us, subject in steps:
        moment_us += later_us
        parts.record(partition, moment_us, subject)
    there = [event for event in parts.store.events if subjects is None or event.subject in subjects]
    wanted = EventSearch("t", subjects=subjects, limit=limit)
    seen: list[StoredEvent] = []
    before: Vector | None = None
    while True:
        page = newest(system, wanted, before)
        assert len(page.events) <= limit
        seen += page.events
        if not page.more:
            break
        assert page.behind(limit) == behind(page.place, page.events)
        before = page.behind(limit)
        moment_us += 1
        for partition in (0, 1, 7):  # also in one that had nothing until now
            parts.record(partition, moment_us, "a")
    assert seen == slow(there)


@given(EVENTS, st.integers(0, 20))
def test_a_list_goes_on_from_any_place_within_a_page(steps: list[tuple[int, int, str]], count: int) -> None:
    parts = Parts()
    system = cast("System", parts)
    for moment_us, (partition, _, subject) in enumerate(steps):
        parts.record(partition, moment_us, subject)
    page = newest(system, EventSearch("t", limit=20))
    shown = min(count, len(page.events))
    rest = newest(system, replace(EventSearch("t"), limit=100), page.behind(shown))
    assert [*page.events[:shown], *rest.events] == slow(parts.store.events)
    assert not rest.more
