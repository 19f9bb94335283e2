"""`tallystick exports`: how far continuous exports are, and whether what they have written is whole."""

from typing import Annotated, Any
from urllib.parse import quote

import typer

from tallystick.cli.client import URL_DEFAULT, Api, Key, Url
from tallystick.cli.show import TableOrJson, grouped, instant, print_json, print_table, say

exports_app = typer.Typer(
    name="exports", help="Continuous exports: state, run, verify.", no_args_is_help=True
)

FormatOption = Annotated[TableOrJson, typer.Option("--format", help="Form of the answer.")]
_FAULTS_SHOWN_MAX = 50


@exports_app.command("list")
def list_exports(format_: FormatOption = TableOrJson.TABLE, url: Url = URL_DEFAULT, key: Key = None) -> None:
    """All continuous exports, with how far each is."""
    with Api(url, key) as api:
        found: list[dict[str, Any]] = list(api.items("/v1/exports"))
    if format_ is TableOrJson.JSON:
        print_json(found)
        return
    if not found:
        say("There are no continuous exports: docs/howto/continuous-export.md")
        return
    print_table(
        ["export", "what", "root", "every", "state", "manifests", "rows", "exported to", "lag"],
        (
            [
                one["key"],
                one["what"],
                one["root"],
                one["every"],
                one["state"]["status"],
                grouped(str(one["state"]["manifests"])),
                grouped(str(one["state"]["rows"])),
                instant(one["state"]["exported_to"]),
                f"{one['state']['lag_seconds']} s",
            ]
            for one in found
        ),
        right=["manifests", "rows", "lag"],
    )
    for one in found:
        if one["state"]["error"] is not None:
            say(f"{one['key']}: {one['state']['error']['detail']}")


@exports_app.command("run")
def run(
    export: Annotated[str, typer.Argument(metavar="EXPORT", help="Key of the export.")],
    url: Url = URL_DEFAULT,
    key: Key = None,
) -> None:
    """Export now, whatever `every` says."""
    with Api(url, key) as api:
        api.send("POST", f"/v1/exports/{quote(export, safe='')}/run")
    say(f"{export} writes what there is within the next seconds.")


@exports_app.command("verify")
def verify(
    root: Annotated[str, typer.Argument(metavar="ROOT", help="The export's folder: s3://… or file:///….")],
    endpoint: Annotated[
        str, typer.Option(envvar="TALLYSTICK_EXPORT_S3_ENDPOINT", help="Of a bucket that is not at AWS.")
    ] = "",
) -> None:
    """Read manifests and files, and say whether all of it is there as it was written; ends with 1 where it is not."""
    # With it comes all the server is made of, which takes a second and every help would wait for.
    from tallystick.lake.verify import verify as verified
    from tallystick.wiring import place_of

    found = verified(place_of(root, endpoint=endpoint))
    for fault in found.faults[:_FAULTS_SHOWN_MAX]:
        say(fault)
    whole = "whole" if not found.faults else f"not whole: {len(found.faults)} faults"
    print(f"{found.manifests} manifests, {found.files} files, {found.rows} rows up to {found.to}: {whole}")
    if found.faults:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    app.add_typer(exports_app)
