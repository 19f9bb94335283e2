"""Channels that are told of every event that is recorded: which of them, how many at once, and to whom."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.api.questions.live import NOW, Live, Tenant, faults, opened
from tests.delivery.receiver import Receiver, receiving, wait_until

from tallystick.catalog.scopes import PORTAL_SCOPES

SETTINGS: dict[str, Any] = {
    "webhook_allow_private": "true",
    "secrets_key": "k",
    "delivery_time_s_max": 2,
    "delivery_retry_s": "0,0,0,0,0,0",
}


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture(scope="module")
def open_live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with opened(tmp_path_factory.mktemp("feed"), **SETTINGS) as live:
        yield live


@pytest.fixture
def tenant(open_live: Live, receiver: Receiver) -> Tenant:
    receiver.answers.clear()
    receiver.received.clear()
    made = open_live.tenant()
    made.meter(
        key="calls", event_type="call", aggregation="sum", value="$.n", dimensions={"model": "$.model"}
    )
    return made


def channel(tenant: Tenant, **members: Any) -> dict[str, Any]:
    made = tenant.post("/v1/channels", {"key": "feed", "type": "webhook", "events": ["event"], **members})
    assert made.status_code == 201, made.text
    return made.json()


def event(name: str, *, subject: str = "acme", kind: str = "call", **data: Any) -> dict[str, Any]:
    return {"id": name, "type": kind, "subject": subject, "time": NOW, "data": {"n": 1, **data}}


def told(receiver: Receiver, count: int, path: str = "/feed") -> list[str]:
    """The events that have arrived, once there are so many."""

    def look() -> list[str] | None:
        found = [one for got in receiver.received if got.path == path for one in events_of(got.document)]
        return found if len(found) >= count else None

    found = wait_until(look)
    assert found is not None, [got.path for got in receiver.received]
    return found


def events_of(document: dict[str, Any]) -> list[str]:
    assert document["type"] == "event.recorded"
    data = document["data"]
    return [one["id"] for one in data["events"]] if "events" in data else [data["id"]]


def test_each_event_arrives_as_search_shows_it(tenant: Tenant, receiver: Receiver) -> None:
    tenant.record(event("before"))
    made = channel(tenant, url=receiver.url("/feed"))
    assert (made["match"], made["batch"]) == (None, 1)
    tenant.record(event("a", note="x"), event("b", subject="beta", kind="other"))
    tenant.record(event("a", note="x"))  # the same once more is no event
    tenant.live.tenant().record(event("of another tenant"))
    assert sorted(told(receiver, 2)) == ["a", "b"]
    (first,) = (got.document for got in receiver.received if events_of(got.document) == ["a"])
    (shown,) = (
        one for one in tenant.answer("/v1/events", params={"type": "call"})["items"] if one["id"] == "a"
    )
    shown.pop("status")
    assert first["data"] == shown
    assert (first["customer"], first["summary"]) == ("acme", "call of acme was recorded.")
    kinds = {one["kind"] for one in tenant.answer("/v1/deliveries")["items"]}
    assert kinds == {"event.recorded"}


def test_those_that_match_and_many_at_once(tenant: Tenant, receiver: Receiver) -> None:
    match = {"meter": "calls", "filter": {"model": "big"}, "customer": ["acme"]}
    made = channel(tenant, url=receiver.url("/feed"), match=match, batch=10)
    assert made["match"] == match | {"type": []}
    tenant.record(
        event("no-model"),
        event("small", model="small"),
        event("beta", subject="beta", model="big"),
        event("acme-other", kind="other", model="big"),
        *(event(f"big-{number:02}", model="big") for number in range(25)),
    )
    assert sorted(told(receiver, 25)) == [f"big-{number:02}" for number in range(25)]
    sizes = [len(events_of(got.document)) for got in receiver.received]
    assert max(sizes) == 10
    assert len(sizes) < 10


def test_everything_else_is_not_told_of_events(tenant: Tenant, receiver: Receiver) -> None:
    channel(tenant, key="all", url=receiver.url("/all"), events=["*"])
    channel(tenant, url=receiver.url("/feed"), events=["event.recorded"])
    tenant.record(event("a"))
    assert told(receiver, 1) == ["a"]
    assert [got.path for got in receiver.received] == ["/feed"]


def test_a_customer_is_told_of_its_own(tenant: Tenant, receiver: Receiver) -> None:
    for key, parent in (("acme", None), ("acme-eu", "acme"), ("beta", None)):
        tenant.post("/v1/customers", {"key": key, "parent": parent})
    token = tenant.post("/v1/portal_tokens", {"customer": "acme", "scopes": list(PORTAL_SCOPES)}).json()
    acme = Tenant(tenant.live, tenant.key, token["token"])
    channel(acme, key="acme.feed", url=receiver.url("/feed"))
    tenant.record(event("a"), event("b", subject="beta"), event("eu", subject="acme-eu"))
    assert sorted(told(receiver, 2)) == ["a", "eu"]
    other = {"key": "x", "type": "webhook", "url": receiver.url("/x"), "events": ["event"]}
    assert acme.post("/v1/channels", other | {"match": {"customer": ["beta"]}}).status_code == 403
    blind = tenant.post("/v1/portal_tokens", {"customer": "acme", "scopes": ["alerts:write"]}).json()["token"]
    refused = Tenant(tenant.live, tenant.key, blind).post("/v1/channels", other)
    assert (refused.status_code, refused.json()["code"]) == (403, "missing_scope")


def test_what_is_refused(tenant: Tenant, receiver: Receiver) -> None:
    base = {"key": "x", "type": "webhook", "url": receiver.url("/x")}
    wrong = tenant.post("/v1/channels", base | {"match": {"filter": {"model": "a"}, "nope": 1}, "batch": 501})
    assert {"/match/meter", "/match/nope", "/batch"} <= {pointer for pointer, _ in faults(wrong)}
    assert ("/batch", "invalid_value") in faults(tenant.post("/v1/channels", base | {"batch": 5}))
    mail = {"key": "x", "type": "email", "to": "a@example.com", "events": ["event"]}
    assert ("/events", "invalid_value") in faults(tenant.post("/v1/channels", mail))
    wanted = base | {"events": ["event"]}
    assert tenant.post("/v1/channels", wanted | {"match": {"meter": "nope"}}).status_code == 404
    assert (
        tenant.post("/v1/channels", wanted | {"match": {"meter": "calls", "filter": {"x": "y"}}}).status_code
        == 422
    )
