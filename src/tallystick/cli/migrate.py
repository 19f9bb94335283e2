"""`tallystick migrate --to …`: move a running installation to a cluster."""

import time
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from tallystick.cli.client import URL_DEFAULT, Api, ApiError, Key, Url
from tallystick.cli.show import err, say
from tallystick.errors import TallystickError

POLL_S = 0.2
MOVE_S_MAX = 30 * 24 * 3600.0
_WANTED = ("log_url", "store_url", "catalog_url", "partitions")


def migrate(
    to: Annotated[
        Path,
        typer.Option(
            "--to",
            help="The cluster's TOML file of settings: log_url, store_url, catalog_url and partitions, as the *server* "
            "reaches them.",
        ),
    ],
    url: Url = URL_DEFAULT,
    key: Key = None,
) -> None:
    """Move a running installation to a cluster, with no lost or doubled event and seconds of read-only time; or a cluster to a
    multiple of its partitions.

    The server copies its facts while it goes on, then refuses events (503) for as long as the last few and the catalog
    take. Figures are compared on both sides before and after. Start the cluster's processes when this says so. A
    move that was interrupted goes on where it was.
    """
    settings = _settings(to)
    with Api(url, key) as api:
        try:
            made = api.send("POST", "/v1/admin/move", json=settings).json()
        except ApiError as error:
            if error.document.get("code") != "move_running":
                raise
            made = api.get("/v1/admin/move")
        made = _follow(api, made)
    if made["state"] == "failed":
        raise TallystickError(f"The move failed while {made['step']}: {made['detail']}")
    facts = ", ".join(f"{count:,} {table}" for table, count in made["facts"].items() if count)
    say(f"Moved to {made['to']}: {facts or 'no facts'}, the same number on both sides.")
    say(f"{made['figures_equal']:,} figures are the same on both sides, as of {made['as_of']}.")
    say(f"Read-only for {made['read_only_s']} s. The old server answers questions until you stop it.")


def _follow(api: Api, made: dict[str, Any]) -> dict[str, Any]:
    give_up = time.monotonic() + MOVE_S_MAX
    told = ""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("", total=None)
        while made["state"] == "running":
            if time.monotonic() > give_up:
                raise TallystickError("The move takes too long; the server goes on with it.")
            if made["step"] != told:
                told = made["step"]
                err.print(f"{told} …")
                if made["read_only_s"] is not None:
                    err.print("The cluster may be started now; send clients there.")
            bar.update(
                task,
                description=f"round {made['rounds'] + 1}",
                completed=made["rows_done"],
                total=made["rows"],
            )
            time.sleep(POLL_S)
            made = api.get("/v1/admin/move")
    return made


def _settings(path: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(path.expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise TallystickError(f"--to: {path} cannot be read: {error.strerror}.") from error
    except tomllib.TOMLDecodeError as error:
        raise TallystickError(f"--to: {path} is not valid TOML: {error}.") from error
    missing = [name for name in _WANTED if name not in document]
    if missing:
        raise TallystickError(f"--to: {path} does not say {', '.join(missing)}.")
    return {name: document[name] for name in _WANTED}


def register(app: typer.Typer) -> None:
    app.command("migrate")(migrate)
