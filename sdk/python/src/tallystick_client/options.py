"""How a client behaves. Every bound has a number here."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from ssl import SSLContext
from typing import Any, Literal

from tallystick_client.errors import TallystickError

OnFull = Literal["wait", "raise", "drop"]


@dataclass(frozen=True, slots=True)
class Rejection:
    """An event the server will never take, and why. `code` is one of those in the contract (`invalid_time`, …)."""

    event: dict[str, Any]
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Stats:
    """How many events went which way since the client was made. `waiting` are in the spool, also those of earlier
    processes; `damaged` were cut off by a machine that went down before they were synced."""

    tracked: int
    accepted: int
    rejected: int
    dropped: int
    waiting: int
    damaged: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Settings of a client."""

    source: str = "/"
    """`source` of events that name none. Identity is (source, id)."""
    spool: Path | str | None = None
    """Directory in which events wait; None: in memory. One directory for each server and tenant; processes share it."""
    spool_bytes_max: int = 256 * 1024 * 1024
    segment_bytes: int = 4 * 1024 * 1024
    sync_s: float = 0.1
    """An event not yet acknowledged is synced to disk within this time: what a failing *machine* can lose. A killed
    process loses nothing."""
    batch_events_max: int = 5_000
    batch_bytes_max: int = 1024 * 1024
    flush_s: float = 0.5
    """An event is sent within this time, or sooner when a batch is full."""
    on_full: OnFull = "wait"
    full_wait_s_max: float = 30.0
    on_rejected: Callable[[Rejection], None] | None = None
    """Told each event the server will never take, in the sending thread. None: they are logged."""
    timeout_s: float = 30.0
    retry_s_min: float = 0.2
    retry_s_max: float = 30.0
    question_attempts: int = 3
    close_s_max: float = 5.0
    """How long `close` (and the end of the process) waits for the server."""
    compress: bool = True
    ssl_context: SSLContext | None = None

    def __post_init__(self) -> None:
        """Raises TallystickError naming every value that is out of range."""
        wrong = [
            name
            for name in (
                "spool_bytes_max",
                "segment_bytes",
                "batch_events_max",
                "batch_bytes_max",
                "sync_s",
                "flush_s",
                "timeout_s",
                "retry_s_min",
                "retry_s_max",
                "question_attempts",
            )
            if getattr(self, name) <= 0
        ]
        if self.segment_bytes > self.spool_bytes_max:
            wrong.append("segment_bytes (larger than spool_bytes_max)")
        if self.on_full not in {"wait", "raise", "drop"}:
            wrong.append("on_full (wait, raise or drop)")
        if not self.source:
            wrong.append("source (empty)")
        if wrong:
            raise TallystickError(f"Options out of range: {', '.join(wrong)}.")
