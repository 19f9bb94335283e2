"""`tallystick doctor` and `tallystick rebuild`: through the API, or on a data directory whose server is stopped."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn

from tallystick.cli.client import URL_DEFAULT, Api, Key, Url
from tallystick.cli.show import TableOrJson, err, print_json, print_table, say
from tallystick.config import load
from tallystick.errors import TallystickError

T = TypeVar("T")

POLL_S = 0.3
DOCTOR_S_MAX = 3600.0
REBUILD_S_MAX = 24 * 3600.0
RECOVER_S_MAX = 3600.0

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="Work on this data directory, with the server stopped.",
        exists=True,
        file_okay=False,
        rich_help_panel="Connection",
    ),
]

PARTS = ("readings", "index")


class _Remote:
    """The parts of a running server."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def examine(self, *, full: bool) -> dict[str, Any]:
        return self._api.send(
            "GET", "/v1/admin/doctor", params={"full": "true"} if full else {}, timeout=DOCTOR_S_MAX
        ).json()

    def rebuild(self, parts: list[str]) -> None:
        self._api.send("POST", "/v1/admin/rebuild", json={"parts": parts})

    def progress(self) -> dict[str, Any]:
        return self._api.get("/v1/admin/rebuild")


class _Local:
    """A system of our own on a data directory, without an address."""

    def __init__(self, directory: Path) -> None:
        # Imported here: they load the store.
        from tallystick import observe
        from tallystick.wiring import start

        observe.configure(level="error", form="auto")
        self._runner = asyncio.Runner()
        settings = load(flags={"data_dir": str(directory)}, environment=os.environ)
        self._running = self._runner.run(start(settings))
        self._await_recovery()

    def _await_recovery(self) -> None:
        recorder = self._running.system.recorder

        async def wait() -> None:
            give_up = time.monotonic() + RECOVER_S_MAX
            while not (recorder.recovered and recorder.lag().events == 0 and not recorder.unbuilt()):
                if recorder.fault is not None or time.monotonic() > give_up:
                    raise TallystickError(
                        f"The recorder does not get on: {recorder.fault or 'it takes too long'}."
                    )
                await asyncio.sleep(POLL_S / 3)

        try:
            self._runner.run(wait())
        except BaseException:
            self.stop()
            raise

    def _run(self, work: Callable[[Any], Awaitable[T]]) -> T:
        async def run() -> T:
            return await work(self._running.system)

        return self._runner.run(run())

    def examine(self, *, full: bool) -> dict[str, Any]:
        from tallystick.api.admin import examination_document
        from tallystick.flows.doctor import examine

        return examination_document(self._run(lambda system: examine(system, full=full)))

    def rebuild(self, parts: list[str]) -> None:
        from tallystick.flows.doctor import MENDABLE, rebuild

        self._run(lambda system: rebuild(system, [part for part in MENDABLE if part in parts]))

    def progress(self) -> dict[str, Any]:
        from tallystick.api.admin import progress_document
        from tallystick.flows.doctor import progress

        async def ask(system: Any) -> dict[str, Any]:
            await asyncio.sleep(POLL_S)  # the recorder and the builder live on this loop
            return progress_document(progress(system))

        return self._run(ask)

    def stop(self) -> None:
        self._runner.run(self._running.stop())
        self._runner.close()


def doctor(  # noqa: PLR0917 -- options
    mend: Annotated[
        bool, typer.Option("--mend", help="Make anew from the facts what is wrong and can be.")
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Check all of it, not samples: takes a while.")
    ] = False,
    format_: Annotated[TableOrJson, typer.Option("--format", help="Form of the answer.")] = TableOrJson.TABLE,
    data_dir: DataDir = None,
    url: Url = URL_DEFAULT,
    key: Key = None,
) -> None:
    """Check that what is derived agrees with the facts: counts, readings, identity index, log.

    Exit status 1 when something is wrong, and stays so.
    """

    def work(target: _Remote | _Local) -> bool:
        found = target.examine(full=full)
        if mend and found["findings"]:
            parts = sorted({one["part"] for one in found["findings"] if one["mendable"]})
            _print_findings(found, TableOrJson.TABLE if format_ is TableOrJson.TABLE else None)
            if parts:
                say(f"Making anew from the facts: {' and '.join(parts)}.")
                _rebuild(target, parts)
                found = target.examine(full=full)
        _print_findings(found, format_)
        return bool(found["healthy"])

    if not _with_target(data_dir, url, key, work):
        raise typer.Exit(1)


def rebuild(
    part: Annotated[
        list[str] | None, typer.Option(help="readings or index; repeatable. Default: readings.")
    ] = None,
    data_dir: DataDir = None,
    url: Url = URL_DEFAULT,
    key: Key = None,
) -> None:
    """Throw derived data away and make it anew from the facts. Usage is answered all the while."""
    parts = part or ["readings"]
    for one in parts:
        if one not in PARTS:
            raise TallystickError(f"--part: {one!r} is not one of {' and '.join(PARTS)}.")

    def work(target: _Remote | _Local) -> int:
        return _rebuild(target, parts)

    readings = _with_target(data_dir, url, key, work)
    figure = f", {readings:,} of them" if parts == ["readings"] else ""
    say(f"Done: {' and '.join(parts)} made anew{figure}.")


def _with_target(
    data_dir: Path | None, url: str, key: str | None, work: Callable[[_Remote | _Local], T]
) -> T:
    if data_dir is None:
        with Api(url, key) as api:
            return work(_Remote(api))
    target = _Local(data_dir)
    try:
        return work(target)
    finally:
        target.stop()


def _rebuild(target: _Remote | _Local, parts: list[str]) -> int:
    """Rebuild and wait until it is done; the number of readings."""
    give_up = time.monotonic() + REBUILD_S_MAX
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as shown:
        task = shown.add_task("beginning")
        target.rebuild(parts)
        while time.monotonic() < give_up:
            made = target.progress()
            shown.update(
                task, description=f"{made['readings']:,} readings, {made['meters_left']:,} meters to go"
            )
            if made["done"]:
                return made["readings"]
            time.sleep(POLL_S)
    raise TallystickError("The rebuild takes too long; it goes on by itself.")


def _print_findings(found: dict[str, Any], format_: TableOrJson | None) -> None:
    if format_ is None:
        return
    if format_ is TableOrJson.JSON:
        print_json(found)
        return
    names = ("events", "duplicates", "conflicts", "readings", "identities", "meters_checked")
    rows = [[name.replace("_", " "), "–" if found[name] is None else f"{found[name]:,}"] for name in names]
    print_table(["", "number"], rows, right=["number"])
    for one in found["rollups"]:
        left = f", {one['pending']:,} to go" if one["pending"] else ""
        fault = f" ({one['fault']})" if one["fault"] else ""
        say(
            f"{one['view']}: {one['meters']:,} meters kept, {one['readings']:,} readings rolled up{left}{fault}"
        )
    for one in found["findings"]:
        say(f"✗ {one['part']}: {one['detail']}")
    if found["busy"]:
        say("Something was being built and could not be checked: ask again in a while.")
    if found["healthy"]:
        say("All is well." if found["full"] else "All is well, by samples; --full checks everything.")
    elif any(one["mendable"] for one in found["findings"]):
        say("`tallystick doctor --mend` makes readings and index anew from the facts.")


def register(app: typer.Typer) -> None:
    app.command("doctor")(doctor)
    app.command("rebuild")(rebuild)
