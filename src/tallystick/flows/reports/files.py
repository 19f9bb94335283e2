"""A view's figures as a file: CSV, PDF."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from tallystick.catalog.reporting import FILE_BYTES_MAX, ReportFile
from tallystick.errors import Invalid
from tallystick.flows.paper import source
from tallystick.flows.reports.answer import ViewAnswer
from tallystick.metering.instant import instant_text
from tallystick.metering.query import Window
from tallystick.metering.window import zone_of
from tallystick.money import plain
from tallystick.reporting.report import Format

PDF_ROWS_MAX = 400
BAR_STEPS = 1000
_TEMPLATE = Path(__file__).with_name("report.typ")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OF_DAYS = (Window.DAY, Window.WEEK)
_FILE_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def file_of(answer: ViewAnswer, form: Format, *, key: str, due_us: int) -> ReportFile:
    """Named after its report and its day. Raises Invalid (report_too_large)."""
    content, kind = (
        (csv_of(answer), "text/csv") if form == "csv" else (pdf_of(answer, due_us), "application/pdf")
    )
    if len(content) > FILE_BYTES_MAX:
        detail = f"The file would have {len(content):,} bytes; {FILE_BYTES_MAX:,} are sent at most. "
        raise Invalid(
            detail + "Choose a shorter range, larger windows or fewer groups.", code="report_too_large"
        )
    zone = answer.view.question.timezone
    plain_key = "".join(one if one in _FILE_NAME_CHARACTERS else "-" for one in key)
    return ReportFile(f"{plain_key}-{_local(due_us, zone):%Y-%m-%d}.{form}", kind, content)


def csv_of(answer: ViewAnswer) -> bytes:
    """As the usage API writes the same question, but that no cell is taken for a formula by a spreadsheet."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([_cell(name) for name in answer.columns])
    group = range(2, 2 + len(answer.view.question.group_by))
    for row in answer.rows:
        writer.writerow(
            [_cell(one or "") if place in group else (one or "") for place, one in enumerate(row)]
        )
    return text.getvalue().encode()


def pdf_of(answer: ViewAnswer, due_us: int) -> bytes:
    """A4 pages. Texts go in as data, so nothing in them is read as markup."""
    import typst  # half a second that a start without reports need not wait

    return typst.compile(source(_TEMPLATE), sys_inputs={"report": json.dumps(pdf_data(answer, due_us))})


def pdf_data(answer: ViewAnswer, due_us: int) -> dict[str, Any]:
    """What the template shows. Bars are whole steps of BAR_STEPS."""
    question = answer.view.question
    zone = question.timezone
    figures = [value for _, value in answer.windows if value is not None]
    greatest = max(map(abs, figures), default=Decimal(0))
    shown = list(answer.windows)[-PDF_ROWS_MAX:]
    asked = [
        ("Range", f"{_shown(answer.from_us, zone)} – {_shown(answer.to_us, zone)} ({zone})"),
        ("Meter", question.meter if question.formula is None else _formula(answer)),
        *([("Customers", ", ".join(question.customers))] if question.customers else []),
        *((f"{one.name} {one.operator.value}", ", ".join(one.operands)) for one in question.filters),
    ]
    change = answer.change
    return {
        "name": answer.view.name,
        "description": answer.view.description or "",
        "made_at": instant_text(due_us),
        "asked": asked,
        "unit": answer.unit or "",
        "total": _text(answer.total),
        "previous": None if change is None else _text(change.previous),
        "percent": None if change is None or change.percent is None else f"{change.percent:+.1f}",
        "window": answer.window.value,
        "bars": [
            {
                "label": _label(start_us, answer.window, zone),
                "value": _text(value),
                "steps": 0 if value is None or not greatest else int(abs(value) * BAR_STEPS / greatest),
            }
            for start_us, value in shown
        ],
        "left_out": len(answer.windows) - len(shown),
        "group_by": list(question.group_by),
        "groups": [
            {"name": [one or "–" for one in group], "value": _text(value)} for group, value in answer.groups
        ],
    }


def _formula(answer: ViewAnswer) -> str:
    question = answer.view.question
    letters = ", ".join(f"{alias}: {key}" for alias, key in question.aliases().items())
    return f"{question.formula} ({letters})"


def _cell(text: str) -> str:
    """Text that a spreadsheet does not take for a formula."""
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _text(value: Decimal | None) -> str:
    return "–" if value is None else plain(value)


def _local(at_us: int, zone: str) -> datetime:
    return (_EPOCH + timedelta(microseconds=at_us)).astimezone(zone_of(zone))


def _shown(at_us: int, zone: str) -> str:
    return f"{_local(at_us, zone):%Y-%m-%d %H:%M}"


def _label(at_us: int, window: Window, zone: str) -> str:
    at = _local(at_us, zone)
    if window in _OF_DAYS:
        return f"{at:%Y-%m-%d}"
    if window in (Window.MONTH, Window.QUARTER):
        return f"{at:%Y-%m}"
    return f"{at:%Y}" if window is Window.YEAR else f"{at:%Y-%m-%d %H:%M}"
