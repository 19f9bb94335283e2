"""What of saved views and scheduled reports is kept. A protocol of its own, apart from the catalog's: metering runs without it.
The conventions are those of interface.py."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from tallystick.catalog.interface import Actor, Page

VIEWS_PER_TENANT_MAX = 10_000
REPORTS_PER_TENANT_MAX = 500
FILE_BYTES_MAX = 8 * 1024 * 1024
FILES_KEPT = 50
"""Of each report, the newest."""
RUNS_KEPT = 1000
REPORT_KIND = "report.ready"
"""The kind of news that a report is."""
RunKind = Literal["scheduled", "manual"]
RunStatus = Literal["sent", "failed"]


@dataclass(frozen=True, slots=True)
class Reader:
    """Who looks at views. `owner`: whose private ones are seen; `sees_all`: of everybody."""

    owner: str
    name: str
    sees_all: bool


@dataclass(frozen=True, slots=True)
class KeptView:
    """A view, and whose it is. `content`: JSON (reporting/view.py)."""

    tenant: str
    key: str
    content: str
    shared: bool
    owner: str
    owner_name: str
    created_at_us: int
    changed_at_us: int
    archived_at_us: int | None

    def seen_by(self, reader: Reader) -> bool:
        return self.shared or reader.sees_all or self.owner == reader.owner

    def changed_by(self, reader: Reader) -> bool:
        return reader.sees_all or self.owner == reader.owner


@dataclass(frozen=True, slots=True)
class KeptReport:
    """A report. `content`: JSON (reporting/report.py). `next_due_us` None: it is not sent by itself."""

    id: str
    tenant: str
    key: str
    view: str
    content: str
    next_due_us: int | None
    created_at_us: int
    changed_at_us: int
    archived_at_us: int | None


@dataclass(frozen=True, slots=True)
class ReportFile:
    """What a run has made."""

    name: str
    media_type: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class NewRun:
    """What became of a due moment, or of "send now". `failure`: code and detail, where there is no file. `summary`,
    `page` (of the view) and `link` (of the file) are for the message."""

    id: str
    kind: RunKind
    due_at_us: int
    at_us: int
    missed: int
    summary: str
    page: str
    link: str
    channel: str
    file: ReportFile | None
    from_us: int | None = None
    to_us: int | None = None
    failure: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class ReportRun:
    """One that was written down. `file_bytes` and `digest` (SHA-256) of its file, which `has_file` while it is kept."""

    id: str
    kind: RunKind
    due_at_us: int
    at_us: int
    missed: int
    status: RunStatus
    delivery: str | None
    error: str | None
    detail: str | None
    from_us: int | None
    to_us: int | None
    file_name: str | None
    media_type: str | None
    file_bytes: int | None
    digest: str | None
    has_file: bool


class ReportCatalog(Protocol):
    """See above."""

    # -- views --------------------------------------------------------------------------------------------------
    def create_view(
        self, tenant: str, key: str, content: str, *, shared: bool, reader: Reader, actor: Actor, now_us: int
    ) -> KeptView:
        """In place of an archived one of this key. Raises Conflict (view_exists, too_many_views)."""
        ...

    def change_view(
        self,
        tenant: str,
        key: str,
        content: str,
        *,
        shared: bool,
        reader: Reader,
        expected: Callable[[KeptView], None],
        actor: Actor,
        now_us: int,
    ) -> KeptView:
        """`expected` is called with the present state within the transaction: what it raises ends the change. Raises
        NotFound (view_not_found), Forbidden (other_owner)."""
        ...

    def archive_view(
        self,
        tenant: str,
        key: str,
        *,
        reader: Reader,
        expected: Callable[[KeptView], None],
        actor: Actor,
        now_us: int,
    ) -> None:
        """Raises NotFound (view_not_found), Forbidden (other_owner), Conflict (view_in_use)."""
        ...

    def view(self, tenant: str, key: str, *, reader: Reader | None = None) -> KeptView:
        """Raises NotFound (view_not_found): also for one that `reader` does not see (None: sees all)."""
        ...

    def views(
        self,
        tenant: str,
        *,
        reader: Reader,
        archived: bool = False,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[KeptView]:
        """By key; `archived`: those too."""
        ...

    # -- reports ------------------------------------------------------------------------------------------------
    def create_report(
        self,
        tenant: str,
        key: str,
        view: str,
        content: str,
        *,
        next_due_us: int | None,
        actor: Actor,
        now_us: int,
    ) -> KeptReport:
        """In place of an archived one of this key. Raises Conflict (report_exists, too_many_reports)."""
        ...

    def change_report(
        self,
        tenant: str,
        key: str,
        view: str,
        content: str,
        *,
        next_due_us: int | None,
        reader: Reader,
        expected: Callable[[KeptReport], None],
        actor: Actor,
        now_us: int,
    ) -> KeptReport:
        """As `change_view`. Raises NotFound (report_not_found)."""
        ...

    def archive_report(
        self,
        tenant: str,
        key: str,
        *,
        reader: Reader,
        expected: Callable[[KeptReport], None],
        actor: Actor,
        now_us: int,
    ) -> None:
        """Its runs stay. Raises NotFound (report_not_found)."""
        ...

    def report(self, tenant: str, key: str, *, reader: Reader) -> KeptReport:
        """Raises NotFound (report_not_found): also for one of a view that `reader` does not see."""
        ...

    def reports(
        self,
        tenant: str,
        *,
        reader: Reader,
        archived: bool = False,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[KeptReport]:
        """By key."""
        ...

    # -- runs ---------------------------------------------------------------------------------------------------
    def due_reports(self, now_us: int, *, limit: int = 100) -> Sequence[KeptReport]:
        """Those of tenants that are not suspended, the longest due first."""
        ...

    def next_report_due_us(self) -> int | None:
        """When the next one is due."""
        ...

    def write_run(
        self, report: KeptReport, run: NewRun, *, next_due_us: int | None, now_us: int
    ) -> str | None:
        """Write a run down, tell its channel (under an id that follows from the run's), and move the report on to
        `next_due_us`, all or nothing; the run's id. None: the due moment was somebody else's by now, or the report has
        been changed, and nothing was written. A manual run moves nothing."""
        ...

    def report_runs(
        self, report: KeptReport, *, cursor: str | None = None, limit: int = 100
    ) -> Page[ReportRun]:
        """Newest first, without their files."""
        ...

    def report_run(self, report: KeptReport, run: str) -> ReportRun:
        """Raises NotFound (report_run_not_found)."""
        ...

    def report_file(self, tenant: str, run: str) -> ReportFile | None:
        """Of a run; None: there is none, or not any more."""
        ...
