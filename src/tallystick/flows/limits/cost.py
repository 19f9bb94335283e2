"""Money as it is used: a customer's usage through the charges of his plans, rated as an invoice would rate it.

What is asked for is usage; what it comes to with more of it is computed here, without asking again. Lines are rounded as an
invoice rounds them. Fees are no usage and do not count.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from tallystick.billing.charge import Timing
from tallystick.billing.due import Item, Question, items_of
from tallystick.billing.invoice import lines_of
from tallystick.billing.timeline import turn_at
from tallystick.errors import Invalid
from tallystick.flows.billing.gather import Answers, Wanted, gather
from tallystick.flows.billing.prepare import members_of, versions_of
from tallystick.flows.billing.selection import filters_of
from tallystick.flows.limits.rules import Subscribed
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions
from tallystick.limits.limit import Window, accepts
from tallystick.limits.reservation import Dimensions
from tallystick.metering.query import Filter
from tallystick.money import ZERO, exactly
from tallystick.rating.model import Usage

TURNS_MAX = 400
"""Billing periods that one window may reach into, of one subscription."""
MINUTE_US = 60 * 1_000_000

More = tuple[str, Dimensions, Decimal, int]
"""Meter, dimensions, amount, event time (to the minute)."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """A charge over a stretch, with the usage up to the window's end and up to its beginning (None: it begins later)."""

    item: Item
    question: Question
    conditions: tuple[Filter, ...]
    members: frozenset[str]
    usage: tuple[Usage, ...]
    before: tuple[Usage, ...] | None
    currency: str


@dataclass(frozen=True, slots=True)
class Priced:
    """What the money of a window is made of."""

    pieces: tuple[_Piece, ...]
    currency: str | None
    meters: frozenset[str]
    """Keys of the meters it depends on."""
    members: frozenset[str]

    @exactly
    def total(self, customer: str, more: Sequence[More] = ()) -> Decimal:
        """In currency, with this much more used. Raises Invalid where a price has no answer."""
        amount = ZERO
        for piece in self.pieces:
            added = [_used(piece, one) for one in more if _concerns(piece, customer, one)]
            amount += _rounded(piece, (*piece.usage, *added))
            if piece.before is not None:
                amount -= _rounded(piece, piece.before)
        return amount


@exactly
def _rounded(piece: _Piece, usage: Sequence[Usage]) -> Decimal:
    return sum((line.rounded for line in lines_of(piece.item, usage, piece.currency)), ZERO)


def _concerns(piece: _Piece, customer: str, more: More) -> bool:
    meter, dimensions, _, time_us = more
    return (
        meter == piece.item.charge.meter
        # Known to the minute: in a minute that a charge begins or ends in, it counts for both.
        and piece.item.part.from_us < time_us + MINUTE_US
        and time_us < piece.item.part.to_us
        and accepts(piece.conditions, customer, dict(dimensions))
    )


def _used(piece: _Piece, more: More) -> Usage:
    _, given, amount, time_us = more
    known = dict(given)
    dimensions = tuple((name, known.get(name)) for name in piece.question.dimensions)
    if piece.question.one_by_one:
        return Usage(amount, (amount,), 1, dimensions=dimensions, at_us=time_us)
    return Usage(amount, dimensions=dimensions, at_us=time_us)


@dataclass(frozen=True, slots=True)
class _Part:
    item: Item
    from_us: int | None
    to_us: int
    members: tuple[str, ...]
    currency: str


async def price(
    system: System, tenant: str, subscribed: Sequence[Subscribed], window: Window, as_of_us: int
) -> Priced:
    """Ask everything that the money of a window depends on, as of a moment. Raises what `usage` does, and Invalid where
    the customer is billed in several currencies at once."""

    def prepare() -> tuple[list[_Part], dict[str, int]]:
        parts: list[_Part] = []
        versions: dict[str, int] = {}
        for one in subscribed:
            members = members_of(system, one.kept)
            versions |= versions_of(system, tenant, one.plans)
            parts += _parts(one, window, members)
        return parts, versions

    parts, versions = await in_questions(system, prepare)
    currencies = {part.currency for part in parts}
    if len(currencies) > 1:
        raise Invalid(
            "The customer is billed in several currencies: their money cannot be added up.",
            code="several_currencies",
        )
    wanted = Wanted()
    for part in parts:
        for until_us in (part.to_us, part.from_us):
            for question in part.item.questions(until_us) if until_us is not None else ():
                wanted.add(question, versions[question.meter], part.members)
    answers = await gather(system, tenant, wanted, as_of_us)
    pieces: list[_Piece] = []
    for part in parts:
        questions = part.item.questions(part.to_us)
        if not questions:
            continue
        pieces.append(
            _Piece(
                part.item,
                questions[-1],
                filters_of(part.item.charge.filter),
                frozenset(part.members),
                _usage(part, part.to_us, versions, answers),
                None if part.from_us is None else _usage(part, part.from_us, versions, answers),
                part.currency,
            )
        )
    meters = frozenset(piece.question.meter for piece in pieces)
    members = frozenset(member for piece in pieces for member in piece.members)
    return Priced(tuple(pieces), next(iter(currencies), None), meters, members)


def _parts(one: Subscribed, window: Window, members: tuple[str, ...]) -> list[_Part]:
    made: list[_Part] = []
    own, plans, timezone = one.own, one.plans, one.kept.timezone
    at_us = max(window.from_us, own.start_us)
    for _ in range(TURNS_MAX):
        if at_us >= window.to_us:
            break
        turn = turn_at(own, plans, timezone, at_us)
        if turn is None:
            break
        span = own.span_at(turn.part.from_us) or own.spans[0]
        currency = plans[span.plan, span.version].currency
        for item in items_of(own, plans, timezone, turn, Timing.ARREARS):
            if item.charge.meter is None or item.part.to_us <= window.from_us:
                continue
            begins_before = item.part.from_us < window.from_us
            made.append(
                _Part(
                    item,
                    window.from_us if begins_before else None,
                    min(item.part.to_us, window.to_us),
                    members,
                    currency,
                )
            )
        at_us = turn.part.to_us
    return made


def _usage(part: _Part, until_us: int, versions: dict[str, int], answers: Answers) -> tuple[Usage, ...]:
    made: list[Usage] = []
    for question in part.item.questions(until_us):
        answer = answers[question, versions[question.meter]]
        if isinstance(answer, Invalid):
            raise answer
        for member in part.members:
            made += answer.get(member, ())
    return tuple(made)
