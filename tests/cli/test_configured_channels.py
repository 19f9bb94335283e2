"""Channels in a configuration file: secrets are named, never shown; and the stream of `tallystick tail` read from pieces."""

import base64
import json
from typing import Any

import pytest
from tests.api.questions.live import Live, opened

from tallystick.cli.config.channels import Channels
from tallystick.cli.config.noun import changes_to, steps_to
from tallystick.cli.tail import event_line, messages
from tallystick.errors import Invalid

SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
OTHER = "whsec_" + base64.b64encode(b"o" * 32).decode()
ENTRY = {
    "key": "ops",
    "type": "webhook",
    "url": "https://example.com/h",
    "events": ["alert.*"],
    "secret_from": "OPS",
}


class InProcess:
    """What the noun needs of cli/client.Api, without a socket."""

    def __init__(self, live: Live) -> None:
        self._tenant = live.tenant()

    def send(self, method: str, path: str, **options: Any) -> Any:
        answer = self._tenant.send(method, path, **options)
        assert answer.status_code < 400, answer.text
        return answer

    def items(self, path: str) -> Any:
        return self._tenant.answer(path)["items"]


def test_a_channel_is_applied_changed_and_exported(tmp_path: Any) -> None:
    with opened(tmp_path) as live:
        api: Any = InProcess(live)
        noun = Channels({"OPS": SECRET})
        wanted = noun.checked(ENTRY)
        assert SECRET not in json.dumps(wanted)
        [step] = steps_to(noun, [wanted], noun.listed(api), prune=False)
        assert noun.create(api, wanted) is None
        assert steps_to(noun, [wanted], noun.listed(api), prune=False) == []
        [present] = noun.listed(api)
        assert noun.exported(present) == {
            name: value for name, value in ENTRY.items() if name != "secret_from"
        }

        changed = Channels({"OPS": OTHER}).checked({**ENTRY, "ordered": True})
        noun = Channels({"OPS": OTHER})
        noun.checked(ENTRY)
        changes = changes_to(changed, present)
        assert set(changes) == {"ordered", "secret_fingerprint"}
        noun.change(api, present, changes, changed, {})
        [present] = noun.listed(api)
        assert changes_to(changed, present) == {}
        told = noun.create(api, {"key": "made", "type": "webhook", "url": "https://example.com/h"})
        assert told is not None
        assert told.startswith("secret (shown this once): whsec_")
        noun.archive(api, present)
        assert [one.key for one in noun.listed(api)] == ["made"]
        assert step.kind == "create"


@pytest.mark.parametrize("environment", [{}, {"OPS": "x"}])
def test_a_secret_that_is_not_there(environment: dict[str, str]) -> None:
    with pytest.raises(Invalid, match="OPS"):
        Channels(environment).checked(ENTRY)


def test_messages_from_any_pieces() -> None:
    text = 'retry: 2000\n\nid: e1-1\ndata: {"id":"é"}\n\n: nothing new\nid: e1-2\n\nid: e1-3\ndata: {"id":1.10}\n\nid: e1-4'
    for size in (1, 3, 1000):
        raw = text.encode()
        found = list(messages(raw[start : start + size] for start in range(0, len(raw), size)))
        assert found == [("e1-1", {"id": "é"}), ("e1-2", None), ("e1-3", {"id": "1.10"})]


def test_a_line_drives_no_terminal() -> None:
    line = event_line(
        {"time": "t", "type": "x\x1b[2J", "customer": None, "id": "a\nb", "data": {"a": "x" * 500}}
    )
    assert "\x1b" not in line.plain
    assert "\n" not in line.plain
    assert "(nobody)" in line.plain
    assert len(line.plain) < 300
