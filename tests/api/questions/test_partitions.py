"""What is promised whatever the number of partitions, with four of them; and in a store's first moments."""

from collections.abc import Iterator

import pytest
from tests.api.questions.live import Live, Tenant, opened


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with opened(tmp_path_factory.mktemp("partitions"), partitions=4) as running:
        yield running


def call(number: int) -> dict[str, object]:
    return {"id": f"e{number}", "type": "call", "subject": "acme", "data": {"n": number}}


def paged(tenant: Tenant, path: str, cursor: str = "next_cursor") -> list[str]:
    found: list[str] = []
    more = ""
    while True:
        page = tenant.answer(f"{path}limit=4{more}")
        found += [one.get("event", one)["id"] for one in page["items"]]
        if page[cursor] is None:
            return found
        more = f"&cursor={page[cursor]}"


def test_events_are_listed_newest_first(live: Live) -> None:
    tenant = live.tenant()
    for number in range(12):
        tenant.record(call(number))
    expected = [f"e{number}" for number in reversed(range(12))]
    for path in (
        "/v1/events?",
        "/v1/events?status=unmetered&",
        "/v1/events?subject=acme&",
        "/v1/events?customer=acme&",
    ):
        assert paged(tenant, path) == expected, path
    assert paged(tenant, "/openmeter/api/v2/events?", "nextCursor") == expected
    first = tenant.answer("/v1/events?limit=4")
    tenant.record(*(call(number) for number in range(20, 30)))
    rest = tenant.answer(f"/v1/events?limit=100&cursor={first['next_cursor']}")
    assert [one["id"] for one in (*first["items"], *rest["items"])] == expected
    for wrong in (
        "W10",
        "Wy0xXQ",
        "WzEsMV0",
        "WyJhIl0",
        "WzE4NDQ2NzQ0MDczNzA5NTUxNjE2XQ",
    ):  # [], [-1], [1,1], ["a"], [2**64]
        assert tenant.get(f"/v1/events?cursor={wrong}").status_code == 422, wrong


def test_nothing_is_asked_of_a_store_that_is_not_ready(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = live.tenant()
    tenant.meter(key="calls", event_type="call", aggregation="count")
    tenant.record(call(1))
    tenant.post("/v1/backfills", {"key": "b", "reason": "late"})

    async def never(_self: object, _timeout_s: float) -> bool:
        return False

    monkeypatch.setattr(type(live.system.recorder), "wait_until_migrated", never)
    for path in (
        "/v1/events",
        "/v1/events?status=invalid",
        "/v1/events/lookup?id=e1",
        "/v1/meters/calls/usage",
        "/v1/meters/calls/dimensions/subject/values",
        "/v1/meters/calls/explain",
        "/v1/backfills",
        "/v1/backfills/b",
        "/v1/export/events",
        "/v1/export/events/parts?by=day",
        "/openmeter/api/v1/events",
        "/openmeter/api/v1/meters/calls/query",
        "/lago/api/v1/events",
    ):
        refused = tenant.get(path)
        assert refused.status_code == 503, (path, refused.text)
    asked = {"reason": "wrong", "retract": [{"source": "/", "id": "e1"}]}
    refused = tenant.post("/v1/correction_preview", asked)
    assert (refused.status_code, "not ready" in refused.text) == (503, True), refused.text
