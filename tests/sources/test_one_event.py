"""The same records by the API, from NATS, from a table and by logical replication, into a whole server: one event each."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import nats
import psycopg
import pytest
from nats.js.api import StreamConfig
from tests.catalog.postgres_server import PostgresServer
from tests.cluster.nats import NatsServers
from tests.faults.server import KEY, Server

pytestmark = [pytest.mark.slow, pytest.mark.engine]
HEADERS = {"authorization": f"Bearer {KEY}"}
EVENTS = 200


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[NatsServers]:
    servers = NatsServers.start(tmp_path / "queue", user="me", password="secret")
    yield servers
    servers.stop()


@pytest.fixture
def database() -> Iterator[PostgresServer]:
    server = PostgresServer(wal_level="logical")
    server.start()
    yield server
    server.remove()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "data")
    with mock.patch.dict(os.environ):
        yield server
    server.end()


def ask(server: Server, method: str, path: str, **more: Any) -> Any:
    answer = httpx.request(method, server.url + path, headers=HEADERS, timeout=30, **more)
    assert answer.status_code < 300, answer.text
    return answer.json()


def until(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline, f"It did not come about: {what}."
        time.sleep(0.1)


def event(number: int) -> dict[str, Any]:
    return {"id": f"e{number}", "source": "/shop", "type": "order", "subject": "c", "data": {"n": number}}


async def publish(queue: NatsServers) -> None:
    client = await nats.connect(f"nats://127.0.0.1:{queue.nodes[0].port}", user="me", password="secret")
    stream = client.jetstream()
    await stream.add_stream(StreamConfig(name="usage", subjects=["usage.>"]))
    for number in range(EVENTS):
        # In binary mode, to be the same event all the same.
        headers = {"ce-specversion": "1.0", "ce-id": f"e{number}", "ce-source": "/shop"}
        headers |= {"ce-type": "order", "ce-subject": "c"}
        await stream.publish("usage.a", b'{"n": %d}' % number, headers=headers)
    await stream.publish("usage.a", b'{"type":"order"}')
    await client.close()


def test_one_record_by_four_routes_is_one_event(
    queue: NatsServers, database: PostgresServer, server: Server
) -> None:
    url = f"postgresql://{database.address}postgres"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE orders (k bigserial PRIMARY KEY, event text, client text, n numeric)"
        )
        connection.execute("CREATE PUBLICATION orders FOR TABLE orders")
        connection.execute(
            "INSERT INTO orders (event, client, n) SELECT 'e' || i, 'c', i FROM generate_series(0, %s) i",
            [EVENTS - 1],
        )
        asyncio.run(publish(queue))
        os.environ["TALLYSTICK_SECRET_NATS"] = "secret"
        server._settings |= {"secret_nats": "secret"}
        server.start()
        ask(
            server,
            "POST",
            "/v1/meters",
            json={"key": "n", "event_type": "order", "aggregation": "sum", "value": "$.n"},
        )
        ask(server, "POST", "/v1/events", json=[event(number) for number in range(EVENTS)])
        mapping = {"id": "event", "source": "/shop", "type": "order", "subject": "client", "data": {"n": "n"}}
        nats_url = f"nats://me:${{TALLYSTICK_SECRET_NATS}}@127.0.0.1:{queue.nodes[0].port}"
        for source in (
            {"key": "queue", "kind": "nats", "settings": {"url": nats_url, "stream": "usage"}},
            {
                "key": "table",
                "kind": "postgres",
                "settings": {"url": url, "table": "orders", "cursor_column": "k", "every_seconds": 1},
                "mapping": mapping,
            },
            {
                "key": "changes",
                "kind": "postgres_changes",
                "settings": {
                    "url": url,
                    "publication": "orders",
                    "existing": "take",
                    "updates": "correct",
                    "deletes": "retract",
                },
                "mapping": mapping,
            },
        ):
            ask(server, "POST", "/v1/sources", json=source)

        def taken(key: str) -> int:
            return ask(server, "GET", f"/v1/sources/{key}")["state"]["taken"]

        def total() -> int:
            span = {"from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"}
            return int(ask(server, "GET", "/v1/meters/n/usage", params=span)["rows"][0]["value"])

        until(lambda: all(taken(key) >= EVENTS for key in ("queue", "table", "changes")), "all are taken")
        until(lambda: total() == EVENTS * (EVENTS - 1) // 2, "the sum")
        found = ask(server, "GET", "/v1/events/lookup", params={"source": "/shop", "id": "e7"})
        assert found["duplicates"]["count"] == 3
        assert not found["conflicts"], found["conflicts"]
        (letter,) = ask(server, "GET", "/v1/dead_letters", params={"source": "queue"})["items"]
        assert (letter["code"], letter["where"]) == ("missing_subject", f"usage/{EVENTS + 1}")

        connection.execute("UPDATE orders SET n = 1000 WHERE event = 'e7'")
        connection.execute("DELETE FROM orders WHERE event = 'e8'")
        until(lambda: total() == EVENTS * (EVENTS - 1) // 2 + 993, "the row that was changed")
        connection.execute("ALTER TABLE orders REPLICA IDENTITY FULL")
        connection.execute("DELETE FROM orders WHERE event = 'e9'")
        until(lambda: total() == EVENTS * (EVENTS - 1) // 2 + 993 - 9, "the row that was deleted")
        (letter,) = ask(server, "GET", "/v1/dead_letters", params={"source": "changes"})["items"]
        assert letter["code"] == "missing_id"
    assert b"secret" not in (server.directory / "catalog.sqlite").read_bytes()
    assert "secret@" not in server.log_text()
