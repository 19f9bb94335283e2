"""What every catalog does about customers' stages, merges and external ids, about tenants, and with the audit."""

from collections.abc import Iterator
from typing import Any

from tallystick.catalog.interface import Actor, AuditSearch, Catalog, CustomerChange

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


class AccessContract(AuditSearchContract):
    """All of it."""
