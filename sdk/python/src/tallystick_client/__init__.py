"""Usage events to Tallystick, each once; and what they add up to. `Client` and `AsyncClient` are the way in."""

from tallystick_client.answers import Check, Reservation, Usage, UsageRow
from tallystick_client.asynchronous import AsyncClient
from tallystick_client.client import Client
from tallystick_client.errors import InvalidEvent, Problem, SpoolFull, TallystickError, Unreachable
from tallystick_client.options import Options, Rejection, Stats

__all__ = [
    "AsyncClient",
    "Check",
    "Client",
    "InvalidEvent",
    "Options",
    "Problem",
    "Rejection",
    "Reservation",
    "SpoolFull",
    "Stats",
    "TallystickError",
    "Unreachable",
    "Usage",
    "UsageRow",
]
