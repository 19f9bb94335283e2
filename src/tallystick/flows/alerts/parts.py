"""Many alerts on parts of one meter (by filter, by group), from one answer: the meter's figures by everything that any of them
looks at, out of which each takes its own. Only figures that are put together from those of parts without loss."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from tallystick.flows.alerts.figures import Measured, Scopes, scope_of
from tallystick.flows.billing.selection import filters_of
from tallystick.metering.meter import Aggregation
from tallystick.money import exactly

COLUMNS_MAX = 6
"""By more of them together an answer would be as long as what it sums up."""
_CUTS_MAX = 20_000
_PUT_TOGETHER = (Aggregation.SUM, Aggregation.COUNT, Aggregation.MAX)

Values = tuple[str | None, ...]
"""What the columns hold."""
Row = tuple[str, Values, Decimal | None]
"""A customer, and its figure of what the columns hold."""
ByValues = dict[Values, list[tuple[str, Decimal | None]]]
"""Rows by what the columns hold, so that each part looks at its own."""


def names_of(measured: Measured) -> frozenset[str] | None:
    """The columns a part depends on; None: it cannot be put together."""
    meter = measured.meter
    if meter.aggregation not in _PUT_TOGETHER or meter.of is not None or measured.of_events:
        return None
    names = frozenset((*measured.group_by, *(one.name for one in filters_of(measured.filter))))
    return names if names <= {"subject", *(one.name for one in meter.dimensions)} else None


def columns_for(every: Iterable[Measured]) -> tuple[str, ...] | None:
    """What one answer for all of these (of one meter) is grouped by; None: one answer would not do."""
    found = [names for one in every if (names := names_of(one)) is not None]
    columns = sorted(frozenset[str]().union(*found))
    return tuple(columns) if found and len(columns) <= COLUMNS_MAX else None


@dataclass(slots=True)
class Cut:
    """What one part takes of rows by `columns`."""

    measured: Measured
    columns: tuple[str, ...]
    _scopes: dict[Values, str | None] = field(default_factory=dict[Values, str | None])

    def scope(self, values: Values) -> str | None:
        """The group that these belong to; None: they are not of this part."""
        if values not in self._scopes:
            if len(self._scopes) >= _CUTS_MAX:
                self._scopes.clear()
            named = dict(zip(self.columns, values, strict=True))
            taken = all(one.accepts(named[one.name]) for one in filters_of(self.measured.filter))
            groups = self.measured.group_by
            self._scopes[values] = scope_of(groups, [named[name] for name in groups]) if taken else None
        return self._scopes[values]

    def of(self, rows: ByValues, customers: Collection[str] | None) -> dict[str, Scopes]:
        """The figures of these customers (None: of all in it)."""
        made: dict[str, Scopes] = {}
        for values, figures in rows.items():
            scope = self.scope(values)
            if scope is None:
                continue
            for customer, value in figures:
                if customers is None or customer in customers:
                    scopes = made.setdefault(customer, {})
                    before = scopes.get(scope)
                    scopes[scope] = value if before is None else put_together(self.measured, before, value)
        return made


def by_values(rows: Iterable[Row]) -> ByValues:
    """The same rows, by what the columns hold."""
    made: ByValues = {}
    for customer, values, value in rows:
        made.setdefault(values, []).append((customer, value))
    return made


@exactly
def put_together(measured: Measured, one: Decimal | None, other: Decimal | None) -> Decimal | None:
    """The figure of two parts together."""
    if one is None or other is None:
        return one if other is None else other
    return max(one, other) if measured.meter.aggregation is Aggregation.MAX else one + other
