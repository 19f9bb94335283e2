"""Channels and deliveries over HTTP: shapes, secrets, who sees what, and messages that arrive."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook
from tests.api.questions.live import Live, Tenant, faults, opened
from tests.delivery.receiver import Answer, Receiver, receiving, wait_until

from tallystick.catalog.delivering import Notice
from tallystick.catalog.scopes import PORTAL_SCOPES

GIVEN = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture(scope="module")
def open_live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server that may reach this machine, and seals its secrets."""
    directory = tmp_path_factory.mktemp("channels")
    with opened(directory, webhook_allow_private="true", secrets_key="k", delivery_time_s_max=2) as live:
        yield live


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture
def tenant(open_live: Live, receiver: Receiver) -> Tenant:
    receiver.answers.clear()
    receiver.received.clear()
    return open_live.tenant()


def portal(tenant: Tenant, customer: str) -> Tenant:
    made = tenant.post("/v1/portal_tokens", {"customer": customer, "scopes": list(PORTAL_SCOPES)})
    assert made.status_code == 201, made.text
    return Tenant(tenant.live, tenant.key, made.json()["token"])


def create(tenant: Tenant, **members: Any) -> Any:
    made = tenant.post("/v1/channels", {"key": "ops", "type": "webhook", **members})
    assert made.status_code == 201, made.text
    return made.json()


def tell(tenant: Tenant, name: str, *channels: str, **members: Any) -> None:
    system = tenant.live.system
    assert system.outbox is not None
    values: dict[str, Any] = {"summary": name, "data": {}, "kind": "alert.fired", **members}
    now_us = system.clock.now_us()
    notice = Notice(tenant=tenant.key, id=name, at_us=now_us, channels=channels, **values)
    system.outbox.catalog.enqueue(notice, now_us=now_us)


def settled(tenant: Tenant, path: str = "/v1/deliveries") -> list[Any]:
    """The deliveries, once none waits for its first attempt."""

    def look() -> Any:
        items = tenant.answer(path)["items"]
        return items if items and all(one["last_status"] or one["last_error"] for one in items) else None

    return wait_until(look) or []


def test_a_secret_is_made_shown_once_and_signs(tenant: Tenant, receiver: Receiver) -> None:
    made = create(tenant, name="Operations", url=receiver.url("/a"), events=["alert.*"])
    assert made["secret"].startswith("whsec_")
    assert {"key", "name", "type", "url", "events"} <= made.keys()
    got = tenant.get("/v1/channels/ops")
    assert "secret" not in got.json()
    assert made["secret"] not in tenant.get("/v1/channels").text + tenant.get("/v1/audit").text + got.text
    tested = tenant.post("/v1/channels/ops/test").json()
    assert (tested["status"], tested["kind"], tested["last_status"]) == ("delivered", "channel.test", 200)
    tell(tenant, "n1")
    first, second = receiver.wait_for(2, "/a")
    for one in (first, second):
        # The library holds the timestamp against the real clock, the server's stands still.
        assert Webhook(made["secret"]).sign(one.id, _moment(one), one.body.decode()) in one.headers[
            "webhook-signature"
        ].split(" ")
    assert first.id == tested["id"]
    listed = settled(tenant)
    assert [one["kind"] for one in listed] == ["alert.fired", "channel.test"]
    assert [
        one["id"]
        for one in tenant.answer("/v1/deliveries?kind=alert.fired&channel=ops&status=delivered")["items"]
    ] == [second.id]
    whole = tenant.answer(f"/v1/deliveries/{second.id}")
    assert whole["payload"]["type"] == "alert.fired"
    assert whole["attempts"][0]["request_headers"]["webhook-id"] == second.id
    again = tenant.post(f"/v1/deliveries/{second.id}/resend")
    assert (again.status_code, again.json()["status"]) == (202, "pending")
    assert receiver.wait_for(3, "/a")[2].id == second.id


def _moment(received: Any) -> Any:
    return datetime.fromtimestamp(int(received.headers["webhook-timestamp"]), UTC)


def test_a_secret_that_is_brought_and_one_that_takes_turns(tenant: Tenant, receiver: Receiver) -> None:
    assert create(tenant, url=receiver.url("/b"), secret=GIVEN)["secret"] is None
    rotated = tenant.post("/v1/channels/ops/rotate", {"overlap_seconds": 60})
    assert rotated.status_code == 201
    new = rotated.json()["secret"]
    tenant.post("/v1/channels/ops/test")
    [got] = receiver.wait_for(1, "/b")
    signatures = got.headers["webhook-signature"].split(" ")
    assert signatures == [Webhook(one).sign(got.id, _moment(got), got.body.decode()) for one in (new, GIVEN)]
    tenant.live.clock.advance(seconds=61)
    tenant.post("/v1/channels/ops/test")
    assert len(receiver.wait_for(2, "/b")[1].headers["webhook-signature"].split(" ")) == 1
    keyed = {"idempotency-key": "k1"}
    body = {"overlap_seconds": 0}
    assert tenant.post("/v1/channels/ops/rotate", body, headers=keyed).json()["secret"]
    replayed = tenant.post("/v1/channels/ops/rotate", body, headers=keyed)
    assert (replayed.json()["secret"], replayed.headers["idempotent-replayed"]) == (None, "true")


def test_ed25519(tenant: Tenant, receiver: Receiver) -> None:
    made = create(tenant, url=receiver.url("/e"), signature="ed25519")
    assert made["secret"].startswith("whsk_")
    assert made["public_key"].startswith("whpk_")
    tenant.post("/v1/channels/ops/test")
    [got] = receiver.wait_for(1, "/e")
    assert got.headers["webhook-signature"].startswith("v1a,")


def test_changing_and_deleting(tenant: Tenant, receiver: Receiver) -> None:
    create(tenant, url=receiver.url("/c"))
    found = tenant.get("/v1/channels/ops")
    etag = found.headers["etag"]
    assert tenant.get("/v1/channels/ops", headers={"if-none-match": etag}).status_code == 304
    body = {"name": "New", "url": receiver.url("/d"), "ordered": True}
    changed = tenant.send("PUT", "/v1/channels/ops", json=body, headers={"if-match": etag})
    assert (changed.status_code, changed.json()["name"], changed.json()["ordered"]) == (200, "New", True)
    assert "secret" not in changed.json()
    late = tenant.send("PUT", "/v1/channels/ops", json=body, headers={"if-match": etag})
    assert late.status_code == 412
    assert faults(tenant.send("PUT", "/v1/channels/ops", json={"type": "slack", "url": "https://e.com"})) == [
        ("/type", "invalid_value")
    ]
    disabled = tenant.send("PUT", "/v1/channels/ops", json={**body, "enabled": False})
    assert disabled.json()["enabled"] is False
    assert tenant.post("/v1/channels/ops/test").json()["code"] == "channel_disabled"
    assert tenant.send("DELETE", "/v1/channels/ops").status_code == 204
    assert tenant.get("/v1/channels/ops").json()["code"] == "channel_not_found"
    actions = [one["action"] for one in tenant.answer("/v1/audit")["items"] if "channel" in one["resource"]]
    assert actions == ["channel.delete", "channel.change", "channel.change", "channel.create"]


def test_all_that_is_wrong_is_said_at_once(tenant: Tenant) -> None:
    refused = tenant.post("/v1/channels", {"key": "!", "type": "fax", "ordered": 1, "x": 1})
    assert set(faults(refused)) == {
        ("/key", "invalid_key"),
        ("/type", "invalid_value"),
        ("/ordered", "invalid_value"),
        ("/x", "unknown_member"),
    }
    refused = tenant.post(
        "/v1/channels",
        {"key": "a", "type": "webhook", "url": "ftp://e.com", "secret": "x", "events": ["Alert"]},
    )
    assert set(faults(refused)) == {
        ("/url", "invalid_url"),
        ("/events/0", "invalid_value"),
        ("/secret", "invalid_secret"),
    }
    refused = tenant.post("/v1/channels", {"key": "a", "type": "email", "to": ["a@example.com", "b"]})
    assert faults(refused) == [("/to/1", "invalid_email")]
    assert faults(tenant.post("/v1/channels", {"key": "a", "type": "slack"})) == [("/url", "missing")]
    create(tenant, type="email", to="a@example.com")
    assert tenant.post("/v1/channels", {"key": "ops", "type": "email", "to": "a@b.c"}).status_code == 409
    assert tenant.post("/v1/channels/ops/rotate").json()["code"] == "channel_unsigned"


def test_a_customer_has_channels_of_its_own(tenant: Tenant, receiver: Receiver) -> None:
    for key, parent in (("acme", None), ("acme-eu", "acme"), ("beta", None)):
        tenant.post("/v1/customers", {"key": key, "parent": parent})
    acme, beta = portal(tenant, "acme"), portal(tenant, "beta")
    create(tenant, key="ours", url=receiver.url("/ours"), events=["*"])
    made = create(acme, key="theirs", url=receiver.url("/acme"), events=["*"])
    assert made["customer"] == "acme"
    create(beta, key="betas", url=receiver.url("/beta"), events=["*"])
    assert (
        create(acme, key="eu", url=receiver.url("/eu"), customer="acme-eu", events=["*"])["customer"]
        == "acme-eu"
    )
    refused = acme.post(
        "/v1/channels", {"key": "x", "type": "webhook", "url": receiver.url(), "customer": "beta"}
    )
    assert (refused.status_code, refused.json()["code"]) == (403, "other_customer")

    assert [one["key"] for one in acme.answer("/v1/channels")["items"]] == ["eu", "theirs"]
    assert len(tenant.answer("/v1/channels")["items"]) == 4
    for method, path in (
        ("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "/rotate"), ("POST", "/test"),
    ):  # fmt: skip
        for key in ("ours", "betas"):
            body = {} if method in ("PUT", "POST") else None
            answer = acme.send(method, f"/v1/channels/{key}{path}", json=body)
            assert (answer.status_code, answer.json()["code"]) == (404, "channel_not_found"), (method, key)

    tell(tenant, "about-eu", customer="acme-eu")
    tell(tenant, "about-all")
    assert receiver.wait_for(2, "/ours")
    assert {one.document["id"] for one in receiver.wait_for(1, "/acme")} == {"about-eu"}
    assert {one.document["id"] for one in receiver.wait_for(1, "/eu")} == {"about-eu"}
    assert receiver.at("/beta") == []
    settled(tenant)
    assert {one["channel"] for one in acme.answer("/v1/deliveries")["items"]} == {"theirs", "eu"}
    assert beta.answer("/v1/deliveries")["items"] == []
    hidden = tenant.answer("/v1/deliveries?channel=ours")["items"][0]["id"]
    assert acme.get(f"/v1/deliveries/{hidden}").status_code == 404
    assert acme.post(f"/v1/deliveries/{hidden}/resend").status_code == 404
    assert acme.get("/v1/deliveries?customer=beta").status_code == 403
    other = tenant.live.tenant()
    assert other.get(f"/v1/deliveries/{hidden}").status_code == 404
    assert other.answer("/v1/channels")["items"] == []


def test_one_that_fails_says_why(tenant: Tenant, receiver: Receiver) -> None:
    receiver.answers["/f"] = Answer(500, body=b"out of order")
    create(tenant, url=receiver.url("/f"))
    tested = tenant.post("/v1/channels/ops/test").json()
    assert (tested["status"], tested["last_error"], tested["last_status"]) == ("pending", "status", 500)
    assert tested["attempts"][0]["answer"] == "out of order"
    assert tested["next_attempt_at"] is not None
