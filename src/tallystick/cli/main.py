"""The command `tallystick` (short: `tally`)."""

import sys
from typing import Annotated

import typer
from rich.console import Console

from tallystick import __version__
from tallystick.cli import serve
from tallystick.errors import TallystickError

app = typer.Typer(
    name="tallystick",
    help="Usage-based metering: every event counted once, for ever, with exact figures you can check.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Usage-based metering: every event counted once, for ever, with exact figures you can check."""


serve.register(app)


def main() -> None:
    """Run the command; errors a user can mend are one sentence, not a traceback."""
    try:
        app()
    except TallystickError as error:
        console = Console(stderr=True)
        console.print(f"[bold red]Error:[/bold red] {error.detail}", highlight=False)
        for fault in error.faults[:50]:
            if fault.detail != error.detail:
                console.print(f"  {fault.pointer}: {fault.detail}", highlight=False, markup=False)
        sys.exit(1)


if __name__ == "__main__":
    main()
