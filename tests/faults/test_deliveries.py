"""kill -9 between sending and writing down: again, under the same id; and deliveries that fail in a loop leave ingest alone."""

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from tests.delivery.receiver import Answer, Received, receiving, wait_until
from tests.faults.server import KEY, Server
from tests.patience import patience

pytestmark = pytest.mark.slow

Make = Callable[..., Server]
HEADERS = {"authorization": f"Bearer {KEY}"}


def test_killed_between_sending_and_writing(make_server: Make) -> None:
    with receiving() as receiver:
        server = make_server(webhook_allow_private="true", delivery_time_s_max=2)
        server.start()
        deadly = True

        def answer(got: Received) -> Answer:
            nonlocal deadly
            if deadly and got.document["type"] == "alert.fired":
                deadly = False
                server.kill()
            return Answer()

        receiver.answers["/"] = answer
        with httpx.Client(base_url=server.url, headers=HEADERS, timeout=90) as client:
            client.post("/v1/channels", json={"key": "ops", "type": "webhook", "url": receiver.url()})
            client.post("/v1/meters", json={"key": "calls", "event_type": "call", "aggregation": "count"})
            made = client.post(
                "/v1/alerts",
                json={
                    "key": "any",
                    "meter": "calls",
                    "window": "day",
                    "condition": {"op": "gte", "value": "1"},
                    "channels": ["ops"],
                },
            )
            assert made.status_code == 201, made.text
            client.post("/v1/events?wait=recorded", json={"id": "e1", "type": "call", "subject": "acme"})
            assert receiver.wait_for(1, timeout_s=90)
            assert wait_until(lambda: not deadly)
            server.start()
            both = receiver.wait_for(2, timeout_s=90)
            assert len(both) == 2
            assert both[0].id == both[1].id
            assert both[0].body == both[1].body

            def delivered() -> Any:
                found = client.get("/v1/deliveries").json()["items"]
                return [one for one in found if one["status"] == "delivered"]

            [found] = wait_until(delivered)
            assert (found["id"], found["attempt_count"]) == (both[0].id, 2)


def test_deliveries_that_fail_in_a_loop_leave_ingest_alone(make_server: Make) -> None:
    with receiving() as receiver:
        receiver.answers["/"] = Answer(500, after_s=0.05)
        server = make_server(webhook_allow_private="true", delivery_retry_s=",".join(["0"] * 50))
        server.start()
        with httpx.Client(base_url=server.url, headers=HEADERS, timeout=90) as client:
            for number in range(5):
                channel = {"key": f"c{number}", "type": "webhook", "url": receiver.url()}
                client.post("/v1/channels", json=channel)
            client.post("/v1/meters", json={"key": "calls", "event_type": "call", "aggregation": "count"})
            alert = {
                "key": "any",
                "meter": "calls",
                "window": "day",
                "condition": {"op": "gte", "value": "1"},
                "channels": [f"c{number}" for number in range(5)],
            }
            client.post("/v1/alerts", json=alert)
            slowest_s, sent = 0.0, 0
            for number in range(120):
                begun_s = time.monotonic()
                done = client.post(
                    "/v1/events", json={"id": f"e{number}", "type": "call", "subject": f"s{number % 20}"}
                )
                assert done.status_code == 202
                slowest_s, sent = max(slowest_s, time.monotonic() - begun_s), sent + 1
            assert wait_until(lambda: len(receiver.received) > 50, timeout_s=90)
            assert slowest_s < 5 * patience()

            def counted() -> Any:
                rows = client.get(
                    "/v1/meters/calls/usage?from=2026-01-01T00:00:00Z&to=2100-01-01T00:00:00Z"
                ).json()["rows"]
                return rows and rows[0]["value"] == str(sent)

            assert wait_until(counted, timeout_s=90)
