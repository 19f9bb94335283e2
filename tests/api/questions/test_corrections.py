"""`POST /v1/events/corrections` over HTTP, on the real parts."""

from typing import Any

import pytest
from tests.api.questions.live import Live, Tenant, faults

from tallystick.api.corrections import members_of
from tallystick.errors import TallystickError

JULY = "from=2026-07-01T00:00:00Z&to=2026-07-04T00:00:00Z"


def event(number: int | str, subject: str = "acme", **data: Any) -> dict[str, Any]:
    return {
        "id": str(number),
        "source": "/g",
        "type": "llm",
        "subject": subject,
        "time": "2026-07-02T10:00:00Z",
        "data": data,
    }


@pytest.fixture
def metered(tenant: Tenant) -> Tenant:
    tenant.meter(key="n", event_type="llm", aggregation="sum", value="$.n")
    tenant.meter(key="peak", event_type="llm", aggregation="max", value="$.n")
    tenant.record(event(1, n=1), event(2, n=2), event(3, n=4))
    return tenant


def corrected(tenant: Tenant, **body: Any) -> list[tuple[str, str, str]]:
    response = tenant.post("/v1/events/corrections", {"reason": "wrong", **body})
    assert response.status_code == 200, response.text
    assert response.json()["position"].startswith(("p1-", "p2-"))
    return [(one["action"], one["id"], one["status"]) for one in response.json()["results"]]


def total(tenant: Tenant, meter: str = "n", more: str = "") -> str | None:
    found = tenant.answer(f"/v1/meters/{meter}/usage?{JULY}{more}")["rows"]
    return found[0]["value"] if found else None


def known(tenant: Tenant, event_id: str) -> dict[str, Any]:
    return tenant.answer(f"/v1/events/lookup?source=/g&id={event_id}")


def test_it_counts_when_it_is_answered(metered: Tenant) -> None:
    assert corrected(
        metered,
        retract=[{"source": "/g", "id": "1"}, {"source": "/g", "id": "9"}],
        replace=[event(3, n="10.5")],
    ) == [("retract", "1", "retracted"), ("retract", "9", "not_found"), ("replace", "3", "replaced")]
    assert total(metered) == "12.5"
    assert total(metered, "peak") == "10.5"


def test_correcting_again(metered: Tenant) -> None:
    one = {"source": "/g", "id": "1"}
    assert corrected(metered, retract=[one]) == [("retract", "1", "retracted")]
    assert corrected(metered, retract=[one]) == [("retract", "1", "already_retracted")]
    assert total(metered) == "6"
    assert corrected(metered, replace=[event(1, n=1)]) == [("replace", "1", "restored")]
    assert total(metered) == "7"
    assert corrected(metered, replace=[event(1, n=1)]) == [("replace", "1", "unchanged")]
    assert corrected(metered, replace=[event(1, n=100)]) == [("replace", "1", "replaced")]
    assert total(metered) == "106"
    assert corrected(metered, retract=[one], replace=[event(1, n=3)]) == [
        ("retract", "1", "retracted"),
        ("replace", "1", "restored"),
    ]
    assert total(metered) == "9"


def test_an_earlier_moment_still_counts_what_was_corrected(metered: Tenant, live: Live) -> None:
    before = known(metered, "3")["recorded_at"]
    corrected(metered, retract=[{"source": "/g", "id": "3"}])
    assert total(metered) == "3"
    assert total(metered, more=f"&as_of={before}") == "7"
    assert total(metered, "peak", f"&as_of={before}") == "4"


def test_invalid_replacements_are_rejected_one_by_one(metered: Tenant) -> None:
    replace = [{"id": "1"}, event(2, n=20), 7, event("unknown", n=1)]
    response = metered.post("/v1/events/corrections", {"reason": "r", "replace": replace})
    assert response.status_code == 200
    assert [(one["index"], one["status"], one.get("code")) for one in response.json()["results"]] == [
        (0, "rejected", "missing_type"),
        (1, "replaced", None),
        (2, "rejected", "invalid_event"),
        (3, "not_found", None),
    ]
    assert total(metered) == "25"
    nothing = metered.post("/v1/events/corrections", {"reason": "r", "replace": [{}]})
    assert [one["status"] for one in nothing.json()["results"]] == ["rejected"]


def test_look_up_tells_every_correction(metered: Tenant) -> None:
    sent = metered.send(
        "POST",
        "/v1/events/corrections",
        content=b'{"reason": "typo", "replace": [ {"id":"1","source":"/g","type":"llm","subject":"beta",'
        b'"time":"2026-07-02T11:00:00Z","data":{"n": 5.0,  "u":"\\u00e9"}} ]}',
        headers={"content-type": "application/json"},
    )
    assert sent.status_code == 200, sent.text
    found = known(metered, "1")
    assert (found["subject"], found["data"], found["retracted"]) == ("beta", {"n": 5, "u": "é"}, False)
    assert found["as_sent"]["data"] == {"n": 1}
    assert found["readings"][0]["value"] == "5"
    raw = metered.get("/v1/events/lookup?source=/g&id=1").content
    assert b'{"n": 5.0,  "u":"\\u00e9"}' in raw
    corrected(metered, retract=[{"source": "/g", "id": "1"}], reason="never happened")
    found = known(metered, "1")
    assert found["retracted"] is True
    assert {reading["excluded"] for reading in found["readings"]} == {"retracted"}
    assert found["correction_count"] == 2
    assert [(one["action"], one["reason"], one["backfill"]) for one in found["corrections"]] == [
        ("retract", "never happened", None),
        ("replace", "typo", None),
    ]
    assert found["corrections"][0]["event"] is None
    assert found["corrections"][1]["event"]["subject"] == "beta"
    assert found["corrections"][0]["author"]


def test_a_replacement_without_a_time_stays_where_the_event_was(metered: Tenant) -> None:
    untimed = {name: value for name, value in event(3, n=40).items() if name != "time"}
    one = {"source": "/g", "id": "3"}
    moved = {**event(3, n=50), "time": "2026-07-03T08:00:00.5Z"}
    assert corrected(metered, replace=[untimed]) == [("replace", "3", "replaced")]
    assert known(metered, "3")["time"] == "2026-07-02T10:00:00Z"
    assert known(metered, "3")["time_source"] == "event"
    assert total(metered) == "43"
    assert corrected(metered, replace=[untimed]) == [("replace", "3", "unchanged")]
    # The one before it in the same request counts, too.
    assert corrected(metered, replace=[moved, {**untimed, "data": {"n": 60}}]) == [
        ("replace", "3", "replaced"),
        ("replace", "3", "replaced"),
    ]
    assert known(metered, "3")["time"] == "2026-07-03T08:00:00.500000Z"
    assert corrected(metered, retract=[one], replace=[untimed]) == [
        ("retract", "3", "retracted"),
        ("replace", "3", "restored"),
    ]
    assert known(metered, "3")["time"] == "2026-07-03T08:00:00.500000Z"
    assert total(metered) == "43"


def test_a_replacement_without_a_time_keeps_the_moment_of_receipt(metered: Tenant) -> None:
    untimed = {name: value for name, value in event(4, n=1).items() if name != "time"}
    metered.record(untimed)
    received = known(metered, "4")["time"]
    metered.live.clock.advance(seconds=86_400)
    assert corrected(metered, replace=[{**untimed, "data": {"n": 5}}]) == [("replace", "4", "replaced")]
    assert (known(metered, "4")["time"], known(metered, "4")["time_source"]) == (received, "received")


def test_search_finds_what_was_retracted(metered: Tenant) -> None:
    corrected(metered, retract=[{"source": "/g", "id": "2"}, {"source": "/g", "id": "3"}])
    corrected(metered, replace=[event(3, n=4)])
    found = metered.answer("/v1/events?status=retracted")["items"]
    assert [one["id"] for one in found] == ["2"]
    statuses = {one["id"]: one["status"] for one in metered.answer("/v1/events")["items"]}
    assert (statuses["2"], statuses["3"]) == ("retracted", "recorded")


def test_the_default_source(tenant: Tenant) -> None:
    tenant.meter(key="n", event_type="llm", aggregation="count")
    tenant.record({"id": "1", "type": "llm", "subject": "a", "time": "2026-07-02T10:00:00Z"})
    assert corrected(tenant, retract=[{"id": "1"}]) == [("retract", "1", "retracted")]
    assert total(tenant) in (None, "0")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, [("/reason", "missing")]),
        ({"reason": "r"}, [("", "no_corrections")]),
        ({"reason": "r", "retract": [], "replace": []}, [("", "no_corrections")]),
        ({"reason": "", "retract": [{"id": "1"}]}, [("/reason", "invalid_value")]),
        ({"reason": "x" * 1001, "retract": [{"id": "1"}]}, [("/reason", "invalid_value")]),
        (
            {"reason": "r", "retract": {}, "colour": 1},
            [("/colour", "unknown_member"), ("/retract", "invalid_value")],
        ),
        (
            {
                "reason": "r",
                "retract": [{"id": "1"}, 5, {"source": "/g"}, {"id": 3}, {"id": "1", "source": ""}],
            },
            [
                ("/retract/1", "invalid_value"),
                ("/retract/2/id", "missing_id"),
                ("/retract/3/id", "invalid_value"),
                ("/retract/4/source", "invalid_source"),
            ],
        ),
        (
            {"reason": "r", "retract": [{"id": "a\0b", "at": 1}]},
            [("/retract/0/at", "unknown_member"), ("/retract/0/id", "invalid_value")],
        ),
        ({"reason": "r", "replace": {"id": "1"}}, [("/replace", "invalid_value")]),
    ],
)
def test_what_is_wrong_is_said_at_once(metered: Tenant, body: Any, expected: list[Any]) -> None:
    response = metered.post("/v1/events/corrections", body)
    assert response.status_code == 422
    assert faults(response) == expected
    assert total(metered) == "7"


def test_how_many_is_bounded(metered: Tenant) -> None:
    many = [{"id": str(number)} for number in range(10_001)]
    response = metered.post("/v1/events/corrections", {"reason": "r", "retract": many})
    assert (response.status_code, response.json()["code"]) == (413, "too_many_events")
    mixed = {"reason": "r", "retract": many[:9_999], "replace": [event(1, n=1), event(2, n=1)]}
    assert metered.post("/v1/events/corrections", mixed).status_code == 413


def test_who_may_not(metered: Tenant) -> None:
    body = {"reason": "r", "retract": [{"id": "1"}]}
    response = metered.with_scopes("events:read").post("/v1/events/corrections", body)
    assert (response.status_code, response.json()["code"]) == (403, "missing_scope")
    other = metered.live.tenant().post(
        "/v1/events/corrections", {"reason": "r", "retract": [{"source": "/g", "id": "1"}]}
    )
    assert other.json()["results"][0]["status"] == "not_found"
    assert total(metered) == "7"


def test_an_idempotency_key_replays_the_answer(metered: Tenant) -> None:
    body = {"reason": "r", "retract": [{"source": "/g", "id": "1"}]}
    first = metered.post("/v1/events/corrections", body, headers={"idempotency-key": "k"})
    again = metered.post("/v1/events/corrections", body, headers={"idempotency-key": "k"})
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json() == first.json()
    assert first.json()["results"][0]["status"] == "retracted"


@pytest.mark.parametrize(
    ("body", "members"),
    [
        (b"{}", {}),
        (b" {\n} ", {}),
        (b'{"a" : 1.50 , "b":[ 1 ]}', {"a": b"1.50", "b": b"[ 1 ]"}),
        ('{"é":"\\u00e9"}'.encode(), {"é": b'"\\u00e9"'}),
    ],
)
def test_members_keep_their_bytes(body: bytes, members: dict[str, bytes]) -> None:
    assert members_of(body) == members


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"[]", "not_an_object"),
        (b'{"a":1,"a":2}', "duplicate_key"),
        (b'{"a":1,}', "invalid_json"),
        (b'{"a":1', "invalid_json"),
        (b'{"a" 1}', "invalid_json"),
        (b'{"a":}', "invalid_json"),
        (b"{1:2}", "invalid_json"),
        (b'{"a":1} x', "invalid_json"),
        (b'{"a":NaN}', "invalid_json"),
        (b'{"a":\xff}', "invalid_json"),
        (b'{"a":' + b"[" * 200_000, "invalid_json"),
        (b'{"a":' + b"9" * 5_000 + b"}", "invalid_json"),
        (b"{", "invalid_json"),
    ],
)
def test_what_is_no_object_is_refused(body: bytes, code: str) -> None:
    with pytest.raises(TallystickError) as error:
        members_of(body)
    assert error.value.code == code
