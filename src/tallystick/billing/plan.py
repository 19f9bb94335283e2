"""What a plan says: charges, phases, add-ons, trial, commitment; and the states its versions go through.

A plan is read from JSON with every fault at once and written back as it was meant, so that a version in the catalog can be
compared, shown and rated again years later.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any, cast

from tallystick.billing.charge import NAME_CHARACTERS_MAX, Charge, read_charges
from tallystick.billing.period import Length, Unit, read_duration_us, read_length
from tallystick.billing.proration import ProrateBy
from tallystick.billing.threshold import NO_THRESHOLDS, Thresholds, read_thresholds
from tallystick.document import Document
from tallystick.errors import Conflict, Invalid
from tallystick.money import ZERO, exponent_of, plain
from tallystick.rating.commitment import Commitment

PHASES_MAX = 50
ADD_ONS_MAX = 100
TRIAL_DAYS_MAX = 3660
LATE_POLICIES = ("next_invoice", "credit_note")
DESCRIPTION_CHARACTERS_MAX = 4096
GRACE_US_MAX = 366 * 86_400_000_000


class Covers(StrEnum):
    """What a trial is free of: everything, or the charges without a meter only."""

    ALL = "all"
    FEES = "fees"


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of a subscription with charges of its own. `length` None: the last one, without an end."""

    key: str
    name: str
    length: Length | None
    charges: tuple[Charge, ...]
    free: bool = False
    """Nothing is due in it: a trial that is more than a number of days."""

    def to_wire(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "name": self.name,
            "length": None if self.length is None else self.length.text(),
            "charges": [charge.to_wire() for charge in self.charges],
            "free": self.free,
        }


@dataclass(frozen=True, slots=True)
class AddOn:
    """Charges that a subscription may take on top, up to `instances_max` times."""

    key: str
    name: str
    charges: tuple[Charge, ...]
    instances_max: int = 1

    def to_wire(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "name": self.name,
            "charges": [charge.to_wire() for charge in self.charges],
            "instances_max": self.instances_max,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """One version's content. `phases` is empty for a plan that does not change over time: `charges` then hold always."""

    key: str
    name: str
    currency: str
    billing_period: Length
    charges: tuple[Charge, ...] = ()
    phases: tuple[Phase, ...] = ()
    add_ons: tuple[AddOn, ...] = ()
    commitment: Commitment | None = None
    minimum: Decimal | None = None
    """Least amount of an invoice of a whole period, before tax; prorated with it."""
    trial_days: int = 0
    trial_covers: Covers = Covers.ALL
    proration: ProrateBy = ProrateBy.DAY
    invoice_grace_us: int | None = None
    """None: the setting's."""
    thresholds: Thresholds = NO_THRESHOLDS
    """Amounts within a period at which an invoice is made before its end."""
    late: str | None = None
    """What becomes of money that is due back for finalized lines (LATE_POLICIES). None: the setting's."""
    description: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])

    def charges_in(self, phase: int) -> tuple[Charge, ...]:
        """The charges of phase number `phase` (0 without phases)."""
        return self.phases[phase].charges if self.phases else self.charges

    def meters(self) -> frozenset[str]:
        """Every meter that the plan reads."""
        return frozenset(charge.meter for charge in self.every_charge() if charge.meter is not None)

    def every_charge(self) -> tuple[Charge, ...]:
        of_phases = (charge for phase in self.phases for charge in phase.charges)
        of_add_ons = (charge for add_on in self.add_ons for charge in add_on.charges)
        return (*self.charges, *of_phases, *of_add_ons)

    def to_wire(self) -> dict[str, Any]:
        """The JSON that `parse_plan` reads, every member present."""
        return {
            "key": self.key,
            "name": self.name,
            "description": self.description,
            "currency": self.currency,
            "billing_period": self.billing_period.text(),
            "charges": [charge.to_wire() for charge in self.charges],
            "phases": [phase.to_wire() for phase in self.phases],
            "add_ons": [add_on.to_wire() for add_on in self.add_ons],
            "commitment": None if self.commitment is None else self.commitment.to_wire(),
            "minimum": None if self.minimum is None else plain(self.minimum),
            "trial_days": self.trial_days,
            "trial_covers": self.trial_covers.value,
            "proration": self.proration.value,
            "invoice_grace": None if self.invoice_grace_us is None else duration_text(self.invoice_grace_us),
            "thresholds": self.thresholds.to_wire(),
            "late": self.late,
            "metadata": dict(self.metadata),
        }


def duration_text(us: int) -> str:
    """Microseconds (whole seconds) as ISO 8601."""
    seconds = us // 1_000_000
    if seconds and seconds % 3600 == 0:
        return f"PT{seconds // 3600}H"
    return f"PT{seconds}S"


# -- reading --------------------------------------------------------------------------------------------------------
def parse_plan(raw: object) -> Plan:
    """Read a plan from parsed JSON. Raises Invalid with a fault for everything that is wrong.

    Codes: those of rating/price.py, invalid_key, invalid_period, unknown_currency, timing_not_allowed,
    quantity_not_allowed, group_by_not_allowed, charges_and_phases.
    """
    document = Document(raw)
    key = document.key("key") or ""
    currency = document.required_text("currency", characters_max=16)
    if currency:
        try:
            exponent_of(currency)
        except Invalid as error:
            document.fault(
                error.code,
                f"is {currency!r}, no ISO 4217 code that money is paid in, such as EUR.",
                "currency",
            )
    period = read_length(document, "billing_period")
    if not document.has("billing_period"):
        period = Length(Unit.MONTH, 1)
    by_default = ProrateBy.SECOND if period is not None and period.unit is Unit.HOUR else ProrateBy.DAY
    grace_us = read_duration_us(document, "invoice_grace")
    if grace_us is not None and grace_us > GRACE_US_MAX:
        document.fault("invalid_period", "must be at most 366 days.", "invoice_grace")
    charges = read_charges(document)
    phases = _read_phases(document)
    if charges and phases:
        document.fault("charges_and_phases", "must be in the phases, when there are any.", "charges")
    made = Plan(
        key=key,
        name=document.text("name", characters_max=NAME_CHARACTERS_MAX) or key,
        currency=currency,
        billing_period=period or Length(Unit.MONTH, 1),
        charges=charges,
        phases=phases,
        add_ons=_read_add_ons(document),
        commitment=_read_commitment(document),
        minimum=document.decimal("minimum"),
        trial_days=document.integer("trial_days", least=0, most=TRIAL_DAYS_MAX) or 0,
        trial_covers=Covers(document.choice("trial_covers", tuple(Covers)) or Covers.ALL),
        proration=ProrateBy(document.choice("proration", tuple(ProrateBy)) or by_default),
        invoice_grace_us=grace_us,
        thresholds=read_thresholds(document),
        late=document.choice("late", LATE_POLICIES),
        description=document.text("description", characters_max=DESCRIPTION_CHARACTERS_MAX),
        metadata=read_metadata(document),
    )
    document.finish()
    return made


def _read_phases(document: Document) -> tuple[Phase, ...]:
    made: list[Phase] = []
    keys: set[str] = set()
    count = len(document.list_of("phases", items_max=PHASES_MAX))
    for index, one in enumerate(document.objects("phases", items_max=PHASES_MAX)):
        key = one.key("key") or ""
        if key in keys:
            document.fault("repeated", f"is the key of another phase, {key!r}.", "phases", index, "key")
        keys.add(key)
        length = read_length(one, "length")
        last = index == count - 1
        if last and one.has("length"):
            one.fault("invalid_period", "must be null: the last phase has no end.", "length")
        elif not last and not one.has("length"):
            one.fault("missing", "is required for every phase but the last.", "length")
        charges = read_charges(one)
        made.append(
            Phase(
                key,
                one.text("name", characters_max=NAME_CHARACTERS_MAX) or key,
                length,
                charges,
                one.boolean("free") or False,
            )
        )
    return tuple(made)


def _read_add_ons(document: Document) -> tuple[AddOn, ...]:
    made: dict[str, AddOn] = {}
    for index, one in enumerate(document.objects("add_ons", items_max=ADD_ONS_MAX)):
        key = one.key("key") or ""
        if key in made:
            document.fault("repeated", f"is the key of another add-on, {key!r}.", "add_ons", index, "key")
        made[key] = AddOn(
            key,
            one.text("name", characters_max=NAME_CHARACTERS_MAX) or key,
            read_charges(one),
            one.integer("instances_max", least=1, most=10**6) or 1,
        )
    return tuple(made.values())


def _read_commitment(document: Document) -> Commitment | None:
    """An amount, or an object with it."""
    raw = document.take("commitment")
    if raw is None:
        return None
    if isinstance(raw, dict):
        inner = document.below(cast("dict[str, Any]", raw), "commitment")
        made = Commitment.read(inner)
        inner.close()
        return made
    return Commitment(document.decimal("commitment") or ZERO)


def read_metadata(document: Document) -> Mapping[str, str]:
    """Up to 50 strings by name, of which nothing here makes anything."""
    raw = document.take("metadata")
    if raw is None:
        return {}
    members = cast("dict[str, Any]", raw) if isinstance(raw, dict) else None
    if members is None or len(members) > 50:
        document.fault("invalid_value", "must be an object of at most 50 strings.", "metadata")
        return {}
    for name, value in members.items():
        if not isinstance(value, str) or len(value) > 1024 or len(name) > 128:
            document.fault(
                "invalid_value", "must be a string of at most 1024 characters.", "metadata", name[:128]
            )
            return {}
    return dict(members)


# -- versions -------------------------------------------------------------------------------------------------------
class PlanState(StrEnum):
    """Of a version: it can be changed, it can be subscribed to, or neither (those who have it keep it)."""

    DRAFT = "draft"
    PUBLISHED = "published"
    ARCHIVED = "archived"


class PlanAction(StrEnum):
    """What a person does to a version."""

    CHANGE = "change"
    PUBLISH = "publish"
    ARCHIVE = "archive"


_NEXT: dict[tuple[PlanState, PlanAction], PlanState] = {
    (PlanState.DRAFT, PlanAction.CHANGE): PlanState.DRAFT,
    (PlanState.DRAFT, PlanAction.PUBLISH): PlanState.PUBLISHED,
    (PlanState.DRAFT, PlanAction.ARCHIVE): PlanState.ARCHIVED,
    (PlanState.PUBLISHED, PlanAction.ARCHIVE): PlanState.ARCHIVED,
}


def next_state(state: PlanState, action: PlanAction) -> PlanState:
    """Raises Conflict (plan_state) where a version cannot do that: what is published never changes again."""
    found = _NEXT.get((state, action))
    if found is None:
        raise Conflict(f"A version that is {state} cannot {action}; make a new draft.", code="plan_state")
    return found
