"""The official Python client of OpenMeter, sync and async, and LiteLLM's callback where it is installed.

Run by test_openmeter.py in an interpreter of its own: `openmeter_python.py BASE KEY`. Prints what it read, as JSON.
"""

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta

from corehttp.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from openmeter import Client
from openmeter.aio import Client as AsyncClient
from openmeter.models import Event, MeterCreate, MeterQueryRequest, SubjectUpsert

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)


def events() -> list[Event]:
    return [
        Event(
            id=f"py-{n}",
            source="gateway",
            specversion="1.0",
            type="prompt",
            subject=f"customer-{n % 2}",
            time=BEGIN + timedelta(hours=n),
            data={"tokens": "0.1" if n % 5 == 0 else n, "model": "gpt-4" if n % 3 else "o1"},
        )
        for n in range(50)
    ]


async def ingest_async(base: str, key: str) -> None:
    client = AsyncClient(endpoint=base, token=key)
    await client.events.ingest_events(events()[:20])
    await client.close()


def refused(base: str, key: str) -> dict[str, object]:
    found: dict[str, object] = {}
    client = Client(endpoint=base, token=key)
    for name, ask in {
        "unknown meter": lambda: client.meters.get("none"),
        "wrong key": lambda: Client(endpoint=base, token="wrong").meters.list(),
        "empty body": lambda: client.events.ingest_events_json({"id": "x"}),
        "unknown group": lambda: client.meters.query_json("tokens_total", group_by=["nothing"]),
    }.items():
        try:
            ask()
        except HttpResponseError as error:
            found[name] = [
                error.status_code,
                isinstance(error, ResourceNotFoundError | ClientAuthenticationError),
            ]
    return found


def main(base: str, key: str) -> None:
    client = Client(endpoint=base, token=key)
    made = client.meters.create(
        MeterCreate(
            slug="tokens_total",
            aggregation="SUM",
            event_type="prompt",
            value_property="$.tokens",
            group_by={"model": "$.model"},
            description="All of them",
            metadata={"team": "a"},
        )
    )
    client.meters.create(MeterCreate(slug="prompts", aggregation="COUNT", event_type="prompt"))
    all_events = events()
    client.events.ingest_event(all_events[0])
    client.events.ingest_event(all_events[0])
    client.events.ingest_events(all_events)
    client.events.ingest_events_json(all_events[25:])
    client.events.ingest_events_json(all_events[1])
    asyncio.run(ingest_async(base, key))
    person = client.customers.create(
        {
            "name": "Acme",
            "key": "acme",
            "usageAttribution": {"subjectKeys": ["customer-0"]},
            "currency": "USD",
        }
    )
    client.subjects.upsert([SubjectUpsert(key="customer-1", display_name="The other")])
    total = client.meters.query_json("tokens_total")
    by_day = client.meters.query_json(
        "tokens_total",
        from_parameter=BEGIN,
        to=BEGIN + timedelta(days=7),
        window_size="DAY",
        window_time_zone="Europe/Berlin",
        group_by=["model"],
        subject=["customer-0"],
    )
    posted = client.meters.query(
        made.id, MeterQueryRequest(group_by=["subject"], filter_group_by={"model": ["gpt-4", "o1"]})
    )
    filtered = client.meters.query_json("tokens_total", filter_group_by={"model": "o1"})
    of_acme = client.meters.query_json("tokens_total", filter_customer_id=["acme"])
    table = client.meters.query_csv("tokens_total", group_by=["model"])
    table = table if isinstance(table, str) else b"".join(table).decode()
    whole_days = client.meters.query_json("tokens_total", window_size="DAY", window_time_zone="Asia/Kolkata")
    late = MeterCreate(
        slug="late", aggregation="COUNT", event_type="prompt", event_from=BEGIN + timedelta(hours=40)
    )
    since = client.meters.create(late).event_from
    liked = client.meters.query(
        "tokens_total", {"advancedMeterGroupByFilters": {"model": {"$or": [{"$like": "gpt%"}, {"$eq": ""}]}}}
    )
    shown = client.meters.get("tokens_total")
    result = {
        "created": [made.slug, made.aggregation, made.description, dict(made.metadata), shown.id == made.id],
        "total": [row.value for row in total.data],
        "range": [total.data[0].window_start.isoformat(), total.data[0].window_end.isoformat()],
        "by_day": [
            [row.window_start.isoformat(), row.subject, row.group_by["model"], row.value]
            for row in by_day.data
        ],
        "posted": sorted([row.subject, row.value] for row in posted.data),
        "filtered": [row.value for row in filtered.data],
        "of_acme": [row.value for row in of_acme.data],
        "csv": sorted(table.split()[1:]),
        "count": client.meters.query_json("prompts").data[0].value,
        "meters": [
            meter.slug for meter in client.meters.list(order_by="key", order="DESC", page=1, page_size=2)
        ],
        "subjects": sorted(client.meters.list_subjects("tokens_total")),
        "models": sorted(client.meters.list_group_by_values("tokens_total", "model")),
        "listed": len(client.events.list(limit=100)),
        "one": [event.event.id for event in client.events.list(subject="customer-0", limit=1)],
        "whole_days": [[row.window_start.isoformat(), row.window_end.isoformat()] for row in whole_days.data],
        "since": [since.isoformat(), client.meters.query_json("late").data[0].value],
        "liked": [row.value for row in liked.data],
        "chosen": sorted(
            one.event.id
            for one in client.events_v2.list(
                limit=2, filter={"id": {"$like": "py-1_"}, "subject": {"$in": ["customer-0", "none"]}}
            )
        ),
        "of_customer": len(client.events.list(customer_id=[person.id], limit=100)),
        "paged": len(list(client.events_v2.list(limit=7))),
        "people": sorted(person.key for person in client.customers.list().items_property),
        "subject": client.subjects.get("customer-1").display_name,
        "refused": refused(base, key),
    }
    client.meters.update("tokens_total", {"description": "changed", "groupBy": {"model": "$.model"}})
    result["changed"] = client.meters.get("tokens_total").description
    client.meters.delete("prompts")
    client.meters.delete("late")
    result["left"] = [meter.slug for meter in client.meters.list()]
    print(json.dumps(result))


main(*sys.argv[1:])
