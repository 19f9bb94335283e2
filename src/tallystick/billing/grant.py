"""A grant of credits: what it is worth, what it may be spent on, when it begins, comes again and ends."""

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any

from tallystick.billing.period import YEARS_MAX, Cadence, Length, Unit, read_length
from tallystick.document import Document, decimal_of
from tallystick.errors import Invalid
from tallystick.metering.instant import instant_text, instant_us
from tallystick.metering.window import zone_of
from tallystick.money import ZERO, exponent_of, plain

PRIORITY_DEFAULT = 50
PRIORITY_MAX = 1000
SCOPE_ITEMS_MAX = 200
NAME_CHARACTERS_MAX = 256
CUSTOMER_CHARACTERS_MAX = 256
ANY = "*"
_YEARS_US_MAX = YEARS_MAX * 366 * 86_400_000_000
_METER_PREFIX = "meter:"


class Source(StrEnum):
    """Paid for by the customer, or given away."""

    PREPAID = "prepaid"
    PROMOTIONAL = "promotional"


@dataclass(frozen=True, slots=True, order=True)
class CreditUnit:
    """What credits are counted in: money of a currency, or units of a meter. Exactly one of the two is set."""

    currency: str | None = None
    meter: str | None = None

    def text(self) -> str:
        """One word for both: "USD", "meter:tokens" (no currency has a colon)."""
        return self.currency or f"{_METER_PREFIX}{self.meter}"

    @classmethod
    def of_text(cls, text: str) -> "CreditUnit":
        if text.startswith(_METER_PREFIX):
            return cls(meter=text.removeprefix(_METER_PREFIX))
        return cls(currency=text)


@dataclass(frozen=True, slots=True)
class Rollover:
    """What of the balance survives a recurrence: no less than `least`, no more than `most` (None: all of it).

    OpenMeter's min(most, max(least, balance)). `least` 0 and `most` None is Lago's: what is left adds up.
    """

    least: Decimal = ZERO
    most: Decimal | None = ZERO

    def kept(self, balance: Decimal) -> Decimal:
        kept = max(self.least, balance)
        return kept if self.most is None else min(self.most, kept)


NOTHING_KEPT = Rollover()


@dataclass(frozen=True, slots=True)
class Recurrence:
    """At every border of the cadence after the grant began, what is left rolls over and `amount` is added."""

    every: Length
    anchor_us: int
    timezone: str
    amount: Decimal

    def next_after(self, at_us: int) -> int:
        return Cadence(self.every, self.timezone, self.anchor_us).period_at(at_us).to_us


@dataclass(frozen=True, slots=True)
class Scope:
    """What money credits may pay: lines of these meters ("*": of any), charges, plans. Empty: of all."""

    meters: frozenset[str] = frozenset()
    charges: frozenset[str] = frozenset()
    plans: frozenset[str] = frozenset()

    def covers(self, *, meter: str | None, charge: str | None, plan: str | None) -> bool:
        return (
            (not self.meters or (meter is not None and (ANY in self.meters or meter in self.meters)))
            and (not self.charges or charge in self.charges)
            and (not self.plans or plan in self.plans)
        )

    def to_wire(self) -> dict[str, list[str]]:
        return {
            "meters": sorted(self.meters),
            "charges": sorted(self.charges),
            "plans": sorted(self.plans),
        }


@dataclass(frozen=True, slots=True)
class Grant:
    """Credits of one customer. They count in [effective_us, expires_us), and no longer than until `voided_us`."""

    id: str
    customer: str
    unit: CreditUnit
    amount: Decimal
    effective_us: int
    created_us: int
    expires_us: int | None = None
    priority: int = PRIORITY_DEFAULT
    source: Source = Source.PREPAID
    rollover: Rollover = NOTHING_KEPT
    recurrence: Recurrence | None = None
    scope: Scope = field(default_factory=Scope)
    name: str = ""
    voided_us: int | None = None

    @property
    def end_us(self) -> int | None:
        """When it stops to count; None: never."""
        ends = [end for end in (self.expires_us, self.voided_us) if end is not None]
        return min(ends) if ends else None

    def burn_order(self) -> tuple[object, ...]:
        """Which grant is spent first: the lower priority, then what expires sooner (never: last), then what was given
        away before what was paid for, then the older, then the id."""
        return (
            self.priority,
            self.expires_us is None,
            self.expires_us or 0,
            self.source is Source.PREPAID,
            self.created_us,
            self.id,
        )

    def to_wire(self) -> dict[str, Any]:
        """The JSON that `read_grant` reads, every member present."""
        recurrence = self.recurrence
        return {
            "customer": self.customer,
            "name": self.name or None,
            "amount": plain(self.amount),
            "currency": self.unit.currency,
            "meter": self.unit.meter,
            "source": self.source.value,
            "priority": self.priority,
            "effective_at": instant_text(self.effective_us),
            "expires_at": None if self.expires_us is None else instant_text(self.expires_us),
            "rollover": None
            if self.rollover == NOTHING_KEPT
            else {
                "min": plain(self.rollover.least),
                "max": None if self.rollover.most is None else plain(self.rollover.most),
            },
            "recurrence": None
            if recurrence is None
            else {
                "every": recurrence.every.text(),
                "anchor": instant_text(recurrence.anchor_us),
                "timezone": recurrence.timezone,
                "amount": plain(recurrence.amount),
            },
            "scope": self.scope.to_wire(),
        }


# -- reading --------------------------------------------------------------------------------------------------------
def read_grant(raw: object, *, grant_id: str, created_us: int, timezone: str = "UTC") -> Grant:
    """A grant from parsed JSON. `timezone`: the customer's, whose calendar recurrences follow.

    Raises Invalid with every fault: those of Document, unknown_currency, credit_unit_needed, invalid_period, empty_range, time_out_of_range,
    too_precise, scope_not_allowed.
    """
    document = Document(raw)
    customer = document.required_text("customer", characters_max=CUSTOMER_CHARACTERS_MAX)
    unit = read_unit(document)
    amount = document.required_decimal("amount")
    check_precision(document, unit, amount, "amount")
    effective_us = _read_time(document, "effective_at")
    if effective_us is None:
        effective_us = created_us
    if abs(effective_us - created_us) > _YEARS_US_MAX:
        document.fault("time_out_of_range", f"lies more than {YEARS_MAX} years off.", "effective_at")
        effective_us = created_us
    expires_us = _read_time(document, "expires_at")
    if expires_us is not None and expires_us <= effective_us:
        document.fault("empty_range", "must be later than the grant begins.", "expires_at")
    recurrence = _read_recurrence(document, unit, amount, effective_us, timezone)
    if not amount and (recurrence is None or not recurrence.amount):
        document.fault("too_small", "must be greater than 0.", "amount")
    made = Grant(
        id=grant_id,
        customer=customer,
        unit=unit,
        amount=amount,
        effective_us=effective_us,
        created_us=created_us,
        expires_us=expires_us,
        priority=_or(document.integer("priority", least=0, most=PRIORITY_MAX), PRIORITY_DEFAULT),
        source=Source(document.choice("source", tuple(Source)) or Source.PREPAID),
        rollover=_read_rollover(document, unit),
        recurrence=recurrence,
        scope=_read_scope(document, unit),
        name=document.text("name", characters_max=NAME_CHARACTERS_MAX) or "",
    )
    document.finish()
    return made


def read_unit(document: Document) -> CreditUnit:
    """`currency` or `meter`, exactly one of them."""
    currency = document.text("currency", characters_max=16)
    meter = document.key("meter", required=False)
    if document.has("currency") == document.has("meter"):
        document.fault("credit_unit_needed", "needs either a currency or a meter.")
    if currency is not None:
        try:
            exponent_of(currency)
        except Invalid as error:
            sentence = f"is {currency!r}, no ISO 4217 code that money is paid in, such as EUR."
            document.fault(error.code, sentence, "currency")
            currency = None
    return CreditUnit(currency, None if currency else meter)


def check_precision(document: Document, unit: CreditUnit, amount: Decimal | None, *place: str) -> None:
    """Money credits have whole minor units: what is paid with them is rounded, and a rest could never be spent."""
    if unit.currency is None or amount is None:
        return
    digits = exponent_of(unit.currency)
    exponent = amount.normalize().as_tuple().exponent
    if isinstance(exponent, int) and -exponent > digits:
        document.fault("too_precise", f"may have {digits} digits after the point in {unit.currency}.", *place)


def _or(value: int | None, otherwise: int) -> int:
    return otherwise if value is None else value


def _read_time(document: Document, name: str) -> int | None:
    text = document.text(name, characters_max=64)
    if text is None:
        return None
    try:
        return instant_us(text)
    except ValueError as error:
        document.fault("invalid_time", f"is no time: {error}", name)
        return None


def _read_rollover(document: Document, unit: CreditUnit) -> Rollover:
    """true: everything; an amount: up to it; or both ends. Without a recurrence it never comes to it."""
    raw = document.take("rollover")
    if raw is None or raw is False:
        return NOTHING_KEPT
    if raw is True:
        return Rollover(ZERO, None)
    if not isinstance(raw, dict):
        try:
            most = decimal_of(raw)
        except ValueError:
            document.fault("invalid_value", 'must be true, an amount, or {"min", "max"}.', "rollover")
            return NOTHING_KEPT
        most = document.decimal_at(raw, "rollover") or ZERO
        check_precision(document, unit, most, "rollover")
        return Rollover(ZERO, most)
    inner = document.below(raw, "rollover")
    least, most = inner.decimal("min") or ZERO, inner.decimal("max")
    check_precision(document, unit, least, "rollover", "min")
    check_precision(document, unit, most, "rollover", "max")
    if most is not None and most < least:
        inner.fault("too_small", "must not be less than min.", "max")
    inner.close()
    return Rollover(least, most)


def _read_recurrence(
    document: Document, unit: CreditUnit, amount: Decimal, effective_us: int, timezone: str
) -> Recurrence | None:
    raw = document.take("recurrence")
    if raw is None:
        return None
    inner = document.below(raw if isinstance(raw, dict) else {"every": raw}, "recurrence")
    every = read_length(inner, "every")
    if every is None and not inner.has("every"):
        inner.fault("missing", "is required.", "every")
    if every is not None and every.unit is Unit.HOUR:
        inner.fault("invalid_period", "must be a day or longer.", "every")
    anchor_us = _read_time(inner, "anchor")
    zone = inner.text("timezone", characters_max=64) or timezone
    try:
        zone_of(zone)
    except Invalid as error:
        inner.fault(error.code, f"is {zone!r}, no IANA time zone.", "timezone")
        zone = "UTC"
    given = inner.decimal("amount")
    check_precision(document, unit, given, "recurrence", "amount")
    inner.close()
    if anchor_us is not None and abs(anchor_us - effective_us) > _YEARS_US_MAX:
        inner.fault("time_out_of_range", f"lies more than {YEARS_MAX} years off.", "anchor")
        anchor_us = None
    return Recurrence(
        every or Length(Unit.MONTH, 1),
        effective_us if anchor_us is None else anchor_us,
        zone,
        amount if given is None else given,
    )


def _read_scope(document: Document, unit: CreditUnit) -> Scope:
    raw = document.take("scope")
    if raw is None:
        return Scope()
    inner = document.below(raw, "scope")
    made = Scope(
        *(frozenset(inner.texts(name, items_max=SCOPE_ITEMS_MAX)) for name in ("meters", "charges", "plans"))
    )
    inner.close()
    if unit.meter is not None and made != Scope():
        document.fault("scope_not_allowed", "is for money; units of a meter pay for that meter.", "scope")
    return made
