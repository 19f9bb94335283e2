"""Log lines: JSON objects (or text on a terminal), one a line, on standard error.

Secrets are never logged: members with a telling name are blanked whatever they hold, as a second net below the first
rule, which is not to pass them.
"""

import contextlib
import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

_SECRET_NAMES = frozenset(
    {"authorization", "secret", "password", "token", "api_key", "admin_key", "cookie", "idempotency_key"}
)


# Without the local variables of each frame, which is where keys and customers' data are.
_TRACEBACK = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)


class _Forgiving:
    """A stream whose failures are not the program's: a disk full of log lines, or a pipe that nobody reads any more,
    must stop neither a request nor the recorder."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()


def configure(*, level: str, form: str, stream: TextIO | None = None) -> None:
    """Set up logging for the process. `form`: json, text, or auto (text on a terminal). Called by the command line only.

    Lines of libraries (uvicorn, SQLAlchemy) take the same form."""
    out: Any = _Forgiving(sys.stderr if stream is None else stream)
    text = form == "text" or (form == "auto" and out.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        _blank_secrets,
    ]
    renderers: list[Any] = (
        [
            structlog.dev.ConsoleRenderer(
                colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
        if text
        else [
            structlog.processors.ExceptionRenderer(_TRACEBACK),
            structlog.processors.JSONRenderer(sort_keys=False),
        ]
    )
    least = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(least, logging.WARNING))


def logger(name: str) -> Any:
    """A logger; `name` becomes the member `module`. Use it as `log.info("what happened", member=value)`."""
    return structlog.get_logger(name, module=name)


def _blank_secrets(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name in event:
        if name.lower() in _SECRET_NAMES:
            event[name] = "…"
    return event
