"""Channels that are told of events, over a restart. In a file of its own: the engine is opened twice."""

import json
from pathlib import Path

from tests.api.questions.live import Tenant, opened
from tests.api.questions.test_event_channels import SETTINGS, channel, event, events_of, told
from tests.delivery.receiver import Answer, receiving, wait_until


def test_it_goes_on_where_it_was_after_a_restart_and_when_its_receiver_was_away(
    tmp_path: Path,
) -> None:
    with receiving() as receiver:
        receiver.answers["/away"] = Answer(503)
        tokens: dict[str, str] = {}
        with opened(tmp_path, **SETTINGS) as live:
            tenant = live.tenant()
            tokens[tenant.key] = tenant.secret
            channel(tenant, url=receiver.url("/feed"), ordered=True)
            channel(tenant, key="away", url=receiver.url("/away"))
            tenant.record(event("a"), event("b"))
            assert told(receiver, 2) == ["a", "b"]
        receiver.answers.clear()
        ((key, token),) = tokens.items()
        with opened(tmp_path, **SETTINGS) as live:
            tenant = Tenant(live, key, token)
            tenant.record(event("c"), event("d"))
            assert told(receiver, 4) == ["a", "b", "c", "d"]
            assert wait_until(lambda: len({got.id for got in receiver.received if got.path == "/away"}) == 4)
            by_event: dict[str, set[str]] = {}
            for got in receiver.received:
                if got.path == "/away":
                    by_event.setdefault(json.dumps(events_of(got.document)), set()).add(got.id)
            assert len(by_event) == 4
            assert all(len(ids) == 1 for ids in by_event.values())  # tried again under the same id
            wanted = {"url": receiver.url("/feed"), "events": ["event"]}
            tenant.send("PUT", "/v1/channels/feed", json=wanted | {"enabled": False})
            tenant.record(event("e"))
            tenant.send("PUT", "/v1/channels/feed", json=wanted)
            tenant.record(event("f"))
            assert told(receiver, 5)[4:] == ["f"]  # while it was disabled nothing was kept for it
