"""Several meters asked as of one moment, their figures side by side, and a formula over them."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from tallystick.errors import Fault, Invalid
from tallystick.flows.system import System
from tallystick.flows.usage import (
    UsageAnswer,
    UsageRequest,
    frozen,
    usage,
    wait_for_position,
    wait_until_settled,
)
from tallystick.metering.formula import Formula, FormulaRangeError
from tallystick.metering.meter import ZEROES
from tallystick.metering.position import Vector, united

METERS_MAX = 20
"""Meters in one question."""


@dataclass(frozen=True, slots=True)
class FormulaRow:
    """One window of one group. `values` by alias; `value` is the formula's."""

    window_start_us: int
    window_end_us: int
    group: tuple[str | None, ...]
    values: Mapping[str, Decimal | None]
    value: Decimal | None


@dataclass(frozen=True, slots=True)
class FormulaAnswer:
    """Rows by window, then group. All of `answers` have the same range, window, zone and position."""

    answers: Mapping[str, UsageAnswer]
    group_by: tuple[str, ...]
    rows: list[FormulaRow]
    position: Vector


async def formula_usage(
    system: System, questions: Mapping[str, UsageRequest], formula: Formula | None
) -> FormulaAnswer:
    """Answer the questions (by alias) together.

    Rows are joined by window and group; a figure that a meter lacks there is None, or 0 where its question fills with
    zeros and it is one that adds up. A question that groups by nothing stands beside every group of its window.

    Raises Invalid when the questions do not fit together (not_aligned), when there would be too many rows, or when a
    figure of the formula leaves its range; else what `usage` raises.
    """
    check_aligned(questions)
    positions = [asked.min_position for asked in questions.values() if asked.min_position is not None]
    await wait_for_position(system, united(*positions))
    await wait_until_settled(system, next(iter(questions.values())).as_of_us)
    # One moment for all: what is recorded while they are answered counts in none of them.
    position, moment_us = system.recorder.position, system.recorder.recorded_at_us
    now_us = system.clock.now_us()
    answers: dict[str, UsageAnswer] = {}
    asked = {alias: frozen(question, moment_us, now_us) for alias, question in questions.items()}
    found = await asyncio.gather(*(usage(system, question) for question in asked.values()))
    for alias, answer in zip(asked, found, strict=True):
        answers[alias] = replace(answer, position=position)
    group_by = max((question.group_by for question in questions.values()), key=len)
    rows = await asyncio.to_thread(_joined, asked, answers, group_by, formula, system.settings.usage_rows_max)
    return FormulaAnswer(answers, group_by, rows, position)


def check_aligned(questions: Mapping[str, UsageRequest]) -> None:
    """Raise Invalid (not_aligned), one fault for each question that cannot stand beside the others."""
    faults: list[Fault] = []
    first = next(iter(questions.values()))
    widest = max((question.group_by for question in questions.values()), key=len)
    for alias, question in questions.items():
        for name in ("from_us", "to_us", "window", "timezone", "as_of_us"):
            if getattr(question, name) != getattr(first, name):
                shown = name.removesuffix("_us")
                detail = f"{alias}: {shown} must be the same for all meters; say it once, beside `meters`."
                faults.append(Fault(f"/meters/{alias}/{shown}", "not_aligned", detail))
        if question.group_by not in (widest, ()):
            detail = f"{alias}: group_by must be the same for all meters, or empty."
            faults.append(Fault(f"/meters/{alias}/group_by", "not_aligned", detail))
    if faults:
        raise Invalid(" ".join(fault.detail for fault in faults), code="not_aligned", faults=faults)


def _joined(
    questions: Mapping[str, UsageRequest],
    answers: Mapping[str, UsageAnswer],
    group_by: tuple[str, ...],
    formula: Formula | None,
    rows_max: int,
) -> list[FormulaRow]:
    keys: dict[tuple[int, int, tuple[str | None, ...]], None] = {}
    cells: dict[str, dict[tuple[int, int, tuple[str | None, ...]], Decimal | None]] = {}
    grouped = [alias for alias, question in questions.items() if question.group_by == group_by]
    for alias, answer in answers.items():
        cells[alias] = {(row.window_start_us, row.window_end_us, row.group): row.value for row in answer.rows}
        if alias in grouped:
            keys.update(dict.fromkeys(cells[alias]))
    if len(keys) > rows_max:
        raise Invalid(
            f"The answer would have more than {rows_max:,} rows (setting usage_rows_max). "
            "Ask for a shorter range, larger windows or fewer groups.",
            code="too_many_rows",
        )
    rows: list[FormulaRow] = []
    for key in sorted(keys, key=_order):
        start_us, end_us, group = key
        figures: dict[str, Decimal | None] = {}
        for alias, question in questions.items():
            place = key if alias in grouped else (start_us, end_us, ())
            fills = question.fill == "zero" and answers[alias].meter.aggregation in ZEROES
            figures[alias] = cells[alias].get(place, Decimal(0) if fills else None)
        rows.append(FormulaRow(start_us, end_us, group, figures, _value(formula, figures)))
    return rows


def _order(key: tuple[int, int, tuple[str | None, ...]]) -> tuple[int, list[tuple[bool, str]]]:
    return key[0], [(name is not None, name or "") for name in key[2]]


def _value(formula: Formula | None, figures: Mapping[str, Decimal | None]) -> Decimal | None:
    if formula is None:
        return None
    try:
        return formula.figure(figures)
    except FormulaRangeError as error:
        detail = f"The formula cannot be computed: {error}."
        raise Invalid(
            detail,
            code="number_out_of_range",
            faults=[Fault("/formula", "number_out_of_range", detail)],
        ) from error
