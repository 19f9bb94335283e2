"""What every catalog does about customers' stages, merges and external ids, about tenants, and with the audit."""

from collections.abc import Iterator
from typing import Any

import pytest

from tallystick.catalog.interface import (
    CUSTOMER_LEVELS_MAX,
    Actor,
    AuditSearch,
    Catalog,
    CustomerChange,
    CustomerSearch,
    DeletedTenant,
)
from tallystick.errors import Conflict, Invalid, TallystickError

T = "default"
NOW_US = 1_760_000_000_000_000
ANN = Actor("ann", key_id="key_1", request_id="req_1", address="192.0.2.7")
BOB = Actor("bob", key_id="key_2", request_id="req_2")


def new(**members: Any) -> CustomerChange:
    return CustomerChange(**members)


class AuditSearchContract:
    def rows(self, catalog: Catalog, **search: Any) -> list[str]:
        def pages() -> Iterator[str]:
            cursor: str | None = None
            while True:
                page = catalog.audit(T, AuditSearch(**search), limit=2, cursor=cursor)
                yield from (f"{row.actor} {row.action} {row.resource}" for row in page.items)
                cursor = page.next_cursor
                if cursor is None:
                    return

        return list(pages())

    def test_rows_are_found_by_each_of_their_sides(self, catalog: Catalog) -> None:
        catalog.create_customer(T, "acme", new(name="Acme 100%"), actor=ANN, now_us=NOW_US)
        catalog.create_customer(T, "Acme_2", new(), actor=BOB, now_us=NOW_US + 1)
        catalog.change_customer(T, "acme", new(email="me@acme.example"), actor=BOB, now_us=NOW_US + 2)
        catalog.note(T, "events.correct", "events", after={"reason": "x_y"}, actor=ANN, now_us=NOW_US + 3)
        noted, changed, second, first = (
            "ann events.correct events",
            "bob customer.change customer/acme",
            "bob customer.create customer/Acme_2",
            "ann customer.create customer/acme",
        )
        assert self.rows(catalog) == [noted, changed, second, first]
        for search, expected in (
            ({"actor": "ann"}, [noted, first]),
            ({"actor": "key_2"}, [changed, second]),
            ({"action": "customer.*"}, [changed, second, first]),
            ({"action": "customer"}, []),
            ({"resource": "customer/acme"}, [changed, first]),
            ({"resource": "customer/a*"}, [changed, first]),  # capital letters matter
            ({"resource": "customer/A*"}, [second]),
            ({"request_id": "req_1"}, [noted, first]),
            ({"from_us": NOW_US + 1, "to_us": NOW_US + 3}, [changed, second]),
            ({"text": "ACME.example"}, [changed]),
            ({"text": "100%"}, [changed, first]),
            ({"text": "x_y"}, [noted]),
            ({"text": "192.0.2"}, [noted, first]),
            ({"text": "1%0"}, []),
            ({"actor": "bob", "text": "nothing"}, []),
        ):
            assert self.rows(catalog, **search) == expected, search
        assert [row.address for row in catalog.audit(T).items] == ["192.0.2.7", None, None, "192.0.2.7"]


class CustomerLifeContract:
    def test_stages_go_forward(self, catalog: Catalog) -> None:
        catalog.create_customer(T, "acme", new(stage="onboarding"), actor=ANN, now_us=NOW_US)
        for stage in ("trial", "active", "suspended", "active", "active"):
            changed = catalog.change_customer(T, "acme", new(stage=stage), actor=ANN, now_us=NOW_US)
            assert changed.stage == stage
        for stage in ("trial", "onboarding"):
            with pytest.raises(Conflict) as refused:
                catalog.change_customer(T, "acme", new(stage=stage, name="x"), actor=ANN, now_us=NOW_US)
            assert refused.value.code == "stage_not_allowed"
        assert catalog.customer(T, "acme").name == "acme"
        catalog.change_customer(T, "acme", new(stage="offboarded"), actor=ANN, now_us=NOW_US)
        with pytest.raises(Conflict):
            catalog.change_customer(T, "acme", new(stage="active"), actor=ANN, now_us=NOW_US)
        with pytest.raises(Invalid) as invalid:
            catalog.create_customer(
                T, "b", new(stage="gone", currency="ABC", timezone="Mars"), actor=ANN, now_us=NOW_US
            )
        assert {fault.pointer for fault in invalid.value.faults} == {"/stage", "/currency", "/timezone"}

    def test_an_external_id_belongs_to_one_customer(self, catalog: Catalog) -> None:
        def create(key: str, **ids: str) -> None:
            catalog.create_customer(T, key, new(external_ids=ids), actor=ANN, now_us=NOW_US)

        create("acme", stripe="cus_1", crm="7")
        create("beta", stripe="7")
        with pytest.raises(Conflict) as refused:
            create("gamma", stripe="cus_1", crm="8")
        assert refused.value.code == "external_id_taken"
        assert [fault.pointer for fault in refused.value.faults] == ["/external_ids/stripe"]
        found = catalog.customers(T, CustomerSearch(external_id=("stripe", "7"))).items
        assert [customer.key for customer in found] == ["beta"]
        assert catalog.customers("elsewhere", CustomerSearch(external_id=("stripe", "7"))).items == ()
        catalog.change_customer(T, "acme", new(external_ids={"crm": "7"}), actor=ANN, now_us=NOW_US)
        create("gamma", stripe="cus_1")
        catalog.change_customer(T, "gamma", new(external_ids={"stripe": "cus_1"}), actor=ANN, now_us=NOW_US)

    def test_levels_are_bounded_from_above_and_from_below(self, catalog: Catalog) -> None:
        def create(key: str, parent: str | None) -> None:
            catalog.create_customer(T, key, new(parent=parent), actor=ANN, now_us=NOW_US)

        for level in range(CUSTOMER_LEVELS_MAX):
            create(f"a{level}", f"a{level - 1}" if level else None)
        with pytest.raises(Invalid) as refused:
            create("deep", f"a{CUSTOMER_LEVELS_MAX - 1}")
        assert refused.value.code == "too_many_levels"
        create("top", None)
        with pytest.raises(Invalid):
            catalog.change_customer(T, "a0", new(parent="top"), actor=ANN, now_us=NOW_US)
        catalog.change_customer(T, "a1", new(parent="top"), actor=ANN, now_us=NOW_US)
        assert [one.key for one in catalog.customers(T, CustomerSearch(parent="top")).items] == ["a1"]

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("acme", ["c1", "c2", "ACME-3"]),
            ("Acme Ltd", ["c1"]),
            ("100%", ["c4"]),
            ("_", ["c5"]),
            ("Über", ["c6"]),
            ("PEOPLE@", ["c2"]),
            ("back\\slash", ["c7"]),
            ("nobody", []),
        ],
    )
    def test_customers_are_found_by_text(self, catalog: Catalog, text: str, expected: list[str]) -> None:
        """In key, name or email, whatever its capital letters; nothing in it is a pattern."""
        names = {
            "c1": "Acme Ltd",
            "c2": "Other",
            "ACME-3": "Third",
            "c4": "100% sure",
            "c5": "under_score",
            "c6": "Übersee",
            "c7": "back\\slash",
        }
        for key, name in names.items():
            values = new(name=name, email="people@acme.test") if key == "c2" else new(name=name)
            catalog.create_customer(T, key, values, actor=ANN, now_us=NOW_US)
        search = CustomerSearch(text=text)
        assert [one.key for one in catalog.customers(T, search).items] == expected
        first = catalog.customers(T, search, limit=1)
        rest = catalog.customers(T, search, cursor=first.next_cursor) if first.next_cursor else None
        assert [one.key for one in first.items + (rest.items if rest else ())] == expected

    def test_a_merge_hands_everything_over(self, catalog: Catalog) -> None:
        def create(key: str, **members: Any) -> None:
            catalog.create_customer(T, key, new(**members), actor=ANN, now_us=NOW_US)

        create("old", subjects=["s1", "s2"], external_ids={"stripe": "cus_1", "crm": "1"})
        create("mine", parent="old")
        create("new", parent="mine", subjects=["s3"], external_ids={"crm": "2"})
        revision = catalog.revision("subjects")
        joined = catalog.merge_customers(T, "old", "new", actor=BOB, now_us=NOW_US + 5)
        assert joined.subjects == ("old", "s1", "s2", "s3")
        assert joined.external_ids == {"stripe": "cus_1", "crm": "2"}
        assert joined.parent is None
        old = catalog.customer(T, "old")
        assert (old.merged_into, old.parent, old.archived_at_us) == ("new", "new", NOW_US + 5)
        assert (old.subjects, old.external_ids) == ((), {"crm": "1"})
        assert catalog.children(T, ["new"]) == ("mine", "old")
        asked = ("s1", "s2", "s3", "old", "new", "mine")
        assert catalog.resolve_subjects(T, asked) == {**dict.fromkeys(asked, "new"), "mine": "mine"}
        changes = catalog.subject_changes(revision)
        assert changes.owners == {(T, name): "new" for name in ("old", "s1", "s2")}
        rows = catalog.audit(T, AuditSearch(actor="bob")).items
        assert [(row.action, row.resource) for row in rows] == [
            ("customer.join", "customer/new"),
            ("customer.merge", "customer/old"),
            ("customer.change", "customer/mine"),
        ]
        assert catalog.children(T, ["old"], at_us=NOW_US) == ("mine", "new")
        assert catalog.children(T, ["new"], at_us=NOW_US + 5) == ("mine", "old")
        assert catalog.children(T, ["new"], at_us=NOW_US - 1) == ()
        assert catalog.merge_customers(T, "old", "new", actor=BOB, now_us=NOW_US + 6) == joined
        assert len(catalog.audit(T, AuditSearch(actor="bob")).items) == len(rows)

    def test_a_merge_that_makes_no_sense_is_refused(self, catalog: Catalog) -> None:
        for key in ("a", "b", "c"):
            catalog.create_customer(T, key, new(), actor=ANN, now_us=NOW_US)
        catalog.merge_customers(T, "a", "b", actor=ANN, now_us=NOW_US)
        for key, into, code in (
            ("a", "c", "customer_merged"),
            ("c", "a", "customer_archived"),
            ("c", "c", "merge_into_itself"),
            ("c", "none", "customer_not_found"),
            ("none", "c", "customer_not_found"),
        ):
            with pytest.raises(TallystickError) as refused:
                catalog.merge_customers(T, key, into, actor=ANN, now_us=NOW_US)
            assert refused.value.code == code
        again = catalog.create_customer(T, "a", new(), actor=ANN, now_us=NOW_US)
        assert (again.merged_into, again.parent) == (None, None)
        assert catalog.resolve_subjects(T, ["a"]) == {"a": "b"}


class TenantLifeContract:
    def test_a_suspended_tenant_is_known_by_its_callers(self, catalog: Catalog) -> None:
        made, first = catalog.create_tenant("t", "T", environment="test", actor=ANN, now_us=NOW_US)
        assert (made.environment, made.suspended_at_us) == ("test", None)
        assert made == catalog.tenant("t")
        revision = catalog.revision("keys")
        held = catalog.change_tenant("t", suspended=True, actor=ANN, now_us=NOW_US + 1)
        assert held.suspended_at_us == NOW_US + 1
        assert catalog.revision("keys") > revision
        caller = catalog.authenticate(first.secret, now_us=NOW_US)
        assert caller is not None
        assert caller.suspended
        assert catalog.change_tenant("t", suspended=True, actor=ANN, now_us=NOW_US + 2) == held
        resumed = catalog.change_tenant("t", suspended=False, name="U", actor=ANN, now_us=NOW_US + 3)
        assert (resumed.suspended_at_us, resumed.name, resumed.environment) == (None, "U", "test")
        caller = catalog.authenticate(first.secret, now_us=NOW_US)
        assert caller is not None
        assert not caller.suspended
        actions = [row.action for row in catalog.audit("t", AuditSearch(action="tenant.*")).items]
        assert actions == ["tenant.change", "tenant.change", "tenant.create"]
        with pytest.raises(Conflict):
            catalog.change_tenant(T, suspended=True, actor=ANN, now_us=NOW_US)
        with pytest.raises(Invalid):
            catalog.create_tenant("u", "U", environment="prod", actor=ANN, now_us=NOW_US)

    def test_a_deleted_tenant_is_forgotten_but_for_its_audit(self, catalog: Catalog) -> None:
        for key in ("t", T):
            if key != T:
                catalog.create_tenant(key, key, actor=ANN, now_us=NOW_US)
            catalog.create_customer(key, "top", new(external_ids={"crm": "1"}), actor=ANN, now_us=NOW_US)
            catalog.create_customer(key, "low", new(parent="top", subjects=["s"]), actor=ANN, now_us=NOW_US)
        assert catalog.tenants_to_erase() == []
        catalog.delete_tenant("t", actor=ANN, now_us=NOW_US + 1)
        assert catalog.tenants_to_erase() == [DeletedTenant("t", NOW_US + 1, None)]
        catalog.note_export("t", "/place", now_us=NOW_US + 2)
        assert catalog.tenants_to_erase() == [DeletedTenant("t", NOW_US + 1, "/place")]
        catalog.erase_tenant("t", now_us=NOW_US + 3)
        assert catalog.tenants_to_erase() == []
        assert catalog.customers("t", archived=True).items == ()
        assert catalog.subject_map("t") == {}
        assert catalog.subject_map(T) == {"s": "low", "low": "low", "top": "top"}
        assert len(catalog.audit("t").items) == 5
        told = catalog.audit(T, AuditSearch(resource="tenant/t")).items
        assert [row.action for row in told] == ["tenant.erase", "tenant.export", "tenant.delete"]
        with pytest.raises(TallystickError) as refused:
            catalog.create_tenant("t", "t", actor=ANN, now_us=NOW_US)
        assert refused.value.code == "tenant_exists"


class AccessContract(AuditSearchContract, CustomerLifeContract, TenantLifeContract):
    """All of it."""
