"""Keys that are kept, while the catalog does not answer."""

import asyncio
from collections.abc import Collection

import pytest

from tallystick.api import auth
from tallystick.api.auth import Authenticator
from tallystick.api.rates import Rates
from tallystick.catalog.interface import Caller, Topic
from tallystick.config import Settings
from tallystick.errors import Unavailable

HEADER = b"Bearer tsk_known"


class Keys:
    def __init__(self) -> None:
        self.is_away = False

    def _answer(self) -> None:
        if self.is_away:
            raise Unavailable("away", retry_after_s=2)

    def revision(self, topic: Topic = "all") -> int:
        self._answer()
        return 1

    def authenticate(self, secret: str, *, now_us: int) -> Caller | None:
        self._answer()
        return Caller("default", frozenset(["events:write"]), "key_1", "k")

    def note_used(self, key_ids: Collection[str], *, at_us: int) -> None:
        self._answer()


def test_they_count_for_a_time_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        keys = Keys()
        authenticator = Authenticator(keys, now_us=lambda: 1, rates=Rates(Settings()))
        assert (await authenticator.authenticate(HEADER)).key_id == "key_1"
        keys.is_away = True
        monkeypatch.setattr(auth, "REVISION_CHECK_S", -1.0)
        monkeypatch.setattr(auth, "REVISION_AGE_S_MAX", -1.0)
        assert (await authenticator.authenticate(HEADER)).key_id == "key_1"
        with pytest.raises(Unavailable):
            await authenticator.authenticate(b"Bearer another")
        monkeypatch.setattr(auth, "OUTAGE_S_MAX", 0.0)
        with pytest.raises(Unavailable):
            await authenticator.authenticate(HEADER)
        keys.is_away = False
        assert (await authenticator.authenticate(HEADER)).key_id == "key_1"

    asyncio.run(scenario())
