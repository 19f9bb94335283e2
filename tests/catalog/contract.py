"""What every catalog does. Each backend's test module subclasses these and brings two fixtures: `catalog`, empty and
migrated, and `other`, a second one on the same database as another process would open it; and `side_door`, which runs
SQL past the code under test."""

import dataclasses
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from msgspec import UNSET

from tallystick.catalog.interface import (
    SUBJECTS_PER_CUSTOMER_MAX,
    Actor,
    Catalog,
    CustomerChange,
    IdempotencyKey,
    StoredAnswer,
)
from tallystick.catalog.scopes import SCOPES
from tallystick.errors import Conflict, Invalid, NotFound, TallystickError
from tallystick.metering.definition import MeterDefinition, parse_meter
from tallystick.metering.meter import Aggregation, Dimension

T = "default"
NOW_US = 1_760_000_000_000_000
ANN = Actor("ann", key_id="key_1", request_id="req_1")
HOUR_US = 3_600_000_000
ODD_TEXTS = ["a/b", "ünï 🐘", "nul\0mid", "back\\slash", "\\0", "\\\0\\\\0\0", "'; DROP TABLE audit --", "%_"]


def definition(key: str = "tokens", **members: Any) -> MeterDefinition:
    wire = {"key": key, "event_type": "llm", "aggregation": "sum", "value": "$.tokens", **members}
    return parse_meter(wire)


def new(**members: Any) -> CustomerChange:
    return CustomerChange(**members)


def code_of(error: pytest.ExceptionInfo[TallystickError]) -> str:
    return error.value.code


def fault_codes(error: pytest.ExceptionInfo[Invalid]) -> dict[str, str]:
    return {fault.pointer: fault.code for fault in error.value.faults}


def race(*calls: Callable[[], Any]) -> list[Any]:
    """Run all at once; answers or our errors, in order."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        barrier.wait(60)
        try:
            return call()
        except TallystickError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


def everything(page_of: Callable[[str | None], Any]) -> Iterator[Any]:
    cursor: str | None = None
    for _ in range(1000):
        page = page_of(cursor)
        yield from page.items
        cursor = page.next_cursor
        if cursor is None:
            return
    raise AssertionError("the list does not end")


class HouseContract:
    def test_migrating_again_changes_nothing(self, catalog: Catalog, other: Catalog) -> None:
        catalog.create_meter(T, definition(), actor=ANN, now_us=NOW_US)
        revision = catalog.revision()
        other.migrate()
        assert catalog.revision() == revision
        assert catalog.meter(T, "tokens").version == 1

    def test_servers_that_start_at_once_migrate_one_after_the_other(
        self, empty: tuple[Catalog, Catalog]
    ) -> None:
        first, second = empty
        assert race(first.migrate, second.migrate) == [None, None]
        assert [tenant.key for tenant in first.tenants().items] == ["default"]

    def test_ping_and_close(self, catalog: Catalog) -> None:
        catalog.ping()
        catalog.close()
        catalog.close()

    def test_each_change_moves_its_topic_and_no_other(self, catalog: Catalog) -> None:
        def moved(call: Callable[[], object]) -> set[str]:
            topics = ("all", "meters", "subjects", "keys")
            before = {topic: catalog.revision(topic) for topic in topics}
            call()
            after = {topic: catalog.revision(topic) for topic in topics}
            assert all(after[topic] >= before[topic] for topic in topics)
            return {topic for topic in topics if after[topic] > before[topic]}

        def create_meter() -> object:
            return catalog.create_meter(T, definition(), actor=ANN, now_us=NOW_US)

        def same_meter() -> object:
            return catalog.change_meter(T, "tokens", definition(), actor=ANN, now_us=NOW_US)

        def create_customer() -> object:
            return catalog.create_customer(T, "acme", new(), actor=ANN, now_us=NOW_US)

        def create_key() -> object:
            return catalog.create_api_key(
                T, name="k", scopes=["admin"], expires_at_us=None, actor=ANN, now_us=NOW_US
            )

        assert moved(create_meter) == {"all", "meters"}
        assert moved(same_meter) == set()
        assert moved(create_customer) == {"all", "subjects"}
        assert moved(lambda: catalog.create_unknown(T, ["s"], now_us=NOW_US)) == {"all", "subjects"}
        assert moved(lambda: catalog.create_unknown(T, ["s"], now_us=NOW_US)) == set()
        assert moved(create_key) == {"all", "keys"}
        with pytest.raises(Conflict):
            create_customer()
        assert moved(lambda: None) == set()

    def test_a_change_that_fails_leaves_nothing_behind(self, catalog: Catalog) -> None:
        catalog.create_customer(T, "acme", new(subjects=["a"]), actor=ANN, now_us=NOW_US)
        revision, rows = catalog.revision(), len(catalog.audit(T).items)
        with pytest.raises(Conflict):
            catalog.create_customer(T, "other", new(subjects=["b", "a"]), actor=ANN, now_us=NOW_US)
        with pytest.raises(NotFound):
            catalog.customer(T, "other")
        assert catalog.resolve_subjects(T, ["a", "b", "other"]) == {"a": "acme"}
        assert (catalog.revision(), len(catalog.audit(T).items)) == (revision, rows)

    @pytest.mark.parametrize("limit", [0, -1, 1001])
    def test_limits_are_bounded(self, catalog: Catalog, limit: int) -> None:
        for listing in (catalog.meters, catalog.customers, catalog.api_keys, catalog.audit):
            with pytest.raises(Invalid) as error:
                listing(T, limit=limit)
            assert code_of(error) == "invalid_limit"

    def test_foreign_cursors_are_refused(self, catalog: Catalog) -> None:
        for key in ("a", "b"):
            catalog.create_customer(T, key, new(), actor=ANN, now_us=NOW_US)
            catalog.create_meter(T, definition(key), actor=ANN, now_us=NOW_US)
        of_customers = catalog.customers(T, limit=1).next_cursor
        of_meters = catalog.meters(T, limit=1).next_cursor
        assert of_customers is not None
        assert of_meters is not None
        for cursor in ("", "x", "!", "ü", of_customers + "A", "WyJhdWRpdCIsMV0", of_meters):
            with pytest.raises(Invalid) as error:
                catalog.customers(T, cursor=cursor)
            assert code_of(error) == "invalid_cursor"
        with pytest.raises(Invalid):
            catalog.meters(T, cursor=of_customers)


class MetersContract:
    def test_a_meter_comes_back_as_it_was_defined(self, catalog: Catalog) -> None:
        wanted = definition(
            name="LLM tokens",
            dimensions={"model": "$.model", "a": "$.region"},
            filter='data.status == "ok"',
            unit="token",
            description="all of them",
        )
        made = catalog.create_meter(T, wanted, actor=ANN, now_us=NOW_US)
        assert made.id >= 1
        assert (made.tenant, made.key, made.version) == (T, "tokens", 1)
        assert made.dimensions == (Dimension("model", "$.model"), Dimension("a", "$.region"))
        assert made.aggregation is Aggregation.SUM
        for member in dataclasses.fields(wanted):
            assert getattr(made, member.name) == getattr(wanted, member.name), member.name
        assert (made.created_at_us, made.archived_at_us) == (NOW_US, None)
        assert catalog.meter(T, "tokens") == made
        assert catalog.meter_versions(T, "tokens") == (made,)
        assert catalog.active_meters() == (made,)
        assert catalog.meters_by_id([made.id, 999]) == {made.id: made}

    @pytest.mark.parametrize(
        "members",
        [
            {"value": {"cel": "ceil(data.ms / 1000.0)"}},
            {"aggregation": "time_weighted", "timeout": "PT0.5S"},
            {"aggregation": "duration", "value": "$.state", "pair_by": "$.session", "timeout": "P366D"},
            {"of": {"aggregation": "p95", "window": "5m"}},
        ],
    )
    def test_members_that_few_meters_have_come_back_too(
        self, catalog: Catalog, members: dict[str, Any]
    ) -> None:
        wanted = definition(**members)
        made = catalog.create_meter(T, wanted, actor=ANN, now_us=NOW_US)
        for member in dataclasses.fields(wanted):
            assert getattr(made, member.name) == getattr(wanted, member.name), member.name
        assert catalog.change_meter(T, "tokens", wanted, actor=ANN, now_us=NOW_US + 1) == made

    def test_an_existing_key_is_refused(self, catalog: Catalog) -> None:
        catalog.create_meter(T, definition(), actor=ANN, now_us=NOW_US)
        with pytest.raises(Conflict) as error:
            catalog.create_meter(T, definition(), actor=ANN, now_us=NOW_US)
        assert code_of(error) == "meter_exists"

    def test_a_changed_definition_is_a_new_version(self, catalog: Catalog) -> None:
        first = catalog.create_meter(T, definition(), actor=ANN, now_us=NOW_US)
        changed = definition(value="$.total", dimensions={"model": "$.model"})
        second = catalog.change_meter(T, "tokens", changed, actor=ANN, now_us=NOW_US + 1)
        assert (second.version, second.value, second.created_at_us) == (2, "$.total", NOW_US + 1)
        assert second.id > first.id
        assert catalog.meter(T, "tokens") == second
        assert catalog.meter(T, "tokens", 1) == first
        assert catalog.meter_versions(T, "tokens") == (first, second)
        assert catalog.active_meters() == (second,)
        assert catalog.meters_by_id([first.id, second.id]) == {first.id: first, second.id: second}

    @pytest.mark.parametrize(
        "change",
        [
            {"event_type": "x"},
            {"aggregation": "max"},
            {"value": "$.x"},
            {"filter": "data.x == 1"},
            {"dimensions": {"m": "$.m"}},
            {"dimensions": {"m": "$.x", "r": "$.r"}},
            {"value": {"cel": "data.ms / 1000.0"}},
            {"of": {"aggregation": "max", "window": "day"}},
            {"aggregation": "time_weighted", "timeout": "PT1H"},
            {"aggregation": "duration", "pair_by": "$.session"},
        ],
    )
    def test_every_member_of_the_meaning_makes_a_version(
        self, catalog: Catalog, change: dict[str, Any]
    ) -> None:
        catalog.create_meter(T, definition(dimensions={"m": "$.m", "r": "$.r"}), actor=ANN, now_us=NOW_US)
        members = {"dimensions": {"m": "$.m", "r": "$.r"}, **change}
        assert catalog.change_meter(T, "tokens", definition(**members), actor=ANN, now_us=NOW_US).version == 2

    def test_what_does_not_change_the_meaning_makes_none(self, catalog: Catalog) -> None:
        first = catalog.create_meter(
            T, definition(dimensions={"m": "$.m", "r": "$.r"}), actor=ANN, now_us=NOW_US
        )
        turned = definition(dimensions={"r": "$.r", "m": "$.m"})
        assert catalog.change_meter(T, "tokens", turned, actor=ANN, now_us=NOW_US) == first
        named = definition(dimensions={"r": "$.r", "m": "$.m"}, name="Tokens", unit="t", description="d")
        second = catalog.change_meter(T, "tokens", named, actor=ANN, now_us=NOW_US)
        assert second == dataclasses.replace(first, name="Tokens", unit="t", description="d")

    def test_what_is_not_there_is_not_found(self, catalog: Catalog) -> None:
        catalog.create_meter(T, definition(), actor=ANN, now_us=NOW_US)
        calls: list[tuple[str, Callable[[], object]]] = [
            ("meter_not_found", lambda: catalog.meter(T, "x")),
            ("meter_not_found", lambda: catalog.meter("elsewhere", "tokens")),
            ("meter_not_found", lambda: catalog.meter_versions(T, "x")),
            ("meter_not_found", lambda: catalog.archive_meter(T, "x", actor=ANN, now_us=NOW_US)),
            (
                "meter_not_found",
                lambda: catalog.change_meter(T, "x", definition("x"), actor=ANN, now_us=NOW_US),
            ),
        ]
        calls.extend(
            ("meter_version_not_found", lambda v=version: catalog.meter(T, "tokens", v))
            for version in (0, -1, 2, 2**70)
        )
        for code, call in calls:
            with pytest.raises(NotFound) as error:
                call()
            assert code_of(error) == code

    def test_the_key_stays(self, catalog: Catalog) -> None:
        catalog.create_meter(T, definition(), actor=ANN, now_us=NOW_US)
        with pytest.raises(Invalid) as error:
            catalog.change_meter(T, "tokens", definition("other"), actor=ANN, now_us=NOW_US)
        assert code_of(error) == "key_immutable"

    def test_archived_it_stays_readable_and_derives_nothing(self, catalog: Catalog) -> None:
        made = catalog.create_meter(T, definition(), actor=ANN, now_us=NOW_US)
        archived = catalog.archive_meter(T, "tokens", actor=ANN, now_us=NOW_US + 1)
        assert archived == dataclasses.replace(made, archived_at_us=NOW_US + 1)
        assert catalog.archive_meter(T, "tokens", actor=ANN, now_us=NOW_US + 2) == archived
        assert catalog.meter(T, "tokens") == archived
        assert catalog.meters(T).items == ()
        assert catalog.meters(T, archived=True).items == (archived,)
        assert catalog.active_meters() == ()
        with pytest.raises(Conflict) as error:
            catalog.change_meter(T, "tokens", definition(unit="t"), actor=ANN, now_us=NOW_US)
        assert code_of(error) == "meter_archived"

    def test_created_again_it_is_the_next_version(self, catalog: Catalog) -> None:
        first = catalog.create_meter(T, definition(), actor=ANN, now_us=NOW_US)
        catalog.archive_meter(T, "tokens", actor=ANN, now_us=NOW_US)
        again = catalog.create_meter(T, definition(), actor=ANN, now_us=NOW_US + 5)
        assert (again.version, again.archived_at_us, again.created_at_us) == (2, None, NOW_US + 5)
        assert again.id > first.id
        assert [meter.version for meter in catalog.meter_versions(T, "tokens")] == [1, 2]

    def test_pages_hold_through_inserts(self, catalog: Catalog) -> None:
        for key in ("b", "d", "f"):
            catalog.create_meter(T, definition(key), actor=ANN, now_us=NOW_US)
        page = catalog.meters(T, limit=2)
        assert [meter.key for meter in page.items] == ["b", "d"]
        for key in ("a", "e"):
            catalog.create_meter(T, definition(key), actor=ANN, now_us=NOW_US)
        last = catalog.meters(T, limit=2, cursor=page.next_cursor)
        assert [meter.key for meter in last.items] == ["e", "f"]
        assert last.next_cursor is None

    def test_tenants_share_nothing(self, catalog: Catalog) -> None:
        catalog.create_tenant("t2", "Two", actor=ANN, now_us=NOW_US)
        one = catalog.create_meter(T, definition(), actor=ANN, now_us=NOW_US)
        two = catalog.create_meter("t2", definition(unit="x"), actor=ANN, now_us=NOW_US)
        assert one.id != two.id
        assert catalog.meter(T, "tokens") == one
        assert catalog.meters("t2").items == (two,)
        assert catalog.active_meters() == (one, two)
        catalog.delete_tenant("t2", actor=ANN, now_us=NOW_US)
        assert catalog.active_meters() == (one,)

    def test_of_racing_creations_one_wins(self, catalog: Catalog, other: Catalog) -> None:
        def create(where: Catalog) -> Callable[[], int]:
            return lambda: where.create_meter(T, definition(), actor=ANN, now_us=NOW_US).version

        answers = race(*[create(where) for where in (catalog, other, catalog, other)])
        assert answers.count(1) == 1
        assert [answer.code for answer in answers if isinstance(answer, Conflict)] == ["meter_exists"] * 3
        assert len(catalog.meter_versions(T, "tokens")) == 1

    def test_racing_changes_each_get_a_version(self, catalog: Catalog, other: Catalog) -> None:
        catalog.create_meter(T, definition(), actor=ANN, now_us=NOW_US)

        def change(where: Catalog, number: int) -> Callable[[], int]:
            changed = definition(value=f"$.v{number}")
            return lambda: where.change_meter(T, "tokens", changed, actor=ANN, now_us=NOW_US).version

        answers = race(*[change(where, n) for n, where in enumerate((catalog, other, catalog, other))])
        assert set(answers) == {2, 3, 4, 5}


class CustomersContract:
    def test_a_customer_comes_back_as_it_was_made(self, catalog: Catalog) -> None:
        catalog.create_customer(T, "holding", new(), actor=ANN, now_us=NOW_US)
        made = catalog.create_customer(
            T,
            "acme",
            new(
                name="Acme",
                subjects=["b", "a"],
                parent="holding",
                currency="USD",
                timezone="Europe/Berlin",
                email="a@example.com",
                external_ids={"stripe": "cus_1"},
                traits={"tier": 3, "tags": ["x", None], "deep": {"ü": "\0"}},
            ),
            actor=ANN,
            now_us=NOW_US,
        )
        assert (made.tenant, made.key, made.name, made.subjects) == (T, "acme", "Acme", ("a", "b"))
        assert (made.parent, made.currency, made.timezone) == ("holding", "USD", "Europe/Berlin")
        assert (made.email, made.external_ids) == ("a@example.com", {"stripe": "cus_1"})
        assert made.traits == {"tier": 3, "tags": ["x", None], "deep": {"ü": "\0"}}
        assert (made.created_at_us, made.archived_at_us) == (NOW_US, None)
        assert catalog.customer(T, "acme") == made
        assert catalog.customers(T).items[1] == made

    def test_defaults(self, catalog: Catalog) -> None:
        made = catalog.create_customer(T, "acme", new(), actor=ANN, now_us=NOW_US)
        assert (made.name, made.subjects, made.parent, made.timezone) == ("acme", (), None, "UTC")
        assert (made.currency, made.email, made.external_ids, made.traits) == (None, None, {}, {})

    def test_a_change_sets_what_it_names(self, catalog: Catalog) -> None:
        made = catalog.create_customer(
            T, "acme", new(subjects=["a", "b"], currency="EUR", traits={"x": 1}), actor=ANN, now_us=NOW_US
        )
        renamed = catalog.change_customer(T, "acme", new(name="N"), actor=ANN, now_us=NOW_US)
        assert renamed == dataclasses.replace(made, name="N")
        cleared = catalog.change_customer(
            T, "acme", new(currency=None, subjects=["b", "c"]), actor=ANN, now_us=NOW_US
        )
        assert cleared == dataclasses.replace(renamed, currency=None, subjects=("b", "c"))
        assert catalog.resolve_subjects(T, ["a", "b", "c"]) == {"b": "acme", "c": "acme"}

    def test_an_existing_key_is_refused(self, catalog: Catalog) -> None:
        catalog.create_customer(T, "acme", new(), actor=ANN, now_us=NOW_US)
        with pytest.raises(Conflict) as error:
            catalog.create_customer(T, "acme", new(), actor=ANN, now_us=NOW_US)
        assert code_of(error) == "customer_exists"

    def test_all_faults_at_once(self, catalog: Catalog) -> None:
        wrong = new(
            name="",
            subjects=["ok", "", "x" * 257, "\ud800"],
            parent="",
            currency="usd",
            timezone="Mars/Olympus",
            email="nobody",
            external_ids={"a/b": ""},
            traits={"x": object()},
        )
        with pytest.raises(Invalid) as error:
            catalog.create_customer(T, "k" * 257, wrong, actor=ANN, now_us=NOW_US)
        assert fault_codes(error) == {
            "/key": "invalid_text",
            "/name": "invalid_text",
            "/subjects/1": "invalid_text",
            "/subjects/2": "invalid_text",
            "/subjects/3": "invalid_text",
            "/parent": "invalid_text",
            "/currency": "invalid_currency",
            "/timezone": "invalid_timezone",
            "/email": "invalid_email",
            "/external_ids/a~1b": "invalid_text",
            "/traits": "invalid_traits",
        }
        with pytest.raises(Invalid):
            catalog.create_customer(T, "acme", new(timezone="../../etc/passwd"), actor=ANN, now_us=NOW_US)

    def test_sizes_are_bounded(self, catalog: Catalog) -> None:
        too_many = new(
            subjects=[f"s{n}" for n in range(SUBJECTS_PER_CUSTOMER_MAX + 1)],
            traits={"x": "y" * 70_000},
            external_ids={str(n): "x" for n in range(51)},
        )
        with pytest.raises(Invalid) as error:
            catalog.create_customer(T, "acme", too_many, actor=ANN, now_us=NOW_US)
        assert set(fault_codes(error).values()) == {
            "too_many_subjects",
            "traits_too_large",
            "too_many_external_ids",
        }

    def test_the_most_subjects_a_customer_may_have(self, catalog: Catalog) -> None:
        subjects = [f"s{n}" for n in range(SUBJECTS_PER_CUSTOMER_MAX)]
        catalog.create_customer(T, "acme", new(subjects=subjects), actor=ANN, now_us=NOW_US)
        moved = catalog.create_customer(
            T, "next", new(subjects=subjects), reassign=True, actor=ANN, now_us=NOW_US
        )
        assert moved.subjects == tuple(sorted(subjects))
        assert catalog.customer(T, "acme").subjects == ()
        catalog.change_customer(T, "next", new(subjects=[]), actor=ANN, now_us=NOW_US)
        assert catalog.resolve_subjects(T, subjects) == {}

    def test_archived_it_leaves_the_lists_and_keeps_its_subjects(self, catalog: Catalog) -> None:
        made = catalog.create_customer(T, "acme", new(subjects=["a"]), actor=ANN, now_us=NOW_US)
        archived = catalog.archive_customer(T, "acme", actor=ANN, now_us=NOW_US + 1)
        assert archived == dataclasses.replace(made, archived_at_us=NOW_US + 1)
        assert catalog.archive_customer(T, "acme", actor=ANN, now_us=NOW_US + 2) == archived
        assert catalog.customers(T).items == ()
        assert catalog.customers(T, archived=True).items == (archived,)
        assert catalog.resolve_subjects(T, ["a", "acme"]) == {"a": "acme", "acme": "acme"}
        with pytest.raises(Conflict) as error:
            catalog.change_customer(T, "acme", new(name="x"), actor=ANN, now_us=NOW_US)
        assert code_of(error) == "customer_archived"
        again = catalog.create_customer(T, "acme", new(name="Again"), actor=ANN, now_us=NOW_US + 3)
        assert again == dataclasses.replace(made, name="Again")

    def test_what_is_not_there_is_not_found(self, catalog: Catalog) -> None:
        calls: list[Callable[[], object]] = [
            lambda: catalog.customer(T, "x"),
            lambda: catalog.change_customer(T, "x", new(), actor=ANN, now_us=NOW_US),
            lambda: catalog.archive_customer(T, "x", actor=ANN, now_us=NOW_US),
        ]
        for call in calls:
            with pytest.raises(NotFound) as error:
                call()
            assert code_of(error) == "customer_not_found"

    def test_parents(self, catalog: Catalog) -> None:
        for key, parent in (("a", None), ("b", "a"), ("c", "b"), ("d", "a"), ("e", None)):
            catalog.create_customer(T, key, new(parent=parent), actor=ANN, now_us=NOW_US)
        assert catalog.children(T, ["a"]) == ("b", "c", "d")
        assert catalog.children(T, ["b", "e"]) == ("c",)
        assert catalog.children(T, ["a", "b"]) == ("b", "c", "d")
        assert catalog.children(T, ["c", "nobody"]) == ()
        assert catalog.children(T, []) == ()
        assert catalog.children("elsewhere", ["a"]) == ()
        for key, parent in (("a", "a"), ("a", "c"), ("b", "c")):
            with pytest.raises(Invalid) as error:
                catalog.change_customer(T, key, new(parent=parent), actor=ANN, now_us=NOW_US)
            assert fault_codes(error) == {"/parent": "parent_cycle"}
        for call in (
            lambda: catalog.change_customer(T, "a", new(parent="nobody"), actor=ANN, now_us=NOW_US),
            lambda: catalog.create_customer(T, "f", new(parent="nobody"), actor=ANN, now_us=NOW_US),
        ):
            with pytest.raises(Invalid) as error:
                call()
            assert fault_codes(error) == {"/parent": "parent_not_found"}
        with pytest.raises(Invalid) as error:
            catalog.create_customer(T, "f", new(parent="f"), actor=ANN, now_us=NOW_US)
        assert fault_codes(error) == {"/parent": "parent_cycle"}
        catalog.change_customer(T, "b", new(parent=None), actor=ANN, now_us=NOW_US)
        assert catalog.children(T, ["a"]) == ("d",)

    def test_racing_parents_make_no_cycle(self, catalog: Catalog, other: Catalog) -> None:
        for key in ("a", "b"):
            catalog.create_customer(T, key, new(), actor=ANN, now_us=NOW_US)
        answers = race(
            lambda: catalog.change_customer(T, "a", new(parent="b"), actor=ANN, now_us=NOW_US),
            lambda: other.change_customer(T, "b", new(parent="a"), actor=ANN, now_us=NOW_US),
        )
        assert [answer.code for answer in answers if isinstance(answer, Invalid)] == ["parent_cycle"]

    def test_pages_in_order_of_creation(self, catalog: Catalog) -> None:
        keys = ["z", "a", "m", "k", "b"]
        for key in keys[:3]:
            catalog.create_customer(T, key, new(subjects=[f"{key}-1"]), actor=ANN, now_us=NOW_US)
        page = catalog.customers(T, limit=2)
        assert [(customer.key, customer.subjects) for customer in page.items] == [
            ("z", ("z-1",)),
            ("a", ("a-1",)),
        ]
        for key in keys[3:]:
            catalog.create_customer(T, key, new(), actor=ANN, now_us=NOW_US)
        rest = everything(lambda cursor: catalog.customers(T, limit=2, cursor=cursor or page.next_cursor))
        assert [customer.key for customer in rest] == ["m", "k", "b"]

    @pytest.mark.parametrize("text", ODD_TEXTS)
    def test_any_text_is_a_key_and_a_subject(self, catalog: Catalog, text: str) -> None:
        made = catalog.create_customer(
            T, text, new(subjects=[text + "-1"], traits={text: text}), actor=ANN, now_us=NOW_US
        )
        assert catalog.customer(T, text) == made
        assert (made.key, made.subjects, made.traits) == (text, (text + "-1",), {text: text})
        unknown = "new " + text
        assert catalog.create_unknown(T, [text, unknown], now_us=NOW_US) == {text: text, unknown: unknown}
        assert catalog.resolve_subjects(T, [text + "-1", unknown]) == {text + "-1": text, unknown: unknown}
        assert catalog.subject_map(T)[unknown] == unknown
        assert catalog.audit(T).items[-1].resource == f"customer/{text}"


class SubjectsContract:
    def test_a_customers_key_is_its_subject(self, catalog: Catalog) -> None:
        catalog.create_customer(T, "acme", new(), actor=ANN, now_us=NOW_US)
        assert catalog.resolve_subjects(T, ["acme", "x"]) == {"acme": "acme"}
        assert catalog.customer(T, "acme").subjects == ()

    def test_a_taken_subject_moves_only_on_demand(self, catalog: Catalog) -> None:
        catalog.create_customer(T, "one", new(subjects=["s", "t"]), actor=ANN, now_us=NOW_US)
        catalog.create_customer(T, "two", new(), actor=ANN, now_us=NOW_US)
        for subjects, faults in (
            (["x", "s"], {"/subjects/1"}),
            (["one", "t"], {"/subjects/0", "/subjects/1"}),
        ):
            with pytest.raises(Conflict) as error:
                catalog.change_customer(T, "two", new(subjects=subjects), actor=ANN, now_us=NOW_US)
            assert code_of(error) == "subject_taken"
            assert {fault.pointer for fault in error.value.faults} == faults
        catalog.change_customer(
            T, "two", new(subjects=["x", "s", "one"]), reassign=True, actor=ANN, now_us=NOW_US
        )
        assert catalog.subject_map(T) == {"one": "two", "s": "two", "x": "two", "two": "two", "t": "one"}
        assert catalog.customer(T, "one").subjects == ("t",)

    def test_given_up_it_goes_to_the_customer_of_its_name(self, catalog: Catalog) -> None:
        catalog.create_customer(T, "one", new(), actor=ANN, now_us=NOW_US)
        catalog.create_customer(
            T, "two", new(subjects=["one", "two", "x"]), reassign=True, actor=ANN, now_us=NOW_US
        )
        assert catalog.subject_map(T) == {"one": "two", "two": "two", "x": "two"}
        catalog.change_customer(T, "two", new(subjects=[]), actor=ANN, now_us=NOW_US)
        assert catalog.subject_map(T) == {"one": "one", "two": "two"}
        assert catalog.create_unknown(T, ["x"], now_us=NOW_US) == {"x": "x"}
        assert catalog.customer(T, "x").subjects == ("x",)

    def test_a_new_customer_leaves_a_declared_subject_alone(self, catalog: Catalog) -> None:
        catalog.create_customer(T, "one", new(subjects=["two"]), actor=ANN, now_us=NOW_US)
        catalog.create_customer(T, "two", new(), actor=ANN, now_us=NOW_US)
        assert catalog.resolve_subjects(T, ["two"]) == {"two": "one"}

    def test_unknown_subjects_make_customers(self, catalog: Catalog) -> None:
        catalog.create_customer(T, "acme", new(subjects=["a"]), actor=ANN, now_us=NOW_US)
        asked = ["u2", "a", "acme", "u1", "u2"]
        expected = {"u2": "u2", "a": "acme", "acme": "acme", "u1": "u1"}
        assert catalog.create_unknown(T, asked, now_us=NOW_US) == expected
        assert catalog.create_unknown(T, asked, now_us=NOW_US + 9) == expected
        assert [customer.key for customer in catalog.customers(T).items] == ["acme", "u2", "u1"]
        made = catalog.customer(T, "u1")
        assert (made.name, made.subjects, made.created_at_us) == ("u1", ("u1",), NOW_US)
        assert catalog.create_unknown(T, [], now_us=NOW_US) == {}
        row = catalog.audit(T).items[0]
        assert (row.action, row.after) == (
            "customer.create_unknown",
            {"customers": 2, "examples": ["u2", "u1"]},
        )

    def test_tenants_share_nothing(self, catalog: Catalog) -> None:
        catalog.create_tenant("t2", "Two", actor=ANN, now_us=NOW_US)
        catalog.create_customer(T, "one", new(subjects=["s"]), actor=ANN, now_us=NOW_US)
        assert catalog.resolve_subjects("t2", ["s", "one"]) == {}
        catalog.create_unknown("t2", ["s"], now_us=NOW_US)
        assert catalog.subject_map("t2") == {"s": "s"}
        assert catalog.subject_map(T) == {"s": "one", "one": "one"}

    def test_many_at_a_time(self, catalog: Catalog) -> None:
        subjects = [f"s{n}" for n in range(12_000)]
        same = {subject: subject for subject in subjects}
        assert catalog.create_unknown(T, subjects, now_us=NOW_US) == same
        assert catalog.resolve_subjects(T, subjects) == same
        assert catalog.subject_map(T) == same

    def test_changes_tell_what_the_map_tells(self, catalog: Catalog) -> None:
        catalog.create_customer(T, "one", new(subjects=["a", "b"]), actor=ANN, now_us=NOW_US)
        begin = catalog.subject_changes(0)
        assert begin.complete
        assert begin.owners == {(T, "one"): "one", (T, "a"): "one", (T, "b"): "one"}
        assert catalog.subject_changes(begin.revision).owners == {}
        catalog.change_customer(T, "one", new(subjects=["b", "c"]), actor=ANN, now_us=NOW_US)
        changed = catalog.subject_changes(begin.revision)
        assert changed.owners == {(T, "a"): None, (T, "c"): "one"}
        catalog.change_customer(T, "one", new(name="x"), actor=ANN, now_us=NOW_US)
        catalog.create_meter(T, definition(), actor=ANN, now_us=NOW_US)
        after = catalog.subject_changes(changed.revision)
        assert (after.owners, after.complete) == ({}, True)

    def test_changes_in_pieces(self, catalog: Catalog) -> None:
        for number in range(5):
            catalog.create_unknown(T, [f"{number}-{n}" for n in range(3)], now_us=NOW_US)
        for limit in (1, 2, 3, 4, 7, 15, 100):
            seen: dict[tuple[str, str], str | None] = {}
            revision = 0
            for _ in range(20):
                changes = catalog.subject_changes(revision, limit=limit)
                assert not changes.owners.keys() & seen.keys()
                seen.update(changes.owners)
                revision = changes.revision
                if changes.complete:
                    break
            assert {subject: owner for (_, subject), owner in seen.items()} == catalog.subject_map(T)

    def test_a_reader_of_changes_misses_nothing_while_writers_race(
        self, catalog: Catalog, other: Catalog
    ) -> None:
        done = threading.Event()
        seen: dict[tuple[str, str], str | None] = {}

        def read() -> None:
            revision = 0
            for _ in range(100_000):
                last_round = done.is_set()
                changes = catalog.subject_changes(revision)
                seen.update(changes.owners)
                revision = changes.revision
                if last_round:
                    return

        def write(where: Catalog, name: str) -> Callable[[], None]:
            def run() -> None:
                for number in range(10):
                    where.create_unknown(T, [f"{name}-{number}", f"shared-{number}"], now_us=NOW_US)

            return run

        reader = threading.Thread(target=read)
        reader.start()
        answers = race(write(catalog, "a"), write(other, "b"), write(other, "c"))
        done.set()
        reader.join(30)
        assert answers == [None, None, None]
        assert {subject: owner for (_, subject), owner in seen.items()} == catalog.subject_map(T)
        assert len(seen) == 40

    def test_of_racing_claims_one_wins(self, catalog: Catalog, other: Catalog) -> None:
        def claim(where: Catalog, key: str) -> Callable[[], str]:
            return lambda: where.create_customer(T, key, new(subjects=["s"]), actor=ANN, now_us=NOW_US).key

        answers = race(*[claim(where, f"c{n}") for n, where in enumerate((catalog, other, catalog, other))])
        winners = [answer for answer in answers if isinstance(answer, str)]
        assert len(winners) == 1
        assert [answer.code for answer in answers if isinstance(answer, Conflict)] == ["subject_taken"] * 3
        assert catalog.resolve_subjects(T, ["s"]) == {"s": winners[0]}

    def test_like_a_plain_dict(self, catalog: Catalog) -> None:
        tenants = iter(range(1_000_000))

        class Machine(CustomersMachine):
            def begin(self) -> tuple[Catalog, str]:
                tenant = f"m{next(tenants)}"
                catalog.create_tenant(tenant, tenant, actor=ANN, now_us=NOW_US)
                return catalog, tenant

        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=8,
                stateful_step_count=12,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )


NAMES = st.sampled_from(["a", "b", "c", "d", "e"])
SUBJECTS = st.lists(st.sampled_from(["a", "b", "c", "d", "e", "x", "y"]), max_size=4)


class CustomersMachine(RuleBasedStateMachine):
    """Customers and subjects against a model: who declares what, and who is below whom, in three dicts."""

    def begin(self) -> tuple[Catalog, str]:
        raise NotImplementedError

    @initialize()
    def start(self) -> None:
        self.catalog, self.tenant = self.begin()
        self.declared: dict[str, str] = {}
        self.parents: dict[str, str | None] = {}
        self.archived: set[str] = set()
        self.seen_revision = self.catalog.revision("subjects")
        self.seen: dict[str, str | None] = {}

    def owner(self, subject: str) -> str | None:
        return self.declared.get(subject) or (subject if subject in self.parents else None)

    def is_below(self, key: str, top: str) -> bool:
        at: str | None = key
        while at is not None:
            at = self.parents.get(at)
            if at == top:
                return True
        return False

    def declare(self, key: str, subjects: list[str], *, reassign: bool) -> bool:
        if not reassign and any(self.owner(s) not in (None, key) for s in subjects):
            return False
        self.declared = {s: owner for s, owner in self.declared.items() if owner != key}
        self.declared.update(dict.fromkeys(subjects, key))
        return True

    @rule(
        key=NAMES,
        subjects=st.none() | SUBJECTS,
        parent=st.none() | NAMES,
        reassign=st.booleans(),
        create=st.booleans(),
    )
    def create_or_change(
        self, key: str, subjects: list[str] | None, parent: str | None, *, reassign: bool, create: bool
    ) -> None:
        call = self.catalog.create_customer if create else self.catalog.change_customer
        wanted = CustomerChange(parent=parent, subjects=UNSET if subjects is None else subjects)
        there, archived = key in self.parents, key in self.archived
        expected: str | None = None
        if create and there and not archived:
            expected = "customer_exists"
        elif not create and not there:
            expected = "customer_not_found"
        elif not create and archived:
            expected = "customer_archived"
        elif parent is not None and (parent == key or self.is_below(parent, key)):
            expected = "parent_cycle"
        elif parent is not None and parent not in self.parents:
            expected = "parent_not_found"
        else:
            before = self.parents.get(key, "absent")
            self.parents[key] = parent
            if subjects is not None and not self.declare(key, subjects, reassign=reassign):
                expected = "subject_taken"
                if before == "absent":
                    del self.parents[key]
                else:
                    self.parents[key] = before
            else:
                self.archived.discard(key)
        got: str | None = None
        try:
            call(self.tenant, key, wanted, reassign=reassign, actor=ANN, now_us=NOW_US)
        except TallystickError as error:
            got = error.code
        assert got == expected

    @rule(key=NAMES)
    def archive(self, key: str) -> None:
        if key in self.parents:
            self.catalog.archive_customer(self.tenant, key, actor=ANN, now_us=NOW_US)
            self.archived.add(key)

    @rule(subjects=SUBJECTS)
    def create_unknown(self, subjects: list[str]) -> None:
        for subject in subjects:
            if self.owner(subject) is None:
                self.parents[subject] = None
                self.declared[subject] = subject
        got = self.catalog.create_unknown(self.tenant, subjects, now_us=NOW_US)
        assert got == {subject: self.owner(subject) for subject in subjects}

    @invariant()
    def agrees(self) -> None:
        everyone = ["a", "b", "c", "d", "e", "x", "y"]
        expected = {s: owner for s in everyone if (owner := self.owner(s)) is not None}
        assert self.catalog.subject_map(self.tenant) == expected
        assert self.catalog.resolve_subjects(self.tenant, everyone) == expected
        listed = self.catalog.customers(self.tenant, archived=True).items
        assert {customer.key: customer.parent for customer in listed} == self.parents
        assert {s: customer.key for customer in listed for s in customer.subjects} == self.declared
        active = {customer.key for customer in self.catalog.customers(self.tenant).items}
        assert active == self.parents.keys() - self.archived
        for top in everyone:
            below = tuple(sorted(key for key in self.parents if self.is_below(key, top)))
            assert self.catalog.children(self.tenant, [top]) == below
        changes = self.catalog.subject_changes(self.seen_revision)
        self.seen_revision = changes.revision
        self.seen.update({s: owner for (tenant, s), owner in changes.owners.items() if tenant == self.tenant})
        assert {s: owner for s, owner in self.seen.items() if owner is not None} == expected


class KeysContract:
    def make(self, catalog: Catalog, **members: Any) -> Any:
        wanted = {"name": "k", "scopes": ["usage:read"], "expires_at_us": None, **members}
        return catalog.create_api_key(T, **wanted, actor=ANN, now_us=NOW_US)

    def test_a_key_authenticates(self, catalog: Catalog, other: Catalog) -> None:
        made = self.make(catalog, scopes=["meters:read", "events:write", "meters:read"])
        assert made.secret.startswith(made.key.prefix + "_")
        assert made.secret not in repr(made)
        caller = other.authenticate(made.secret, now_us=NOW_US)
        assert caller is not None
        assert (caller.tenant, caller.key_id, caller.name, caller.customer) == (T, made.key.id, "k", None)
        assert caller.scopes == {"events:write", "meters:read"}
        assert caller.allows("meters:read")
        assert not caller.allows("meters:write")
        assert catalog.api_keys(T).items == (made.key,)

    def test_admin_allows_everything(self, catalog: Catalog) -> None:
        caller = catalog.authenticate(self.make(catalog, scopes=["admin"]).secret, now_us=NOW_US)
        assert caller is not None
        assert all(caller.allows(scope) for scope in SCOPES)

    def test_other_secrets_do_not(self, catalog: Catalog) -> None:
        secret = self.make(catalog).secret
        for wrong in ("", "x", secret[:-1], secret + "x", secret.upper(), "\ud800", "x" * 100_000):
            assert catalog.authenticate(wrong, now_us=NOW_US) is None

    def test_no_secret_is_stored(self, catalog: Catalog, side_door: Callable[[str], list[Any]]) -> None:
        made = self.make(catalog)
        rotated = catalog.rotate_api_key(T, made.key.id, actor=ANN, now_us=NOW_US)
        configured = "a-configured-admin-key"
        catalog.ensure_admin_key(configured, now_us=NOW_US)
        stored = str(side_door("SELECT * FROM api_keys")) + str(side_door("SELECT * FROM audit"))
        for secret in (made.secret, rotated.secret, configured):
            assert secret[-16:] not in stored

    def test_expiry(self, catalog: Catalog) -> None:
        made = self.make(catalog, expires_at_us=NOW_US + 10)
        assert made.key.expires_at_us == NOW_US + 10
        caller = catalog.authenticate(made.secret, now_us=NOW_US + 9)
        assert caller is not None
        assert caller.expires_at_us == NOW_US + 10
        assert catalog.authenticate(made.secret, now_us=NOW_US + 10) is None

    def test_revoked_it_stops(self, catalog: Catalog) -> None:
        made = self.make(catalog)
        revoked = catalog.revoke_api_key(T, made.key.id, actor=ANN, now_us=NOW_US + 1)
        assert revoked == dataclasses.replace(made.key, revoked_at_us=NOW_US + 1)
        assert catalog.revoke_api_key(T, made.key.id, actor=ANN, now_us=NOW_US + 2) == revoked
        assert catalog.authenticate(made.secret, now_us=NOW_US) is None
        with pytest.raises(Conflict) as error:
            catalog.rotate_api_key(T, made.key.id, actor=ANN, now_us=NOW_US)
        assert code_of(error) == "api_key_revoked"

    def test_rotated_the_old_secret_stops(self, catalog: Catalog) -> None:
        made = self.make(catalog)
        rotated = catalog.rotate_api_key(T, made.key.id, actor=ANN, now_us=NOW_US)
        assert rotated.key == dataclasses.replace(made.key, prefix=rotated.key.prefix)
        assert catalog.authenticate(made.secret, now_us=NOW_US) is None
        caller = catalog.authenticate(rotated.secret, now_us=NOW_US)
        assert caller is not None
        assert caller.key_id == made.key.id

    def test_keys_of_others_are_not_found(self, catalog: Catalog) -> None:
        made = self.make(catalog)
        for tenant, key_id in (("elsewhere", made.key.id), (T, "key_x")):
            for call in (catalog.rotate_api_key, catalog.revoke_api_key):
                with pytest.raises(NotFound) as error:
                    call(tenant, key_id, actor=ANN, now_us=NOW_US)
                assert code_of(error) == "api_key_not_found"

    def test_faults(self, catalog: Catalog) -> None:
        with pytest.raises(Invalid) as error:
            self.make(catalog, name="", scopes=["admin", "root"], expires_at_us=NOW_US)
        assert fault_codes(error) == {
            "/name": "invalid_name",
            "/scopes/1": "unknown_scope",
            "/expires_at": "expires_in_past",
        }
        with pytest.raises(Invalid) as error:
            self.make(catalog, scopes=[])
        assert fault_codes(error) == {"/scopes": "missing_scopes"}

    def test_pages(self, catalog: Catalog) -> None:
        made = [self.make(catalog, name=str(n)).key for n in range(5)]
        assert list(everything(lambda c: catalog.api_keys(T, limit=2, cursor=c))) == made

    def test_the_first_start_makes_an_admin_key_once(self, catalog: Catalog, other: Catalog) -> None:
        answers = race(
            lambda: catalog.ensure_admin_key(None, now_us=NOW_US),
            lambda: other.ensure_admin_key("", now_us=NOW_US),
        )
        made = [secret for secret in answers if isinstance(secret, str)]
        assert len(made) == 1
        caller = catalog.authenticate(made[0], now_us=NOW_US)
        assert caller is not None
        assert (caller.tenant, caller.scopes) == (T, {"admin"})
        assert catalog.ensure_admin_key(None, now_us=NOW_US) is None
        catalog.revoke_api_key(T, caller.key_id, actor=ANN, now_us=NOW_US)
        assert catalog.ensure_admin_key(None, now_us=NOW_US) is not None

    def test_a_configured_key_replaces_the_one_before(self, catalog: Catalog) -> None:
        assert catalog.ensure_admin_key("first", now_us=NOW_US) is None
        revision = catalog.revision()
        assert catalog.ensure_admin_key("first", now_us=NOW_US) is None
        assert catalog.revision() == revision
        assert catalog.ensure_admin_key(None, now_us=NOW_US) is None
        first = catalog.authenticate("first", now_us=NOW_US)
        assert first is not None
        assert first.allows("billing:write")
        catalog.ensure_admin_key("second", now_us=NOW_US)
        assert catalog.authenticate("first", now_us=NOW_US) is None
        assert catalog.authenticate("second", now_us=NOW_US) is not None
        catalog.ensure_admin_key("first", now_us=NOW_US)
        assert catalog.authenticate("first", now_us=NOW_US) == first
        assert catalog.authenticate("second", now_us=NOW_US) is None
        for call in (catalog.rotate_api_key, catalog.revoke_api_key):
            with pytest.raises(Conflict) as error:
                call(T, first.key_id, actor=ANN, now_us=NOW_US)
            assert code_of(error) == "api_key_configured"
        assert {key.prefix for key in catalog.api_keys(T).items} == {"configured"}

    def test_tenants(self, catalog: Catalog) -> None:
        tenant, admin = catalog.create_tenant("t2", "Two", actor=ANN, now_us=NOW_US)
        assert [t.key for t in catalog.tenants().items] == ["default", "t2"]
        assert list(everything(lambda c: catalog.tenants(limit=1, cursor=c)))[1] == tenant
        caller = catalog.authenticate(admin.secret, now_us=NOW_US)
        assert caller is not None
        assert (caller.tenant, caller.scopes) == ("t2", {"admin"})
        with pytest.raises(Conflict):
            catalog.create_tenant("t2", "Two", actor=ANN, now_us=NOW_US)
        catalog.delete_tenant("t2", actor=ANN, now_us=NOW_US)
        assert catalog.authenticate(admin.secret, now_us=NOW_US) is None
        assert [t.key for t in catalog.tenants().items] == ["default"]
        with pytest.raises(NotFound) as missing:
            catalog.delete_tenant("t2", actor=ANN, now_us=NOW_US)
        assert code_of(missing) == "tenant_not_found"
        with pytest.raises(Conflict) as error:
            catalog.create_tenant("t2", "Again", actor=ANN, now_us=NOW_US)
        assert code_of(error) == "tenant_exists"
        with pytest.raises(Conflict) as error:
            catalog.delete_tenant("default", actor=ANN, now_us=NOW_US)
        assert code_of(error) == "tenant_default"
        with pytest.raises(Invalid) as invalid:
            catalog.create_tenant("-", "", actor=ANN, now_us=NOW_US)
        assert fault_codes(invalid) == {"/key": "invalid_key", "/name": "invalid_name"}


class IdempotencyContract:
    KEY = IdempotencyKey(T, "key_1", "POST /v1/meters", "abc")
    ANSWER = StoredAnswer(201, (("Location", "/v1/meters/x"), ("X", "ü")), b'{"a":1}\x00\xff')

    def test_the_first_runs_and_the_next_replays(self, catalog: Catalog, other: Catalog) -> None:
        assert catalog.take_idempotent(self.KEY, b"h1", now_us=NOW_US) is None
        with pytest.raises(Conflict) as error:
            other.take_idempotent(self.KEY, b"h1", now_us=NOW_US)
        assert code_of(error) == "idempotency_key_in_use"
        catalog.finish_idempotent(self.KEY, self.ANSWER, now_us=NOW_US)
        assert other.take_idempotent(self.KEY, b"h1", now_us=NOW_US + HOUR_US) == self.ANSWER
        for _ in range(2):
            with pytest.raises(Invalid) as invalid:
                catalog.take_idempotent(self.KEY, b"h2", now_us=NOW_US)
            assert code_of(invalid) == "idempotency_key_reused"

    def test_other_request_while_the_first_runs(self, catalog: Catalog) -> None:
        catalog.take_idempotent(self.KEY, b"h1", now_us=NOW_US)
        with pytest.raises(Invalid) as error:
            catalog.take_idempotent(self.KEY, b"h2", now_us=NOW_US)
        assert code_of(error) == "idempotency_key_reused"

    def test_each_part_tells_keys_apart(self, catalog: Catalog) -> None:
        catalog.take_idempotent(self.KEY, b"h", now_us=NOW_US)
        for member in ("tenant", "key_id", "route", "key"):
            changed = dataclasses.replace(self.KEY, **{member: "other"})
            assert catalog.take_idempotent(changed, b"h2", now_us=NOW_US) is None

    def test_released_it_may_run_again(self, catalog: Catalog) -> None:
        catalog.take_idempotent(self.KEY, b"h1", now_us=NOW_US)
        catalog.release_idempotent(self.KEY)
        assert catalog.take_idempotent(self.KEY, b"h2", now_us=NOW_US) is None
        catalog.finish_idempotent(self.KEY, self.ANSWER, now_us=NOW_US)
        catalog.release_idempotent(self.KEY)
        assert catalog.take_idempotent(self.KEY, b"h2", now_us=NOW_US) == self.ANSWER

    def test_a_lost_runner_is_given_up(self, catalog: Catalog) -> None:
        catalog.take_idempotent(self.KEY, b"h1", now_us=NOW_US)
        with pytest.raises(Conflict):
            catalog.take_idempotent(self.KEY, b"h1", now_us=NOW_US + 59_999_999)
        assert catalog.take_idempotent(self.KEY, b"h1", now_us=NOW_US + 60_000_000) is None
        with pytest.raises(Conflict):
            catalog.take_idempotent(self.KEY, b"h1", now_us=NOW_US + 60_000_001)

    def test_answers_are_forgotten_after_a_day(self, catalog: Catalog) -> None:
        later = dataclasses.replace(self.KEY, key="later")
        for key, at_us in ((self.KEY, NOW_US), (later, NOW_US + HOUR_US)):
            catalog.take_idempotent(key, b"h1", now_us=at_us)
            catalog.finish_idempotent(key, self.ANSWER, now_us=at_us)
        day_us = 24 * HOUR_US
        assert catalog.take_idempotent(self.KEY, b"h1", now_us=NOW_US + day_us - 1) == self.ANSWER
        assert catalog.forget_idempotent(now_us=NOW_US + day_us - 1) == 0
        assert catalog.forget_idempotent(now_us=NOW_US + day_us) == 1
        assert catalog.take_idempotent(self.KEY, b"h2", now_us=NOW_US) is None
        assert catalog.take_idempotent(later, b"h2", now_us=NOW_US + day_us + HOUR_US) is None

    def test_the_keys_length_is_bounded(self, catalog: Catalog) -> None:
        for key in ("", "x" * 256):
            with pytest.raises(Invalid) as error:
                catalog.take_idempotent(dataclasses.replace(self.KEY, key=key), b"h", now_us=NOW_US)
            assert code_of(error) == "invalid_idempotency_key"

    @pytest.mark.parametrize("at_us", [NOW_US, NOW_US + 60_000_000], ids=["fresh", "given-up"])
    def test_of_racing_requests_one_runs(self, catalog: Catalog, other: Catalog, at_us: int) -> None:
        if at_us != NOW_US:
            catalog.take_idempotent(self.KEY, b"h", now_us=NOW_US)

        def take(where: Catalog) -> Callable[[], StoredAnswer | None]:
            return lambda: where.take_idempotent(self.KEY, b"h", now_us=at_us)

        answers = race(*[take(where) for where in (catalog, other, catalog, other)])
        assert answers.count(None) == 1
        assert [e.code for e in answers if isinstance(e, Conflict)] == ["idempotency_key_in_use"] * 3


class AuditContract:
    def test_each_change_leaves_a_row(self, catalog: Catalog) -> None:
        catalog.create_meter(T, definition(unit="a"), actor=ANN, now_us=NOW_US)
        catalog.change_meter(T, "tokens", definition(unit="b"), actor=ANN, now_us=NOW_US + 1)
        catalog.archive_meter(T, "tokens", actor=ANN, now_us=NOW_US + 2)
        catalog.create_customer(T, "acme", new(), actor=Actor("system"), now_us=NOW_US + 3)
        catalog.change_customer(T, "acme", new(name="x"), actor=ANN, now_us=NOW_US + 4)
        catalog.change_customer(T, "acme", new(name="x"), actor=ANN, now_us=NOW_US + 5)
        catalog.archive_customer(T, "acme", actor=ANN, now_us=NOW_US + 6)
        rows = catalog.audit(T).items
        assert [(row.action, row.resource, row.at_us - NOW_US) for row in rows] == [
            ("customer.archive", "customer/acme", 6),
            ("customer.change", "customer/acme", 4),
            ("customer.create", "customer/acme", 3),
            ("meter.archive", "meter/tokens", 2),
            ("meter.change", "meter/tokens", 1),
            ("meter.create", "meter/tokens", 0),
        ]
        change = rows[4]
        assert (change.actor, change.key_id, change.request_id) == ("ann", "key_1", "req_1")
        assert change.before is not None
        assert change.after is not None
        assert (change.before["unit"], change.after["unit"]) == ("a", "b")
        assert rows[5].before is None
        assert (rows[2].actor, rows[2].key_id, rows[2].request_id) == ("system", None, None)
        assert list(everything(lambda c: catalog.audit(T, limit=4, cursor=c))) == list(rows)
        assert catalog.audit("elsewhere").items == ()

    def test_rows_cannot_be_changed_or_deleted(
        self, catalog: Catalog, side_door: Callable[[str], list[Any]]
    ) -> None:
        catalog.create_meter(T, definition(), actor=ANN, now_us=NOW_US)
        for statement in ("UPDATE audit SET actor = 'x'", "DELETE FROM audit"):
            with pytest.raises(Exception, match="append-only"):
                side_door(statement)
        assert [row.actor for row in catalog.audit(T).items] == ["ann"]


class CatalogContract(
    HouseContract,
    MetersContract,
    CustomersContract,
    SubjectsContract,
    KeysContract,
    IdempotencyContract,
    AuditContract,
):
    """All of it."""
