"""Usage by windows together with each group's over the whole range, for whoever shows both and wants them to agree.

Where figures of windows add up, the totals are their sum and cost nothing; elsewhere they are a second question as of the
same moment."""

from dataclasses import replace
from decimal import Decimal

from tallystick.flows.system import System
from tallystick.flows.usage import UsageAnswer, UsageRequest, at_one_moment, usage
from tallystick.metering.meter import Aggregation
from tallystick.metering.query import UsageRow
from tallystick.money import ZERO, exactly

_ADDED_UP = frozenset({Aggregation.SUM, Aggregation.COUNT})
"""Time-weighted figures and durations are rounded in each window, so their sum may differ in its last digit."""


async def usage_with_totals(
    system: System, request: UsageRequest
) -> tuple[UsageAnswer, tuple[UsageRow, ...]]:
    """The answer, and the rows of the same question without windows. Raises as `usage`."""
    frozen, position = await at_one_moment(system, request)
    answer = replace(await usage(system, frozen), position=position)
    if request.window is None:
        return answer, tuple(answer.rows)
    if answer.meter.aggregation in _ADDED_UP and answer.meter.of is None:
        return answer, _summed(answer, request)
    return answer, tuple((await usage(system, replace(frozen, window=None, edges_us=None))).rows)


@exactly
def _summed(answer: UsageAnswer, request: UsageRequest) -> tuple[UsageRow, ...]:
    """In the order in which the question without windows has its groups."""
    sums: dict[tuple[str | None, ...], Decimal] = {}
    for row in answer.rows:
        sums[row.group] = sums.get(row.group, ZERO) + (row.value or ZERO)
    groups = sorted(sums, key=lambda group: [(value is not None, value or "") for value in group])
    if request.order_by is not None or request.limit is not None:
        groups.sort(key=sums.__getitem__, reverse=request.order_by != "value")  # equals stay as they were
    return tuple(UsageRow(answer.from_us, answer.to_us, group, sums[group]) for group in groups)
