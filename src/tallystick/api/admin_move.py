"""`/v1/admin/move`: move to a cluster while everything goes on. For the admin of the whole installation."""

import asyncio
import threading
from dataclasses import dataclass, field
from typing import Any, Literal

import structlog
from litestar import Request, get, post

from tallystick.api import wire
from tallystick.api.admin import check_installation_admin
from tallystick.api.auth import require
from tallystick.api.fields import Fields
from tallystick.api.openapi import STRING, TIME, nullable, objects, operation
from tallystick.errors import Conflict, NotFound, TallystickError
from tallystick.flows.move import move
from tallystick.flows.move_rows import MoveProgress
from tallystick.flows.system import System

Connection = Request[Any, Any, Any]

URL_CHARACTERS_MAX = 2048
_logger = structlog.get_logger("move")


@dataclass(slots=True)
class Move:
    """The move under way, or the last attempt."""

    to: str
    state: Literal["running", "finished", "failed"] = "running"
    progress: MoveProgress = field(default_factory=MoveProgress)
    detail: str | None = None


class Moves:
    """One move at a time. One event loop uses an instance."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._stopping = threading.Event()
        self._task: asyncio.Task[None] | None = None
        self.last: Move | None = None

    async def start(self, *, log_url: str, store_url: str, catalog_url: str, partitions: int) -> Move:
        """Raises Conflict while one is under way, Invalid for URLs that cannot be used."""
        if self.last is not None and self.last.state == "running":
            raise Conflict("This installation is moving already.", code="move_running")
        open_elsewhere = self._system.open_elsewhere
        if open_elsewhere is None or self._system.gate.reason is not None:
            raise Conflict(self._system.gate.reason or "This process cannot move.", code="moved")
        made = self.last = Move("a cluster")
        try:
            there = await asyncio.to_thread(
                lambda: open_elsewhere(
                    log_url=log_url, store_url=store_url, catalog_url=catalog_url, partitions=partitions
                )
            )
        except BaseException:
            self.last = None
            raise
        made.to = there.name

        async def run() -> None:
            try:
                await move(self._system, there, made.progress, stopping=self._stopping)
                made.state = "finished"
            except Exception as error:
                expected = isinstance(error, TallystickError)
                made.detail = error.detail if isinstance(error, TallystickError) else type(error).__name__
                made.state = "failed"
                report = _logger.warning if expected else _logger.exception
                report("move_failed", to=made.to, error=repr(error))
            finally:
                await asyncio.to_thread(there.close)

        self._task = asyncio.create_task(run(), name="move")
        return made

    async def close(self) -> None:
        """Give up a move under way; it may be begun again and goes on where it was."""
        self._stopping.set()
        if self._task is not None:
            await asyncio.wait((self._task,))


def _document(made: Move) -> dict[str, Any]:
    progress = made.progress
    return {
        "to": made.to,
        "state": made.state,
        "step": progress.step,
        "rounds": progress.rounds,
        "rows_done": progress.rows_done,
        "rows": progress.rows,
        "facts": progress.facts,
        "figures_equal": progress.figures,
        "as_of": None if progress.as_of_us is None else wire.time_text(progress.as_of_us),
        "read_only_s": None if progress.read_only_s is None else round(progress.read_only_s, 3),
        "detail": made.detail,
    }


_COUNT = {"type": "integer"}
_MOVE = objects(
    {
        "to": STRING,
        "state": {"type": "string", "enum": ["running", "finished", "failed"]},
        "step": {**STRING, "description": "What is being done."},
        "rounds": {**_COUNT, "description": "Each brings what was recorded since the one before."},
        "rows_done": {**_COUNT, "description": "Of this round."},
        "rows": _COUNT,
        "facts": {"type": "object", "additionalProperties": _COUNT, "description": "Rows by table."},
        "figures_equal": {**_COUNT, "description": "Usage by meter and customer, equal on both sides."},
        "as_of": {**nullable(TIME), "description": "The moment the figures are of."},
        "read_only_s": {
            **nullable({"type": "number"}),
            "description": "Seconds from refusing events until the cluster may take them.",
        },
        "detail": {**nullable(STRING), "description": "Why it failed."},
    }
)


def _moves(request: Connection) -> Moves:
    state = request.app.state
    found = state.get("moves")
    if found is None:
        found = state["moves"] = Moves(wire.system_of(request))
        request.app.on_shutdown.append(found.close)
    return found


@post(
    "/v1/admin/move",
    guards=[require("admin")],
    status_code=202,
    opt={
        "operation": operation(
            summary="Move to a cluster",
            tag="Operation",
            description="Of an installation with one partition, into an empty log, store and catalog. Ingest and questions go "
            "on until the last few events; from then on this server answers questions only. A failed move is taken up "
            "where it was by asking again.",
            body=objects(
                {"log_url": STRING, "store_url": STRING, "catalog_url": STRING, "partitions": _COUNT},
                additionalProperties=False,
            ),
            body_example={
                "log_url": "nats://n1:4222,n2:4222,n3:4222",
                "store_url": "https://user:password@clickhouse:8443/tallystick",
                "catalog_url": "postgresql://user:password@postgres/tallystick",
                "partitions": 8,
            },
            answer=_MOVE,
            status=202,
            errors=(409,),
        )
    },
)
async def start_move(request: Connection) -> dict[str, Any]:
    """Begin; `GET` tells how far it is."""
    check_installation_admin(request)
    fields = await Fields.of_body(request)
    urls = {
        name: fields.required_text(name, characters_max=URL_CHARACTERS_MAX)
        for name in ("log_url", "store_url", "catalog_url")
    }
    partitions = fields.integer("partitions", least=1, most=64)
    fields.finish()
    return _document(
        await _moves(request).start(
            log_url=urls["log_url"],
            store_url=urls["store_url"],
            catalog_url=urls["catalog_url"],
            partitions=8 if partitions is None else partitions,
        )
    )


@get(
    "/v1/admin/move",
    guards=[require("admin")],
    opt={"operation": operation(summary="How far the move is", tag="Operation", answer=_MOVE, errors=(404,))},
)
async def move_progress(request: Connection) -> dict[str, Any]:
    """The move under way, or the last attempt since the server started."""
    check_installation_admin(request)
    wire.check_parameters(request, ())
    made = _moves(request).last
    if made is None:
        raise NotFound("No move was begun since the server started.", code="no_move")
    return _document(made)


ROUTES = [start_move, move_progress]
