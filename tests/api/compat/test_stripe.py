"""Stripe's own library for Python, its requests handed to the application without a socket."""

import base64
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import stripe
from tests.api.questions.live import NOW_US, Live, Tenant, opened

NOW_S = NOW_US // 1_000_000
DAY = NOW_S - NOW_S % 86_400
BASE = "http://test/stripe"


class InProcess(stripe.HTTPClient):  # pyright: ignore[reportUntypedBaseClass]
    """Sends the library's requests to a system in this process."""

    name = "in process"

    def __init__(self, live: Live) -> None:
        super().__init__()
        self.live = live

    def request(self, method: str, url: str, headers: Any, post_data: Any = None, *_: Any, **__: Any) -> Any:
        answer = self.live.send(
            method.upper(), url.removeprefix("http://test"), headers=headers, content=post_data
        )
        return answer.text, answer.status_code, dict(answer.headers)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with opened(tmp_path_factory.mktemp("stripe")) as running:
        yield running


@pytest.fixture
def tenant(live: Live) -> Tenant:
    return live.tenant()


@pytest.fixture
def client(live: Live, tenant: Tenant) -> Any:
    return client_of(live, tenant.secret)


def client_of(live: Live, key: str) -> Any:
    bases = dict.fromkeys(("api", "meter_events", "connect", "files"), BASE)
    return stripe.StripeClient(key, base_addresses=bases, http_client=InProcess(live), max_network_retries=0)


def define(client: Any, name: str = "tokens", formula: str = "sum", **members: Any) -> Any:
    return client.v1.billing.meters.create({
        "display_name": name.title(),
        "event_name": name,
        "default_aggregation": {"formula": formula},
        "customer_mapping": {"type": "by_id", "event_payload_key": "stripe_customer_id"},
        "value_settings": {"event_payload_key": "value"},
        **members,
    })  # fmt: skip


def event(identifier: str | None, value: str, customer: str = "cus_1", **members: Any) -> dict[str, Any]:
    made = {
        "event_name": "tokens",
        "payload": {"stripe_customer_id": customer, "value": value},
        "timestamp": NOW_S - 60,
        **members,
    }
    return made if identifier is None else {**made, "identifier": identifier}


def total(client: Any, meter: Any, customer: str = "cus_1") -> Any:
    (one,) = client.v1.billing.meters.event_summaries.list(
        meter.id, {"customer": customer, "start_time": DAY, "end_time": DAY + 86_400}
    ).data
    assert (one.object, one.meter) == ("billing.meter_event_summary", meter.id)
    return one.aggregated_value


def test_meters(client: Any) -> None:
    made = define(client)
    assert (made.object, made.event_name, made.display_name) == ("billing.meter", "tokens", "Tokens")
    assert made.default_aggregation.formula == "sum"
    assert made.customer_mapping.event_payload_key == "stripe_customer_id"
    assert client.v1.billing.meters.retrieve(made.id) == made
    with pytest.raises(stripe.InvalidRequestError, match="already an active meter") as refused:
        define(client)
    assert (refused.value.http_status, refused.value.code) == (400, "resource_already_exists")
    odd = define(client, "Odd name / 1", "count",
                 customer_mapping={"type": "by_id", "event_payload_key": "who"})  # fmt: skip
    assert odd.customer_mapping.event_payload_key == "who"
    for number in range(3):
        define(client, f"m{number}", "last")
    listed = [meter.id for meter in client.v1.billing.meters.list({"limit": 2}).auto_paging_iter()]
    assert len(listed) == len(set(listed)) == 5
    gone = client.v1.billing.meters.deactivate(made.id)
    assert (gone.status, gone.status_transitions.deactivated_at) == ("inactive", NOW_S)
    assert [one.id for one in client.v1.billing.meters.list({"status": "inactive"}).data] == [made.id]
    assert client.v1.billing.meters.reactivate(made.id).status == "active"
    assert client.v1.billing.meters.update(made.id, {"display_name": "T"}).display_name == "T"
    with pytest.raises(stripe.InvalidRequestError) as missing:
        client.v1.billing.meters.retrieve("mtr_none")
    assert (missing.value.http_status, missing.value.code) == (404, "resource_missing")


def test_what_is_wrong_with_a_meter(client: Any) -> None:
    for wrong, code, param in (
        ({"event_name": "x", "default_aggregation": {"formula": "sum"}}, "parameter_missing", "display_name"),
        ({"display_name": "x", "event_name": "x"}, "parameter_missing", "default_aggregation"),
        ({"display_name": "x", "event_name": "x", "default_aggregation": {"formula": "median"}}, None,
         "default_aggregation[formula]"),
        ({"display_name": "x", "event_name": "x", "default_aggregation": {"formula": "sum"}, "colour": "red"},
         "parameter_unknown", "colour"),
    ):  # fmt: skip
        with pytest.raises(stripe.InvalidRequestError) as refused:
            client.v1.billing.meters.create(wrong)
        assert (refused.value.http_status, refused.value.code, refused.value.param) == (400, code, param)


def test_events_are_counted_once(client: Any) -> None:
    meter = define(client)
    for number in range(20):
        made = client.v1.billing.meter_events.create(event(f"e{number}", "0.1"))
        assert (made.object, made.identifier, made.timestamp) == (
            "billing.meter_event", f"e{number}", NOW_S - 60)  # fmt: skip
    # Again under another Idempotency-Key, and with other contents: refused as Stripe refuses it.
    for again in (event("e3", "0.1"), event("e3", "7"), event("e3", "0.1", "cus_2")):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            client.v1.billing.meter_events.create(again)
        assert (refused.value.http_status, refused.value.code) == (400, None)
        assert refused.value.user_message == "An event already exists with identifier e3."
    # The same request again is the same answer.
    key: Any = {"idempotency_key": "k-1"}
    first = client.v1.billing.meter_events.create(event("e20", "1"), key)
    assert client.v1.billing.meter_events.create(event("e20", "1"), key) == first
    unnamed = client.v1.billing.meter_events.create(event(None, "1"), {"idempotency_key": "k-2"})
    assert client.v1.billing.meter_events.create(event(None, "1"), {"idempotency_key": "k-2"}) == unnamed
    with pytest.raises(stripe.IdempotencyError):
        client.v1.billing.meter_events.create(event("e20", "2"), key)
    with pytest.raises(stripe.IdempotencyError):
        client.v1.billing.meter_events.create(event(None, "2"), {"idempotency_key": "k-2"})
    client.v1.billing.meter_events.create(event(None, "1"))
    assert total(client, meter) == 5
    assert client.v1.billing.meter_events.create(event("e3", "9", event_name="other")).identifier == "e3"


def test_version_2(client: Any, live: Live) -> None:
    meter = define(client)
    at = "2026-07-15T11:00:00.000Z"
    made = client.v2.billing.meter_events.create(event("v1", "2", timestamp=at))
    assert (made.object, made.timestamp, made.payload["value"]) == (
        "v2.billing.meter_event", "2026-07-15T11:00:00Z", "2")  # fmt: skip
    with pytest.raises(stripe.StripeError, match="An event already exists with identifier v1"):
        client.v2.billing.meter_events.create(event("v1", "2", timestamp=at))
    session = client.v2.billing.meter_event_session.create()
    assert session.object == "v2.billing.meter_event_session"
    streaming = client_of(live, session.authentication_token)
    events = [event(f"s{number}", "0.5", timestamp=at) for number in range(50)]
    for sent in (events, events[:7], [*events[:3], event("v1", "2", timestamp=at)]):
        streaming.v2.billing.meter_event_stream.create({"events": sent})
    assert total(client, meter) == 27
    # A session may send, and nothing else.
    with pytest.raises(stripe.PermissionError):
        streaming.v1.billing.meters.list()
    with pytest.raises(stripe.TemporarySessionExpiredError):
        client_of(live, "wrong").v2.billing.meter_event_stream.create({"events": events})
    for wrong in ([], [event("x", "1", timestamp="soon")], [event("y", "1", timestamp=at), {"event_name": "z"}],
                  [event(f"n{number}", "1", timestamp=at) for number in range(101)]):  # fmt: skip
        with pytest.raises(stripe.StripeError) as refused:
            streaming.v2.billing.meter_event_stream.create({"events": wrong})
        assert refused.value.http_status == 400
    assert total(client, meter) == 27


def test_adjustments(client: Any) -> None:
    meter = define(client)
    client.v1.billing.meter_events.create(event("a", "3"))
    client.v1.billing.meter_events.create(event("b", "4"))
    client.v1.billing.meter_events.create(event("c", "5"))
    cancel: Any = {"event_name": "tokens", "type": "cancel", "cancel": {"identifier": "a"}}
    for _ in range(2):
        made = client.v1.billing.meter_event_adjustments.create(cancel)
        assert (made.object, made.status) == ("billing.meter_event_adjustment", "complete")
        assert made.cancel.identifier == "a"
    two = client.v2.billing.meter_event_adjustments.create({**cancel, "cancel": {"identifier": "b"}})
    assert (two.object, two.status) == ("v2.billing.meter_event_adjustment", "complete")
    assert total(client, meter) == 5
    with pytest.raises(stripe.InvalidRequestError, match="No event") as refused:
        client.v1.billing.meter_event_adjustments.create({**cancel, "cancel": {"identifier": "none"}})
    assert refused.value.param == "cancel[identifier]"


def test_summaries(client: Any) -> None:
    meter = define(client)
    last = define(client, "level", "last")
    count = define(client, "calls", "count")
    daily = define(client, "daily", "sum", event_time_window="day")
    assert daily.event_time_window == "day"
    for number in range(30):
        at = NOW_S - number * 3600
        client.v1.billing.meter_events.create(event(f"e{number}", str(number), timestamp=at))
    for name, values in (("level", "359"), ("calls", "111"), ("daily", "247")):
        for number, value in enumerate(values):
            client.v1.billing.meter_events.create(
                event(f"{name}{number}", value, event_name=name, timestamp=NOW_S - 10 + number)
            )
    assert [total(client, one) for one in (last, count, daily)] == [9, 3, 7]
    asked: Any = {"customer": "cus_1", "start_time": DAY - 2 * 86_400, "end_time": DAY + 86_400}
    summaries = client.v1.billing.meters.event_summaries
    hours = list(
        summaries.list(meter.id, {**asked, "value_grouping_window": "hour", "limit": 7}).auto_paging_iter()
    )
    assert [one.aggregated_value for one in hours] == list(range(30))
    assert (hours[1].start_time, hours[1].end_time) == (NOW_S - 3600, NOW_S)
    days = summaries.list(meter.id, {**asked, "value_grouping_window": "day"}).data
    assert [one.aggregated_value for one in days] == [sum(range(13)), sum(range(13, 30))]
    assert summaries.list(meter.id, asked).data[0].aggregated_value == sum(range(30))
    for wrong, param in (
        ({**asked, "start_time": DAY + 1}, "start_time"),
        ({**asked, "start_time": DAY + 60, "value_grouping_window": "hour"}, "start_time"),
        ({**asked, "end_time": DAY - 3 * 86_400}, "end_time"),
        ({**asked, "value_grouping_window": "week"}, "value_grouping_window"),
        ({**asked, "customer": "cus_none"}, "customer"),
        ({"customer": "cus_1", "end_time": DAY}, "start_time"),
    ):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            summaries.list(meter.id, wrong)
        assert (refused.value.http_status, refused.value.param) == (400, param)


def test_customers(client: Any, tenant: Tenant) -> None:
    key: Any = {"idempotency_key": "c-1"}
    made = client.v1.customers.create(
        {"name": "Acme", "email": "a@acme.example", "metadata": {"a": "1"}}, key
    )
    assert made.id.startswith("cus_")
    assert (
        client.v1.customers.create({"name": "Acme", "email": "a@acme.example", "metadata": {"a": "1"}}, key)
        == made
    )
    with pytest.raises(stripe.IdempotencyError):
        client.v1.customers.create({"name": "Other"}, key)
    assert client.v1.customers.retrieve(made.id) == made
    changed = client.v1.customers.update(made.id, {"description": "d", "metadata": {"a": "", "b": "2"}})
    assert (changed.description, changed.metadata.to_dict(), changed.name) == ("d", {"b": "2"}, "Acme")
    others = [client.v1.customers.create().id for _ in range(3)]
    listed = [one.id for one in client.v1.customers.list({"limit": 2}).auto_paging_iter()]
    assert listed == [*reversed(others), made.id]
    assert [one.id for one in client.v1.customers.list({"email": "a@acme.example"}).data] == [made.id]
    assert client.v1.customers.delete(others[0]).deleted
    assert client.v1.customers.retrieve(others[0]).deleted
    with pytest.raises(stripe.InvalidRequestError, match="No such customer: 'cus_none'"):
        client.v1.customers.retrieve("cus_none")
    # A customer of ours that has an id of Stripe's.
    tenant.post("/v1/customers", {"key": "beta", "external_ids": {"stripe": "cus_beta"}})
    assert client.v1.customers.retrieve("cus_beta").id == "cus_beta"
    meter = define(client)
    client.v1.billing.meter_events.create(event("x", "5", "cus_beta"))
    client.v1.billing.meter_events.create(event("y", "2", made.id))
    assert total(client, meter, "cus_beta") == 5
    assert total(client, meter, made.id) == 2
    assert total(client, meter, others[1]) == 0
    answer = tenant.answer(
        "/v1/meters/tokens/usage?customer=beta&from=2026-07-15T00:00:00Z&to=2026-07-16T00:00:00Z"
    )
    assert answer["rows"][0]["value"] == "5"


def test_customers_are_found(live: Live, client: Any) -> None:
    first = int(live.clock.now_us() // 1_000_000)
    for name, team in (("Ann", "red"), ("Bob", "blue"), ("O'Hara", "red")):
        email = f"{name[0].lower()}@b.example"
        client.v1.customers.create({"name": name, "email": email, "metadata": {"team": team}})
        live.clock.advance(seconds=10)

    def found(query: str) -> list[str]:
        return [one.name for one in client.v1.customers.search({"query": query}).data]

    assert found("email:'a@b.example'") == ["Ann"]
    assert found("metadata['team']:'red'") == ["O'Hara", "Ann"]
    assert found("""metadata["team"]:"red" AND name:'o\\'hara'""") == ["O'Hara"]
    assert found("name~'har' OR name:'bob'") == ["O'Hara", "Bob"]
    assert found("-metadata['team']:'red' -phone:'1'") == ["Bob"]
    assert found("metadata['none']:null") == ["O'Hara", "Bob", "Ann"]
    assert found(f"created>{first} created<={first + 10}") == ["Bob"]
    pages = client.v1.customers.search({"query": "email~'b.example'", "limit": 2})
    assert [one.name for one in pages.auto_paging_iter()] == ["O'Hara", "Bob", "Ann"]
    listed = client.v1.customers.list({"created": {"gte": first + 10, "lt": first + 20}})
    assert [one.name for one in listed.data] == ["Bob"]
    assert [one.name for one in client.v1.customers.list({"created": first}).data] == ["Ann"]
    for wrong in ("", "colour:'red'", "name:red", "name~'a'", "name>'a'", "metadata:'a'",
                  "name:'a' AND email:'b' OR phone:'c'", "name:'a' AND", "name:'a"):  # fmt: skip
        with pytest.raises(stripe.InvalidRequestError) as refused:
            client.v1.customers.search({"query": wrong})
        assert (refused.value.http_status, refused.value.param) == (400, "query")


def test_what_is_wrong_with_an_event(client: Any) -> None:
    define(client)
    good = event("g", "1")
    for wrong, param in (
        ({**good, "event_name": None}, "event_name"),
        ({**good, "payload": {"value": "1"}}, "payload[stripe_customer_id]"),
        ({**good, "payload": {"stripe_customer_id": "cus_1"}}, "payload[value]"),
        ({**good, "payload": {"stripe_customer_id": "cus_1", "value": "many"}}, "payload[value]"),
        ({**good, "timestamp": "soon"}, "timestamp"),
        ({**good, "timestamp": NOW_S + 7200}, "timestamp"),
        ({**good, "identifier": "x" * 101}, "identifier"),
    ):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            client.v1.billing.meter_events.create({k: v for k, v in wrong.items() if v is not None})
        assert (refused.value.http_status, refused.value.param) == (400, param), wrong


def test_keys(live: Live, client: Any, tenant: Tenant) -> None:
    meter = define(client)
    with pytest.raises(stripe.AuthenticationError):
        client_of(live, "sk_wrong").v1.billing.meters.list()
    reader = tenant.with_scopes("meters:read")
    assert len(client_of(live, reader.secret).v1.billing.meters.list().data) == 1
    with pytest.raises(stripe.PermissionError):
        define(client_of(live, reader.secret), "more")
    basic = "Basic " + base64.b64encode(f"{tenant.secret}:".encode()).decode()
    answer = live.send("GET", "/stripe/v1/billing/meters", headers={"authorization": basic})
    assert [one["id"] for one in answer.json()["data"]] == [meter.id]
    other = client_of(live, live.tenant().secret)
    assert other.v1.billing.meters.list().data == []
    with pytest.raises(stripe.InvalidRequestError):
        other.v1.billing.meters.retrieve(meter.id)
    for customer, value in itertools.zip_longest(("cus_1", "cus_2"), "12"):
        client.v1.billing.meter_events.create(event(customer, value, customer))
    total(client, meter)
    made = tenant.post("/v1/portal_tokens", {"customer": "cus_1", "scopes": ["usage:read"]}).json()
    portal = client_of(live, made["token"])
    assert total(portal, meter) == 1
    with pytest.raises(stripe.PermissionError):
        total(portal, meter, "cus_2")
    answer = tenant.get("/stripe/v1/nothing")
    assert (answer.status_code, answer.json()["error"]["message"]) == (
        404, "Unrecognized request URL (/v1/nothing).")  # fmt: skip
