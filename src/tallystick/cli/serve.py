"""`tallystick serve`: everything in one process, or what its roles are."""

import asyncio
import contextlib
import gc
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from tallystick import __version__, observe
from tallystick.cli.options import with_settings
from tallystick.config import Settings
from tallystick.errors import Invalid, TallystickError

if TYPE_CHECKING:
    import uvicorn

    from tallystick.api.direct import Direct
    from tallystick.wiring import Running

_GATE_OPEN_S_MAX = 15.0

_console = Console(stderr=True)


@with_settings
def serve(settings: Settings) -> None:
    """Start Tallystick until Ctrl-C or SIGTERM: HTTP API, recorder and everything else in this process, or in a cluster
    what `--role` says."""
    # Threads that leave NumPy or Arrow wait for the interpreter at most this long; the default of 5 ms adds up.
    sys.setswitchinterval(0.001)
    import uvloop

    uvloop.run(run_server(settings))


async def run_server(
    settings: Settings, *, when_ready: Callable[["Running", str], Awaitable[None]] | None = None
) -> None:
    """Serve until a signal comes. `when_ready` runs beside the server once it answers, and is cancelled with it."""
    gc.disable()  # until all is there: see below
    # Imported here, so that commands which only talk to a server start in a fraction of the time.
    import uvicorn

    from tallystick.api.app import create_app, server_config
    from tallystick.api.watched import Watched
    from tallystick.wiring import roles_of, start

    observe.configure(level=settings.log_level, form=settings.log_format)
    roles = roles_of(settings)
    host, port = listen_address(settings.listen)
    listener = _bind(host, port)
    running = await start(settings)
    beside: asyncio.Task[None] | None = None
    try:
        url = f"http://{host if ':' not in host else f'[{host}]'}:{listener.getsockname()[1]}"
        _greet(running, url, settings)
        app = create_app(running.system)
        # Decoding makes many short-lived containers and no cycles: looking for cycles took a fifth of the time. What is
        # there by now stays, so nobody looks there either; a search for the few cycles in it would take as long as all else here.
        gc.freeze()
        gc.set_threshold(100_000, 20, 100)
        gc.enable()
        served = app if "api" in roles else Watched(app)
        server = _ending(
            uvicorn.Server(server_config(served, host=host, port=port)), running.system.tails.close
        )
        await _join_gate(running, server)
        if when_ready is not None:
            beside = asyncio.create_task(_coroutine(when_ready(running, url)))
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _second_signal_ends_at_once)
        await server.serve(sockets=[listener])
    finally:
        if beside is not None:
            beside.cancel()
            with contextlib.suppress(asyncio.CancelledError, TallystickError):
                await beside
        await running.stop()


async def _join_gate(running: "Running", server: "uvicorn.Server") -> None:
    """Where the gate has a process of its own: it has the processors first, and is given connections."""
    limits = running.system.limits
    process = None if limits is None else limits.process
    if process is None:
        return
    if not await process.wait_until_open(_GATE_OPEN_S_MAX):
        _console.print("The gate is not open yet; until it is, each limit's `fail` decides.")
    server.config.load()
    direct: Direct | None = getattr(server.config.http_protocol_class, "direct", None)
    if direct is not None and direct.hand_over is not None:
        direct.hand_over.serve(server)


def _ending(server: "uvicorn.Server", end_streams: Callable[[], None]) -> "uvicorn.Server":
    """Has streams end when a signal comes: the server waits for connections, and theirs would never end."""
    handle, loop = server.handle_exit, asyncio.get_running_loop()

    def on_signal(sig: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(end_streams)
        handle(sig, frame)

    server.handle_exit = on_signal
    return server


def _second_signal_ends_at_once(number: int, _: object) -> None:
    """uvicorn raises the signal it has served once more when it is done. The default would end the process there, with
    the batch under way and every file open; so that one is taken, and the next one not."""
    signal.signal(number, signal.SIG_DFL)


async def _coroutine(awaitable: Awaitable[None]) -> None:
    await awaitable


def listen_address(listen: str) -> tuple[str, int]:
    """`127.0.0.1:8080`, `[::1]:8080` or `:8080` (all addresses) → host, port."""
    host, separator, port = listen.rpartition(":")
    if not separator or not port.isdigit() or int(port) > 65535:
        raise Invalid(
            f"TALLYSTICK_LISTEN: {listen!r} is not an address and a port, such as 127.0.0.1:8080.",
            code="invalid_setting",
        )
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 -- `:8080` asks for it


def _bind(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server(
            (host, port), backlog=2048, family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
    except OSError as error:
        raise Invalid(
            f"Cannot listen on {host}:{port}: {error.strerror}. Is another Tallystick running there? "
            "Choose another address with --listen.",
            code="invalid_setting",
        ) from error


def _greet(running: "Running", url: str, settings: Settings) -> None:
    with contextlib.suppress(OSError):  # whoever reads this may be gone, or its disk full
        _console.print(
            f"[bold]Tallystick {__version__}[/bold] on [link={url}]{url}[/link], data in {settings.data_dir}"
        )
    if running.first_admin_key is not None:
        _console.print(
            f"Your admin key, shown this once: [bold]{running.first_admin_key}[/bold]\n"
            "Send it as `Authorization: Bearer …`."
        )


def register(app: typer.Typer) -> None:
    app.command("serve")(serve)
