"""Credit notes: money of a finalized invoice that is given back, with the tax that was on it. Pure.

A line is worth what was billed for it less its share of the invoice's discount; of that, and of the whole, no more can be
given back than is left. Lines are credited before tax, each tax following in proportion to all that is credited so far,
rounded half-up: so the taxes of several notes add up to the invoice's when all of it is credited. An amount without
lines is what the customer gets, tax included; it is split over what is left by largest remainder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tallystick.billing.kept import canonical
from tallystick.document import Document, pointer_of
from tallystick.errors import Fault, Invalid
from tallystick.money import (
    ZERO,
    exactly,
    exponent_of,
    minor_unit,
    money_text,
    plain,
    quotient,
    round_money,
    split_money,
)

KINDS = ("credit", "refund")
LINES_MAX = 1_000
REASON_CHARACTERS_MAX = 1024


@dataclass(frozen=True, slots=True)
class Asked:
    """`lines`: (line, amount before tax). `amount`: with tax, of the whole. Exactly one of the two says something."""

    kind: str
    reason: str
    lines: tuple[tuple[str, Decimal], ...] = ()
    amount: Decimal | None = None
    late: bool = False
    """Because the usage of the lines has changed."""

    def to_wire(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "reason": self.reason,
            "lines": [[line, plain(amount)] for line, amount in self.lines],
            "amount": None if self.amount is None else plain(self.amount),
            "late": self.late,
        }


def asked_of(raw: Mapping[str, Any]) -> Asked:
    """From `Asked.to_wire`."""
    return Asked(
        raw["kind"],
        raw["reason"],
        tuple((line, Decimal(amount)) for line, amount in raw["lines"]),
        None if raw["amount"] is None else Decimal(raw["amount"]),
        raw["late"],
    )


def read_asked(raw: object) -> Asked:
    """`{"reason", "lines": [{"line", "amount"}] | "amount", "kind"}`. Raises Invalid with every fault."""
    document = Document(raw)
    reason = document.required_text("reason", characters_max=REASON_CHARACTERS_MAX)
    kind = document.choice("kind", KINDS) or KINDS[0]
    amount = document.decimal("amount", above=ZERO)
    lines: dict[str, Decimal] = {}
    for one in document.objects("lines", items_max=LINES_MAX):
        name = one.required_text("line")
        if name in lines:
            one.fault("repeated", "names a line twice.", "line")
        lines[name] = one.required_decimal("amount", above=ZERO)
    if document.has("amount") == bool(document.take("lines")):
        document.fault("missing", "needs either lines, or an amount of the whole.", "amount")
    document.finish()
    return Asked(kind, reason, tuple(lines.items()), amount)


@dataclass(frozen=True, slots=True)
class Left:
    """What of an invoice can still be given back: of each line and in all before tax, of each tax, and with tax."""

    worth: Mapping[str, Decimal]
    lines: Mapping[str, Decimal]
    net: Decimal
    taxes: tuple[Decimal, ...]
    total: Decimal


@exactly
def left_of(invoice: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]]) -> Left:
    """`invoice`: its frozen document; `earlier`: those of its notes that are not void."""
    positive = [line for line in invoice["lines"] if Decimal(line["rounded"]) > 0]
    discount = Decimal(invoice["discount"])
    worth = {line["id"]: Decimal(line["rounded"]) for line in positive}
    if positive and discount > 0:
        shares = split_money(discount, list(worth.values()), invoice["currency"])
        worth = {name: amount - share for (name, amount), share in zip(worth.items(), shares, strict=True)}
    lines = dict(worth)
    net = Decimal(invoice["subtotal"]) - discount
    taxes = [Decimal(tax["amount"]) for tax in invoice["taxes"]]
    total = Decimal(invoice["total"])
    for note in earlier:
        for line in note["lines"]:
            lines[line["line"]] -= Decimal(line["amount"])
        net -= Decimal(note["subtotal"])
        taxes = [tax - Decimal(own["amount"]) for tax, own in zip(taxes, note["taxes"], strict=True)]
        total -= Decimal(note["total"])
    return Left(worth, lines, max(net, ZERO), tuple(taxes), max(total, ZERO))


@exactly
def note_of(
    invoice: Mapping[str, Any],
    earlier: Sequence[Mapping[str, Any]],
    asked: Asked,
    *,
    invoice_id: str,
    refundable: Decimal,
    at: str,
    program: str,
) -> str:
    """The note's frozen document. `refundable`: what the customer paid in money and has not got back.

    Raises Invalid with every fault: unknown_line, more_than_is_left, too_precise."""
    currency, left = invoice["currency"], left_of(invoice, earlier)
    faults: list[Fault] = []
    if asked.amount is None:
        for index, (name, amount) in enumerate(asked.lines):
            _check_line(faults, left, currency, index=index, name=name, amount=amount)
    else:
        _check(faults, "/amount", asked.amount, left.total, currency=currency, of_what="of the invoice")
    _raise(faults)
    lines, taxes = _shares(invoice, left, asked)
    net = sum(lines.values(), ZERO)
    if net > left.net:
        _check(faults, "/lines", net, left.net, currency=currency, of_what="of the invoice before tax")
    total = net + sum(taxes, ZERO)
    if asked.kind == "refund" and total > refundable:
        place = "/lines" if asked.amount is None else "/amount"
        _check(faults, place, total, refundable, currency=currency, of_what="of what was paid with money")
    _raise(faults)
    named = {line["id"]: line for line in invoice["lines"]}
    return canonical(
        {
            "invoice": invoice_id,
            "customer": invoice["customer"],
            "subscription": invoice["subscription"],
            "currency": currency,
            "kind": asked.kind,
            "reason": asked.reason,
            "late": asked.late,
            "lines": [
                {
                    "line": name,
                    "charge": named[name]["charge"],
                    "name": named[name]["name"],
                    "plan": named[name]["plan"],
                    "version": named[name]["version"],
                    "group": named[name]["group"],
                    "period": named[name]["period"],
                    "amount": _text(amount, currency),
                }
                for name, amount in lines.items()
                if amount
            ],
            "subtotal": _text(net, currency),
            "taxes": [
                {"name": tax["name"], "percent": tax["percent"], "amount": _text(amount, currency)}
                for tax, amount in zip(invoice["taxes"], taxes, strict=True)
            ],
            "tax": _text(sum(taxes, ZERO), currency),
            "total": _text(total, currency),
            "at": at,
            "program": program,
        }
    )


def _shares(invoice: Mapping[str, Any], left: Left, asked: Asked) -> tuple[dict[str, Decimal], list[Decimal]]:
    currency = invoice["currency"]
    if asked.amount is None:
        lines = dict(asked.lines)
        net = sum(lines.values(), ZERO)
        taxable = Decimal(invoice["subtotal"]) - Decimal(invoice["discount"])
        credited = taxable - left.net + net
        taxes: list[Decimal] = []
        for tax, own in zip(invoice["taxes"], left.taxes, strict=True):
            whole = Decimal(tax["amount"])
            due = round_money(quotient(whole * credited, taxable), currency) if taxable else ZERO
            taxes.append(min(own, max(ZERO, due - (whole - own))))
        return lines, taxes
    net, *taxes = split_money(
        asked.amount.quantize(minor_unit(currency)),
        [left.net, *(max(ZERO, one) for one in left.taxes)],
        currency,
    )
    some = {name: amount for name, amount in left.lines.items() if amount > 0}
    parts = split_money(net, list(some.values()), currency) if some else ()
    return dict(zip(some, parts, strict=True)), taxes


def _check_line(
    faults: list[Fault], left: Left, currency: str, *, index: int, name: str, amount: Decimal
) -> None:
    if name not in left.lines:
        detail = f"The invoice has no line {name[:80]!r} that money can be given back of."
        faults.append(Fault(pointer_of("lines", index, "line"), "unknown_line", detail))
        return
    _check(
        faults,
        pointer_of("lines", index, "amount"),
        amount,
        left.lines[name],
        currency=currency,
        of_what="of the line",
    )


def _check(
    faults: list[Fault], place: str, amount: Decimal, left: Decimal, *, currency: str, of_what: str
) -> None:
    digits = exponent_of(currency)
    exponent = amount.normalize().as_tuple().exponent
    if isinstance(exponent, int) and -exponent > digits:
        detail = f"{plain(amount)} has more than the {digits} digits of {currency}."
        faults.append(Fault(place, "too_precise", detail))
    elif amount > left:
        detail = f"{plain(amount)} is more than the {_text(left, currency)} that is left {of_what}."
        faults.append(Fault(place, "more_than_is_left", detail))


def _raise(faults: list[Fault]) -> None:
    if faults:
        raise Invalid(" ".join(fault.detail for fault in faults[:5]), code=faults[0].code, faults=faults)


def _text(amount: Decimal, currency: str) -> str:
    return money_text(round_money(amount, currency))


# -- what has changed since ----------------------------------------------------------------------------------------
@exactly
def creditable(
    invoice: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]], changes: Mapping[str, Decimal]
) -> dict[str, tuple[Decimal, Decimal]]:
    """Of changes below zero of an invoice's lines: what a note can give back, as (gross, before tax), by line.

    Gross is before the invoice's discount, as the change is. What is not left stays out: it goes to the next invoice."""
    currency, left = invoice["currency"], left_of(invoice, earlier)
    gross = {line["id"]: Decimal(line["rounded"]) for line in invoice["lines"]}
    room = left.net
    made: dict[str, tuple[Decimal, Decimal]] = {}
    for name, change in changes.items():
        here = min(left.lines.get(name, ZERO), room)
        worth = left.worth.get(name, ZERO)
        if change >= 0 or here <= 0 or worth <= 0:
            continue
        wanted = -change
        net = round_money(quotient(wanted * worth, gross[name]), currency)
        if net > here:
            net = here
            wanted = min(wanted, round_money(quotient(here * gross[name], worth), currency))
        if net > 0:
            made[name] = (wanted, net)
            room -= net
    return made
