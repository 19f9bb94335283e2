"""A backup taken while ingest goes on is of one moment, and what is restored of it answers the same for ever."""

import asyncio
import shutil
import threading
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path

import pytest
from tests.flows.rig import NOW_US, Rig, event, eventually

from tallystick.catalog.interface import Actor
from tallystick.catalog.reservations import RelationalLedger
from tallystick.config import Settings
from tallystick.errors import Conflict, Invalid, Unavailable
from tallystick.flows import backup
from tallystick.flows.backup import LEDGER, MANIFEST, PROGRESS, BackupProgress, Manifest, back_up
from tallystick.flows.correct import correct
from tallystick.flows.restore import UNFINISHED, BackupDamaged, read_manifest, restore, verify
from tallystick.flows.target import Target
from tallystick.limits.reservation import Reservation, released
from tallystick.store.clickhouse import ClickHouseStore
from tallystick.store.connection import Connection
from tallystick.store.interface import FACTS, RollupView

Play = Callable[[Callable[[Rig], Awaitable[None]]], None]


@pytest.fixture(autouse=True)
def empty_facts(side_door: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "RANGE_POSITIONS", 7)
    empty(side_door)


def empty(side_door: Connection) -> None:
    for table in (*FACTS, "readings", *(view.value for view in RollupView)):
        side_door.command(f"TRUNCATE TABLE IF EXISTS {table} SYNC")


async def taken(rig: Rig, to: Path, stopping: threading.Event | None = None) -> Manifest:
    return await back_up(
        rig.system, Target(str(to)), in_thread=asyncio.to_thread, stopping=stopping or threading.Event()
    )


def restored(rig: Rig, source: Path, side_door: Connection, to: Path) -> Rig:
    """The backup in a new data directory. The one engine of this process is emptied first and used again."""
    empty(side_door)
    settings = Settings(data_dir=str(to), store_url=rig.store_url)
    restore(Target(str(source)), settings, lambda: ClickHouseStore(rig.store_url))
    return Rig(to, rig.store_url, clock=rig.clock)


async def history(rig: Rig) -> None:
    """Events, a duplicate, a conflict, corrections and an open backfill's event; the clock goes on between them."""
    rig.meter()
    for batch in range(5):
        rig.clock.advance(seconds=1)
        await rig.record(*(event(f"{batch}-{number}", data={"n": number}) for number in range(6)))
    rig.clock.advance(seconds=1)
    await rig.record(event("0-1", data={"n": 1}), event("0-2", data={"n": 99}))
    rig.clock.advance(seconds=1)
    await correct(
        rig.system, "default", reason="wrong", actor=Actor("me"), retract=[("/s", "1-5")], replacements=None
    )
    await built(rig)


async def built(rig: Rig) -> None:
    """Readings of the past are there: questions are answered from what is derived."""

    async def ready() -> bool:
        return not rig.recorder.unbuilt() and (await rig.usage()).served_from != "events"

    await eventually(ready, "readings built")


def test_a_restored_installation_answers_the_same_now_and_as_of_earlier(
    play: Play, side_door: Connection, tmp_path: Path
) -> None:
    async def scene(rig: Rig) -> None:
        moments: list[int] = []
        rig.on_step = lambda step: (
            moments.append(rig.recorder.recorded_at_us) if step == "committed" else None
        )
        await history(rig)
        before = [(at, (await rig.usage(as_of_us=at)).rows) for at in sorted({*moments, NOW_US})]
        manifest = await taken(rig, tmp_path / "backup")
        assert manifest.rows == {
            "events": 30, "duplicates": 1, "conflicts": 1, "corrections": 1, "staged": 0, "forgotten": 0,
        }  # fmt: skip
        assert len([file for file in manifest.files if file.table == "events"]) > 3
        await rig.record(event("later"))
        await rig.stop()

        again = restored(rig, tmp_path / "backup", side_door, tmp_path / "new")
        await again.start()
        try:
            await again.settled()
            assert again.recorder.position == (manifest.position,)
            assert again.recorder.totals.events == 30
            answers = [(at, (await again.usage(as_of_us=at)).rows) for at, _ in before]
            assert answers == before
            assert len({tuple(rows) for _, rows in before}) > 4
            await built(again)
            assert [(at, (await again.usage(as_of_us=at)).rows) for at, _ in before] == before
            outcome = await again.record(event("0-3", data={"n": 3}), event("later"))
            assert outcome.duplicates == [0]
            assert outcome.conflicts == []
        finally:
            await again.stop()

    play(scene)


def test_what_was_acknowledged_and_not_recorded_is_in_it(
    play: Play, side_door: Connection, tmp_path: Path
) -> None:
    async def scene(rig: Rig) -> None:
        rig.meter()
        await rig.record(event(1), event(2))
        rig.failing.refuse = {"insert_events"}
        await rig.append(event(3), event(2))
        (end,) = (await rig.append(event(4))).tolist()
        while rig.failing.refused == 0:
            await asyncio.sleep(0.01)
        manifest = await taken(rig, tmp_path / "backup")
        assert (manifest.position, manifest.log_end) == (2, end)
        rig.failing.refuse = set()
        await rig.settled()
        await rig.stop()
        again = restored(rig, tmp_path / "backup", side_door, tmp_path / "new")
        await again.start()
        try:
            assert again.system.log.end == end
            await again.settled()
            assert again.recorder.totals.events == 4
            assert again.recorder.totals.duplicates == 1
            assert await again.total() == Decimal(4)
        finally:
            await again.stop()

    play(scene)


def test_recording_goes_on_while_it_is_written_and_leaves_no_mark(play: Play, tmp_path: Path) -> None:
    async def scene(rig: Rig) -> None:
        await rig.record(*(event(number) for number in range(20)))

        async def slowly(work: Callable[[], Manifest]) -> Manifest:
            await rig.record(*(event(number) for number in range(15, 40)))
            rig.system.store.delete_moment(
                rig.recorder.recorded_at_us - 1
            )  # merges and deletions do not matter
            return await asyncio.to_thread(work)

        manifest = await back_up(
            rig.system, Target(str(tmp_path / "b")), in_thread=slowly, stopping=threading.Event()
        )
        assert (manifest.rows["events"], manifest.rows["duplicates"], manifest.position) == (20, 0, 20)
        assert verify(Target(str(tmp_path / "b"))) == manifest
        assert rig.recorder.totals.events == 40
        assert not list(rig.directory.glob("backup-*"))

    play(scene)


def test_an_unfinished_backup_is_no_backup_and_is_taken_up_again(
    play: Play, side_door: Connection, tmp_path: Path
) -> None:
    async def scene(rig: Rig) -> None:
        await rig.record(*(event(number) for number in range(30)))
        stopping = threading.Event()
        target = Target(str(tmp_path / "b"))

        def stop_soon(progress: BackupProgress) -> None:
            if progress.rows_done >= 14:
                stopping.set()

        with pytest.raises(Unavailable, match="not finished"):
            await back_up(
                rig.system, target, in_thread=asyncio.to_thread, stopping=stopping, on_progress=stop_soon
            )
        with pytest.raises(Invalid, match="no finished backup"):
            read_manifest(target)
        with pytest.raises(Invalid, match="no finished backup"):
            restore(target, Settings(data_dir=str(tmp_path / "n")), lambda: pytest.fail("opened"))
        assert {name for name in target.names() if name.startswith("facts/events")} != set()
        await rig.record(event("more"))
        seen: list[BackupProgress] = []
        manifest = await back_up(
            rig.system,
            target,
            in_thread=asyncio.to_thread,
            stopping=threading.Event(),
            on_progress=seen.append,
        )
        assert manifest.rows["events"] == 31
        assert 14 <= seen[-1].rows_kept < 31
        assert PROGRESS not in target.names()
        assert verify(target) == manifest
        with pytest.raises(Conflict, match="finished backup"):
            await taken(rig, tmp_path / "b")
        assert side_door.rows("SELECT count() FROM system.tables WHERE name LIKE 'snapshot%'") == [(0,)]

    play(scene)


def test_damage_is_found_before_anything_is_written(play: Play, tmp_path: Path) -> None:
    async def scene(rig: Rig) -> None:
        await rig.record(*(event(number) for number in range(10)))
        manifest = await taken(rig, tmp_path / "good")
        for number, file in enumerate(manifest.files):
            place = tmp_path / f"bad{number}"
            shutil.copytree(tmp_path / "good", place)
            content = bytearray((place / file.name).read_bytes())
            content[len(content) // 2] ^= 1
            (place / file.name).write_bytes(content)
            settings = Settings(data_dir=str(tmp_path / "n"))
            with pytest.raises(BackupDamaged, match=file.name):
                restore(Target(str(place)), settings, lambda: pytest.fail("opened"))
            (place / file.name).unlink()
            with pytest.raises(BackupDamaged, match="missing"):
                verify(Target(str(place)))
        assert not (tmp_path / "n").exists()

    play(scene)


def test_half_a_restore_does_not_start_and_is_done_anew(
    play: Play, side_door: Connection, tmp_path: Path
) -> None:
    class Failed(Exception):
        pass

    async def scene(rig: Rig) -> None:
        await rig.record(*(event(number) for number in range(10)))
        await taken(rig, tmp_path / "b")
        await rig.stop()
        empty(side_door)
        settings = Settings(data_dir=str(tmp_path / "n"), store_url=rig.store_url)

        def fail(progress: BackupProgress) -> None:
            raise Failed

        source = Target(str(tmp_path / "b"))
        with pytest.raises(Failed):
            restore(source, settings, lambda: ClickHouseStore(rig.store_url), on_progress=fail)
        assert (tmp_path / "n" / UNFINISHED).exists()
        with pytest.raises(Conflict, match="not finished"):
            await Rig(tmp_path / "n", rig.store_url).start()
        with pytest.raises(Conflict, match="holds facts already"):
            restore(source, settings, lambda: ClickHouseStore(rig.store_url))
        again = restored(rig, tmp_path / "b", side_door, tmp_path / "n")
        await again.start()
        await again.settled()
        assert again.recorder.totals.events == 10
        await again.stop()
        with pytest.raises(Conflict, match="not empty"):
            restore(source, settings, lambda: pytest.fail("opened"))

    play(scene)


def test_places_that_are_none(tmp_path: Path, play: Play) -> None:
    for where in ("", "ftp://x/y", "s3://"):
        with pytest.raises(Invalid):
            Target(where)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")

    async def scene(rig: Rig) -> None:
        with pytest.raises(Conflict, match="not empty"):
            await taken(rig, tmp_path / "taken")
        assert [path.name for path in (tmp_path / "taken").iterdir()] == ["file"]
        assert MANIFEST not in Target(str(tmp_path / "taken")).names()

    play(scene)


def test_what_is_held_is_held_in_what_is_restored(play: Play, side_door: Connection, tmp_path: Path) -> None:
    held = [
        Reservation(f"rsv_{number}", "default", "acme", "m", (), Decimal(number), NOW_US, NOW_US + 60_000_000)
        for number in (1, 2)
    ]

    async def scene(rig: Rig) -> None:
        await history(rig)
        ledger = RelationalLedger(f"sqlite:///{Path(rig.system.settings.data_dir) / LEDGER}")
        ledger.prepare()
        ledger.write(held)
        await taken(rig, tmp_path / "b")
        ledger.write([released(held[1], now_us=NOW_US, receipt=b"")])
        ledger.close()
        restored(rig, tmp_path / "b", side_door, tmp_path / "new")

    play(scene)
    found = RelationalLedger(f"sqlite:///{tmp_path / 'new' / LEDGER}")
    assert found.load_open() == held
    found.close()
