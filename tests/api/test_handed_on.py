"""Requests to the gate that are handed on to its owner, in the moment the owner dies."""

import asyncio
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from tallystick.api import forward, wire
from tallystick.errors import Unavailable
from tallystick.flows.limits.owner import Elsewhere

CLOSED = RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")


@pytest.mark.parametrize("error", [httpx.ReadError("reset"), httpx.RemoteProtocolError("cut off"), CLOSED])
def test_an_owner_that_dies_is_looked_for_again(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    lost: list[bool] = []

    async def arrived(_: Any) -> bytes:
        return b"{}"

    async def ask(*_: Any, **__: Any) -> httpx.Response:
        raise error

    monkeypatch.setattr(wire, "arrived", arrived)
    request: Any = SimpleNamespace(
        method="POST",
        headers={},
        scope={"path": "/v1/check", "query_string": b""},
        app=SimpleNamespace(state={"gate_client": SimpleNamespace(request=ask)}),
    )
    limiting: Any = SimpleNamespace(lost_sight=lambda: lost.append(True))
    with pytest.raises(Unavailable) as refused:
        asyncio.run(forward._forwarded(request, limiting, Elsewhere("http://127.0.0.1:1")))  # pyright: ignore
    assert (refused.value.code, lost) == ("gate_not_ready", [True])
