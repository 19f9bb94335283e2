"""What a key may be allowed to do. Kept apart so that there is one list of it."""

from collections.abc import Collection, Iterable

from tallystick.errors import Fault, Invalid

_NAME_CHARACTERS_MAX = 256

SCOPES: tuple[str, ...] = (
    "events:write",
    "events:read",
    "usage:read",
    "meters:read",
    "meters:write",
    "customers:read",
    "customers:write",
    "limits:check",
    "limits:write",
    "alerts:read",
    "alerts:write",
    "billing:read",
    "billing:write",
    "admin",  # all of them
)
WILDCARDS: tuple[str, ...] = tuple(
    dict.fromkeys(f"{scope.partition(':')[0]}:*" for scope in SCOPES if ":" in scope)
)
"""`customers:*` is every scope of customers, those to come as well."""
GRANTABLE: tuple[str, ...] = (*SCOPES, *WILDCARDS)
"""What a key can be given."""
PORTAL_SCOPES: tuple[str, ...] = (
    "events:read",
    "usage:read",
    "meters:read",
    "customers:read",
    "limits:check",
    "alerts:read",
    "alerts:write",
    "billing:read",
)
"""What a customer's token can be given: nothing that changes the tenant, but alerts and channels of its own."""
PORTAL_DEFAULT: tuple[str, ...] = ("events:read", "usage:read", "meters:read", "customers:read")
"""What it is given when nothing is asked for, as far as the key that makes it has it."""


def expanded(granted: Iterable[str]) -> frozenset[str]:
    """The scopes that were granted, wildcards spelled out; "admin" stands for itself."""
    found: set[str] = set()
    for scope in granted:
        if scope.endswith(":*"):
            found.update(known for known in SCOPES if known.startswith(scope[:-1]))
        else:
            found.add(scope)
    return frozenset(found)


def in_order(granted: Collection[str]) -> tuple[str, ...]:
    """Each once, in the order of the list."""
    return tuple(scope for scope in GRANTABLE if scope in granted)


def check_key(name: str, scopes: Collection[str], expires_at_us: int | None, now_us: int) -> None:
    """Raise Invalid with every fault there is."""
    faults: list[Fault] = []
    if not 1 <= len(name) <= _NAME_CHARACTERS_MAX:
        faults.append(Fault("/name", "invalid_name", f"A name has 1 to {_NAME_CHARACTERS_MAX} characters."))
    if not scopes:
        faults.append(Fault("/scopes", "missing_scopes", "A key needs at least one scope."))
    for index, scope in enumerate(scopes):
        if scope not in GRANTABLE:
            known = ", ".join(GRANTABLE)
            faults.append(
                Fault(f"/scopes/{index}", "unknown_scope", f"There is no scope {scope[:40]!r}, but {known}.")
            )
        if len(faults) >= len(SCOPES):
            break
    if expires_at_us is not None and expires_at_us <= now_us:
        faults.append(Fault("/expires_at", "expires_in_past", "expires_at must lie in the future."))
    if faults:
        raise Invalid(" ".join(fault.detail for fault in faults), faults=faults)
