"""What it takes to export continuously: the catalog's part, and which places may be written to. `lake_of(system)` for who needs it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tallystick.catalog.exporting import ExportCatalog, KeptExport
from tallystick.errors import Fault, Invalid, Unavailable
from tallystick.lake.interface import Place

if TYPE_CHECKING:
    from tallystick.flows.system import System

SCHEMES = ("s3://", "file://")


@dataclass(frozen=True, slots=True)
class Lake:
    """`allowed`: URLs below which exports may write (setting export_urls): a tenant must not choose a folder of the server, or a
    bucket that the server's credentials happen to open. `open`: a place by its URL."""

    catalog: ExportCatalog
    allowed: tuple[str, ...]
    open: Callable[[str], Place]

    def check(self, url: str) -> None:
        """Raises Invalid (export_url_not_allowed)."""
        wanted = f"{url.rstrip('/')}/"
        parts = url.partition("://")[2].split("/")
        plain = url.startswith(SCHEMES) and not any(part in ("..", ".") for part in parts)
        if not plain or not any(wanted.startswith(f"{one.rstrip('/')}/") for one in self.allowed):
            known = " or ".join(self.allowed) if self.allowed else "nowhere yet"
            detail = f"An export may write {known}: the operator's setting export_urls says below which URLs."
            code = "export_url_not_allowed"
            raise Invalid(detail, code=code, faults=[Fault("/url", code, detail)])


def root_of(kept: KeptExport) -> str:
    """The URL of the folder an export writes to. No two of an installation share one, unless one follows the other."""
    parts = [kept.setup.url.rstrip("/"), kept.setup.prefix.strip("/"), kept.tenant, kept.key]
    return "/".join(part for part in parts if part)


def lake_of(system: "System") -> Lake:
    """Raises Unavailable in a system built without one."""
    if system.lake is None:
        raise Unavailable("This process exports nothing.", retry_after_s=60)
    return system.lake
