"""Connections that ask the gate, watched as one: the interpreter is taken once, however many of them have something.

The server's loop (uvloop) lets the interpreter go before it waits, and takes it back twice for each connection that has
something and once more to write. Beside threads that compute (events that are taken in), each time it waits for as long as
Python's switch interval is: at 1 ms for a few hundred calls a second. So a connection that has shown to ask the gate leaves
the loop's watching for an epoll of ours, of which the loop knows as one descriptor; what is ready is read, decided and
answered in one go. ctypes' PyDLL keeps the interpreter during a system call, which Python's own sockets let go.

Linux only (`Hub.supported`); elsewhere, and for everything that is not a plain call, connections stay with the loop.
"""

import asyncio
import contextlib
import ctypes
import errno
import platform
import select
import socket
import struct
import sys
from typing import Protocol

import structlog

EVENTS_MAX = 256
"""So many connections are read before the loop's other work has its turn."""
READ_BYTES_MAX = 65536

_AGAIN = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR})
# The kernel's `struct epoll_event`: packed where it once had to be the same for 32 bits.
_EVENT = struct.Struct("=Ii4x" if platform.machine() in ("x86_64", "AMD64") else "=I4xi4x")

_logger = structlog.get_logger("api")


class Watched(Protocol):
    """A connection that can be in a hub."""

    transport: asyncio.Transport

    def data_received(self, data: bytes) -> None: ...


class Hub:
    """Of one loop, which alone uses it."""

    supported = sys.platform == "linux"

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._connections: dict[int, Watched] = {}
        self._epoll = select.epoll()
        self._descriptor = self._epoll.fileno()
        self._events = ctypes.create_string_buffer(EVENTS_MAX * _EVENT.size)
        self._seen = memoryview(self._events)
        self._buffer = ctypes.create_string_buffer(READ_BYTES_MAX)
        self._address = ctypes.addressof(self._buffer)
        system = ctypes.PyDLL(None, use_errno=True)
        self._wait = system.epoll_wait
        self._wait.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_int)
        self._recv = system.recv
        self._recv.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        self._recv.restype = ctypes.c_ssize_t
        self._write = system.send
        self._write.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int)
        self._write.restype = ctypes.c_ssize_t

    def __len__(self) -> int:
        return len(self._connections)

    def join(self, connection: Watched) -> int | None:
        """From now on the hub reads it. Answers its descriptor, for `send` and `leave`; None: it stays with the loop."""
        plug = connection.transport.get_extra_info("socket")
        descriptor = -1 if plug is None else plug.fileno()
        if descriptor < 0 or connection.transport.is_closing():
            return None
        try:
            self._epoll.register(descriptor, select.EPOLLIN)
        except OSError:
            return None
        connection.transport.pause_reading()
        if not self._connections:
            self._loop.add_reader(self._descriptor, self._ready)
        self._connections[descriptor] = connection
        return descriptor

    def leave(self, connection: Watched, descriptor: int) -> None:
        """The loop reads it again. Twice does no harm."""
        if self._connections.get(descriptor) is not connection:
            return
        del self._connections[descriptor]
        with contextlib.suppress(OSError):  # it is closed already
            self._epoll.unregister(descriptor)
        if not self._connections:
            self._loop.remove_reader(self._descriptor)
        if not connection.transport.is_closing():
            connection.transport.resume_reading()

    def send(self, connection: Watched, descriptor: int, data: bytes) -> None:
        """At once; what the system does not take goes through the transport, which also finds out why."""
        transport = connection.transport
        sent = 0
        if not transport.get_write_buffer_size():
            flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
            sent = max(0, self._write(descriptor, data, len(data), flags))
        if sent < len(data):
            transport.write(data[sent:])

    def _ready(self) -> None:
        count = self._wait(self._descriptor, self._events, EVENTS_MAX, 0)
        if count <= 0:
            return
        # A copy: what is answered here may let others join and leave.
        for _, descriptor in list(_EVENT.iter_unpack(self._seen[: count * _EVENT.size])):
            connection = self._connections.get(descriptor)
            if connection is None:
                continue
            if connection.transport.is_closing():
                self.leave(connection, descriptor)
                continue
            got = self._recv(descriptor, self._address, READ_BYTES_MAX, socket.MSG_DONTWAIT)
            if got > 0:
                try:
                    connection.data_received(ctypes.string_at(self._address, got))
                except Exception:
                    _logger.exception("connection_failed")
                    self.leave(connection, descriptor)
                    connection.transport.abort()
            elif got == 0 or ctypes.get_errno() not in _AGAIN:
                # It has ended, or broken: the loop sees the same, and has always dealt with it.
                self.leave(connection, descriptor)
