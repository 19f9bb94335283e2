"""A view's figures at a moment: all asked as of one published moment, so that they fit together."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from tallystick.flows.formula import formula_usage
from tallystick.flows.overview import Change, compared
from tallystick.flows.system import System
from tallystick.flows.usage import UsageAnswer, UsageRequest, usage
from tallystick.metering.formula import parse_formula
from tallystick.metering.instant import instant_text
from tallystick.metering.query import Window
from tallystick.money import plain
from tallystick.reporting.view import View

CHANGE_COLUMNS = ("previous_start", "previous_end", "previous", "change", "change_percent")


@dataclass(frozen=True, slots=True)
class ViewAnswer:
    """`columns` and `rows`: by window and group, as the usage API answers the same question as CSV. `total`, `windows` (start,
    figure) and `groups` (values, figure) sum it up; `change`: the total's, against the range before."""

    view: View
    from_us: int
    to_us: int
    window: Window
    unit: str | None
    columns: tuple[str, ...]
    rows: Sequence[Sequence[str | None]]
    total: Decimal | None
    change: Change | None
    windows: Sequence[tuple[int, Decimal | None]]
    groups: Sequence[tuple[tuple[str | None, ...], Decimal | None]]


async def answered(system: System, tenant: str, view: View, at_us: int) -> ViewAnswer:
    """The figures of a view whose ranges end at a moment. Raises what a question raises (flows/usage.py)."""
    question = view.question
    from_us, to_us = question.bounds(at_us)
    window = question.window_of(from_us, to_us)
    base = UsageRequest(
        tenant=tenant,
        meter=question.meter,
        from_us=from_us,
        to_us=to_us,
        timezone=question.timezone,
        customers=question.customers or None,
        filters=question.filters,
        as_of_us=system.recorder.recorded_at_us,
        now_us=system.clock.now_us(),
    )
    if question.formula is not None:
        return await _of_formula(system, view, base, window)
    by_window = replace(base, window=window.value)
    grouped = {"group_by": question.group_by, "order_by": "-value", "limit": question.top}
    table_asked = replace(by_window, **grouped) if question.group_by else by_window
    changes: list[Change] | None = None
    if question.compares:
        both = await compared(system, table_asked)
        table, changes = both.answer, both.changes
    else:
        table = await usage(system, table_asked)
    windows, total = await asyncio.gather(
        usage(system, replace(by_window, fill="zero")), compared(system, base)
    )
    groups = await usage(system, replace(base, **grouped)) if question.group_by else None
    return ViewAnswer(
        view=view,
        from_us=from_us,
        to_us=to_us,
        window=window,
        unit=table.meter.unit,
        columns=(
            "window_start",
            "window_end",
            *table.group_by,
            "value",
            *(CHANGE_COLUMNS if changes is not None else ()),
        ),
        rows=_rows(table, changes),
        total=total.answer.rows[0].value if total.answer.rows else None,
        change=total.changes[0] if question.compares and total.changes else None,
        windows=[(row.window_start_us, row.value) for row in windows.rows],
        groups=[(row.group, row.value) for row in groups.rows] if groups is not None else [],
    )


def _rows(answer: UsageAnswer, changes: Sequence[Change] | None) -> list[tuple[str | None, ...]]:
    made: list[tuple[str | None, ...]] = []
    for number, row in enumerate(answer.rows):
        more: tuple[str | None, ...] = ()
        if changes is not None:
            one = changes[number]
            figures = map(_text, (one.previous, one.change, one.percent))
            more = (instant_text(one.start_us), instant_text(one.end_us), *figures)
        start, end = instant_text(row.window_start_us), instant_text(row.window_end_us)
        made.append((start, end, *row.group, _text(row.value), *more))
    return made


async def _of_formula(system: System, view: View, base: UsageRequest, window: Window) -> ViewAnswer:
    aliases = view.question.aliases()
    formula = parse_formula(view.question.formula or "", tuple(aliases))
    used = [alias for alias in aliases if alias in formula.aliases] or ["a"]
    asked = {alias: replace(base, meter=aliases[alias]) for alias in used}
    by_window, whole = await asyncio.gather(
        formula_usage(
            system, {alias: replace(one, window=window.value) for alias, one in asked.items()}, formula
        ),
        formula_usage(system, asked, formula),
    )
    return ViewAnswer(
        view=view,
        from_us=base.from_us or 0,
        to_us=base.to_us or 0,
        window=window,
        unit=None,
        columns=("window_start", "window_end", *(aliases[alias] for alias in used), "value"),
        rows=[
            (
                instant_text(row.window_start_us),
                instant_text(row.window_end_us),
                *(_text(row.values[alias]) for alias in used),
                _text(row.value),
            )
            for row in by_window.rows
        ],
        total=whole.rows[0].value if whole.rows else None,
        change=None,
        windows=[(row.window_start_us, row.value) for row in by_window.rows],
        groups=[],
    )


def _text(value: Decimal | None) -> str | None:
    return None if value is None else plain(value)
