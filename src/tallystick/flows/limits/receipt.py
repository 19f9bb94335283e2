"""What the gate answers: which limit, what stood and stands against it, and when that ends."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tallystick.errors import Conflict, Unavailable
from tallystick.flows.limits.rules import Ask
from tallystick.flows.position import token_of
from tallystick.limits.reservation import Reservation
from tallystick.limits.standing import NO_LIMIT, UNKNOWN_CLOSED, UNKNOWN_OPEN, Decision, Standing
from tallystick.metering.instant import instant_text
from tallystick.metering.position import vector_of
from tallystick.money import plain


class LimitExceeded(Conflict):
    """A limit does not allow this."""

    default_code = "limit_exceeded"

    def __init__(self, detail: str, receipt: dict[str, Any]) -> None:
        super().__init__(detail)
        self.receipt = receipt


class LimitUnknown(Unavailable):
    """What is used cannot be known at the moment, and a limit is closed then."""

    default_code = "usage_unknown"

    def __init__(self, detail: str, receipt: dict[str, Any]) -> None:
        super().__init__(detail, retry_after_s=2)
        self.receipt = receipt


def receipt_of(
    ask: Ask,
    decision: Decision,
    *,
    before: Standing | None,
    after: Standing | None,
    as_of_us: int,
    now_us: int,
) -> dict[str, Any]:
    """`decision` names the limit; `before` and `after` are how it stands without and with what was done (None: the limit
    is not known, or there is none). The figures at the top are those after."""
    named = decision.standing
    shown = after if named is not None and named.known else None
    figures = _NONE if shown is None else _figures(shown)
    stood = figures if before is after else None if shown is None or before is None else _figures(before)
    return {
        "allowed": decision.allowed,
        "reason": decision.reason,
        "rule": None if named is None else named.limit.key,
        "limit": None if shown is None else plain(shown.amount),
        **figures,
        "currency": None if shown is None else shown.currency,
        "reset_at": None if named is None or not named.known else instant_text(named.reset_us),
        "period": None
        if named is None or not named.known
        else {"from": instant_text(named.window.from_us), "to": instant_text(named.window.to_us)},
        "enforce": None if named is None else named.limit.enforce.value,
        "customer": ask.customer,
        "meter": ask.meter,
        "amount": plain(ask.amount),
        "dimensions": dict(ask.dimensions),
        "before": None if shown is None else stood,
        "after": None if shown is None else figures,
        "as_of": instant_text(as_of_us),
        "decided_at": instant_text(now_us),
    }


_NONE: Mapping[str, str | None] = {"used": None, "held": None, "remaining": None}


def _figures(standing: Standing) -> dict[str, str]:
    return {
        "used": plain(standing.used),
        "held": plain(standing.held),
        "remaining": plain(standing.remaining),
    }


def sentence(ask: Ask, decision: Decision) -> str:
    """The decision in words."""
    named = decision.standing
    if named is None or decision.reason == NO_LIMIT:
        return "No limit concerns this."
    if decision.reason in (UNKNOWN_OPEN, UNKNOWN_CLOSED):
        return (
            f"What is used of the limit {named.limit.key!r} cannot be known at the moment. Try again shortly."
        )
    unit = named.currency or f"units of {ask.meter}"
    return (
        f"The limit {named.limit.key!r} has {plain(named.remaining)} {unit} left of {plain(named.amount)}, until "
        f"{instant_text(named.reset_us)}."
    )


def reservation_document(one: Reservation, *, position: str | None) -> dict[str, Any]:
    """A reservation on the wire. `position`: of what it was settled with, as a token."""
    return {
        "id": one.id,
        "customer": one.customer,
        "meter": one.meter,
        "dimensions": dict(one.dimensions),
        "amount": plain(one.amount),
        "state": "settled" if one.state.value == "settling" else one.state.value,
        "settled_amount": None if one.settled_amount is None else plain(one.settled_amount),
        "created_at": instant_text(one.created_us),
        "expires_at": instant_text(one.expires_us),
        "settled_at": None if one.settled_us is None else instant_text(one.settled_us),
        "closed_at": None if one.closed_us is None else instant_text(one.closed_us),
        "counted": one.counted if one.settled_amount is not None else None,
        "position": position,
    }


def reserved_document(one: Reservation, receipt: dict[str, Any], *, position: str | None) -> dict[str, Any]:
    """A reservation with its receipt, on the wire."""
    document = reservation_document(one, position=position)
    amount = {} if one.settled_amount is None else {"settled_amount": document["settled_amount"]}
    return {**receipt, **document, **amount}


def position_token(one: Reservation) -> str | None:
    """The token of what a reservation was settled with; None: it was not, or has no place yet."""
    return token_of(vector_of(np.array(one.positions, np.uint64))) if one.positions else None
