"""A table as a source, on a real PostgreSQL: rows that commit late below those that are there."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import psycopg
import pytest
from tests.catalog.postgres_server import PostgresServer
from tests.sources.feed import RememberingFeed

from tallystick.sources.interface import SourceFaultError, SourceStoppedError
from tallystick.sources.postgres_table import PostgresTable, TableSettings

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = PostgresServer()
    server.start()
    yield f"postgresql://{server.address}postgres"
    server.remove()


@pytest.fixture
def database(url: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS app CASCADE")
        connection.execute("CREATE SCHEMA app")
        connection.execute(
            "CREATE TABLE app.usage (n bigserial PRIMARY KEY, type text DEFAULT 't', subject text DEFAULT 'c', "
            "at timestamptz DEFAULT now(), data jsonb)"
        )
        yield connection


def source(url: str, feed: RememberingFeed, **more: object) -> PostgresTable:
    given = {"cursor_column": "n", "every_s": 0.05, "settle_s": 0.2, "batch_events_max": 10} | more
    return PostgresTable(TableSettings(url, "app.usage", **given), feed)  # type: ignore[arg-type]


@asynccontextmanager
async def running(table: PostgresTable, feed: RememberingFeed) -> AsyncIterator[None]:
    task = asyncio.create_task(table.run())
    try:
        yield
    finally:
        table.stop()
        feed.stopping.set()
        async with asyncio.timeout(20):
            await asyncio.gather(task, return_exceptions=True)
        feed.stopping.clear()
        if not task.cancelled() and not isinstance(task.exception(), SourceStoppedError | None):
            task.result()


def insert(connection: psycopg.Connection[tuple[object, ...]], count: int = 1) -> None:
    connection.execute(
        "INSERT INTO app.usage (data) SELECT jsonb_build_object('i', i) FROM generate_series(1, %s) i",
        [count],
    )


async def test_every_row_is_taken_once_and_exactly(
    url: str, database: psycopg.Connection[tuple[object, ...]]
) -> None:
    feed = RememberingFeed()
    insert(database, 95)
    database.execute("""INSERT INTO app.usage (data) VALUES ('{"q": 12345678901234567890.123456789}')""")
    async with running(source(url, feed), feed):
        await feed.until(96)
        insert(database, 5)
        await feed.until(101)
    assert set(feed.times().values()) == {1}
    assert feed.events[0]["id"] == "test:app.usage/1"
    assert feed.lag == 0
    async with running(source(url, feed), feed):
        insert(database, 2)
        await feed.until(103)
    assert feed.events[-1]["n"] == 103


async def test_a_row_that_commits_late_is_not_missed(
    url: str, database: psycopg.Connection[tuple[object, ...]]
) -> None:
    feed = RememberingFeed()
    insert(database, 3)
    with psycopg.connect(url) as early, psycopg.connect(url) as reserved:
        async with running(source(url, feed), feed):
            await feed.until(3)
            insert(early)  # 4, in a transaction that stays open
            with early.transaction():  # and 5, in one within it
                insert(early)
            reserved.execute("SELECT nextval('app.usage_n_seq')")  # 6, and writes nothing yet
            insert(database, 30)
            await feed.until(33)
            await asyncio.sleep(1)  # longer than values may come late by themselves
            early.commit()
            await feed.until(35)
            reserved.execute("INSERT INTO app.usage (n) VALUES (6)")
            reserved.commit()
            await feed.until(36)
            async with asyncio.timeout(10):
                while b'"low": "36"' not in feed.saved["cursor"]:
                    await asyncio.sleep(0.05)
    assert sorted(event["n"] for event in feed.events) == list(range(1, 37))


async def test_what_commits_late_while_nobody_looks_is_not_missed(
    url: str, database: psycopg.Connection[tuple[object, ...]]
) -> None:
    feed = RememberingFeed()
    with psycopg.connect(url) as early:
        insert(early)
        insert(database, 20)
        async with running(source(url, feed), feed):
            await feed.until(20)
            await asyncio.sleep(0.5)
        early.commit()
        again = RememberingFeed()
        again.saved = feed.saved
        async with running(source(url, again), again):
            await again.until(1)
    assert 1 in {event["n"] for event in again.events}


async def test_equal_values_are_all_taken(url: str, database: psycopg.Connection[tuple[object, ...]]) -> None:
    feed = RememberingFeed()
    insert(database, 45)  # one statement: all have the same time
    async with running(source(url, feed, cursor_column="at"), feed):
        await feed.until(45)
        insert(database, 25)
        await feed.until(70)
    assert set(feed.times().values()) == {1}


async def test_many_writers_with_long_and_short_transactions(
    url: str, database: psycopg.Connection[tuple[object, ...]]
) -> None:
    """Against the obvious: what is in the table at the end."""
    feed = RememberingFeed()
    chance = random.Random(5)

    async def write(seed: int) -> None:
        mine = random.Random(seed)
        connection = await psycopg.AsyncConnection.connect(url)
        async with connection:
            for _ in range(12):
                for _ in range(mine.randint(1, 4)):
                    await connection.execute("INSERT INTO app.usage DEFAULT VALUES")
                    await asyncio.sleep(mine.choice([0, 0, 0.02, 0.15]))
                if mine.random() < 0.2:
                    await connection.rollback()
                else:
                    await connection.commit()

    async def run_in_turns() -> None:
        while True:
            async with running(source(url, feed, settle_s=0, every_s=0.02), feed):
                await asyncio.sleep(chance.uniform(0.1, 0.6))

    looking = asyncio.create_task(run_in_turns())
    await asyncio.gather(*(write(seed) for seed in range(12)))
    there = {row[0] for row in database.execute("SELECT n FROM app.usage").fetchall()}
    await feed.until(len(there))
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    assert {event["n"] for event in feed.events} == there


async def test_a_failure_before_acceptance_loses_nothing(
    url: str, database: psycopg.Connection[tuple[object, ...]]
) -> None:
    feed = RememberingFeed()
    insert(database, 30)
    feed.failures = [RuntimeError("no")]
    with pytest.raises(RuntimeError):
        await source(url, feed).run()
    assert not feed.saved
    async with running(source(url, feed), feed):
        await feed.until(30)


async def test_what_is_wrong_is_said(url: str, database: psycopg.Connection[tuple[object, ...]]) -> None:
    feed = RememberingFeed()
    for wrong, words in (
        ({"cursor_column": "none"}, "no column 'none'"),
        ({"cursor_column": "type"}, "type is text"),
        ({"key_columns": ("x",)}, "no column 'x'"),
    ):
        with pytest.raises(SourceFaultError, match=words):
            await source(url, feed, **wrong).run()
    with pytest.raises(SourceFaultError, match=r"no table 'app\.none'"):
        await PostgresTable(TableSettings(url, "app.none", "n"), feed).run()
    with pytest.raises(SourceFaultError) as raised:
        await PostgresTable(TableSettings("postgresql://u:sesame@127.0.0.1:1/x", "t", "n"), feed).run()
    assert "sesame" not in str(raised.value)
    for strange in ("postgresql:///x", "postgresql://h/x?passfile=/p", "postgresql://%2Frun/x"):
        with pytest.raises(SourceFaultError, match="the URL cannot be used"):
            await PostgresTable(TableSettings(strange, "t", "n"), feed).run()


async def test_a_view_is_read_too(url: str, database: psycopg.Connection[tuple[object, ...]]) -> None:
    feed = RememberingFeed()
    insert(database, 15)
    database.execute("CREATE VIEW app.v AS SELECT n, type, subject FROM app.usage")
    table = PostgresTable(
        TableSettings(url, "app.v", "n", every_s=0.05, settle_s=0.1, batch_events_max=10), feed
    )
    async with running(table, feed):
        await feed.until(15)
        insert(database, 5)
        await feed.until(20)
    assert set(feed.times().values()) == {1}
