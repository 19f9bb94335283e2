"""Incoming webhooks as Slack (and Mattermost, Discord's /slack, Google Chat's bridges …) take them: `{"text", "blocks"}`."""

from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec

from tallystick.delivery.http import Poster
from tallystick.delivery.interface import Message, Sent
from tallystick.delivery.words import members

FIELDS_MAX = 10
"""More fields Slack refuses in one section."""
TEXT_CHARACTERS_MAX = 2900
_FIELD_CHARACTERS_MAX = 1900


@dataclass(frozen=True, slots=True)
class SlackTarget:
    """The URL is the secret."""

    url: str = field(repr=False)


class SlackSender:
    """One line of text, and the members of the message's data as fields."""

    def __init__(self, poster: Poster) -> None:
        self._poster = poster

    async def send(self, message: Message, target: SlackTarget) -> Sent:
        shown = httpx.URL(target.url)
        return await self._poster.post(
            target.url,
            {},
            msgspec.json.encode(document(message)),
            now_s=message.at_s,
            shown_target=f"{shown.scheme}://{shown.host}/…",
        )

    async def close(self) -> None:
        """The poster is its owner's."""


def document(message: Message) -> dict[str, Any]:
    """What is posted."""
    text = _escaped(message.summary)[:TEXT_CHARACTERS_MAX]
    fields = [
        {"type": "mrkdwn", "text": f"*{_escaped(name)}*\n{_escaped(value)}"[:_FIELD_CHARACTERS_MAX]}
        for name, value in members(message.body)[:FIELDS_MAX]
    ]
    blocks: list[dict[str, Any]] = [{"type": "section", "text": {"type": "mrkdwn", "text": f"*{text}*"}}]
    if fields:
        blocks.append({"type": "section", "fields": fields})
    note = f"{_escaped(message.kind)} · {message.id}"
    blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": note}]})
    return {"text": text, "blocks": blocks}


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
