"""`/v1/admin/backups`: take a backup while everything goes on. For the admin of the whole installation."""

import asyncio
import threading
from dataclasses import dataclass
from typing import Any, Literal

import structlog
from litestar import Request, get, post

from tallystick.api import wire
from tallystick.api.admin import check_installation_admin
from tallystick.api.auth import require
from tallystick.api.fields import Fields
from tallystick.api.openapi import POSITION, STRING, TIME, nullable, objects, operation
from tallystick.errors import Conflict, NotFound, TallystickError
from tallystick.flows.backup import BackupProgress, Manifest, back_up, check_target
from tallystick.flows.position import token_of
from tallystick.flows.system import System
from tallystick.flows.target import Target
from tallystick.flows.usage import in_questions

Connection = Request[Any, Any, Any]

WHERE_CHARACTERS_MAX = 2048
_logger = structlog.get_logger("backup")


@dataclass(slots=True)
class Backup:
    """The backup under way, or the last one."""

    to: str
    started_at_us: int
    state: Literal["running", "finished", "failed"] = "running"
    progress: BackupProgress = BackupProgress(0, 0)  # noqa: RUF009 -- frozen
    manifest: Manifest | None = None
    detail: str | None = None


class Backups:
    """One backup at a time. One event loop uses an instance."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._stopping = threading.Event()
        self._task: asyncio.Task[None] | None = None
        self.last: Backup | None = None

    async def start(self, where: str) -> Backup:
        """Raises Conflict while one is under way, or when the place is taken; Invalid for a place that is none."""
        if self.last is not None and self.last.state == "running":
            raise Conflict("A backup is being taken already.", code="backup_running")
        backup = Backup(where, self._system.clock.now_us())
        before, self.last = self.last, backup
        try:
            target = await in_questions(self._system, lambda: Target(where))
            backup.to = target.name
            await in_questions(self._system, lambda: check_target(target))
        except BaseException:
            self.last = before
            raise
        self._task = asyncio.create_task(self._run(backup, target), name="backup")
        return backup

    async def _run(self, backup: Backup, target: Target) -> None:
        def shown(progress: BackupProgress) -> None:
            backup.progress = progress

        try:
            backup.manifest = await back_up(
                self._system,
                target,
                in_thread=asyncio.to_thread,
                stopping=self._stopping,
                on_progress=shown,
            )
            backup.state = "finished"
        except Exception as error:
            expected = isinstance(error, TallystickError)
            backup.detail = error.detail if isinstance(error, TallystickError) else type(error).__name__
            backup.state = "failed"
            report = _logger.warning if expected else _logger.exception
            report("backup_failed", to=backup.to, error=repr(error))

    async def close(self) -> None:
        """Give up a backup under way; it may be begun again in the same place."""
        self._stopping.set()
        if self._task is not None:
            await asyncio.wait((self._task,))


def backup_document(backup: Backup) -> dict[str, Any]:
    """A backup on the wire."""
    manifest = backup.manifest
    return {
        "to": backup.to,
        "state": backup.state,
        "started_at": wire.time_text(backup.started_at_us),
        "rows_done": backup.progress.rows_done,
        "rows": backup.progress.rows,
        "rows_kept": backup.progress.rows_kept,
        "position": None if manifest is None else token_of((manifest.position,)),
        "as_of": None if manifest is None else wire.time_text(manifest.recorded_at_us),
        "events": None if manifest is None else manifest.events,
        "detail": backup.detail,
    }


_COUNT = {"type": "integer"}
_BACKUP = objects(
    {
        "to": STRING,
        "state": {"type": "string", "enum": ["running", "finished", "failed"]},
        "started_at": TIME,
        "rows_done": _COUNT,
        "rows": {**_COUNT, "description": "Of all facts; 0 until they are counted."},
        "rows_kept": {**_COUNT, "description": "Lay there from an earlier attempt, and are still right."},
        "position": {**nullable(POSITION), "description": "Everything recorded up to here is in it."},
        "as_of": {**nullable(TIME), "description": "The moment it is of."},
        "events": nullable(_COUNT),
        "detail": {**nullable(STRING), "description": "Why it failed."},
    }
)


def _backups(request: Connection) -> Backups:
    state = request.app.state
    found = state.get("backups")
    if found is None:
        found = state["backups"] = Backups(wire.system_of(request))
        request.app.on_shutdown.append(found.close)
    return found


@post(
    "/v1/admin/backups",
    guards=[require("admin")],
    status_code=202,
    opt={
        "operation": operation(
            summary="Take a backup",
            tag="Operation",
            description="Into an empty directory of the server's machine, or a bucket. Ingest and questions go on. A place "
            "with an unfinished backup is taken up again.",
            body=objects({"to": STRING}, additionalProperties=False),
            body_example={"to": "/var/backups/tallystick/2026-10-01"},
            answer=_BACKUP,
            status=202,
            errors=(409,),
        )
    },
)
async def start_backup(request: Connection) -> dict[str, Any]:
    """Begin; `GET` tells how far it is."""
    check_installation_admin(request)
    fields = await Fields.of_body(request)
    where = fields.required_text("to", characters_max=WHERE_CHARACTERS_MAX)
    if where and "://" not in where and not where.startswith("/"):
        fields.fault("to", "invalid_value", "to must be an absolute path or an s3:// URL.")
    fields.finish()
    return backup_document(await _backups(request).start(where))


@get(
    "/v1/admin/backups",
    guards=[require("admin")],
    opt={
        "operation": operation(
            summary="How far the backup is", tag="Operation", answer=_BACKUP, errors=(404,)
        )
    },
)
async def backup_progress(request: Connection) -> dict[str, Any]:
    """The backup under way, or the last one since the server started."""
    check_installation_admin(request)
    wire.check_parameters(request, ())
    backup = _backups(request).last
    if backup is None:
        raise NotFound("No backup was taken since the server started.", code="no_backup")
    return backup_document(backup)


ROUTES = [start_backup, backup_progress]
