"""The official Python client of Lago, and its agent SDK.

Run by test_lago.py in an interpreter of its own: `lago_python.py BASE KEY`. Prints what it read, as JSON.
"""

import json
import sys
import time
from datetime import UTC, datetime

from lago_python_client import Client
from lago_python_client.exceptions import LagoApiError
from lago_python_client.models import (
    BatchEvent,
    BillableMetric,
    BillableMetricFilter,
    BillableMetricFilters,
    Charge,
    Charges,
    Customer,
    Event,
    Plan,
    Subscription,
)


def events(now: int) -> list[Event]:
    return [
        Event(
            transaction_id=f"t-{n}",
            external_subscription_id="sub_1",
            code="tokens",
            timestamp=now if n % 3 else f"{now}.125",
            properties={"total": "0.1" if n % 5 == 0 else n, "model": "gpt-4" if n % 2 else "o1"},
        )
        for n in range(50)
    ]


def refused(ask: object) -> object:
    try:
        ask()  # type: ignore[operator]
    except LagoApiError as error:
        return [
            error.status_code,
            (error.response or {}).get("error_details") or (error.response or {}).get("code"),
        ]
    return None


def main(base: str, key: str) -> None:
    client = Client(api_key=key, api_url=base + "/")
    now = int(time.time())
    metric = client.billable_metrics.create(
        BillableMetric(
            name="Tokens",
            code="tokens",
            aggregation_type="sum_agg",
            field_name="total",
            recurring=False,
            filters=BillableMetricFilters(
                __root__=[BillableMetricFilter(key="model", values=["gpt-4", "o1"])]
            ),
        )
    )
    requests = client.billable_metrics.create(
        BillableMetric(name="Requests", code="requests", aggregation_type="count_agg")
    )
    customer = client.customers.create(Customer(external_id="acme", name="Acme", currency="USD", city="Bern"))
    client.customers.create(Customer(external_id="acme", email="billing@acme.example"))
    plan = client.plans.create(
        Plan(
            name="Pro",
            code="pro",
            interval="monthly",
            amount_cents=4900,
            amount_currency="USD",
            pay_in_advance=False,
            charges=Charges(
                __root__=[
                    Charge(
                        billable_metric_id=metric.lago_id,
                        charge_model="standard",
                        properties={"amount": "0.02", "pricing_group_keys": ["model"]},
                    ),
                    Charge(
                        billable_metric_id=requests.lago_id,
                        charge_model="graduated",
                        properties={
                            "graduated_ranges": [
                                {"from_value": 0, "to_value": 2, "per_unit_amount": "1", "flat_amount": "5"},
                                {
                                    "from_value": 3,
                                    "to_value": None,
                                    "per_unit_amount": "0.5",
                                    "flat_amount": "0",
                                },
                            ]
                        },
                    ),
                ]
            ),
        )
    )
    month = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    subscription = client.subscriptions.create(
        Subscription(
            external_customer_id="acme",
            plan_code="pro",
            external_id="sub_1",
            billing_time="calendar",
            subscription_at=month.strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
    )
    sent = events(now)
    answer = client.events.create(sent[0])
    result: dict[str, object] = {
        "event": [answer.transaction_id, answer.code, answer.external_subscription_id]
    }
    result["repeated"] = refused(lambda: client.events.create(sent[0]))
    client.events.batch_create(BatchEvent(events=sent[1:30]))
    result["repeated batch"] = refused(lambda: client.events.batch_create(BatchEvent(events=sent[28:32])))
    result["twice in one"] = refused(
        lambda: client.events.batch_create(BatchEvent(events=[sent[30], sent[30]]))
    )
    client.events.batch_create(BatchEvent(events=sent[30:]))
    for number in range(4):
        client.events.create(
            Event(
                transaction_id=f"r-{number}", external_subscription_id="sub_1", code="requests", timestamp=now
            )
        )
    result["too many"] = refused(lambda: client.events.batch_create(BatchEvent(events=sent * 3)))
    result["no code"] = refused(
        lambda: client.events.create(
            Event(transaction_id="x", external_subscription_id="s", code="", timestamp="2026")
        )
    )
    result["found"] = client.events.find("t-7").properties
    usage = client.customers.current_usage("acme", "sub_1")
    result["usage"] = [
        [one.billable_metric.code, one.units, one.events_count, one.amount_cents, one.charge.charge_model]
        for one in usage.charges_usage
    ]
    result["grouped"] = sorted(
        [group.grouped_by["model"], group.units, group.events_count, group.amount_cents]
        for one in usage.charges_usage
        for group in one.grouped_usage or []
    )
    result["total"] = [usage.amount_cents, usage.currency]
    result["past"] = client.customers.past_usage("acme", "sub_1")["usage_periods"]
    result["customer"] = [
        customer.external_id,
        customer.applicable_timezone,
        client.customers.find("acme").email,
        client.customers.find("acme").city,
    ]
    result["plan"] = [plan.code, plan.amount_cents, [one.charge_model for one in plan.charges.__root__]]
    result["subscription"] = [subscription.external_id, subscription.status, subscription.plan_code]
    result["metric"] = [
        metric.field_name,
        metric.aggregation_type,
        [one.key for one in metric.filters.__root__],
    ]
    result["metrics"] = sorted(one.code for one in client.billable_metrics.find_all()["billable_metrics"])
    result["refused"] = {
        "duplicate code": refused(
            lambda: client.billable_metrics.create(
                BillableMetric(name="T", code="tokens", aggregation_type="count_agg")
            )
        ),
        "unknown metric": refused(lambda: client.billable_metrics.find("none")),
        "unknown customer": refused(lambda: client.customers.find("nobody")),
        "no subscription": refused(lambda: client.customers.current_usage("acme", "none")),
        "wrong key": refused(lambda: Client(api_key="wrong", api_url=base + "/").customers.find("acme")),
    }
    print(json.dumps(result))


main(*sys.argv[1:])
