"""docs/reference/settings.md, made from the table of settings in config.py."""

import dataclasses
import sys

import typer

from tallystick.config import Settings, environment_name

_HEAD = """# Settings

Each comes from a command-line flag of `tallystick serve`, else from the environment, else from the TOML file that
`--config` or `TALLYSTICK_CONFIG` names (there under the name in the first column), else it has its default. This page is
made by `make settings-docs`.

| setting | flag | environment | default | meaning |
|---|---|---|---|---|
"""


def settings_page() -> str:
    """The page, in Markdown."""
    rows: list[str] = []
    for declared in dataclasses.fields(Settings):
        default = "" if declared.default == "" else f"`{declared.default}`"
        meaning = declared.metadata["help"]
        if declared.metadata["choices"]:
            meaning += " One of " + ", ".join(f"`{choice}`" for choice in declared.metadata["choices"]) + "."
        if declared.metadata["secret"]:
            meaning += " Secret: better in the environment than in a flag."
        cells = (
            f"`{declared.name}`",
            f"`--{declared.name.replace('_', '-')}`",
            f"`{environment_name(declared.name)}`",
            default,
            meaning.replace("|", "\\|"),
        )
        rows.append("| " + " | ".join(cells) + " |\n")
    return _HEAD + "".join(rows)


def settings_docs() -> None:
    """Print docs/reference/settings.md."""
    sys.stdout.write(settings_page())


def register(app: typer.Typer) -> None:
    app.command("settings-docs", hidden=True)(settings_docs)
