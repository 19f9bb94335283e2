"""Scheduled reports and their runs. A run is written in one transaction with the delivery that it becomes and with the report's
next due moment: what is written has been enqueued, once."""

import base64
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, delete, func, insert, select, update

from tallystick.catalog import channel_tables, report_tables, tables
from tallystick.catalog.cursor import checked_limit, cursor_of, key_of, number_of
from tallystick.catalog.database import Database, from_json, to_json
from tallystick.catalog.delivering import Notice
from tallystick.catalog.interface import Actor, Page
from tallystick.catalog.notices import enqueue
from tallystick.catalog.reporting import (
    FILES_KEPT,
    REPORT_KIND,
    REPORTS_PER_TENANT_MAX,
    RUNS_KEPT,
    KeptReport,
    NewRun,
    Reader,
    ReportFile,
    ReportRun,
)
from tallystick.catalog.secret import new_id
from tallystick.catalog.views import seen
from tallystick.errors import Conflict, NotFound
from tallystick.metering.instant import instant_text

INLINE_BYTES_MAX = 192 * 1024
"""As JSON. A larger file is not in the message to a webhook, which says where to fetch it."""

_table = report_tables.reports
_column = _table.c
_views = report_tables.views
_runs = report_tables.report_runs
_run = _runs.c
_WITHOUT_FILE = (
    *(column for column in _run if column.name != "file"),
    _run.file.is_not(None).label("has_file"),
)


class Reports:
    """The part of the catalog that keeps reports."""

    _database: Database

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
        values = {
            "view_key": view,
            "content": content,
            "next_due_us": next_due_us,
            "created_at_us": now_us,
            "changed_at_us": now_us,
            "archived_at_us": None,
        }
        with self._database.changing(actor, now_us) as change:
            mine = (_column.tenant == tenant, _column.key == key)
            present = change.connection.execute(select(_table).where(*mine)).one_or_none()
            if present is not None and present.archived_at_us is None:
                raise Conflict(f"There is a report {key!r} already. Replace it (PUT).", code="report_exists")
            active = select(func.count()).where(_column.tenant == tenant, _column.archived_at_us.is_(None))
            if change.connection.execute(active).scalar_one() >= REPORTS_PER_TENANT_MAX:
                raise Conflict(
                    f"A tenant has at most {REPORTS_PER_TENANT_MAX} reports.", code="too_many_reports"
                )
            if present is None:
                named = {"tenant": tenant, "key": key, "id": new_id("rpt")}
                change.connection.execute(insert(_table), {**named, **values})
            else:
                change.connection.execute(update(_table).where(*mine).values(**values))
            made = _kept(change.connection.execute(select(_table).where(*mine)).one())
            change.record((), tenant, "report.create", f"report/{key}", after=from_json(content))
        return made

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
        with self._database.changing(actor, now_us) as change:
            present = _get(change.connection, tenant, key, reader)
            expected(present)
            if present.content == content:
                return present
            values = {
                "view_key": view,
                "content": content,
                "next_due_us": next_due_us,
                "changed_at_us": now_us,
            }
            change.connection.execute(update(_table).where(_column.id == present.id).values(**values))
            change.record(
                (),
                tenant,
                "report.change",
                f"report/{key}",
                before=from_json(present.content),
                after=from_json(content),
            )
            return _get(change.connection, tenant, key, reader)

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
        with self._database.changing(actor, now_us) as change:
            present = _get(change.connection, tenant, key, reader)
            expected(present)
            change.connection.execute(
                update(_table).where(_column.id == present.id).values(archived_at_us=now_us, next_due_us=None)
            )
            change.record((), tenant, "report.archive", f"report/{key}", before=from_json(present.content))

    def report(self, tenant: str, key: str, *, reader: Reader) -> KeptReport:
        with self._database.reading() as connection:
            return _get(connection, tenant, key, reader)

    def reports(
        self,
        tenant: str,
        *,
        reader: Reader,
        archived: bool = False,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[KeptReport]:
        query = _seen(tenant, reader).order_by(_column.key)
        if not archived:
            query = query.where(_column.archived_at_us.is_(None))
        after = key_of(cursor, "reports")
        if after is not None:
            query = query.where(_column.key > after)
        with self._database.reading() as connection:
            found = connection.execute(query.limit(checked_limit(limit) + 1)).all()
        more = len(found) > limit
        return Page(
            tuple(map(_kept, found[:limit])), cursor_of("reports", found[limit - 1].key) if more else None
        )

    # -- runs ---------------------------------------------------------------------------------------------------
    def due_reports(self, now_us: int, *, limit: int = 100) -> Sequence[KeptReport]:
        query = _working(select(_table)).where(_column.next_due_us <= now_us)
        with self._database.reading() as connection:
            return tuple(map(_kept, connection.execute(query.order_by(_column.next_due_us).limit(limit))))

    def next_report_due_us(self) -> int | None:
        with self._database.reading() as connection:
            return connection.execute(_working(select(func.min(_column.next_due_us)))).scalar_one()

    def write_run(
        self, report: KeptReport, run: NewRun, *, next_due_us: int | None, now_us: int
    ) -> str | None:
        with self._database.writing() as connection:
            if run.kind == "scheduled":
                # The fence: of all who have worked this moment out, one moves the report on. `content` too, so that what was
                # changed meanwhile is not sent as it was.
                moved = connection.execute(
                    update(_table)
                    .where(
                        _column.id == report.id,
                        _column.next_due_us == report.next_due_us,
                        _column.content == report.content,
                    )
                    .values(next_due_us=next_due_us)
                )
                if moved.rowcount != 1:
                    return None
                known = select(_run.number).where(_run.id == run.id)
                if connection.execute(known).scalar_one_or_none() is not None:
                    return None  # the clock was put back; it is moved on, and not sent twice
            failure, delivery = run.failure, None
            if failure is None:
                sent = enqueue(connection, _notice(connection, report, run), now_us=now_us)
                delivery = sent[0] if sent else None
                if delivery is None:
                    failure = (
                        "unknown_channel",
                        f"There is no channel {run.channel!r} that sends: it is disabled or deleted.",
                    )
            file = run.file
            values = {
                "id": run.id,
                "tenant": report.tenant,
                "report_id": report.id,
                "kind": run.kind,
                "due_at_us": run.due_at_us,
                "at_us": run.at_us,
                "missed": run.missed,
                "status": "sent" if failure is None else "failed",
                "delivery": delivery,
                "error": None if failure is None else failure[0],
                "detail": None if failure is None else failure[1][:1024],
                "from_us": run.from_us,
                "to_us": run.to_us,
                "file_name": None if file is None else file.name,
                "media_type": None if file is None else file.media_type,
                "file_bytes": None if file is None else len(file.content),
                "digest": None if file is None else hashlib.sha256(file.content).hexdigest(),
                "file": None if file is None else file.content,
            }
            connection.execute(insert(_runs), values)
            _forget_old(connection, report.id)
        return run.id

    def report_runs(
        self, report: KeptReport, *, cursor: str | None = None, limit: int = 100
    ) -> Page[ReportRun]:
        query = select(*_WITHOUT_FILE).where(_run.report_id == report.id).order_by(_run.number.desc())
        before = number_of(cursor, "report_runs")
        if before is not None:
            query = query.where(_run.number < before)
        with self._database.reading() as connection:
            found = connection.execute(query.limit(checked_limit(limit) + 1)).all()
        more = len(found) > limit
        return Page(
            tuple(map(_run_of, found[:limit])),
            cursor_of("report_runs", found[limit - 1].number) if more else None,
        )

    def report_run(self, report: KeptReport, run: str) -> ReportRun:
        query = select(*_WITHOUT_FILE).where(_run.report_id == report.id, _run.id == run)
        with self._database.reading() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise NotFound(f"The report {report.key!r} has no run {run[:80]!r}.", code="report_run_not_found")
        return _run_of(row)

    def report_file(self, tenant: str, run: str) -> ReportFile | None:
        query = select(_run.file_name, _run.media_type, _run.file).where(
            _run.tenant == tenant, _run.id == run, _run.file.is_not(None)
        )
        with self._database.reading() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else ReportFile(row.file_name, row.media_type, bytes(row.file))


def _notice(connection: Connection, report: KeptReport, run: NewRun) -> Notice:
    file = run.file
    assert file is not None
    data: dict[str, Any] = {
        "report": report.key,
        "view": report.view,
        "run": run.id,
        "due_at": instant_text(run.due_at_us),
        "from": None if run.from_us is None else instant_text(run.from_us),
        "to": None if run.to_us is None else instant_text(run.to_us),
        "page": run.page,
        "file": {
            "name": file.name,
            "media_type": file.media_type,
            "bytes": len(file.content),
            "sha256": hashlib.sha256(file.content).hexdigest(),
            "url": run.link,
        },
    }
    channels = channel_tables.channels.c
    content = select(channels.content).where(channels.tenant == report.tenant, channels.key == run.channel)
    setup = connection.execute(content).scalar_one_or_none()
    # People are sent the file itself, or a link: what stands in the message is for programs.
    if setup is not None and from_json(setup)["type"] == "webhook" and len(file.content) <= INLINE_BYTES_MAX:
        is_text = file.media_type.startswith("text/")
        text = file.content.decode() if is_text else base64.b64encode(file.content).decode()
        if len(to_json(text).encode()) <= INLINE_BYTES_MAX:
            data["content"] = {"encoding": "utf-8" if is_text else "base64", "text": text}
    return Notice(
        tenant=report.tenant,
        id=run.id,
        kind=REPORT_KIND,
        summary=run.summary,
        data=data,
        at_us=run.at_us,
        channels=(run.channel,),
        only_named=True,
    )


def _forget_old(connection: Connection, report_id: str) -> None:
    of_report = select(_run.number).where(_run.report_id == report_id).order_by(_run.number.desc())
    last = connection.execute(of_report.offset(RUNS_KEPT).limit(1)).scalar_one_or_none()
    if last is not None:
        connection.execute(delete(_runs).where(_run.report_id == report_id, _run.number <= last))
    with_file = of_report.where(_run.file.is_not(None)).offset(FILES_KEPT).limit(1)
    last = connection.execute(with_file).scalar_one_or_none()
    if last is not None:
        connection.execute(
            update(_runs).where(_run.report_id == report_id, _run.number <= last).values(file=None)
        )


def _working(query: Select[Any]) -> Select[Any]:
    """Of reports that are sent by themselves, in tenants that are there and not suspended."""
    tenant = tables.tenants
    return (
        query.select_from(_table.join(tenant, tenant.c.key == _column.tenant))
        .where(_column.next_due_us.is_not(None))
        .where(tenant.c.deleted_at_us.is_(None), tenant.c.suspended_at_us.is_(None))
    )


def _seen(tenant: str, reader: Reader) -> Select[Any]:
    joined = and_(_views.c.tenant == _column.tenant, _views.c.key == _column.view_key)
    return (
        select(_table).select_from(_table.join(_views, joined)).where(_column.tenant == tenant, seen(reader))
    )


def _get(connection: Connection, tenant: str, key: str, reader: Reader) -> KeptReport:
    query = _seen(tenant, reader).where(_column.key == key, _column.archived_at_us.is_(None))
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound(
            f"There is no report {key[:128]!r}. GET /v1/reports lists them.", code="report_not_found"
        )
    return _kept(row)


def _kept(row: Row[Any]) -> KeptReport:
    return KeptReport(
        row.id,
        row.tenant,
        row.key,
        row.view_key,
        row.content,
        row.next_due_us,
        row.created_at_us,
        row.changed_at_us,
        row.archived_at_us,
    )


_RUN_NAMES = tuple(ReportRun.__dataclass_fields__)


def _run_of(row: Row[Any]) -> ReportRun:
    return ReportRun(**{name: getattr(row, name) for name in _RUN_NAMES})
