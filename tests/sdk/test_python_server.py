"""The Python client against a real server that is killed under it."""

import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from tests.faults.server import KEY, Server

from tallystick_client import Client, Options, Problem

pytestmark = [pytest.mark.slow, pytest.mark.engine]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("sdk") / "data")
    made.start()
    made.meter("n", event_type="call", aggregation="sum", value="$.n")
    made.meter("calls", event_type="call", aggregation="count")
    yield made
    made.end()


def test_a_killed_server_loses_nothing_and_counts_nothing_twice(server: Server, tmp_path: Path) -> None:
    options = Options(spool=tmp_path, flush_s=0.01, retry_s_min=0.02, retry_s_max=0.3, batch_events_max=500)
    total = 0
    with Client(server.url, KEY, options=options) as client:
        killer = threading.Timer(0.15, server.kill)
        killer.start()
        for n in range(20_000):
            client.track("call", f"customer-{n % 5}", {"n": n})
            total += n
            if n % 200 == 0:
                time.sleep(0.005)
        killer.join()
        server.start()
        assert client.flush(60), client.stats()
        assert client.stats().accepted == 20_000
        end = client.send([{"type": "end", "subject": "customer-0"}], wait_recorded=True)
        usage = client.usage("n", from_="2020-01-01T00:00:00Z", min_position=end["position"])
        assert usage.rows[0].value == total
        rows = client.usage("calls", from_="2020-01-01T00:00:00Z", group_by=["customer"]).rows
        assert {row.group["customer"]: row.value for row in rows} == {
            f"customer-{n}": Decimal(4000) for n in range(5)
        }


def test_limits_and_errors(server: Server) -> None:
    with Client(server.url, KEY) as client:
        client.request("POST", "/v1/customers", json={"key": "acme", "name": "Acme"})
        limit = {
            "key": "l",
            "customer": "acme",
            "meter": "n",
            "amount": "10",
            "period": "day",
            "enforce": "hard",
        }
        client.request("POST", "/v1/limits", json=limit)
        found = client.check("acme", "n", 4)
        assert (found.allowed, found.limit, found.remaining) == (True, 10, 10)
        assert not client.check("acme", "n", "10.5").allowed
        with client.reserved("acme", "n", 8) as held:
            with pytest.raises(Problem) as refused:
                client.reserve("acme", "n", 3)
            assert refused.value.code == "limit_exceeded"
            client.settle(held, Decimal("6.5"))
            client.settle(held, Decimal("6.5"))
        with pytest.raises(RuntimeError), client.reserved("acme", "n", 3):
            raise RuntimeError
        assert client.check("acme", "n", 1).remaining == Decimal("3.5")
        with pytest.raises(Problem) as unknown:
            client.usage("nothing")
        assert unknown.value.status == 404
        answer = client.send([{"type": "", "subject": "x"}])
        assert answer["results"][0]["code"] == "missing_type"
