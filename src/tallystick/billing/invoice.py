"""From what is due and what was used to an invoice: lines, sums, and the text that is frozen. Pure.

Rounded at one point: each line's amount, half-up to the currency's minor units. Everything after it (subtotal, discount,
tax, total) is a sum of rounded money, except that a discount in percent and each tax are rounded once themselves.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from tallystick.billing.below_zero import above_zero
from tallystick.billing.charge import Tiers
from tallystick.billing.due import Item, PlanShare
from tallystick.billing.kept import canonical
from tallystick.billing.period import Period
from tallystick.billing.terms import Terms
from tallystick.billing.timeline import Plans
from tallystick.money import (
    ZERO,
    exact,
    exactly,
    money_text,
    plain,
    product,
    quotient,
    round_money,
    split_money,
)
from tallystick.rating.adjustments import Adjustments, after_price
from tallystick.rating.commitment import settle
from tallystick.rating.explain import step_json
from tallystick.rating.flat import Flat
from tallystick.rating.model import Rated, Step, Usage
from tallystick.rating.price import Price
from tallystick.rating.rate import Level, rate, rate_groups, rate_levels

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HUNDREDTH = Decimal("0.01")

_NOT_COMPUTED = frozenset({"late", "item", "progressive", "top_up"})
"""Lines that do not follow from the plan and what was used: they never change."""

Group = tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class Line:
    """`kind`: usage, fee, true_up, overage, minimum, item, top_up, progressive (billed on `of`, within the period), or late (a
    change of `of`, a line of an earlier invoice)."""

    id: str
    kind: str
    charge: str
    name: str
    quantity: Decimal
    amount: Decimal
    rounded: Decimal
    steps: tuple[Step, ...]
    plan: str
    version: int
    period: Period
    add_on: str | None = None
    group: Group = ()
    of: tuple[str, str] | None = None
    """Of a late line: the invoice and the line that have changed. Of a progressive one: that invoice, and no line."""

    def to_wire(self) -> dict[str, Any]:
        made: dict[str, Any] = {
            "id": self.id,
            "kind": self.kind,
            "charge": self.charge,
            "name": self.name,
            "plan": self.plan,
            "version": self.version,
            "period": {"from": time_text(self.period.from_us), "to": time_text(self.period.to_us)},
            "group": dict(self.group),
            "quantity": plain(self.quantity),
            "amount": plain(exact(self.amount)),
            "rounded": money_text(self.rounded),
            "steps": [step_json(step) for step in self.steps],
        }
        if self.add_on is not None:
            made["add_on"] = self.add_on
        if self.of is not None:
            made["of"] = {"invoice": self.of[0], "line": self.of[1] or None}
        return made


def lines_of(item: Item, usage: Sequence[Usage], currency: str) -> tuple[Line, ...]:
    """The lines of one item: one, or one for each group. Raises Invalid where the price has no answer."""
    charge = item.charge
    adjustments = charge.adjustments_for(item.share)
    if charge.meter is None:
        rated, quantity = _rate_fee(charge.price, item.levels, adjustments)
        return (_line(item, "fee", rated, quantity, currency),)
    if not charge.group_by:
        return (_line(item, "usage", _rate_usage(charge.price, usage, adjustments), _total(usage), currency),)
    groups: dict[Group, list[Usage]] = {}
    for part in usage:
        own = tuple((name, part.dimension(name)) for name in charge.group_by)
        groups.setdefault(own, []).append(part)
    ordered = {group: groups[group] for group in sorted(groups, key=_group_order)}
    if not ordered:
        return (_line(item, "usage", rate(charge.price, (), adjustments), ZERO, currency),)
    if charge.tiers is Tiers.GROUP:
        return tuple(
            _line(
                item,
                "usage",
                _rate_usage(charge.price, parts, adjustments),
                _total(parts),
                currency,
                group=group,
            )
            for group, parts in ordered.items()
        )
    measured = {group: _total(parts) for group, parts in ordered.items()}
    totals = {group: max(ZERO, total) for group, total in measured.items()}
    rated, shares = rate_groups(charge.price, totals, adjustments)
    rounded = split_money(
        round_money(rated.amount, currency), [max(ZERO, share) for share in shares.values()], currency
    )
    return tuple(
        replace(
            _line(
                item,
                "usage",
                Rated.of([Step("share", shares[group], quantity=total), *_below(measured[group])]),
                measured[group],
                currency,
                group=group,
            ),
            rounded=one,
        )
        for (group, total), one in zip(totals.items(), rounded, strict=True)
    )


@exactly
def _rate_usage(price: Price, parts: Sequence[Usage], adjustments: Adjustments) -> Rated:
    kept, steps = above_zero(parts)
    rated = rate(price, kept, adjustments)
    return Rated.of([*steps, *rated.steps]) if steps else rated


def _below(quantity: Decimal) -> tuple[Step, ...]:
    return (Step("below_zero", ZERO, quantity=quantity),) if quantity < 0 else ()


@exactly
def _total(parts: Sequence[Usage]) -> Decimal:
    return sum((part.quantity for part in parts), ZERO)


def _group_order(group: Group) -> list[tuple[bool, str]]:
    return [(value is not None, value or "") for _, value in group]


@exactly
def _rate_fee(price: Price, levels: Sequence[Level], adjustments: Adjustments) -> tuple[Rated, Decimal]:
    """A fee, and the greatest quantity it was due for. A flat one is due for each, in proportion to the time."""
    quantity = max((level.quantity for level in levels), default=ZERO)
    if not isinstance(price.model, Flat):
        return rate_levels(price, levels, adjustments), quantity
    steps = [
        Step(
            "flat",
            quotient(price.model.amount * level.quantity * level.numerator, Decimal(level.denominator)),
            quantity=level.quantity,
            flat_amount=price.model.amount,
            label=(f"{level.numerator}/{level.denominator}",) if level.numerator != level.denominator else (),
        )
        for level in levels
        if level.numerator
    ]
    amount = sum((step.amount for step in steps), ZERO)
    rated = Rated.of([*steps, *after_price(amount, adjustments)])
    return (rated if price.unit is None else price.unit.convert(rated)), quantity


def _line(
    item: Item, kind: str, rated: Rated, quantity: Decimal, currency: str, *, group: Group = ()
) -> Line:
    line_id = item.id
    if group:
        line_id += "-" + hashlib.sha256(canonical([list(one) for one in group]).encode()).hexdigest()[:8]
    return Line(
        line_id,
        kind,
        item.charge.key,
        item.charge.name,
        quantity,
        rated.amount,
        round_money(rated.amount, currency),
        rated.steps,
        item.plan,
        item.version,
        item.part,
        item.add_on,
        group,
    )


@exactly
def promises(
    charged: Sequence[Line], held: Sequence[PlanShare], plans: Plans, period: Period, currency: str
) -> tuple[Line, ...]:
    """What commitments and least amounts of the plans add to the lines of a billing period, plan by plan."""
    made: list[Line] = []
    for one in held:
        plan = plans[one.plan, one.version]
        own = [line.rounded for line in charged if (line.plan, line.version) == (one.plan, one.version)]

        def add(kind: str, name: str, rated: Rated, own: list[Decimal] = own, one: PlanShare = one) -> None:
            place = canonical([one.plan, one.version, kind, period.from_us])
            rounded = round_money(rated.amount, currency)
            own.append(rounded)
            made.append(
                Line(
                    hashlib.sha256(place.encode()).hexdigest()[:16],
                    kind,
                    kind,
                    name,
                    Decimal(1),
                    rated.amount,
                    rounded,
                    rated.steps,
                    one.plan,
                    one.version,
                    period,
                )
            )

        if plan.commitment is not None:
            due = sum((share.of(plan.commitment.amount) for share in one.shares), ZERO)
            rated = settle(plan.commitment, own, due=due)
            if rated.steps:
                kind = rated.steps[0].kind
                name = plan.commitment.label or ("Commitment" if kind == "true_up" else "Overage")
                add(kind, name, rated)
        if plan.minimum is not None:
            least = sum((share.of(plan.minimum) for share in one.shares), ZERO)
            missing = least - sum(own, ZERO)
            if missing > 0:
                add("minimum", "Minimum", Rated.of([Step("minimum", missing)]))
    return tuple(made)


# -- what has changed since -----------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Billed:
    """A line as it was billed: its quantity and rounded amount, with what was billed late for it since."""

    charge: str
    name: str
    plan: str
    version: int
    period: Period
    quantity: Decimal
    rounded: Decimal


@exactly
def late_lines(
    invoice: str, billed: Mapping[str, Billed], now: Sequence[Line], title: str
) -> tuple[Line, ...]:
    """Lines for everything that differs from what was billed: rounded new less rounded old."""
    made: list[Line] = []
    present = {line.id: line for line in now}
    for line_id in (*billed, *(one for one in present if one not in billed)):
        old, new = billed.get(line_id), present.get(line_id)
        difference = (ZERO if new is None else new.rounded) - (ZERO if old is None else old.rounded)
        if not difference:
            continue
        some = new or old
        assert some is not None
        quantity = (ZERO if new is None else new.quantity) - (ZERO if old is None else old.quantity)
        steps = (
            Step("now", ZERO if new is None else new.rounded),
            Step("billed", -(ZERO if old is None else old.rounded)),
        )
        place = canonical([invoice, line_id])
        made.append(
            Line(
                "late-" + hashlib.sha256(place.encode()).hexdigest()[:16],
                "late",
                some.charge,
                f"{some.name} ({title}, changed)",
                quantity,
                difference,
                difference,
                steps,
                some.plan,
                some.version,
                some.period,
                of=(invoice, line_id),
            )
        )
    return tuple(made)


def billed_of(document: str, late: Mapping[str, Decimal]) -> dict[str, Billed]:
    """The lines of a finalized invoice by id, with what was billed late for them. Without late lines: they
    are those of the invoices they belong to; nor items, nor what was billed within the period."""
    made: dict[str, Billed] = {}
    for raw in json.loads(document)["lines"]:
        if raw["kind"] in _NOT_COMPUTED:
            continue
        made[raw["id"]] = Billed(
            raw["charge"],
            raw["name"],
            raw["plan"],
            raw["version"],
            Period(time_us(raw["period"]["from"]), time_us(raw["period"]["to"])),
            Decimal(raw["quantity"]),
            add(Decimal(raw["rounded"]), late.get(raw["id"], ZERO)),
        )
    for line_id, amount in late.items():
        if line_id not in made and amount:
            made[line_id] = Billed("late", "Late", "", 0, Period(0, 1), ZERO, amount)
    return made


@exactly
def add(one: Decimal, other: Decimal) -> Decimal:
    return one + other


# -- the whole ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Sums:
    """Rounded money; `taxes` with their name and rate in percent."""

    subtotal: Decimal
    discount: Decimal
    taxes: tuple[tuple[str, Decimal, Decimal], ...]
    tax: Decimal
    total: Decimal


@exactly
def sums_of(lines: Sequence[Line], terms: Terms, currency: str) -> Sums:
    """subtotal − discount + tax = total, exactly. Tax is on what is left after the discount, each rate by itself."""
    subtotal = round_money(sum((line.rounded for line in lines), ZERO), currency)
    discount = round_money(product(subtotal, terms.discount_percent, _HUNDREDTH), currency)
    taxable = subtotal - discount
    taxes = tuple(
        (tax.name, tax.percent, round_money(product(taxable, tax.percent, _HUNDREDTH), currency))
        for tax in terms.taxes
    )
    whole = sum((amount for _, _, amount in taxes), ZERO)
    return Sums(
        subtotal,
        discount,
        taxes,
        round_money(whole, currency),
        round_money(taxable + whole, currency),
    )


def document_of(
    *,
    customer: str,
    subscription: str | None,
    period: Period,
    currency: str,
    lines: Sequence[Line],
    terms: Terms,
    plans: Sequence[str],
    position: str,
    as_of_us: int,
    program: str,
) -> str:
    """The text that is frozen: everything of an invoice but its number and its state."""
    sums = sums_of(lines, terms, currency)
    return canonical(
        {
            "customer": customer,
            "subscription": subscription,
            "period": {"from": time_text(period.from_us), "to": time_text(period.to_us)},
            "currency": currency,
            "lines": [line.to_wire() for line in lines],
            "subtotal": money_text(sums.subtotal),
            "discount": money_text(sums.discount),
            "taxes": [
                {"name": name, "percent": plain(percent), "amount": money_text(amount)}
                for name, percent, amount in sums.taxes
            ],
            "tax": money_text(sums.tax),
            "total": money_text(sums.total),
            "plans": list(plans),
            "position": position,
            "as_of": time_text(as_of_us),
            "program": program,
        }
    )


def time_text(us: int) -> str:
    """RFC 3339 in UTC with `Z`, a fraction only where there is one."""
    moment = _EPOCH + timedelta(microseconds=us)
    return moment.replace(tzinfo=None).isoformat() + "Z"


def time_us(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return (moment - _EPOCH) // timedelta(microseconds=1)
