"""The ledger of one process: durable in a journal at once, and in the table a few thousand states at a time.

Two journals take turns. While one is written, what the other holds goes into the table by a thread of its own; of several states
of a reservation only the last does. Whoever opens the ledger again puts what both hold into the table, older round first:
putting a state there again changes nothing.
"""

import errno
import threading
import time
from collections.abc import Collection, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import structlog

from tallystick.catalog.interface import Page
from tallystick.catalog.journal import Journal
from tallystick.catalog.reservations import RelationalLedger
from tallystick.errors import StorageFull, Unavailable
from tallystick.limits.reservation import Reservation

JOURNAL_BYTES_MAX = 4 * 1024 * 1024
_NAMES = ("limits.journal.0", "limits.journal.1")
_STATES_A_TRANSACTION = 1_000
_STATES_A_STEP = 250
_FRESH_MAX = 100_000
"""What follows from other states is in no journal: so many states go into the table, however little of the journal is used."""
_REST = 3.0
"""While states move to the table, so many times as long as a step took nothing is done: the gate shares the interpreter and
the disk with it, and would have a queue after each burst."""
_REST_S_MAX = 0.1

_logger = structlog.get_logger("limits")


def _decimal_text(value: Any) -> str:
    if isinstance(value, Decimal):
        return str(value)
    raise NotImplementedError


_encoder = msgspec.msgpack.Encoder(enc_hook=_decimal_text, decimal_format="string")
_decoder = msgspec.msgpack.Decoder(list[Reservation])


class JournaledLedger:
    """See catalog.limiting.Ledger."""

    def __init__(
        self, table: RelationalLedger, directory: Path, *, journal_bytes_max: int = JOURNAL_BYTES_MAX
    ) -> None:
        """Takes the table over. Raises StorageFull, Unavailable."""
        self._table = table
        self._lock = threading.RLock()
        self._fresh: dict[str, Reservation] = {}
        self._older: dict[str, Reservation] = {}
        self._moving: Future[None] | None = None
        self._hurry = threading.Event()
        """Somebody waits until everything has moved."""
        self._round = 0
        self._journals: list[Journal] = []
        """The one that is written, and the one that is moving or has moved."""
        try:
            with _known_errors():
                for name in _NAMES:
                    self._journals.append(Journal(directory / name, bytes_max=journal_bytes_max))
                self._recover()
        except BaseException:
            for journal in self._journals:
                journal.close()
            raise
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")

    def _recover(self) -> None:
        states: dict[str, Reservation] = {}
        found = sorted(((journal, *journal.read()) for journal in self._journals), key=lambda one: one[1])
        self._journals = [journal for journal, _, _ in reversed(found)]
        for _, _, entries in found:
            for entry in entries:
                for state in _decoder.decode(entry):
                    states.pop(state.id, None)
                    states[state.id] = state
        if states:
            _logger.info("ledger_recovered", states=len(states))
        self._put(states)
        self._start_anew()

    def _start_anew(self) -> None:
        """Everything is in the table. The older one first: alone it would put back what the newer one changed."""
        for journal in reversed(self._journals):
            journal.clear()
        self._next_round()

    def _next_round(self) -> None:
        # By the clock, so that no round of an earlier process comes again.
        self._round = max(self._round + 1, time.time_ns())
        self._journals[0].begin(self._round)

    def _put(self, states: dict[str, Reservation]) -> None:
        listed = list(states.values())
        for start in range(0, len(listed), _STATES_A_TRANSACTION):
            self._table.write(listed[start : start + _STATES_A_TRANSACTION])

    def _move(self, states: dict[str, Reservation], hurry: threading.Event) -> None:
        """As `_put`, and without haste."""
        written = self._journals[0]
        listed = list(states.values())
        start = 0
        while start < len(listed):
            begun_s = time.monotonic()
            step = _STATES_A_TRANSACTION if hurry.is_set() else _STATES_A_STEP
            self._table.write(listed[start : start + step])
            start += step
            # It has to be over long before the other journal is full, or all calls would wait for that.
            if start < len(listed) and start / len(listed) >= 2 * written.filled:
                hurry.wait(min(_REST_S_MAX, _REST * (time.monotonic() - begun_s)))

    # -- writing --------------------------------------------------------------------------------------------------
    def write(self, states: Sequence[Reservation]) -> None:
        lasting = [state for state in states if not state.follows]
        entry = _encoder.encode(lasting) if lasting else b""
        with self._lock, _known_errors():
            if len(self._fresh) >= _FRESH_MAX:
                self._turn()
            if not lasting:
                self._keep(states)
                return
            if not self._journals[0].fits(entry):
                self._turn()
            if not self._journals[0].fits(entry):
                # Larger than a whole journal. Nothing older may be put over it when the ledger is opened again.
                self._finish()
                self._start_anew()
                self._table.write(states)
                return
            self._journals[0].append(entry)
            self._keep(states)

    def _keep(self, states: Sequence[Reservation]) -> None:
        for state in states:
            self._fresh[state.id] = state

    def _turn(self) -> None:
        """The other journal from now on; what is in this one begins to move to the table."""
        self._finish()
        self._journals[1].clear()
        self._older, self._fresh = self._fresh, {}
        self._journals.reverse()
        self._next_round()
        self._hurry = threading.Event()
        self._moving = self._thread.submit(self._move, self._older, self._hurry)

    def _finish(self) -> None:
        """Until what is moving is in the table. Raises where it could not be put there: the journals still have it."""
        if self._moving is not None:
            self._hurry.set()
            self._moving.result()
            self._moving, self._older = None, {}

    def flush(self) -> None:
        with self._lock, _known_errors():
            if self._fresh:
                self._turn()
            self._finish()

    # -- reading --------------------------------------------------------------------------------------------------
    def load_open(self) -> list[Reservation]:
        self.flush()
        return self._table.load_open()

    def find(self, reservations: Collection[str]) -> dict[str, Reservation]:
        made: dict[str, Reservation] = {}
        with self._lock:
            for name in reservations:
                state = self._fresh.get(name) or self._older.get(name)
                if state is not None:
                    made[name] = state
        wanted = [name for name in reservations if name not in made]
        return {**self._table.find(wanted), **made} if wanted else made

    def page(
        self,
        tenant: str,
        *,
        customers: Collection[str] | None = None,
        state: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[Reservation]:
        self.flush()
        return self._table.page(tenant, customers=customers, state=state, cursor=cursor, limit=limit)

    def forget(self, *, closed_before_us: int) -> int:
        return self._table.forget(closed_before_us=closed_before_us)

    def close(self) -> None:
        try:
            self.flush()
        except Exception as error:
            # Nothing is lost: whoever opens it next finds it in the journals.
            _logger.warning("ledger_not_moved", error=repr(error))
        self._thread.shutdown()
        for journal in self._journals:
            journal.close()
        self._table.close()


@contextmanager
def _known_errors() -> Generator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("The disk of the gate's ledger is full; make room and try again.") from error
        raise Unavailable("The gate's ledger cannot be written.", retry_after_s=1) from error
