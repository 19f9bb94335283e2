"""What a change would do before it is made: a meter's definition, a correction."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import cast

from tallystick.flows.lookup import Contribution, active_meters, contributions, reading_of
from tallystick.flows.newest import newest
from tallystick.flows.system import System
from tallystick.flows.usage import in_store
from tallystick.metering.definition import MeterDefinition
from tallystick.metering.event import EventColumns
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
        wanted = EventSearch(
            tenant,
            types=(meter.event_type,),
            status="current",
            as_of_us=moment_us,
            limit=min(limit, EVENTS_MAX),
        )
        events = newest(system, wanted).events
        return [Previewed(event, Contribution(meter, reading_of(meter, event))) for event in events]

    return await in_store(system, work)


@dataclass(frozen=True, slots=True)
class Effect:
    """What one correction would change: the readings of the event as it counts now, and as it would."""

    action: str
    source: str
    id: str
    found: bool
    before: list[Contribution]
    after: list[Contribution]


async def preview_correction(
    system: System, tenant: str, retract: Sequence[tuple[str, str]], replacements: EventColumns | None
) -> list[Effect]:
    """In the order of the request: first what is retracted, then what is replaced. Nothing is changed.

    A replacing event whose subject is another than before is shown as if that belonged to a customer."""
    moment_us = system.recorder.recorded_at_us

    def work() -> list[Effect]:
        metered = active_meters(system, tenant)

        def present(source: str, event_id: str) -> StoredEvent | None:
            return system.store.lookup(tenant, source, event_id, as_of_us=moment_us)

        def counted(event: StoredEvent | None) -> list[Contribution]:
            if event is None or event.retracted:
                return []
            return contributions(metered.get(event.type, []), event)

        effects: list[Effect] = []
        for source, event_id in retract:
            event = present(source, event_id)
            effects.append(Effect("retract", source, event_id, event is not None, counted(event), []))
        for row in range(0 if replacements is None else len(replacements)):
            columns = cast("EventColumns", replacements)
            event = present(columns.source[row], columns.id[row])
            made = None if event is None else _replaced(event, columns, row)
            effects.append(
                Effect(
                    "replace",
                    columns.source[row],
                    columns.id[row],
                    event is not None,
                    counted(event),
                    counted(made),
                )
            )
        return effects

    return await in_store(system, work)


def _replaced(event: StoredEvent, columns: EventColumns, row: int) -> StoredEvent:
    subject = columns.subject[row]
    return replace(
        event,
        type=columns.type[row],
        subject=subject,
        customer=event.customer if subject == event.subject else subject,
        time_us=int(columns.time_us[row]),
        data=columns.data[row],
        attributes=columns.attributes[row],
        retracted=False,
    )
