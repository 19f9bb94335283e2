"""OpenMeter's requests where its clients do not show what happens: refusals, edges, and who sees what."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from tests.api.questions.live import PARTITIONS, Live, Tenant, opened

from tallystick.api.compat.mount import vendors_of
from tallystick.config import Settings
from tallystick.errors import Invalid

BASE = "/openmeter/api/v1"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with opened(tmp_path_factory.mktemp("openmeter")) as running:
        yield running


@pytest.fixture
def tenant(live: Live) -> Tenant:
    made = live.tenant()
    meter = {"slug": "tokens", "aggregation": "SUM", "eventType": "prompt", "valueProperty": "$.tokens"}
    created = made.post(f"{BASE}/meters", {**meter, "groupBy": {"model": "$.model"}})
    assert created.status_code == 201, created.text
    return made


def event(number: int, subject: str = "acme", **data: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"e{number}",
        "source": "test",
        "type": "prompt",
        "subject": subject,
        "time": f"2026-07-0{1 + number // 24}T{number % 24:02}:30:30Z",
        "data": {"tokens": number, **data},
    }


def send(tenant: Tenant, *events: dict[str, Any]) -> None:
    answer = tenant.post(f"{BASE}/events", list(events))
    assert (answer.status_code, answer.content) == (204, b"")


def rows(tenant: Tenant, query: str = "", meter: str = "tokens") -> list[dict[str, Any]]:
    return tenant.answer(f"{BASE}/meters/{meter}/query{query}")["data"]


@pytest.mark.parametrize(
    ("body", "content_type", "told"),
    [
        (b"", "application/json", "invalid"),
        (b"[]", "application/cloudevents-batch+json", "no event"),
        (b'{"id":"1"', "application/json", "invalid"),
        (b'{"id":"1","source":"s","type":"t"}', "application/cloudevents+json", "subject"),
        (b'{"id":"1","type":"t","subject":"a"}', "application/cloudevents+json", "source"),
        (b'{"id":"1","source":"s","type":"t","subject":"a","data":"text"}', "application/json", "object"),
        (b"<xml/>", "application/xml", "content type"),
    ],
)
def test_a_bad_request_is_400_and_stores_nothing(
    tenant: Tenant, body: bytes, content_type: str, told: str
) -> None:
    answer = tenant.send("POST", f"{BASE}/events", content=body, headers={"content-type": content_type})
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["type"], problem["status"], problem["title"]) == ("about:blank", 400, "Bad Request")
    assert told in problem["detail"] or told == "invalid"
    assert tenant.answer(f"{BASE}/events") == []


def test_one_bad_event_of_a_batch_keeps_the_others_out(tenant: Tenant) -> None:
    answer = tenant.post(f"{BASE}/events", [event(1), {**event(2), "subject": ""}])
    assert answer.status_code == 400
    assert answer.json()["extensions"]["errors"][0]["pointer"] == "/1"
    assert tenant.answer(f"{BASE}/events") == []


def test_events_that_do_not_count_say_why(tenant: Tenant) -> None:
    bare = {name: value for name, value in event(1).items() if name != "data"}
    send(tenant, bare, {**event(2), "data": None}, {**event(3), "type": "other"}, event(4))
    found = {one["event"]["id"]: one.get("validationError") for one in tenant.answer(f"{BASE}/events")}
    assert found == {
        "e1": 'invalid event: missing value property: "$.tokens"',
        "e2": 'invalid event: missing value property: "$.tokens"',
        "e3": "no meter found for event type: other",
        "e4": None,
    }
    assert [row["value"] for row in rows(tenant)] == [4]


def test_windows_ranges_and_filters(tenant: Tenant) -> None:
    send(tenant, *(event(n, "acme" if n % 2 else "beta", model="a" if n % 3 else "b") for n in range(30)))
    send(tenant, event(7, "acme", model="changed"))
    assert [row["value"] for row in rows(tenant)] == [435]
    hours = rows(tenant, "?windowSize=HOUR&from=2026-07-01T22:00:00Z&to=2026-07-02T02:00:00Z")
    assert [(row["windowStart"], row["value"]) for row in hours] == [
        ("2026-07-01T22:00:00Z", 22),
        ("2026-07-01T23:00:00Z", 23),
        ("2026-07-02T00:00:00Z", 24),
        ("2026-07-02T01:00:00Z", 25),
    ]
    (total,) = rows(tenant, "?from=2026-07-01T00:00:00Z&to=2026-07-02T00:00:00Z")
    assert (total["windowStart"], total["windowEnd"]) == ("2026-07-01T00:00:00Z", "2026-07-02T00:00:00Z")
    assert (total["subject"], total["groupBy"]) == (None, {})
    by_subject = rows(tenant, "?subject=acme")
    assert [(row["subject"], row["value"]) for row in by_subject] == [("acme", 225)]
    b = sum(range(0, 30, 3))
    for spelled in (
        "filterGroupBy[model]=b",
        "filterGroupBy=%7B%22model%22%3A%22b%22%7D",
        "filterGroupBy=%7B%27model%27%3A%20%27b%27%7D",
        "advancedMeterGroupByFilters=%7B%22model%22%3A%7B%22%24eq%22%3A%22b%22%7D%7D",
    ):
        assert [row["value"] for row in rows(tenant, f"?{spelled}")] == [b], spelled
    posted = tenant.post(
        f"{BASE}/meters/tokens/query", {"filterGroupBy": {"model": ["b"]}, "groupBy": ["model"]}
    )
    assert [(row["groupBy"], row["value"]) for row in posted.json()["data"]] == [({"model": "b"}, b)]
    table = tenant.get(
        f"{BASE}/meters/tokens/query?groupBy=model&subject=acme", headers={"accept": "text/csv"}
    )
    assert table.headers["content-type"].startswith("text/csv")
    assert table.text.splitlines()[0] == "window_start,window_end,subject,model,value"


def test_figures_are_exact(tenant: Tenant) -> None:
    send(tenant, {**event(1), "data": {"tokens": "0.1"}}, {**event(2), "data": {"tokens": 0.2}})
    text = tenant.get(f"{BASE}/meters/tokens/query").text
    assert '"value":0.3,' in text
    send(tenant, {**event(3), "data": {"tokens": "12345678901234567.123456789"}})
    assert '"value":12345678901234567.423456789,' in tenant.get(f"{BASE}/meters/tokens/query").text


@pytest.mark.parametrize(
    "query",
    [
        "windowSize=WEEK",
        "windowTimeZone=Nowhere",
        "groupBy=nothing",
        "filterGroupBy[nothing]=1",
        "from=2026-07-02T00:00:00Z&to=2026-07-01T00:00:00Z",
        "groupBy=customer_id",
        "filterGroupBy=%5B%5D",
        "unknown=1",
    ],
)
def test_a_bad_question_is_400(tenant: Tenant, query: str) -> None:
    send(tenant, event(1))
    answer = tenant.get(f"{BASE}/meters/tokens/query?{query}")
    assert answer.status_code == 400, answer.text


def test_nothing_is_one_row_for_a_count_and_none_for_a_sum(tenant: Tenant) -> None:
    tenant.post(f"{BASE}/meters", {"slug": "prompts", "aggregation": "COUNT", "eventType": "prompt"})
    assert rows(tenant) == []
    assert [row["value"] for row in rows(tenant, meter="prompts")] == [0]
    assert rows(tenant, "?windowSize=DAY", meter="prompts") == []


def test_meters_refuse_what_cannot_be(tenant: Tenant) -> None:
    good = {"slug": "x", "aggregation": "SUM", "eventType": "t", "valueProperty": "$.v"}
    bad: list[dict[str, Any]] = [
        {**good, "aggregation": "MEDIAN"},
        {**good, "valueProperty": "tokens"},
        {**good, "slug": "has space"},
        {**good, "eventFrom": "yesterday"},
        {name: value for name, value in good.items() if name != "valueProperty"},
    ]
    for body in bad:
        assert tenant.post(f"{BASE}/meters", body).status_code == 400, body
    assert tenant.post(f"{BASE}/meters", {**good, "slug": "tokens"}).status_code == 409
    assert tenant.get(f"{BASE}/meters/none").status_code == 404
    assert tenant.get(f"{BASE}/none").status_code == 404


def test_a_window_is_named_by_its_own_bounds_where_the_range_cuts_it(tenant: Tenant) -> None:
    send(tenant, event(1), event(30))
    day = "windowSize=DAY&windowTimeZone=Asia/Kolkata"
    cut = rows(tenant, f"?{day}&from=2026-07-01T01:00:00Z&to=2026-07-02T07:00:00Z")
    assert [(row["windowStart"], row["windowEnd"], row["value"]) for row in cut] == [
        ("2026-07-01T00:00:00+05:30", "2026-07-02T00:00:00+05:30", 1),
        ("2026-07-02T00:00:00+05:30", "2026-07-03T00:00:00+05:30", 30),
    ]
    for window, start, end in (
        ("MINUTE", "2026-07-02T06:30:00Z", "2026-07-02T06:31:00Z"),
        ("HOUR", "2026-07-02T06:00:00Z", "2026-07-02T07:00:00Z"),
        ("DAY", "2026-07-02T00:00:00Z", "2026-07-03T00:00:00Z"),
        ("MONTH", "2026-07-01T00:00:00Z", "2026-08-01T00:00:00Z"),
    ):
        last = rows(tenant, f"?windowSize={window}&from=2026-07-02T06:30:10Z")[-1]
        assert (last["windowStart"], last["windowEnd"], last["value"]) == (start, end, 30)


def test_a_meter_can_count_from_a_moment_on_and_keeps_when_it_was_made(tenant: Tenant) -> None:
    send(tenant, *(event(n) for n in range(5)))
    late = {
        "slug": "late",
        "aggregation": "COUNT",
        "eventType": "prompt",
        "eventFrom": "2026-07-01T03:00:00Z",
    }
    made = tenant.post(f"{BASE}/meters", late).json()
    assert made["eventFrom"] == "2026-07-01T03:00:00Z"
    assert [row["value"] for row in rows(tenant, meter="late")] == [2]
    tenant.live.clock.advance(seconds=1)
    changed = tenant.send(
        "PUT", f"{BASE}/meters/late", json={"name": "Late", "groupBy": {"model": "$.model"}}
    ).json()
    assert (changed["createdAt"], changed["eventFrom"]) == (made["createdAt"], made["eventFrom"])
    assert changed["updatedAt"] > made["updatedAt"]
    assert [row["value"] for row in rows(tenant, meter="late")] == [2]


@pytest.mark.parametrize(
    ("condition", "models"),
    [
        ({"$like": "gpt-%"}, "gpt-4 gpt-4o"),
        ({"$like": "gpt-_"}, "gpt-4"),
        ({"$like": "%4%"}, "gpt-4 gpt-4o"),
        ({"$like": "100\\%"}, "100%"),
        ({"$ilike": "GPT%O"}, "gpt-4o"),
        ({"$nlike": "gpt%"}, "- 100% o1"),
        ({"$nilike": "%1%"}, "- gpt-4 gpt-4o"),
        ({"$ne": "o1"}, "- 100% gpt-4 gpt-4o"),
        ({"$nin": ["o1", "gpt-4"]}, "- 100% gpt-4o"),
        ({"$eq": ""}, "-"),
        ({"$in": ["", "o1"]}, "- o1"),
        ({"$gt": "gpt-4"}, "gpt-4o o1"),
        ({"$gte": "gpt-4", "$lt": "h"}, "gpt-4 gpt-4o"),
        ({"$or": [{"$eq": "o1"}, {"$like": "%o"}]}, "gpt-4o o1"),
        ({"$and": [{"$like": "gpt%"}, {"$ne": "gpt-4"}]}, "gpt-4o"),
        ({"$eq": "none"}, ""),
    ],
)
def test_conditions_on_names_of_a_meter(tenant: Tenant, condition: dict[str, Any], models: str) -> None:
    names = [None, "gpt-4", "gpt-4o", "o1", "100%"]
    send(tenant, *(event(n, **({} if name is None else {"model": name})) for n, name in enumerate(names)))
    body = {"advancedMeterGroupByFilters": {"model": condition}, "groupBy": ["model"]}
    found = tenant.post(f"{BASE}/meters/tokens/query", body)
    assert found.status_code == 200, found.text
    assert " ".join(sorted(row["groupBy"]["model"] or "-" for row in found.json()["data"])) == models


@pytest.mark.parametrize(
    "condition",
    [{"$regex": "a"}, {"$in": []}, {"$eq": 1}, {"$and": {}}, {"$or": ["a"]}, {"$like": None, "x": 1}],
)
def test_a_condition_that_is_none_is_400(tenant: Tenant, condition: dict[str, Any]) -> None:
    body = {"advancedMeterGroupByFilters": {"model": condition}}
    assert tenant.post(f"{BASE}/meters/tokens/query", body).status_code == 400
    text = json.dumps({"subject": condition})
    assert tenant.get(f"/openmeter/api/v2/events?{urlencode({'filter': text})}").status_code == 400


def paged(tenant: Tenant, condition: dict[str, Any], limit: int = 100) -> list[str]:
    """The ids of all events that meet a condition, a page at a time."""
    found: list[str] = []
    asked: dict[str, Any] = {"filter": json.dumps(condition), "limit": limit}
    while True:
        page = tenant.answer(f"/openmeter/api/v2/events?{urlencode(asked)}")
        assert len(page["items"]) <= limit
        found += [one["event"]["id"] for one in page["items"]]
        if page["nextCursor"] is None:
            return found
        asked["cursor"] = page["nextCursor"]


def newest(found: list[str]) -> list[str]:
    """The ids in the order that is promised. Of what came in one request, or before that was recorded, none is where
    several recorders have it."""
    return found if PARTITIONS == 1 else sorted(found, key=lambda name: -int(name[1:] or 99))


def test_events_by_conditions(tenant: Tenant) -> None:
    send(tenant, *(event(n, "acme" if n % 2 else "beta") for n in range(30)))
    send(tenant, {**event(31, "acme"), "type": "other", "source": "elsewhere"})
    assert len(paged(tenant, {}, 7)) == 31
    assert newest(paged(tenant, {"id": {"$in": ["e1", "e2"]}})) == ["e2", "e1"]
    assert newest(paged(tenant, {"id": {"$like": "e2_"}, "subject": {"$eq": "acme"}}, 2)) == [
        f"e{n}" for n in (29, 27, 25, 23, 21)
    ]
    assert (
        paged(tenant, {"type": {"$ne": "prompt"}}) == paged(tenant, {"source": {"$like": "else%"}}) == ["e31"]
    )
    time = {"time": {"$gte": "2026-07-02T03:00:00Z", "$lt": "2026-07-02T05:00:00Z"}}
    assert newest(paged(tenant, time)) == ["e28", "e27"]
    assert paged(tenant, {"ingestedAt": {"$gt": "2100-01-01T00:00:00Z"}}) == []
    assert len(paged(tenant, {"ingestedAt": {"$lt": "2100-01-01T00:00:00Z"}}, 10)) == 31
    assert newest([one["event"]["id"] for one in tenant.answer(f"{BASE}/events?id=e3")]) == ["e31", "e3"]
    send(tenant, event(32, "beta"))
    both = tenant.answer(f"{BASE}/events?subject=acme&subject=beta")
    assert [one["event"]["id"] for one in both][:1] == ["e32"]
    assert newest([one["event"]["id"] for one in both])[:4] == ["e32", "e31", "e29", "e28"]
    assert tenant.answer(f"{BASE}/events?subject=acme&subject=beta&limit=3") == both[:3]


def test_a_customer_has_the_events_of_its_subjects_and_gives_them_up_when_it_is_deleted(
    tenant: Tenant,
) -> None:
    send(tenant, *(event(n, f"s{n % 3}") for n in range(9)))
    person = {"key": "acme", "name": "Acme", "usageAttribution": {"subjectKeys": ["s0", "s1"]}}
    made = tenant.post(f"{BASE}/customers", person).json()
    send(tenant, event(9, "s0"))
    listed = tenant.answer(f"{BASE}/events?customerId={made['id']}")
    assert newest([one["event"]["id"] for one in listed]) == [f"e{n}" for n in (9, 7, 6, 4, 3, 1, 0)]
    assert {one["customerId"] for one in listed} == {made["id"]}
    assert paged(tenant, {"customerId": {"$in": ["acme"]}}, 3) == [one["event"]["id"] for one in listed]
    assert tenant.send("DELETE", f"{BASE}/customers/acme").status_code == 204
    upserted = tenant.post(f"{BASE}/subjects", [{"key": "s0", "displayName": "Zero"}])
    assert upserted.json()[0]["displayName"] == "Zero"
    assert tenant.answer(f"{BASE}/subjects/s0")["displayName"] == "Zero"
    other = {"key": "other", "name": "Other", "usageAttribution": {"subjectKeys": ["s1"]}}
    assert tenant.post(f"{BASE}/customers", other).status_code == 201


def test_customers_are_questions_too(tenant: Tenant) -> None:
    send(tenant, event(1, "acme-prod"), event(2, "acme-test"), event(3, "other"))
    made = tenant.post(
        f"{BASE}/customers",
        {"key": "acme", "name": "Acme", "usageAttribution": {"subjectKeys": ["acme-prod", "acme-test"]}},
    )
    assert made.status_code == 201, made.text
    customer = made.json()
    assert customer["usageAttribution"] == {"subjectKeys": ["acme-prod", "acme-test"]}
    for name in ("acme", customer["id"]):
        (row,) = rows(tenant, f"?filterCustomerId={name}")
        assert (row["value"], row["customerId"]) == (3, customer["id"])
    assert tenant.get(f"{BASE}/meters/tokens/query?filterCustomerId=nobody").status_code == 404
    again = tenant.post(f"{BASE}/customers", {"key": "acme", "name": "Acme"})
    assert again.status_code == 409
    taken = tenant.post(
        f"{BASE}/customers", {"key": "b", "name": "B", "usageAttribution": {"subjectKeys": ["acme-prod"]}}
    )
    assert taken.status_code == 409


def test_a_customers_token_sees_its_own(tenant: Tenant) -> None:
    send(tenant, event(1, "acme"), event(2, "beta"))
    tenant.record({"id": "w", "type": "w", "subject": "acme"})
    made = tenant.post("/v1/portal_tokens", {"customer": "acme", "scopes": ["usage:read", "events:read"]})
    portal = Tenant(tenant.live, tenant.key, made.json()["token"])
    assert [row["value"] for row in rows(portal)] == [1]
    assert portal.answer(f"{BASE}/meters/tokens/subjects") == ["acme"]
    assert {one["event"]["subject"] for one in portal.answer(f"{BASE}/events")} == {"acme"}
    assert [row["value"] for row in rows(portal, "?filterCustomerId=beta")] == []
    for query in ("subject=beta", "subject=acme&subject=beta", "id=e", "ingestedAtFrom=2026-01-01T00:00:00Z"):
        assert {one["event"]["subject"] for one in portal.answer(f"{BASE}/events?{query}")} <= {"acme"}, query
    assert portal.get(f"{BASE}/events?customerId=beta").status_code == 403
    assert paged(portal, {"id": {"$like": "e%"}}) == ["e1"]
    assert newest(paged(portal, {"subject": {"$in": ["beta", "acme"]}})) == ["w", "e1"]
    text = json.dumps({"customerId": {"$eq": "beta"}})
    assert portal.get(f"/openmeter/api/v2/events?{urlencode({'filter': text})}").status_code == 403
    liked = {"advancedMeterGroupByFilters": {"model": {"$nlike": "x%"}}}
    assert [row["value"] for row in portal.post(f"{BASE}/meters/tokens/query", liked).json()["data"]] == [1]
    assert portal.post(f"{BASE}/events", event(3)).status_code == 403


def test_each_vendor_can_be_switched_off() -> None:
    assert {vendor.name for vendor in vendors_of(Settings(compat="lago"))} == {"lago"}
    assert not vendors_of(Settings(compat="none"))
    with pytest.raises(Invalid):
        vendors_of(Settings(compat="orb"))
