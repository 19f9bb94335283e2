"""What is kept of continuous exports: where they go, and how far they are. A protocol of its own, apart from the catalog's. The
conventions are those of interface.py."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec

from tallystick.catalog.billing import KeptInvoice
from tallystick.catalog.interface import Actor, Page

EXPORTS_PER_TENANT_MAX = 100
What = Literal["events", "usage", "invoices"]
WHATS: tuple[What, ...] = ("events", "usage", "invoices")
Partitioning = Literal["hour", "date", "none"]
PARTITIONINGS: tuple[Partitioning, ...] = ("hour", "date", "none")


class ExportSetup(msgspec.Struct, frozen=True, kw_only=True):
    """What a person sets. `url` and `prefix`: where to. `meters`: of usage, which; None: all in service."""

    what: What
    url: str
    prefix: str = ""
    every_s: int = 300
    partitioning: Partitioning = "date"
    meters: tuple[str, ...] | None = None
    paused: bool = False


class InvoicePlace(msgspec.Struct, frozen=True):
    """How far in the order in which invoices became final, and in that in which they became void."""

    sequence: int = 0
    voided: int = 0


class ExportPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a manifest is to hold: written down before the first file, so that whoever is killed makes the same again. `meters`:
    by the id of a meter's version, after which moment."""

    number: int
    after_us: int
    until_us: int
    made_us: int
    meters: dict[str, int] = {}
    invoices: tuple[InvoicePlace, InvoicePlace] | None = None


class ExportState(msgspec.Struct, frozen=True, kw_only=True):
    """How far it is: the last manifest, its end and digest; `seen_us`: until when there was nothing more; `looked_us`:
    when it last had everything there was."""

    number: int = 0
    to_us: int = 0
    seen_us: int = 0
    looked_us: int = 0
    digest: str | None = None
    meters: dict[str, int] = {}
    invoices: InvoicePlace = InvoicePlace()
    rows: int = 0
    files: int = 0
    bytes: int = 0
    plan: ExportPlan | None = None
    failures: int = 0
    error: str | None = None
    error_code: str | None = None


@dataclass(frozen=True, slots=True)
class KeptExport:
    """`id` tells it from a later one of the same key; `version` grows with each change of state or setup."""

    tenant: str
    key: str
    id: str
    setup: ExportSetup
    state: ExportState
    version: int
    due_at_us: int
    created_at_us: int
    changed_at_us: int


@dataclass(frozen=True, slots=True)
class InvoiceChange:
    """An invoice that became final (sign 1), or void after that (sign -1)."""

    invoice: KeptInvoice
    sign: int
    at_us: int


class ExportCatalog(Protocol):
    """The part of the catalog that keeps continuous exports."""

    def create_export(
        self, tenant: str, key: str, setup: ExportSetup, *, name: str, actor: Actor, now_us: int
    ) -> KeptExport:
        """Raises Conflict (export_exists, too_many_exports)."""
        ...

    def change_export(
        self,
        tenant: str,
        key: str,
        change: Callable[[KeptExport], ExportSetup],
        *,
        actor: Actor,
        now_us: int,
    ) -> KeptExport:
        """Raises NotFound (export_not_found), and what `change` raises. It is due at once."""
        ...

    def delete_export(
        self,
        tenant: str,
        key: str,
        *,
        expected: Callable[[KeptExport], None] = lambda present: None,
        actor: Actor,
        now_us: int,
    ) -> None: ...

    def export(self, tenant: str, key: str) -> KeptExport: ...

    def exports(self, tenant: str | None, *, cursor: str | None = None, limit: int = 100) -> Page[KeptExport]:
        """By tenant (None: of all) and key."""
        ...

    def hurry_export(self, tenant: str, key: str, *, now_us: int) -> KeptExport:
        """It is due now."""
        ...

    def due_exports(self, now_us: int, *, limit: int) -> list[KeptExport]:
        """Those that are not paused and are due, the longest due first."""
        ...

    def advance_export(self, present: KeptExport, state: ExportState, *, due_at_us: int) -> KeptExport | None:
        """Write down how far it is, if it is as `present` yet; otherwise None, and nothing is changed."""
        ...

    def invoice_end(self, tenant: str) -> InvoicePlace:
        """How far both orders are now."""
        ...

    def invoice_changes(
        self, tenant: str, after: InvoicePlace, until: InvoicePlace, *, limit: int
    ) -> tuple[list[InvoiceChange], InvoicePlace]:
        """The next changes behind a place, at most so many, and the place behind them; none left: `until`."""
        ...
