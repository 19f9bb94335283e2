"""Migrated databases for tests: one for all of them, emptied after each. To make one anew takes ten times as long."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import LiteralString

import psycopg
from psycopg import sql

from tallystick.catalog.relational import RelationalCatalog

_SHAPE = """
SELECT md5(string_agg(line, ' ' ORDER BY line)) FROM (
    SELECT concat_ws(',', 'c', relname, relkind, relhastriggers) FROM pg_class
    WHERE relnamespace = 'public'::regnamespace
    UNION ALL
    SELECT concat_ws(',', 'a', attrelid::regclass, attname, atttypid, attnotnull, attisdropped) FROM pg_attribute
    JOIN pg_class ON pg_class.oid = attrelid WHERE relnamespace = 'public'::regnamespace AND attnum > 0
    UNION ALL
    SELECT concat_ws(',', 't', tgrelid::regclass, tgname, tgenabled) FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL
    SELECT concat_ws(',', 'k', conrelid::regclass, conname, pg_get_constraintdef(pg_constraint.oid)) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace
    UNION ALL
    SELECT concat_ws(',', 'f', proname, md5(prosrc)) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
) AS lines (line)
"""
"""Of everything but rows: a test that changes more gets its database thrown away."""
_EMPTY = """
DO $$
DECLARE
    name text;
    used boolean;
BEGIN
    FOR name IN SELECT format('%I', tablename) FROM pg_tables WHERE schemaname = 'public' LOOP
        EXECUTE 'SELECT EXISTS (SELECT FROM ' || name || ')' INTO used;
        IF used THEN
            EXECUTE 'DELETE FROM ' || name;
        END IF;
    END LOOP;
END $$
"""


class MigratedDatabases:
    """On the server at `address` (the beginning of a URL, ending before the database's name)."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._usable = False
        execute(address, "CREATE DATABASE migrated")
        catalog = RelationalCatalog(f"postgresql://{address}migrated")
        catalog.migrate()
        catalog.close()
        with psycopg.connect(f"postgresql://{address}migrated", autocommit=True) as connection:
            self._shape = connection.execute(_SHAPE).fetchone()
            self._rows = dict(_rows(connection))
            self._numbers = connection.execute(
                "SELECT format('%I', sequencename), coalesce(last_value, start_value), last_value IS NOT NULL "
                "FROM pg_sequences WHERE schemaname = 'public'"
            ).fetchall()

    @contextmanager
    def one(self) -> Iterator[str]:
        """The URL, from the user on, of a database as the migrations leave it."""
        if not self._usable:
            execute(self._address, "DROP DATABASE IF EXISTS used WITH (FORCE)")
            execute(self._address, "CREATE DATABASE used TEMPLATE migrated")
        self._usable = False
        yield f"{self._address}used"
        with psycopg.connect(f"postgresql://{self._address}used") as connection:
            self._empty(connection)

    def _empty(self, connection: psycopg.Connection) -> None:
        # Whoever still has a transaction open would be waited for.
        connection.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        if connection.execute(_SHAPE).fetchone() != self._shape:
            return
        # No trigger says that rows stay and no reference is followed: everything goes, and then comes what was there.
        connection.execute("SET session_replication_role = replica")
        connection.execute(_EMPTY)
        for name, text in self._rows.items():
            with connection.cursor().copy(sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(name))) as rows:
                rows.write(text)
        for sequence, number, called in self._numbers:
            connection.execute("SELECT setval(%s::regclass, %s, %s)", (sequence, number, called))
        connection.commit()
        self._usable = True


def execute(address: str, statement: LiteralString | sql.Composed) -> None:
    """A statement of the whole server's, as to make a database."""
    with psycopg.connect(f"postgresql://{address}postgres", autocommit=True) as connection:
        connection.execute(statement)


def _rows(connection: psycopg.Connection) -> Iterator[tuple[str, bytes]]:
    """Of each table that is not empty: its name, and its rows as PostgreSQL copies them."""
    names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    for (name,) in names:
        with connection.cursor().copy(sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(name))) as rows:
            text = b"".join(rows)
        if text:
            yield name, text
