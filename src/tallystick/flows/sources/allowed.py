"""What a source of a tenant may touch of the server: environment variables and folders that are meant for it."""

import re
from collections.abc import Mapping
from pathlib import Path

from tallystick.catalog.interface import DEFAULT_TENANT
from tallystick.config import Settings
from tallystick.errors import Fault, Forbidden, Invalid
from tallystick.sources.interface import SourceFaultError
from tallystick.sources.source import Source

SECRET_PREFIX = "TALLYSTICK_SECRET_"  # noqa: S105 -- the name of a variable begins with it
_PLAIN = re.compile("[a-z0-9]")
_PATHS = {"folder": "dir", "access_log": "path"}


def prefix_of(tenant: str) -> str:
    """What environment variables begin with that a tenant's sources may name. No tenant's is another's: what is no small
    letter or digit of a key is written as `_` and its number."""
    if tenant == DEFAULT_TENANT:
        return SECRET_PREFIX
    spelled = "".join(one.upper() if _PLAIN.fullmatch(one) else f"_{ord(one):02X}" for one in tenant)
    return f"{SECRET_PREFIX}{spelled}__"


def may_name(tenant: str, variable: str) -> bool:
    prefix = prefix_of(tenant)
    # Two underscores end a tenant's prefix: behind it there are none, so that one's variables never look like another's.
    return variable.startswith(prefix) and "__" not in variable.removeprefix(prefix)


def roots_of(settings: Settings, tenant: str) -> list[Path]:
    """Folders below which a tenant's sources may read."""
    listed = [part for part in settings.source_dirs.split(":") if part]
    roots = [Path(part) for part in listed] or [Path(settings.data_dir) / "sources"]
    return roots if tenant == DEFAULT_TENANT else [root / tenant for root in roots]


def path_of(settings: Settings, tenant: str, given: str) -> Path:
    """The real path of what a source may read; a relative one is below the first folder. Raises SourceFaultError."""
    roots = roots_of(settings, tenant)
    path = (roots[0] / given).resolve()
    if not any(path.is_relative_to(root.resolve()) for root in roots):
        raise SourceFaultError(
            f"{given} is outside of the folders that sources may read: {', '.join(map(str, roots))} (setting source_dirs).",
            code="source_outside",
        )
    return path


def check_tenant(settings: Settings, tenant: str) -> None:
    """Raises Forbidden (sources_not_allowed): the setting `sources` says who may have them."""
    if settings.sources == "off" or (settings.sources == "default" and tenant != DEFAULT_TENANT):
        raise Forbidden(
            "This tenant may have no sources: they read the server's files and secrets (setting `sources`).",
            code="sources_not_allowed",
        )


def check_allowed(settings: Settings, tenant: str, source: Source) -> None:
    """Raises Invalid with everything that a source of this tenant may not name."""
    faults: list[Fault] = []
    for variable in sorted(source.variables):
        if not may_name(tenant, variable):
            detail = f"{variable} is not for this tenant's sources; theirs begin with {prefix_of(tenant)}"
            faults.append(Fault("/settings", "secret_not_allowed", f"{detail} and have no __ behind it."))
    named = _PATHS.get(source.kind)
    if named is not None:
        try:
            path_of(settings, tenant, source.settings[named])
        except (SourceFaultError, OSError, ValueError) as error:
            faults.append(Fault(f"/settings/{named}", "source_outside", str(error)))
    if faults:
        raise Invalid(" ".join(fault.detail for fault in faults[:5]), code=faults[0].code, faults=faults)


def secret_of(environment: Mapping[str, str], tenant: str, variable: str) -> str:
    """Raises SourceFaultError (source_secret_missing)."""
    value = environment.get(variable) if may_name(tenant, variable) else None
    if not value:
        raise SourceFaultError(
            f"The environment variable {variable} of the server is not set.", code="source_secret_missing"
        )
    return value
