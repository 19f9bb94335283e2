"""`tallystick apply` and `tallystick export-config`: configuration as code.

A file says what there is to be; what differs is changed, and nothing else. Whoever changes the same thing meanwhile is not
overwritten unseen: every change names the version it was worked out from, and is worked out again where that has moved on.
"""

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from tallystick.cli.client import URL_DEFAULT, Api, ApiError, Key, Url
from tallystick.cli.config import NOUNS
from tallystick.cli.config.file import read_file, written
from tallystick.cli.config.noun import Kind, Noun, Present, Step, changes_to, steps_to
from tallystick.cli.show import out, say
from tallystick.errors import TallystickError

ATTEMPTS_MAX = 5
_EXIST_ALREADY = ("meter_exists", "customer_exists", "plan_exists", "subscription_exists")


def apply(
    file: Annotated[
        Path,
        typer.Argument(
            help=f"YAML file with lists {', '.join(f'`{noun.name}:`' for noun in NOUNS)}.",
            exists=True,
            dir_okay=False,
        ),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")
    ] = False,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune",
            help="Archive what the file's lists do not name (API keys: revoke; subscriptions: cancel at the period's end).",
        ),
    ] = False,
    url: Url = URL_DEFAULT,
    key: Key = None,
) -> None:
    """Make the configuration be as a file says. Applying it again changes nothing.

    The whole file is checked first. Lists that the file does not have are left alone. A meter whose definition changes gets
    a new version; older versions stay readable.
    """
    wanted = read_file(file)
    changed = kept = 0
    with Api(url, key) as api:
        # All of it is worked out before anything is done.
        plan = [
            (noun, steps_to(noun, wanted[noun.name], noun.listed(api), prune=prune))
            for noun in NOUNS
            if noun.name in wanted
        ]
        # What goes, goes last and backwards: a report before its view.
        going = [(noun, step) for noun, steps in reversed(plan) for step in steps if step.kind == "archive"]
        coming = [(noun, step) for noun, steps in plan for step in steps if step.kind != "archive"]
        for noun, step in (*coming, *going):
            _print_step(noun, step)
            if not dry_run:
                _take(api, noun, step)
        for noun, steps in plan:
            changed += len(steps)
            kept += len(wanted[noun.name]) - sum(step.kind != "archive" for step in steps)
    done = "Would be done" if dry_run else "Done"
    if changed:
        say(f"{done}: {changed} changed, {kept} unchanged.")
    elif list(wanted) == ["meters"]:
        say(f"Nothing to do: {'the meter is' if kept == 1 else f'all {kept} meters are'} as {file} says.")
    else:
        say(f"Nothing to do: all {kept} things are as {file} says.")


def export_config(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file instead of the terminal.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help=f"Of these lists alone: {', '.join(noun.name for noun in NOUNS)}."),
    ] = None,
    url: Url = URL_DEFAULT,
    key: Key = None,
) -> None:
    """Write the configuration in the form that `apply` reads. Applying what was exported changes nothing.

    Archived things are left out, and secrets are not known to anybody.
    """
    unknown = sorted(set(only or ()) - {noun.name for noun in NOUNS})
    if unknown:
        raise TallystickError(
            f"--only: there is no list {unknown[0]!r}, only {', '.join(noun.name for noun in NOUNS)}."
        )
    with Api(url, key) as api:
        found: dict[str, list[dict[str, Any]]] = {}
        for noun in NOUNS:
            if only and noun.name not in only:
                continue
            try:
                found[noun.name] = _exported(noun, api)
            except ApiError as error:
                if error.status_code != 404 or only:
                    raise
                say(f"Left out: {noun.name}, which are switched off there.")
    text = written(found)
    if output is None:
        print(text, end="")
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise TallystickError(f"{output} cannot be written: {error.strerror}.") from error
    say(f"Written to {output}: {', '.join(f'{len(one)} {name}' for name, one in found.items())}.")


def _exported(noun: Noun, api: Api) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    for one in noun.listed(api):
        if one.doubtful:
            say(f"Left out: there are several {noun.name} named {one.key!r}.")
        elif not one.archived:
            entries.append(noun.exported(one))
    return entries


def _take(api: Api, noun: Noun, step: Step) -> None:
    if step.wanted is None:
        assert step.present is not None
        noun.archive(api, step.present)
    elif step.kind == "change":
        assert step.present is not None
        _change(api, noun, step, step.present)
    else:
        try:
            told = noun.create(api, step.wanted)
        except ApiError as error:
            if error.code not in _EXIST_ALREADY:
                raise
            # Somebody else has made it since it was looked for.
            now = next(one for one in noun.listed(api) if one.key == step.key)
            _change(api, noun, step, now)
        else:
            if told is not None:
                out.print(f"    {told}", markup=False)


def _change(api: Api, noun: Noun, step: Step, present: Present) -> None:
    wanted = step.wanted or {}
    for attempt in range(ATTEMPTS_MAX):
        now, etag = noun.fresh(api, present)
        changes = changes_to(wanted, now)
        if not changes:
            return
        try:
            noun.change(api, now, changes, wanted, {"if-match": etag} if etag else {})
        except ApiError as error:
            if error.status_code != 412 or attempt == ATTEMPTS_MAX - 1:
                raise
        else:
            return


_MARKS: dict[Kind, tuple[str, str]] = {
    "create": ("+", "green"),
    "restore": ("+", "green"),
    "change": ("~", "yellow"),
    "archive": ("-", "red"),
}


def _print_step(noun: Noun, step: Step) -> None:
    mark, colour = _MARKS[step.kind]
    label = "" if noun.name == "meters" else f"{noun.label} "
    out.print(f"{mark} {step.kind} {label}{step.key}", style=colour, markup=False)
    for name, before, after in step.differences():
        if name in ("key", "name") and before is None and after == step.key:
            continue
        if isinstance(before, dict) or isinstance(after, dict):
            _print_members(name, cast("dict[str, Any]", before or {}), cast("dict[str, Any]", after or {}))
        elif isinstance(before, list) and isinstance(after, list):
            _print_items(name, cast("list[Any]", before), cast("list[Any]", after))
        elif before is None:
            out.print(f"    {name}: {after}", markup=False)
        else:
            out.print(f"    {name}: {before} → {'nothing' if after is None else after}", markup=False)


def _print_items(name: str, before: list[Any], after: list[Any]) -> None:
    if all(isinstance(one, dict) and "key" in one for one in (*before, *after)):
        _print_keyed(name, {one["key"]: one for one in before}, {one["key"]: one for one in after})
        return
    for mark, items in (
        ("-", [one for one in before if one not in after]),
        ("+", [one for one in after if one not in before]),
    ):
        for item in items:
            out.print(f"    {name} {mark} {item}", markup=False)


def _print_keyed(name: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    """Things with keys in a list: which come, which go, and of the others each figure that changes."""
    for key in {**before, **after}:
        if key not in after:
            out.print(f"    {name} - {key}", markup=False)
            continue
        if key not in before:
            out.print(f"    {name} + {key}", markup=False)
        old, new = _leaves(before.get(key), ""), _leaves(after[key], "")
        for place in {**old, **new}:
            was, now = old.get(place), new.get(place)
            if was == now or (key not in before and place == "key"):
                continue
            if key not in before:
                out.print(f"        {place}: {now}", markup=False)
            else:
                told = f"{'nothing' if was is None else was} → {'nothing' if now is None else now}"
                out.print(f"    {name} ~ {key} {place}: {told}", markup=False)


def _leaves(value: Any, place: str) -> dict[str, Any]:
    """Every value that is no list or mapping, by its place: `price.tiers.0.up_to`."""
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = list(cast("dict[Any, Any]", value).items())
    elif isinstance(value, list):
        inner = list(enumerate(cast("list[Any]", value)))
    elif value is not None:
        return {place: value}
    made: dict[str, Any] = {}
    for name, one in inner:
        made |= _leaves(one, f"{place}.{name}" if place else str(name))
    return made


def _print_members(name: str, before: dict[str, Any], after: dict[str, Any]) -> None:
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
    app.command("export-config")(export_config)
