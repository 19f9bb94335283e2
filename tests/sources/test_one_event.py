"""The same records by the API, from NATS, from a table and by logical replication, and those of every vendor's route by all the
others, a folder and a queue, into a whole server: one event each."""

import asyncio
import gzip
import json
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
from tests.loopback import PLAIN

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
    answer = httpx.request(method, server.url + path, headers=HEADERS, verify=PLAIN, timeout=90, **more)
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


VENDORS = ("openmeter", "lago", "amberflo", "stripe")
EACH = 20
AT_S = 1_772_323_200  # 2026-03-01


def send_by_vendors(server: Server) -> None:
    """Events of a type for each vendor, by its own route, as its own client words them."""
    begun = "2026-03-01T00:00:{:02}Z"
    event = {"specversion": "1.0", "source": "om", "type": "openmeter", "subject": "sub"}
    httpx.post(
        f"{server.url}/openmeter/api/v1/events",
        json=[{**event, "id": f"o{n}", "time": begun.format(n), "data": {"value": n}} for n in range(EACH)],
        headers={**HEADERS, "content-type": "application/cloudevents-batch+json"},
        verify=PLAIN,
        timeout=30,
    ).raise_for_status()
    records = [
        {
            "uniqueId": f"u{n}",
            "meterApiName": "amberflo",
            "meterValue": n / 10,
            "customerId": "sub",
            "meterTimeInMillis": (AT_S + n) * 1000,
            "dimensions": {"model": "o1"},
        }
        for n in range(EACH)
    ]
    httpx.post(
        f"{server.url}/amberflo/ingest/",
        content=gzip.compress(json.dumps(records).encode()),
        headers={"x-api-key": KEY, "content-encoding": "gzip", "content-type": "application/json"},
        verify=PLAIN,
        timeout=30,
    ).raise_for_status()
    events = [
        {
            "event_name": "stripe",
            "identifier": f"s{n}",
            "timestamp": begun.format(n),
            "payload": {"stripe_customer_id": "sub", "value": f"{n}"},
        }
        for n in range(EACH)
    ]
    ask(server, "POST", "/stripe/v2/billing/meter_event_stream", json={"events": events})
    for n in range(EACH):
        ask(
            server,
            "POST",
            "/lago/api/v1/events/batch",
            json={
                "events": [
                    {
                        "transaction_id": f"t{n}",
                        "external_subscription_id": "sub",
                        "code": "lago",
                        "timestamp": str(AT_S + n),
                        "properties": {"value": f"{n}.5"},
                    }
                ]
            },
        )


async def publish_all(queue: NatsServers, events: list[dict[str, Any]]) -> None:
    client = await nats.connect(f"nats://127.0.0.1:{queue.nodes[0].port}", user="me", password="secret")
    stream = client.jetstream()
    await stream.add_stream(StreamConfig(name="usage", subjects=["usage.>"]))
    for one in events:
        await stream.publish("usage.a", json.dumps(one).encode())
    await client.close()


def test_what_a_vendors_route_took_is_one_event_by_every_other_way(
    queue: NatsServers, server: Server
) -> None:
    os.environ["TALLYSTICK_SECRET_NATS"] = "secret"
    server._settings |= {"secret_nats": "secret"}
    server.start()
    for vendor in VENDORS:
        meter = {"key": vendor, "event_type": vendor, "aggregation": "count"}
        ask(server, "POST", "/v1/meters", json=meter)

    def counts() -> list[str]:
        span = {"from": "2026-01-01T00:00:00Z", "to": "2026-04-01T00:00:00Z"}
        found = [ask(server, "GET", f"/v1/meters/{one}/usage", params=span)["rows"] for one in VENDORS]
        return [rows[0]["value"] if rows else "0" for rows in found]

    send_by_vendors(server)
    until(lambda: counts() == [str(EACH)] * len(VENDORS), "all is recorded")
    listed = ask(server, "GET", "/v1/events", params={"limit": 1000})["items"]
    assert len(listed) == EACH * len(VENDORS)
    # As anybody would write them who reads them here: the numbers of JSON, whatever wrote them before.
    events = [
        {name: one[name] for name in ("id", "source", "type", "subject", "time", "data")} for one in listed
    ]
    wrapped = [{"specversion": "1.0", **one} for one in events]

    by_api = ask(server, "POST", "/v1/events?wait=recorded", json=events)
    assert (by_api["recorded"], by_api["duplicates"], by_api["conflicts"]) == (0, len(events), 0)
    httpx.post(
        f"{server.url}/openmeter/api/v1/events",
        content=json.dumps(wrapped),
        headers={**HEADERS, "content-type": "application/cloudevents-batch+json"},
        verify=PLAIN,
        timeout=30,
    ).raise_for_status()
    directory = server.directory / "sources" / "out"
    directory.mkdir(parents=True)
    (directory / "events.ndjson.gz").write_bytes(
        gzip.compress(b"".join(json.dumps(one).encode() + b"\n" for one in events))
    )
    settings = {"dir": "out", "settle_seconds": 0, "every_seconds": 1}
    ask(server, "POST", "/v1/sources", json={"key": "files", "kind": "folder", "settings": settings})
    asyncio.run(publish_all(queue, wrapped))
    nats_url = f"nats://me:${{TALLYSTICK_SECRET_NATS}}@127.0.0.1:{queue.nodes[0].port}"
    ask(
        server,
        "POST",
        "/v1/sources",
        json={"key": "queue", "kind": "nats", "settings": {"url": nats_url, "stream": "usage"}},
    )

    def taken(key: str) -> int:
        return ask(server, "GET", f"/v1/sources/{key}")["state"]["taken"]

    until(lambda: all(taken(key) >= len(events) for key in ("files", "queue")), "file and queue are taken")
    with pytest.raises(AssertionError, match="value_already_exist"):
        send_by_vendors(server)  # Lago's route comes last, and refuses what is known

    def seen(one: dict[str, Any]) -> tuple[int, int]:
        found = ask(server, "GET", "/v1/events/lookup", params={"source": one["source"], "id": one["id"]})
        return found["duplicates"]["count"], found["conflict_count"]

    # By our API, OpenMeter's, a file, a queue; and by the vendor's own route again, but for Lago's.
    for one in events[:: EACH // 4]:
        times = 4 if one["type"] == "lago" else 5
        until(
            lambda one=one, times=times: seen(one) == (times, 0),
            f"{one['source']} {one['id']} was seen again",
        )
    assert counts() == [str(EACH)] * len(VENDORS)
