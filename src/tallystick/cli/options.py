"""Settings as command-line flags: one flag for each row of the table in config.py."""

import dataclasses
import functools
import inspect
import os
from collections.abc import Callable
from typing import Any

import typer

from tallystick.config import Settings, environment_name, load

CONFIG_HELP = "TOML file with settings."


def with_settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command a flag for every setting; it receives them put together as `settings`.

    The command's own parameters stay as they are.
    """
    own = inspect.signature(command)
    parameters = [parameter for parameter in own.parameters.values() if parameter.name != "settings"]
    for declared in dataclasses.fields(Settings):
        kind = int if isinstance(declared.default, int) else str
        help_text = f"{declared.metadata['help']} [{environment_name(declared.name)}]"
        default = "(secret)" if declared.metadata["secret"] and declared.default else declared.default
        if default != "":
            help_text += f" Default: {default}."
        flag = typer.Option(
            None,
            f"--{declared.name.replace('_', '-')}",
            help=help_text,
            rich_help_panel="Settings",
            show_default=False,
        )
        parameters.append(
            inspect.Parameter(
                declared.name, inspect.Parameter.KEYWORD_ONLY, default=flag, annotation=kind | None
            )
        )
    parameters.append(
        inspect.Parameter(
            "config",
            inspect.Parameter.KEYWORD_ONLY,
            default=typer.Option(
                None, "--config", help=f"{CONFIG_HELP} [{environment_name('config')}]", show_default=False
            ),
            annotation=str | None,
        )
    )

    @functools.wraps(command)
    def run(**given: Any) -> Any:
        names = {declared.name for declared in dataclasses.fields(Settings)}
        flags = {name: given.pop(name) for name in names}
        settings = load(flags=flags, environment=os.environ, config_file=given.pop("config"))
        return command(**given, settings=settings)

    run.__signature__ = own.replace(parameters=parameters)  # pyright: ignore[reportAttributeAccessIssue]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
