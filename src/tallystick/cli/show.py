"""How answers look on a terminal."""

import enum
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tallystick.cli.client import json_text

_PIPED_CHARACTERS = 400
"""Width where no terminal says one: nothing is folded for whoever reads it by program."""

out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _PIPED_CHARACTERS)
err = Console(stderr=True, highlight=False, soft_wrap=True)


class Format(enum.StrEnum):
    """Forms an answer can be printed in."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


class TableOrJson(enum.StrEnum):
    """Forms of answers that have no CSV."""

    TABLE = "table"
    JSON = "json"


def grouped(number: str | None) -> str:
    """An exact decimal with its thousands set apart: `-1234567.5` → `-1,234,567.5`. Nothing is rounded."""
    if number is None:
        return "–"
    sign, digits = ("-", number[1:]) if number.startswith("-") else ("", number)
    whole, point, fraction = digits.partition(".")
    return f"{sign}{int(whole):,}{point}{fraction}" if whole.isdigit() else number


def instant(text: str | None, zone: str = "UTC") -> str:
    """RFC 3339 in UTC, as a person reads it; in another zone with its offset, without which an hour of autumn is two."""
    if text is None:
        return "–"
    if zone != "UTC":
        try:
            return datetime.fromisoformat(text).astimezone(ZoneInfo(zone)).isoformat(sep=" ")
        except (ZoneInfoNotFoundError, ValueError):
            return text.replace("T", " ")  # with its Z: the server may know zones that this machine does not
    return text.replace("T", " ").removesuffix("Z")


def print_json(document: Any) -> None:
    """The document, indented two levels deep; what it says is not touched."""
    sys.stdout.write(_indented(document) + "\n")


def _indented(document: Any) -> str:
    if isinstance(document, list) and document:
        return "[\n" + ",\n".join(f"  {json_text(one)}" for one in cast("list[Any]", document)) + "\n]"
    if not isinstance(document, dict) or not document:
        return json_text(document)
    members: list[str] = []
    for name, value in cast("dict[str, Any]", document).items():
        text = _indented(value).replace("\n", "\n  ") if isinstance(value, list) else json_text(value)
        members.append(f"  {json_text(name)}: {text}")
    return "{\n" + ",\n".join(members) + "\n}"


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Iterable[str] = (),
    title: str | None = None,
) -> None:
    """A table; the columns named in `right` are aligned right. Cells are plain text."""
    if title is not None:
        out.print(Text(title, style="bold"))
    table = Table(header_style="bold", box=None, pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    out.print(table, soft_wrap=False)


def say(text: str) -> None:
    """A sentence for the person, beside the answer."""
    err.print(text, markup=False)
