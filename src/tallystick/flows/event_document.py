"""An event as readers get it: over HTTP, in a stream, in a webhook."""

from typing import Any

import msgspec

from tallystick.flows.position import token_of
from tallystick.metering.instant import instant_text
from tallystick.store.interface import StoredEvent


def event_document(event: StoredEvent) -> dict[str, Any]:
    """An event as it was sent, `data` byte for byte, and what was noted of it on its way in.

    Further CloudEvents attributes stand in `extensions`, where they cannot hide a member of ours."""
    return {
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "subject": event.subject,
        "time": instant_text(event.time_us),
        "time_source": "event" if event.time_given else "received",
        "data": msgspec.Raw(event.data) if event.data else None,
        "extensions": msgspec.Raw(event.attributes) if event.attributes else {},
        "customer": event.customer,
        "received_at": instant_text(event.received_at_us),
        "recorded_at": instant_text(event.recorded_at_us),
        "position": token_of((event.position,)),
    }
