"""Every step of the migrations, on a database that is in use. Subclasses bring `new_url`, which makes an empty database."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from tallystick.catalog import migrations
from tallystick.catalog.cached import CachedCatalog
from tallystick.catalog.coordination import Coordination
from tallystick.catalog.interface import Caller

from .contract import ANN, NOW_US, T, definition, new
from .test_migrations import differences, shape

SECRET = "a configured key of long ago"


def revisions() -> list[str]:
    """All of them, oldest first."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.set_main_option("path_separator", "os")
    found = [revision.revision for revision in ScriptDirectory.from_config(config).walk_revisions()]
    return found[::-1]


def use(url: str) -> None:
    """What was written by a program of the first version: only columns there were then."""
    engine = create_engine(url)
    number = {"tenant": T, "created_at_us": NOW_US}
    customer = {**number, "external_ids": '{"crm": "7"}', "traits": "{}", "timezone": "UTC"}
    rows: list[tuple[str, dict[str, Any]]] = [
        ("customers", {**customer, "key": "acme", "name": "Acme"}),
        ("customers", {**customer, "key": "ünï 🐘", "name": "Below", "parent": "acme"}),
        ("subjects", {"tenant": T, "subject": "s", "customer": "acme", "declared": True, "revision": 1}),
    ]
    metadata = sa.MetaData()
    with engine.begin() as connection:
        for name, row in rows:
            table = sa.Table(name, metadata, autoload_with=connection)
            connection.execute(sa.insert(table), row)
        held = sa.Table("revisions", metadata, autoload_with=connection)
        connection.execute(sa.update(held).values(revision=1))
    engine.dispose()


class MigrationsContract:
    steps_apart = 1
    """Where a database takes a second to make: from the first, which goes through all steps, and from each so many later."""

    def test_every_step_leads_to_the_same_tables_and_keeps_what_is_there(
        self, new_url: Callable[[str], str]
    ) -> None:
        whole_url = new_url("whole")
        whole = CachedCatalog(whole_url)
        whole.migrate()
        whole.close()
        engine = create_engine(whole_url)
        wanted = shape(engine)
        assert differences(engine) == []
        engine.dispose()
        for revision in revisions()[:: self.steps_apart]:
            url = new_url(f"from_{revision}")
            catalog = CachedCatalog(url)
            catalog._database.migrate(revision)
            use(url)
            catalog.migrate()
            catalog.migrate()
            engine = create_engine(url)
            assert shape(engine) == wanted, revision
            engine.dispose()
            self.check(catalog, url)
            catalog.close()

    def check(self, catalog: CachedCatalog, url: str) -> None:
        assert catalog.customer(T, "acme").name == "Acme"
        assert dict(catalog.customer(T, "acme").external_ids) == {"crm": "7"}
        assert catalog.children(T, ["acme"]) == ("ünï 🐘",)
        assert catalog.resolve_subjects(T, ["s"]) == {"s": "acme"}
        catalog.ensure_admin_key(SECRET, now_us=NOW_US)
        assert isinstance(catalog.authenticate(SECRET, now_us=NOW_US), Caller)
        catalog.create_meter(T, definition(), actor=ANN, now_us=NOW_US)
        catalog.create_customer(T, "new", new(subjects=["t"]), actor=ANN, now_us=NOW_US)
        assert [meter.key for meter in catalog.active_meters()] == ["tokens"]
        coordination = Coordination(url)
        coordination.partitions.prepare(2)
        assert coordination.partitions.acquire(1, "a", ttl_us=1) == 1
        coordination.close()
