"""What a definition would make of the latest events, before it is a meter."""

from dataclasses import dataclass, fields

from tallystick.flows.lookup import Contribution, reading_of
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions
from tallystick.metering.definition import MeterDefinition
from tallystick.metering.meter import Meter
from tallystick.store.interface import EventSearch, StoredEvent

EVENTS_MAX = 200
_SHARED = frozenset(one.name for one in fields(Meter)) & frozenset(
    one.name for one in fields(MeterDefinition)
)


@dataclass(frozen=True, slots=True)
class Previewed:
    """An event, and what the definition reads from it or why nothing."""

    event: StoredEvent
    given: Contribution


async def preview_meter(
    system: System, tenant: str, definition: MeterDefinition, *, limit: int
) -> list[Previewed]:
    """The latest `limit` events of its type that count now, newest first, with what each would contribute."""
    moment_us = system.recorder.recorded_at_us
    meter = Meter(id=0, tenant=tenant, version=1, **{name: getattr(definition, name) for name in _SHARED})

    def work() -> list[Previewed]:
        events = system.store.search(
            EventSearch(
                tenant,
                types=(meter.event_type,),
                status="current",
                as_of_us=moment_us,
                limit=min(limit, EVENTS_MAX),
            )
        )
        return [Previewed(event, Contribution(meter, reading_of(meter, event))) for event in events]

    return await in_questions(system, work)
