"""kill -9 at each step of a look: every threshold that was crossed is told, once, under one id."""

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from tests.delivery.receiver import receiving, wait_until
from tests.faults.server import KEY, Server

pytestmark = pytest.mark.slow

Make = Callable[..., Server]
HEADERS = {"authorization": f"Bearer {KEY}"}
KILLS = ("load:15", "ask:15", "decide:15", "write:1", "written:1")
"""A look is made each second and at each event; something is written where something is crossed."""
WAIT_S = 90


def event(number: int) -> dict[str, Any]:
    return {"id": f"e{number}", "source": "s", "type": "call", "subject": "acme", "data": {"n": 10}}


def send(client: httpx.Client, document: Any, *, wait: bool = False) -> None:
    """Whether it arrives or the server is gone."""
    try:
        client.post("/v1/events" + ("?wait=recorded" if wait else ""), json=document)
    except httpx.TransportError:
        time.sleep(0.1)


def test_killed_at_each_step(make_server: Make) -> None:
    with receiving() as receiver:
        server = make_server(webhook_allow_private="true")
        server.start()
        with httpx.Client(base_url=server.url, headers=HEADERS, timeout=90) as client:
            client.post("/v1/channels", json={"key": "ops", "type": "webhook", "url": receiver.url()})
            meter = {"key": "calls", "event_type": "call", "aggregation": "sum", "value": "$.n"}
            assert client.post("/v1/meters", json=meter).status_code == 201
            steps = [str(10 * (index + 1)) for index in range(len(KILLS))]
            alert = {"key": "a", "meter": "calls", "window": "year", "channels": ["ops"]}
            made = client.post("/v1/alerts", json=alert | {"condition": {"op": "gte", "steps": steps}})
            assert made.status_code == 201, made.text
            server.kill()
            for index, step in enumerate(KILLS):
                server.start(kill_at_step=f"alerts_{step}", wait=False)
                until_s, filler = time.monotonic() + WAIT_S, 0
                while server.exit_code is None:
                    assert time.monotonic() < until_s, step
                    send(client, [event(number) for number in range(index + 1)])
                    send(client, {"id": f"f{index}-{filler}", "type": "other", "subject": "acme"}, wait=True)
                    filler += 1
                assert server.exit_code == -9
            server.start()
            send(client, [event(number) for number in range(len(KILLS))], wait=True)

            def transitions() -> list[dict[str, Any]]:
                found = client.get("/v1/transitions").json()["items"]
                return found if len(found) >= len(KILLS) else []

            found = wait_until(transitions, timeout_s=WAIT_S)
            assert [(one["kind"], one["step"]) for one in reversed(found)] == [
                ("fired", one) for one in steps
            ]
            assert wait_until(
                lambda: len({one.id for one in receiver.received}) >= len(KILLS), timeout_s=WAIT_S
            )
            ids = {one.document["data"]["id"]: one.id for one in receiver.received}
            assert ids.keys() == {one["id"] for one in found}
            # Sent twice it may be, when it was killed before that was written down; under a second id never.
            assert len({one.id for one in receiver.received}) == len(KILLS)
            deliveries = client.get("/v1/deliveries").json()["items"]
            assert {one["id"] for one in deliveries} == set(ids.values())
