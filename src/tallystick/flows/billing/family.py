"""Questions that differ in their filter alone, asked as one: grouped by what they filter by, and told apart afterwards.

A plan with a charge for each model asks for one meter and period as often as it has charges; the store answers all of them
in the time of one. What comes out is what each would have been answered by itself, in the same order.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from tallystick.billing.due import Question
from tallystick.flows.billing.selection import filters_of
from tallystick.metering.meter import Aggregation, Meter
from tallystick.metering.query import Filter, Operator, UsageRow
from tallystick.money import exactly
from tallystick.rating.model import Usage

VALUES_MAX = 500
"""Of one dimension that a family names: the list is part of the statement."""
_ADDED = (Aggregation.SUM, Aggregation.COUNT)
_COMPARED = (Aggregation.MIN, Aggregation.MAX)
_APART = (Aggregation.DURATION, Aggregation.TIME_WEIGHTED, Aggregation.REGISTER)
"""Figures of pairs and curves, whose readings belong together: asked by themselves."""

Accepted = tuple[tuple[str, frozenset[str]], ...]
"""By dimension, in order: the values of which each must have one."""


@dataclass(frozen=True, slots=True)
class Family:
    """One question to ask. `members`: whose answers it holds, each with what it accepts; without `names`, itself alone."""

    question: Question
    version: int
    members: tuple[tuple[Question, Accepted], ...]
    names: tuple[str, ...] = ()
    """The dimensions they are told apart by."""

    @property
    def group_by(self) -> tuple[str, ...]:
        wanted = ("customer", *self.question.dimensions, *self.names)
        return tuple(dict.fromkeys(wanted))

    @property
    def filters(self) -> tuple[Filter, ...]:
        if not self.names:
            return filters_of(self.question.filter)
        made: list[Filter] = []
        for index, name in enumerate(self.names):
            values = {value for _, accepted in self.members for value in accepted[index][1]}
            made.append(Filter(name, Operator.IN, tuple(sorted(values))))
        return tuple(made)

    def alone(self) -> Iterator["Family"]:
        """Each member by itself."""
        for question, _ in self.members:
            yield Family(question, self.version, ((question, ()),))


def families(questions: Iterable[Question], meter: Meter) -> list[Family]:
    """Questions about one version of a meter, as few as can answer them all."""
    made: list[Family] = []
    alike: dict[tuple[Question, tuple[str, ...]], list[tuple[Question, Accepted]]] = {}
    for question in questions:
        accepted = _accepted(question, meter)
        if accepted is None:
            made.append(Family(question, meter.version, ((question, ()),)))
        else:
            names = tuple(name for name, _ in accepted)
            alike.setdefault((replace(question, filter=None), names), []).append((question, accepted))
    for (question, names), members in alike.items():
        for some in _bounded(members, len(names)):
            if len(some) == 1:
                made.append(Family(some[0][0], meter.version, ((some[0][0], ()),)))
            else:
                made.append(Family(question, meter.version, tuple(some), names))
    return made


def _bounded(
    members: Sequence[tuple[Question, Accepted]], count: int
) -> Iterator[list[tuple[Question, Accepted]]]:
    """Runs of members that name at most VALUES_MAX values of each dimension together."""
    some: list[tuple[Question, Accepted]] = []
    named: list[set[str]] = [set() for _ in range(count)]
    for member in members:
        together = [own | values for own, (_, values) in zip(named, member[1], strict=True)]
        if some and any(len(values) > VALUES_MAX for values in together):
            yield some
            some, together = [], [set(values) for _, values in member[1]]
        some.append(member)
        named = together
    if some:
        yield some


def _accepted(question: Question, meter: Meter) -> Accepted | None:
    """What a filter accepts, where it says no more than which values dimensions have, and figures of single values make
    the figure of them together; None: the question is asked by itself."""
    if question.filter is None or question.one_by_one or meter.of is not None or meter.aggregation in _APART:
        return None
    made: dict[str, frozenset[str]] = {}
    for one in filters_of(question.filter):
        if one.operator not in (Operator.EQ, Operator.IN):
            return None
        values = frozenset(one.operands)
        made[one.name] = made[one.name] & values if one.name in made else values
    joins = meter.aggregation in (*_ADDED, *_COMPARED)
    for name, values in made.items():
        told_apart = len(values) <= 1 or name in question.dimensions
        if not values or not (joins or told_apart):
            return None
    return tuple(sorted(made.items()))


@exactly
def told_apart(
    family: Family, rows: Iterable[UsageRow], meter: Meter
) -> dict[Question, dict[str, list[Usage]]]:
    """The answer of each member by customer: usage by the question's dimensions, ordered by window and group."""
    names = family.group_by
    places = [names.index(name) for name in family.names]
    dimensions = [(name, names.index(name)) for name in family.question.dimensions]
    by_values: dict[tuple[str | None, ...], list[Question]] = {}
    found: dict[Question, dict[tuple[int, tuple[str | None, ...]], Decimal]] = {
        question: {} for question, _ in family.members
    }
    for row in rows:
        if row.value is None:
            continue
        values = tuple(row.group[place] for place in places)
        takers = by_values.get(values)
        if takers is None:
            takers = by_values[values] = _takers(family, values)
        key = (row.window_start_us, (row.group[0], *(row.group[place] for _, place in dimensions)))
        for question in takers:
            own = found[question]
            own[key] = _joined(meter, own[key], row.value) if key in own else row.value
    made: dict[Question, dict[str, list[Usage]]] = {}
    for question, figures in found.items():
        by_customer = made.setdefault(question, {})
        # Rows of a question come in this order; joined ones must too.
        for at_us, group in sorted(figures, key=_order) if family.names else figures:
            usage = Usage(
                figures[at_us, group],
                dimensions=tuple(
                    (name, value) for (name, _), value in zip(dimensions, group[1:], strict=True)
                ),
                at_us=at_us,
            )
            by_customer.setdefault(str(group[0]), []).append(usage)
    return made


def _takers(family: Family, values: tuple[str | None, ...]) -> list[Question]:
    return [
        question
        for question, accepted in family.members
        if all(value in own for value, (_, own) in zip(values, accepted, strict=False))
    ]


def _joined(meter: Meter, one: Decimal, other: Decimal) -> Decimal:
    match meter.aggregation:
        case Aggregation.MIN:
            return min(one, other)
        case Aggregation.MAX:
            return max(one, other)
        case _:
            return one + other


def _order(key: tuple[int, tuple[str | None, ...]]) -> tuple[int, tuple[tuple[bool, str], ...]]:
    return key[0], tuple((value is not None, value or "") for value in key[1])


def by_meter(places: Iterable[tuple[Question, int]]) -> Mapping[tuple[str, int], list[Question]]:
    """What is wanted, by meter and its version."""
    made: dict[tuple[str, int], list[Question]] = {}
    for question, version in places:
        made.setdefault((question.meter, version), []).append(question)
    return made
