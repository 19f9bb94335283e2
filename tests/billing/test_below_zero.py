"""What is taken back lowers what was used last before it, then what comes after, and never goes below nothing."""

from dataclasses import replace
from decimal import Decimal

import hypothesis.strategies as st
from hypothesis import given

from tallystick.billing.below_zero import above_zero
from tallystick.rating.model import Usage

ZERO = Decimal(0)
numbers = st.lists(st.integers(-4, 6), max_size=9)


def unit_by_unit(values: list[int]) -> tuple[list[int], int]:
    """The slow model: every unit by itself, on a stack of those that were used, or owed."""
    used: list[int] = []
    owed = 0
    for place, value in enumerate(values):
        for _ in range(abs(value)):
            if value < 0 and used:
                used.pop()
            elif value < 0:
                owed += 1
            elif owed:
                owed -= 1
            else:
                used.append(place)
    return [used.count(place) for place in range(len(values))], -owed


@given(numbers)
def test_windows_and_transactions_keep_what_the_model_keeps(values: list[int]) -> None:
    left, below = unit_by_unit(values)
    parts = [Usage(Decimal(value), at_us=at) for at, value in enumerate(values)]
    made, steps = above_zero(parts)
    assert [int(part.quantity) for part in made] == left
    assert [int(step.quantity or 0) for step in steps] == ([below] if below else [])
    assert sum(left) + below == sum(values)
    whole, steps = above_zero([Usage.of_transactions(Decimal(value) for value in values)])
    assert whole[0].quantity == sum(left)
    assert whole[0].transactions == tuple(
        Decimal(one) for one, value in zip(left, values, strict=True) if value >= 0
    )
    assert sum(step.amount for step in steps) == 0


@given(numbers)
def test_other_dimensions_are_other_usage(values: list[int]) -> None:
    gone = [Usage(Decimal(-value), dimensions=(("model", "a"),), at_us=1) for value in map(abs, values)]
    other = Usage(Decimal(7), dimensions=(("model", "b"),), at_us=0)
    made, _ = above_zero([other, *gone])
    assert made[0] == other
    assert all(part.quantity == 0 for part in made[1:])


def test_what_has_nothing_below_zero_is_left_as_it_is() -> None:
    parts = [Usage(Decimal(3)), replace(Usage.of_transactions([ZERO, Decimal(2)]), at_us=5)]
    assert above_zero(parts) == (parts, ())
    assert above_zero([]) == ([], ())
