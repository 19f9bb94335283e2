"""`usage`, `explain`, `events`: questions, and answers as tables."""

import sys
from typing import Annotated, Any
from urllib.parse import quote

import typer

from tallystick.cli.client import URL_DEFAULT, Api, Key, Url, json_text, parsed
from tallystick.cli.show import Format, TableOrJson, grouped, instant, print_json, print_table, say
from tallystick.errors import TallystickError

_CELL_CHARACTERS_MAX = 60

From = Annotated[
    str | None, typer.Option("--from", help="Begin, inclusive: RFC 3339. Default: 30 days before --to.")
]
To = Annotated[str | None, typer.Option("--to", help="End, exclusive. Default: now.")]
Customer = Annotated[list[str] | None, typer.Option("--customer", help="Only this customer; repeatable.")]


def usage(  # noqa: PLR0917 -- options
    meter: Annotated[str, typer.Argument(help="Key of the meter.")],
    from_: From = None,
    to: To = None,
    window: Annotated[
        str | None,
        typer.Option(help="minute, 5m, 15m, hour, day, week, month, quarter or year; without: one total."),
    ] = None,
    timezone: Annotated[str | None, typer.Option(help="IANA zone of the windows. Default: UTC.")] = None,
    customer: Customer = None,
    group_by: Annotated[
        list[str] | None, typer.Option(help="customer, subject or a dimension; repeatable, or a,b.")
    ] = None,
    filter_: Annotated[
        list[str] | None,
        typer.Option("--filter", help="DIMENSION=VALUE, or a list of values: model=a,b; repeatable."),
    ] = None,
    order_by: Annotated[str | None, typer.Option(help="value, or -value for the greatest first.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Keep so many groups.")] = None,
    fill: Annotated[str | None, typer.Option(help="zero: also windows without usage.")] = None,
    format_: Annotated[Format, typer.Option("--format", help="Form of the answer.")] = Format.TABLE,
    url: Url = URL_DEFAULT,
    key: Key = None,
) -> None:
    """How much was used: one figure, or windows and groups.

    [dim]tallystick usage tokens --window day --group-by customer --order-by -value --limit 5[/dim]
    """
    parameters: list[tuple[str, str]] = [
        (name, str(value))
        for name, value in (
            ("from", from_),
            ("to", to),
            ("window", window),
            ("timezone", timezone),
            ("order_by", order_by),
            ("limit", limit),
            ("fill", fill),
        )
        if value is not None
    ]
    parameters += [("customer", one) for one in customer or ()]
    parameters += [("group_by", one) for one in group_by or ()]
    for condition in filter_ or ():
        name, equals, value = condition.partition("=")
        if not equals or not name:
            raise TallystickError(f"--filter: {condition!r} is not DIMENSION=VALUE.")
        parameters.append((f"filter[{name}]", value))
    accept = "text/csv" if format_ is Format.CSV else "application/json"
    with Api(url, key) as api:
        response = api.send(
            "GET", f"/v1/meters/{quote(meter, safe='')}/usage", params=parameters, headers={"accept": accept}
        )
    if format_ is Format.CSV:
        sys.stdout.write(response.text)
    elif format_ is Format.JSON:
        print_json(parsed(response.text))
    else:
        _usage_table(parsed(response.text))


def _usage_table(answer: dict[str, Any]) -> None:
    rows = answer["rows"]
    unit = f" in {answer['unit']}" if answer["unit"] else ""
    zone: str = answer["timezone"]
    asked = (
        f"{answer['meter']}: {answer['aggregation']}{unit}, {instant(answer['from'], zone)} to "
        f"{instant(answer['to'], zone)} {zone}"
    )
    if not rows:
        say(f"{asked}: nothing was used.")
        say(f"Why? Ask `tallystick explain {answer['meter']}`.")
        return
    names = list(rows[0]["group"])
    windows = ["from", "to"] if answer["window"] else []
    print_table(
        [*windows, *names, answer["unit"] or "value"],
        (
            [
                *((instant(row["window_start"], zone), instant(row["window_end"], zone)) if windows else ()),
                *("–" if row["group"][name] is None else row["group"][name] for name in names),
                grouped(row["value"]),
            ]
            for row in rows
        ),
        right=[answer["unit"] or "value"],
        title=asked,
    )


def explain(  # noqa: PLR0917 -- options
    meter: Annotated[str, typer.Argument(help="Key of the meter.")],
    customer: Annotated[str | None, typer.Option(help="Only of this customer.")] = None,
    from_: From = None,
    to: To = None,
    format_: Annotated[TableOrJson, typer.Option("--format", help="Form of the answer.")] = TableOrJson.TABLE,
    url: Url = URL_DEFAULT,
    key: Key = None,
) -> None:
    """Why is my usage 0? What became of the events a meter could count."""
    with Api(url, key) as api:
        answer = api.get(
            f"/v1/meters/{quote(meter, safe='')}/explain", **{"customer": customer, "from": from_, "to": to}
        )
    if format_ is TableOrJson.JSON:
        print_json(answer)
        return
    about = f" of {answer['customer']}" if answer["customer"] else ""
    print_table(
        ["events", "number"],
        [
            [f"of type {answer['event_type']}{about}", f"{answer['seen']:,}"],
            ["counted", f"{answer['matched']:,}"],
            ["left out by the filter", f"{answer['filtered_out']:,}"],
            ["not readable", f"{answer['invalid']:,}"],
        ],
        right=["number"],
        title=f"{answer['meter']}, {instant(answer['from'])} to {instant(answer['to'])} UTC",
    )
    if not answer["complete"]:
        say(f"Of these, the latest {answer['scanned']:,} were read.")
    for reason in answer["reasons"]:
        examples = ", ".join(sample["id"] for sample in reason["samples"][:3])
        say(f"{reason['reason']}: {reason['count']:,} (such as {examples})")
    for hint in answer["hints"]:
        say(f"→ {hint['detail']}")


events_app = typer.Typer(name="events", help="Find events, and see everything known of one.")


@events_app.callback(invoke_without_command=True)
def events(  # noqa: PLR0917 -- options
    context: typer.Context,
    source: Annotated[str | None, typer.Option(help="The event's source.")] = None,
    id_: Annotated[str | None, typer.Option("--id", help="The event's id.")] = None,
    type_: Annotated[list[str] | None, typer.Option("--type", help="The event's type; repeatable.")] = None,
    customer: Customer = None,
    subject: Annotated[str | None, typer.Option(help="The event's subject.")] = None,
    from_: Annotated[str | None, typer.Option("--from", help="Event time, inclusive: RFC 3339.")] = None,
    to: Annotated[str | None, typer.Option("--to", help="Event time, exclusive.")] = None,
    status: Annotated[
        str | None, typer.Option(help="recorded (default), conflict, unmetered, invalid or retracted.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many.")] = 20,
    format_: Annotated[
        TableOrJson, typer.Option("--format", help="json: one event a line.")
    ] = TableOrJson.TABLE,
    url: Url = URL_DEFAULT,
    key: Key = None,
) -> None:
    """Find events, newest first. `tallystick events lookup ID` tells everything known of one."""
    if context.invoked_subcommand is not None:
        return
    with Api(url, key) as api:
        found = api.items(
            "/v1/events",
            limit=limit,
            **{
                "source": source,
                "id": id_,
                "type": type_,
                "customer": customer,
                "subject": subject,
                "from": from_,
                "to": to,
                "status": status,
            },
        )
        if format_ is TableOrJson.JSON:
            for event in found:
                sys.stdout.write(json_text(event) + "\n")
            return
        listed = list(found)
    if not listed:
        say("No such event. Without options, `tallystick events` lists the latest of all.")
        return
    print_table(
        ["time (UTC)", "type", "customer", "source", "id", "data"],
        (
            [
                instant(event["time"]),
                event["type"],
                event["customer"],
                event["source"],
                event["id"],
                _shortened(json_text(event["data"])),
            ]
            for event in listed
        ),
    )


def _shortened(text: str) -> str:
    return text if len(text) <= _CELL_CHARACTERS_MAX else text[: _CELL_CHARACTERS_MAX - 1] + "…"


@events_app.command("lookup")
def lookup(
    event_id: Annotated[str, typer.Argument(metavar="ID", help="The event's id.")],
    source: Annotated[str, typer.Option(help="The event's source.")] = "/",
    format_: Annotated[TableOrJson, typer.Option("--format", help="Form of the answer.")] = TableOrJson.TABLE,
    url: Url = URL_DEFAULT,
    key: Key = None,
) -> None:
    """Everything known of one event: what it says, when it came, what it counts for, who sent it again."""
    with Api(url, key) as api:
        known = api.get("/v1/events/lookup", id=event_id, source=source)
    if format_ is TableOrJson.JSON:
        print_json(known)
        return
    shown = ("id", "source", "type", "subject", "customer", "time", "received_at", "recorded_at")
    rows = [[name, known[name]] for name in shown]
    rows.append(["data", json_text(known["data"])])
    rows.append(["duplicates", f"{known['duplicates']['count']:,}"])
    rows.append(["conflicts", f"{known['conflict_count']:,}"])
    print_table(["event", ""], rows)
    if not known["readings"]:
        say("No meter has its type: it counts for nothing yet.")
        return
    print_table(
        ["meter", "version", "counts", "dimensions"],
        (
            [
                reading["meter"],
                str(reading["version"]),
                reading["value"] if "value" in reading else f"no: {reading['excluded']}",
                ", ".join(f"{name}={value}" for name, value in reading.get("dimensions", {}).items()),
            ]
            for reading in known["readings"]
        ),
        right=["version", "counts"],
    )


def register(app: typer.Typer) -> None:
    app.command("usage")(usage)
    app.command("explain")(explain)
    app.add_typer(events_app)
