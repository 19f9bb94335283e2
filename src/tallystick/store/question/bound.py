"""Values on their way into a statement: every one is bound, none is ever part of the SQL text."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Bound:
    """Values on their way into a statement, each under a name of its own."""

    parameters: dict[str, Any] = field(default_factory=dict[str, Any])

    def value(self, value: Any, engine_type: str) -> str:
        """Bind a value; answers the placeholder for the SQL text."""
        name = f"p{len(self.parameters)}"
        self.parameters[name] = value
        return f"{{{name}:{engine_type}}}"

    def text(self, value: str) -> str:
        return self.value(value, "String")

    def texts(self, values: Any) -> str:
        return self.value(list(values), "Array(String)")

    def time(self, time_us: int) -> str:
        """A moment as the engine compares it, from microseconds since 1970."""
        return f"fromUnixTimestamp64Micro({self.value(time_us, 'Int64')}, 'UTC')"


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL and what is bound to it."""

    sql: str
    parameters: dict[str, Any]
