"""The catalog, on PostgreSQL, is stopped, killed and frozen under load: ingest goes on, administration waits, nothing is
lost, and all is well afterwards without help."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest
from tests.catalog.postgres_server import PostgresServer
from tests.faults.account import METER, check_running, check_stopped, settle
from tests.faults.client import Client
from tests.faults.server import Server
from tests.patience import patience

pytestmark = pytest.mark.slow

_ANSWERS_AGAIN_S_MAX = 20.0


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    running = PostgresServer()
    try:
        running.start()
        with psycopg.connect(f"postgresql://{running.address}postgres", autocommit=True) as connection:
            connection.execute("CREATE DATABASE catalog")
        yield running
    finally:
        running.remove()


def test_the_catalog_goes_and_comes_back(
    make_server: Callable[..., Server], postgres: PostgresServer, seed: int
) -> None:
    server = make_server(catalog_url=f"postgresql://{postgres.address}catalog")
    client = Client(server.port, seed)
    server.start()
    server.meter("n", **METER)
    server.usage("n")
    outages: list[tuple[str, Callable[[], None], Callable[[], None]]] = [
        ("stopped", postgres.stop, postgres.start),
        ("killed", lambda: postgres.stop("immediate"), postgres.start),
        ("frozen", postgres.freeze, postgres.thaw),
    ]
    for name, take_away, bring_back in outages:
        load = threading.Thread(target=lambda: asyncio.run(client.load(6.0)))
        load.start()
        time.sleep(1.0)
        take_away()
        try:
            during(server, client, name)
        finally:
            bring_back()
        again_s = administration_is_back(server, name)
        load.join()
        # What is refused in an outage is not lost, but the promise is that nothing is refused.
        assert set(client.books.statuses) == {202}, client.books.statuses
        settle(server, client)
        check_running(server, client, f"catalog {name}, administration back after {again_s:.2f} s")
        assert server.request("GET", f"/v1/customers/new-{name}").status_code == 200
    assert server.terminate() == 0
    check_stopped(server, client, "catalog stopped, killed, frozen")


def during(server: Server, client: Client, name: str) -> None:
    """While the catalog is away."""
    body, ids = _event_of_somebody_new(client, name)
    headers = {"content-type": "application/json"}
    answer = server.request("POST", "/v1/events", content=body, headers=headers)
    assert answer.status_code == 202, answer.text
    client.books.acknowledged.update(ids)
    client.books.value.update(dict.fromkeys(ids, 5))
    for _ in range(3):
        refused = server.request("POST", "/v1/meters", json={"key": f"m-{time.time_ns()}", **METER})
        assert refused.status_code == 503, refused.text
        assert int(refused.headers["retry-after"]) > 0
    assert server.usage("n")["rows"]
    assert server.get("/v1/meters/n")["key"] == "n"
    ready = server.request("GET", "/health/ready")
    assert (ready.status_code, ready.json()["components"]["catalog"]["status"]) == (200, "down")


def _event_of_somebody_new(client: Client, name: str) -> tuple[bytes, list[str]]:
    event = {
        "id": f"{client.seed:x}-new-{name}",
        "source": "/faults",
        "type": "call",
        "subject": f"new-{name}",
        "time": "2025-03-01T00:00:00Z",
        "data": {"n": 5},
    }
    return json.dumps([event]).encode(), [event["id"]]


def administration_is_back(server: Server, name: str) -> float:
    began_s = time.monotonic()
    while True:
        answer = server.request(
            "POST", "/v1/meters", json={"key": f"after-{name}", **METER, "event_type": "x"}
        )
        if answer.status_code == 201:
            return time.monotonic() - began_s
        assert answer.status_code == 503, answer.text
        assert time.monotonic() - began_s < _ANSWERS_AGAIN_S_MAX * patience()
        time.sleep(0.05)
