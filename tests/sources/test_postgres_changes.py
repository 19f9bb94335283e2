"""Tables as a source by logical replication, on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from tests.catalog.postgres_server import PostgresServer
from tests.sources.feed import RememberingFeed

from tallystick.sources.interface import SourceFaultError, SourceStoppedError
from tallystick.sources.postgres_changes import ChangesSettings, PostgresChanges, slot_of

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
Database = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = PostgresServer(wal_level="logical")
    server.start()
    yield f"postgresql://{server.address}postgres"
    server.remove()


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP PUBLICATION IF EXISTS p")
        connection.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = 's'"
        )
        connection.execute("DROP SCHEMA IF EXISTS app CASCADE")
        connection.execute("CREATE SCHEMA app")
        connection.execute(
            "CREATE TABLE app.usage (k bigserial PRIMARY KEY, type text DEFAULT 't', subject text DEFAULT 'c', "
            "time timestamptz DEFAULT '2026-03-01', data jsonb)"
        )
        connection.execute("CREATE TABLE app.other (k bigint)")
        connection.execute("CREATE PUBLICATION p FOR TABLE app.usage")
        yield connection


def feed() -> RememberingFeed:
    return RememberingFeed(
        {
            "key": "test",
            "kind": "postgres_changes",
            "settings": {"url": "postgresql://h/d", "publication": "p"},
        }
    )


def source(url: str, into: RememberingFeed, **more: Any) -> PostgresChanges:
    given = {"every_s": 0.05, "batch_events_max": 10} | more
    return PostgresChanges(ChangesSettings(url, "p", "s", **given), into)


@asynccontextmanager
async def running(changes: PostgresChanges, into: RememberingFeed) -> AsyncIterator[None]:
    task = asyncio.create_task(changes.run())
    try:
        yield
    finally:
        changes.stop()
        into.stopping.set()
        async with asyncio.timeout(20):
            await asyncio.gather(task, return_exceptions=True)
        into.stopping.clear()
        if not isinstance(task.exception(), SourceStoppedError | None):
            task.result()


def insert(database: Database, count: int) -> None:
    database.execute(
        "INSERT INTO app.usage (data) SELECT jsonb_build_object('i', i) FROM generate_series(1, %s) i",
        [count],
    )


async def until_slot(database: Database) -> None:
    async with asyncio.timeout(10):
        while not database.execute("SELECT 1 FROM pg_replication_slots WHERE slot_name = 's'").fetchone():
            await asyncio.sleep(0.02)


async def test_what_is_inserted_is_taken_once_and_exactly(url: str, database: Database) -> None:
    into = feed()
    insert(database, 3)
    async with running(source(url, into), into):
        await until_slot(database)
        insert(database, 55)  # one transaction, larger than a batch
        database.execute("""INSERT INTO app.usage (data) VALUES ('{"q": 12345678901234567890.10}')""")
        database.execute("INSERT INTO app.other VALUES (1)")
        await into.until(56)
    assert set(into.times().values()) == {1}
    assert into.events[0]["id"] == "test:app.usage/4"  # those before the slot were left
    assert into.events[0]["time"] == "2026-03-01T00:00:00+00:00"
    insert(database, 5)
    async with running(source(url, into), into):
        await into.until(61)
    assert set(into.times().values()) == {1}


async def test_rows_that_are_there_are_taken_where_asked(url: str, database: Database) -> None:
    into = feed()
    insert(database, 35)
    into.failures = [RuntimeError("no")]
    with pytest.raises(RuntimeError):
        await source(url, into, takes_existing=True).run()
    insert(database, 5)
    async with running(source(url, into, takes_existing=True), into):
        await into.until(40)
        insert(database, 5)
        await into.until(45)
    # Those that came between come both ways, and are the same.
    seen: dict[str, Any] = {}
    for event in into.events:
        assert seen.setdefault(event["id"], event) == event
    assert len(seen) == 45


async def test_what_was_not_accepted_is_there_again(url: str, database: Database) -> None:
    into = feed()
    async with running(source(url, into), into):
        await until_slot(database)
    insert(database, 30)
    into.failures = [RuntimeError("no")]
    with pytest.raises(RuntimeError):
        await source(url, into).run()
    async with running(source(url, into), into):
        await into.until(30)
    assert set(into.times().values()) == {1}


async def test_updates_and_deletes_correct_where_asked(url: str, database: Database) -> None:
    into = feed()
    async with running(source(url, into, corrects=True, retracts=True), into):
        await until_slot(database)
        insert(database, 3)
        await into.until(3)
        database.execute("""UPDATE app.usage SET data = '{"i": 20}' WHERE k = 2""")
        database.execute("DELETE FROM app.usage WHERE k = 1")
        database.execute("UPDATE app.usage SET k = 9 WHERE k = 3")
        await into.until(4)
        database.execute("TRUNCATE app.usage")
        async with asyncio.timeout(10):
            while not into.dead:
                await asyncio.sleep(0.05)
    replaced = [event for _, events in into.corrections for event in events]
    retracted = [identity for identities, _ in into.corrections for identity in identities]
    assert [(event["id"], event["data"]) for event in replaced] == [
        ("test:app.usage/2", {"i": 20}),
        ("test:app.usage/9", {"i": 3}),
    ]
    assert retracted == [("/", "test:app.usage/1"), ("/", "test:app.usage/3")]
    assert into.events[-1]["id"] == "test:app.usage/9"
    assert "truncated" in into.dead[0].detail


async def test_updates_and_deletes_do_nothing_otherwise(url: str, database: Database) -> None:
    into = feed()
    async with running(source(url, into), into):
        await until_slot(database)
        insert(database, 1)
        database.execute("UPDATE app.usage SET type = 'u'")
        database.execute("DELETE FROM app.usage")
        insert(database, 1)
        await into.until(2)
    assert not into.corrections
    assert [event["type"] for event in into.events] == ["t", "t"]


async def test_a_large_value_that_did_not_change_is_not_made_up(url: str, database: Database) -> None:
    into = feed()
    large = "SELECT jsonb_build_object('i', string_agg(md5(i::text), '')) FROM generate_series(1, 2000) i"
    async with running(source(url, into, corrects=True), into):
        await until_slot(database)
        database.execute(f"INSERT INTO app.usage (data) {large}")
        await into.until(1)
        database.execute("UPDATE app.usage SET subject = 'd'")
        async with asyncio.timeout(10):
            while not into.dead:
                await asyncio.sleep(0.05)
        assert "REPLICA IDENTITY FULL" in into.dead[0].detail
        database.execute("ALTER TABLE app.usage REPLICA IDENTITY FULL")
        database.execute("UPDATE app.usage SET subject = 'e'")
        async with asyncio.timeout(10):
            while not into.corrections:
                await asyncio.sleep(0.05)
    ((_, (replaced,)),) = into.corrections
    assert (replaced["subject"], replaced["data"]) == ("e", into.events[0]["data"])


async def test_a_quiet_slot_lets_go_of_what_others_write(url: str, database: Database) -> None:
    into = feed()
    async with running(source(url, into, every_s=0.01), into):
        await until_slot(database)
        database.execute("INSERT INTO app.other SELECT generate_series(1, 50000)")
        before = database.execute("SELECT pg_current_wal_lsn()").fetchone()
        async with asyncio.timeout(15):
            while not database.execute(
                "SELECT 1 FROM pg_replication_slots WHERE slot_name = 's' AND confirmed_flush_lsn >= %s",
                before,
            ).fetchone():
                await asyncio.sleep(0.05)
        insert(database, 1)
        await into.until(1)


async def test_what_is_wrong_is_said(url: str, database: Database) -> None:
    into = feed()
    database.execute("DROP PUBLICATION p")
    with pytest.raises(SourceFaultError, match="no publication 'p'"):
        await source(url, into).run()
    database.execute("CREATE PUBLICATION p FOR TABLE app.other")
    with pytest.raises(SourceFaultError, match="no primary key"):
        await source(url, into, takes_existing=True).run()
    into.saved["existing"] = b'"left"'
    database.execute("SELECT pg_drop_replication_slot('s')")
    with pytest.raises(SourceFaultError, match="the slot s is gone"):
        await source(url, into).run()


def test_names_of_slots_are_as_postgresql_allows_them() -> None:
    assert slot_of("tallystick_a_1") == "tallystick_a_1"
    assert slot_of("a-b") != slot_of("a_b")
    assert len(slot_of("ü" * 200)) <= 63
