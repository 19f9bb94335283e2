"""Stripe's own library for Python over a socket: `stripe_python.py BASE KEY`. Prints what it read, as JSON."""

import json
import sys
from typing import Any

import stripe

BEGIN_S = 1_772_323_200  # 2026-03-01
DAY_S = 86_400


def event(n: int, *, v2: bool = False) -> dict[str, Any]:
    at = f"2026-03-{1 + n // 24:02}T{n % 24:02}:00:00Z"
    return {
        "event_name": "tokens",
        "identifier": f"e-{n}",
        "payload": {"stripe_customer_id": f"cus_{n % 2}", "value": "0.1" if n % 5 == 0 else str(n)},
        "timestamp": at if v2 else BEGIN_S + n * 3600,
    }


def message(work: Any) -> Any:
    try:
        return work()
    except stripe.StripeError as error:
        return [type(error).__name__, error.http_status, error.user_message]


def legacy(base: str, key: str) -> Any:
    stripe.api_key, stripe.api_base, stripe.enable_telemetry = key, base, False
    again: Any = event(1)
    return [
        stripe.billing.Meter.list().data[0].event_name,
        message(lambda: stripe.billing.MeterEvent.create(**again)),
    ]


def main(base: str, key: str) -> dict[str, Any]:
    bases: Any = dict.fromkeys(("api", "meter_events", "connect", "files"), base)
    client: Any = stripe.StripeClient(key, base_addresses=bases)
    meter = client.v1.billing.meters.create({
        "display_name": "Tokens",
        "event_name": "tokens",
        "default_aggregation": {"formula": "sum"},
        "customer_mapping": {"type": "by_id", "event_payload_key": "stripe_customer_id"},
        "value_settings": {"event_payload_key": "value"},
    })  # fmt: skip
    for n in range(20):
        client.v1.billing.meter_events.create(event(n), {"idempotency_key": f"k-{n}"})
    same = client.v1.billing.meter_events.create(event(7), {"idempotency_key": "k-7"})
    client.v2.billing.meter_events.create(event(20, v2=True))
    session = client.v2.billing.meter_event_session.create()
    streaming: Any = stripe.StripeClient(session.authentication_token, base_addresses=bases)
    for first, last in ((15, 50), (40, 50), (0, 50)):
        streaming.v2.billing.meter_event_stream.create(
            {"events": [event(n, v2=True) for n in range(first, last)]}
        )

    def total(customer: str) -> Any:
        (one,) = client.v1.billing.meters.event_summaries.list(
            meter.id, {"customer": customer, "start_time": BEGIN_S, "end_time": BEGIN_S + 3 * DAY_S}
        ).data
        return one.aggregated_value

    hours = client.v1.billing.meters.event_summaries.list(
        meter.id,
        {
            "customer": "cus_1",
            "start_time": BEGIN_S,
            "end_time": BEGIN_S + 3 * DAY_S,
            "value_grouping_window": "hour",
        },
    )
    totals = [total("cus_0"), total("cus_1")]
    cancel: Any = {"event_name": "tokens", "type": "cancel", "cancel": {"identifier": "e-49"}}
    client.v1.billing.meter_event_adjustments.create(cancel)
    return {
        "same": same.identifier,
        "duplicate": message(lambda: client.v1.billing.meter_events.create(event(7))),
        "legacy": legacy(base, key),
        "totals": totals,
        "hours": len(list(hours.auto_paging_iter())),
        "cancelled": total("cus_1"),
        "listed": [one.id == meter.id for one in client.v1.billing.meters.list().auto_paging_iter()],
        "customer": client.v1.customers.create({"name": "Acme"}).name,
        "deactivated": client.v1.billing.meters.deactivate(meter.id).status,
    }


print(json.dumps(main(sys.argv[1], sys.argv[2])))
