"""A whole server that reads from a real Kafka, while the broker, the group and the server itself are disturbed.

`TALLYSTICK_KAFKA_EVENTS=1000000` for a million of events."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from tests.faults.server import KEY, Server
from tests.loopback import PLAIN
from tests.sources.kafka_broker import KafkaBroker

pytestmark = [pytest.mark.slow, pytest.mark.engine]

EVENTS = int(os.environ.get("TALLYSTICK_KAFKA_EVENTS") or 50_000)
TOPIC = "usage"
GROUP = "billing"
PARTITIONS = 4
SENT_TWICE_EVERY = 20
WAIT_S_MAX = 60 + EVENTS / 2000
HEADERS = {"authorization": f"Bearer {KEY}"}


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[KafkaBroker]:
    broker = KafkaBroker(tmp_path / "kafka")
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "data")
    server.start()
    yield server
    server.end()


class Sending(threading.Thread):
    """Sends every event, some of them twice, at an even pace over `seconds`."""

    def __init__(self, broker: KafkaBroker, seconds: float) -> None:
        super().__init__(daemon=True)
        self._seconds = seconds
        self._producer = Producer(
            {
                "bootstrap.servers": broker.address,
                "enable.idempotence": True,
                "linger.ms": 20,
                "message.timeout.ms": 300_000,
                "queue.buffering.max.messages": 2_000_000,
                "log_level": 0,
            }
        )
        self.failed = 0

    def run(self) -> None:
        began = time.monotonic()
        for number in range(EVENTS):
            body = b'{"id":"e%d","source":"/k","type":"call","subject":"c%d","data":{"n":%d}}' % (
                number,
                number % 50,
                number,
            )
            for _ in range(2 if number % SENT_TWICE_EVERY == 0 else 1):
                # The second time in another partition.
                self._producer.produce(TOPIC, body, on_delivery=self._delivered)
            if number % 1000 == 0:
                self._producer.poll(0)
                time.sleep(max(0.0, began + self._seconds * number / EVENTS - time.monotonic()))
        self.failed += self._producer.flush(300)

    def _delivered(self, error: object, _: object) -> None:
        self.failed += error is not None


def ask(server: Server, method: str, path: str, **more: Any) -> Any:
    answer = httpx.request(method, server.url + path, headers=HEADERS, verify=PLAIN, timeout=90, **more)
    assert answer.status_code < 300, answer.text
    return answer.json()


def usage(server: Server, meter: str) -> int:
    span = {"from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"}
    rows = ask(server, "GET", f"/v1/meters/{meter}/usage", params=span)["rows"]
    return int(rows[0]["value"]) if rows else 0


def until(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S_MAX
    while not done():
        assert time.monotonic() < deadline, f"It did not come about: {what}."
        time.sleep(0.2)


def another_consumer_joins_and_leaves(broker: KafkaBroker) -> int:
    """Takes part of the partitions, reads nothing of them, and gives them back: how many it had."""
    consumer = Consumer(
        {
            "bootstrap.servers": broker.address,
            "group.id": GROUP,
            "partition.assignment.strategy": "cooperative-sticky",
            "enable.auto.commit": False,
            "log_level": 0,
        }
    )
    had: set[int] = set()

    def on_assign(_: Consumer, partitions: list[TopicPartition]) -> None:
        had.update(one.partition for one in partitions)
        consumer.incremental_assign(partitions)
        consumer.pause(partitions)

    consumer.subscribe([TOPIC], on_assign=on_assign)
    deadline = time.monotonic() + 20
    while not had and time.monotonic() < deadline:
        consumer.poll(0.2)
    for _ in range(5):
        consumer.poll(0.2)
    consumer.close()
    return len(had)


def test_none_is_lost_and_none_is_counted_twice(broker: KafkaBroker, server: Server) -> None:
    admin = AdminClient({"bootstrap.servers": broker.address, "log_level": 0})
    admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(20)
    ask(server, "POST", "/v1/meters", json={"key": "calls", "event_type": "call", "aggregation": "count"})
    meter = {"key": "n", "event_type": "call", "aggregation": "sum", "value": "$.n"}
    ask(server, "POST", "/v1/meters", json=meter)
    settings = {"brokers": broker.address, "topics": [TOPIC], "group": GROUP}
    ask(server, "POST", "/v1/sources", json={"key": "orders", "kind": "kafka", "settings": settings})
    sending = Sending(broker, seconds=8 + EVENTS / 20_000)
    began = time.monotonic()
    sending.start()

    until(lambda: usage(server, "calls") > EVENTS // 20, "the first events")
    server.kill()
    server.start()
    until(lambda: usage(server, "calls") > EVENTS // 8, "events after a kill")
    assert another_consumer_joins_and_leaves(broker) > 0
    broker.kill()
    broker.start()
    before = usage(server, "calls")
    until(lambda: usage(server, "calls") > min(before, EVENTS - 1), "events after the broker's restart")
    server.kill()
    server.start()
    sending.join(WAIT_S_MAX)
    assert (sending.is_alive(), sending.failed) == (False, 0)
    until(lambda: usage(server, "calls") >= EVENTS, "all events")

    def state() -> dict[str, Any]:
        return ask(server, "GET", "/v1/sources/orders")["state"]

    until(lambda: state()["lag"] == 0, "no lag")
    assert usage(server, "calls") == EVENTS
    assert usage(server, "n") == EVENTS * (EVENTS - 1) // 2
    found = state()
    assert (found["status"], found["rejected"], found["dead_letters"]) == ("running", 0, 0)
    print(f"{EVENTS:,} events in {time.monotonic() - began:.1f} s; taken {found['taken']:,}")
