"""POST /v1/events, as a client sees it."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import zstandard

from tallystick.api import ingest
from tallystick.catalog.interface import SYSTEM, CustomerChange
from tallystick.errors import StorageFull, Unavailable

EVENT: dict[str, Any] = {"id": "e1", "type": "call", "subject": "acme", "data": {"n": 1}}
OTHER: dict[str, Any] = {**EVENT, "id": "e2"}
BAD: dict[str, Any] = {"id": "e3", "type": "call"}


def text(*events: dict[str, Any]) -> bytes:
    return b"\n".join(json.dumps(event).encode() for event in events)


def run(coroutine: Any) -> None:
    asyncio.run(coroutine)


KINDS: list[tuple[str, bytes, dict[str, str], int]] = [
    ("application/cloudevents+json", text({"specversion": "1.0", "source": "/", **EVENT}), {}, 1),
    ("application/cloudevents-batch+json", b"[" + text(EVENT) + b"," + text(OTHER) + b"]", {}, 2),
    ("application/json", text(EVENT), {}, 1),
    ("application/json; charset=utf-8", b"[" + text(EVENT) + b"]", {}, 1),
    ("application/x-ndjson", text(EVENT, OTHER) + b"\n", {}, 2),
    ("text/csv", b"id,type,subject,n\ne1,call,acme,1\ne2,call,acme,2\n", {}, 2),
    (
        "application/json",
        b'{"n":1}',
        {"ce-specversion": "1.0", "ce-id": "e1", "ce-type": "call", "ce-source": "/", "ce-subject": "acme"},
        1,
    ),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind[0] + (" binary" if kind[2] else ""))
@pytest.mark.parametrize("encoding", ["", "gzip", "zstd"])
def test_every_content_type_and_encoding(
    start: Any, kind: tuple[str, bytes, dict[str, str], int], encoding: str
) -> None:
    content_type, body, headers, count = kind

    async def check() -> None:
        async with start() as running:
            sent, more = body, {"content-type": content_type, **headers}
            if encoding:
                sent = gzip.compress(body) if encoding == "gzip" else zstandard.compress(body)
                more["content-encoding"] = encoding
            answer = await running.client.post("/v1/events", content=sent, headers=more)
            assert answer.status_code == 202, answer.text
            assert answer.headers["content-type"] == "application/json"
            position = answer.json().pop("position")
            assert answer.json() == {
                "accepted": count,
                "rejected": 0,
                "position": position,
                "results": [],
            }
            assert running.system.log.end == count

    run(check())


def test_what_is_accepted_is_in_the_log_under_the_callers_tenant(start: Any) -> None:
    async def check() -> None:
        async with start() as running:
            await running.events(EVENT)
            (block,) = await running.system.log.read(0, events_max=10)
            (row,) = block.events.select(["tenant", "id", "subject", "data"]).to_pylist()
            assert row == {"tenant": "default", "id": "e1", "subject": "acme", "data": b'{"n":1}'}

    run(check())


def test_a_part_that_is_wrong_does_not_stop_the_rest(start: Any) -> None:
    async def check() -> None:
        async with start() as running:
            answer = await running.events([EVENT, BAD, OTHER])
            assert answer.status_code == 202
            document = answer.json()
            assert (document["accepted"], document["rejected"]) == (2, 1)
            (result,) = document["results"]
            assert result.pop("detail")
            assert result == {"index": 1, "id": "e3", "status": "rejected", "code": "missing_subject"}

    run(check())


def test_nothing_accepted_is_a_problem_with_results(start: Any) -> None:
    async def check() -> None:
        async with start() as running:
            answer = await running.events([BAD])
            assert answer.status_code == 422
            assert answer.headers["content-type"] == "application/problem+json"
            document = answer.json()
            assert document["code"] == "nothing_accepted"
            assert [fault["pointer"] for fault in document["errors"]] == ["/0"]
            assert document["errors"][0]["code"] == "missing_subject"
            assert document["results"][0]["id"] == "e3"
            assert (document["accepted"], document["rejected"]) == (0, 1)
            assert running.system.log.end == 0

    run(check())


def test_waiting_tells_what_became_of_each(start: Any) -> None:
    async def check() -> None:
        async with start() as running:
            await running.events(EVENT)
            conflict = {**OTHER, "data": {"n": 2}}
            answer = await running.events([BAD, EVENT, OTHER, conflict], params={"wait": "recorded"})
            assert answer.status_code == 200
            document = answer.json()
            assert {k: v for k, v in document.items() if k not in ("results", "position")} == {
                "recorded": 1,
                "duplicates": 1,
                "conflicts": 1,
                "rejected": 1,
            }
            assert [(r["index"], r["id"], r["status"]) for r in document["results"]] == [
                (0, "e3", "rejected"),
                (1, "e1", "duplicate"),
                (3, "e2", "conflict"),
            ]

    run(check())


def test_a_recorder_that_is_late_does_not_hold_the_answer(start: Any) -> None:
    async def check() -> None:
        async with start() as running:
            running.recorder.stuck = True
            answer = await running.events(EVENT, params={"wait": "recorded"})
            assert answer.status_code == 202
            assert answer.json()["waited"] is True
            assert answer.json()["accepted"] == 1

    run(check())


REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({"content": b"", "headers": {"content-type": "application/json"}}, 400, "invalid_json"),
    ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "invalid_json"),
    ({"content": b"[]", "headers": {"content-type": "application/json"}}, 422, "no_events"),
    ({"content": b"\xff", "headers": {"content-type": "application/json"}}, 400, "invalid_json"),
    (
        {"content": text(EVENT), "headers": {"content-type": "application/xml"}},
        415,
        "unsupported_media_type",
    ),
    ({"content": text(EVENT), "headers": {"content-encoding": "br"}}, 415, "unsupported_encoding"),
    ({"content": b"no gzip", "headers": {"content-encoding": "gzip"}}, 400, "invalid_encoding"),
    ({"content": text(EVENT), "params": {"wait": "stored"}}, 422, "invalid_value"),
    ({"content": text(EVENT), "params": {"weit": "recorded"}}, 422, "unknown_parameter"),
    ({"content": text(EVENT), "headers": {"content-length": "x"}}, 400, "bad_request"),
    ({"content": text(EVENT), "headers": {"authorization": "Bearer wrong"}}, 401, "unknown_key"),
    ({"content": text(EVENT), "headers": {"authorization": "Basic eA=="}}, 401, "unauthenticated"),
    ({"content": text(EVENT), "headers": {"authorization": ""}}, 401, "unauthenticated"),
]


@pytest.mark.parametrize(("request_options", "status", "code"), REFUSED)
def test_refusals(start: Any, request_options: dict[str, Any], status: int, code: str) -> None:
    async def check() -> None:
        async with start() as running:
            answer = await running.client.post("/v1/events", **request_options)
            assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["x-request-id"]
            assert running.system.log.end == 0

    run(check())


def test_a_key_without_the_scope_is_refused_before_the_body_is_read(start: Any) -> None:
    async def check() -> None:
        async with start() as running:
            secret = await asyncio.to_thread(running.key, "usage:read")

            async def never() -> AsyncIterator[bytes]:
                raise AssertionError("the body was read")
                yield b""

            answer = await running.client.post(
                "/v1/events", content=never(), headers={"authorization": f"Bearer {secret}"}
            )
            assert (answer.status_code, answer.json()["code"]) == (403, "missing_scope")

    run(check())


def test_a_body_is_refused_as_soon_as_it_is_too_large(start: Any) -> None:
    async def check() -> None:
        async with start(body_bytes_max=1000) as running:
            pieces = 0

            async def endless() -> AsyncIterator[bytes]:
                nonlocal pieces
                while True:
                    pieces += 1
                    yield b" " * 400

            answer = await running.client.post("/v1/events", content=endless())
            assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
            assert pieces <= 4

            pieces = 0
            answer = await running.client.post(
                "/v1/events", content=endless(), headers={"content-length": "1001"}
            )
            assert answer.status_code == 413
            assert pieces == 0

            for encoded, name in (
                (gzip.compress(b" " * 5000), "gzip"),
                (zstandard.compress(b" " * 5000), "zstd"),
            ):
                assert len(encoded) < 1000
                answer = await running.client.post(
                    "/v1/events", content=encoded, headers={"content-encoding": name}
                )
                assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
            assert running.system.log.end == 0

    run(check())


def test_too_many_events(start: Any) -> None:
    async def check() -> None:
        async with start(events_per_request_max=2) as running:
            answer = await running.events([EVENT, OTHER, {**EVENT, "id": "e4"}])
            assert (answer.status_code, answer.json()["code"]) == (413, "too_many_events")
            assert (await running.events([EVENT, OTHER])).status_code == 202

    run(check())


def test_large_and_small_bodies_give_the_same(start: Any) -> None:
    """A large body is decoded in a thread; nothing else differs."""

    async def check() -> None:
        async with start() as running:
            many = [{**EVENT, "id": f"e{n}", "data": {"text": "x" * 100}} for n in range(2000)]
            answer = await running.events(many)
            assert answer.json()["accepted"] == 2000
            assert running.system.log.end == 2000

    run(check())


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Unavailable("Too much is waiting.", code="log_busy", retry_after_s=3), 503),
        (StorageFull("No room."), 507),
    ],
)
def test_a_log_that_refuses(start: Any, monkeypatch: Any, error: Exception, status: int) -> None:
    async def check() -> None:
        async with start() as running:

            async def refuse(_: Any, __: Any) -> int:
                raise error

            with monkeypatch.context() as patch:
                patch.setattr(type(running.system.log), "append", refuse)
                answer = await running.events(EVENT)
                assert answer.status_code == status
                assert answer.headers.get("retry-after") == ("3" if status == 503 else None)
                ready = await running.client.get("/health/ready")
                assert ready.status_code == 503
                assert ready.json()["components"]["log"]["status"] == "down"
            # After a while it must be told apart from "still": somebody has to try.
            running.clock.advance(seconds=60)
            assert (await running.events(EVENT)).status_code == 202

    run(check())


def test_other_spellings_of_the_path_reach_the_same_route(start: Any) -> None:
    async def check() -> None:
        async with start() as running:
            for path in ("/v1/events/", "/v1/%65vents"):
                answer = await running.client.post(path, json=EVENT)
                assert answer.status_code == 202, answer.text
                assert answer.json()["accepted"] == 1

    run(check())


def test_what_happened_is_counted(start: Any) -> None:
    async def check() -> None:
        async with start() as running:
            await running.events([EVENT, EVENT, BAD], params={"wait": "recorded"})
            await running.client.get("/health/live")
            await running.client.get("/made/up/path")
            answer = await running.client.get("/metrics")
            assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
            lines = set(answer.text.splitlines())
            assert {
                "tallystick_events_accepted_total 2.0",
                'tallystick_events_rejected_total{reason="missing_subject"} 1.0',
                "tallystick_events_recorded_total 1.0",
                "tallystick_duplicates_total 1.0",
                "tallystick_conflicts_total 0.0",
                "tallystick_recorder_lag_events 0.0",
                'tallystick_http_requests_total{method="POST",route="/v1/events",status="200"} 1.0',
                'tallystick_http_requests_total{method="GET",route="/health/live",status="200"} 1.0',
                'tallystick_http_requests_total{method="GET",route="unknown",status="404"} 1.0',
            } <= lines
            assert "/made/up" not in answer.text

    run(check())


def test_a_body_that_does_not_arrive_is_given_up(start: Any, monkeypatch: Any) -> None:
    async def check() -> None:
        monkeypatch.setattr(ingest, "BODY_TIME_S_MAX", 0)
        monkeypatch.setattr(ingest, "SWEEP_S", 0.01)
        async with start() as running:

            async def never() -> AsyncIterator[bytes]:
                yield b"{"
                await asyncio.Event().wait()

            answer = await running.client.post("/v1/events", content=never())
            assert (answer.status_code, answer.json()["code"]) == (408, "request_timeout")
            monkeypatch.setattr(ingest, "BODY_TIME_S_MAX", 60)
            assert (await running.events(EVENT)).status_code == 202

    run(check())


def test_a_cancellation_from_elsewhere_is_none_of_ours(start: Any) -> None:
    async def check() -> None:
        async with start() as running:
            reached = asyncio.Event()

            async def never() -> AsyncIterator[bytes]:
                reached.set()
                await asyncio.Event().wait()
                yield b""

            sending = asyncio.create_task(running.client.post("/v1/events", content=never()))
            await reached.wait()
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending

    run(check())


def test_unknown_subjects_are_refused_by_setting(start: Any) -> None:
    async def scene() -> None:
        async with start(unknown_subject="reject") as running:
            catalog = running.system.catalog
            catalog.create_customer(
                "default", "acme", CustomerChange(), actor=SYSTEM, now_us=running.clock.now_us()
            )
            events = [
                {"id": str(number), "type": "call", "subject": subject}
                for number, subject in enumerate(("acme", "who", "acme", "", "who"))
            ]
            answer = await running.events(events)
            told = answer.json()
            assert (answer.status_code, told["accepted"], told["rejected"]) == (202, 2, 3)
            assert [(one["index"], one["code"]) for one in told["results"]] == [
                (1, "unknown_subject"),
                (3, "missing_subject"),
                (4, "unknown_subject"),
            ]
            # A subject that was just declared is known at once.
            change = CustomerChange(subjects=["who"])
            catalog.change_customer("default", "acme", change, actor=SYSTEM, now_us=running.clock.now_us())
            assert (await running.events(events[1:2])).status_code == 202
            assert (await running.events([events[1] | {"subject": "nobody"}])).status_code == 422

    run(scene())
