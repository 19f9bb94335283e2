"""`tallystick backup` and `tallystick restore`."""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tallystick.cli.client import URL_DEFAULT, Api, Key, Url
from tallystick.cli.maintenance import DataDir
from tallystick.cli.show import err, say
from tallystick.config import Settings, load
from tallystick.errors import TallystickError

if TYPE_CHECKING:
    from tallystick.flows.backup import BackupProgress, Manifest

POLL_S = 0.3
BACKUP_S_MAX = 7 * 24 * 3600.0
RECOVER_S_MAX = 3600.0
_VERIFY = "verify"


def backup(
    where: Annotated[
        list[str],
        typer.Argument(
            metavar="[verify] DIR|URL",
            help="An empty directory or s3://bucket/path. After the word verify: a finished backup to check.",
        ),
    ],
    data_dir: DataDir = None,
    url: Url = URL_DEFAULT,
    key: Key = None,
) -> None:
    """Take a backup of everything while the server goes on, or check one (`backup verify DIR`).

    The running server writes it, where it runs. With --data-dir: of a data directory whose server is stopped. A place
    with an unfinished backup is taken up again.
    """
    if len(where) == 2 and where[0] == _VERIFY:
        _verify(where[1])
        return
    if len(where) != 1 or where[0] == _VERIFY:
        raise TallystickError("Say where to: `tallystick backup DIR`, or `tallystick backup verify DIR`.")
    place = where[0] if "://" in where[0] else str(Path(where[0]).expanduser().absolute())
    if data_dir is None:
        with Api(url, key) as api:
            _of_server(api, place)
    else:
        _of_directory(data_dir, place)


def _of_server(api: Api, place: str) -> None:
    made = api.send("POST", "/v1/admin/backups", json={"to": place}).json()
    give_up = time.monotonic() + BACKUP_S_MAX
    with _bar("backup") as show:
        while made["state"] == "running":
            if time.monotonic() > give_up:
                raise TallystickError("The backup takes too long; the server goes on with it.")
            time.sleep(POLL_S)
            made = api.get("/v1/admin/backups")
            show(made["rows_done"], made["rows"])
    if made["state"] == "failed":
        raise TallystickError(f"The backup failed: {made['detail']}")
    say(f"Done: {made['events']:,} events as of {made['as_of']}, in {made['to']}.")


def _of_directory(directory: Path, place: str) -> None:
    # Imported here: they load the store.
    from tallystick import observe
    from tallystick.flows.backup import back_up
    from tallystick.flows.target import Target

    observe.configure(level="error", form="auto")
    target = Target(place)
    settings = load(flags={"data_dir": str(directory)}, environment=os.environ)

    async def whole() -> "Manifest":
        from tallystick.wiring import start

        running = await start(settings)
        try:
            await _recovered(running)
            with _bar("backup") as show:
                return await back_up(
                    running.system,
                    target,
                    in_thread=asyncio.to_thread,
                    stopping=threading.Event(),
                    on_progress=_shower(show),
                )
        finally:
            await running.stop()

    _say_done(asyncio.run(whole()), target.name)


def _verify(place: str) -> None:
    from tallystick.flows.restore import verify
    from tallystick.flows.target import Target

    with _bar("verify") as show:
        manifest = verify(Target(place), on_progress=_shower(show))
    say(
        f"Sound: {len(manifest.files):,} files, {sum(manifest.rows.values()):,} rows of facts, every checksum right."
    )
    _say_done(manifest, place)


def restore(
    where: Annotated[str, typer.Argument(metavar="DIR|URL", help="A finished backup.")],
    data_dir: Annotated[Path, typer.Option("--data-dir", help="A new, or empty, data directory.")],
    start: Annotated[
        bool,
        typer.Option(help="Start what was restored once: the index is filled, what was waiting is recorded."),
    ] = True,
) -> None:
    """Make an installation of a backup. Every checksum is checked before anything is written.

    When it has ended, start it with `tallystick serve --data-dir NEW`. Other settings come from the environment.
    """
    from tallystick import observe
    from tallystick.flows.restore import restore as make
    from tallystick.flows.target import Target
    from tallystick.wiring import open_store

    observe.configure(level="error", form="auto")
    source = Target(where)
    settings = load(flags={"data_dir": str(data_dir)}, environment=os.environ)
    with _bar("restore") as show:
        manifest = make(source, settings, lambda: open_store(settings), on_progress=_shower(show))
    if start:
        recorded = asyncio.run(_start_once(settings))
        say(f"Started once: recorded up to position {recorded}; readings are built when the server runs.")
    _say_done(manifest, str(data_dir))


async def _start_once(settings: Settings) -> str:
    from tallystick.flows.position import token_of
    from tallystick.wiring import start

    running = await start(settings)
    try:
        await _recovered(running)
        return token_of(running.system.recorder.position)
    finally:
        await running.stop()


async def _recovered(running: Any) -> None:
    """Wait until everything in the log is recorded."""
    recorder = running.system.recorder
    give_up = time.monotonic() + RECOVER_S_MAX
    while not (recorder.recovered and recorder.lag().events == 0):
        if time.monotonic() > give_up or recorder.fault is not None:
            raise TallystickError(f"The recorder does not get on: {recorder.fault or 'it takes too long'}.")
        await asyncio.sleep(POLL_S)


def _say_done(manifest: "Manifest", place: str) -> None:
    waiting = manifest.log_end - manifest.position
    more = f", and {waiting:,} that were not recorded yet" if waiting else ""
    say(
        f"{place}: {manifest.events:,} events, {manifest.duplicates:,} duplicates, {manifest.conflicts:,} conflicts "
        f"up to position {manifest.position:,}{more}."
    )


class _bar:  # noqa: N801 -- used as a function
    """A progress bar of rows while the block lasts; the block gets `show(done, total)`."""

    def __init__(self, what: str) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("rows"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=err, disable=not err.is_terminal, transient=True)
        self._task = self._progress.add_task(what, total=None)

    def __enter__(self) -> Callable[[int, int], None]:
        self._progress.start()
        return lambda done, total: self._progress.update(self._task, completed=done, total=total or None)

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


def _shower(show: Callable[[int, int], None]) -> Callable[["BackupProgress"], None]:
    return lambda progress: show(progress.rows_done, progress.rows)


def register(app: typer.Typer) -> None:
    app.command("backup")(backup)
    app.command("restore")(restore)
