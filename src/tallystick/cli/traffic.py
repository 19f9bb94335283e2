"""Believable usage of a company that sells language models: who its customers are, and what they send.

Everything hangs on a seed and a moment, so that the same history is the same events: sending it again changes nothing.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

EVENT_TYPE = "llm.completion"
HISTORY_STEP_S = 600
_ERROR_RATE = 0.012
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class DemoCustomer:
    """A customer: its share of all requests, and how it uses the models. `night`: how much of its day's traffic it keeps
    at night (1: machines that never sleep). `awake_utc`: the hour of its noon."""

    key: str
    name: str
    share: float
    models: dict[str, float]
    region: str
    night: float
    awake_utc: int
    weekend: float


CUSTOMERS = (
    DemoCustomer(
        "brightwater",
        "Brightwater Insurance",
        0.31,
        {"atlas-large": 0.7, "atlas-mini": 0.3},
        "eu-west",
        0.12,
        12,
        0.25,
    ),
    DemoCustomer(
        "harbor-health", "Harbor Health", 0.22, {"atlas-large": 0.5, "vector-3": 0.5}, "us-east", 0.3, 18, 0.6
    ),
    DemoCustomer(
        "kestrel", "Kestrel Logistics", 0.16, {"atlas-mini": 0.9, "vector-3": 0.1}, "eu-west", 0.85, 13, 0.9
    ),
    DemoCustomer("pixelforge", "Pixelforge Games", 0.12, {"atlas-mini": 1.0}, "ap-south", 0.4, 10, 1.7),
    DemoCustomer(
        "quill", "Quill Learning", 0.08, {"atlas-large": 0.2, "atlas-mini": 0.8}, "us-east", 0.1, 19, 0.4
    ),
    DemoCustomer("lumen-legal", "Lumen Legal", 0.05, {"atlas-large": 1.0}, "eu-west", 0.03, 11, 0.05),
    DemoCustomer("night-owl", "Night Owl Research", 0.04, {"vector-3": 1.0}, "us-east", 1.0, 6, 1.0),
    DemoCustomer(
        "solo-dev", "A. Romero", 0.02, {"atlas-mini": 0.8, "atlas-large": 0.2}, "ap-south", 0.5, 16, 1.5
    ),
)

METERS: tuple[dict[str, Any], ...] = (
    {
        "key": "requests",
        "name": "Requests",
        "event_type": EVENT_TYPE,
        "aggregation": "sum",
        "value": "$.requests",
        "dimensions": {"model": "$.model", "region": "$.region", "status": "$.status"},
        "unit": "request",
    },
    {
        "key": "tokens",
        "name": "Tokens",
        "event_type": EVENT_TYPE,
        "aggregation": "sum",
        "value": "$.tokens",
        "dimensions": {"model": "$.model", "region": "$.region"},
        "filter": 'data.status == "ok"',
        "unit": "token",
    },
    {
        "key": "compute_seconds",
        "name": "Compute",
        "event_type": EVENT_TYPE,
        "aggregation": "sum",
        "value": "$.compute_s",
        "dimensions": {"model": "$.model"},
        "unit": "second",
    },
    {
        "key": "slowest_request",
        "name": "Slowest request",
        "event_type": EVENT_TYPE,
        "aggregation": "max",
        "value": "$.latency_ms",
        "dimensions": {"model": "$.model", "region": "$.region"},
        "unit": "ms",
    },
)

_TOKENS_MEAN = {"atlas-large": 1400, "atlas-mini": 600, "vector-3": 320}
_TOKENS_PER_S = {"atlas-large": 55, "atlas-mini": 190, "vector-3": 900}


def intensity(customer: DemoCustomer, moment: datetime) -> float:
    """How busy a customer is at a moment, about 1 on average over a working day."""
    hour = moment.hour + moment.minute / 60
    daily = (1 + math.cos((hour - customer.awake_utc) / 24 * math.tau)) / 2
    level = customer.night + (1 - customer.night) * daily**1.5 * 2
    return level * (customer.weekend if moment.weekday() >= 5 else 1.0)


def history(from_s: int, to_s: int, *, rate: float) -> Iterator[dict[str, Any]]:
    """Events of [from_s, to_s) (seconds since 1970, multiples of the step): what each customer used of each model in ten
    minutes, summed up, as its gateway reports it. `rate`: requests a second of all together."""
    for second in range(from_s, to_s, HISTORY_STEP_S):
        moment = _EPOCH + timedelta(seconds=second)
        for customer in CUSTOMERS:
            chance = random.Random(f"{customer.key}/{second}")  # noqa: S311 -- a demo's dice
            expected = rate * HISTORY_STEP_S * customer.share * intensity(customer, moment)
            requests = int(expected * chance.uniform(0.8, 1.2) + chance.random())
            for model, part in customer.models.items():
                for status, share in (("ok", 1 - _ERROR_RATE), ("error", _ERROR_RATE)):
                    number = int(requests * part * share + chance.random())
                    if number:
                        yield _event(
                            f"{customer.key}/{model}/{status}/{second}",
                            customer,
                            moment + timedelta(seconds=chance.randrange(HISTORY_STEP_S)),
                            model,
                            status,
                            number,
                            chance,
                        )


def live(moment: datetime, chance: random.Random) -> dict[str, Any]:
    """One request, made at this moment."""
    weights = [customer.share * intensity(customer, moment) for customer in CUSTOMERS]
    (customer,) = chance.choices(CUSTOMERS, weights)
    (model,) = chance.choices(list(customer.models), list(customer.models.values()))
    status = "error" if chance.random() < _ERROR_RATE else "ok"
    return _event(f"req_{chance.getrandbits(64):016x}", customer, moment, model, status, 1, chance)


def _event(  # noqa: PLR0917
    event_id: str,
    customer: DemoCustomer,
    moment: datetime,
    model: str,
    status: str,
    requests: int,
    chance: random.Random,
) -> dict[str, Any]:
    tokens = max(1, int(requests * _TOKENS_MEAN[model] * chance.lognormvariate(0, 0.5 / math.sqrt(requests))))
    seconds_ms = int(tokens / _TOKENS_PER_S[model] * 1000 * chance.uniform(0.8, 1.3))
    return {
        "id": event_id,
        "source": "gateway",
        "type": EVENT_TYPE,
        "subject": customer.key,
        "time": moment.isoformat().replace("+00:00", "Z"),
        "data": {
            "model": model,
            "region": customer.region,
            "status": status,
            "requests": requests,
            "tokens": tokens,
            # Text, so that no binary float comes near a quantity.
            "compute_s": f"{seconds_ms / 1000:.3f}",
            "latency_ms": int(seconds_ms / requests * chance.uniform(1, 3)),
        },
    }
