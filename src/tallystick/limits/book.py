"""What stands open, by customer and meter: what is held, and what is settled and not yet in usage. One owner at a time."""

import heapq
from collections.abc import Iterator
from decimal import Decimal

from tallystick.limits.limit import Window, accepts
from tallystick.limits.reservation import Dimensions, Reservation, State, expired
from tallystick.metering.query import Filter
from tallystick.money import ZERO, exactly

_MINUTE_US = 60 * 1_000_000

Account = tuple[str, str, str]
"""Tenant, customer, meter."""
_Minute = tuple[Dimensions, int]


class _Sums:
    """Of one account. Pending by the minute of event time: a window border within a minute takes the whole of it in."""

    __slots__ = ("held", "pending")

    def __init__(self) -> None:
        self.held: dict[Dimensions, Decimal] = {}
        self.pending: dict[_Minute, Decimal] = {}

    def sum_held(self, customer: str, conditions: tuple[Filter, ...]) -> Decimal:
        if not conditions:
            return sum(self.held.values(), ZERO)
        return sum(
            (
                amount
                for dimensions, amount in self.held.items()
                if accepts(conditions, customer, dict(dimensions))
            ),
            ZERO,
        )

    def sum_pending(self, customer: str, window: Window, conditions: tuple[Filter, ...]) -> Decimal:
        if not self.pending:
            return ZERO
        first, end = window.from_us // _MINUTE_US, -(-window.to_us // _MINUTE_US)
        return sum(
            (
                amount
                for (dimensions, minute), amount in self.pending.items()
                if first <= minute < end
                and (not conditions or accepts(conditions, customer, dict(dimensions)))
            ),
            ZERO,
        )


class Book:
    """Open reservations. `put` takes the next state of one; everything else follows from that."""

    def __init__(self) -> None:
        self._open: dict[str, Reservation] = {}
        self._placed: dict[str, Reservation] = {}
        self._sums: dict[Account, _Sums] = {}
        self._meters: dict[tuple[str, str], set[str]] = {}
        self._ends: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._open)

    def get(self, reservation: str) -> Reservation | None:
        """An open one."""
        return self._open.get(reservation)

    def open(self) -> Iterator[Reservation]:
        return iter(self._open.values())

    def placed(self) -> Iterator[Reservation]:
        """Those that are settled, whose positions are known."""
        return iter(self._placed.values())

    @exactly
    def put(self, one: Reservation) -> None:
        """The state it has from now on."""
        before = self._open.pop(one.id, None)
        if before is not None:
            self._add(before, -1)
            self._placed.pop(one.id, None)
        if one.is_open:
            self._open[one.id] = one
            self._add(one, 1)
            if one.state is State.SETTLED and one.positions:
                self._placed[one.id] = one
            if before is None and one.state is State.HELD:
                heapq.heappush(self._ends, (one.expires_us, one.id))

    def _add(self, one: Reservation, sign: int) -> None:
        account = (one.tenant, one.customer, one.meter)
        sums = self._sums.get(account)
        if sums is None:
            sums = self._sums[account] = _Sums()
            self._meters.setdefault(account[:2], set()).add(one.meter)
        if one.state is State.HELD:
            left = sums.held.get(one.dimensions, ZERO) + sign * one.amount
            if left:
                sums.held[one.dimensions] = left
            else:
                sums.held.pop(one.dimensions, None)
        else:
            assert one.settled_amount is not None
            minute = (one.dimensions, one.time_us // _MINUTE_US)
            left = sums.pending.get(minute, ZERO) + sign * one.settled_amount
            if left:
                sums.pending[minute] = left
            else:
                sums.pending.pop(minute, None)
        if not sums.held and not sums.pending:
            del self._sums[account]
            meters = self._meters[account[:2]]
            meters.discard(one.meter)
            if not meters:
                del self._meters[account[:2]]

    def due(self, now_us: int) -> list[Reservation]:
        """Those whose time is over, as they are from now on; `put` them."""
        found: list[Reservation] = []
        while self._ends and self._ends[0][0] <= now_us:
            _, name = heapq.heappop(self._ends)
            one = self._open.get(name)
            if one is not None and one.state is State.HELD:
                found.append(expired(one))
        return found

    @property
    def next_end_us(self) -> int | None:
        return self._ends[0][0] if self._ends else None

    @exactly
    def held(self, account: Account, conditions: tuple[Filter, ...] = ()) -> Decimal:
        """What is held of it, where the conditions hold."""
        sums = self._sums.get(account)
        return ZERO if sums is None else sums.sum_held(account[1], conditions)

    @exactly
    def pending(self, account: Account, window: Window, conditions: tuple[Filter, ...] = ()) -> Decimal:
        """What is settled of it within a window and not yet in usage."""
        sums = self._sums.get(account)
        return ZERO if sums is None else sums.sum_pending(account[1], window, conditions)

    @exactly
    def stands(
        self, account: Account, window: Window, conditions: tuple[Filter, ...] = ()
    ) -> tuple[Decimal, Decimal]:
        """`held` and `pending` at once."""
        sums = self._sums.get(account)
        if sums is None:
            return ZERO, ZERO
        customer = account[1]
        return sums.sum_held(customer, conditions), sums.sum_pending(customer, window, conditions)

    def parts(self, tenant: str, customer: str) -> list[tuple[str, Dimensions, Decimal, int | None]]:
        """Everything that stands open of a customer, one by one: meter, dimensions, amount, and the event time of what is
        settled (None: held). For prices."""
        meters = self._meters.get((tenant, customer), ())
        made: list[tuple[str, Dimensions, Decimal, int | None]] = []
        for meter in sorted(meters):
            sums = self._sums[tenant, customer, meter]
            made += [
                (meter, dimensions, amount, None)
                for dimensions, amount in sorted(sums.held.items(), key=repr)
            ]
            made += [
                (meter, dimensions, amount, minute * _MINUTE_US)
                for (dimensions, minute), amount in sorted(sums.pending.items(), key=repr)
            ]
        return made
