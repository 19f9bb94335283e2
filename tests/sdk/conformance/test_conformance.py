"""The scenarios of sdk/CONFORMANCE.md, for every SDK: whatever happens between, the server has what was tracked, by identity."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from tests.faults.server import Server
from tests.sdk.conformance.conftest import METER, TYPE, Party, settle
from tests.sdk.conformance.driver import Refused
from tests.sdk.conformance.proxy import Fault

pytestmark = [pytest.mark.slow, pytest.mark.engine]

EVERY_FAULT: list[Fault] = [
    "429",
    "cut_before",
    "cut_after",
    "",
    "503",
    "half",
    "lost",
    "",
    "page",
    "slow",
    "413",
    "lost",
]
LLM = json.loads(Path(__file__).with_name("llm.json").read_text())


def test_every_fault_between(party: Party) -> None:
    party.proxy.script(EVERY_FAULT)
    party.configure()
    ids = party.track_many(1500)
    party.flush()
    assert party.proxy.scripted == 0
    events = party.assert_recorded(ids)
    assert sorted(event["data"]["n"] for event in events) == list(range(1500))
    stats = party.driver.ask("stats")
    assert (stats["tracked"], stats["accepted"], stats["rejected"], stats["waiting"]) == (1500, 1500, 0, 0)
    assert party.driver.ask("rejections")["rejections"] == []
    usage = party.driver.ask("usage", meter=METER, parameters={"customer": party.subject})
    assert [row["value"] for row in usage["rows"]] == [str(1500 * 1499 // 2)]
    requests = party.proxy.requests("/v1/events")
    assert max(seen.events for seen in requests) <= 100
    told = next(n for n, seen in enumerate(requests) if seen.fault == "429")
    assert requests[told + 1].at - requests[told].at >= 1.0, "Retry-After was not waited for."
    party.close()


def test_rejected_events_are_told_and_not_sent_again(party: Party) -> None:
    party.configure(batch_events=50)
    party.proxy.cut()
    ids: list[str] = []
    far: list[str] = []
    for n in range(60):
        when: dict[str, Any] = {"time": "2999-01-01T00:00:00Z"} if n % 7 == 3 or n >= 50 else {}
        answer = party.driver.ask("track", type=TYPE, subject=party.subject, data={"n": n}, **when)
        (far if when else ids).append(answer["id"])
    party.proxy.mend()
    party.flush()
    told = party.driver.ask("rejections")["rejections"]
    assert sorted(one["id"] for one in told) == sorted(far)
    assert {one["code"] for one in told} == {"time_in_future"}
    stats = party.driver.ask("stats")
    assert (stats["accepted"], stats["rejected"], stats["waiting"]) == (len(ids), len(far), 0)
    party.assert_recorded(ids)
    requests = len(party.proxy.requests())
    party.driver.ask("track", type=TYPE, subject=party.subject, id="last", data={"n": 0})
    party.flush()
    assert len(party.proxy.requests()) == requests + 1
    party.close()


def test_a_cut_network_and_many_threads(party: Party) -> None:
    party.configure()
    party.proxy.delay_s = 0.005
    first = party.track_many(200, workers=8)
    party.proxy.cut()
    ids = first + party.track_many(800, workers=8)
    assert not party.driver.ask("flush", timeout_ms=200)["complete"]
    assert party.driver.ask("stats")["waiting"] >= 800
    before = len(party.proxy.requests())
    party.proxy.mend()
    party.flush()
    party.assert_recorded(ids)
    requests = party.proxy.requests()[before:]
    assert len(requests) <= 16, f"Batches of {[seen.events for seen in requests]} events, where 100 might be."
    party.close()


def test_a_killed_process_with_a_full_spool(party: Party) -> None:
    small = {"spool_bytes": 3 * 64 * 1024, "segment_bytes": 64 * 1024, "batch_events": 40}
    party.proxy.cut()
    party.configure(on_full="error", **small)
    found = party.driver.ask("track_many", type=TYPE, subject=party.subject, count=4000, workers=4)
    ids: list[str] = found["ids"]
    assert found["refused"] > 0
    assert len(ids) + found["refused"] == 4000
    assert len(ids) >= 300, "The spool holds less than its bound."
    assert _fill(party, ids) == "spool_full"
    party.driver.kill()

    party.proxy.delay_s = 0.03
    party.proxy.mend()
    party.driver.start()
    party.configure(**small)  # what is there is sent without a word
    _until(lambda: len(party.proxy.requests()) >= 4)
    party.driver.kill()

    party.proxy.delay_s = 0.0
    party.driver.start()
    party.configure(**small)
    ids.append(party.driver.ask("track", type=TYPE, subject=party.subject, data={"n": 1})["id"])
    party.flush()
    assert party.driver.ask("stats")["tracked"] == 1
    party.assert_recorded(ids)
    party.close()


def test_a_wrong_key_loses_nothing(party: Party) -> None:
    party.configure(key="nobodys")
    ids = party.track_many(20)
    assert not party.driver.ask("flush", timeout_ms=300)["complete"]
    with pytest.raises(Refused) as refused:
        party.driver.ask("usage", meter=METER, parameters={})
    assert (refused.value.kind, refused.value.status) == ("problem", 401)
    assert not party.driver.ask("close", timeout_ms=100)["complete"]
    party.configure()
    party.flush()
    party.assert_recorded(ids)
    party.close()


def test_questions_and_limits(party: Party) -> None:
    name = party.language.name
    meter, customer = f"exact_{name}", f"{name}/of limits"
    party.configure()
    party.proxy.script(["lost"], on="/v1/meters")
    definition = {"key": meter, "event_type": meter, "aggregation": "sum", "value": "$.n"}
    assert party.driver.ask("create_meter", definition=definition)["key"] == meter
    party.proxy.script(["cut_after"], on="/v1/customers")
    assert party.driver.ask("create_customer", definition={"key": customer})["key"] == customer
    limit = {"key": name, "customer": customer, "meter": meter, "amount": "10", "period": "day"}
    answer = party.server.request("POST", "/v1/limits", json={**limit, "enforce": "hard"})
    assert answer.status_code == 201, answer.text

    party.proxy.script(["503"], on="/v1/check")
    found = party.driver.ask("check", customer=customer, meter=meter, amount="4.5")
    assert (found["allowed"], found["limit"], found["remaining"]) == (True, "10", "10")
    party.proxy.script(["lost", "cut_after"], on="/v1/reservations")
    held = party.driver.ask("reserve", customer=customer, meter=meter, amount="8", ttl_seconds=60)[
        "reservation"
    ]
    assert party.driver.ask("check", customer=customer, meter=meter, amount="1")["held"] == "8"
    with pytest.raises(Refused) as refused:
        party.driver.ask("reserve", customer=customer, meter=meter, amount="3", ttl_seconds=60)
    assert (refused.value.kind, refused.value.status, refused.value.code) == (
        "problem",
        409,
        "limit_exceeded",
    )
    party.proxy.script(["lost"], on=f"/v1/reservations/{held}/settle")
    party.driver.ask("settle", reservation=held, amount="6.123456789012345678")
    again = party.driver.ask("reserve", customer=customer, meter=meter, amount="2", ttl_seconds=60)[
        "reservation"
    ]
    party.driver.ask("release", reservation=again)
    left = party.driver.ask("check", customer=customer, meter=meter, amount="1")
    assert (left["held"], left["remaining"]) == ("0", "3.876543210987654322")

    exact = {"op": "track", "type": meter, "subject": customer, "data": {"n": 0}}
    party.driver.ask_text(json.dumps(exact).replace("0", "0.100000000000000001"))
    party.flush()
    settle(party.server)
    party.proxy.script(["503", "cut_before"], on=f"/v1/meters/{meter}/usage")
    parameters = {"from": "2020-01-01T00:00:00Z", "group_by": ["customer"]}
    rows = party.driver.ask("usage", meter=meter, parameters=parameters)["rows"]
    assert [(row["group"], row["value"]) for row in rows] == [
        ({"customer": customer}, "6.223456789012345679")
    ]
    with pytest.raises(Refused) as unknown:
        party.driver.ask("usage", meter="nothing", parameters={})
    assert (unknown.value.kind, unknown.value.status) == ("problem", 404)
    sent = [{"type": TYPE, "subject": party.subject, "data": {"n": 1}}, {"type": "", "subject": "x"}]
    results = party.driver.ask("send", events=sent, wait_recorded=True)["results"]
    assert [(one["index"], one["code"]) for one in results] == [(1, "missing_type")]
    assert len(party.recorded()) == 1
    with pytest.raises(Refused) as invalid:
        party.driver.ask("track", type="", subject="x")
    assert invalid.value.kind == "invalid_event"
    party.close()


def test_tokens_of_language_models(party: Party) -> None:
    party.configure()
    wanted: dict[str, Any] = {}
    subjects: list[str] = []
    for n, case in enumerate(LLM):
        own_id = f"{party.language.name}-{n}"
        pieces = json.loads(json.dumps(case["pieces"]).replace("{id}", own_id))
        subjects.append(f"{party.subject}/{case['name']}")
        for _ in range(2 if case["has_id"] else 1):  # tracked twice it counts once
            answer = party.driver.ask("llm", subject=subjects[-1], pieces=pieces, model=case["model"])
            assert (answer["id"] is None) == (case["data"] is None), case["name"]
        if case["data"] is not None:
            source = f"llm/{case['data']['provider']}"
            wanted[subjects[-1]] = (
                case["data"],
                own_id if case["has_id"] else None,
                source if case["has_id"] else "/",
            )
    party.flush()
    found: dict[str, Any] = {}
    for event in party.recorded(*subjects):
        assert event["subject"] not in found
        assert event["type"] == "llm.completion"
        own_id = event["id"] if event["source"].startswith("llm/") else None
        found[event["subject"]] = (event["data"], own_id, event["source"])
    assert found == wanted
    party.close()


def test_a_server_killed_and_started_again(parties: list[Party], server: Server) -> None:
    ids: dict[str, list[str]] = {}
    for party in parties:
        party.configure()
        party.proxy.delay_s = 0.01
        ids[party.language.name] = party.track_many(1000, workers=4)
    _until(lambda: all(party.proxy.requests() for party in parties))
    server.kill()
    for party in parties:
        ids[party.language.name] += party.track_many(500, workers=2)
    server.start()
    for party in parties:
        party.flush()
        party.assert_recorded(ids[party.language.name])
        party.close()


def _fill(party: Party, ids: list[str]) -> str:
    """Track until there is no room for one more; how the SDK says so."""
    for _ in range(1000):
        try:
            ids.append(party.driver.ask("track", type=TYPE, subject=party.subject, data={"n": 1})["id"])
        except Refused as full:
            return full.kind
    raise AssertionError("The spool is never full.")


def _until(reached: Any, seconds_max: float = 90.0) -> None:
    until = time.monotonic() + seconds_max
    while not reached():
        assert time.monotonic() < until, "It took too long."
        time.sleep(0.01)
