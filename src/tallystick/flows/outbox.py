"""What it takes to keep channels and to send through them. `outbox_of(system)` for who needs it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tallystick.catalog.delivering import DeliveryCatalog
from tallystick.delivery.addresses import Guard
from tallystick.delivery.sealed import Seal
from tallystick.errors import Unavailable

if TYPE_CHECKING:
    from tallystick.flows.system import System


@dataclass(frozen=True, slots=True)
class Outbox:
    """`seal`: how secrets are kept; `guard`: which addresses may be reached."""

    catalog: DeliveryCatalog
    seal: Seal
    guard: Guard


def outbox_of(system: "System") -> Outbox:
    """Raises Unavailable in a system built without one."""
    if system.outbox is None:
        raise Unavailable("This process sends nothing.", retry_after_s=60)
    return system.outbox
