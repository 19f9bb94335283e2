"""A journal as a CSV file that bookkeeping software reads: rows are only added, an entry that is there is not added again."""

import csv
import os
import threading
from pathlib import Path

from tallystick.billing.journal import COLUMNS, Posting, postings
from tallystick.payments.interface import Outgoing, Sent


class JournalFile:
    """The file is made when the first entry comes. One process writes to it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def send(self, invoice: Outgoing) -> Sent:
        self._add(self._postings(invoice, voided_at=None))
        return Sent(invoice.number, "posted")

    def look(self, invoice: Outgoing, external_id: str) -> Sent | None:
        return None

    def void(self, invoice: Outgoing, external_id: str) -> Sent:
        made = self._postings(invoice, voided_at=invoice.voided_at)
        back = f"{invoice.number}-void"
        self._add([one for one in made if one.entry == back])
        return Sent(external_id, "void")

    def _postings(self, invoice: Outgoing, *, voided_at: str | None) -> list[Posting]:
        return postings(
            invoice.document,
            number=invoice.number,
            finalized_at=invoice.finalized_at,
            credits_applied=invoice.credits_applied,
            voided_at=voided_at,
        )

    def _add(self, rows: list[Posting]) -> None:
        with self._lock:
            there: set[str] = set()
            if self._path.exists():
                with self._path.open(newline="", encoding="utf-8") as stream:
                    there = {row["entry"] for row in csv.DictReader(stream)}
            new = [row for row in rows if row.entry not in there]
            if not new:
                return
            with self._path.open("a", newline="", encoding="utf-8") as stream:
                writer = csv.writer(stream, lineterminator="\n")
                if not there:
                    writer.writerow(COLUMNS)
                writer.writerows(row.cells() for row in new)
                stream.flush()
                os.fsync(stream.fileno())
