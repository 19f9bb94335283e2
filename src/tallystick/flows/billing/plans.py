"""Plans: a draft is made and changed, published, archived. What is published never changes; a change is a new draft."""

from collections.abc import Callable, Mapping
from typing import Any

from tallystick.billing.charge import Charge
from tallystick.billing.kept import plan_of, plan_text
from tallystick.billing.plan import Plan, PlanAction, PlanState, next_state, parse_plan
from tallystick.catalog.billing import KeptPlan
from tallystick.catalog.interface import Actor, Catalog
from tallystick.document import pointer_of
from tallystick.errors import Conflict, Fault, Invalid, NotFound
from tallystick.flows.billing.parts import billing_of
from tallystick.flows.billing.selection import filters_of
from tallystick.flows.system import System
from tallystick.flows.usage import GROUPS_BESIDE_DIMENSIONS
from tallystick.metering.meter import Meter

_CHANGE_ATTEMPTS_MAX = 5


def create_plan(system: System, tenant: str, raw: object, *, actor: Actor, now_us: int) -> KeptPlan:
    """A new plan, or the next draft of one that has none. Raises Invalid with every fault, Conflict (plan_exists)."""
    plan = parse_plan(raw)
    check_meters(system.catalog, tenant, plan)
    return billing_of(system).add_plan_version(
        tenant, plan.key, plan_text(plan), first=True, actor=actor, now_us=now_us
    )


def change_plan(
    system: System,
    tenant: str,
    key: str,
    members: Mapping[str, Any],
    *,
    expected: Callable[[KeptPlan], None] = lambda present: None,
    actor: Actor,
    now_us: int,
) -> KeptPlan:
    """The members given replace those of the newest version: in place where it is a draft, otherwise in a new draft.
    `expected` is asked about the version that is changed, within the transaction; what it raises ends the change. Members
    that somebody else changes at the same moment are not lost."""
    for _ in range(_CHANGE_ATTEMPTS_MAX):
        try:
            return _change(system, tenant, key, members, expected, actor=actor, now_us=now_us)
        except _Moved:
            continue
    raise Conflict(f"The plan {key!r} is being changed by others. Try again.", code="plan_state")


class _Moved(Exception):
    """The plan is no longer what the change was made of."""


def _change(
    system: System,
    tenant: str,
    key: str,
    members: Mapping[str, Any],
    expected: Callable[[KeptPlan], None],
    *,
    actor: Actor,
    now_us: int,
) -> KeptPlan:
    billing = billing_of(system)
    read = billing.plan(tenant, key)

    def unmoved(newest: KeptPlan) -> None:
        expected(newest)
        if newest != read:
            raise _Moved

    present = plan_of(read.content)
    if members.get("key", key) != key:
        detail = "The key of a plan cannot be changed."
        raise Invalid(detail, code="key_immutable", faults=[Fault("/key", "key_immutable", detail)])
    plan = parse_plan({**present.to_wire(), **members})
    check_meters(system.catalog, tenant, plan)
    return billing.add_plan_version(
        tenant, key, plan_text(plan), first=False, expected=unmoved, actor=actor, now_us=now_us
    )


def advance_plan(
    system: System,
    tenant: str,
    key: str,
    version: int | None,
    action: PlanAction,
    *,
    expected: Callable[[KeptPlan], None] = lambda present: None,
    actor: Actor,
    now_us: int,
) -> KeptPlan:
    """Publish or archive a version (None: the newest). `expected`: as in `change_plan`. Raises Conflict (plan_state)."""

    def to_state(present: KeptPlan) -> str:
        expected(present)
        return next_state(PlanState(present.state), action).value

    if action is PlanAction.PUBLISH:
        check_meters(system.catalog, tenant, plan_of(billing_of(system).plan(tenant, key, version).content))
    return billing_of(system).change_plan_state(
        tenant,
        key,
        version,
        to_state,
        actor=actor,
        now_us=now_us,
    )


def check_meters(catalog: Catalog, tenant: str, plan: Plan) -> None:
    """Raise Invalid with a fault for every charge whose meter, dimension or filter there is not."""
    faults: list[Fault] = []
    places: list[tuple[tuple[str | int, ...], tuple[Charge, ...]]] = [(("charges",), plan.charges)]
    places += [(("phases", index, "charges"), phase.charges) for index, phase in enumerate(plan.phases)]
    places += [(("add_ons", index, "charges"), one.charges) for index, one in enumerate(plan.add_ons)]
    for place, charges in places:
        for index, charge in enumerate(charges):
            _check_charge(catalog, tenant, charge, (*place, index), faults)
    if faults:
        raise Invalid(" ".join(fault.detail for fault in faults[:5]), code=faults[0].code, faults=faults)


def _check_charge(
    catalog: Catalog, tenant: str, charge: Charge, place: tuple[str | int, ...], faults: list[Fault]
) -> None:
    def fault(member: str, code: str, detail: str) -> None:
        faults.append(Fault(pointer_of(*place, member), code, f"{'.'.join(map(str, place))}: {detail}"))

    if charge.meter is None:
        needs = charge.price.needs()
        if needs.dimensions or needs.window_minutes or needs.split_us or needs.transactions:
            fault("price", "meter_needed", f"a {charge.price.model_name} price needs a meter.")
        return
    try:
        meter = catalog.meter(tenant, charge.meter)
    except NotFound:
        fault("meter", "unknown_meter", f"there is no meter {charge.meter!r}.")
        return
    for name in charge.group_by:
        if not _has(meter, name):
            fault("group_by", "unknown_dimension", f"the meter {meter.key!r} has no dimension {name!r}.")
    for name in sorted(charge.price.needs().dimensions):
        if not _has(meter, name):
            fault("price", "unknown_dimension", f"the meter {meter.key!r} has no dimension {name!r}.")
    try:
        filters = filters_of(charge.filter)
    except Invalid as error:
        fault("filter", error.code, error.detail)
        return
    for condition in filters:
        if not _has(meter, condition.name):
            fault(
                "filter", "unknown_dimension", f"the meter {meter.key!r} has no dimension {condition.name!r}."
            )


def _has(meter: Meter, name: str) -> bool:
    return name in GROUPS_BESIDE_DIMENSIONS or any(one.name == name for one in meter.dimensions)
