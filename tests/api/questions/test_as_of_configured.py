"""As of an earlier moment means by the definitions, and over the customers, of that moment."""

from typing import Any

import pytest
from tests.api.questions.live import NOW_US, Live, Tenant

from tallystick.metering.instant import instant_text

RANGE = {"from": "2026-07-01T00:00:00Z", "to": "2026-08-01T00:00:00Z"}


@pytest.fixture
def changing(tenant: Tenant) -> Tenant:
    tenant.meter(key="n", event_type="t", aggregation="sum", value="$.n", dimensions={"m": "$.m"})
    tenant.record(
        {"id": "1", "type": "t", "subject": "a", "time": "2026-07-02T00:00:00Z", "data": {"n": 1, "m": "x"}},
        {"id": "2", "type": "t", "subject": "b", "time": "2026-07-02T00:00:00Z", "data": {"n": 2, "m": "y"}},
    )
    return tenant


def moment(live: Live) -> str:
    """Now; what follows is later."""
    now_us = max(live.clock.now_us(), NOW_US)
    live.clock.move_to(now_us + 1_000_000)
    return instant_text(now_us + 500_000)


def asked(tenant: Tenant, **members: Any) -> Any:
    """One question asked in every way; all agree."""
    response = tenant.post("/v1/meters/n/usage", RANGE | members)
    assert response.status_code == 200, response.text
    rows = response.json()["rows"]
    for more in ({"window": "month", "totals": True}, {"compare": "previous"}):
        other = tenant.post("/v1/meters/n/usage", RANGE | members | more).json()["rows"]
        assert [row["value"] for row in other] == [row["value"] for row in rows]
    formula = {"meters": {"a": {"meter": "n"}}, **RANGE, **members}
    joined = tenant.post("/v1/usage/query", formula).json()["rows"]
    assert [row["values"]["a"] for row in joined] == [row["value"] for row in rows]
    names = {name: str(value).lower() if value is True else value for name, value in members.items()}
    (every,) = tenant.answer("/v1/usage", params=RANGE | names)["items"]
    assert every["rows"] == rows
    return rows[0]["value"] if rows else None


def test_a_changed_meter_answers_as_it_did(live: Live, changing: Tenant) -> None:
    before = moment(live)
    assert asked(changing) == "3"
    assert changing.send("PATCH", "/v1/meters/n", json={"filter": 'data.m == "x"'}).status_code == 200
    between = moment(live)
    assert changing.send("PATCH", "/v1/meters/n", json={"dimensions": {}}).status_code == 200
    assert asked(changing) == "1"
    assert asked(changing, as_of=between, group_by="m") == "1"
    assert asked(changing, as_of=before) == "3"
    first = changing.post("/v1/meters/n/usage", {**RANGE, "as_of": before}).json()
    assert first["version"] == 1
    named = changing.post("/v1/meters/n/usage", {**RANGE, "as_of": before, "version": 3}).json()
    assert (named["version"], named["rows"][0]["value"]) == (3, "1")
    # What m was then can be grouped by as of then, not any more.
    assert changing.post("/v1/meters/n/usage", {**RANGE, "group_by": "m"}).status_code == 422


def test_children_are_those_of_that_moment(live: Live, changing: Tenant) -> None:
    for key, parent in (("top", None), ("mid", "top"), ("else", None)):
        assert changing.post("/v1/customers", {"key": key, "parent": parent}).status_code == 201
    below = {"customer": "top", "include_children": True}

    def put(key: str, parent: str | None) -> str:
        assert changing.send("PATCH", f"/v1/customers/{key}", json={"parent": parent}).status_code == 200
        return moment(live)

    start = moment(live)
    one = put("a", "mid")
    both = put("b", "top")
    moved = put("mid", "else")
    assert changing.post("/v1/customers/mid/merge", {"into": "top"}).status_code == 200
    merged = moment(live)
    put("a", None)
    put("b", None)
    figures = {at: asked(changing, **below, as_of=at) for at in (start, one, both, moved, merged)}
    assert list(figures.values()) == [None, "1", "3", "2", "3"]
    assert asked(changing, **below) is None


def test_a_moment_just_past_is_answered_the_same_later(live: Live, tenant: Tenant) -> None:
    tenant.meter(key="n", event_type="t", aggregation="count")
    answers: dict[str, Any] = {}
    for number in range(5):
        moment(live)
        sent = tenant.post(
            "/v1/events", {"id": str(number), "type": "t", "subject": "a", "time": RANGE["from"]}
        )
        assert sent.status_code == 202
        at = instant_text(live.clock.now_us())
        answers[at] = asked(tenant, as_of=at)
    assert {at: asked(tenant, as_of=at) for at in answers} == answers
