"""What an invoice is made again from, as the text that is kept beside it.

Members that say nothing are left out, so that an invoice of an earlier program has the text it had.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tallystick.billing.invoice import add
from tallystick.billing.item import Item as SingleItem
from tallystick.billing.item import item_of
from tallystick.billing.kept import canonical, subscription_text
from tallystick.billing.progressive import Part
from tallystick.flows.billing.gather import Settled
from tallystick.money import money_text, plain

if TYPE_CHECKING:
    from tallystick.flows.billing.build import Job


def basis_text(job: "Job", settled: Settled, fingerprint: str) -> str:
    """Everything the invoice follows from, beside the facts and the plans."""
    return canonical(
        {
            "subscription": subscription_text(job.subscription),
            "timezone": job.timezone,
            "members": list(job.members),
            "meters": dict(job.meters),
            "terms": job.terms.to_wire(),
            "as_of_us": settled.as_of_us,
            "fingerprint": fingerprint,
            "earlier": [
                [
                    one.id,
                    {line: plain(amount) for line, amount in one.late.items()},
                    *([[name for name, _ in one.notes]] if job.by_note else []),
                ]
                for one in job.earlier
            ],
            **({"items": [item.to_wire() for item in job.items]} if job.items else {}),
            **(
                {"parts": [[part.invoice, part.title, money_text(part.amount)] for part in job.parts]}
                if job.parts
                else {}
            ),
        }
    )


@dataclass(frozen=True, slots=True)
class Basis:
    """What `basis_text` wrote."""

    subscription: str
    timezone: str
    members: tuple[str, ...]
    meters: Mapping[str, int]
    terms: Mapping[str, Any]
    as_of_us: int
    fingerprint: str
    earlier: tuple[tuple[str, Mapping[str, Decimal], tuple[str, ...]], ...]
    by_note: bool
    items: tuple[SingleItem, ...]
    parts: tuple[Part, ...]


def basis_of(text: str) -> Basis:
    raw = json.loads(text)
    return Basis(
        raw["subscription"],
        raw["timezone"],
        tuple(raw["members"]),
        raw["meters"],
        raw["terms"],
        raw["as_of_us"],
        raw["fingerprint"],
        tuple(
            (name, {line: Decimal(amount) for line, amount in late.items()}, tuple(notes[0]) if notes else ())
            for name, late, *notes in raw["earlier"]
        ),
        any(len(one) > 2 for one in raw["earlier"]),
        tuple(item_of(one) for one in raw.get("items", ())),
        tuple(Part(name, title, Decimal(amount)) for name, title, amount in raw.get("parts", ())),
    )


def sums_by_line(late: Sequence[tuple[str, str, Decimal]]) -> dict[str, dict[str, Decimal]]:
    """(of invoice, of line, amount) → amounts by invoice and line."""
    made: dict[str, dict[str, Decimal]] = {}
    for invoice, line, amount in late:
        own = made.setdefault(invoice, {})
        own[line] = add(own[line], amount) if line in own else amount
    return made
