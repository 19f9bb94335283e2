"""Limits and the gate over HTTP: what is answered, and that figures agree with usage."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.api.questions.live import NOW, Live, Tenant, opened

from tallystick.errors import Unavailable


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    directory: Path = tmp_path_factory.mktemp("gate")
    with opened(directory) as system:
        yield system


@pytest.fixture
def tenant(live: Live) -> Tenant:
    made = live.tenant()
    made.post("/v1/customers", {"key": "acme"})
    made.post("/v1/customers", {"key": "beta"})
    made.meter(
        key="tokens", event_type="llm", aggregation="sum", value="$.n", dimensions={"model": "$.model"}
    )
    return made


def a_limit(tenant: Tenant, **members: Any) -> dict[str, Any]:
    whole = {"key": "daily", "customer": "acme", "meter": "tokens", "amount": "100", "period": "day"}
    response = tenant.post("/v1/limits", whole | members)
    assert response.status_code == 201, response.text
    return response.json()


def use(number: str, amount: int, **members: Any) -> dict[str, Any]:
    event = {"id": number, "type": "llm", "subject": "acme", "time": NOW, "data": {"n": amount}}
    return event | members


def ask(tenant: Tenant, amount: Any, **members: Any) -> dict[str, Any]:
    response = tenant.post("/v1/check", {"customer": "acme", "meter": "tokens", "amount": amount} | members)
    assert response.status_code == 200, response.text
    return response.json()


def figures(receipt: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(receipt[name] for name in ("allowed", "limit", "used", "held", "remaining", "rule"))


def test_a_check_without_a_limit_is_allowed(tenant: Tenant) -> None:
    receipt = ask(tenant, "5")
    assert figures(receipt) == (True, None, None, None, None, None)
    assert receipt["reason"] == "no_limit"


def test_usage_that_was_never_reserved_counts(tenant: Tenant) -> None:
    a_limit(tenant)
    tenant.record(use("1", 60))
    assert figures(ask(tenant, 40)) == (True, "100", "60", "0", "40", "daily")
    tenant.record(use("2", 30))
    receipt = ask(tenant, "10.000000000000000001")
    assert figures(receipt) == (False, "100", "90", "0", "10", "daily")
    assert receipt["reason"] == "limit_exceeded"
    assert receipt["reset_at"] == "2026-07-16T00:00:00Z"


def test_a_reservation_is_held_settled_and_billed_once(tenant: Tenant) -> None:
    a_limit(tenant)
    made = tenant.post("/v1/reservations", {"customer": "acme", "meter": "tokens", "amount": "70"})
    assert made.status_code == 201, made.text
    held = made.json()
    assert (held["allowed"], held["held"], held["remaining"], held["state"]) == (True, "70", "30", "held")
    refused = tenant.post("/v1/reservations", {"customer": "acme", "meter": "tokens", "amount": "31"})
    assert refused.status_code == 409
    assert (refused.json()["code"], refused.json()["remaining"]) == ("limit_exceeded", "30")
    settled = tenant.post(f"/v1/reservations/{held['id']}/settle", {"amount": 50})
    assert settled.status_code == 200, settled.text
    receipt = settled.json()
    assert receipt["enforce"] == "hard"
    assert (receipt["used"], receipt["held"], receipt["remaining"]) == ("50", "0", "50")
    again = tenant.post(f"/v1/reservations/{held['id']}/settle", {"amount": "50.0"})
    assert again.json() | {"counted": None} == receipt | {"counted": None}
    other = tenant.post(f"/v1/reservations/{held['id']}/settle", {"amount": 49})
    assert (other.status_code, other.json()["code"]) == (409, "already_settled")
    usage = tenant.answer(
        f"/v1/meters/tokens/usage?customer=acme&from=2026-07-15T00:00:00Z&to=2026-07-16T00:00:00Z"
        f"&min_position={receipt['position']}"
    )
    assert usage["rows"][0]["value"] == "50"
    assert ask(tenant, 50)["allowed"]
    assert figures(ask(tenant, 51)) == (False, "100", "50", "0", "50", "daily")


def test_more_than_reserved_is_checked(tenant: Tenant) -> None:
    a_limit(tenant)
    held = tenant.post("/v1/reservations", {"customer": "acme", "meter": "tokens", "amount": 60}).json()
    path = f"/v1/reservations/{held['id']}"
    refused = tenant.post(f"{path}/settle", {"amount": 101})
    assert (refused.status_code, refused.json()["code"]) == (409, "limit_exceeded")
    assert tenant.answer(path)["state"] == "held"
    assert tenant.post(f"{path}/settle", {"amount": 100}).status_code == 200


def test_a_reservation_ends_and_is_released(live: Live, tenant: Tenant) -> None:
    a_limit(tenant)
    body = {"customer": "acme", "meter": "tokens", "amount": 60, "ttl_seconds": 5}
    first = tenant.post("/v1/reservations", body).json()
    second = tenant.post("/v1/reservations", body | {"amount": 40, "ttl_seconds": 600}).json()
    assert ask(tenant, 1)["allowed"] is False
    live.clock.advance(seconds=6)
    assert figures(ask(tenant, 60)) == (True, "100", "0", "40", "60", "daily")
    late = tenant.post(f"/v1/reservations/{first['id']}/settle", {"amount": 60})
    assert (late.status_code, late.json()["code"]) == (409, "reservation_expired")
    for _ in range(2):
        released = tenant.post(f"/v1/reservations/{second['id']}/release")
        assert released.status_code == 200, released.text
        assert (released.json()["state"], released.json()["remaining"]) == ("released", "100")
    settled = tenant.post(f"/v1/reservations/{second['id']}/settle", {"amount": 1})
    assert settled.json()["code"] == "already_released"


def test_the_callers_event_is_recorded_in_the_same_step(tenant: Tenant) -> None:
    a_limit(tenant)
    held = tenant.post("/v1/reservations", {"customer": "acme", "meter": "tokens", "amount": 9}).json()
    path = f"/v1/reservations/{held['id']}/settle"
    for event, code in (
        (use("x", 8), "event_amount_differs"),
        (use("x", 9, subject="beta"), "event_of_another_customer"),
        (use("x", 9, type="other"), "event_counts_nothing"),
        ({"id": "x"}, "missing_type"),
    ):
        refused = tenant.post(path, {"amount": "9", "event": event})
        assert (refused.status_code, refused.json()["code"]) == (422, code)
    settled = tenant.post(path, {"amount": "9", "event": use("x", 9)})
    assert settled.status_code == 200, settled.text
    tenant.answer(f"/v1/meters/tokens/usage?min_position={settled.json()['position']}")
    found = tenant.answer("/v1/events?customer=acme")
    assert [one["id"] for one in found["items"]] == ["x"]


def test_of_several_limits_all_must_hold_and_the_tightest_answers(tenant: Tenant) -> None:
    a_limit(tenant)
    a_limit(tenant, key="large", amount="10", filter={"model": "large"})
    a_limit(tenant, key="soft", amount="5", enforce="soft", customer="*")
    assert figures(ask(tenant, 4))[-1] == "soft"
    assert ask(tenant, 6)["reason"] == "over_soft_limit"
    assert ask(tenant, 11)["allowed"]
    refused = ask(tenant, 11, dimensions={"model": "large"})
    assert (refused["allowed"], refused["rule"]) == (False, "large")
    held = tenant.post(
        "/v1/reservations",
        {"customer": "acme", "meter": "tokens", "amount": 10, "dimensions": {"model": "large"}},
    ).json()
    wrong = tenant.post(f"/v1/reservations/{held['id']}/settle", {"amount": 3, "event": use("w", 3)})
    assert wrong.json()["code"] == "event_dimensions_differ"
    assert tenant.post(f"/v1/reservations/{held['id']}/settle", {"amount": 3}).status_code == 200
    left = ask(tenant, 8, dimensions={"model": "large"})
    assert (left["allowed"], left["rule"], left["remaining"]) == (False, "large", "7")
    tenant.record(use("late", 5, data={"n": 5, "model": "large"}))
    assert ask(tenant, 3, dimensions={"model": "large"})["remaining"] == "2"


def test_corrections_give_back(tenant: Tenant) -> None:
    a_limit(tenant)
    tenant.record(use("1", 60), use("2", 40))
    assert ask(tenant, 1)["allowed"] is False
    corrected = tenant.post(
        "/v1/events/corrections", {"reason": "wrong", "retract": [{"source": "/", "id": "2"}]}
    )
    assert corrected.status_code == 200, corrected.text
    assert figures(ask(tenant, 40)) == (True, "100", "60", "0", "40", "daily")


def test_rolling_windows_let_go(live: Live, tenant: Tenant) -> None:
    a_limit(tenant, key="rolling", period="rolling:PT5H")
    tenant.record(use("1", 60, time="2026-07-15T08:30:00Z"), use("2", 30))
    receipt = ask(tenant, 10)
    assert figures(receipt) == (True, "100", "90", "0", "10", "rolling")
    assert receipt["reset_at"] == "2026-07-15T13:31:00Z"
    live.clock.advance(seconds=5460)
    try:
        assert ask(tenant, 10)["remaining"] == "70"
    finally:
        live.clock.advance(seconds=-5460)


def test_raises_and_carry_over(tenant: Tenant) -> None:
    a_limit(tenant)
    assert ask(tenant, 110)["allowed"] is False
    raised = tenant.post(
        "/v1/limits/daily/raises", {"customer": "acme", "amount": "10", "until": "2026-07-16T00:00:00Z"}
    )
    assert raised.status_code == 201, raised.text
    assert figures(ask(tenant, 110)) == (True, "110", "0", "0", "110", "daily")
    assert [one["amount"] for one in tenant.answer("/v1/limits/daily/raises")["items"]] == ["10"]
    assert tenant.post("/v1/limits/daily/raises", {"customer": "acme", "amount": 0}).status_code == 422


def test_limits_are_changed_with_their_version(tenant: Tenant) -> None:
    a_limit(tenant)
    read = tenant.get("/v1/limits/daily")
    assert tenant.get("/v1/limits/daily", headers={"if-none-match": read.headers["etag"]}).status_code == 304
    stale = tenant.send("PATCH", "/v1/limits/daily", json={"amount": 5}, headers={"if-match": '"x"'})
    assert stale.status_code == 412
    changed = tenant.send("PATCH", "/v1/limits/daily", json={"amount": 5})
    assert changed.json()["amount"] == "5"
    assert ask(tenant, 6)["allowed"] is False
    assert tenant.post("/v1/limits", {"key": "daily", "customer": "acme", "meter": "tokens", "amount": 1,
                                      "period": "day"}).json()["code"] == "limit_exists"  # fmt: skip
    wrong = tenant.post("/v1/limits", {"key": "?", "amount": -1, "period": "fortnight"})
    assert wrong.status_code == 422
    assert {fault["pointer"] for fault in wrong.json()["errors"]} == {
        "/key", "/customer", "/meter", "/amount", "/period"
    }  # fmt: skip
    assert tenant.send("DELETE", "/v1/limits/daily").status_code == 204
    assert ask(tenant, 6)["reason"] == "no_limit"
    assert tenant.get("/v1/limits/daily").status_code == 404


def test_what_cannot_be_asked(tenant: Tenant) -> None:
    tenant.meter(key="users", event_type="llm", aggregation="unique_count", value="$.user")
    for body, status, code in (
        ({"customer": "nobody", "meter": "tokens", "amount": 1}, 404, "customer_not_found"),
        ({"customer": "acme", "meter": "nothing", "amount": 1}, 404, "meter_not_found"),
        ({"customer": "acme", "meter": "tokens", "amount": 0}, 422, "too_small"),
        ({"customer": "acme", "meter": "tokens", "amount": "1e30"}, 422, "number_out_of_range"),
        ({"customer": "acme", "meter": "tokens"}, 422, "missing"),
    ):
        for path in ("/v1/check", "/v1/reservations"):
            refused = tenant.post(path, body)
            assert (refused.status_code, refused.json()["code"]) == (status, code), path
    refused = tenant.post("/v1/reservations", {"customer": "acme", "meter": "users", "amount": 1})
    assert (refused.status_code, refused.json()["code"]) == (422, "meter_not_additive")
    assert tenant.get("/v1/reservations/rsv_none").json()["code"] == "reservation_not_found"


def test_figures_that_do_not_add_up_are_judged_as_recorded(tenant: Tenant) -> None:
    tenant.meter(key="users", event_type="llm", aggregation="unique_count", value="$.user")
    a_limit(tenant, key="users", meter="users", amount=2)
    tenant.record(use("1", 1, data={"user": "a"}), use("2", 1, data={"user": "b"}))
    receipt = ask(tenant, 1, meter="users")
    assert figures(receipt) == (False, "2", "2", "0", "0", "users")


def test_batches(tenant: Tenant) -> None:
    a_limit(tenant)
    item = {"customer": "acme", "meter": "tokens", "amount": 60}
    checked = tenant.post("/v1/check/batch", {"items": [item, item | {"meter": "none"}]}).json()["items"]
    assert (checked[0]["allowed"], checked[1]["code"]) == (True, "meter_not_found")
    made = tenant.post("/v1/reservations/batch", {"items": [item, item, item | {"amount": 40}]}).json()[
        "items"
    ]
    assert [one.get("state", one.get("code")) for one in made] == ["held", "limit_exceeded", "held"]
    listed = tenant.answer("/v1/reservations?customer=acme&state=held&limit=1")
    assert len(listed["items"]) == 1
    rest = tenant.answer(f"/v1/reservations?customer=acme&state=held&cursor={listed['next_cursor']}")
    assert [one["id"] for one in listed["items"] + rest["items"]] == [made[0]["id"], made[2]["id"]]
    stands = tenant.answer("/v1/customers/acme/limits")["items"]
    assert [(one["rule"], one["used"], one["held"], one["remaining"]) for one in stands] == [
        ("daily", "0", "100", "0")
    ]


TIERS = {
    "model": "graduated",
    "tiers": [
        {"up_to": 100, "unit_amount": "0.10"},
        {"up_to": 200, "unit_amount": "0.05"},
        {"up_to": None, "unit_amount": "0.01"},
    ],
}


def a_plan(tenant: Tenant, **charge: Any) -> None:
    charges = [
        {"key": "base", "price": {"model": "flat", "amount": "49"}},
        {"key": "tokens", "meter": "tokens", "price": TIERS} | charge,
    ]
    made = tenant.post(
        "/v1/plans", {"key": "pro", "currency": "USD", "billing_period": "month", "charges": charges}
    )
    assert made.status_code == 201, made.text
    assert tenant.post("/v1/plans/pro/publish").status_code == 200
    subscribed = tenant.post(
        "/v1/subscriptions", {"customer": "acme", "plan": "pro", "start": "2026-07-01T00:00:00Z"}
    )
    assert subscribed.status_code == 201, subscribed.text


def test_money_is_limited_through_tiers(live: Live, tenant: Tenant) -> None:
    a_plan(tenant)
    a_limit(tenant, key="money", meter=None, cost=True, amount="15.00", period="billing")
    tenant.record(use("1", 150))
    receipt = ask(tenant, 50)
    assert figures(receipt) == (True, "15", "12.5", "0", "2.5", "money")
    assert (receipt["currency"], receipt["reset_at"]) == ("USD", "2026-08-01T00:00:00Z")
    assert ask(tenant, 51)["allowed"] is False  # 15.01
    held = tenant.post("/v1/reservations", {"customer": "acme", "meter": "tokens", "amount": 30}).json()
    assert (held["used"], held["held"], held["remaining"]) == ("12.5", "1.5", "1")
    assert ask(tenant, 21)["allowed"] is False
    assert ask(tenant, 20)["allowed"]
    settled = tenant.post(f"/v1/reservations/{held['id']}/settle", {"amount": 10}).json()
    assert (settled["used"], settled["held"]) == ("13", "0")
    tenant.answer(f"/v1/meters/tokens/usage?min_position={settled['position']}")
    assert figures(ask(tenant, 40)) == (True, "15", "13", "0", "2", "money")
    assert ask(tenant, 41)["allowed"] is False
    live.clock.advance(seconds=1)  # a preview counts what lies before now
    preview = tenant.post("/v1/customers/acme/invoices/preview", {}).json()
    assert '"13.00"' in json.dumps(preview, separators=(",", ":"))


def test_money_of_a_day_is_what_it_adds_to_the_period(tenant: Tenant) -> None:
    a_plan(tenant)
    a_limit(tenant, key="money", meter=None, cost=True, amount="6", period="day")
    tenant.record(use("1", 90, time="2026-07-14T10:00:00Z"), use("2", 20))
    # 90 at 0.10 the day before; today 10 at 0.10 and 10 at 0.05
    assert figures(ask(tenant, 80)) == (True, "6", "1.5", "0", "4.5", "money")
    assert ask(tenant, 90)["allowed"]  # at 0.05, up to 15.00 in all, of which 9.00 were the day before's
    assert ask(tenant, 91)["allowed"] is False


def test_a_limit_of_a_plan_holds_for_who_has_it(tenant: Tenant) -> None:
    a_plan(tenant)
    a_limit(tenant, key="of-plan", customer=None, plan="pro", amount=10, period="billing")
    assert figures(ask(tenant, 11)) == (False, "10", "0", "0", "10", "of-plan")
    assert ask(tenant, 11, customer="beta")["reason"] == "no_limit"


def test_carry_over_adds_what_was_left(live: Live, tenant: Tenant) -> None:
    a_limit(tenant, key="carry", carry_over=30)
    tenant.record(use("1", 80))
    assert ask(tenant, 21)["limit"] == "100"
    live.clock.advance(seconds=86_400)
    try:
        assert figures(ask(tenant, 120)) == (True, "120", "0", "0", "120", "carry")
        assert ask(tenant, 121)["allowed"] is False
    finally:
        live.clock.advance(seconds=-86_400)


def test_what_is_not_known_is_decided_by_the_limit(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    a_limit(tenant, key="closed", customer="acme")
    a_limit(tenant, key="open", customer="beta", fail="open")

    def refuse(*given: Any, **named: Any) -> Any:
        raise Unavailable("The store is not there (test).")

    monkeypatch.setattr(type(tenant.live.system.store), "usage", refuse)
    monkeypatch.setattr(type(tenant.live.system.store), "events_of", refuse)
    closed, opened_to = ask(tenant, 1), ask(tenant, 1, customer="beta")
    assert (closed["allowed"], closed["reason"]) == (False, "usage_unknown_closed")
    assert (opened_to["allowed"], opened_to["reason"]) == (True, "usage_unknown_open")
    refused = tenant.post("/v1/reservations", {"customer": "acme", "meter": "tokens", "amount": 1})
    assert (refused.status_code, refused.json()["code"]) == (503, "usage_unknown")


_PLAIN = b'{"customer": "acme", "meter": "tokens", "amount": %s}'
SPELLED: list[tuple[bytes, bool]] = [  # a body, and whether the quick path answers it
    (_PLAIN % b'"5"', True),
    (_PLAIN % b"5", True),
    (_PLAIN % b'"500"', True),
    (_PLAIN % b'"0.000000000000000001"', True),
    (b'{"customer":"acme","meter":"tokens","amount":"1","dimensions":{"model":"x","other":null}}', True),
    (_PLAIN % b"5.0", False),
    (_PLAIN % b"0", False),
    (_PLAIN % b"true", False),
    (_PLAIN % b'"5", "amount": "6"', False),
    (_PLAIN % b'"5", "dimensions": {"a": null, "a": null}', False),
    (_PLAIN % b'"5", "dimensions": null', False),
    (_PLAIN % b'"5", "ttl_seconds": 0', False),
    (_PLAIN % b'"5", "more": 1', False),
    (b'{"customer": "acm\\u0065", "meter": "tokens", "amount": "5"}', False),
    (b'{"customer": "nobody", "meter": "tokens", "amount": "5"}', False),
    (b'{"customer": "acme", "meter": "none", "amount": "5"}', False),
    (b'{"customer": "acme", "meter": "tokens"', False),
    (b"", False),
]


@pytest.mark.parametrize("path", ["/v1/check", "/v1/reservations"])
def test_the_quick_path_says_what_the_framework_says(
    live: Live, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    a_limit(tenant)
    quick = live.app._quick
    by_quick: list[bool] = []
    handled = quick.handled

    async def watched(scope: Any, *given: Any, **named: Any) -> Any:
        rest = await handled(scope, *given, **named)
        if scope["path"] in ("/v1/check", path):
            by_quick.append(rest is None)
        return rest

    monkeypatch.setattr(quick, "handled", watched)
    for _ in range(100):  # until the owner has seen the new limit, and knows all that it asks for
        tenant.post("/v1/check", {"customer": "acme", "meter": "tokens", "amount": "1"})
        if by_quick[-1] and len(by_quick) > 20:
            break
        live.run(asyncio.sleep(0.02))
    by_quick.clear()
    for body, is_quick in SPELLED:
        answers: list[tuple[Any, ...]] = []
        for media_type in ("application/json", "application/json; a=b"):
            response = tenant.send("POST", path, content=body, headers={"content-type": media_type})
            found = response.json()
            made = found.pop("id", None)
            if made is not None:
                assert response.headers["location"] == f"/v1/reservations/{made}"
                tenant.post(f"/v1/reservations/{made}/release")
            headers = set(response.headers) - {"location"}
            answers.append((response.status_code, headers, response.headers["content-type"], found))
        assert answers[0] == answers[1], body
        assert by_quick == [is_quick, False], body
        by_quick.clear()
    assert tenant.post(path, json.loads(SPELLED[0][0]), headers={"idempotency-key": "k"}).status_code < 300
    assert by_quick == [False]
