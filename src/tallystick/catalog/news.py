"""News among the processes of a cluster, told by PostgreSQL (NOTIFY), so that nobody has to ask often what there is.

A notification makes it prompt, and asking makes it certain: whoever listens asks as well, only seldom while
`is_listening`. What is told is no more than that something has changed.

It is told after the change is committed, by a transaction of its own that waits for no disk: notifications within the
transactions of all recorders would make these commit one after the other.
"""

import secrets
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import text

from tallystick.catalog.database import Database

if TYPE_CHECKING:
    import psycopg

CHANNEL = "tallystick_progress"
HEAR_S = 0.25
"""How long a stop waits for the thread at most."""
_RETRY_S = 0.5

_logger = structlog.get_logger("news")


class News:
    """Hears with a connection and a thread of its own. Everything may be called from any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._own = secrets.token_hex(8)
        self._on_news: Callable[[], None] = lambda: None
        self._is_listening = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cluster-news", daemon=True)

    @property
    def is_possible(self) -> bool:
        """Whether the database can tell at all (PostgreSQL)."""
        return self._database.dialect == "postgresql"

    @property
    def is_listening(self) -> bool:
        """Whether news arrives: notifications by an ordinary connection have been heard since this one listens. (Behind
        a pooler that hands out connections by transaction, none ever are.)"""
        return self._is_listening

    def start(self, on_news: Callable[[], None]) -> None:
        """`on_news` is called from the thread when another process has told something, and when this one may have missed
        something. Where the database cannot tell (SQLite): never."""
        if self.is_possible:
            self._on_news = on_news
            self._thread.start()

    def tell(self) -> None:
        """Something has changed, and is committed. Raises Unavailable."""
        if not self.is_possible:
            return
        with self._database.single() as connection:
            connection.execute(
                text("SELECT pg_notify(:channel, :own)"), {"channel": CHANNEL, "own": self._own}
            )

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(5)

    def _run(self) -> None:
        is_logged = False
        while not self._stopping.is_set():
            try:
                with self._database.listener() as connection:
                    self._listen(connection)
                    is_logged = False
            except Exception as error:
                if not is_logged:
                    _logger.warning("news_not_heard", error=type(error).__name__)
                is_logged = True
            self._is_listening = False
            self._stopping.wait(_RETRY_S)

    def _listen(self, connection: "psycopg.Connection[Any]") -> None:
        connection.execute(f"LISTEN {CHANNEL}")
        self.tell()
        while not self._stopping.is_set():
            for notice in connection.notifies(timeout=HEAR_S, stop_after=1):
                is_first, self._is_listening = not self._is_listening, True
                if is_first or notice.payload != self._own:
                    self._on_news()
