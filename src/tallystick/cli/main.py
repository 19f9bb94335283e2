"""The command `tallystick` (short: `tally`)."""

import gc
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from tallystick import __version__
from tallystick.errors import TallystickError

_FAULTS_SHOWN_MAX = 50

PARTS = {
    "serve": ("serve",),
    "demo": ("demo",),
    "ingest": ("ingest",),
    "collect": ("collect",),
    "questions": ("usage", "explain", "events"),
    "forecast": ("forecast",),
    "meters": ("meters",),
    "migrate": ("migrate",),
    "apply": ("apply", "export-config"),
    "invoice": ("invoice",),
    "maintenance": ("doctor", "rebuild"),
    "settings_page": ("settings-docs",),
    "backup": ("backup", "restore"),
    "export": ("export",),
    "exports": ("exports",),
    "sources": ("sources",),
    "tail": ("tail",),
}
"""The files of this room that have commands, in the order of the help, and the commands of each."""


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Usage-based metering: every event counted once, for ever, with exact figures you can check."""


def command(words: Sequence[str] = ()) -> typer.Typer:
    """The command as it is needed for these words: a command loads its own file, since all of them take two seconds.

    For no words, or if the first is no command, it has all there are.
    """
    app = typer.Typer(
        name="tallystick",
        help="Usage-based metering: every event counted once, for ever, with exact figures you can check.",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
    )
    app.callback()(_common)
    wanted = [part for part, commands in PARTS.items() if words and words[0] in commands]
    for part in wanted or PARTS:
        import_module(f"tallystick.cli.{part}").register(app)
    return app


def main() -> None:
    """Run the command; errors a user can mend are one sentence, not a traceback."""
    # What is loaded stays, and looking for cycles in it again and again took a quarter of the time until something happened.
    gc.disable()
    try:
        called = command(sys.argv[1:])
        gc.enable()
        called()
    except TallystickError as error:
        _print_error(error)
        sys.exit(1)


def _print_error(error: TallystickError) -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    faults = [fault for fault in error.faults if fault.detail != error.detail]
    # A sentence that only strings the faults together is not said twice.
    repeated = len(faults) > 1 and all(fault.detail in error.detail for fault in faults)
    sentence = f"{len(faults)} things are wrong:" if repeated else error.detail
    console.print("[bold red]Error:[/bold red] " + escape(sentence))
    for fault in faults[:_FAULTS_SHOWN_MAX]:
        console.print(f"  {fault.pointer}: {fault.detail}", markup=False)
    if len(faults) > _FAULTS_SHOWN_MAX:
        console.print(f"  … and {len(faults) - _FAULTS_SHOWN_MAX} more.")


if __name__ == "__main__":
    main()
