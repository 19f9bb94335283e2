"""Credits in a catalog: the ledger sums to zero, references pay once, racing payers never spend a credit twice."""

from decimal import Decimal
from typing import Any

import pytest

from tallystick.billing.credit import Payable, accounts
from tallystick.billing.grant import CreditUnit, Grant, read_grant
from tallystick.billing.top_up import read_top_up
from tallystick.catalog.interface import SYSTEM, Catalog
from tallystick.errors import NotFound

from .contract import ANN, NOW_US, code_of, new, race

D = Decimal
USD = CreditUnit(currency="USD")
DAY_US = 86_400_000_000
TENANT = "default"


def grant(name: str, amount: str = "100", **members: Any) -> Grant:
    raw = {"customer": "acme", "amount": amount, "currency": "USD", **members}
    return read_grant(raw, grant_id=name, created_us=NOW_US)


def check_ledger(catalog: Any, now_us: int) -> None:
    """Accounts sum to zero, and agree with what grants say of themselves."""
    entries = [kept.entry for kept in catalog.credit_ledger(TENANT, "acme", limit=1000).items]
    found = accounts(entries)
    assert sum(found.values()) == 0
    for kept in catalog.credit_grants(TENANT, "acme", now_us=now_us):
        of = {account: amount for (account, name), amount in found.items() if name == kept.grant.id}
        sums = (kept.holding.balance, -kept.granted, kept.consumed, kept.expired, kept.voided)
        assert sums == tuple(
            of.get(name, D(0)) for name in ("grant", "granted", "consumed", "expired", "voided")
        )


class CreditsContract:
    @pytest.fixture
    def ledger(self, catalog: Catalog) -> Any:
        catalog.create_customer(TENANT, "acme", new(currency="USD"), actor=ANN, now_us=NOW_US)
        return catalog

    def pay(self, catalog: Any, amount: str, reference: str, now_us: int = NOW_US) -> Decimal:
        payment = catalog.pay_with_credits(
            TENANT, "acme", "USD", [Payable("line", D(amount))], reference=reference, now_us=now_us
        )
        return payment.amount

    def left(self, catalog: Any, now_us: int = NOW_US) -> dict[str, Decimal]:
        kept = catalog.credit_grants(TENANT, "acme", now_us=now_us)
        return {one.grant.id: one.holding.balance for one in kept}

    def test_a_grant_comes_back_and_its_balance_reads_its_own_writes(self, ledger: Any) -> None:
        wanted = grant("g", priority=3, expires_at="2030-01-01T00:00:00Z", scope={"meters": ["tokens"]})
        made = ledger.grant_credits(TENANT, wanted, actor=ANN, now_us=NOW_US)
        assert (made.grant, made.holding.balance) == (wanted, 100)
        assert self.pay(ledger, "30", "i0") == 0, "outside of its scope"
        scoped = [Payable("line", D(30), meter="tokens")]
        paid = ledger.pay_with_credits(TENANT, "acme", "USD", scoped, reference="i1", now_us=NOW_US)
        assert (paid.amount, paid.by_payable) == (30, {"line": 30})
        assert self.left(ledger) == {"g": 70}
        check_ledger(ledger, NOW_US)

    def test_a_reference_pays_once(self, ledger: Any) -> None:
        ledger.grant_credits(TENANT, grant("g"), actor=ANN, now_us=NOW_US)
        assert self.pay(ledger, "30", "i1") == 30
        assert self.pay(ledger, "30", "i1") == 30
        assert self.left(ledger) == {"g": 70}
        assert ledger.credits_paid(TENANT, ["i1", "i2"]) == {"i1": 30}
        assert ledger.return_credits(TENANT, "i1", now_us=NOW_US + 1) == 30
        assert ledger.return_credits(TENANT, "i1", now_us=NOW_US + 2) == 0
        assert ledger.credits_paid(TENANT, ["i1", "i2"]) == {}
        assert ledger.return_credits(TENANT, "none", now_us=NOW_US) == 0
        assert self.left(ledger) == {"g": 100}
        check_ledger(ledger, NOW_US)

    def test_of_racing_payers_none_spends_a_credit_twice(self, ledger: Any, other: Any) -> None:
        ledger.grant_credits(TENANT, grant("g"), actor=ANN, now_us=NOW_US)
        paid = race(
            *(
                lambda number=number: self.pay((ledger, other)[number % 2], "30", f"i{number}")
                for number in range(6)
            )
        )
        assert sorted(paid) == [0, 0, 10, 30, 30, 30]
        check_ledger(ledger, NOW_US)

    def test_time_is_written_down_when_somebody_looks(self, ledger: Any) -> None:
        monthly = {"every": "P1W", "amount": "10"}
        ledger.grant_credits(TENANT, grant("a", recurrence=monthly), actor=ANN, now_us=NOW_US)
        ends = "2027-01-01T00:00:00Z"
        ledger.grant_credits(TENANT, grant("b", expires_at=ends), actor=ANN, now_us=NOW_US)
        later_us = NOW_US + 700 * DAY_US
        assert self.left(ledger, later_us) == {"a": 10, "b": 0}
        assert ledger.customers_with_credits(TENANT, ["acme", "bob"], USD) == {"acme"}
        check_ledger(ledger, later_us)
        entries = ledger.credit_ledger(TENANT, "acme", limit=1000).items
        assert self.left(ledger, later_us) == {"a": 10, "b": 0}
        assert ledger.credit_ledger(TENANT, "acme", limit=1000).items == entries, "once"

    def test_voided_it_counts_no_more(self, ledger: Any) -> None:
        ledger.grant_credits(TENANT, grant("g"), actor=ANN, now_us=NOW_US)
        self.pay(ledger, "30", "i1")
        voided = ledger.void_credits(TENANT, "g", actor=ANN, now_us=NOW_US + 5)
        assert (voided.holding.balance, voided.voided, voided.consumed) == (0, 70, 30)
        assert ledger.void_credits(TENANT, "g", actor=ANN, now_us=NOW_US + 6) == voided
        assert ledger.return_credits(TENANT, "i1", now_us=NOW_US + 7) == 30
        assert self.left(ledger, NOW_US + 8) == {"g": 0}
        check_ledger(ledger, NOW_US + 8)

    def test_what_is_to_come_can_be_voided(self, ledger: Any) -> None:
        later = grant("g", effective_at="2030-01-01T00:00:00Z")
        assert ledger.grant_credits(TENANT, later, actor=ANN, now_us=NOW_US).holding.balance == 0
        ledger.void_credits(TENANT, "g", actor=ANN, now_us=NOW_US + 1)
        assert self.left(ledger, NOW_US + 4000 * DAY_US) == {"g": 0}
        assert ledger.credit_ledger(TENANT, "acme").items == ()

    def test_units_of_a_meter_are_kept_and_not_moved(self, ledger: Any) -> None:
        units = grant("u", currency=None, meter="tokens", recurrence="day")
        ledger.grant_credits(TENANT, units, actor=ANN, now_us=NOW_US)
        assert self.pay(ledger, "30", "i1", NOW_US + 9 * DAY_US) == 0
        assert ledger.credit_ledger(TENANT, "acme").items == ()

    def test_topping_up_keeps_to_its_ceiling(self, ledger: Any) -> None:
        rule = read_top_up({"currency": "USD", "below": "10", "amount": "50", "ceiling": "120", "per": "day"})
        ledger.set_top_up(TENANT, "acme", rule, actor=ANN, now_us=NOW_US)
        assert ledger.top_ups(TENANT, "acme") == (rule,)
        assert sum(self.left(ledger).values()) == 50
        assert self.pay(ledger, "45", "i1") == 45
        assert sum(self.left(ledger).values()) == 55
        assert self.pay(ledger, "55", "i2") == 55
        assert sum(self.left(ledger).values()) == 0, "a third 50 would pass the ceiling"
        assert self.pay(ledger, "1", "i3", NOW_US + DAY_US) == 1, "another day"
        assert sum(self.left(ledger, NOW_US + DAY_US).values()) == 49
        ledger.delete_top_up(TENANT, "acme", USD, actor=ANN, now_us=NOW_US)
        assert self.pay(ledger, "50", "i4", NOW_US + DAY_US) == 49
        assert sum(self.left(ledger, NOW_US + DAY_US).values()) == 0
        check_ledger(ledger, NOW_US + DAY_US)

    def test_the_ledger_has_pages(self, ledger: Any) -> None:
        ledger.grant_credits(TENANT, grant("g"), actor=ANN, now_us=NOW_US)
        for number in range(5):
            self.pay(ledger, "1", f"i{number}")
        first = ledger.credit_ledger(TENANT, "acme", unit=USD, limit=4)
        second = ledger.credit_ledger(TENANT, "acme", unit=USD, limit=4, cursor=first.next_cursor)
        numbers = [kept.number for kept in (*first.items, *second.items)]
        assert (len(numbers), second.next_cursor) == (6, None)
        assert numbers == sorted(numbers, reverse=True)

    def test_what_is_not_there_is_not_found(self, ledger: Any) -> None:
        with pytest.raises(NotFound) as error:
            ledger.grant_credits(TENANT, grant("g", customer="nobody"), actor=SYSTEM, now_us=NOW_US)
        assert code_of(error) == "customer_not_found"
        for call in (ledger.void_credits, ledger.credit_grant):
            with pytest.raises(NotFound) as error:
                call(TENANT, "g", now_us=NOW_US, **({"actor": ANN} if call == ledger.void_credits else {}))
            assert code_of(error) == "grant_not_found"
