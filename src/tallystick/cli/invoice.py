"""`tallystick invoice`: read an invoice, and check that it can be made again byte for byte."""

from typing import Annotated, Any
from urllib.parse import quote

import typer

from tallystick.cli.client import URL_DEFAULT, Api, Key, Url, json_text
from tallystick.cli.show import print_json, say

invoice_app = typer.Typer(name="invoice", help="Read invoices and verify them.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="ID", help="Id of the invoice.")]


def path_of(name: str) -> str:
    """The route of one invoice."""
    return f"/v1/invoices/{quote(name, safe='')}"


@invoice_app.command("show")
def show(invoice: Id, url: Url = URL_DEFAULT, key: Key = None) -> None:
    """Print an invoice as JSON."""
    with Api(url, key) as api:
        print_json(api.get(path_of(invoice)))


@invoice_app.command("verify")
def verify(invoice: Id, url: Url = URL_DEFAULT, key: Key = None) -> None:
    """Compute an invoice again from the facts as they were known then; ends with 1 where a byte differs."""
    with Api(url, key) as api:
        found: dict[str, Any] = api.get(f"{path_of(invoice)}/verify")
    name = found["number"] or found["id"]
    if found["verified"]:
        say(f"{name} is the same, byte for byte, as of {found['as_of']}.")
        return
    say(f"{name} is not the same:")
    for one in found["differences"]:
        say(f"  {one['place']}: kept {json_text(one['kept'])}, recomputed {json_text(one['recomputed'])}")
    raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    app.add_typer(invoice_app)
