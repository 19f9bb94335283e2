"""A command loads its own file and no other."""

import subprocess
import sys
from importlib import import_module

import typer
from typer.main import get_command

from tallystick.cli.main import PARTS, command


def names(app: typer.Typer) -> list[str]:
    app.callback()(lambda: None)
    return sorted(get_command(app).commands)  # type: ignore[attr-defined]


def test_each_file_has_the_commands_that_are_said_of_it() -> None:
    for part, commands in PARTS.items():
        app = typer.Typer()
        import_module(f"tallystick.cli.{part}").register(app)
        assert names(app) == sorted(commands), part
    assert names(command()) == sorted(name for commands in PARTS.values() for name in commands)


def test_a_word_that_is_no_command_finds_them_all() -> None:
    assert names(command(["--help"])) == names(command(["usagee"])) == names(command())
    assert names(command(["usage", "tokens"])) == ["events", "explain", "usage"]


def test_a_question_loads_no_engine() -> None:
    program = (
        "import sys; from tallystick.cli.main import command; command(['usage']);"
        "print(sorted({'pyarrow', 'sqlalchemy', 'chdb', 'tallystick.wiring'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
