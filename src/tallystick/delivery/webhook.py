"""Webhooks as https://www.standardwebhooks.com has them."""

from dataclasses import dataclass, field

from tallystick.delivery.http import Poster
from tallystick.delivery.interface import Message, Sent
from tallystick.delivery.signature import signature_header


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """`secrets`: those to sign with, the newest first."""

    url: str
    secrets: tuple[str, ...] = field(repr=False)


class WebhookSender:
    """The message's body as it is, signed."""

    def __init__(self, poster: Poster) -> None:
        self._poster = poster

    async def send(self, message: Message, target: WebhookTarget) -> Sent:
        headers = {
            "webhook-id": message.id,
            "webhook-timestamp": str(message.at_s),
            "webhook-signature": signature_header(message.id, message.at_s, message.body, target.secrets),
        }
        return await self._poster.post(target.url, headers, message.body, now_s=message.at_s)

    async def close(self) -> None:
        """The poster is its owner's."""
