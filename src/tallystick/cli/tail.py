"""`tail`: events (or transitions) on the terminal as they are recorded."""

import contextlib
import random
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from tallystick.cli.client import URL_DEFAULT, Api, ApiError, Key, Url, json_text, parsed
from tallystick.errors import TallystickError, Unavailable

SILENCE_S_MAX = 60.0
"""A stream says something every 15 s: after so long it is dead, and begun anew."""
PAUSE_S_MAX = 15.0
LINE_BYTES_MAX = 16 * 1024 * 1024
_DATA_CHARACTERS_MAX = 160


def tail(  # noqa: PLR0917 -- options
    transitions: Annotated[
        bool, typer.Option("--transitions", help="What happens to alerts, instead of events.")
    ] = False,
    type_: Annotated[
        list[str] | None, typer.Option("--type", help="Only this event type; repeatable.")
    ] = None,
    customer: Annotated[
        list[str] | None, typer.Option("--customer", help="Only this customer; repeatable.")
    ] = None,
    meter: Annotated[str | None, typer.Option(help="Only what counts for this meter.")] = None,
    filter_: Annotated[
        list[str] | None, typer.Option("--filter", help="DIMENSION=VALUE of the meter; repeatable.")
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option("--from", help="From what was recorded then on (RFC 3339), instead of from now."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="A JSON document a line, with its `id`.")] = False,
    count: Annotated[int | None, typer.Option("--count", min=1, help="End after so many.")] = None,
    url: Url = URL_DEFAULT,
    key: Key = None,
) -> None:
    """Show what is recorded as it is recorded, until Ctrl-C. A connection that is lost is taken up where it broke.

    [dim]tallystick tail --customer acme --meter tokens --filter model=gpt-4[/dim]
    """
    parameters: list[tuple[str, str]] = [("kind", "transitions" if transitions else "events")]
    parameters += [("type", one) for one in type_ or ()] + [("customer", one) for one in customer or ()]
    if meter is not None:
        parameters.append(("meter", meter))
    if from_ is not None:
        parameters.append(("from", from_))
    for one in filter_ or ():
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise TallystickError(f"--filter: {one!r} is not DIMENSION=VALUE.")
        parameters.append((f"filter[{name}]", value))
    console = Console(highlight=False, soft_wrap=True)
    errors = Console(stderr=True, highlight=False)
    left = count
    # Ctrl-C is how one ends.
    with Api(url, key) as api, contextlib.suppress(KeyboardInterrupt):
        for place, document in followed(api, parameters, errors):
            if json:
                sys.stdout.write(json_text({"id": place, "data": document}) + "\n")
                sys.stdout.flush()
            else:
                console.print(transition_line(document) if transitions else event_line(document))
            if left is not None:
                left -= 1
                if left == 0:
                    return


def followed(
    api: Api, parameters: list[tuple[str, str]], errors: Console
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(id, document) of each message, over as many connections as it takes. Raises ApiError for what asking again does
    not mend."""
    place: str | None = None
    pause_s = 0.5
    while True:
        headers = {"accept": "text/event-stream"}
        asked = parameters
        if place is not None:
            headers["last-event-id"] = place
            asked = [pair for pair in parameters if pair[0] != "from"]
        try:
            with api.stream("/v1/stream", params=asked, headers=headers, timeout=SILENCE_S_MAX) as pieces:
                for found, document in messages(pieces):
                    place = found or place
                    pause_s = 0.5
                    if document is not None:
                        yield place or "", document
            why = "The server has ended the stream."
        except ApiError as error:
            if error.status_code not in (429, 502, 503, 504):
                raise
            why = error.detail
        except Unavailable as error:
            why = error.detail
        wait_s = pause_s * random.uniform(0.5, 1.0)  # noqa: S311 -- so that not everybody comes back at once
        errors.print(f"[dim]{why} Again in {wait_s:.1f} s.[/dim]")
        time.sleep(wait_s)
        pause_s = min(pause_s * 2, PAUSE_S_MAX)


def messages(pieces: Iterable[bytes]) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """(id, document) of each message; None for one that says the place alone."""
    for block in _blocks(pieces):
        place, data = "", ""
        for line in block.decode("utf-8", "replace").split("\n"):
            name, _, value = line.partition(":")
            if name == "id":
                place = value.removeprefix(" ")
            elif name == "data":
                data += value.removeprefix(" ")
        if data:
            yield place, parsed(data)
        elif place:
            yield place, None


def _blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    held = bytearray()
    for piece in pieces:
        held += piece
        while (end := held.find(b"\n\n")) >= 0:
            yield bytes(held[:end])
            del held[: end + 2]
        if len(held) > LINE_BYTES_MAX:
            raise Unavailable("The server sends a message without an end.")


def event_line(event: dict[str, Any]) -> Text:
    """One event, in one line."""
    data = json_text(event.get("data") or {})
    if len(data) > _DATA_CHARACTERS_MAX:
        data = data[: _DATA_CHARACTERS_MAX - 1] + "…"
    return Text.assemble(
        (_plain(event.get("time")), "dim"),
        " ",
        (_plain(event.get("type")), "cyan"),
        " ",
        (_plain(event.get("customer")) or "(nobody)", "bold green"),
        " ",
        (_plain(event.get("id")), "yellow"),
        " ",
        (_plain(data), "default"),
    )


def transition_line(transition: dict[str, Any]) -> Text:
    """One transition, in one line."""
    kind = _plain(transition.get("kind"))
    return Text.assemble(
        (_plain(transition.get("at")), "dim"),
        " ",
        (kind, "bold red" if kind == "fired" else "bold green"),
        " ",
        (_plain(transition.get("alert")), "cyan"),
        " ",
        (_plain(transition.get("customer")), "bold"),
        " ",
        _plain(transition.get("summary")),
    )


def _plain(value: Any) -> str:
    """Text without control characters: what is sent must not drive the terminal."""
    text = "" if value is None else str(value)
    return "".join(character if character.isprintable() else "�" for character in text)


def register(app: typer.Typer) -> None:
    app.command("tail")(tail)
