"""The command `tallystick` (short: `tally`)."""

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from tallystick import __version__
from tallystick.cli import (
    apply,
    backup,
    collect,
    demo,
    export,
    exports,
    forecast,
    ingest,
    invoice,
    maintenance,
    meters,
    migrate,
    questions,
    serve,
    settings_page,
    sources,
    tail,
)
from tallystick.errors import TallystickError

_FAULTS_SHOWN_MAX = 50

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


for part in (
    serve,
    demo,
    ingest,
    collect,
    questions,
    forecast,
    meters,
    migrate,
    apply,
    invoice,
    maintenance,
    settings_page,
    backup,
    export,
    exports,
    sources,
    tail,
):
    part.register(app)


def main() -> None:
    """Run the command; errors a user can mend are one sentence, not a traceback."""
    try:
        app()
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
