"""Steps of an explanation as JSON: the same wherever an amount is explained."""

from decimal import Decimal
from typing import Any

from tallystick.money import plain
from tallystick.rating.model import Step


def step_json(step: Step) -> dict[str, Any]:
    """A step of the explanation; members that mean nothing for its kind are left out."""
    optional = {
        "quantity": step.quantity,
        "unit_amount": step.unit_amount,
        "flat_amount": step.flat_amount,
        "rate": step.rate,
    }
    made: dict[str, Any] = {"kind": step.kind}
    if step.label:
        made["label"] = list(step.label)
    if step.kind == "tier":
        made |= {"from": _text(step.above), "to": _text(step.up_to)}
    made |= {name: plain(value) for name, value in optional.items() if value is not None}
    return {**made, "amount": plain(step.amount)}


def _text(value: Decimal | None) -> str | None:
    return None if value is None else plain(value)
