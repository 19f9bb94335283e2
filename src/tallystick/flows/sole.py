"""What is asked of one recorder alone: not of a cluster."""

from tallystick.errors import Conflict
from tallystick.flows.record import Recorder
from tallystick.flows.system import System


def sole_recorder(system: System) -> Recorder:
    """The recorder of an installation with one partition. Raises Conflict (several_partitions)."""
    if not isinstance(system.recorder, Recorder):
        raise Conflict(
            "This looks into the one recorder of an installation, and here several processes record partitions.",
            code="several_partitions",
        )
    return system.recorder
