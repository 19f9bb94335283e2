"""`tallystick meters`: definitions, one at a time. For many at once: `tallystick apply`."""

import sys
from typing import Annotated, Any
from urllib.parse import quote

import typer

from tallystick.cli.client import URL_DEFAULT, Api, Key, Url
from tallystick.cli.show import TableOrJson, instant, print_json, print_table, say
from tallystick.errors import TallystickError

meters_app = typer.Typer(name="meters", help="List, show, create and archive meters.", no_args_is_help=True)

FormatOption = Annotated[TableOrJson, typer.Option("--format", help="Form of the answer.")]
MeterKey = Annotated[str, typer.Argument(metavar="METER", help="Key of the meter.")]


def path_of(key: str) -> str:
    """The route of one meter."""
    return f"/v1/meters/{quote(key, safe='')}"


@meters_app.command("list")
def list_meters(
    archived: Annotated[bool, typer.Option("--archived", help="Archived ones too.")] = False,
    format_: FormatOption = TableOrJson.TABLE,
    url: Url = URL_DEFAULT,
    key: Key = None,
) -> None:
    """All meters, by key."""
    with Api(url, key) as api:
        meters = list(api.items("/v1/meters", include_archived="true" if archived else None))
    if format_ is TableOrJson.JSON:
        print_json(meters)
    elif not meters:
        say(
            "There are no meters yet. Make one: tallystick meters create tokens --event-type llm.completion …"
        )
    else:
        print_table(
            ["meter", "event type", "aggregation", "value", "dimensions", "unit", "version", "state"],
            (
                [
                    meter["key"],
                    meter["event_type"],
                    meter["aggregation"],
                    meter["value"] or "–",
                    ", ".join(meter["dimensions"]) or "–",
                    meter["unit"] or "–",
                    str(meter["version"]),
                    "archived" if meter["archived_at"] else "active",
                ]
                for meter in meters
            ),
            right=["version"],
        )


@meters_app.command("show")
def show(
    meter: MeterKey,
    version: Annotated[int | None, typer.Option(min=1, help="An older version.")] = None,
    format_: FormatOption = TableOrJson.TABLE,
    url: Url = URL_DEFAULT,
    key: Key = None,
) -> None:
    """One meter's definition."""
    with Api(url, key) as api:
        found = api.get(path_of(meter), version=version)
    _print_meter(found, format_)


@meters_app.command("create")
def create(  # noqa: PLR0917 -- options
    meter: MeterKey,
    event_type: Annotated[str, typer.Option(help="Type of the events it counts.")],
    aggregation: Annotated[
        str, typer.Option(help="count, sum, min, max, average, latest or unique_count.")
    ] = "count",
    value: Annotated[
        str | None, typer.Option(help="Path into data, such as $.tokens; not for count.")
    ] = None,
    dimension: Annotated[
        list[str] | None, typer.Option(help="NAME, or NAME=PATH where they differ; repeatable.")
    ] = None,
    filter_: Annotated[
        str | None, typer.Option("--filter", help="CEL, such as 'data.status == \"ok\"'.")
    ] = None,
    unit: Annotated[str | None, typer.Option(help="What is counted: token, request, GB …")] = None,
    name: Annotated[str | None, typer.Option(help="A name for people. Default: the key.")] = None,
    description: Annotated[str | None, typer.Option(help="A sentence about it.")] = None,
    format_: FormatOption = TableOrJson.TABLE,
    url: Url = URL_DEFAULT,
    key: Key = None,
) -> None:
    """Define a meter. It counts the events recorded before it, too."""
    definition: dict[str, Any] = {
        "key": meter,
        "name": name,
        "event_type": event_type,
        "aggregation": aggregation,
        "value": value,
        "dimensions": dict(_dimension(one) for one in dimension or ()),
        "filter": filter_,
        "unit": unit,
        "description": description,
    }
    with Api(url, key) as api:
        made = api.send("POST", "/v1/meters", json=definition).json()
    _print_meter(made, format_)


def _dimension(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not name or (equals and not path):
        raise TallystickError(f"--dimension: {text!r} is neither NAME nor NAME=PATH.")
    return name, path or f"$.{name}"


@meters_app.command("archive")
def archive(meter: MeterKey, url: Url = URL_DEFAULT, key: Key = None) -> None:
    """Let a meter count no further. Its history stays readable."""
    with Api(url, key) as api:
        api.send("DELETE", path_of(meter))
    say(f"{meter} is archived; its history stays readable.")


def _print_meter(meter: dict[str, Any], format_: TableOrJson) -> None:
    if format_ is TableOrJson.JSON:
        print_json(meter)
        return
    rows = [[name, str(value)] for name, value in meter.items() if name != "dimensions" and value is not None]
    rows += [[f"dimension {name}", path] for name, path in meter["dimensions"].items()]
    print_table(
        ["meter", meter["key"]],
        ([name, instant(value) if name.endswith("_at") else value] for name, value in rows),
    )
    sys.stdout.flush()


def register(app: typer.Typer) -> None:
    app.add_typer(meters_app)
