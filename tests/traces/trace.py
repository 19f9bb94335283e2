"""The real traces, as events; and every figure of their reference that usage can be asked for.

The files stay outside the repository: beside the checkout in `shared/data`, or where TALLYSTICK_SHARED says.
"""

import csv
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

Event = dict[str, Any]
SERVEGEN_BASE = datetime(2025, 3, 3, tzinfo=UTC)


def data_directory() -> Path | None:
    """None where there is none."""
    named = os.environ.get("TALLYSTICK_SHARED")
    shared = Path(named) if named else Path(__file__).resolve().parents[3] / "shared"
    return shared / "data" if (shared / "data" / "reference.json").exists() else None


def azure(directory: Path) -> list[Event]:
    with (directory / "azure_llm_2023.csv").open(newline="") as file:
        return [
            {
                "id": row["event_id"],
                "source": "/azure",
                "type": "llm.request",
                "subject": row["service"],
                "time": row["timestamp"],
                "data": {
                    "service": row["service"],
                    "context_tokens": int(row["context_tokens"]),
                    "generated_tokens": int(row["generated_tokens"]),
                },
            }
            for row in csv.DictReader(file)
        ]


def servegen(directory: Path) -> list[Event]:
    with (directory / "servegen_requests.csv").open(newline="") as file:
        return [
            {
                "id": f"{row['client']}/{row['t_offset_s']}",
                "source": "/servegen",
                "type": "llm.requests",
                "subject": row["client"],
                "time": (SERVEGEN_BASE + timedelta(seconds=int(row["t_offset_s"]))).isoformat(),
                "data": {"model": row["model"], "client": row["client"], "requests": int(row["requests"])},
            }
            for row in csv.DictReader(file)
        ]


METERS: list[dict[str, Any]] = [
    *(
        {
            "key": f"{member}_{short}",
            "event_type": "llm.request",
            "aggregation": aggregation,
            "value": f"$.{member}",
        }
        | {"dimensions": {"service": "$.service"}}
        for member in ("context_tokens", "generated_tokens")
        for short, aggregation in (("sum", "sum"), ("max", "max"), ("p95", "p95"))
    ),
    {"key": "azure_requests", "event_type": "llm.request", "aggregation": "count"}
    | {"dimensions": {"service": "$.service"}},
    *(
        {"key": f"requests_{short}", "event_type": "llm.requests", "aggregation": aggregation}
        | ({} if aggregation == "count" else {"value": value})
        | {"dimensions": {"model": "$.model", "client": "$.client"}}
        for short, aggregation, value in (
            ("sum", "sum", "$.requests"),
            ("max", "max", "$.requests"),
            ("p95", "p95", "$.requests"),
            ("count", "count", ""),
            ("clients", "unique_count", "$.client"),
        )
    ),
]


@dataclass(frozen=True, slots=True)
class Figure:
    """One table of the reference: the question that answers it, and the answer, by the key of a row."""

    name: str
    meter: str
    question: dict[str, Any]
    """group_by is a list; window and group make the key, joined by `|`; a day's key is its date."""
    expected: dict[str, str]
    dates: bool = False


_AZURE = {"from": "2023-11-16T00:00:00Z", "to": "2023-11-17T00:00:00Z"}
_SERVEGEN = {"from": "2025-03-01T00:00:00Z", "to": "2025-04-01T00:00:00Z"}


def figures(directory: Path) -> Iterator[Figure]:
    reference = json.loads((directory / "reference.json").read_text())
    by_service = {"group_by": ["service"]}
    for member in ("context_tokens", "generated_tokens", "requests"):
        known = reference["azure_llm_2023"]["meters"][member]
        total = "azure_requests" if member == "requests" else f"{member}_sum"

        def azure_figure(
            name: str, meter: str, expected: Any, dates: bool = False, **question: Any
        ) -> Figure:
            table = expected if isinstance(expected, dict) else {"": expected}
            return Figure(
                f"azure {name}", meter, _AZURE | question, {k: str(v) for k, v in table.items()}, dates
            )

        yield azure_figure(f"{member} total", total, known["total"])
        yield azure_figure(f"{member} by_service", total, known["by_service"], **by_service)
        yield azure_figure(f"{member} by_minute", total, known["by_minute"], window="minute")
        if member == "requests":
            continue
        yield azure_figure(f"{member} by_hour", total, known["by_hour"], window="hour")
        pairs = {"window": "minute", **by_service}
        yield azure_figure(f"{member} by_minute_service", total, known["by_minute_service"], **pairs)
        yield azure_figure(f"{member} max", f"{member}_max", known["max_by_service"], **by_service)
        nearest = {key: ranks["nearest_rank"] for key, ranks in known["p95_by_service"].items()}
        yield azure_figure(f"{member} p95", f"{member}_p95", nearest, **by_service)

    known = reference["servegen_requests"]["meters"]["requests"]

    def figure(name: str, meter: str, expected: Any, dates: bool = False, **question: Any) -> Figure:
        table = expected if isinstance(expected, dict) else {"": expected}
        answer = {key: str(value) for key, value in table.items()}
        return Figure(f"servegen {name}", f"requests_{meter}", _SERVEGEN | question, answer, dates)

    model, client, day = {"group_by": ["model"]}, {"group_by": ["client"]}, {"window": "day"}
    shanghai = {"window": "day", "timezone": "Asia/Shanghai"}
    first_day = {"window": "hour", "from": "2025-03-03T00:00:00Z", "to": "2025-03-04T00:00:00Z"}
    yield figure("total", "sum", known["total"])
    yield figure("by_model", "sum", known["by_model"], **model)
    yield figure("by_day", "sum", known["by_day"], dates=True, **day)
    yield figure("by_day_model", "sum", known["by_day_model"], dates=True, **day, **model)
    yield figure("by_client", "sum", known["by_client"], **client)
    yield figure("by customer", "sum", known["by_client"], group_by=["customer"])
    yield figure("by_day_Asia/Shanghai", "sum", known["by_day_Asia/Shanghai"], dates=True, **shanghai)
    yield figure("by_hour_first_day", "sum", known["by_hour_first_day"], **first_day)
    yield figure("max_window_by_client", "max", known["max_window_by_client"], **client)
    yield figure("max_by_model", "max", known["max_by_model"], **model)
    nearest = {key: ranks["nearest_rank"] for key, ranks in known["p95_of_windows_by_model"].items()}
    yield figure("p95_of_windows_by_model", "p95", nearest, **model)
    yield figure("windows_by_model", "count", known["windows_by_model"], **model)
    yield figure("distinct_clients_total", "clients", known["distinct_clients_total"])
    yield figure("distinct_clients_by_model", "clients", known["distinct_clients_by_model"], **model)
    yield figure("distinct_clients_by_day", "clients", known["distinct_clients_by_day"], dates=True, **day)
    top = dict(known["top10_clients"])
    yield figure("top10_clients", "sum", top, order_by="-value", limit=10, **client)


def answered(figure: Figure, rows: list[dict[str, Any]], timezone: str) -> dict[str, str]:
    """Rows of a usage answer under the keys of the reference, in the answer's order."""
    from zoneinfo import ZoneInfo

    found: dict[str, str] = {}
    for row in rows:
        parts: list[str] = []
        if "window" in figure.question:
            start = datetime.fromisoformat(row["window_start"]).astimezone(ZoneInfo(timezone))
            parts.append(start.date().isoformat() if figure.dates else start.strftime("%Y-%m-%dT%H:%M:%SZ"))
        parts += row["group"].values()
        found["|".join(parts)] = row["value"]
    return found
