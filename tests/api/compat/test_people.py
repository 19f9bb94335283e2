"""Customers made through a vendor's client in the very moment in which the recorder makes one of their first event."""

from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from tallystick.api.compat import people
from tallystick.catalog.interface import SYSTEM, CustomerChange
from tallystick.catalog.relational import RelationalCatalog
from tallystick.errors import Conflict

T = "t"


class RecordedMeanwhile(RelationalCatalog):
    """After each of the first looks the recorder makes customers of these subjects."""

    meanwhile: list[list[str]]

    def resolve_subjects(self, tenant: str, subjects: Collection[str]) -> dict[str, str]:
        found = super().resolve_subjects(tenant, subjects)
        if self.meanwhile:
            self.create_unknown(tenant, self.meanwhile.pop(0), now_us=1)
        return found


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[RecordedMeanwhile]:
    opened = RecordedMeanwhile(f"sqlite:///{tmp_path / 'catalog.db'}")
    opened.meanwhile = []
    opened.migrate()
    opened.create_tenant(T, T, actor=SYSTEM, now_us=1)
    yield opened
    opened.close()


def make(catalog: RecordedMeanwhile, *subjects: str) -> list[str]:
    change = CustomerChange(name="Acme", subjects=subjects)
    made = people.saved(catalog, T, "acme", change, upsert=False, actor=SYSTEM, now_us=2)
    assert made.name == "Acme"
    return list(made.subjects)


def test_its_subjects_events_come_in_between(catalog: RecordedMeanwhile) -> None:
    catalog.meanwhile = [["prod", "test"]]
    assert make(catalog, "prod", "test") == ["prod", "test"]
    assert catalog.resolve_subjects(T, ["prod", "test"]) == {"prod": "acme", "test": "acme"}


def test_an_event_of_its_own_key_comes_in_between(catalog: RecordedMeanwhile) -> None:
    catalog.meanwhile = [["acme"]]
    assert make(catalog, "prod") == ["prod"]


def test_one_after_the_other(catalog: RecordedMeanwhile) -> None:
    # The lookups of `create_unknown` itself come in between too: each is one of these.
    catalog.meanwhile = [["prod"], [], ["acme"]]
    assert make(catalog, "prod") == ["prod"]


def test_what_somebody_made_is_not_taken(catalog: RecordedMeanwhile) -> None:
    catalog.create_customer(T, "other", CustomerChange(subjects=("prod",)), actor=SYSTEM, now_us=1)
    with pytest.raises(Conflict, match="belongs to customer 'other'"):
        make(catalog, "prod")
    catalog.create_customer(T, "acme", CustomerChange(name="Another"), actor=SYSTEM, now_us=1)
    with pytest.raises(Conflict, match="already"):
        make(catalog, "test")
