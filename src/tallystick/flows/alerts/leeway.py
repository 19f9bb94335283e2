"""How far a customer's sums of a meter may move until any alert on the meter can change.

A sum lies between two figures within which nothing changes, in each window that is open. What is left of that, over all
windows and alerts of the meter together, is one stretch: what is recorded within it costs one look-up, however many
alerts there are. What has moved meanwhile is put down in the figures themselves as soon as anybody looks at them.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from tallystick.billing.period import Period
from tallystick.flows.alerts.figures import Scopes
from tallystick.flows.alerts.watched import Quiet
from tallystick.money import ZERO, exactly
from tallystick.store.interface import TouchedUsage

GOOD_US = 20_000_000
"""So long at least: whose zone or subscription is changed is in another window from then on. Up to twice as long, so that
not all end together."""
_LOWEST, _HIGHEST = Decimal("-Infinity"), Decimal("Infinity")

Stand = tuple[Period, Scopes, Quiet]
"""A window, the customer's figures in it, and between which figures nothing changes."""


@dataclass(slots=True)
class Leeway:
    """Of one customer and meter. `moved`: since the figures were put down."""

    from_us: int
    to_us: int
    until_us: int
    low: Decimal
    high: Decimal
    figures: tuple[Scopes, ...]
    moved: Decimal = ZERO

    def put_down(self) -> None:
        """Add what has moved to the figures."""
        if self.moved:
            for scopes in self.figures:
                scopes[""] = (scopes[""] or ZERO) + self.moved
            self.low, self.high, self.moved = self.low - self.moved, self.high - self.moved, ZERO


class Leeways:
    """Of all meters, by customer."""

    def __init__(self) -> None:
        self._of: defaultdict[int, dict[str, Leeway]] = defaultdict(dict[str, Leeway])

    @property
    def size(self) -> int:
        return sum(map(len, self._of.values()))

    def forget(self) -> None:
        """The figures are not kept any more either."""
        self._of.clear()

    @exactly
    def end(self, meter: int) -> None:
        """Nothing of this meter is known to be far from changing any more."""
        for one in self._of.pop(meter, {}).values():
            one.put_down()

    @exactly
    def end_of(self, meter: int, customer: str) -> None:
        """The same of one customer."""
        one = self._of[meter].pop(customer, None)
        if one is not None:
            one.put_down()

    @exactly
    def take(self, meter: int, rows: Sequence[TouchedUsage], now_us: int) -> Sequence[TouchedUsage]:
        """What was recorded that may change something; of those customers, the figures are put down."""
        mine = self._of.get(meter)
        if not mine:
            return rows
        left: list[TouchedUsage] = []
        for row in rows:
            one = mine.get(row.customer)
            if one is not None:
                if row.earliest_us >= one.from_us and row.latest_us < one.to_us and now_us < one.until_us:
                    moved = one.moved + row.total
                    if one.low <= moved < one.high:
                        one.moved = moved
                        continue
                one.put_down()
                del mine[row.customer]
            left.append(row)
        return left

    @exactly
    def begin(self, meter: int, customer: str, stands: Iterable[Stand], now_us: int) -> None:
        """From these figures on. Without any, nothing can change."""
        spread_us = hash((meter, customer)) % GOOD_US
        made = Leeway(-(2**63), 2**63, now_us + GOOD_US + spread_us, _LOWEST, _HIGHEST, ())
        for period, scopes, (least, above) in stands:
            value = scopes[""] or ZERO
            made.from_us = max(made.from_us, period.from_us)
            made.to_us = min(made.to_us, period.to_us)
            if least is not None:
                made.low = max(made.low, least - value)
            if above is not None:
                made.high = min(made.high, above - value)
            made.figures = (*made.figures, scopes)
        made.until_us = min(made.until_us, made.to_us)
        if made.low <= ZERO < made.high:
            self._of[meter][customer] = made
