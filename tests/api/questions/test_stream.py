"""The stream: what is recorded comes, in order, once, filtered, from any place on, and to nobody it is not for."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.api.questions.listener import Listener
from tests.api.questions.live import PARTITIONS, Live, Tenant, faults, opened

from tallystick.catalog.scopes import PORTAL_SCOPES


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with opened(tmp_path_factory.mktemp("stream"), streams_per_tenant_max=3) as made:
        yield made


def event(name: str, subject: str = "acme", kind: str = "call", **data: Any) -> dict[str, Any]:
    return {"id": name, "type": kind, "subject": subject, "data": data}


def ids(listener: Listener, count: int, **options: Any) -> list[str]:
    return [one.document["id"] for one in listener.messages(count, **options)]


def in_order_sent(names: list[str]) -> list[str]:
    """Of one request; with several partitions their order among themselves is not promised."""
    return sorted(names) if PARTITIONS > 1 else names


def test_from_now_and_from_where_it_was(tenant: Tenant) -> None:
    tenant.record(event("before"))
    listener = Listener(tenant)
    assert listener.status == 200
    assert listener.headers["content-type"].startswith("text/event-stream")
    tenant.record(event("a", n=1), event("b"))
    first, second = listener.messages(2)
    assert in_order_sent([first.document["id"], second.document["id"]]) == ["a", "b"]
    searched = tenant.answer(f"/v1/events?id={first.document['id']}")["items"][0]
    assert first.document == searched, "as the search shows it"
    listener.go()
    tenant.record(event("c"), event("d"))
    # From any id on, the last one or one before: what came behind it, and nothing twice.
    again = Listener(tenant, last_event_id=first.id)
    assert ids(again, 3)[0] == second.document["id"]
    assert ids(again, 1, timeout_s=0.5) == []
    again.go()
    by_query = Listener(tenant, parameters={"last_event_id": second.id})
    assert in_order_sent(ids(by_query, 2)) == ["c", "d"]
    by_query.go()
    whole = Listener(tenant, **{"from": "2026-01-01T00:00:00Z"})
    assert in_order_sent(ids(whole, 5)[1:]) == ["a", "b", "c", "d"]
    whole.go()


def test_filters(tenant: Tenant) -> None:
    tenant.meter(
        key="tokens", event_type="llm", aggregation="sum", value="$.n", dimensions={"model": "$.model"}
    )
    places = {
        "type": Listener(tenant, type=["llm", "other"]),
        "customer": Listener(tenant, customer="beta"),
        "meter": Listener(tenant, meter="tokens", **{"filter[model]": "big"}),
    }
    tenant.record(
        event("1", "acme", "llm", n=1, model="small"),
        event("2", "beta", "call"),
        event("3", "acme", "llm", n=1, model="big"),
        event("4", "acme", "llm", model="big"),
        event("5", "beta", "other"),
    )
    wanted = {"type": ["1", "3", "4", "5"], "customer": ["2", "5"], "meter": ["3"]}
    heard = {name: ids(place, len(wanted[name])) for name, place in places.items()}
    assert {name: in_order_sent(names) for name, names in heard.items()} == wanted
    for place in places.values():
        assert ids(place, 1, timeout_s=0.3) == []
        place.go()


def test_a_customers_token_hears_of_the_customer_and_below(tenant: Tenant) -> None:
    for key, parent in (("acme", None), ("acme-eu", "acme"), ("beta", None)):
        tenant.post("/v1/customers", {"key": key, "parent": parent})
    made = tenant.post("/v1/portal_tokens", {"customer": "acme", "scopes": list(PORTAL_SCOPES)}).json()
    portal = Tenant(tenant.live, tenant.key, made["token"])
    listener = Listener(portal)
    tenant.record(event("1", "beta"), event("2", "acme-eu"), event("3", "acme"), event("4", "nobody"))
    assert in_order_sent(ids(listener, 2)) == ["2", "3"]
    assert ids(listener, 1, timeout_s=0.3) == []
    assert portal.get("/v1/stream?customer=beta").json()["code"] == "other_customer"
    other = Listener(tenant.live.tenant(), last_event_id="e1-1")
    assert ids(other, 1, timeout_s=0.5) == [], "another tenant's place tells nothing"
    other.go()
    # A token that is revoked hears no more.
    tenant.send("DELETE", f"/v1/portal_tokens/{made['id']}")
    tenant.record(event("5", "acme"))
    assert ids(listener, 1) == []
    assert listener.ended()


def test_what_cannot_be_listened_to(tenant: Tenant) -> None:
    tenant.meter(key="calls", event_type="call", aggregation="count")
    for path, fault in (
        ("kind=none", ("kind", "invalid_value")),
        ("last_event_id=x", ("Last-Event-ID", "invalid_position")),
        ("last_event_id=t1-5", ("Last-Event-ID", "invalid_position")),
        ("kind=transitions&last_event_id=e1-5", ("Last-Event-ID", "invalid_position")),
        ("filter[model]=x", ("meter", "missing")),
        ("meter=calls&filter[model]=x", ("filter[model]", "unknown_dimension")),
        ("x=1", ("x", "unknown_parameter")),
    ):
        assert faults(tenant.get(f"/v1/stream?{path}")) == [fault], path
    assert tenant.get("/v1/stream?meter=none").json()["code"] == "meter_not_found"


def test_no_more_than_so_many(tenant: Tenant) -> None:
    listeners = [Listener(tenant) for _ in range(3)]
    refused = tenant.get("/v1/stream")
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_streams")
    assert refused.headers["retry-after"]
    for listener in listeners:
        listener.go()
    last = Listener(tenant)
    assert last.status == 200
    last.go()


def test_many_pages_in_order_once(tenant: Tenant) -> None:
    listener = Listener(tenant)
    place = listener.place
    for part in range(3):
        tenant.record(*(event(f"{part}-{number}") for number in range(700)))
    wanted = [f"{part}-{number}" for part in range(3) for number in range(700)]
    heard = ids(listener, 2100, timeout_s=60)
    for part in range(3):
        some = slice(700 * part, 700 * (part + 1))
        if PARTITIONS > 1:
            assert sorted(heard[some]) == sorted(wanted[some])
        else:
            assert heard[some] == wanted[some]
    assert place is None
    listener.go()
    # A place within a page, and within a moment of recording.
    first = Listener(tenant, **{"from": "2026-01-01T00:00:00Z"})
    some = first.messages(701)
    first.go()
    rest = Listener(tenant, last_event_id=some[-1].id)
    assert ids(rest, 1399, timeout_s=60) == heard[701:]
    rest.go()


def test_a_place_behind_which_facts_were_deleted(tenant: Tenant) -> None:
    tenant.record(event("a", kind="short"))
    listener = Listener(tenant, **{"from": "2026-01-01T00:00:00Z"})
    [got] = listener.messages(1)
    listener.go()
    tenant.send("PUT", "/v1/retention", json={"type": "short", "keep_days": 30})
    catalog, now_us = tenant.live.system.catalog, tenant.live.clock.now_us()
    catalog.advance_forgotten(tenant.key, "short", now_us + 10**12, now_us=now_us)
    refused = tenant.get("/v1/stream", headers={"last-event-id": got.id})
    assert faults(refused) == [("Last-Event-ID", "past_retention")]
    other = Listener(tenant, last_event_id=got.id, type="call")
    assert other.status == 200
    other.go()


def test_transitions(tenant: Tenant) -> None:
    tenant.meter(key="calls", event_type="call", aggregation="count")
    tenant.meter(key="others", event_type="other", aggregation="count")
    places = {
        "all": Listener(tenant, kind="transitions"),
        "meter": Listener(tenant, kind="transitions", meter="others"),
        "type": Listener(tenant, kind="transitions", type="call", customer="acme"),
        "nobody's": Listener(tenant.live.tenant(), kind="transitions"),
    }
    for key, meter in (("a", "calls"), ("b", "others")):
        made = tenant.post(
            "/v1/alerts",
            {"key": key, "meter": meter, "window": "day", "condition": {"op": "gte", "value": "1"}},
        )
        assert made.status_code == 201, made.text
    now = "2026-07-15T12:00:00Z"
    tenant.record(event("1") | {"time": now})
    [first] = places["all"].messages(1, timeout_s=60)
    tenant.record(event("2", kind="other") | {"time": now})
    [second] = places["all"].messages(1, timeout_s=60)
    assert [(one.document["kind"], one.document["alert"]) for one in (first, second)] == [
        ("fired", "a"),
        ("fired", "b"),
    ]
    listed = tenant.answer("/v1/transitions")["items"]
    assert [second.document, first.document] == listed
    assert ids(places["meter"], 1) == [second.document["id"]]
    assert ids(places["type"], 1) == [first.document["id"]]
    assert ids(places["nobody's"], 1, timeout_s=0.3) == []
    for listener in places.values():
        listener.go()
    again = Listener(tenant, kind="transitions", last_event_id=first.id)
    assert [one.document["alert"] for one in again.messages(1)] == ["b"]
    again.go()


def test_it_ends_when_the_server_does(live: Live, tenant: Tenant) -> None:
    listener = Listener(tenant)
    live.run(_close(live))
    assert listener.ended()
    assert tenant.get("/v1/stream").status_code == 503


async def _close(live: Live) -> None:
    live.system.tails.close()
