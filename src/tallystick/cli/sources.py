"""`tallystick sources`: what brings events by itself, how it stands, and what it could not take."""

import sys
from typing import Annotated, Any
from urllib.parse import quote

import typer

from tallystick.cli.client import URL_DEFAULT, Api, Key, Url, parsed
from tallystick.cli.show import TableOrJson, grouped, instant, print_json, print_table, say

sources_app = typer.Typer(
    name="sources",
    help="List, pause and resume sources; retry what they could not take.",
    no_args_is_help=True,
)
letters_app = typer.Typer(
    name="dead-letters", help="What sources could not take: list, edit, retry, discard.", no_args_is_help=True
)
sources_app.add_typer(letters_app)

FormatOption = Annotated[TableOrJson, typer.Option("--format", help="Form of the answer.")]
SourceKey = Annotated[str, typer.Argument(metavar="SOURCE", help="Key of the source.")]
LetterId = Annotated[str, typer.Argument(metavar="ID", help="Id of the dead letter.")]
SourceOption = Annotated[str | None, typer.Option("--source", help="Of this source alone.")]
CodeOption = Annotated[str | None, typer.Option("--code", help="Refused for this reason alone.")]
_DETAIL_CHARACTERS = 80


def _path(key: str) -> str:
    return f"/v1/sources/{quote(key, safe='')}"


def _letter(number: str) -> str:
    return f"/v1/dead_letters/{quote(number, safe='')}"


@sources_app.command("list")
def list_sources(
    archived: Annotated[bool, typer.Option("--archived", help="Archived ones too.")] = False,
    format_: FormatOption = TableOrJson.TABLE,
    url: Url = URL_DEFAULT,
    key: Key = None,
) -> None:
    """All sources, by key, with how each stands."""
    with Api(url, key) as api:
        found = list(api.items("/v1/sources", include_archived="true" if archived else None))
    if format_ is TableOrJson.JSON:
        print_json(found)
    elif not found:
        say("There are no sources yet. `tallystick apply` makes those of a file's list `sources:`.")
    else:
        print_table(
            ["source", "kind", "state", "lag", "taken", "dead letters", "last taken", "fault"],
            (_row(one, one["state"]) for one in found),
            right=["lag", "taken", "dead letters"],
        )


def _row(source: dict[str, Any], state: dict[str, Any]) -> list[str]:
    return [
        source["key"],
        source["kind"],
        state["status"],
        "–" if state["lag"] is None else grouped(str(state["lag"])),
        grouped(str(state["taken"])),
        grouped(str(state["dead_letters"])),
        instant(state["taken_at"]),
        (state["fault"] or "–")[:_DETAIL_CHARACTERS],
    ]


@sources_app.command("show")
def show_source(source: SourceKey, url: Url = URL_DEFAULT, key: Key = None) -> None:
    """One source: its definition, how it stands, how far it is. JSON."""
    with Api(url, key) as api:
        print_json(parsed(api.send("GET", _path(source)).text))


@sources_app.command()
def pause(source: SourceKey, url: Url = URL_DEFAULT, key: Key = None) -> None:
    """Take nothing from it until it is resumed."""
    with Api(url, key) as api:
        api.send("POST", f"{_path(source)}/pause")
    say(f"{source} is paused.")


@sources_app.command()
def resume(source: SourceKey, url: Url = URL_DEFAULT, key: Key = None) -> None:
    """Go on from where it was."""
    with Api(url, key) as api:
        api.send("POST", f"{_path(source)}/resume")
    say(f"{source} goes on.")


@letters_app.command("list")
def list_letters(  # noqa: PLR0917 -- options
    source: SourceOption = None,
    code: CodeOption = None,
    status: Annotated[str, typer.Option(help="open, retried, discarded or any.")] = "open",
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many at most.")] = 100,
    format_: FormatOption = TableOrJson.TABLE,
    url: Url = URL_DEFAULT,
    key: Key = None,
) -> None:
    """The oldest first."""
    with Api(url, key) as api:
        found = list(api.items("/v1/dead_letters", limit=limit, source=source, code=code, status=status))
    if format_ is TableOrJson.JSON:
        print_json(found)
    elif not found:
        say("There are none.")
    else:
        print_table(
            ["id", "source", "where", "reason", "detail", "status"],
            (
                [
                    one["id"],
                    one["source"],
                    one["where"],
                    one["code"],
                    one["detail"][:_DETAIL_CHARACTERS],
                    one["status"],
                ]
                for one in found
            ),
        )


@letters_app.command("show")
def show_letter(letter: LetterId, url: Url = URL_DEFAULT, key: Key = None) -> None:
    """One dead letter with what came in. JSON."""
    with Api(url, key) as api:
        print_json(parsed(api.send("GET", _letter(letter)).text))


@letters_app.command("edit")
def edit_letter(letter: LetterId, url: Url = URL_DEFAULT, key: Key = None) -> None:
    """Set what is retried: one JSON object, read from standard input."""
    with Api(url, key) as api:
        api.send("PUT", _letter(letter), json={"raw": sys.stdin.read().strip()})
    say(f"{letter} is edited. Retry it: tallystick sources dead-letters retry {letter}")


@letters_app.command("retry")
def retry_letters(
    letter: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="One alone; without, all that are open.")
    ] = None,
    source: SourceOption = None,
    code: CodeOption = None,
    url: Url = URL_DEFAULT,
    key: Key = None,
) -> None:
    """Try them again. Exit status 1 when something is refused again."""
    with Api(url, key) as api:
        if letter is not None:
            one = parsed(api.send("POST", f"{_letter(letter)}/retry").text)
            say(f"{letter}: {one['status']}" + (f", {one['detail']}" if one["status"] == "open" else ""))
            refused = int(one["status"] == "open")
        else:
            wanted = {
                name: value for name, value in (("source", source), ("code", code)) if value is not None
            }
            done = parsed(api.send("POST", "/v1/dead_letters/retry", json=wanted).text)
            refused = done["refused"]
            more = " There are more: run it again." if done["more"] else ""
            say(f"{done['retried']} are events now, {refused} were refused again.{more}")
    if refused:
        raise typer.Exit(1)


@letters_app.command("discard")
def discard_letters(
    letter: Annotated[str | None, typer.Argument(metavar="[ID]", help="One alone.")] = None,
    source: SourceOption = None,
    code: CodeOption = None,
    url: Url = URL_DEFAULT,
    key: Key = None,
) -> None:
    """Let go of one, or of those of a source or reason."""
    if letter is None and source is None and code is None:
        raise typer.BadParameter("Name one by its ID, or give --source or --code.")
    with Api(url, key) as api:
        if letter is not None:
            api.send("DELETE", _letter(letter))
            say(f"{letter} is discarded.")
            return
        wanted = {name: value for name, value in (("source", source), ("code", code)) if value is not None}
        done = parsed(api.send("POST", "/v1/dead_letters/discard", json=wanted).text)
    say(f"{done['discarded']} are discarded." + (" There are more: run it again." if done["more"] else ""))


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(sources_app)
