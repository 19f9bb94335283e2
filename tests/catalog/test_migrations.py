"""The tables of tables.py are those that the migrations make."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import Engine

from tallystick.catalog import cluster_tables, migrations, tables
from tallystick.catalog.database import newest_revision
from tallystick.catalog.relational import RelationalCatalog


def shape(engine: Engine) -> dict[str, Any]:
    """Everything the database tells of its tables, by table."""
    inspector = inspect(engine)
    names = [name for name in inspector.get_table_names() if name != "alembic_version"]

    def ordered(items: list[Any]) -> list[str]:
        return sorted(repr(sorted(dict(item).items(), key=lambda pair: pair[0])) for item in items)

    return {
        name: {
            "columns": [
                {
                    k: str(v)
                    for k, v in column.items()
                    if k in ("name", "type", "nullable", "default", "primary_key")
                }
                for column in inspector.get_columns(name)
            ],
            "primary key": inspector.get_pk_constraint(name)["constrained_columns"],
            "references": ordered(inspector.get_foreign_keys(name)),
            "unique": ordered(inspector.get_unique_constraints(name)),
            "indexes": ordered(inspector.get_indexes(name)),
        }
        for name in names
    }


def differences(engine: Engine) -> list[Any]:
    assert cluster_tables.metadata is tables.metadata
    with engine.connect() as connection:
        return compare_metadata(MigrationContext.configure(connection), tables.metadata)


def test_models_and_migrations_agree(tmp_path: Path) -> None:
    RelationalCatalog(f"sqlite:///{tmp_path}/migrated.db").migrate()
    migrated = create_engine(f"sqlite:///{tmp_path}/migrated.db")
    modelled = create_engine(f"sqlite:///{tmp_path}/modelled.db")
    tables.metadata.create_all(modelled)
    assert differences(migrated) == []
    assert shape(migrated) == shape(modelled)
    assert set(shape(migrated)) == set(tables.metadata.tables)
    migrated.dispose()
    modelled.dispose()


def test_rowid_and_autoincrement_agree(tmp_path: Path) -> None:
    RelationalCatalog(f"sqlite:///{tmp_path}/migrated.db").migrate()
    modelled = create_engine(f"sqlite:///{tmp_path}/modelled.db")
    tables.metadata.create_all(modelled)
    modelled.dispose()

    def options(name: str) -> dict[str, tuple[bool, bool]]:
        with closing(sqlite3.connect(tmp_path / name)) as connection:
            found = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
        return {
            table: ("WITHOUT ROWID" in sql, "AUTOINCREMENT" in sql)
            for table, sql in found
            if table in tables.metadata.tables
        }

    assert options("migrated.db") == options("modelled.db")


def test_one_head_and_a_plain_line() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)
    revisions = [revision.revision for revision in script.walk_revisions()]
    assert script.get_heads() == [revisions[0]]
    assert revisions == sorted(revisions, reverse=True)
    assert revisions[0] == newest_revision()  # what decides whether there is anything to do
