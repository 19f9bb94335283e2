"""CEL expressions over an event, as a meter's filter; see expression.py for what they may be.

An expression matches when it gives `true`. One that fails for an event (a member that is not there, types that cannot
be compared) or gives something else does not match either, for the reason `filter_error` instead of `filter_false`;
`has(data.status)` asks whether a member is there.

A filter may compare through a binary float: it chooses events, it never touches a quantity.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

from tallystick.metering.expression import (
    Expression,
    ExpressionEvent,
    compile_expression,
    values_of_members,
)


class Verdict(StrEnum):
    """What a filter says of an event. The two that do not match are codes of exclusion."""

    MATCH = "match"
    FALSE = "filter_false"
    ERROR = "filter_error"


@dataclass(frozen=True, slots=True)
class CompiledFilter:
    """A filter, ready to be asked."""

    expression: Expression

    def verdict(self, event: ExpressionEvent) -> Verdict:
        """What it says of this event."""
        values = self.expression.values_of(event)
        return Verdict.ERROR if values is None else self._ask(values)

    def verdict_of(
        self, *, event_id: str, source: str, event_type: str, subject: str, time_us: int, data: bytes
    ) -> Verdict:
        """What it says of the event with these attributes."""
        values = self.expression.values(
            event_id=event_id,
            source=source,
            event_type=event_type,
            subject=subject,
            time_us=time_us,
            data=data,
        )
        return Verdict.ERROR if values is None else self._ask(values)

    def verdict_of_members(self, event_type: str, members: Mapping[str, object]) -> Verdict:
        """The same for an event whose data has, of the expression's members, these; see `values_of_members`."""
        return self._ask(values_of_members(event_type, members))

    def _ask(self, values: dict[str, Any]) -> Verdict:
        try:
            given: Any = self.expression.program.execute(values)
        except Exception:
            return Verdict.ERROR
        if given is True:
            return Verdict.MATCH
        return Verdict.FALSE if given is False else Verdict.ERROR


@lru_cache(maxsize=1024)
def compile_filter(expression: str) -> CompiledFilter:
    """Compile a filter, once in a process. Raises ExpressionError with the reason in words."""
    return CompiledFilter(compile_expression(expression, noun="A filter"))
