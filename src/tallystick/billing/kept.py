"""Subscriptions and plans as the text they are kept as: canonical JSON, so that equal ones are equal text."""

import json
from decimal import Decimal
from functools import lru_cache
from typing import Any

from tallystick.billing.plan import Plan, parse_plan
from tallystick.billing.subscription import Quantity, Span, Subscription
from tallystick.billing.threshold import read_thresholds
from tallystick.document import Document
from tallystick.money import plain


def canonical(value: object) -> str:
    """One text for one value: members sorted, no spaces."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def plan_text(plan: Plan) -> str:
    return canonical(plan.to_wire())


@lru_cache(maxsize=1024)
def plan_of(text: str) -> Plan:
    return parse_plan(json.loads(text))


def subscription_text(one: Subscription) -> str:
    return canonical(
        {
            "id": one.id,
            "customer": one.customer,
            "spans": [[span.plan, span.version, span.from_us, span.to_us] for span in one.spans],
            "anchor_us": one.anchor_us,
            "trial_days": one.trial_days,
            "pauses": [list(pause) for pause in one.pauses],
            "quantities": _quantities(one.quantities),
            "add_ons": _quantities(one.add_ons),
            "metadata": dict(one.metadata),
            **({} if one.thresholds is None else {"thresholds": one.thresholds.to_wire()}),
        }
    )


def subscription_of(text: str) -> Subscription:
    raw: dict[str, Any] = json.loads(text)
    return Subscription(
        id=raw["id"],
        customer=raw["customer"],
        spans=tuple(Span(*span) for span in raw["spans"]),
        anchor_us=raw["anchor_us"],
        trial_days=raw["trial_days"],
        pauses=tuple((begin, end) for begin, end in raw["pauses"]),
        quantities=_read_quantities(raw["quantities"]),
        add_ons=_read_quantities(raw["add_ons"]),
        metadata=raw["metadata"],
        thresholds=read_thresholds(Document(raw)) if "thresholds" in raw else None,
    )


def _quantities(kept: tuple[Quantity, ...]) -> list[list[Any]]:
    return [[one.key, one.at_us, plain(one.quantity)] for one in kept]


def _read_quantities(raw: list[list[Any]]) -> tuple[Quantity, ...]:
    return tuple(Quantity(key, at_us, Decimal(quantity)) for key, at_us, quantity in raw)
