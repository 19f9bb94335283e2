"""What the paths of billing share: the catalog they are kept in, plans by version, members of a subscription."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from tallystick.billing.kept import plan_of
from tallystick.billing.plan import Plan
from tallystick.billing.subscription import Subscription
from tallystick.catalog.billing import BillingCatalog
from tallystick.errors import Unavailable
from tallystick.flows.system import System

if TYPE_CHECKING:
    from tallystick.billing.timeline import Plans


def billing_of(system: System) -> BillingCatalog:
    """Where billing is kept. Raises Unavailable where it is switched off."""
    if system.billing is None:
        raise Unavailable("Billing is switched off here.", code="billing_off")
    return system.billing


def plans_of(billing: BillingCatalog, tenant: str, subscriptions: Iterable[Subscription]) -> "Plans":
    """Every plan version that these have or had."""
    wanted = {(span.plan, span.version) for one in subscriptions for span in one.spans}
    found = billing.plans_by_version(tenant, wanted)
    return {place: plan_of(kept.content) for place, kept in found.items()}


def plan_texts(plans: Mapping[tuple[str, int], Plan]) -> list[str]:
    """`key@version`, sorted."""
    return sorted(f"{key}@{version}" for key, version in plans)
