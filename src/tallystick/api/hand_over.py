"""Connections on which calls to the gate come, handed over to the gate's process, and those that come back from it.

The descriptor goes over with what has been read. The caller notices nothing: it is the same connection.
"""

import asyncio
import socket
from typing import TYPE_CHECKING, Any

from tallystick.api.quick import Quick
from tallystick.flows.limits.process import GateProcess

if TYPE_CHECKING:
    import uvicorn

    from tallystick.api.direct import DirectConnection

_KEPT_MAX = 4096


class HandOver:
    """One event loop uses it. `serve` before anything else."""

    def __init__(self, process: GateProcess, quick: Quick) -> None:
        self._process = process
        self._quick = quick
        self._server: uvicorn.Server | None = None
        self._taking: set[asyncio.Task[None]] = set()

    def serve(self, server: "uvicorn.Server") -> None:
        """Whose connections they are."""
        self._server = server
        self._process.on_returned = self._returned

    def is_taken(self, connection: "DirectConnection", authorization: bytes, data: bytes) -> bool:
        """Hand over a connection on which a plain call came, and nothing else is under way. False: it stays."""
        if connection.kept_calls:
            connection.kept_calls -= 1
            return False
        transport: Any = connection.transport
        if (
            self._process.board.closed
            or self._quick.tenant_of(authorization) is None
            or transport.get_write_buffer_size()
        ):
            return False
        descriptor = transport.get_extra_info("socket").fileno()
        if not self._process.pass_on(descriptor, data, connection.returns):
            return False
        transport.pause_reading()
        transport.abort()
        return True

    def _returned(self, connection: socket.socket, data: bytes, returns: int) -> None:
        task = asyncio.create_task(self._take(connection, data, returns))
        self._taking.add(task)
        task.add_done_callback(self._taking.discard)

    async def _take(self, connection: socket.socket, data: bytes, returns: int) -> None:
        server = self._server
        assert server is not None

        def made() -> asyncio.Protocol:
            kind: Any = server.config.http_protocol_class
            protocol: DirectConnection = kind(
                config=server.config, server_state=server.server_state, app_state=server.lifespan.state
            )
            protocol.first = data
            protocol.returns = returns
            # The more often in a row it could not be answered there, the longer it stays.
            protocol.kept_calls = min(4 ** (returns - 1), _KEPT_MAX) if returns else 0
            return protocol

        try:
            await asyncio.get_running_loop().connect_accepted_socket(made, connection)
        except OSError:
            connection.close()  # it was closed on its way
