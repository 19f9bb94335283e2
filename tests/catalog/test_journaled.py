"""The journal and the ledger on it, broken off anywhere, against a plain dict of what was acknowledged."""

import random
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from tallystick.catalog import journaled
from tallystick.catalog.journal import Journal
from tallystick.catalog.journaled import JournaledLedger
from tallystick.catalog.reservations import RelationalLedger, copy_ledger
from tallystick.errors import StorageFull
from tallystick.flows.backup import copy_sqlite
from tallystick.limits import reservation as life
from tallystick.limits.reservation import Reservation

NOW_US = 1_784_116_800_000_000
BYTES_MAX = 4096


class BrokenOffError(Exception):
    """The process is gone."""


class Table(RelationalLedger):
    """Writes so many states more, and then is gone."""

    left: int | None = None

    def write(self, states: Sequence[Reservation]) -> None:
        if self.left is not None and self.left < len(states):
            if self.left:
                super().write(states[: self.left])
            raise BrokenOffError
        super().write(states)


def opened(directory: Path) -> tuple[JournaledLedger, Table]:
    table = Table(f"sqlite:///{directory / 'ledger'}")
    table.prepare()
    return JournaledLedger(table, directory, journal_bytes_max=BYTES_MAX), table


def held(number: int, *, events: int = 0) -> Reservation:
    return Reservation(
        f"rsv_{number}", "t", f"c{number % 3}", "m", (("a", None),), Decimal("1.50"), NOW_US, NOW_US + number,
        events=b"x" * events,
    )  # fmt: skip


NEXT: tuple[Callable[[Reservation], Reservation], ...] = (
    life.expired,
    lambda one: life.released(one, now_us=NOW_US + 1, receipt=b"{}"),
    lambda one: life.settled(one, Decimal(1), now_us=NOW_US + 2, time_us=NOW_US, events=b"[]", receipt=b"{}"),
)


def check(ledger: JournaledLedger, model: dict[str, Reservation]) -> None:
    names = [*model, "rsv_none"]
    assert ledger.find(names) == model
    assert {one.id: one for one in ledger.load_open()} == {
        name: one for name, one in model.items() if one.is_open
    }
    assert {one.id for one in ledger.page("t", limit=1000).items} == model.keys()
    assert ledger.find(names) == model


@pytest.mark.parametrize("chance", range(8))
def test_what_was_written_is_there_wherever_it_breaks_off(tmp_path: Path, chance: int) -> None:
    chosen = random.Random(chance)
    model: dict[str, Reservation] = {}
    lasting: dict[str, Reservation] = {}
    """Of each the last state that does not follow from another: what a crash may bring back of one that does."""

    def opened_again() -> tuple[JournaledLedger, Table]:
        ledger, table = opened(tmp_path)
        found = ledger.find(model)
        assert all(
            found[name] == one or (one.follows and found[name] == lasting[name])
            for name, one in model.items()
        )
        model.update(found)
        return ledger, table

    ledger, table = opened(tmp_path)
    for number in range(160):
        states = [held(number * 10 + place) for place in range(chosen.randrange(1, 4))]
        if chosen.random() < 0.03:
            states = [held(number * 10, events=BYTES_MAX)]  # larger than a journal
        open_ = [one for one in model.values() if one.state == "held"]
        for one in chosen.sample(open_, min(len(open_), chosen.randrange(3))):
            states.append(chosen.choice(NEXT)(one))
        try:
            ledger.write(states)
        except BrokenOffError:
            # Not acknowledged; and nothing that was acknowledged is touched.
            ledger.close()
            known = {one.id: model.pop(one.id, None) for one in states}
            ledger, table = opened_again()
            found = ledger.find(known)
            assert all(found.get(one.id) in (one, known[one.id]) for one in states)
            model |= found
            check(ledger, model)
        else:
            model |= {one.id: one for one in states}
        lasting |= {one.id: one for one in model.values() if not one.follows}
        if chosen.random() < 0.06:
            table.left = chosen.randrange(30)
        if chosen.random() < 0.04 and table.left is None:
            check(ledger, model)
    table.left = 0
    ledger.close()
    ledger, table = opened_again()
    check(ledger, model)
    ledger.close()


def test_what_follows_needs_no_journal_and_comes_into_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journaled, "_FRESH_MAX", 50)
    ledger, _ = opened(tmp_path)
    before = [held(number) for number in range(200)]
    ledger.write(before[:100])
    ledger.write(before[100:])
    ledger.flush()
    appended: list[bytes] = []
    monkeypatch.setattr(Journal, "append", lambda _, entry: appended.append(entry))
    for one in before:
        ledger.write([life.expired(one)])
    assert appended == []
    with RelationalLedger(f"sqlite:///{tmp_path / 'ledger'}")._database.reading() as connection:  # pyright: ignore[reportPrivateUsage]
        query = "SELECT count(*) FROM reservations WHERE state = 'expired'"
        assert connection.exec_driver_sql(query).scalar_one() >= 100
    assert {one.state for one in ledger.page("t", limit=1000).items} == {"expired"}
    ledger.close()


def test_who_waits_for_what_moves_does_not_wait_for_its_rests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journaled, "_REST", 1e9)
    monkeypatch.setattr(journaled, "_REST_S_MAX", 3600.0)
    monkeypatch.setattr(journaled, "_STATES_A_STEP", 3)
    ledger, table = opened(tmp_path)
    model = {one.id: one for one in map(held, range(40))}
    for one in model.values():
        ledger.write([one])
    assert table.find(list(model)) != model
    check(ledger, model)
    assert table.find(list(model)) == model
    ledger.close()


def test_an_entry_that_is_torn_is_none(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path, bytes_max=512)
    journal.begin(7)
    journal.append(b"first")
    journal.append(b"second entry")
    journal.close()
    whole = path.read_bytes()
    end = whole.rindex(b"second entry") + len(b"second entry")
    start = whole.rindex(b"first") + len(b"first")
    for at in range(start, end):
        for torn in (
            whole[:at] + bytes(len(whole) - at),
            whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :],
        ):
            path.write_bytes(torn)
            journal = Journal(path, bytes_max=512)
            expected = [b"first"] if torn != whole else [b"first", b"second entry"]
            assert journal.read() == (7, expected), at
            journal.close()


def test_what_an_earlier_round_left_is_not_read(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", bytes_max=512)
    journal.begin(1)
    for _ in range(4):
        journal.append(b"old one")
    journal.begin(2)
    journal.append(b"new one")
    assert journal.read() == (2, [b"new one"])
    journal.clear()
    assert journal.read() == (0, [])
    assert journal.fits(b"x" * 400)
    assert not journal.fits(b"x" * 490)
    journal.close()


def test_a_table_that_cannot_be_written_is_told_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, _ = opened(tmp_path)
    model = {one.id: one for one in (held(number) for number in range(200))}

    def full(self: Table, states: Sequence[Reservation]) -> None:
        raise StorageFull("The disk is full.")

    written: dict[str, Reservation] = {}
    with monkeypatch.context() as patch:
        patch.setattr(Table, "write", full)
        for name, one in model.items():
            try:
                ledger.write([one])
            except StorageFull:
                break
            written[name] = one
        assert 0 < len(written) < len(model)
        assert ledger.find(written) == written
        ledger.close()
        with pytest.raises(StorageFull):
            opened(tmp_path)
    ledger, _ = opened(tmp_path)
    check(ledger, written)
    ledger.close()


def test_a_copy_of_the_file_has_what_was_written_before_a_flush(tmp_path: Path) -> None:
    ledger, _ = opened(tmp_path)
    model = {one.id: one for one in (held(number) for number in range(5))}
    ledger.write(list(model.values()))
    ledger.flush()
    copy_sqlite(tmp_path / "ledger", tmp_path / "copy")
    ledger.close()
    copied = RelationalLedger(f"sqlite:///{tmp_path / 'copy'}")
    assert {one.id: one for one in copied.load_open()} == model
    copied.close()


def test_a_journal_belongs_to_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallystick.catalog.journal._TAKEN_S_MAX", 0.0)
    first = Journal(tmp_path / "journal", bytes_max=4096)
    with pytest.raises(OSError, match="another process has"):
        Journal(tmp_path / "journal", bytes_max=4096)
    first.close()
    Journal(tmp_path / "journal", bytes_max=4096).close()


def test_a_ledger_is_copied_for_an_installation_that_moves(tmp_path: Path) -> None:
    """What is in the log counts over there; what is not is appended over there. Repeating changes nothing."""
    source, target = (f"sqlite:///{tmp_path / name}" for name in ("source.sqlite", "target.sqlite"))
    ledgers = RelationalLedger(source), RelationalLedger(target)
    for ledger in ledgers:
        ledger.prepare()
    held, *others = (
        Reservation(f"rsv_{n}", "t", "c", "m", (), Decimal(n), created_us=n, expires_us=10**15)
        for n in range(1, 5)
    )
    settling, placed, counted = (
        life.settled(one, one.amount, now_us=5, time_us=5, events=b"[]", receipt=b"{}") for one in others
    )
    placed, counted = (life.placed(one, (7,)) for one in (placed, counted))
    ledgers[0].write([held, settling, placed, life.counted(counted)])
    for _ in range(2):
        assert copy_ledger(source, target) == 4
    assert ledgers[1].load_open() == [held, settling]
    found = ledgers[1].find([placed.id, counted.id])
    assert [(one.counted, one.positions, one.settled_amount) for one in found.values()] == [
        (True, (), Decimal(3)),
        (True, (), Decimal(4)),
    ]
    for ledger in ledgers:
        ledger.close()
