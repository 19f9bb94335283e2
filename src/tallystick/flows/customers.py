"""Which customers a caller may ask about. The one place that decides it.

A caller bound to a customer (a portal token) sees that customer and everything below it, and nothing else: what it asks
for is cut down to that, what it names beyond is refused, and what it could only learn by a figure over everybody
(totals, other customers' keys) is computed over what it sees.
"""

from collections.abc import Iterable

from tallystick.catalog.interface import Catalog
from tallystick.errors import Forbidden


def visible(catalog: Catalog, tenant: str, bound: str | None) -> tuple[str, ...] | None:
    """The customers a caller sees: None for all of them (it is not bound)."""
    if bound is None:
        return None
    return tuple(dict.fromkeys((bound, *catalog.children(tenant, (bound,)))))


def narrowed(
    catalog: Catalog, tenant: str, bound: str | None, asked: Iterable[str] | None
) -> tuple[str, ...] | None:
    """The customers a question covers: those asked for, or all the caller sees; None for all there are.

    Raises Forbidden (other_customer) when one is asked for that the caller does not see; whether it exists does not
    matter, so the answer tells nothing."""
    seen = visible(catalog, tenant, bound)
    if asked is None:
        return seen
    wanted = tuple(dict.fromkeys(asked))
    if seen is not None and not set(wanted) <= set(seen):
        raise Forbidden("This token may not see that customer.", code="other_customer")
    return wanted


def check_unbound(bound: str | None) -> None:
    """Raise Forbidden for a caller bound to a customer: what follows is about the whole tenant."""
    if bound is not None:
        raise Forbidden("A customer's token may not do that.", code="customer_token")
