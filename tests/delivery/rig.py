"""A catalog with channels and the worker that sends, without the rest of the system. Time stands still until it is moved."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.delivery.receiver import Receiver

from tallystick.catalog.delivering import Delivery, Notice, Setup
from tallystick.catalog.interface import SYSTEM
from tallystick.catalog.relational import RelationalCatalog
from tallystick.clock import ManualClock
from tallystick.delivery.addresses import Guard
from tallystick.delivery.email import EmailSender, SmtpServer
from tallystick.delivery.http import Poster
from tallystick.delivery.sealed import Seal
from tallystick.delivery.slack import SlackSender
from tallystick.delivery.webhook import WebhookSender
from tallystick.flows.deliver import Deliverer, Senders
from tallystick.metrics import Metrics

NOW_US = 1_784_116_800_000_000
TENANT = "default"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Rig:
    """`deliverer` is moved step by step by `step`, or runs by itself while `run` is a task."""

    def __init__(
        self,
        directory: Path,
        *,
        allow_private: bool = True,
        time_s_max: float = 5,
        smtp: SmtpServer | None = None,
        **options: Any,
    ) -> None:
        self.clock = ManualClock(NOW_US)
        self.catalog = RelationalCatalog(f"sqlite:///{directory}/catalog.sqlite")
        self.catalog.migrate()
        self.catalog.ensure_admin_key("x" * 40, now_us=NOW_US)
        self.metrics = Metrics()
        self.seal = Seal("a key")
        self.poster = Poster(Guard(allow_private=allow_private), time_s_max=time_s_max)
        self.email = EmailSender(smtp, time_s_max=time_s_max)
        senders = Senders(WebhookSender(self.poster), self.email, SlackSender(self.poster), time_s_max)
        self.deliverer = Deliverer(
            self.catalog,
            senders,
            self.seal,
            clock=self.clock,
            metrics=self.metrics,
            **{"jitter": lambda: 0.0, "look_s": 0.05, **options},
        )
        self.catalog.on_enqueued(self.deliverer.wake)

    def add(self, key: str, url: str | None = None, **members: Any) -> None:
        setup = Setup(**{"type": "webhook", "name": key, "url": url, "signature": "hmac", **members})
        self.catalog.create_channel(
            TENANT, key, setup, customer=None, secret=self.seal.close(SECRET), actor=SYSTEM, now_us=NOW_US
        )

    def tell(self, name: str, *channels: str) -> str:
        """A notice; the id of the delivery to the first channel."""
        notice = Notice(TENANT, name, "alert.fired", f"{name} is up", {"n": name}, NOW_US, channels=channels)
        return self.catalog.enqueue(notice, now_us=self.clock.now_us())[0]

    async def step(self, *, seconds: float = 0) -> None:
        """Move time; send what is due then, and wait for what becomes of it."""
        self.clock.advance(seconds=seconds)
        await self.deliverer.look()
        await self.deliverer.settle()

    def delivery(self, name: str) -> Delivery:
        return self.catalog.delivery(TENANT, name)

    async def close(self) -> None:
        await self.poster.close()
        await self.email.close()
        self.catalog.close()


@asynccontextmanager
async def rigged(directory: Path, **options: Any) -> AsyncIterator[Rig]:
    rig = Rig(directory, **options)
    try:
        yield rig
    finally:
        await rig.close()


__all__ = ["NOW_US", "SECRET", "TENANT", "Receiver", "Rig", "rigged"]
