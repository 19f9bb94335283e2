"""One run of a report: the figures, the file, and what is written down of it."""

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import quote, urlencode

import structlog

from tallystick.catalog.reporting import KeptReport, NewRun, RunKind
from tallystick.errors import TallystickError, TimedOut, Unavailable
from tallystick.flows.reports.answer import answered
from tallystick.flows.reports.definitions import report_of, reports_of, view_of
from tallystick.flows.reports.files import file_of
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions
from tallystick.money import plain

_logger = structlog.get_logger("reports")


def run_id(report: KeptReport, due_us: int) -> str:
    """The same for the same report and due moment."""
    return f"rrun_{hashlib.sha256(f'{report.id} {due_us}'.encode()).hexdigest()[:24]}"


async def send_now(system: System, report: KeptReport) -> str:
    """A run beside the schedule; its id."""
    now_us = system.clock.now_us()
    made = await prepared(
        system, report, f"rrun_{secrets.token_hex(12)}", kind="manual", due_us=now_us, missed=0
    )
    written = await in_questions(
        system, lambda: reports_of(system).write_run(report, made, next_due_us=None, now_us=now_us)
    )
    assert written is not None
    return written


async def send_due(system: System, report: KeptReport, *, check: Callable[[], None]) -> str | None:
    """The newest due moment that has passed; those before it that nobody was there for are counted as missed. None: somebody
    else has sent it. Raises Unavailable and TimedOut: nothing is written, and it can be tried again."""
    now_us, schedule = system.clock.now_us(), report_of(report.content).schedule
    first_us = report.next_due_us if report.next_due_us is not None else now_us
    due_us = max(first_us, schedule.latest(now_us))
    made = await prepared(
        system,
        report,
        run_id(report, due_us),
        kind="scheduled",
        due_us=due_us,
        missed=schedule.count(first_us, due_us),
    )
    next_us = schedule.after(max(now_us, due_us))

    def write() -> str | None:
        check()
        return reports_of(system).write_run(report, made, next_due_us=next_us, now_us=system.clock.now_us())

    return await in_questions(system, write)


async def prepared(
    system: System, report: KeptReport, name: str, *, kind: RunKind, due_us: int, missed: int
) -> NewRun:
    """The run with its file, or with why there is none. Raises Unavailable, TimedOut."""
    definition = report_of(report.content)
    base = system.settings.public_url.rstrip("/")
    key = quote(report.key, safe="")
    made = NewRun(
        id=name,
        kind=kind,
        due_at_us=due_us,
        at_us=system.clock.now_us(),
        missed=missed,
        summary=definition.name,
        page=f"{base}/explore",
        link=f"{base}/v1/reports/{key}/runs/{name}/file",
        channel=definition.channel,
        file=None,
    )
    try:
        kept = await in_questions(system, lambda: reports_of(system).view(report.tenant, report.view))
        view = view_of(kept.content)
        answer = await answered(system, report.tenant, view, due_us)
        file = await in_questions(
            system, lambda: file_of(answer, definition.format, key=report.key, due_us=due_us)
        )
    except (Unavailable, TimedOut):
        raise
    except TallystickError as error:
        return replace(made, failure=(error.code, error.detail))
    except Exception:
        _logger.exception("report_failed", tenant=report.tenant, report=report.key)
        return replace(made, failure=("internal", "An unexpected error; the server's log has it."))
    total = "no data" if answer.total is None else f"{plain(answer.total)} {answer.unit or ''}".strip()
    return replace(
        made,
        summary=f"{definition.name}: {total}",
        page=f"{base}/explore?{urlencode(view.question.address())}",
        file=file,
        from_us=answer.from_us,
        to_us=answer.to_us,
    )
