"""Billing off, billing crashing in a loop, billing's tables dropped: ingest, usage and corrections are as ever.

The tests of those rooms run here once more, unchanged, in each of the three states.
"""

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table
from tests.api.questions import test_corrections, test_usage
from tests.api.questions.live import Live, Tenant, opened

from tallystick.catalog import billing_tables, credit_tables
from tallystick.flows.billing import keeper

OFF, CRASHING, DROPPED = "off", "crashing", "dropped"
TABLES = [
    one.name
    for module in (billing_tables, credit_tables)
    for one in vars(module).values()
    if isinstance(one, Table)
]
_crashes: list[str] = []
_tables: list["Tables"] = []
"""Those of the system that has lost them."""


class Tables:
    """Billing's tables of a catalog that is in use."""

    def __init__(self, directory: Path) -> None:
        (self._file,) = directory.glob("catalog.sqlite")
        self._statements: list[str] = []

    def drop(self) -> None:
        with closing(sqlite3.connect(self._file)) as connection:
            marks = ", ".join("?" * len(TABLES))
            found = connection.execute(
                f"SELECT type, sql FROM sqlite_master WHERE tbl_name IN ({marks}) AND sql IS NOT NULL",
                TABLES,
            ).fetchall()
            self._statements = [sql for _, sql in sorted(found, key=lambda one: one[0] != "table")]
            for name in TABLES:
                connection.execute(f"DROP TABLE {name}")
            connection.commit()

    def bring_back(self) -> None:
        with closing(sqlite3.connect(self._file)) as connection:
            for statement in self._statements:
                connection.execute(statement)
            connection.commit()


@pytest.fixture(scope="module", params=[OFF, CRASHING, DROPPED])
def state(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def live(state: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    directory = tmp_path_factory.mktemp(state)
    settings: dict[str, Any] = {"billing": "off"} if state == OFF else {"billing_sweep_s": 0.02}
    with pytest.MonkeyPatch.context() as patch:
        if state == CRASHING:

            async def crash(*_: object, **__: object) -> None:
                _crashes.append("again")
                raise RuntimeError("billing is broken")

            patch.setattr(keeper, "run", crash)
        with opened(directory, **settings) as live:
            if state == DROPPED:
                _tables.append(Tables(directory))
                _tables[0].drop()
            yield live


@pytest.fixture
def tenant(live: Live) -> Tenant:
    return live.tenant()


filled = test_usage.filled
metered = test_corrections.metered
test_one_total = test_usage.test_one_total
test_post_is_the_same_question = test_usage.test_post_is_the_same_question
test_reading_ones_own_writes = test_usage.test_reading_ones_own_writes
test_two_subjects_of_one_customer = test_usage.test_two_subjects_of_one_customer_in_one_batch
test_it_counts_when_it_is_answered = test_corrections.test_it_counts_when_it_is_answered
test_correcting_again = test_corrections.test_correcting_again
test_look_up_tells_every_correction = test_corrections.test_look_up_tells_every_correction


def test_customers_meters_and_keys_go_on(tenant: Tenant) -> None:
    assert tenant.post("/v1/customers", {"key": "acme", "subjects": ["a"]}).status_code == 201
    assert tenant.send("PATCH", "/v1/customers/acme", json={"name": "Acme"}).status_code == 200
    tenant.meter(key="calls", event_type="call", aggregation="count")
    tenant.record({"id": "1", "type": "call", "subject": "a", "time": "2026-07-01T00:00:00Z"})
    assert tenant.answer("/v1/meters/calls/usage", params={"customer": "acme"})["rows"][0]["value"] == "1"
    assert tenant.send("DELETE", "/v1/customers/acme").status_code == 204
    assert tenant.post("/v1/api_keys", {"name": "k", "scopes": ["usage:read"]}).status_code == 201
    assert tenant.get("/health/ready").status_code == 200


def test_routes_of_billing_say_why(state: str, tenant: Tenant) -> None:
    tenant.post("/v1/customers", {"key": "acme"})
    routes = [
        ("GET", "/v1/plans", None),
        ("GET", "/v1/subscriptions", None),
        ("GET", "/v1/invoices", None),
        ("POST", "/v1/plans", {"key": "p", "currency": "EUR", "charges": []}),
        ("POST", "/v1/billing/run", {"at": "2026-08-01T00:00:00Z"}),
        ("POST", "/v1/customers/acme/invoices/preview", {}),
        ("GET", "/v1/customers/acme/credits", None),
    ]
    expected = {OFF: {404}, CRASHING: {200, 201, 404}, DROPPED: {503}}[state]
    for method, path, body in routes:
        answer = tenant.send(method, path, json=body)
        assert answer.status_code in expected, (path, answer.text)
        if state == DROPPED:
            problem = answer.json()
            assert problem["code"] == "table_missing", path
            assert "backup" in problem["detail"]
            assert not any(name in answer.text for name in ("SELECT", "sqlite", "no such"))
            assert answer.headers["retry-after"] == "30"


def test_the_keeper_tries_again_and_again(state: str, live: Live) -> None:
    if state == CRASHING:
        give_up = time.monotonic() + 60
        begun = len(_crashes)
        while len(_crashes) < begun + 3 and time.monotonic() < give_up:
            live.run(asyncio.sleep(0.02))
        assert len(_crashes) >= begun + 3


def test_what_is_back_works_again(state: str, live: Live, tenant: Tenant) -> None:
    """The last one: tables come back while the process runs, and the keeper bills."""
    if state != DROPPED:
        return
    assert tenant.get("/v1/plans").status_code == 503
    _tables[0].bring_back()
    assert tenant.get("/v1/plans").status_code == 200
    tenant.post("/v1/customers", {"key": "acme"})
    charges = [{"key": "base", "price": {"model": "flat", "amount": "5"}}]
    assert tenant.post("/v1/plans", {"key": "p", "currency": "EUR", "charges": charges}).status_code == 201
    tenant.post("/v1/plans/p/publish")
    body = {"customer": "acme", "plan": "p", "start": "2026-06-01T00:00:00Z"}
    assert tenant.post("/v1/subscriptions", body).status_code == 201
    give_up = time.monotonic() + 60
    while not tenant.answer("/v1/invoices")["items"] and time.monotonic() < give_up:
        live.run(asyncio.sleep(0.05))
    assert tenant.answer("/v1/invoices")["items"][0]["total"] == "5.00"
