"""A configuration file: YAML (or JSON, which is YAML too), read whole, with the line of every fault."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import yaml

from tallystick.cli.config import NOUNS
from tallystick.cli.config.noun import Entry, Noun
from tallystick.errors import Fault, Invalid, TallystickError

FILE_BYTES_MAX = 32 * 1024 * 1024
ENTRIES_MAX = 100_000


def read_file(path: Path, nouns: Sequence[Noun] = NOUNS) -> dict[str, list[Entry]]:
    """The entries of a file by noun, each in the form of the API; nouns that it does not name are absent.

    Raises Invalid with every fault of the whole file; their pointers name line and place.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise TallystickError(f"{path} cannot be read: {error.strerror}.") from error
    if len(text) > FILE_BYTES_MAX:
        raise TallystickError(f"{path} is larger than {FILE_BYTES_MAX:,} bytes.")
    try:
        loader = yaml.SafeLoader(text)
        try:
            root = loader.get_single_node()
            lines = dict(_lines(root, "", set())) if root is not None else {}
            faults = list(_repeated_names(root, path, set())) if root is not None else []
            document: Any = loader.construct_document(root) if root is not None else None
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        why = getattr(error, "problem", None) or getattr(error, "reason", None) or error
        raise TallystickError(f"{path}{where}: not YAML: {why}.") from error

    def fault(pointer: str, code: str, detail: str) -> None:
        faults.append(Fault(f"{path}:{_line_of(lines, pointer)}", code, f"{pointer or '/'}: {detail}"))

    known = ", ".join(f"`{noun.name}`" for noun in nouns)
    named: dict[Any, Any] = document if isinstance(document, dict) else {}
    if not any(isinstance(named.get(noun.name), list) for noun in nouns):
        fault("", "missing", f"The file must have a list, of {known}.")
        raise _invalid(path, faults)
    for name in named:
        if name not in {noun.name for noun in nouns}:
            fault(f"/{name}", "unknown_member", f"There is nothing to apply under {name!r}, only {known}.")
    wanted: dict[str, list[Entry]] = {}
    for noun in nouns:
        if noun.name not in named:
            continue
        listed = named[noun.name]
        if not isinstance(listed, list) or len(cast("list[Any]", listed)) > ENTRIES_MAX:
            fault(f"/{noun.name}", "invalid_value", f"A list of at most {ENTRIES_MAX:,} is needed.")
            continue
        wanted[noun.name] = []
        first: dict[str, int] = {}
        for place, raw in enumerate(cast("list[Any]", listed)):
            try:
                entry = noun.checked(raw)
            except (Invalid, RecursionError) as error:
                found = error.faults if isinstance(error, Invalid) else ()
                for one in found or (Fault("", "invalid_value", "It contains itself."),):
                    fault(f"/{noun.name}/{place}{one.pointer}", one.code, one.detail)
                continue
            key = noun.key_of(entry)
            if key in first:
                detail = f"{key!r} is defined at /{noun.name}/{first[key]} already."
                fault(f"/{noun.name}/{place}", "repeated", detail)
            first.setdefault(key, place)
            wanted[noun.name].append(entry)
    if faults:
        raise _invalid(path, faults)
    return wanted


def written(entries: Mapping[str, Sequence[Entry]]) -> str:
    """The text of a file that says so."""
    return yaml.safe_dump(
        {name: list(listed) for name, listed in entries.items()},
        sort_keys=False,
        allow_unicode=True,
        width=110,
    )


def _lines(node: yaml.Node, pointer: str, visited: set[int]) -> Iterator[tuple[str, int]]:
    """(JSON pointer, line) of every place in a YAML document."""
    # Each node once: aliases of aliases would be exponentially many places, and one may contain itself.
    yield pointer, node.start_mark.line + 1
    if id(node) in visited:
        return
    visited.add(id(node))
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            escaped = str(name.value).replace("~", "~0").replace("/", "~1")
            yield from _lines(value, f"{pointer}/{escaped}", visited)
    elif isinstance(node, yaml.SequenceNode):
        for place, value in enumerate(node.value):
            yield from _lines(value, f"{pointer}/{place}", visited)


def _repeated_names(node: yaml.Node, path: Path, visited: set[int]) -> Iterator[Fault]:
    if id(node) in visited:
        return
    visited.add(id(node))
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for name, value in node.value:
            if str(name.value) in seen:
                yield Fault(
                    f"{path}:{name.start_mark.line + 1}",
                    "repeated",
                    f"{name.value!r} stands twice in one mapping.",
                )
            seen.add(str(name.value))
            yield from _repeated_names(value, path, visited)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _repeated_names(value, path, visited)


def _line_of(lines: Mapping[str, int], pointer: str) -> int:
    while pointer and pointer not in lines:
        pointer = pointer.rpartition("/")[0]
    return lines.get(pointer, 1)


def _invalid(path: Path, faults: list[Fault]) -> Invalid:
    number = "one fault" if len(faults) == 1 else f"{len(faults)} faults"
    return Invalid(f"{path} has {number}; nothing was applied.", faults=faults)
