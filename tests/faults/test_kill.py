"""kill -9 at random moments under load and at every named step of the recorder; SIGTERM under load."""

import asyncio
import os
import random
import statistics
import threading
from collections.abc import Callable

import httpx
import pytest
from tests.faults.account import METER, check_running, check_stopped, load_until_dead, settle
from tests.faults.client import Client
from tests.faults.server import Server
from tests.patience import patience

from tallystick.flows.record import STEPS

pytestmark = pytest.mark.slow

ROUNDS = int(os.environ.get("TALLYSTICK_FAULT_ROUNDS") or 20)
READY_S_GOAL = 3.0
READY_S_MAX = 15.0  # on a machine that does other things beside

Make = Callable[..., Server]


def test_kill_at_random_moments_under_load(make_server: Make, seed: int) -> None:
    chance = random.Random(seed)
    server = make_server(record_batch_events_max=5_000)
    client = Client(server.port, seed)
    server.start()
    server.meter("n", **METER)
    meters = ["n"]
    for number in range(1, ROUNDS + 1):
        if number % 7 == 3:  # its past is being built when the process dies
            meters.append(f"n{number}")
            server.meter(meters[-1], **METER)
        killer = threading.Timer(chance.uniform(0.15, 1.0), server.kill)
        killer.start()
        asyncio.run(client.load(5.0))
        killer.join()
        if number % 3 == 0:  # dies again while it recovers
            server.start(wait=False)
            threading.Timer(chance.uniform(0.2, 2.0), server.kill).run()
        server.start()
        settle(server, client)
        check_running(server, client, f"round {number}/{ROUNDS}", tuple(meters))
        if number % 10 == 0 or number == ROUNDS:
            assert server.terminate() == 0
            check_stopped(server, client, f"round {number}/{ROUNDS}")
            server.start()
    print(
        f"ready again after kill -9: median {statistics.median(server.ready_s):.2f} s, "
        f"greatest {max(server.ready_s):.2f} s; recording: median {statistics.median(server.recovered_s):.2f} s, "
        f"greatest {max(server.recovered_s):.2f} s (goal {READY_S_GOAL} s)"
    )
    assert statistics.median(server.ready_s) < READY_S_MAX * patience()


def test_kill_at_every_step_of_the_recorder(make_server: Make, seed: int) -> None:
    chance = random.Random(seed)
    server = make_server(record_batch_events_max=2_000)
    client = Client(server.port, seed)
    server.start()
    server.meter("n", **METER)
    for step in STEPS:
        if step == "action":  # plain events do not come by; see below
            continue
        server.end()
        times = chance.randint(1, 4)
        server.start(kill_at_step=f"{step}:{times}", wait=False)
        load_until_dead(server, client, 60)
        assert server.exit_code == -9, server.unusual()
        server.start()
        settle(server, client)
        check_running(server, client, f"at {step}:{times}")
    assert server.terminate() == 0
    check_stopped(server, client, "all steps")


ACTION_STEPS = ("intent", "action", "committed", "indexed", "trimmed")


def test_kill_at_every_step_of_a_correction(make_server: Make) -> None:
    server = make_server()
    server.start()
    server.meter("n", **METER)
    events = [
        {"id": f"e{number}", "source": "/faults", "type": "call", "subject": "s", "data": {"n": 1}}
        for number in range(len(ACTION_STEPS) + 1)
    ]
    assert server.request("POST", "/v1/events?wait=recorded", json=events).json()["recorded"] == len(events)
    for number, step in enumerate(ACTION_STEPS):
        server.end()
        server.start(kill_at_step=f"{step}:1")
        correction = {
            "reason": "a test",
            "retract": [{"source": "/faults", "id": f"e{number}"}],
            "replace": [events[-1] | {"data": {"n": number + 2}}],
        }
        with pytest.raises(httpx.HTTPError):
            server.request("POST", "/v1/events/corrections", json=correction)
        assert server.wait_for_end(90) == -9, server.unusual()
        server.start()
        again = server.request("POST", "/v1/events/corrections", json=correction).json()
        # What was in the log is carried out, once; the rest comes with the repetition.
        assert again["results"][0]["status"] == "already_retracted", (step, again)
        assert again["results"][1]["status"] in ("replaced", "unchanged"), (step, again)
        left = len(ACTION_STEPS) - number - 1
        assert server.usage("n")["rows"][0]["value"] == str(left + number + 2), step
    assert server.terminate() == 0


def test_sigterm_under_load_is_clean(make_server: Make, seed: int) -> None:
    server = make_server()
    client = Client(server.port, seed)
    server.start(warm=False)
    server.meter("n", **METER)
    for number in range(3):
        codes: list[int] = []
        ender = threading.Timer(0.5, lambda: codes.append(server.terminate()))  # noqa: B023 -- joined below
        ender.start()
        asyncio.run(client.load(5.0))
        ender.join()
        assert codes == [0], server.log_text()[-2000:]
        server.start(warm=False)
        settle(server, client)
        check_running(server, client, f"SIGTERM {number}")
    assert "Traceback" not in server.log_text()
    assert server.terminate() == 0
    check_stopped(server, client, "SIGTERM")
