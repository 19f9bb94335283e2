"""Alerts as people and customers set them: checked against the meters, limits and channels there are."""

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, cast

from tallystick.alerting.rule import Operation, Rule, SubjectKind, parse_rule
from tallystick.billing.kept import canonical
from tallystick.catalog.alerting import AlertCatalog, AlertDraft, KeptAlert
from tallystick.catalog.delivering import DeliveryCatalog
from tallystick.catalog.interface import Actor, Catalog
from tallystick.document import pointer_of
from tallystick.errors import Fault, Forbidden, Invalid, NotFound
from tallystick.flows.billing.selection import filters_of
from tallystick.flows.system import System
from tallystick.flows.usage import GROUPS_BESIDE_DIMENSIONS


def alerts_of(system: System) -> AlertCatalog:
    """The catalog, as far as it keeps alerts. (Metering's own interface does not name them: it runs without.)"""
    return cast("AlertCatalog", system.catalog)


@lru_cache(maxsize=20_000)
def rule_of(content: str) -> Rule:
    """The rule that is kept as this text."""
    return parse_rule(json.loads(content))


def create_alert(
    system: System, tenant: str, owner: str | None, raw: object, *, actor: Actor, now_us: int
) -> KeptAlert:
    """`owner`: the customer that sets it, for itself alone. Raises Invalid with every fault, Conflict (alert_exists)."""
    rule = checked(system, tenant, owner, raw)
    return alerts_of(system).create_alert(tenant, owner, rule.key, _draft(rule), actor=actor, now_us=now_us)


def change_alert(
    system: System,
    tenant: str,
    owner: str | None,
    key: str,
    members: Mapping[str, Any],
    *,
    whole: bool,
    expected: Callable[[KeptAlert], None],
    actor: Actor,
    now_us: int,
) -> KeptAlert:
    """The members given replace the present ones; `whole`: they are all there is. Where something that decides is
    changed, its states begin anew. Raises Invalid, NotFound (alert_not_found)."""
    if members.get("key", key) != key:
        detail = "The key of an alert cannot be changed."
        raise Invalid(detail, code="key_immutable", faults=[Fault("/key", "key_immutable", detail)])
    catalog = alerts_of(system)
    kept = catalog.alert(tenant, owner, key)
    raw = {"key": key, **members} if whole else _merged(rule_of(kept.content).to_wire(), members)
    rule = checked(system, tenant, owner, raw)

    def change(present: KeptAlert) -> AlertDraft:
        expected(present)
        if not whole and present.content != kept.content:
            from tallystick.errors import PreconditionFailed

            raise PreconditionFailed("This has been changed meanwhile: read it again, then change it.")
        return _draft(rule, decides=rule_of(present.content).decided_by() != rule.decided_by())

    return catalog.change_alert(tenant, owner, key, change, actor=actor, now_us=now_us)


def _merged(present: dict[str, Any], members: Mapping[str, Any]) -> dict[str, Any]:
    """One subject takes the place of another; a new condition with its own usual window does not keep the old one's."""
    subjects = tuple(SubjectKind)
    if any(members.get(name) is not None for name in subjects):
        present = {name: value for name, value in present.items() if name not in subjects}
    if "condition" in members and "window" not in members:
        before, after = present["condition"], members["condition"]
        kind = cast("dict[str, Any]", after).get("op") if isinstance(after, dict) else None
        if kind != before["op"] or kind == Operation.SILENCE:
            present = {name: value for name, value in present.items() if name != "window"}
    return {**present, **members}


def checked(system: System, tenant: str, owner: str | None, raw: object) -> Rule:
    """A valid rule of this tenant, or customer. Raises Invalid with every fault, Forbidden (other_customer)."""
    if owner is not None and isinstance(raw, Mapping):
        given = cast("Mapping[str, Any]", raw)
        if given.get("customer") not in (None, "*", owner):
            raise Forbidden("This token may not set alerts for that customer.", code="other_customer")
        raw = {**given, "customer": owner}
    rule = parse_rule(raw)
    faults: list[Fault] = []
    _check_subject(system, tenant, owner, rule, faults)
    _check_channels(cast("DeliveryCatalog", system.catalog), tenant, owner, rule, faults)
    if faults:
        raise Invalid(" ".join(fault.detail for fault in faults[:5]), code=faults[0].code, faults=faults)
    return rule


def _draft(rule: Rule, *, decides: bool = False) -> AlertDraft:
    return AlertDraft(rule.customer, canonical(rule.to_wire()), decides)


def _check_subject(system: System, tenant: str, owner: str | None, rule: Rule, faults: list[Fault]) -> None:
    def fault(member: str, code: str, detail: str) -> None:
        faults.append(Fault(pointer_of(*member.split("/")), code, detail))

    kind = rule.subject.kind
    if kind is SubjectKind.EVENTS and owner is not None:
        fault("events", "invalid_value", "Events that count for nobody are no customer's to watch.")
    if kind is SubjectKind.COST and system.billing is None:
        fault("cost", "billing_off", "Billing is switched off, so there are no costs.")
    if kind is SubjectKind.CREDITS and rule.subject.unit is not None:
        _meter(system.catalog, tenant, rule.subject.unit.meter, "credits/meter", fault)
    if kind is SubjectKind.METER:
        _check_meter(system.catalog, tenant, rule, fault)
    billing = rule.window is not None and rule.window.text == "billing"
    if billing and kind is SubjectKind.METER and system.billing is None:
        fault("window", "billing_off", "Billing is switched off, so there are no billing periods.")
    if rule.condition.operation is Operation.PERCENT_OF_LIMIT:
        _check_limit(system, tenant, rule, fault)


def _check_limit(system: System, tenant: str, rule: Rule, fault: Callable[[str, str, str], None]) -> None:
    from tallystick.flows.alerts.limits import limit_fault

    found = limit_fault(system, tenant, rule)
    if found is not None:
        fault("condition/limit", *found)


def _check_meter(catalog: Catalog, tenant: str, rule: Rule, fault: Callable[[str, str, str], None]) -> None:
    meter = _meter(catalog, tenant, rule.subject.meter, "meter", fault)
    if meter is None:
        return
    known = {*GROUPS_BESIDE_DIMENSIONS[1:], *(one.name for one in meter.dimensions)}
    for index, name in enumerate(rule.group_by):
        if name not in known:
            fault(
                f"group_by/{index}",
                "unknown_dimension",
                f"The meter {meter.key!r} has no dimension {name!r}; it has {', '.join(sorted(known))}.",
            )
    try:
        filters = filters_of(rule.filter)
    except Invalid as error:
        fault("filter", error.code, error.detail)
        return
    for condition in filters:
        if condition.name not in known:
            fault(
                f"filter/{condition.name}",
                "unknown_dimension",
                f"The meter {meter.key!r} has no dimension {condition.name!r}.",
            )


def _meter(
    catalog: Catalog, tenant: str, key: str | None, place: str, fault: Callable[[str, str, str], None]
) -> Any:
    if key is None:
        return None
    try:
        meter = catalog.meter(tenant, key)
    except NotFound:
        fault(place, "unknown_meter", f"There is no meter {key!r}. GET /v1/meters lists them.")
        return None
    if meter.archived_at_us is not None:
        fault(place, "meter_archived", f"The meter {key!r} is archived: it counts nothing any more.")
        return None
    return meter


def _check_channels(
    catalog: DeliveryCatalog, tenant: str, owner: str | None, rule: Rule, faults: list[Fault]
) -> None:
    for index, key in enumerate(rule.channels):
        try:
            channel = catalog.channel(tenant, key)
        except NotFound:
            channel = None
        # Whether somebody else's channel exists is nothing a customer may learn.
        if channel is None or (owner is not None and channel.customer != owner):
            pointer = pointer_of("channels", index)
            faults.append(
                Fault(
                    pointer,
                    "unknown_channel",
                    f"There is no channel {key[:128]!r}. GET /v1/channels lists them.",
                )
            )
