"""The vendors' own clients against a real server, only pointed at another URL: what they read is what they sent, counted
once whatever they repeat."""

import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.api.compat.isolated import CLIENTS, answer_of, node, python
from tests.cli.conftest import KEY, Server
from tests.loopback import PLAIN

pytestmark = [pytest.mark.slow, pytest.mark.engine]

TAKEN = ["value_already_exist"]
TOTAL = 1001.0
"""0 to 49, a tenth in the place of each that 5 divides."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("clients") / "data").start()
    yield running
    running.stop()


@pytest.fixture
def key(server: Server, request: pytest.FixtureRequest) -> str:
    """The admin key of a tenant for this test alone, and for this try."""
    named = re.sub(r"\W", "-", request.node.name)
    with server.client() as client:
        made = client.post("/v1/tenants", json={"key": f"{named}-{secrets.token_hex(4)}"})
    assert made.status_code == 201, made.text
    return made.json()["admin_key"]


@pytest.fixture
def ask(server: Server, key: str) -> Callable[..., Any]:
    def asked(method: str, path: str, **options: Any) -> Any:
        answer = httpx.request(
            method,
            f"{server.url}{path}",
            headers={"authorization": f"Bearer {key}"},
            verify=PLAIN,
            timeout=30,
            trust_env=False,
            **options,
        )
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None

    return asked


def run(interpreter: str, script: str, *arguments: str) -> Any:
    return answer_of([python(interpreter), CLIENTS / script], *arguments)


def run_node(script: str, *arguments: str) -> Any:
    place: Path = node()
    return answer_of(["node", place / script], *arguments, directory=place)


def test_openmeter_python(server: Server, key: str) -> None:
    read = run("vendors", "openmeter_python.py", f"{server.url}/openmeter", key)
    assert read["created"] == ["tokens_total", "SUM", "All of them", {"team": "a"}, True]
    assert read["total"] == [TOTAL]
    assert read["range"] == ["2026-03-01T00:00:00+00:00", "2026-03-03T01:01:00+00:00"]
    assert read["by_day"] == [
        ["2026-03-01T00:00:00+01:00", "customer-0", "gpt-4", 66.2],
        ["2026-03-01T00:00:00+01:00", "customer-0", "o1", 36.1],
        ["2026-03-02T00:00:00+01:00", "customer-0", "gpt-4", 248.1],
        ["2026-03-02T00:00:00+01:00", "customer-0", "o1", 102.1],
        ["2026-03-03T00:00:00+01:00", "customer-0", "o1", 48.0],
    ]
    assert read["posted"] == [["customer-0", 500.5], ["customer-1", 500.5]]
    assert read["filtered"] == [318.4]
    assert read["of_acme"] == [500.5]
    span = "2026-03-01T00:00:00Z,2026-03-03T01:01:00Z"
    assert read["csv"] == [f"{span},gpt-4,682.6", f"{span},o1,318.4"]
    assert read["count"] == 50.0
    assert read["meters"] == ["tokens_total", "prompts"]
    assert read["whole_days"] == [
        [f"2026-0{start}T00:00:00+05:30", f"2026-0{end}T00:00:00+05:30"]
        for start, end in (("3-01", "3-02"), ("3-02", "3-03"), ("3-03", "3-04"))
    ]
    assert (read["since"], read["liked"]) == (["2026-03-02T16:00:00+00:00", 10.0], [682.6])
    assert read["chosen"] == ["py-10", "py-12", "py-14", "py-16", "py-18"]
    assert read["of_customer"] == 25
    assert read["subjects"] == ["customer-0", "customer-1"]
    assert read["models"] == ["gpt-4", "o1"]
    assert (read["listed"], read["paged"], read["one"]) == (50, 50, ["py-48"])
    assert read["people"] == ["acme", "customer-0", "customer-1"]
    assert read["subject"] == "The other"
    assert read["refused"] == {
        "unknown meter": [404, True],
        "wrong key": [401, True],
        "empty body": [400, False],
        "unknown group": [400, False],
    }
    assert (read["changed"], read["left"]) == ("changed", ["tokens_total"])


def test_openmeter_javascript(server: Server, key: str) -> None:
    read = run_node("openmeter.js", f"{server.url}/openmeter", key)
    assert read == {
        "created": ["js_tokens", True],
        "total": [[None, None, 1001]],
        "filtered": [["js-0", "o1", 186.2], ["js-1", "o1", 132.2]],
        "days": [226.5, 677.5, 97],
        "posted": [[None, None, 682.6]],
        "events": ["js-49", "js-47", "js-45"],
        "paged": 2,
        "values": ["gpt-4", "o1"],
        "listed": 1,
        "refused": [404, "Not Found"],
    }


@pytest.mark.parametrize(("interpreter", "script"), [("vendors", "1"), ("cloudevents2", "2")])
def test_cloudevents(
    server: Server, key: str, ask: Callable[..., Any], interpreter: str, script: str
) -> None:
    meter = {"slug": "jobs", "aggregation": "SUM", "eventType": "job", "valueProperty": "$.seconds"}
    ask("POST", "/openmeter/api/v1/meters", json=meter)
    for route, answers in (("/openmeter/api/v1/events", [204]), ("/v1/events", [202])):
        # The same events by both routes: each counts once.
        assert run(interpreter, f"cloudevents_{script}.py", f"{server.url}{route}", key) == answers
    answer = ask("GET", "/openmeter/api/v1/meters/jobs/query?subject=acme")
    assert [row["value"] for row in answer["data"]] == [1225]


def test_lago_python(server: Server, key: str) -> None:
    read = run("vendors", "lago_python.py", f"{server.url}/lago", key)
    assert read["event"] == ["t-0", "tokens", "sub_1"]
    assert read["repeated"] == [422, {"transaction_id": TAKEN}]
    assert read["repeated batch"] == [422, {"0": {"transaction_id": TAKEN}, "1": {"transaction_id": TAKEN}}]
    assert read["twice in one"] == [422, {"1": {"transaction_id": TAKEN}}]
    assert read["too many"] == [422, {"events": ["too_many_events"]}]
    assert read["no code"] == [422, {"code": ["value_is_mandatory"]}]
    assert read["found"] == {"total": 7, "model": "gpt-4"}
    assert read["usage"] == [
        ["requests", "4.0", 4, 800, "graduated"],
        ["tokens", "1001.0", 50, 2002, "standard"],
    ]
    assert read["grouped"] == [["gpt-4", "500.5", 25, 1001], ["o1", "500.5", 25, 1001]]
    assert (read["total"], read["past"]) == ([2802, "USD"], [])
    assert read["customer"] == ["acme", "UTC", "billing@acme.example", "Bern"]
    assert read["plan"] == ["pro", 4900, ["standard", "graduated"]]
    assert read["subscription"] == ["sub_1", "active", "pro"]
    assert read["metric"] == ["total", "sum_agg", ["model"]]
    assert read["metrics"] == ["requests", "tokens"]
    assert read["refused"] == {
        "duplicate code": [422, {"code": TAKEN}],
        "unknown metric": [404, "billable_metric_not_found"],
        "unknown customer": [404, "customer_not_found"],
        "no subscription": [405, "no_active_subscription"],
        "wrong key": [401, None],
    }


def test_lago_javascript(server: Server, key: str) -> None:
    read = run_node("lago.js", f"{server.url}/lago", key)
    assert read == {
        "repeated": [422, {"transaction_id": TAKEN}],
        "batch": [422, {"0": {"transaction_id": TAKEN}, "1": {"transaction_id": TAKEN}}],
        "usage": [["1001.0", 50, 3000]],  # ten packages of 100 beside the free unit
        "found": {"total": 7},
        "listed": 50,
    }


def test_lago_agent(server: Server, key: str, ask: Callable[..., Any]) -> None:
    for code in ("llm_input_tokens", "llm_output_tokens"):
        metric = {"name": code, "code": code, "aggregation_type": "sum_agg", "field_name": "value"}
        ask("POST", "/lago/api/v1/billable_metrics", json={"billable_metric": metric})
    read = run("vendors", "lago_agent.py", f"{server.url}/lago", key)
    assert read["flushed"] == [True, True]
    assert ask("GET", "/v1/meters/llm_input_tokens/usage")["rows"][0]["value"] == "325"
    assert ask("GET", "/v1/meters/llm_output_tokens/usage")["rows"][0]["value"] == "50"


def test_litellm(server: Server, key: str, ask: Callable[..., Any]) -> None:
    meter = {"slug": "tokens", "aggregation": "SUM", "eventType": "litellm_tokens"}
    ask("POST", "/openmeter/api/v1/meters", json={**meter, "valueProperty": "$.total_tokens"})
    metric = {"name": "LLM", "code": "llm", "aggregation_type": "sum_agg", "field_name": "total_tokens"}
    ask("POST", "/lago/api/v1/billable_metrics", json={"billable_metric": metric})
    read = run("litellm", "litellm_callbacks.py", server.url, key)
    by_subject = ask("GET", "/openmeter/api/v1/meters/tokens/query?groupBy=subject")["data"]
    assert [(row["subject"], row["value"]) for row in by_subject] == [("litellm-customer", read["tokens"])]
    events = ask("GET", "/lago/api/v1/events?external_subscription_id=litellm-customer&code=llm")
    assert events["meta"]["total_count"] == read["calls"]
    assert ask("GET", "/v1/meters/llm/usage")["rows"][0]["value"] == str(read["tokens"])


def test_one_event_by_every_way(server: Server, key: str, ask: Callable[..., Any]) -> None:
    """Where identity says so, it is one."""
    assert key != KEY
    meter = {"slug": "ways", "aggregation": "COUNT", "eventType": "way"}
    ask("POST", "/openmeter/api/v1/meters", json=meter)
    event = {
        "specversion": "1.0",
        "id": "1",
        "source": "lago/sub",
        "type": "way",
        "subject": "sub",
        "data": {"a": 1},
    }
    ask("POST", "/openmeter/api/v1/events", json=event)
    assert ask("POST", "/v1/events?wait=recorded", json=event)["duplicates"] == 1
    sent = {
        "transaction_id": "1",
        "external_subscription_id": "sub",
        "code": "way",
        "properties": {"a": 1},
    }
    answer = httpx.post(
        f"{server.url}/lago/api/v1/events",
        json={"event": sent},
        headers={"authorization": f"Bearer {key}"},
        verify=PLAIN,
        timeout=30,
    )
    assert answer.status_code == 422
    assert ask("GET", "/openmeter/api/v1/meters/ways/query")["data"][0]["value"] == 1
