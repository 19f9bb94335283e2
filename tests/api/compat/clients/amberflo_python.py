"""The official Python client of Amberflo. Run by test_clients_more.py in an interpreter of its own:
`amberflo_python.py BASE KEY`. Prints what it read, as JSON."""

import json
import sys
from typing import Any

from metering.customer import CustomerApiClient, create_customer_payload
from metering.exceptions import ApiError
from metering.ingest import IngestApiClient, create_ingest_client, create_ingest_payload
from metering.session import ApiSession, IngestSession
from metering.usage import (
    AggregationType,
    Take,
    TimeGroupingInterval,
    TimeRange,
    UsageApiClient,
    create_all_usage_query,
    create_usage_query,
)

import metering

BEGIN_S = 1_772_323_200  # 2026-03-01
DAY_S = 86_400


def payload(n: int, **members: Any) -> dict[str, Any]:
    given = {
        "meter_api_name": "tokens",
        "meter_value": 0.1 if n % 5 == 0 else n,
        "meter_time_in_millis": (BEGIN_S + n * 3600) * 1000,
        "customer_id": f"customer-{n % 2}",
        "dimensions": {"model": "gpt-4" if n % 3 else "o1"},
        "unique_id": f"u-{n}",
    }
    return create_ingest_payload(**(given | members))


def status(work: Any) -> Any:
    try:
        return work()
    except ApiError as error:
        return error.args[0]


def main(base: str, key: str) -> dict[str, Any]:
    ApiSession.root_url = IngestSession.root_url = base
    session = ApiSession(key)
    meter = {
        "meterApiName": "tokens",
        "label": "Tokens",
        "meterType": "sum_of_all_usage",
        "dimensions": ["model"],
    }
    made = session.post("/meters", meter)
    customers = CustomerApiClient(key)
    person = create_customer_payload("customer-0", "Zero", "zero@example.com", traits={"stripeId": "cus_0"})
    for _ in range(2):
        customer = customers.add_or_update(person)

    client = IngestApiClient(key)
    records = [payload(n) for n in range(50)]
    sent = [client.send(records[0]), client.send(records[:20]), client.send_custom(records[10:20])]
    threaded = create_ingest_client(api_key=key)
    for record in records + records[30:]:
        threaded.send(record)
    threaded.meter("tokens", 49, (BEGIN_S + 49 * 3600) * 1000, "customer-1", {"model": "gpt-4"}, "u-49")
    threaded.shutdown()
    metering.app_key = key
    metering.meter(**{
        "meter_api_name": "calls", "meter_value": 1, "meter_time_in_millis": BEGIN_S * 1000, "customer_id": "customer-0",
    })  # fmt: skip
    metering.shutdown()
    # The same id at another meter is another record.
    client.send(payload(3, meter_api_name="other"))

    usage = UsageApiClient(key)
    span = TimeRange(BEGIN_S, BEGIN_S + 3 * DAY_S)

    def ask(aggregation: Any, **members: Any) -> Any:
        return create_usage_query(aggregation, "tokens", TimeGroupingInterval.DAY, span, **members)

    def groups(report: Any) -> Any:
        return [[*one["group"]["groupInfo"].values(), one["groupValue"]] for one in report["clientMeters"]]

    whole = usage.get(ask(AggregationType.SUM))
    batch = usage.get([
        ask(AggregationType.COUNT),
        ask(AggregationType.MAX, group_by=["customerId"], take=Take(1)),
        ask(AggregationType.SUM, group_by=["model"], usage_filter={"customerId": ["customer-1"]}),
    ])  # fmt: skip
    every = usage.get_all(create_all_usage_query(TimeGroupingInterval.MONTH, span, group_by_customer_id=True))
    wrong = IngestApiClient("wrong")
    return {
        "meter": [made["meterApiName"], made["dimensions"]],
        "customer": [customer["customerName"], customer["traits"]],
        "customers": sorted(one["customerId"] for one in customers.list()),
        "sent": sent,
        "total": groups(whole),
        "days": [round(one["value"], 1) for one in whole["clientMeters"][0]["values"]],
        "batch": [groups(one) for one in batch],
        "all": [[one["metadata"]["meterApiName"], groups(one)] for one in every],
        "refused": {
            "wrong key": status(lambda: wrong.send(records)),
            "meter twice": status(lambda: session.post("/meters", meter)),
            "unknown meter": status(lambda: usage.get({**ask(AggregationType.SUM), "meterApiName": "none"})),
            "no customer": status(lambda: client.send([{**records[0], "customerId": ""}])),
        },
    }


print(json.dumps(main(sys.argv[1], sys.argv[2])))
