"""The life of a reservation.

    held ──settle──▶ settling ──placed──▶ settled ──(counted)
      ├──release──▶ released
      └──its time──▶ expired

`settling` is the commit point: it is written down together with its events, which are appended to the log afterwards, as
often as it takes (identity counts them once). What is settled is `pending` until the recorder has published it: then usage
has it, and it stands here no longer.
"""

from decimal import Decimal
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from tallystick.errors import Conflict

TTL_S_MAX = 7 * 86_400
TTL_S_DEFAULT = 60

Dimensions = tuple[tuple[str, str | None], ...]
"""Sorted by name."""


class State(StrEnum):
    """See the module."""

    HELD = "held"
    SETTLING = "settling"
    SETTLED = "settled"
    RELEASED = "released"
    EXPIRED = "expired"


class Reservation(Struct, frozen=True):
    """`time_us` is the event time of what was settled. `counted`: usage has it, or there is nothing to count."""

    id: str
    tenant: str
    customer: str
    meter: str
    dimensions: Dimensions
    amount: Decimal
    created_us: int
    expires_us: int
    state: State = State.HELD
    settled_amount: Decimal | None = None
    settled_us: int | None = None
    time_us: int = 0
    events: bytes = b""
    positions: tuple[int, ...] = ()
    counted: bool = False
    receipt: bytes = b""
    """The answer it was settled or released with, JSON."""
    closed_us: int | None = None

    @property
    def is_pending(self) -> bool:
        return self.state in (State.SETTLING, State.SETTLED) and not self.counted

    @property
    def follows(self) -> bool:
        """Whether it follows from the state before and the time, or from what usage has: it need not be durable, since whoever
        reads the state before finds it again."""
        return self.state is State.EXPIRED or (self.state is State.SETTLED and self.counted)

    @property
    def is_placed(self) -> bool:
        """Whether its events are in the log."""
        return self.state is State.SETTLED

    @property
    def is_open(self) -> bool:
        """Whether it still stands against a limit."""
        return self.state is State.HELD or self.is_pending


def settled(
    one: Reservation, amount: Decimal, *, now_us: int, time_us: int, events: bytes, receipt: bytes
) -> Reservation:
    """Of a held one. Check `settle_again` first."""
    return replace(
        one,
        state=State.SETTLING,
        settled_amount=amount,
        settled_us=now_us,
        time_us=time_us,
        events=events,
        receipt=receipt,
        closed_us=now_us,
    )


def settle_again(one: Reservation, amount: Decimal, now_us: int) -> bool:
    """True: it is settled already, with this amount; False: it may be. Raises Conflict (already_settled,
    already_released, reservation_expired)."""
    if one.state in (State.SETTLING, State.SETTLED):
        if one.settled_amount == amount:
            return True
        raise Conflict(
            f"The reservation {one.id} is settled already, with another amount.", code="already_settled"
        )
    if one.state is State.RELEASED:
        raise Conflict(f"The reservation {one.id} is released.", code="already_released")
    _check_in_time(one, now_us)
    return False


def release_again(one: Reservation, now_us: int) -> bool:
    """True: it is released already; False: it may be. Raises Conflict (already_settled, reservation_expired)."""
    if one.state is State.RELEASED:
        return True
    if one.state in (State.SETTLING, State.SETTLED):
        raise Conflict(f"The reservation {one.id} is settled already.", code="already_settled")
    _check_in_time(one, now_us)
    return False


def _check_in_time(one: Reservation, now_us: int) -> None:
    if one.state is State.EXPIRED or now_us >= one.expires_us:
        raise Conflict(
            f"The time of the reservation {one.id} is over: its amount has been returned.",
            code="reservation_expired",
        )


def released(one: Reservation, *, now_us: int, receipt: bytes) -> Reservation:
    return replace(one, state=State.RELEASED, counted=True, receipt=receipt, closed_us=now_us)


def expired(one: Reservation) -> Reservation:
    return replace(one, state=State.EXPIRED, counted=True, closed_us=one.expires_us)


def placed(one: Reservation, positions: tuple[int, ...]) -> Reservation:
    """Its events are in the log."""
    return replace(one, state=State.SETTLED, positions=positions, events=b"")


def counted(one: Reservation) -> Reservation:
    """Usage has it."""
    return replace(one, counted=True)
