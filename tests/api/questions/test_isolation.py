"""Two tenants with the same keys, ids, subjects and customers: each finds what it would find alone.

A twin sends what one of them sends, with nobody else around under its name. Whatever the other one does in between, answers
must be equal to the twin's: then nothing of the other was seen, counted or taken for one's own.
"""

import json
import re
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.api.questions.live import Live, Tenant

KEYS = st.sampled_from(["a", "b"])
NUMBERS = st.integers(1, 3)
operations = st.one_of(
    st.tuples(st.just("event"), NUMBERS, KEYS, NUMBERS),
    st.tuples(st.just("retract"), NUMBERS),
    st.tuples(st.just("meter"), KEYS, st.sampled_from(["sum", "max", "count"])),
    st.tuples(st.just("drop"), KEYS),
    st.tuples(st.just("customer"), KEYS, st.sampled_from([["a"], ["b"], ["s"], []])),
    st.tuples(st.just("merge"), KEYS, KEYS),
    st.tuples(st.just("key"), KEYS),
    st.tuples(st.just("backfill"), KEYS, NUMBERS),
)
_OURS = {
    "position",
    "original",
    "served_from",
    "recorded_at",
    "received_at",
    "id",
    "key_id",
    "request_id",
    "at",
    "created_at",
    "prefix",
    "secret",
    "opened_at",
    "closed_at",
    "reverted_at",
    "last_used_at",
    "as_of",
    "archived_at",
}
"""Members that differ between any two requests of one tenant, too: moments, names made at random, where an answer came from, and positions. Positions
are places in a log that all tenants share, so that they tell how much all of them together have sent."""
READ = (
    "/v1/meters",
    "/v1/customers?include_archived=true",
    "/v1/api_keys",
    "/v1/audit",
    "/v1/audit?q=customer",
    "/v1/backfills",
    "/v1/events",
    "/v1/events?status=conflict",
    "/v1/events?status=retracted",
    "/v1/events/lookup?id=1",
    "/v1/events/lookup?id=2",
    "/v1/customers?external_id=crm:a",
    "/v1/meters/a/usage?group_by=customer,subject",
    "/v1/meters/b/usage?window=month",
    "/v1/meters/a/explain",
    "/v1/export/events",
    "/v1/retention",
)


def do(tenant: Tenant, operation: tuple[Any, ...]) -> Any:
    kind, *given_values = operation
    if kind == "event":
        number, subject, amount = given_values
        event = {
            "id": str(number),
            "type": "call",
            "subject": subject,
            "time": "2026-07-01T00:00:00Z",
            "data": {"n": amount},
        }
        return tenant.post("/v1/events?wait=recorded", [event])
    if kind == "retract":
        return tenant.post(
            "/v1/events/corrections", {"reason": "r", "retract": [{"id": str(given_values[0])}]}
        )
    if kind == "meter":
        key, aggregation = given_values
        value = {} if aggregation == "count" else {"value": "$.n"}
        return tenant.post(
            "/v1/meters", {"key": key, "event_type": "call", "aggregation": aggregation, **value}
        )
    if kind == "drop":
        return tenant.send("DELETE", f"/v1/meters/{given_values[0]}")
    if kind == "customer":
        key, subjects = given_values
        body = {"subjects": subjects, "external_ids": {"crm": key}}
        made = tenant.post("/v1/customers", {"key": key, **body})
        return made if made.status_code == 201 else tenant.send("PATCH", f"/v1/customers/{key}", json=body)
    if kind == "merge":
        return tenant.post(f"/v1/customers/{given_values[0]}/merge", {"into": given_values[1]})
    if kind == "key":
        return tenant.post("/v1/api_keys", {"name": given_values[0], "scopes": ["usage:read"]})
    key, number = given_values
    tenant.post("/v1/backfills", {"key": key, "reason": "r"})
    event = {
        "id": str(number),
        "type": "call",
        "subject": key,
        "time": "2026-07-02T00:00:00Z",
        "data": {"n": 7},
    }
    tenant.post(f"/v1/backfills/{key}/events", [event])
    return tenant.post(f"/v1/backfills/{key}/close")


def told(response: Any, tenant: Tenant) -> Any:
    """What an answer says, without what is of the moment; the tenant's own key is a word of its own."""
    kind = response.headers.get("content-type", "")
    text = response.text.replace(f'"{tenant.key}"', '"self"').replace(f"tenant/{tenant.key}", "tenant/self")
    text = re.sub(r"key_[0-9a-f]{8,}", "key_some", text)
    if "ndjson" in kind:
        return response.status_code, sorted(repr(_kept(json.loads(line))) for line in text.splitlines())
    if "json" not in kind or not text:
        return response.status_code, text
    return response.status_code, _kept(json.loads(text))


def _kept(document: Any) -> Any:
    if isinstance(document, dict):
        is_event = "source" in document
        return {
            name: _kept(value)
            for name, value in document.items()
            if name not in _OURS or (name == "id" and is_event)
        }
    return [_kept(one) for one in document] if isinstance(document, list) else document


@given(st.lists(st.tuples(st.booleans(), operations), min_size=4, max_size=14))
@settings(
    phases=[Phase.explicit, Phase.generate],  # shrinking asks the whole system again and again
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_tenant_finds_what_it_would_find_alone(
    live: Live, steps: list[tuple[bool, tuple[Any, ...]]]
) -> None:
    one, other, twin = live.tenant(), live.tenant(), live.tenant()
    for is_ones, operation in steps:
        if not is_ones:
            do(other, operation)
            continue
        assert told(do(one, operation), one) == told(do(twin, operation), twin), operation
    for path in READ:
        assert told(one.get(path), one) == told(twin.get(path), twin), path


def test_what_is_anothers_is_not_there(live: Live) -> None:
    """By key, by id, by cursor: another tenant's is answered as what never was."""
    one, other = live.tenant(), live.tenant()
    other.meter(key="m", event_type="call", aggregation="count")
    for number in range(3):
        other.post("/v1/customers", {"key": f"c{number}", "external_ids": {"crm": str(number)}})
    made = other.post("/v1/api_keys", {"name": "k", "scopes": ["usage:read"]}).json()
    other.record({"id": "x", "type": "call", "subject": "c0"})
    cursor = other.answer("/v1/customers?limit=1")["next_cursor"]
    assert one.answer(f"/v1/customers?cursor={cursor}")["items"] == []
    paths = (
        "/v1/meters/m",
        "/v1/meters/m/usage",
        "/v1/customers/c0",
        f"/v1/api_keys/{made['id']}",
        "/v1/events/lookup?id=x",
    )
    for path in paths:
        hidden, never = one.get(path), one.get(path.replace(made["id"], "key_none").replace("c0", "zz"))
        assert (hidden.status_code, never.status_code) == (404, 404), path
    assert one.send("DELETE", f"/v1/api_keys/{made['id']}").status_code == 404
    assert one.post("/v1/customers", {"key": "c0", "external_ids": {"crm": "0"}}).status_code == 201
    assert one.record({"id": "x", "type": "call", "subject": "c0", "data": {"other": 1}})["recorded"] == 1


def test_a_flood_of_one_does_not_starve_the_other(live: Live) -> None:
    """While one tenant keeps large requests coming, every small request of another is answered, and waits less than they."""
    flooding, small = live.tenant(), live.tenant()
    numbers = iter(range(10_000_000))
    until = time.monotonic() + 3.0

    def timed(tenant: Tenant, events: list[dict[str, Any]]) -> float:
        began = time.monotonic()
        answer = tenant.post("/v1/events", events)
        assert answer.status_code == 202, answer.text
        return time.monotonic() - began

    def event(subject: str) -> dict[str, Any]:
        return {"id": str(next(numbers)), "type": "call", "subject": subject, "data": {"n": 1}}

    def flood(_: int) -> list[float]:
        waits = [timed(flooding, [event("f") for _ in range(5_000)])]
        while time.monotonic() < until:
            waits.append(timed(flooding, [event("f") for _ in range(5_000)]))
        return waits

    with ThreadPoolExecutor(4) as threads:
        floods = [threads.submit(flood, number) for number in range(4)]
        waits = [timed(small, [event("s")])]
        while time.monotonic() < until:
            waits.append(timed(small, [event("s")]))
        flooded = [wait for done in floods for wait in done.result(30)]
    assert statistics.median(waits) < statistics.median(flooded), (waits, flooded)
