"""What changed in the catalog, wherever it was changed: told by PostgreSQL (LISTEN), and asked for as well.

A notification makes it prompt, and asking makes it certain: a connection that died without a word notifies nobody. So
the revisions are read after every notification, and every POLL_S without one. A process that cannot ask for FRESH_S knows
that it does not know (`revision` answers None).
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    import psycopg

CHANNEL = "tallystick_catalog"
POLL_S = 0.25
FRESH_S = 0.75
"""With the round trip it takes to ask: what is older than this is not known. So a change is known within a second."""
_LATE_S = 0.5
_HANGS_S = 2.0
_RETRY_S = (0.1, 0.25, 0.5)

_logger = structlog.get_logger("watch")


class Watch:
    """The catalog's revisions, kept by a thread with a connection of its own. Everything may be called from any thread."""

    def __init__(
        self,
        connect: Callable[[], "psycopg.Connection[Any]"],
        *,
        elapsed_s: Callable[[], float] = time.monotonic,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_change` is called from the thread whenever a revision has moved."""
        self._connect = connect
        self._elapsed_s = elapsed_s
        self._on_change = on_change
        self._revisions: dict[str, int] = {}
        self._asked_s = float("-inf")
        """When the question was sent that was answered last."""
        self._learned_s = float("-inf")
        self._attempt_since_s: float | None = None
        self._failures = 0
        self._failed_slowly = False
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="catalog-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(5)

    def revision(self, topic: str) -> int | None:
        """The revision of a topic, at most FRESH_S old; None when it is not known."""
        if self._elapsed_s() - self._asked_s > FRESH_S:
            return None
        return self._revisions.get(topic)

    def learn(self, revisions: Mapping[str, int]) -> None:
        """What a change of this process has just made them: it is not to wait for the news of itself."""
        with self._lock:
            self._learned_s = self._elapsed_s()
            for topic, revision in revisions.items():
                self._revisions[topic] = max(revision, self._revisions.get(topic, revision))

    @property
    def is_troubled(self) -> bool:
        """Whether the last question is unanswered for a while, or failed: better not to ask for what is known."""
        since_s = self._attempt_since_s
        return self._failures > 0 or (since_s is not None and self._elapsed_s() - since_s > _LATE_S)

    @property
    def is_hanging(self) -> bool:
        """Whether the database keeps those who ask it waiting, instead of answering or refusing."""
        since_s = self._attempt_since_s
        return self._failed_slowly or (since_s is not None and self._elapsed_s() - since_s > _HANGS_S)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._attempt_since_s = self._elapsed_s()
                with self._connect() as connection:
                    connection.execute(f"LISTEN {CHANNEL}")
                    while not self._stopping.is_set():
                        self._ask(connection)
                        for _ in connection.notifies(timeout=POLL_S, stop_after=1):
                            pass
            except Exception as error:
                since_s = self._attempt_since_s
                self._failed_slowly = since_s is not None and self._elapsed_s() - since_s > _HANGS_S / 2
                self._attempt_since_s = None
                if self._failures == 0:
                    _logger.warning("catalog_does_not_answer", error=type(error).__name__)
                delay_s = _RETRY_S[min(self._failures, len(_RETRY_S) - 1)]
                self._failures += 1
                self._stopping.wait(delay_s)

    def _ask(self, connection: "psycopg.Connection[Any]") -> None:
        sent_s = self._attempt_since_s = self._elapsed_s()
        found = dict(connection.execute("SELECT topic, revision FROM revisions").fetchall())
        with self._lock:
            before = dict(self._revisions)
            if sent_s <= self._learned_s:
                # It may be from before a change of this process.
                found = {topic: max(revision, before.get(topic, 0)) for topic, revision in found.items()}
            self._revisions = found
            self._asked_s = sent_s
        self._attempt_since_s, self._failed_slowly = None, False
        if self._failures:
            _logger.info("catalog_answers_again", after_attempts=self._failures)
            self._failures = 0
        if found != before:
            self._on_change()
