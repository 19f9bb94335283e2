"""The store's fixed SQL, by name. Each file in sql/ begins with one comment that says what it answers."""

import hashlib
from functools import cache
from importlib import resources

from tallystick.metering.meter import DIMENSIONS_MAX

_ROOM = "tallystick.store"


@cache
def statement(name: str) -> str:
    """The text of sql/<name>.sql without its leading comment."""
    text = (resources.files(_ROOM) / "sql" / f"{name}.sql").read_text(encoding="utf-8")
    return _without_comments(text)


def migrations() -> list[tuple[int, str, list[str]]]:
    """Version, name and statements of every file in migrations/, in order."""
    found: list[tuple[int, str, list[str]]] = []
    for file in (resources.files(_ROOM) / "migrations").iterdir():
        number, _, name = file.name.removesuffix(".sql").partition("_")
        if file.name.endswith(".sql") and number.isdecimal():
            text = _without_comments(file.read_text(encoding="utf-8"))
            found.append((int(number), name, [part for part in map(str.strip, text.split(";")) if part]))
    return sorted(found)


def readings_layout() -> str:
    """Changes whenever the readings table is declared otherwise; the table bears it as its comment."""
    return hashlib.sha256(statement("readings_table").encode()).hexdigest()[:16]


def create_readings(table: str) -> str:
    """CREATE TABLE for readings or a scratch. `table` comes from this room alone, never from outside."""
    slots = ",\n    ".join(
        f"d{slot} LowCardinality(Nullable(String)) CODEC(ZSTD(1))" for slot in range(DIMENSIONS_MAX)
    )
    text = statement("readings_table")
    return text.replace("{table}", table).replace("{slots}", slots).replace("{layout}", readings_layout())


def rollups_layout() -> str:
    """The same for the table of roll-ups."""
    return hashlib.sha256(statement("rollups_table").encode()).hexdigest()[:16]


def create_rollups(table: str) -> str:
    """CREATE TABLE for a view of roll-ups. `table` comes from this room alone, never from outside."""
    slots = ",\n    ".join(f"d{slot} LowCardinality(Nullable(String))" for slot in range(DIMENSIONS_MAX))
    text = (
        statement("rollups_table")
        .replace("{table}", table)
        .replace("{slots}", slots)
        .replace("{slot_names}", slot_names())
    )
    return text.replace("{layout}", rollups_layout())


def slot_names() -> str:
    """The columns of all dimensions, listed."""
    return ", ".join(f"d{slot}" for slot in range(DIMENSIONS_MAX))


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith("--")).strip()
