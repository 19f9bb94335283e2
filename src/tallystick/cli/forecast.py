"""`tallystick forecast METER`, and `tallystick forecast backtest`: how good forecasts are on series whose end is known."""

import csv
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from typer.core import TyperGroup

from tallystick.cli.client import URL_DEFAULT, Api, Key, Url
from tallystick.cli.show import TableOrJson, err, grouped, instant, print_json, print_table, say
from tallystick.errors import TallystickError
from tallystick.metering.instant import instant_us

if TYPE_CHECKING:
    from tallystick.forecast import backtest as measure

SERIES_MAX = 10_000
WINDOWS_MAX = 20_000
ROWS_MAX = 20_000_000
HORIZON_WINDOWS = 24
_LENGTH_S = {"hour": 3600, "day": 86_400}
_SEASONS = {"hour": (24, 168), "day": (7,)}
_HISTORY_DAYS = {"hour": 56, "day": 400}

Series = dict[str, list[float]]


class _Group(TyperGroup):
    """A first word that is no command is a meter: `forecast tokens` is `forecast show tokens`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["show", *args]
        return super().parse_args(ctx, args)


forecast_app = typer.Typer(
    name="forecast",
    cls=_Group,
    help="What a meter will probably show, with intervals. [dim]tallystick forecast METER --customer acme[/dim]",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@forecast_app.command("show")
def show(  # noqa: PLR0917 -- options
    meter: Annotated[str, typer.Argument(help="Key of the meter.")],
    customer: Annotated[list[str] | None, typer.Option(help="Of this customer; repeatable.")] = None,
    horizon: Annotated[str, typer.Option(help="How far ahead: ISO 8601, such as P30D or PT24H.")] = "P30D",
    window: Annotated[str | None, typer.Option(help="hour or day.")] = None,
    timezone: Annotated[str | None, typer.Option(help="IANA zone of the windows. Default: UTC.")] = None,
    level: Annotated[int, typer.Option(min=50, max=99, help="Percent that low to high holds.")] = 80,
    reach: Annotated[str | None, typer.Option(help="When does usage come to this amount?")] = None,
    since: Annotated[str | None, typer.Option(help="It counts towards --reach from then on.")] = None,
    format_: Annotated[TableOrJson, typer.Option("--format", help="Form of the answer.")] = TableOrJson.TABLE,
    url: Url = URL_DEFAULT,
    key: Key = None,
) -> None:
    """What a meter will probably show: each window to come, and their sum."""
    with Api(url, key) as api:
        answer = api.get(
            f"/v1/meters/{quote(meter, safe='')}/forecast",
            customer=customer,
            horizon=horizon,
            window=window,
            timezone=timezone,
            level=level,
            reach=reach,
            since=since,
        )
    if format_ is TableOrJson.JSON:
        print_json(answer)
        return
    if answer["detail"]:
        say(answer["detail"])
    if not answer["rows"]:
        return
    columns = ["value", "low", "high", "low_95", "high_95"]
    rows = [
        [instant(row["from"]), instant(row["to"]), *(grouped(row[name]) for name in columns)]
        for row in answer["rows"]
    ]
    if answer["total"]:
        rows.append(["total", "", *(grouped(answer["total"][name]) for name in columns)])
    unit = f" in {answer['unit']}" if answer["unit"] else ""
    print_table(
        ["from", "to", "expected", f"low {level} %", f"high {level} %", "low 95 %", "high 95 %"],
        rows,
        right=["expected", f"low {level} %", f"high {level} %", "low 95 %", "high 95 %"],
        title=f"{answer['meter']}{unit}: forecast by {answer['method']} from {answer['history']['windows']:,} windows (UTC, approximate)",
    )
    if "reach" in answer:
        found = answer["reach"]
        say(
            f"{grouped(found['amount'])} since {instant(found['since'])}: {grouped(found['used'])} used; "
            + (f"reached about {instant(found['at'])}" if found["at"] else "not expected within the horizon")
            + f" (earliest {instant(found['earliest'])}, latest {instant(found['latest'])})."
        )


@forecast_app.command("backtest")
def backtest(  # noqa: PLR0917 -- options
    meter: Annotated[str | None, typer.Argument(help="Key of a meter of the running server.")] = None,
    csv_: Annotated[
        Path | None, typer.Option("--csv", help="Instead: a CSV file, or a directory of them.")
    ] = None,
    series: Annotated[str, typer.Option(help="Column of the series (with --csv).")] = "customer",
    time: Annotated[str, typer.Option(help="Column of the time: RFC 3339, or seconds.")] = "time",
    value: Annotated[str | None, typer.Option(help="Column that is added up; without: rows.")] = None,
    window: Annotated[str, typer.Option(help="hour or day.")] = "hour",
    horizon: Annotated[
        list[int] | None, typer.Option(min=1, max=2000, help="Windows ahead; repeatable. Default: 24.")
    ] = None,
    cuts: Annotated[int, typer.Option(min=1, max=100, help="Moments to forecast from, of each series.")] = 5,
    top: Annotated[int, typer.Option(min=1, max=SERIES_MAX, help="The greatest so many series.")] = 50,
    faults: Annotated[
        bool, typer.Option("--faults", help="Also judge anomalies, with faults put in.")
    ] = False,
    format_: Annotated[TableOrJson, typer.Option("--format", help="Form of the answer.")] = TableOrJson.TABLE,
    url: Url = URL_DEFAULT,
    key: Key = None,
) -> None:
    """Error and interval coverage against repeating the last season, on what has already come.

    [dim]tallystick forecast backtest tokens --window day --horizon 7 --horizon 30[/dim]
    [dim]tallystick forecast backtest --csv traces/ --series client --time t_offset_s --value requests --faults[/dim]
    """
    if window not in _LENGTH_S:
        raise TallystickError("--window is hour or day.")
    if (meter is None) == (csv_ is None):
        raise TallystickError("Name a meter of the running server, or files with --csv.")
    if csv_ is not None:
        found = _of_csv(csv_, series, time, value, _LENGTH_S[window])
    else:
        assert meter is not None
        found = _of_server(meter, window, top, url, key)
    chosen = dict(sorted(found.items(), key=lambda item: -sum(map(abs, item[1])))[:top])
    if not chosen:
        raise TallystickError("There is no series with any usage.")
    answer = _measured(chosen, window, horizon or [HORIZON_WINDOWS], cuts, faults=faults)
    if format_ is TableOrJson.JSON:
        print_json(answer)
    else:
        _print(answer)


# -- where series come from --------------------------------------------------------------------------------------------
def _of_server(meter: str, window: str, top: int, url: str, key: str | None) -> Series:
    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    if window == "day":
        end = end.replace(hour=0)
    begin = end - timedelta(days=_HISTORY_DAYS[window])
    with Api(url, key) as api:
        answer = api.get(
            f"/v1/meters/{quote(meter, safe='')}/usage",
            **{"from": begin.isoformat(), "to": end.isoformat()},
            window=window,
            group_by="customer",
            fill="zero",
            limit=top,
        )
    made: Series = {}
    for row in answer["rows"]:
        made.setdefault(str(row["group"]["customer"]), []).append(float(row["value"] or 0))
    return {name: _begun(values) for name, values in made.items() if any(values)}


def _begun(values: list[float]) -> list[float]:
    return values[next(index for index, value in enumerate(values) if value) :]


def _of_csv(path: Path, series: str, time: str, value: str | None, length_s: int) -> Series:
    if not path.exists():
        raise TallystickError(f"--csv: there is no {path}.")
    files = sorted(path.glob("*.csv")) if path.is_dir() else [path]
    if not files:
        raise TallystickError(f"{path}: there is no .csv file.")
    bins: dict[str, dict[int, float]] = {}
    read = skipped = 0
    for file in files:
        rows = _rows(file, series, time, value)
        if rows is None:
            skipped += 1
            continue
        for name, second, amount in rows:
            read += 1
            if read > ROWS_MAX:
                raise TallystickError(f"More than {ROWS_MAX:,} rows; give fewer files.")
            at = second // length_s
            held = bins.setdefault(name, {})
            held[at] = held.get(at, 0.0) + amount
            if len(bins) > SERIES_MAX:
                raise TallystickError(f"More than {SERIES_MAX:,} series; is {series!r} the right column?")
    if skipped == len(files):
        raise TallystickError(
            f"No file has the columns {series!r}, {time!r}{f' and {value!r}' if value else ''}."
        )
    if not bins:
        return {}
    first, last = min(map(min, bins.values())), max(map(max, bins.values()))
    if last - first >= WINDOWS_MAX:
        raise TallystickError(
            f"The series are longer than {WINDOWS_MAX:,} windows; ask for days instead of hours."
        )
    # The last window may be cut off where the file ends.
    return {
        name: [counts.get(index, 0.0) for index in range(min(counts), last)]
        for name, counts in bins.items()
        if min(counts) < last
    }


def _rows(path: Path, series: str, time: str, value: str | None) -> Iterator[tuple[str, int, float]] | None:
    """None where the file has other columns."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TallystickError(f"{path} cannot be read as CSV: {error}.") from error
    return (
        None
        if {series, time, *((value,) if value else ())} - set(header)
        else _read(path, series, time, value)
    )


def _read(path: Path, series: str, time: str, value: str | None) -> Iterator[tuple[str, int, float]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            text = row[time] or ""
            try:
                second = int(float(text)) if "T" not in text else instant_us(text) // 1_000_000
                yield row[series] or "", second, float(row[value]) if value else 1.0
            except (TypeError, ValueError, OverflowError) as error:
                raise TallystickError(f"{path.name}, line {number}: {error}") from error


# -- measuring ---------------------------------------------------------------------------------------------------------
def _measured(
    chosen: Series, window: str, horizons: list[int], count: int, *, faults: bool
) -> dict[str, Any]:
    """`forecast` and `methods` are those of the first horizon, `horizons` has each."""
    from tallystick.forecast import backtest as measure
    from tallystick.forecast.anomaly import Sensitivity
    from tallystick.forecast.methods import installed

    seasons = _SEASONS[window]
    made: dict[int, list[measure.Cut]] = {horizon: [] for horizon in horizons}
    judged: dict[Sensitivity, list[measure.Judged]] = {one: [] for one in Sensitivity}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as shown:
        task = shown.add_task("series", total=len(chosen))
        for seed, values in enumerate(chosen.values()):
            for horizon, found in made.items():
                found.extend(measure.cuts(values, horizon, seasons=seasons, count=count))
            for sensitivity in Sensitivity if faults else ():
                one = measure.judged(values, sensitivity, seasons=seasons, seed=seed)
                if one is not None:
                    judged[sensitivity].append(one)
            shown.advance(task)
    answer: dict[str, Any] = {
        "series": len(chosen),
        "window": window,
        "horizon": horizons[0],
        "seasonal_model": installed(),
        "methods": _methods(made[horizons[0]]),
        "horizons": [
            {"horizon": horizon, "methods": _methods(found), **_figures(measure.score(found))}
            for horizon, found in made.items()
            if found
        ],
    }
    if made[horizons[0]]:
        answer["forecast"] = _figures(measure.score(made[horizons[0]]))
    if faults:
        answer["anomalies"] = [
            {"sensitivity": str(sensitivity), "which": which, **_verdicts(part)}
            for sensitivity, each in judged.items()
            for which, part in _halves(each)
            if part
        ]
    return answer


def _methods(found: "list[measure.Cut]") -> dict[str, int]:
    return dict(Counter(one.method for one in found).most_common())


def _figures(total: "measure.ForecastScore") -> dict[str, Any]:
    return {
        "cuts": total.cuts,
        "mase": round(total.error, 3),
        "mase_naive": round(total.naive_error, 3),
        "mase_median": round(total.error_median, 3),
        "mase_median_naive": round(total.naive_error_median, 3),
        "smape": round(total.percent, 1),
        "smape_naive": round(total.naive_percent, 1),
        "coverage_80": round(total.coverage[0], 3),
        "coverage_95": round(total.coverage[1], 3),
        "sum_coverage_80": round(total.sum_coverage[0], 3),
        "sum_coverage_95": round(total.sum_coverage[1], 3),
    }


def _halves(each: "list[measure.Judged]") -> "list[tuple[str, list[measure.Judged]]]":
    """All, and the half that keeps to its baseline most."""
    ordered = sorted(each, key=lambda one: one.spread)
    return [("all", each), ("regular half", ordered[: (len(ordered) + 1) // 2])]


def _verdicts(each: "list[measure.Judged]") -> dict[str, Any]:
    weeks = sum(one.weeks for one in each)
    names = dict.fromkeys(name for one in each for name in one.found)
    return {
        "series": len(each),
        "windows_a_week": round(sum(one.alarms for one in each) / weeks, 2),
        "alarms_a_week": round(sum(one.episodes for one in each) / weeks, 2),
        "found": {
            name: round(mean(one.found[name] for one in each if name in one.found), 2) for name in names
        },
    }


def _print(answer: dict[str, Any]) -> None:
    if not answer["horizons"]:
        say("No series is long enough: a forecast is measured with three seasons before it.")
    for found in answer["horizons"]:
        print_table(
            ["", "forecast", "repeating the last season"],
            [
                ["MASE, mean", str(found["mase"]), str(found["mase_naive"])],
                ["MASE, median", str(found["mase_median"]), str(found["mase_median_naive"])],
                ["sMAPE, %", str(found["smape"]), str(found["smape_naive"])],
            ],
            right=["forecast", "repeating the last season"],
            title=f"{answer['series']} series, {found['cuts']} forecasts of {found['horizon']} windows of a {answer['window']}",
        )
        print_table(
            ["of what came lay within", "80 %", "95 %"],
            [
                ["the windows' intervals", f"{found['coverage_80']:.1%}", f"{found['coverage_95']:.1%}"],
                ["the sums' intervals", f"{found['sum_coverage_80']:.1%}", f"{found['sum_coverage_95']:.1%}"],
            ],
            right=["80 %", "95 %"],
        )
        say("Methods: " + ", ".join(f"{name} {count}" for name, count in found["methods"].items()) + ".")
    rows = answer.get("anomalies", ())
    if rows:
        names = list(dict.fromkeys(name for one in rows for name in one["found"]))
        print_table(
            ["sensitivity", "series", "alarms a week", *names],
            [
                [
                    one["sensitivity"],
                    f"{one['which']} ({one['series']})",
                    str(one["alarms_a_week"]),
                    *(f"{one['found'][name]:.0%}" if name in one["found"] else "–" for name in names),
                ]
                for one in rows
            ],
            right=["alarms a week", *names],
            title="Anomalies: alarms of a series as it is, and how often a fault put into it is found",
        )
    if not answer["seasonal_model"]:
        say("The seasonal model is not installed: pip install tallystick[forecast].")


def register(app: typer.Typer) -> None:
    app.add_typer(forecast_app)
