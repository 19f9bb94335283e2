"""`tallystick apply`: a file says which meters there are to be; what differs is changed, and nothing else."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer
import yaml

from tallystick.cli.client import URL_DEFAULT, Api, Key, Url
from tallystick.cli.meters import path_of
from tallystick.cli.show import out, say
from tallystick.errors import Fault, Invalid, TallystickError
from tallystick.metering.definition import MeterDefinition, definition_to_wire, parse_meter

FILE_BYTES_MAX = 4 * 1024 * 1024
METERS_MAX = 10_000

Kind = Literal["create", "restore", "change", "archive"]


@dataclass(frozen=True, slots=True)
class Step:
    """One change. `before` and `after` are definitions in the wire's form; None: there is none."""

    kind: Kind
    key: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None

    def differences(self) -> list[tuple[str, Any, Any]]:
        """(member, before, after) of every member that changes."""
        before, after = self.before or {}, self.after or {}
        return [
            (name, before.get(name), after.get(name))
            for name in {**before, **after}
            if name != "key" and (before.get(name) or None) != (after.get(name) or None)
        ]


def read_meters(path: Path) -> list[MeterDefinition]:
    """The meters of a file: YAML (or JSON, which is YAML too) with a list `meters`, each in the form of the API.

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
        line = _line_of(lines, pointer)
        faults.append(Fault(f"{path}:{line}", code, f"{pointer or '/'}: {detail}"))

    if not isinstance(document, dict) or not isinstance(cast("Any", document).get("meters"), list):
        fault("", "missing", "The file must have a list `meters:`.")
        raise _invalid(path, faults)
    for name in cast("dict[Any, Any]", document):
        if name != "meters":
            fault(f"/{name}", "unknown_member", f"There is nothing to apply under {name!r}, only `meters`.")
    definitions: list[MeterDefinition] = []
    first: dict[str, int] = {}
    raw_meters = cast("list[Any]", document["meters"])
    if len(raw_meters) > METERS_MAX:
        fault("/meters", "too_many", f"More than {METERS_MAX:,} meters.")
        raise _invalid(path, faults)
    for place, raw in enumerate(raw_meters):
        try:
            definition = parse_meter(raw)
        except Invalid as error:
            for found in error.faults:
                fault(f"/meters/{place}{found.pointer}", found.code, found.detail)
            continue
        if definition.key in first:
            fault(
                f"/meters/{place}/key",
                "repeated",
                f"{definition.key!r} is defined at /meters/{first[definition.key]} already.",
            )
        first.setdefault(definition.key, place)
        definitions.append(definition)
    if faults:
        raise _invalid(path, faults)
    return definitions


def _invalid(path: Path, faults: list[Fault]) -> Invalid:
    number = "one fault" if len(faults) == 1 else f"{len(faults)} faults"
    return Invalid(f"{path} has {number}; nothing was applied.", faults=faults)


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


def steps_to(wanted: list[MeterDefinition], present: list[dict[str, Any]], *, prune: bool) -> list[Step]:
    """What is to be done so that the meters wanted are there. `present`: meters as the API lists them, archived ones
    too. Meters that nobody wants stay, unless `prune`: then they are archived."""
    by_key = {meter["key"]: meter for meter in present}
    steps: list[Step] = []
    for definition in wanted:
        after = definition_to_wire(definition)
        found = by_key.pop(definition.key, None)
        if found is None:
            steps.append(Step("create", definition.key, None, after))
            continue
        before = {name: found[name] for name in after}
        if found["archived_at"] is not None:
            steps.append(Step("restore", definition.key, before, after))
        elif before != after:
            steps.append(Step("change", definition.key, before, after))
    if prune:
        steps += [
            Step("archive", key, None, None)
            for key, meter in sorted(by_key.items())
            if meter["archived_at"] is None
        ]
    return steps


def apply(
    file: Annotated[
        Path, typer.Argument(help="YAML file with a list `meters:`.", exists=True, dir_okay=False)
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Archive meters that the file does not name.")
    ] = False,
    url: Url = URL_DEFAULT,
    key: Key = None,
) -> None:
    """Make the meters be as a file says. Applying it again changes nothing.

    The whole file is checked first. A meter whose definition changes gets a new version; older versions stay readable.
    """
    wanted = read_meters(file)
    with Api(url, key) as api:
        steps = steps_to(wanted, list(api.items("/v1/meters", include_archived="true")), prune=prune)
        for step in steps:
            _print_step(step)
            if not dry_run:
                _take(api, step)
    kept = len(wanted) - sum(step.kind != "archive" for step in steps)
    done = "Would be done" if dry_run else "Done"
    if steps:
        say(f"{done}: {len(steps)} changed, {kept} unchanged.")
    else:
        say(f"Nothing to do: {'the meter is' if kept == 1 else f'all {kept} meters are'} as {file} says.")


def _take(api: Api, step: Step) -> None:
    if step.kind in ("create", "restore"):
        api.send("POST", "/v1/meters", json=step.after)
    elif step.kind == "change":
        api.send("PATCH", path_of(step.key), json=step.after)
    else:
        api.send("DELETE", path_of(step.key))


_MARKS: dict[Kind, tuple[str, str]] = {
    "create": ("+", "green"),
    "restore": ("+", "green"),
    "change": ("~", "yellow"),
    "archive": ("-", "red"),
}


def _print_step(step: Step) -> None:
    mark, colour = _MARKS[step.kind]
    out.print(f"{mark} {step.kind} {step.key}", style=colour, markup=False)
    for name, before, after in step.differences():
        if isinstance(before, dict) or isinstance(after, dict):
            _print_members(name, cast("dict[str, str]", before or {}), cast("dict[str, str]", after or {}))
        elif before is None:
            out.print(f"    {name}: {after}", markup=False)
        else:
            out.print(f"    {name}: {before} → {'nothing' if after is None else after}", markup=False)


def _print_members(name: str, before: Mapping[str, str], after: Mapping[str, str]) -> None:
    for member in {**before, **after}:
        if before.get(member) == after.get(member):
            continue
        if member not in before:
            out.print(f"    {name} + {member}: {after[member]}", markup=False)
        elif member not in after:
            out.print(f"    {name} - {member}: {before[member]}", markup=False)
        else:
            out.print(f"    {name} ~ {member}: {before[member]} → {after[member]}", markup=False)


def register(app: typer.Typer) -> None:
    app.command("apply")(apply)
