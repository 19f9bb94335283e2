"""What can go wrong, as one tree:

TallystickError
├── InvalidEvent   an event that no server would take; told at the caller
├── SpoolFull      there is no room for another event, and waiting did not help
├── Unreachable    no answer came: no connection, cut off, or too late
└── Problem        the server refused
"""

import json
from collections.abc import Mapping
from typing import Any, cast


class TallystickError(Exception):
    """Anything this package raises."""


class InvalidEvent(TallystickError, ValueError):
    """An event that cannot be sent: a required part is missing, or its data is no JSON."""


class SpoolFull(TallystickError):
    """Events wait for the server, and there is no room for another."""


class Unreachable(TallystickError):
    """No answer came. Whether the request was carried out is not known; repeating it is safe."""


class Problem(TallystickError):
    """The server refused: an RFC 9457 document. `code` is stable (docs/reference/errors.md)."""

    def __init__(
        self, status: int, document: Mapping[str, Any], *, retry_after_s: float | None = None
    ) -> None:
        self.status = status
        self.document = document
        self.code = str(document.get("code") or f"http_{status}")
        self.detail = str(document.get("detail") or document.get("title") or f"HTTP {status}")
        self.retry_after_s = retry_after_s
        super().__init__(f"{self.code}: {self.detail}")


def problem_of(status: int, body: bytes, retry_after_s: float | None) -> Problem:
    """Read a refusal, whoever wrote it: a proxy in between may answer with a page."""
    try:
        document: Any = json.loads(body)
    except ValueError:
        document = {}
    if not isinstance(document, dict):
        document = {}
    return Problem(status, cast("dict[str, Any]", document), retry_after_s=retry_after_s)
