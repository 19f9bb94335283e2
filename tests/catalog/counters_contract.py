"""Counters in a catalog: a series moves and its event is written down together, one caller at a time."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from tallystick.telemetry.increment import Reached

from .contract import race

TENANT = "default"


class CountersContract:
    def test_series_and_outbox_move_together(self, catalog: Any) -> None:
        seen: list[Mapping[str, Reached]] = []

        def advance(reached: Mapping[str, Reached]) -> Any:
            seen.append(reached)
            return {"a": Reached(2**62, (Decimal("1.50"), Decimal(2))), "b": Reached(1)}, [b"one", b"two"]

        numbers = catalog.advance_counters(TENANT, ["a", "b", "c"], advance)
        assert catalog.counter_outbox(TENANT) == list(zip(numbers, [b"one", b"two"], strict=True))
        catalog.clear_counter_outbox(TENANT, numbers[:1])
        assert catalog.counter_outbox(TENANT) == [(numbers[1], b"two")]

        def failing(reached: Mapping[str, Reached]) -> Any:
            seen.append(reached)
            raise KeyError

        with pytest.raises(KeyError):
            catalog.advance_counters(TENANT, ["a", "b", "c"], failing)
        assert seen[0] == {}
        assert seen[1] == {"a": Reached(2**62, (Decimal("1.50"), Decimal(2))), "b": Reached(1)}
        assert catalog.counter_outbox("another") == []

    def test_callers_of_a_tenant_wait_for_each_other(self, catalog: Any) -> None:
        def advance(reached: Mapping[str, Reached]) -> Any:
            last = reached.get("s", Reached(0, (Decimal(0),)))
            return {"s": Reached(last.time_ns + 1, (last.values[0] + 1,))}, [b"x"]

        def work() -> None:
            for _ in range(10):
                catalog.advance_counters(TENANT, ["s"], advance)

        race(*[work] * 4)
        found: list[Any] = []

        def look(reached: Mapping[str, Reached]) -> Any:
            found.append(reached)
            return {}, []

        catalog.advance_counters(TENANT, ["s"], look)
        assert found == [{"s": Reached(40, (Decimal(40),))}]
        assert len(catalog.counter_outbox(TENANT)) == 40
